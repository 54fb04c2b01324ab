"""Finished runs of a tiny model, as a user has them on disk."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_ser.training import finetune, parse_arguments

#: The token of the user who trained the runs.
SECRET = "hf_" + "Secret0123" * 3


@pytest.fixture(scope="package")
def finished_runs(
    speech: Path, tiny_hubert: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """One run of each kind; they are copied before they are used."""
    runs = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, options in {
            "full": ["--method", "full"],
            "merged": ["--method", "lora_qkv"],
            "whisper": ["--method", "frozen", "--head", "conv", "--model_name_or_path", str(tiny_whisper)],
            "prompt": ["--method", "prompt"],
            "bottleneck": ["--method", "adapter"],
            "adapter": ["--method", "lora_classifier", "--head", "batchnorm", "--save_format", "adapter"],
        }.items():
            runs[name] = tmp_path_factory.mktemp("finished") / name
            words = ["--corpora", f"synthetic={speech}", "--model_name_or_path", str(tiny_hubert), "--num_train_epochs", "1", "--disable_tqdm",
                     "True", "--emotions", "angry", "sad", "happy", "--learning_rate", "1e-2", "--interpolation", "False", "--output_dir", str(runs[name]),
                     "--hub-token", SECRET, *options]  # fmt: skip
            # What a run writes down of its command line, a user has typed.
            patch.setattr("sys.argv", ["/home/jdoe/hf_ser/scripts/finetune.py", *words])
            finetune(parse_arguments(words))
    return runs


@pytest.fixture
def run(finished_runs: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a finished run, of the test's own."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(finished_runs[name], tmp_path / "runs" / name))

    return copy
