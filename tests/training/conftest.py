"""What several tests of training use."""

import logging
import os
import runpy
import sys
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import AcceleratorState
from accelerate.utils.launch import prepare_multi_gpu_env
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value
from huggingface_hub import HfApi
from transformers import PreTrainedModel

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
def without_dropout() -> Callable[[torch.nn.Module], None]:
    """Switches off dropout in a model: a step that is cut in another way, or the next run, would draw other masks."""

    def switch_off(model: torch.nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
            if isinstance(module, PreTrainedModel):
                module.config.attention_dropout = 0.0

    return switch_off


@pytest.fixture(scope="session")
def steady_hubert(make_hubert: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny HuBERT without dropout."""
    names = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout")
    return make_hubert(tmp_path_factory.mktemp("models") / "steady", **dict.fromkeys(names, 0.0))


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


@pytest.fixture(scope="session")
def fork_two(fork: Callable[[int, Callable[[], object]], list[int | None]]) -> Callable[..., list[int | None]]:
    """
    `fork_two(words, plan, printed)` runs launched.py in two processes, with the environment that `accelerate launch words` gives, and
    returns their exit statuses.
    """

    def run(
        words: list[str], plan: Path, printed: Path, environment: Mapping[str, str] | None = None
    ) -> list[int | None]:
        arguments = launch_command_parser().parse_args([*words, "--main_process_port", "0", str(plan)])
        arguments, *_ = _validate_launch_command(arguments)
        launched = prepare_multi_gpu_env(arguments) | (environment or {}) | {"CUDA_VISIBLE_DEVICES": ""}

        def work() -> None:
            sys.stdout = sys.stderr = printed.open("a", buffering=1)
            logging.getLogger().handlers.clear()  # pytest's
            address = {name: os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE")}
            os.environ.update(launched | address)
            torch.set_num_threads(1)  # OpenMP's threads are the parent's
            AcceleratorState._reset_state(reset_partial_state=True)  # the parent is no part of the two
            sys.argv = ["launched.py", str(plan)]
            runpy.run_path(str(Path(__file__).with_name("launched.py")), run_name="__main__")

        return fork(2, work)

    return run


SPEAKERS, CLIPS = 8, 12


def wav(n: int, seconds: float = 0.4) -> bytes:
    """Noise that no other clip has, at twice the rate that is wanted."""
    buffer = BytesIO()
    samples = np.random.default_rng(n).uniform(-0.5, 0.5, round(32_000 * seconds))
    soundfile.write(buffer, samples, 32_000, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def broken_clips() -> dict[int, bytes]:
    """Clips of `push_speech` without sound, by their numbers."""
    return {7: b"", 20: b"no sound at all", 65: wav(65)[:44], 90: wav(90, seconds=0.01)}


@pytest.fixture(scope="session")
def push_speech() -> Callable[..., str]:
    """Pushes eight speakers' clips, in two parts of several row groups; `broken` gives clips other bytes."""

    def run(name: str = "lab/clips", broken: dict[int, bytes] | None = None, durations: bool = False) -> str:
        features = {"audio": {"bytes": Value("binary"), "path": Value("string")}, "label": ClassLabel(names=["angry", "happy", "sad"]),
                    "speaker_id": Value("int64"), "sex": Value("string"), "note": Value("string")}  # fmt: skip

        def part(speakers: range) -> Dataset:
            clips = range(speakers.start * CLIPS, speakers.stop * CLIPS)
            columns = {
                "audio": [{"bytes": (broken or {}).get(n, wav(n)), "path": f"{n}.wav"} for n in clips],
                "label": [n % CLIPS % 3 for n in clips],
                "speaker_id": [n // CLIPS for n in clips],
                "sex": [("f", "m")[n // CLIPS % 2] for n in clips],
                "note": ["x" * 1000] * len(clips),
            }
            made = Dataset.from_dict(columns, features=Features(features))
            if durations:
                made = made.add_column("duration", [0.4] * len(clips))
            return made.cast_column("audio", Audio(decode=False))

        parts = {"train": part(range(5)), "test": part(range(5, SPEAKERS))}
        DatasetDict(parts).push_to_hub(name)
        for split, dataset in parts.items():  # small row groups, as a large data set has many
            file = BytesIO()
            dataset.to_parquet(file, batch_size=10)
            path = f"data/{split}-00000-of-00001.parquet"
            HfApi().upload_file(path_or_fileobj=file.getvalue(), path_in_repo=path, repo_id=name, repo_type="dataset")
        return name

    return run
