"""What several tests of training use: models without dropout, two processes, and a data set on the Hub."""

import logging
import os
import runpy
import sys
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import AcceleratorState
from accelerate.utils.launch import prepare_multi_gpu_env
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value
from huggingface_hub import HfApi
from other_processes import fork
from transformers import PreTrainedModel, Trainer

LAUNCHED = Path(__file__).parents[1] / "training" / "launched.py"


def without_dropout(model: torch.nn.Module) -> None:
    """Switches off dropout in a model: a step that is cut in another way, or the next run, would draw other masks."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
        if isinstance(module, PreTrainedModel):
            module.config.attention_dropout = 0.0


def losses(trainer: Trainer) -> list[float]:
    """The losses that were logged."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def checkpoints(run: Path) -> list[Path]:
    """The folders of a run's checkpoints, the earliest first."""
    return sorted(run.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def fork_two(
    words: list[str], plan: Path, printed: Path, environment: Mapping[str, str] | None = None
) -> list[int | None]:
    """
    `fork_two(words, plan, printed)` runs launched.py in two processes, with the environment that `accelerate launch words` gives, and
    returns their exit statuses.
    """
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
        runpy.run_path(str(LAUNCHED), run_name="__main__")

    return fork(2, work)


SPEAKERS, CLIPS = 8, 12


def wav(n: int, seconds: float = 0.4) -> bytes:
    """Noise that no other clip has, at twice the rate that is wanted."""
    buffer = BytesIO()
    samples = np.random.default_rng(n).uniform(-0.5, 0.5, round(32_000 * seconds))
    soundfile.write(buffer, samples, 32_000, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


#: Clips of `push_speech` without sound, by their numbers.
BROKEN_CLIPS = {7: b"", 20: b"no sound at all", 65: wav(65)[:44], 90: wav(90, seconds=0.01)}


def push_speech(name: str = "lab/clips", broken: dict[int, bytes] | None = None, durations: bool = False) -> str:
    """Pushes eight speakers' clips, in two parts of several row groups; `broken` gives clips other bytes."""
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
