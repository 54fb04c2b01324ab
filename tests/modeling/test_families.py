"""The table of families, and that one entry adds a family which transformers has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import make_hubert
from transformers import (
    ASTConfig,
    Data2VecAudioConfig,
    HubertConfig,
    PretrainedConfig,
    Wav2Vec2BertConfig,
    WhisperConfig,
)

import hf_ser
from hf_ser.modeling import SERModelConfig, families, load_model
from hf_ser.modeling.families import EncoderFamily, maximum_samples, minimum_samples, padding_changes_predictions
from hf_ser.training.dataset import SpeechCollator
from hf_ser.tuning import Tuning, save_adapter, tune


@pytest.mark.parametrize(
    ("config", "one", "two", "longest", "padding"),
    [
        (HubertConfig(), 400, 720, np.inf, True),
        (HubertConfig(feat_extract_norm="layer"), 400, 720, np.inf, False),
        (Data2VecAudioConfig(), 400, 720, np.inf, True),
        (Wav2Vec2BertConfig(), 560, 880, np.inf, False),
        (WhisperConfig(), 320, 640, 480_000, False),
        (SERModelConfig(encoder=WhisperConfig(max_source_positions=50)), 320, 640, 16_000, False),
        (ASTConfig(), 400, 800, np.inf, False),
    ],
)
def test_lengths_and_padding(config: PretrainedConfig, one: int, two: int, longest: float, padding: bool) -> None:
    assert (minimum_samples(config), minimum_samples(config, 2), maximum_samples(config)) == (one, two, longest)
    assert padding_changes_predictions(config) is padding


#: Families that the package lacks: their entry, and sizes of a tiny one.
ADDED: dict[str, tuple[EncoderFamily, dict[str, Any]]] = {
    "sew": (EncoderFamily(stock_mixes_padding=True), {"conv_dim": [16] * 13}),
    "wav2vec2-conformer": (
        EncoderFamily(
            attention=("linear_q", "linear_k", "linear_v", "linear_out"),
            adapted="ffn2",
            norm="ffn2_layer_norm",
            stock_mixes_padding=True,
        ),
        {"position_embeddings_type": None, "conv_depthwise_kernel_size": 5},
    ),
}


@pytest.fixture(params=ADDED)
def added(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of a family that is added to the table."""
    entry, sizes = ADDED[request.param]
    monkeypatch.setitem(families.FAMILIES, request.param, entry)
    return make_hubert(tmp_path / request.param, "group", request.param, **sizes)


@pytest.mark.parametrize("method", ["full", "frozen", "lora_qkv", "parallel_adapter", "adapter+prompt+lora_ff"])
def test_one_entry_adds_a_family(method: str, added: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    loaded = load_model(str(added), ("angry", "happy", "sad"))
    tuned = tune(loaded, Tuning(method=method, lora_dropout=0.0))
    collator = SpeechCollator(loaded.feature_extractor, minimum_samples(loaded.model.config))
    rng = np.random.default_rng(0)
    waves = [rng.standard_normal(n).astype(np.float32) for n in (9000, 6000, 12_000)]
    items = [{"waveform": wave, "labels": np.array(i), "clip": i} for i, wave in enumerate(waves)]

    inputs = {name: value for name, value in collator(items).items() if name not in ("clip", "by_length")}

    def logits(model: Callable[..., Any]) -> torch.Tensor:
        with torch.no_grad():
            return model(**{name: value for name, value in inputs.items() if name != "labels"}).logits

    before = {name: p.detach().clone() for name, p in tuned.model.named_parameters()}
    optimizer = torch.optim.Adam([p for p in tuned.model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        tuned.model.eval()(
            **inputs
        ).loss.backward()  # a conformer's batch norms keep the statistics that an adapter has not
        optimizer.step()
        optimizer.zero_grad()
    trainable = {name for name, p in tuned.model.named_parameters() if p.requires_grad}
    if added.name == "wav2vec2-conformer":  # which does not use them without position embeddings
        trainable = {name for name in trainable if "pos_conv_embed" not in name}
    assert trainable == {name for name, p in tuned.model.named_parameters() if not torch.equal(p, before[name])}
    expected = logits(tuned.model)
    if hasattr(tuned.model, "peft_config"):
        save_adapter(tuned.model, tuned.new, tmp_path / "run", base=str(added))
        tuned.model.config.save_pretrained(tmp_path / "run")
    else:
        tuned.model.save_pretrained(tmp_path / "run")
    loaded.feature_extractor.save_pretrained(tmp_path / "run")
    torch.testing.assert_close(logits(hf_ser.pipeline(tmp_path / "run").model), expected, atol=1e-5, rtol=0)
