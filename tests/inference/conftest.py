"""Classifiers that are ready at once: random ones of both kinds of encoder, and one that classifies low and high tones."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import save_model
from transformers import HubertConfig, Wav2Vec2FeatureExtractor
from transformers.modeling_outputs import SequenceClassifierOutput

import hf_ser
from hf_ser.pipeline import SERPipeline

EMOTIONS = ("angry", "happy", "neutral", "sad")


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], SERPipeline]:
    """Opens an encoder with a random head whose predictions differ from clip to clip."""
    return lambda encoder: hf_ser.pipeline(save_model(encoder, tmp_path_factory.mktemp("model"), EMOTIONS, gain=30))


@pytest.fixture(scope="session")
def layer_norm(tiny_hubert: Path, opened: Callable[[Path], SERPipeline]) -> SERPipeline:
    return opened(tiny_hubert)


@pytest.fixture(scope="session")
def group_norm(group_norm_hubert: Path, opened: Callable[[Path], SERPipeline]) -> SERPipeline:
    return opened(group_norm_hubert)


class Pitch(torch.nn.Module):
    """`high` is the more probable the more often the signal changes its sign, from 200 Hz (0) to 2 kHz (1)."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.config = HubertConfig(id2label={0: "low", 1: "high"})
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, input_values: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
        self.shapes.append(tuple(input_values.shape))
        changes = (input_values[:, 1:].sign() != input_values[:, :-1].sign()) & attention_mask[:, 1:].bool()
        rate = 16_000 * changes.sum(dim=1) / attention_mask.sum(dim=1)  # per second
        share = (rate - 400) / 3600
        return SequenceClassifierOutput(logits=torch.stack([torch.zeros_like(share), 8 * (share - 0.5)], dim=1))


@pytest.fixture
def pitch() -> SERPipeline:
    return SERPipeline(model=Pitch(), feature_extractor=Wav2Vec2FeatureExtractor(), device="cpu")
