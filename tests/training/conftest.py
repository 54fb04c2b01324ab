"""What several tests of training use."""

from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import DatasetDict
from tiny_models import make_hubert

from hf_ser.training import SERTrainer, finetune, parse_arguments
from hf_ser.training.arguments import ScriptArguments
from hf_ser.training.cross_validation import Run, unfinished
from hf_ser.training.data import load_splits


@pytest.fixture(scope="session")
def load_parts() -> Callable[[ScriptArguments], DatasetDict]:
    """`load_splits`, which reads the same clips once."""
    found: dict[str, DatasetDict] = {}

    def load(script: ScriptArguments) -> DatasetDict:
        if (key := repr(script)) not in found:
            found[key] = load_splits(script, 400)
        return found[key]

    return load


@pytest.fixture(scope="session")
def small_parts(
    run_words: Callable[..., list[str]], load_parts: Callable[[ScriptArguments], DatasetDict]
) -> DatasetDict:
    """The clips that `make` gives with its trainer."""
    return load_parts(parse_arguments(run_words(Path("run"))).script)


@pytest.fixture(scope="session")
def steady_hubert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny HuBERT without dropout."""
    return make_hubert(tmp_path_factory.mktemp("models") / "steady", dropout=False, final_dropout=0.0)


@pytest.fixture
def make(
    run_words: Callable[..., list[str]],
    tiny_hubert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    load_parts: Callable[[ScriptArguments], DatasetDict],
) -> Callable[..., tuple[SERTrainer, DatasetDict]]:
    """A trainer for the small synthetic corpus, in float32, and the clips. Only a `linear` head has its probe solved."""
    solve = SERTrainer._solve_probe
    monkeypatch.setattr(SERTrainer, "_solve_probe", lambda self: solve(self) if self.args.head == "linear" else None)

    def build(*argv: str, checkpoint: Path = tiny_hubert) -> tuple[SERTrainer, DatasetDict]:
        given = ("--num_train_epochs", 3, "--bf16", "False", "--learning_rate", "1e-3", "--head", "stock", *argv)
        arguments = parse_arguments(run_words(tmp_path / "run", *given, model=checkpoint))
        parts = load_parts(arguments.script)
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


@pytest.fixture
def train_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands that start a new process for each run train in this one."""

    def train(runs: list[Run], script: Path, jobs: int | None) -> list[Run]:
        for run in unfinished(runs):
            finetune(parse_arguments([*run.argv, "--disable_tqdm", "True"]))
        return []

    for module in ("cli.cross_corpus", "training.cross_validation"):
        monkeypatch.setattr(f"hf_ser.{module}.cross_validate", train)
