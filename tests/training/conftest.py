"""What several tests of training use."""

from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import DatasetDict

from hf_ser.evaluation import plots
from hf_ser.training import SERTrainer, parse_arguments
from hf_ser.training.data import load_splits


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run would draw for a second."""
    for name in ("confusion_matrix", "training_curves"):
        monkeypatch.setattr(plots, name, lambda first, second, path, *more: path.touch())


@pytest.fixture
def make(
    speech: Path, tiny_hubert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[SERTrainer, DatasetDict]]:
    """A trainer for the small synthetic corpus, in float32, and the clips. Only a `linear` head has its probe solved."""
    solve = SERTrainer._solve_probe
    monkeypatch.setattr(SERTrainer, "_solve_probe", lambda self: solve(self) if self.args.head == "linear" else None)

    def build(*argv: str, checkpoint: Path = tiny_hubert) -> tuple[SERTrainer, DatasetDict]:
        arguments = parse_arguments(
            ["--output_dir", str(tmp_path / "run"), "--corpora", f"synthetic={speech}", "--model_name_or_path", str(checkpoint),
             "--bf16", "False", "--emotions", "angry", "sad", "happy", "--disable_tqdm", "True", "--learning_rate", "1e-3",
             "--speed_probability", "0", "--head", "stock", *argv]
        )  # fmt: skip
        parts = load_splits(arguments.script, 400)
        trainer = SERTrainer(
            checkpoint,
            arguments.training,
            parts["train"],
            parts["validation"],
            arguments.tuning,
            augmentation=arguments.augmentation,
        )
        return trainer, parts

    return build
