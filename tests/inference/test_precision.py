"""A model in bfloat16 gives nearly the same answers, alone and in a batch, wherever it is called."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AudioClassificationPipeline

import hf_ser
from hf_ser.inference import in_bfloat16, in_int8, in_precision, precision, predict
from hf_ser.inference.precision import Int8Linear
from hf_ser.models import load_model
from hf_ser.tuning import Tuning, save_adapter, tune

Open = Callable[[Path], AudioClassificationPipeline]


def noise(*lengths: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {"array": (0.1 * rng.standard_normal(samples)).astype(np.float32), "sampling_rate": 16_000}
        for samples in lengths
    ]


@pytest.mark.parametrize("kind", ["tiny_hubert", "group_norm_hubert", "tiny_whisper"])
def test_nearly_the_same_answers(kind: str, opened: Open, request: pytest.FixtureRequest) -> None:
    classifier = opened(request.getfixturevalue(kind))
    clips = noise(16_000, 9000, 30_000)
    before = [answer.probabilities for answer in predict(classifier, clips, progress=False)]
    assert in_bfloat16(classifier) is classifier
    after = [answer.probabilities for answer in predict(classifier, clips, progress=False)]
    for one, other, clip in zip(before, after, clips, strict=True):
        assert other == pytest.approx(one, abs=0.03)
        assert other != pytest.approx(one, abs=1e-7), "nothing was rounded"
        alone = {answer["label"]: answer["score"] for answer in classifier(dict(clip), top_k=None)}
        assert alone == pytest.approx(other, abs=0.03)


@pytest.mark.parametrize("kind", ["tiny_hubert", "group_norm_hubert", "tiny_whisper", "tiny_wav2vec2_bert"])
def test_in_int8_a_clip_is_answered_nearly_as_before_and_alike_alone_and_in_a_batch(
    kind: str, opened: Open, request: pytest.FixtureRequest
) -> None:
    classifier = opened(request.getfixturevalue(kind))
    clips = noise(16_000, 9000, 30_000)
    before = [answer.probabilities for answer in predict(classifier, clips, progress=False)]
    assert in_precision(classifier, "int8") is classifier
    names = [name for name, module in classifier.model.named_modules() if isinstance(module, Int8Linear)]
    assert len(names) == {"tiny_whisper": 12, "tiny_wav2vec2_bert": 16}.get(kind, 12)
    assert all("layers." in name for name in names)
    together = [answer.probabilities for answer in predict(classifier, clips, progress=False)]
    alone = [answer.probabilities for answer in predict(classifier, clips, batch_seconds=1e-3, progress=False)]
    for one, batched, single in zip(before, together, alone, strict=True):
        assert batched == pytest.approx(single, abs=1e-5)
        assert batched == pytest.approx(one, abs=0.05)
        assert batched != pytest.approx(one, abs=1e-7), "nothing was rounded"


@pytest.mark.parametrize(("method", "settings"), [("adapter", {}), ("lora_qkv", {"lora_r": 32})])
def test_adapters_stay_as_they_are(method: str, settings: dict[str, int], tiny_hubert: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    loaded = load_model(str(tiny_hubert), ("angry", "happy", "neutral", "sad"))
    tuned = tune(loaded, Tuning(method=method, **settings))
    save_adapter(tuned.model, tuned.new, tmp_path, base=str(tiny_hubert))
    tuned.model.config.save_pretrained(tmp_path)
    loaded.feature_extractor.save_pretrained(tmp_path)
    classifier = in_int8(hf_ser.load(tmp_path, device="cpu"))
    names = [name for name, module in classifier.model.named_modules() if isinstance(module, Int8Linear)]
    assert len(names) == 12
    assert not [name for name in names if "lora_" in name or "bottleneck_" in name]
    (answer,) = predict(classifier, noise(8000), progress=False)
    assert answer.problem is None


def test_int8_without_bfloat16_hardware_leaves_the_rest_in_float32(
    opened: Open, tiny_hubert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda cpu: False)
    model = in_int8(opened(tiny_hubert)).model
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert any(isinstance(module, Int8Linear) for module in model.modules())


def test_an_int8_layer_is_its_layer_but_for_rounding() -> None:
    torch.manual_seed(0)
    linear, frames = nn.Linear(96, 64, bias=False), torch.randn(2, 50, 96)
    expected, found = linear(frames), Int8Linear(linear)(frames)
    assert found.shape == expected.shape
    # A step is 1/127 of the largest weight of an output, and 1/255 of the range of all frames; the errors add up like noise.
    assert ((found - expected).std() / expected.std()).item() < 0.02


@pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="this processor has no VNNI: 7 bits are all there is")
def test_without_vnni_what_comes_in_has_7_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of two 8 bits would saturate there."""
    torch.manual_seed(0)
    linear, frames = nn.Linear(96, 64), torch.rand(50, 96)
    finer = Int8Linear(linear)(frames)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    coarser = Int8Linear(linear)(frames)
    errors = [(found - linear(frames)).abs().mean().item() for found in (finer, coarser)]
    assert errors[0] < errors[1] < 4 * errors[0]


def test_int8_is_for_a_cpu_and_an_encoder() -> None:
    with pytest.raises(ValueError, match="int8 is for a CPU, and the model is on cuda:0"):
        in_int8(SimpleNamespace(model=nn.Module(), device=torch.device("cuda:0")))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="an exported one is as it was exported"):
        in_int8(SimpleNamespace(model=nn.Module(), device=torch.device("cpu")))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'int4' is none of float32, bfloat16, int8"):
        in_precision(SimpleNamespace(), "int4")  # type: ignore[arg-type]


def test_what_is_sensitive_stays_in_float32(opened: Open, group_norm_hubert: Path) -> None:
    model = in_bfloat16(opened(group_norm_hubert)).model
    kinds = {type(module).__name__: weight.dtype for module in model.modules() for weight in module.parameters(False)}
    assert kinds["Linear"] == kinds["Conv1d"] == torch.bfloat16
    norms = {name for name in kinds if "Norm" in name}
    assert norms
    assert {kinds[name] for name in norms} == {torch.float32}


def test_an_exported_model_is_as_it_was_exported() -> None:
    classifier = SimpleNamespace(model=nn.Module(), device=torch.device("cpu"))
    with pytest.raises(ValueError, match="exported"):
        in_bfloat16(classifier)  # type: ignore[arg-type]
