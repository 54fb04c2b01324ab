"""What a run writes down about itself, beside its figures."""

import dataclasses
import platform
import resource
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch

from hf_ser.training.arguments import Arguments
from hf_ser.training.clips import RunClips

PACKAGES = ("hf_ser", "torch", "torchaudio", "transformers", "datasets", "peft", "accelerate", "evaluate", "numpy")
#: Arguments that say where and how something is stored or shown, not what is learned; or that are told elsewhere.
UNTOLD = {
    "output_dir",
    "overwrite_output_dir",
    "logging_dir",
    "corpora",
    "model",
    "method",
    "head",
    "run_name",
    "splits",
    "resume_from_checkpoint",
}
#: What never leaves the machine.
SECRET = {"hub_token"}


def corpora_table(clips: RunClips) -> dict[str, dict[str, Any]]:
    """For each corpus the clips that are used, their speakers and hours."""
    table: dict[str, dict[str, Any]] = {}
    speakers: dict[str, set[str]] = {}
    for corpus, speaker, duration in zip(
        clips.table.corpora, clips.table.speakers, clips.clips["duration"][:], strict=True
    ):
        entry = table.setdefault(corpus, {"clips": 0, "speakers": 0, "hours": 0.0})
        entry["clips"] += 1
        entry["hours"] += duration / 3600
        if speaker:
            speakers.setdefault(corpus, set()).add(speaker)
            entry["speakers"] = len(speakers[corpus])
    return {corpus: {**entry, "hours": round(entry["hours"], 3)} for corpus, entry in sorted(table.items())}


def non_default(arguments: Arguments) -> dict[str, Any]:
    """The arguments that differ from their defaults, without paths and secrets."""
    told: dict[str, Any] = {}
    for part in arguments:
        for field in dataclasses.fields(part):
            if not field.init or field.name in UNTOLD | SECRET:
                continue
            default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
            value = getattr(part, field.name)
            if value != default and isinstance(value, str | int | float | list | bool):
                told[field.name] = value.value if hasattr(value, "value") else value
    return told


def command(argv: Sequence[str]) -> str:
    """The command line, without the values of secret arguments."""
    words = list(argv)
    for i, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name.lstrip("-") in SECRET:
            if equals:
                words[i] = f"{name}=***"
            elif i + 1 < len(words):
                words[i + 1] = "***"
    return shlex.join(words)


def peak_memory() -> dict[str, int]:
    """The most memory that this process has held, in bytes, and the most that it has held on the GPU."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.max_memory_allocated()
    return found


def environment() -> dict[str, Any]:
    """Package versions and hardware."""
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({_processor()})",
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
