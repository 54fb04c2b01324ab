"""Finished runs of a tiny model, as a user has them on disk."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from hf_ser.training import finetune, parse_arguments

#: The token of the user who trained the runs.
SECRET = "hf_" + "Secret0123" * 3


#: A finished run of each kind: its arguments.
RUNS = {
    "full": ["--method", "full"],
    "merged": ["--method", "lora_qkv"],
    "whisper": ["--method", "frozen", "--head", "conv"],
    "prompt": ["--method", "prompt"],
    "adapter": ["--method", "lora_classifier", "--head", "batchnorm", "--save_format", "adapter"],
}


@pytest.fixture
def run(
    run_words: Callable[..., list[str]], tiny_hubert: Path, tiny_whisper: Path, made_once: Callable[..., Path],
    tmp_path: Path,
) -> Callable[[str], Path]:  # fmt: skip
    """A copy of a finished run, of the test's own."""

    def train(folder: Path) -> None:
        model = tiny_whisper if folder.name == "whisper" else tiny_hubert
        words = run_words(folder, "--interpolation", "False", "--hub-token", SECRET, *RUNS[folder.name], model=model)
        with pytest.MonkeyPatch.context() as patch:
            # What a run writes down of its command line, a user has typed.
            patch.setattr("sys.argv", ["/home/jdoe/hf_ser/scripts/finetune.py", *words])
            finetune(parse_arguments(words))

    return lambda kind: Path(shutil.copytree(made_once(kind, train), tmp_path / "runs" / kind))


@pytest.fixture
def base(hub: Any, tiny_hubert: Path) -> str:
    """The base model, on the Hub."""
    HfApi().create_repo("lab/base")
    HfApi().upload_folder(repo_id="lab/base", folder_path=tiny_hubert)
    hub.requests.clear()
    return "lab/base"
