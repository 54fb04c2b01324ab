"""What only a CUDA device can show. benchmarks/gpu_check.py runs these tests."""

import gc
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import make_hubert, save_model
from trainings import losses

import hf_ser
from hf_ser.training import SERTrainer, parse_arguments
from hf_ser.training.data import load_splits

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
Train = Callable[..., SERTrainer]


@pytest.fixture
def train(speech: Path, tmp_path: Path) -> Train:
    """Trains a tiny model without dropout for three steps."""
    hubert = make_hubert(tmp_path / "hubert", "group", conv_dim=[128] * 7, dropout=False, final_dropout=0.0)

    def run(*argv: str) -> SERTrainer:
        arguments = parse_arguments(
            ["--output_dir", str(tmp_path / "run"), "--corpora", f"synthetic={speech}", "--model_name_or_path", str(hubert),
             "--emotions", "angry", "sad", "happy", "--disable_tqdm", "True", "--learning_rate", "1e-3", "--method", "lora_qkv",
             "--lora_dropout", "0", "--max_steps", "3", "--logging_strategy", "steps", "--logging_steps", "1", "--save_strategy", "no",
             "--interpolation", "False", "--average_share", "0", "--frozen_cache_gb", "0", *argv]
        )  # fmt: skip
        parts = load_splits(arguments.script, 400)
        trainer = SERTrainer(
            hubert, arguments.training, parts["train"], parts["validation"], arguments.tuning,
            augmentation=arguments.augmentation,
        )  # fmt: skip
        trainer.train()
        return trainer

    return run


@pytest.fixture
def memory() -> Iterator[Callable[[float], None]]:
    """Limits the memory of this process to a share of the most that it has had; without a limit again afterwards."""
    torch.cuda.reset_peak_memory_stats()

    def limit(share: float) -> None:
        gc.collect()  # a model and its Trainer refer to each other
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(share * torch.cuda.max_memory_reserved() / total)

    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_it_learns_what_a_cpu_learns(train: Train) -> None:
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    try:
        own, other = train("--bf16", "False"), train("--bf16", "False", "--use_cpu", "True")
    finally:
        torch.backends.cudnn.conv.fp32_precision = "tf32"  # PyTorch's default
    assert own.model.device.type == "cuda"
    np.testing.assert_allclose(losses(own), losses(other), rtol=2e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_16_bits_learn_what_float32_learns(train: Train, precision: str) -> None:
    """With a loss that couples the clips of a step, in several micro-batches."""
    coupled = ("--targets", "emotion", "arousal", "--micro_batch_seconds", "5")
    found = train(*coupled, "--bf16", str(precision == "bf16"), "--fp16", str(precision == "fp16"))
    np.testing.assert_allclose(losses(found), losses(train(*coupled, "--bf16", "False")), rtol=0.1)


def test_workers_load_the_batches_in_advance(train: Train) -> None:
    trainer = train()
    loader = trainer.get_train_dataloader()
    assert loader.num_workers > 0
    assert loader.persistent_workers
    assert loader.pin_memory
    trainer.args.dataloader_num_workers, trainer.args.dataloader_persistent_workers = 0, False
    for batch, other in zip(loader, trainer.get_train_dataloader(), strict=True):
        assert batch["input_values"].device.type == "cuda"
        assert torch.equal(batch["input_values"], other["input_values"])


def test_a_step_that_does_not_fit_is_repeated_in_smaller_micro_batches(
    train: Train, memory: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    whole = ("--micro_batch_seconds", "0", "--per_device_train_batch_size", "24", "--bf16", "False")
    expected = losses(train(*whole))
    memory(0.7)
    found = losses(train(*whole))
    assert "the step is repeated with at most" in caplog.text
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_predictions_are_those_of_a_cpu_however_little_memory_there_is(
    tmp_path: Path, memory: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    save_model(make_hubert(tmp_path / "hubert", "group"), tmp_path / "model", ("angry", "sad"))
    rng = np.random.default_rng(0)
    clips = [{"array": rng.standard_normal(n * 16_000), "sampling_rate": 16_000} for n in range(1, 17)]
    expected = list(hf_ser.pipeline(tmp_path / "model", device="cpu").predict(clips))
    recogniser = hf_ser.pipeline(tmp_path / "model", device="cuda")

    def check() -> None:
        for batch_seconds in (20, 1000):  # several batches on their way, and one
            for found, one in zip(recogniser.predict(clips, batch_seconds=batch_seconds), expected, strict=True):
                assert found.probabilities == pytest.approx(one.probabilities, abs=1e-3)

    check()
    memory(0.7)
    check()
    assert "the memory ran out with" in caplog.text


@pytest.mark.parametrize("options", [(), ("--method", "lora_classifier")])
def test_training_from_cached_outputs_is_the_same(train: Train, options: tuple[str, ...]) -> None:
    found = [losses(train(*options, "--bf16", "False", "--frozen_cache_gb", size)) for size in ("0", "1")]
    np.testing.assert_allclose(*found, rtol=2e-3)


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is None, reason="flash-attn is not installed")
def test_flash_attention_learns_what_sdpa_learns(train: Train) -> None:
    found: dict[str, Any] = {
        name: losses(train("--attn_implementation", name)) for name in ("sdpa", "flash_attention_2")
    }
    np.testing.assert_allclose(found["flash_attention_2"], found["sdpa"], rtol=2e-2)
