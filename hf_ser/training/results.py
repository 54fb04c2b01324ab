"""What a run writes down about itself as it goes along; `results.json` and the model card are made of it."""

import dataclasses
import json
import logging
import math
import os
import platform
import resource
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.integrations import CodeCarbonCallback

from hf_ser.corpora import CORPORA, corpus_of
from hf_ser.corpora.hub_dataset import NAME as HUB_DATASET
from hf_ser.corpora.manifest import NAME as MANIFEST
from hf_ser.encoders import encoder_config, padding_changes_predictions
from hf_ser.hub.privacy import without_paths
from hf_ser.machine import processor_name
from hf_ser.modeling import SERModelConfig
from hf_ser.models import Loaded
from hf_ser.training.arguments import Arguments, SERTrainingArguments
from hf_ser.training.clips import RunClips
from hf_ser.training.launch import launch_command
from hf_ser.training.trainer import SERTrainer
from hf_ser.tuning import Tuned, parameter_counts

logger = logging.getLogger(__name__)

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
    "push_to_hub",
    "hub_model_id",
    "hub_strategy",
    "hub_private_repo",
    "hub_always_push",
    "hub_revision",
    "report_to",
    "disable_tqdm",
}
#: What never leaves the machine.
SECRET = {"hub_token"}
#: What a reader of a card looks for even where it is at its default.
LOOKED_FOR = (
    "learning_rate", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps", "optim",
    "weight_decay", "adam_beta1", "adam_beta2", "max_grad_norm", "lr_scheduler_type", "warmup_steps",
    "label_smoothing_factor", "class_weights", "mask_time_prob", "mask_feature_prob", "metric_for_best_model", "seed",
    "split_seed",
)  # fmt: skip
LOOKED_FOR_IN_LORA = ("lora_r", "lora_alpha", "lora_dropout")
LOOKED_FOR_IN_PROMPTS = ("prompt_length", "prompt_start")
HISTORY = ("loss", "learning_rate", "eval_loss", "eval_uar", "eval_accuracy", "eval_f1_weighted", "eval_eer")


class RunRecord(TrainerCallback):
    """
    Notes what a run does, when it does it.

    Args:
        arguments (`Arguments`): What the run was told.
        clips (`RunClips`): Its clips.
        loaded (`Loaded`): The model that it began with.
        tuned (`Tuned`): The same, with the right parameters trainable.
        resumed_from (`str`, *optional*): The checkpoint that it goes on from.
        probe (`dict`): How the probe was solved and what it reaches, see `hf_ser.training.run.load_with_probe`.
    """

    def __init__(
        self,
        arguments: Arguments,
        clips: RunClips,
        loaded: Loaded,
        tuned: Tuned,
        resumed_from: str | None,
        probe: dict[str, Any],
    ) -> None:
        self.probe = probe
        self.arguments = arguments
        self.clips = clips
        self.model_type = encoder_config(loaded.model.config).model_type
        self.remote_code = loaded.model.config.model_type == SERModelConfig.model_type
        self.padding_changes_answers = padding_changes_predictions(loaded.model.config)
        self.spec_augment = encoder_config(loaded.model.config).apply_spec_augment
        self.weighted_layer_sum = bool(loaded.model.config.use_weighted_layer_sum)
        self.trainable, self.total = parameter_counts(tuned.model)
        self.resumed_from = Path(resumed_from).name if resumed_from else None
        self.began = time.perf_counter()
        self.seconds: float = probe["seconds"]  # of a probe alone
        self.energy_kwh: float | None = None

    def on_train_end(
        self, args: Any, state: Any, control: Any, callbacks: Sequence[Any] | None = None, **kwargs: Any
    ) -> None:
        """Stops the clock, which has run since the record was made: what was computed once for all epochs is in it."""
        self.seconds = time.perf_counter() - self.began

    def note_energy(self, trainer: SERTrainer) -> None:
        """Takes over what CodeCarbon has measured, where it was asked to (`--report_to codecarbon`)."""
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, CodeCarbonCallback) and callback.tracker is not None:
                self.energy_kwh = callback.tracker._total_energy.kWh

    def results(self, trainer: SERTrainer, metrics: dict[str, Any], seconds_in_all: float) -> dict[str, Any]:
        """All that is known of the run once it is evaluated, ready for JSON but for figures that are not finite."""
        arguments, clips, state = self.arguments, self.clips, trainer.state
        training = arguments.training
        base = Path(arguments.model.model).expanduser()
        self.note_energy(trainer)
        told = non_default(arguments)
        found = {
            "base_model": base.name if base.is_dir() else arguments.model.model,
            "base_model_on_hub": not base.is_dir() and arguments.model.model.count("/") == 1,
            "model_type": self.model_type,
            "method": arguments.tuning.method,
            "head": arguments.model.head,
            "remote_code": self.remote_code,
            "padding_changes_answers": self.padding_changes_answers,
            "weighted_layer_sum": self.weighted_layer_sum,
            "emotions": list(clips.emotions),
            "merged_emotions": clips.merged,
            "corpora": corpora_table(clips, arguments.data.corpora),
            "set_aside": set_aside_table(clips),
            "left_out": clips.left_out,
            "left_out_by_split": left_out_by_split(clips),
            "segments": {"length": arguments.data.segment_length, "overlap": arguments.data.segment_overlap},
            "split": clips.split.describe(clips.table),
            "warnings": [*clips.warnings, *training_warnings(state.log_history, training.max_grad_norm)],
            "metrics": metrics,
            "probe": self.probe,
            "evaluated_in": "float32",
            "kept": kept_model(trainer),
            "parameters": {"trainable": self.trainable, "total": self.total},
            "training": {
                "epochs": state.epoch,
                "steps": state.global_step,
                "clips_per_step": training.train_batch_size
                * training.world_size
                * training.gradient_accumulation_steps,
                "processes": training.world_size,
                "machines": machines(training),
                "parallelism": trainer.parallelism,
                "seconds": round(self.seconds, 1),
                "seconds_in_all": round(seconds_in_all, 1),
                "resumed_from": self.resumed_from,
                "spec_augment": self.spec_augment,
                "precision": "bfloat16" if training.bf16 else "float16" if training.fp16 else "float32",
                "arguments": told,
                "defaults": {name: value for name, value in looked_for(arguments).items() if name not in told},
            },
            "history": history(state.log_history),
            "peak_memory_bytes": peak_memory(),
            "seeds": {"training": training.seed, "split": clips.split.settings.get("seed")},
            "environment": environment(),
            "command": command(sys.argv, launcher(training)),
        }
        if self.energy_kwh is not None:
            found["training"]["energy_kwh"] = self.energy_kwh
        # Whoever copies the folder by hand gives no path away either.
        return without_paths(found)


def kept_model(trainer: SERTrainer) -> dict[str, Any]:
    """
    Which of the models that a training passed through it has kept, and by what: the best on validation, or the last, averaged
    over `averaged_steps`; and of those between the probe and that one, at which share of the way (`interpolation`).
    """
    state, arguments = trainer.state, trainer.args
    if not (arguments.load_best_model_at_end and state.best_model_checkpoint):
        last = {"by": "last", "value": None, "step": state.global_step, "epoch": state.epoch}
        return {
            **last,
            "averaged_steps": trainer.average.steps if trainer.average else 0,
            **(trainer.kept_between or {}),
        }
    best = json.loads((Path(state.best_model_checkpoint) / "trainer_state.json").read_text(encoding="utf-8"))
    return {
        "by": f"{arguments.metric_for_best_model} on validation",
        "value": state.best_metric,
        "step": state.best_global_step,
        "epoch": best["epoch"],
        **(trainer.kept_between or {}),
    }


def training_warnings(log: Sequence[dict[str, Any]], max_grad_norm: float) -> list[str]:
    """What in the log of a training says that it did not go well."""
    losses = [entry["loss"] for entry in log if "loss" in entry]
    norms = [entry["grad_norm"] for entry in log if "grad_norm" in entry]
    found = []
    if not all(map(math.isfinite, losses)):
        found.append("The training diverged: its loss is not finite. Lower the learning rate.")
    elif len(losses) > 2 and losses[-1] >= losses[0]:
        found.append(
            f"The training loss did not fall: {losses[0]:.3f} at first, {losses[-1]:.3f} at the end. Lower the learning rate."
        )
    if max_grad_norm and len(norms) > 2 and min(norms) > 10 * max_grad_norm:
        found.append(
            f"Every gradient that was logged was clipped to less than a tenth of its length ({min(norms):.3g} or more, and "
            f"--max_grad_norm is {max_grad_norm:g}). Lower the learning rate."
        )
    for warning in found:
        logger.warning("%s", warning)
    return found


def history(log: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The Trainer's log with one entry for each time that something was logged, and the figures that a curve is drawn of."""
    at: dict[float, dict[str, Any]] = {}
    for entry in log:
        figures = {name: entry[name] for name in HISTORY if name in entry}
        if figures and "epoch" in entry:
            at.setdefault(entry["epoch"], {"epoch": entry["epoch"]}).update(figures)
    return [at[epoch] for epoch in sorted(at)]


def corpora_table(clips: RunClips, specifications: Sequence[str]) -> dict[str, dict[str, Any]]:
    """
    For each corpus the clips that the split uses, their speakers and hours, the reader that it came from (`read_as`: its
    own, `manifest` or `dataset`), and its name on the Hub if it came from there.
    """
    durations = clips.clips["duration"][:]
    table: dict[str, dict[str, Any]] = {}
    speakers: dict[str, set[str]] = {}
    for row in sorted(row for rows in clips.split.parts.values() for row in rows.tolist()):
        corpus, speaker = clips.table.corpora[row], clips.table.speakers[row]
        entry = table.setdefault(corpus, {"clips": 0, "speakers": 0, "clips_without_speaker": 0, "hours": 0.0})
        entry["clips"] += 1
        entry["hours"] += float(durations[row]) / 3600
        if speaker:
            speakers.setdefault(corpus, set()).add(speaker)
            entry["speakers"] = len(speakers[corpus])
        else:
            entry["clips_without_speaker"] += 1
    found: dict[str, dict[str, str]] = {}
    for specification in specifications:
        kind, _, source = specification.partition("=")
        if kind in CORPORA:
            found[kind] = {"read_as": kind}
        elif kind == HUB_DATASET:
            name = source.partition(":")[0]
            on_hub = {} if Path(name).expanduser().exists() else {"hub_dataset": name}
            found[Path(name).name.lower()] = {"read_as": HUB_DATASET, **on_hub}
    return {
        corpus: {**entry, "hours": round(entry["hours"], 3), **found.get(corpus, {"read_as": MANIFEST})}
        for corpus, entry in sorted(table.items())
    }


def left_out_by_split(clips: RunClips) -> dict[str, int]:
    """For each corpus the clips that are in no part of the split, where there are any."""
    used = {row for rows in clips.split.parts.values() for row in rows.tolist()}
    return dict(sorted(Counter(corpus for row, corpus in enumerate(clips.table.corpora) if row not in used).items()))


def set_aside_table(clips: RunClips) -> dict[str, dict[str, int]]:
    """For each corpus how many clips were set aside, by reason."""
    known = set(clips.table.corpora)
    counts = Counter((corpus_of(clip.clip, known), clip.reason) for clip in clips.set_aside)
    table: dict[str, dict[str, int]] = {}
    for (corpus, reason), count in sorted(counts.items()):
        table.setdefault(corpus, {})[reason] = count
    return table


def non_default(arguments: Arguments) -> dict[str, Any]:
    """The arguments that differ from their defaults, without secrets."""
    told: dict[str, Any] = {}
    for part in (arguments.data, arguments.model, arguments.tuning, arguments.augmentation, arguments.training):
        for field in dataclasses.fields(part):
            if not field.init or field.name in UNTOLD | SECRET:
                continue
            default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
            value = getattr(part, field.name)
            if value != default and isinstance(value, str | int | float | list | bool | dict):
                told[field.name] = _plain(value)
    return told


def looked_for(arguments: Arguments) -> dict[str, Any]:
    """The values of `LOOKED_FOR`, whether they are defaults or not."""
    names: tuple[str, ...] = LOOKED_FOR
    if any(name.startswith("lora_") for name in arguments.tuning.methods):
        names += LOOKED_FOR_IN_LORA
    if "prompt" in arguments.tuning.methods:
        names += LOOKED_FOR_IN_PROMPTS
    parts = {field.name: part for part in (arguments.training, arguments.data, arguments.model, arguments.tuning)
             for field in dataclasses.fields(part)}  # fmt: skip
    return {name: _plain(getattr(parts[name], name)) for name in names}


def _plain(value: Any) -> Any:
    return value.value if hasattr(value, "value") else value


def machines(training: SERTrainingArguments) -> int:
    """How many machines a run is on, each with as many processes as this one."""
    return training.world_size // int(os.environ.get("LOCAL_WORLD_SIZE") or training.world_size)


def launcher(training: SERTrainingArguments) -> list[str]:
    """The command that starts the run's processes, without the script."""
    # What the run's own arguments say of sharding comes behind the script's name.
    told = {} if training.fsdp or training.deepspeed else os.environ
    return launch_command(told, training.world_size, machines(training))


def command(argv: Sequence[str], launched_by: Sequence[str]) -> str:
    """The command line that repeats a run, without the values of secret arguments and without paths of this machine."""
    words = [_last_part(word) for word in argv]
    words[0] = f"scripts/{Path(words[0]).name}"
    for i, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name.lstrip("-").replace("-", "_") in SECRET:
            if equals:
                words[i] = f"{name}=***"
            elif i + 1 < len(words):
                words[i + 1] = "***"
    return shlex.join([*map(_last_part, launched_by), *words])


def _last_part(word: str) -> str:
    """A word of a command line, without where on this machine its file is."""
    name, equals, value = word.rpartition("=")
    if ".." in Path(value).parts:
        value = Path(value).name
    return str(without_paths(f"{name}{equals}{value}"))


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
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({processor_name()})",
        "threads": torch.get_num_threads(),
    }
