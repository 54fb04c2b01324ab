"""The table of families, and that one entry adds a family which transformers has."""

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
from tuned_models import TunedModel

from hf_ser.modeling import SERModelConfig, families
from hf_ser.modeling.families import EncoderFamily, maximum_samples, minimum_samples, padding_changes_predictions


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
    tuned = TunedModel(added, method)
    tuned.set_to_train = tuned.model.eval  # a conformer's batch norms keep the statistics that an adapter has not
    trainable = tuned.trainable
    if added.name == "wav2vec2-conformer":  # which does not use them without position embeddings
        trainable = {name for name in trainable if "pos_conv_embed" not in name}
    assert tuned.train() == trainable
    expected = tuned.logits()
    if hasattr(tuned.model, "peft_config"):
        tuned.save(tmp_path / "run")
    else:
        tuned.model.save_pretrained(tmp_path / "run")
        tuned.loaded.feature_extractor.save_pretrained(tmp_path / "run")
    torch.testing.assert_close(tuned.opened_logits(tmp_path / "run"), expected, atol=1e-5, rtol=0)
