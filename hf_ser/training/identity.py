"""
What makes two runs the same: all arguments but those that cannot change what is learned. Trainer, command line, cross-validation
and the papers' tables compare runs by it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hf_ser import records
from hf_ser.audio import Augmentation
from hf_ser.corpora import CORPORA
from hf_ser.hub.privacy import without_paths
from hf_ser.records import RUN
from hf_ser.results import WITHOUT_EFFECT, differences
from hf_ser.training.arguments import Arguments
from hf_ser.training.config import SERConfig
from hf_ser.tuning import Tuning

#: Arguments that matter only with some values of another argument: its name, and those values.
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
    """The arguments of a run that can change what it learns, by name."""

    def used(name: str) -> bool:
        for names, (other, values) in USED_WITH.items():
            if re.fullmatch(names, name):
                return any(re.fullmatch(values, value) for value in str(arguments[other]).split("+"))
        return True

    return {name: value for name, value in arguments.items() if not WITHOUT_EFFECT.fullmatch(name) and used(name)}


def training_identity(
    model: str, tuning: Tuning, augmentation: Augmentation, training: SERConfig, *, streaming: bool
) -> dict[str, Any]:
    """
    What a trainer knows of a run's identity: the arguments that can change what it learns, by name, ready for JSON. Defaults that
    depend on the model are not resolved. Of a path only the last part is left: a run may go on on another machine.
    """
    every = _values(tuning, augmentation, training)
    # Clips are drawn in the same order, however the clips of a step are shared among processes and batches.
    del every["per_device_train_batch_size"], every["gradient_accumulation_steps"]
    found = deciding_arguments(every) | {
        "model_name_or_path": Path(model).name,
        "clips_per_step": training.clips_per_step,
        "peft_config": tuning.config and type(tuning.config).__name__,
    }
    if tuning.config:
        given = tuning.config.to_dict()
        found |= {f"peft_config.{name}": value for name, value in given.items() if name != "peft_version"}
    if streaming:  # each process that reads has row groups of its own
        found |= {
            "processes": training.world_size,
            "per_device_train_batch_size": training.per_device_train_batch_size,
            "dataloader_num_workers": training.dataloader_num_workers or 1,  # with none the process reads itself
        }
    return _plain(found)


def identity(arguments: Arguments) -> dict[str, Any]:
    """The identity of a run from the command line: that of [`training_identity`], and the arguments that decide its clips."""
    script, tuning, augmentation, training = arguments
    found = deciding_arguments(_values(script)) | {
        "corpora": sorted(map(_corpus, script.corpora)),
        "splits": Path(script.splits).name if script.splits else None,
    }
    del found["label_source"]  # is in the corpora's names
    return _plain(found) | training_identity(
        script.model_name_or_path, tuning, augmentation, training, streaming=script.streaming
    )


def _values(*groups: Any) -> dict[str, Any]:
    return {field.name: getattr(group, field.name) for group in groups for field in fields(group) if field.init}


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    as_json = json.dumps(found, default=lambda value: sorted(value) if isinstance(value, set) else str(value))
    return without_paths(json.loads(as_json))


def _corpus(specification: str) -> str:
    name, equals, source = specification.partition("=")
    return name if name in CORPORA or not equals else f"{name}={Path(source).name}"


def require_same_run(
    folder: Path, given: Mapping[str, Any], named: str | None = None, instead: str = "another output_dir"
) -> dict[str, Any]:
    """
    Makes sure that the run in a folder, finished or not, was started with the arguments that are given now. Without `run.json`,
    which a run writes when it starts, there is nothing to compare. The message calls the folder `named`, by default its path, and
    has `instead` for what else to choose.

    Returns:
        What `run.json` has; nothing if there is none.

    Raises:
        ValueError: if it was not; lists each argument that differs.
    """
    if not (folder / RUN).exists():
        return {}
    began = records.read(folder / RUN)
    if different := differences(began, given):
        lines = "\n".join(
            f"  {name}: found {found!r}, given {value!r}" for name, (found, value) in sorted(different.items())
        )
        raise ValueError(
            f"{named or folder} holds a run with other arguments ({RUN}):\n{lines}\nGive the arguments that the run was started "
            f"with, or choose {instead}."
        )
    return began


def write_identity(folder: Path, given: Mapping[str, Any], began: Mapping[str, Any]) -> None:
    """Writes `run.json`: with the version that started the run, and what else it `began` with if it is resumed."""
    records.write(folder / RUN, {"hf_ser": version("hf_ser"), **began, **given})
