"""Training from what is kept is the same training."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_ser.features import SpeechDataset, minimum_samples
from hf_ser.training import SERTrainer
from hf_ser.training.clips import RunClips
from hf_ser.training.frozen import cached_frozen_part, cached_predictions, frozen_part, parts

Make = Callable[..., tuple[SERTrainer, RunClips]]
STEPS = ("--logging_strategy", "steps", "--logging_steps", "1", "--save_strategy", "no", "--load_best_model_at_end", "False",
         "--per_device_train_batch_size", "6")  # fmt: skip


@pytest.fixture
def checkpoints(tiny_hubert: Path, group_norm_hubert: Path, tiny_whisper: Path) -> dict[str, Path]:
    return {"layer": tiny_hubert, "group": group_norm_hubert, "whisper": tiny_whisper}


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clips went through a frozen part, batch by batch."""
    batches: list[int] = []
    compute = parts.compute
    monkeypatch.setattr(
        parts, "compute", lambda m, p, values, mask: batches.append(len(values)) or compute(m, p, values, mask)
    )
    return batches


def untuned(trainer: SERTrainer) -> torch.nn.Module:
    return trainer.model.get_base_model() if hasattr(trainer.model, "get_base_model") else trainer.model


def losses(trainer: SERTrainer, limit: float, folder: Path, views: int = 0) -> list[float]:
    """Of each step and of validation in each epoch."""
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):  # it would draw in another order
            module.p = 0.0
    with cached_frozen_part(trainer, limit, views, folder):
        assert (type(trainer.train_dataset) is SpeechDataset) == (limit == 0)
        trainer.train()
    assert type(trainer.train_dataset) is SpeechDataset
    found = [entry.get("loss", entry.get("eval_loss")) for entry in trainer.state.log_history][:-1]
    assert None not in found
    return found


def segments(trainer: SERTrainer) -> int:
    return len(trainer.train_dataset) + len(trainer.eval_dataset)


@pytest.mark.parametrize(
    ("options", "part", "kind"),
    [
        (["--method", "lora_classifier"], "pooled", "layer"),
        (["--method", "lora_classifier"], "pooled", "group"),
        (["--method", "lora_classifier"], "pooled", "whisper"),
        (["--method", "head"], "pooled", "layer"),
        (["--method", "head", "--head", "batchnorm"], "pooled", "layer"),
        (["--method", "lora_classifier", "--lora_target_modules", "projector", "classifier"], "encoder", "layer"),
        (["--method", "lora_classifier", "--weighted_layer_sum", "True"], "pooled_layers", "layer"),
        (["--method", "head", "--weighted_layer_sum", "True"], "pooled_layers", "whisper"),
        (["--method", "lora_classifier", "--weighted_layer_sum", "True", "--lora_target_modules", "projector"], "layers", "layer"),
        (["--method", "lora_qkv"], "feature_encoder", "layer"),
        (["--method", "lora_qkv"], "feature_encoder", "group"),
        (["--method", "full", "--freeze_feature_encoder", "True"], "feature_encoder", "layer"),
        (["--method", "prompt", "--head", "conv"], "feature_encoder", "layer"),
        (["--method", "head", "--head", "conv"], "layers", "layer"),
        (["--method", "head", "--head", "conv"], "layers", "group"),
        (["--method", "lora_classifier", "--head", "conv"], "layers", "whisper"),
    ],
)  # fmt: skip
def test_losses_are_those_without_it_and_nothing_is_computed_twice(
    make: Make,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    computed: list[int],
    options: list[str],
    part: str,
    kind: str,
) -> None:
    def found(limit: float) -> list[float]:
        trainer, _ = make(*options, "--num_train_epochs", "2", *STEPS, checkpoint=checkpoints[kind])
        assert frozen_part(untuned(trainer)) == part
        return losses(trainer, limit, tmp_path / "frozen")

    plain, cold = found(0), found(1)
    trainer, _ = make(*options, checkpoint=checkpoints[kind])
    assert segments(trainer) <= sum(computed) <= segments(trainer) + 1  # one to see how much room they need
    computed.clear()
    assert found(1) == cold  # to the last bit
    assert not computed
    assert len(cold) > 8
    np.testing.assert_allclose(cold, plain, rtol=2e-4)
