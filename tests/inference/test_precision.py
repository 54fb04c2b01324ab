"""A model in bfloat16 or int8 predicts nearly the same, alone and in a batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import save_adapted
from torch import nn

import hf_ser
from hf_ser.inference.precision import Int8Conv1d, Int8Linear, set_precision
from hf_ser.pipeline import SERPipeline

Open = Callable[[Path], SERPipeline]


def answers(recogniser: SERPipeline, **options: Any) -> list[dict[str, float]]:
    rng = np.random.default_rng(0)
    clips = [(0.1 * rng.standard_normal(samples)).astype(np.float32) for samples in (16_000, 9000, 30_000)]
    return [prediction.probabilities for prediction in recogniser.predict(clips, **options)]


def rounded(recogniser: SERPipeline, precision: str) -> SERPipeline:
    """The same model in another precision."""
    model, extractor = recogniser.model, recogniser.feature_extractor
    return SERPipeline(model=model, feature_extractor=extractor, device="cpu", precision=precision)


def int8_layers(recogniser: SERPipeline) -> list[str]:
    return [name for name, module in recogniser.model.named_modules() if isinstance(module, Int8Linear)]


@pytest.mark.parametrize(
    ("kind", "precision"),
    [("tiny_hubert", "bfloat16"), ("tiny_hubert", "int8"), ("group_norm_hubert", "bfloat16"), ("tiny_whisper", "int8"),
     ("tiny_wav2vec2_bert", "int8")],
)  # fmt: skip
def test_nearly_the_same_probabilities_alone_and_in_a_batch(
    kind: str, precision: str, opened: Open, request: pytest.FixtureRequest
) -> None:
    recogniser = opened(request.getfixturevalue(kind))
    before = answers(recogniser)
    recogniser = rounded(recogniser, precision)
    for one, batched, single in zip(before, answers(recogniser), answers(recogniser, batch_size=1), strict=True):
        assert batched == pytest.approx(single, abs=1e-5 if precision == "int8" else 0.03)
        assert batched == pytest.approx(one, abs=0.05)
        assert batched != pytest.approx(one, abs=1e-7), "nothing was rounded"
    if precision == "int8":
        names = int8_layers(recogniser)
        assert len([name for name in names if ".conv." not in name]) == {"tiny_wav2vec2_bert": 16}.get(kind, 12)
        assert all("layers." in name or "pos_conv_embed" in name for name in names)


@pytest.mark.parametrize(("method", "settings"), [("adapter", {}), ("lora_qkv", {"lora_r": 32})])
def test_adapters_stay_as_they_are(method: str, settings: dict[str, int], tiny_hubert: Path, tmp_path: Path) -> None:
    recogniser = hf_ser.pipeline(
        save_adapted(tiny_hubert, tmp_path, method, **settings), device="cpu", precision="int8"
    )
    names = int8_layers(recogniser)
    assert len([name for name in names if ".conv." not in name]) == 12
    assert not [name for name in names if "lora_" in name or "bottleneck_" in name]
    assert len(answers(recogniser)) == 3


def test_an_int8_layer_is_its_layer_but_for_rounding() -> None:
    torch.manual_seed(0)
    linear, frames = nn.Linear(96, 64, bias=False), torch.randn(2, 50, 96)
    expected, found = linear(frames), Int8Linear(linear.weight, linear.bias)(frames)
    assert found.shape == expected.shape
    # A step is 1/127 of the largest weight of an output, and 1/255 of the range of all frames; the errors add up like noise.
    assert ((found - expected).std() / expected.std()).item() < 0.02


@pytest.mark.parametrize(
    ("convolution", "length"),
    [(nn.Conv1d(32, 64, 3, stride=2, bias=False), 101), (nn.Conv1d(64, 64, 16, padding=8, groups=4), 50)],
)
def test_an_int8_convolution_is_its_convolution_but_for_rounding(convolution: nn.Conv1d, length: int) -> None:
    torch.manual_seed(0)
    steps = torch.randn(2, convolution.in_channels, length) + 0.5
    expected, found = convolution(steps), Int8Conv1d(convolution)(steps)
    assert found.shape == expected.shape
    assert ((found - expected).std() / expected.std()).item() < 0.02
    silence = Int8Conv1d(convolution)(torch.zeros_like(steps))
    torch.testing.assert_close(silence, convolution(torch.zeros_like(steps)))


def test_precisions_that_do_not_fit() -> None:
    for name, device, message in (
        ("int8", "cuda:0", "int8 is for a CPU, and the model is on cuda:0"),
        ("int8", "cpu", "no linear layers to round to int8"),
        ("int4", "cpu", "'int4' is none of float32, bfloat16, int8"),
    ):
        with pytest.raises(ValueError, match=message):
            set_precision(nn.Module(), name, torch.device(device))


def test_norms_stay_in_float32(opened: Open, group_norm_hubert: Path) -> None:
    model = rounded(opened(group_norm_hubert), "bfloat16").model
    kinds = {type(module).__name__: weight.dtype for module in model.modules() for weight in module.parameters(False)}
    assert kinds["Linear"] == kinds["Conv1d"] == torch.bfloat16
    norms = {name for name in kinds if "Norm" in name}
    assert norms
    assert {kinds[name] for name in norms} == {torch.float32}
