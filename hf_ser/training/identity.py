"""
What makes two runs the same: all arguments but those that cannot change what is learned. Resuming, cross-validation and the
papers' tables compare runs by it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from hf_ser import records
from hf_ser.corpora import CORPORA
from hf_ser.hub.privacy import without_paths
from hf_ser.records import RUN
from hf_ser.results import WITHOUT_EFFECT, differences
from hf_ser.training.arguments import Arguments

#: Arguments that have an effect with some values of another argument alone: its name, and those values.
USED_WITH = {
    "lora_.*": ("method", "lora_.*"),
    "prompt_.*": ("method", "prompt"),
    "bottleneck_size": ("method", "(parallel_)?adapter"),
    "freeze_feature_encoder": ("method", "full"),
    "(test|validation)_size": ("split", "random|speaker|cross_corpus"),
    "train_corpora": ("split", "cross_corpus"),
    "shuffle_buffer": ("streaming", "True"),
    "distort_kinds": ("distort_probability", r"(?!0(\.0)?$).+"),
}


def deciding_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Of all arguments of a run, by name, those that can change what it learns."""

    def used(name: str) -> bool:
        for names, (other, values) in USED_WITH.items():
            if re.fullmatch(names, name):
                return any(re.fullmatch(values, value) for value in str(arguments[other]).split("+"))
        return True

    return {name: value for name, value in arguments.items() if not WITHOUT_EFFECT.fullmatch(name) and used(name)}


def identity(arguments: Arguments) -> dict[str, Any]:
    """
    The arguments that can change what a run learns, by name, ready for JSON. Defaults that depend on other arguments are
    resolved. Of a path only the last part is left: a run may go on on another machine.
    """
    script, training = arguments.script, arguments.training
    every = {field.name: getattr(part, field.name) for part in arguments for field in fields(part) if field.init}
    del every["label_source"]  # is in the corpora's names
    # Clips are drawn in the same order, however the clips of a step are shared among processes and batches.
    batch = every.pop("per_device_train_batch_size") * training.world_size
    found = deciding_arguments(every) | {
        "model_name_or_path": Path(script.model_name_or_path).name,
        "corpora": sorted(map(_corpus, script.corpora)),
        "splits": Path(script.splits).name if script.splits else None,
        "clips_per_step": batch * every["gradient_accumulation_steps"],
    }
    del found["gradient_accumulation_steps"]
    if script.streaming:  # each process that reads has row groups of its own
        found |= {
            "processes": training.world_size,
            "per_device_train_batch_size": training.per_device_train_batch_size,
            "dataloader_num_workers": training.dataloader_num_workers or 1,  # with none the process reads itself
        }
    plain: dict[str, Any] = without_paths(json.loads(json.dumps(found)))
    return plain


def _corpus(specification: str) -> str:
    name, equals, source = specification.partition("=")
    return name if name in CORPORA or not equals else f"{name}={Path(source).name}"


def require_same_run(
    folder: Path, arguments: Arguments, named: str | None = None, instead: str = "another output_dir"
) -> None:
    """
    Makes sure that the run in a folder, finished or not, was started with the arguments that are given now. Without `run.json`,
    which a run writes when it starts, there is nothing to compare.

    Args:
        folder (`Path`): The run's folder.
        arguments (`Arguments`): What is given now.
        named (`str`, *optional*): What the message calls the folder, by default its path.
        instead (`str`, *optional*): What the user can choose instead.

    Raises:
        ValueError: if it was not; lists each argument that differs.
    """
    if not (folder / RUN).exists():
        return
    different = differences(records.read(folder / RUN), identity(arguments))
    if different:
        lines = "\n".join(
            f"  {name}: found {found!r}, given {given!r}" for name, (found, given) in sorted(different.items())
        )
        raise ValueError(
            f"{named or folder} holds a run with other arguments ({RUN}):\n{lines}\nGive the arguments that the run was started "
            f"with, or choose {instead}."
        )
