"""The record that a run keeps of itself while it trains. `results.json` and the model card are made of it."""

import dataclasses
import json
import logging
import math
import platform
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from transformers import TrainerCallback
from transformers.integrations import CodeCarbonCallback
from transformers.trainer import TRAINER_STATE_NAME

from hf_ser import records, splits
from hf_ser.clips import column, excluded_of, seconds_of
from hf_ser.corpora import corpus_of, manifest
from hf_ser.hub.privacy import without_paths
from hf_ser.machine import device_name
from hf_ser.memory import peak_memory
from hf_ser.modeling import Loaded, SERModelConfig
from hf_ser.modeling.families import encoder_config, padding_changes_predictions
from hf_ser.results import RunResults
from hf_ser.training.base import BaseTrainer
from hf_ser.training.config import SERConfig
from hf_ser.training.launch import machines
from hf_ser.tuning import parameter_counts

if TYPE_CHECKING:
    from hf_ser.training.trainer import SERTrainer

logger = logging.getLogger(__name__)

PACKAGES = ("hf_ser", "torch", "torchaudio", "transformers", "datasets", "peft", "accelerate", "evaluate", "numpy")
#: Arguments about storage and display, and those that results.json has elsewhere.
HIDDEN = re.compile(
    r"(overwrite_)?output_dir|logging_dir|method|head|run_name|resume_from_checkpoint|push_to_hub|hub_.*|report_to|disable_tqdm"
)
#: Arguments that a reader of a card looks for, even where they are at their defaults.
LOOKED_FOR = (
    "learning_rate", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps", "optim",
    "weight_decay", "adam_beta1", "adam_beta2", "max_grad_norm", "lr_scheduler_type", "warmup_steps",
    "label_smoothing_factor", "balance", "mask_time_prob", "mask_feature_prob", "metric_for_best_model", "seed",
)  # fmt: skip
LOOKED_FOR_IN_LORA = ("lora_r", "lora_alpha", "lora_dropout")
LOOKED_FOR_IN_PROMPTS = ("prompt_length", "prompt_start")
HISTORY = (
    "loss",
    "learning_rate",
    "eval_loss",
    "eval_uar",
    "eval_accuracy",
    "eval_f1_weighted",
    "eval_eer",
    "eval_ccc",
)


class RunRecord(TrainerCallback):
    """Records a run that starts with the model `loaded`: its model and arguments, its times, its warnings."""

    def __init__(self, trainer: "SERTrainer", loaded: Loaded) -> None:
        self.trainer = trainer
        config = loaded.model.config
        trainable, total = parameter_counts(trainer.model)
        self.model = {
            "model_type": encoder_config(config).model_type,
            "remote_code": config.model_type == SERModelConfig.model_type,
            "padding_changes_answers": padding_changes_predictions(config),
            "weighted_layer_sum": bool(config.use_weighted_layer_sum),
            "parameters": {"trainable": trainable, "total": total},
        }
        self.spec_augment = encoder_config(config).apply_spec_augment
        self.resumed_from: str | None = None
        #: The command line that repeats the run, if one started it.
        self.command: str | None = None
        self.made = self.began = time.perf_counter()
        self.seconds = 0.0
        self.warnings: list[str] = []
        self.start_loss: float | None = None
        self._warned = False

    def resume(self, checkpoint: str, version: str | None) -> None:
        """Notes which checkpoint the run goes on from, and warns if another version of the package has started it."""
        self.resumed_from, now = checkpoint, package_version("hf_ser")
        if version not in (None, now):
            self.warn(f"The run was started with hf_ser {version} and resumed with {now}, which may train differently.")

    def warn(self, message: str) -> None:
        """Logs a warning that is also in the results."""
        logger.warning("%s", message)
        self.warnings.append(message)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Takes note of the first step's loss: the mean over the first epoch may be that of a training that has diverged."""
        if state.global_step == 1:
            self.start_loss = self.trainer._tr_loss.item()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Adds that loss to the log, which checkpoints keep."""
        if self.start_loss is not None:
            state.log_history[-1]["start_loss"], self.start_loss = self.start_loss, None

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Warns once of a training that does not go well, while it can still be stopped."""
        if not self._warned and (found := training_warning(state.log_history, args)):
            self._warned = True
            logger.warning("%s", found)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stops the clock, and warns of a training that did not go well."""
        self.seconds = time.perf_counter() - self.began
        if found := training_warning(state.log_history, args):
            self.warn(found)

    def results(self) -> RunResults:
        """All that is known of the run once it is evaluated, without numbers that are not finite and paths of this machine."""
        trainer, args, state = self.trainer, self.trainer.args, self.trainer.state
        parts, clips = trainer.clips, trainer.clips["train"]
        base = Path(trainer.starting_model.name).expanduser()
        trackers = [each.tracker for each in trainer.callback_handler.callbacks if isinstance(each, CodeCarbonCallback)]
        energy = [tracker._total_energy.kWh for tracker in trackers if tracker is not None]
        groups = (trainer.tuning, trainer.augmentation, args)
        given = non_default(groups)
        found = {
            "base_model": base.name if base.is_dir() else trainer.starting_model.name,
            "base_model_on_hub": not base.is_dir() and trainer.starting_model.name.count("/") == 1,
            **self.model,
            "method": trainer.tuning.method,
            "head": args.head,
            "emotions": list(trainer.emotions),
            "targets": dict(trainer.targets.weights),
            "merged_emotions": clips.info.merged,
            "corpora": corpora_table(parts),
            "excluded": excluded_table(parts),
            "left_out": clips.info.left_out,
            "left_out_by_split": clips.info.left_out_by_split,
            "segments": {"length": args.segment_length, "overlap": args.segment_overlap},
            "split": splits.describe(parts),
            "warnings": [*splits.check(parts), *self.warnings],
            "metrics": trainer.metrics,
            "probe": trainer.probe,
            "evaluated_in": "float32",
            "kept": kept_model(trainer),
            "training": {
                "epochs": state.epoch,
                "steps": state.global_step,
                "clips_per_step": args.clips_per_step,
                "processes": args.world_size,
                "machines": machines(args),
                "parallelism": trainer.parallelism,
                "seconds": round(self.seconds or (trainer.probe or {}).get("seconds", 0.0), 1),
                "seconds_in_all": round(time.perf_counter() - self.made, 1),
                "resumed_from": self.resumed_from,
                "spec_augment": self.spec_augment,
                "energy_kwh": energy[0] if energy else None,
                "precision": "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32",
                "arguments": given,
                "defaults": {name: value for name, value in looked_for(groups).items() if name not in given},
            },
            "history": history(state.log_history),
            "peak_memory_bytes": peak_memory(),
            "seeds": {"training": args.seed, "split": clips.info.split.get("seed")},
            "environment": environment(args.device),
            "command": self.command,
            "ranges": clips.info.ranges if trainer.targets.dimensions else None,
            "agreement": clips.info.agreement or None,
        }
        # A folder that is copied by hand must not have paths of this machine either. What is not finite becomes null.
        return RunResults.from_dict(json.loads(json.dumps(without_paths(found)), parse_constant=lambda _: None))


def kept_model(trainer: BaseTrainer) -> dict[str, Any]:
    """
    The weights that the run has kept: the best on validation, or the last, averaged over `averaged_steps`; and their share of
    the way from the probe to the end of training (`interpolation`).
    """
    state, arguments = trainer.state, trainer.args
    if arguments.load_best_model_at_end and state.best_model_checkpoint:
        best = records.read(Path(state.best_model_checkpoint) / TRAINER_STATE_NAME)
        kept = {
            "by": f"{arguments.metric_for_best_model} on validation",
            "value": state.best_metric,
            "step": state.best_global_step,
            "epoch": best["epoch"],
        }
    else:
        kept = {"by": "last", "value": None, "step": state.global_step, "epoch": state.epoch}
        kept["averaged_steps"] = trainer.average.steps if trainer.average else 0
    return {**kept, **(trainer.kept_between or {})}


def training_warning(log: Sequence[dict[str, Any]], args: SERConfig) -> str | None:
    """
    A warning if the training loss is not finite, or if its mean over the last epoch exceeds that of the first step; else `None`.
    A `linear` head starts at its solution: the loss need not fall, and a single step's is a noisy estimate of it.
    """
    logged = [entry for entry in log if "loss" in entry]
    losses = [entry["loss"] for entry in logged]
    if not all(map(math.isfinite, losses)):
        return "The training diverged: its loss is not finite. Lower the learning rate."
    if not losses:
        return None
    start = next((entry["start_loss"] for entry in log if "start_loss" in entry), losses[0])
    epoch = logged[-1]["epoch"]
    last = float(np.mean([entry["loss"] for entry in logged if entry["epoch"] > epoch - 1]))
    if last <= (1.5 * start + 0.1 if args.head == "linear" else 1.01 * start):
        return None
    # Clipping alone is no fault: AdamW's steps do not depend on the scale of the gradients.
    norms, most = [entry["grad_norm"] for entry in logged if "grad_norm" in entry], args.max_grad_norm
    clipped = (
        f" Every gradient that was logged was clipped to less than a tenth of its length ({min(norms):.3g} or more, and "
        f"max_grad_norm is {most:g})."
        if most and norms and min(norms) > 10 * most
        else ""
    )
    return (
        f"The training loss did not fall: {start:.3g} at first, {last:.3g} in epoch {math.ceil(epoch)}.{clipped} "
        "Lower the learning rate."
    )


def history(log: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The Trainer's log with one entry for each time that something was logged, and the values that curves are drawn of."""
    at: dict[float, dict[str, Any]] = {}
    for entry in log:
        values = {name: entry[name] for name in HISTORY if name in entry}
        if values and "epoch" in entry:
            at.setdefault(entry["epoch"], {"epoch": entry["epoch"]}).update(values)
    return [at[epoch] for epoch in sorted(at)]


def corpora_table(parts: Mapping[str, Dataset]) -> dict[str, dict[str, Any]]:
    """
    For each corpus the clips of all parts, their speakers and hours, the reader that it came from (`read_as`: its own, `manifest`
    or `dataset`), and its name on the Hub if it came from there.
    """
    columns = {"corpus": [], "speaker": [], "seconds": []}  # type: dict[str, list[Any]]
    for clips in parts.values():
        columns["corpus"] += column(clips, "corpus")
        columns["speaker"] += column(clips, "speaker")
        columns["seconds"] += np.nan_to_num(seconds_of(clips)).tolist()
    found = {}
    sources = {name: source for clips in parts.values() for name, source in clips.info.sources.items()}
    for corpus, rows in pd.DataFrame(columns).groupby("corpus"):
        found[str(corpus)] = {
            "clips": len(rows),
            "speakers": int(rows["speaker"].nunique()),
            "clips_without_speaker": int(rows["speaker"].isna().sum()),
            "hours": round(float(rows["seconds"].sum()) / 3600, 3),
            **sources.get(str(corpus), {"read_as": manifest.NAME}),
        }
    return found


def excluded_table(parts: Mapping[str, Dataset]) -> dict[str, dict[str, int]]:
    """For each corpus how many clips are excluded, by reason."""
    known = {corpus for clips in parts.values() for corpus in column(clips, "corpus").counts()}
    counts = Counter((corpus_of(clip.clip, known), clip.reason) for clip in excluded_of(parts))
    table: dict[str, dict[str, int]] = {}
    for (corpus, reason), count in sorted(counts.items()):
        table.setdefault(corpus, {})[reason] = count
    return table


def non_default(groups: Iterable[Any]) -> dict[str, Any]:
    """The arguments of some dataclasses that differ from their defaults, without secrets."""
    found: dict[str, Any] = {}
    for group in groups:
        for field in dataclasses.fields(group):
            if not field.init or HIDDEN.fullmatch(field.name):
                continue
            default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
            value = getattr(group, field.name)
            if value != default and isinstance(value, str | int | float | list | bool | dict):
                found[field.name] = value
    return found


def looked_for(groups: Sequence[Any]) -> dict[str, Any]:
    """The values of `LOOKED_FOR`, whether they are defaults or not."""
    tuning = groups[0]
    names: tuple[str, ...] = LOOKED_FOR
    if any(name.startswith("lora_") for name in tuning.methods):
        names += LOOKED_FOR_IN_LORA
    if "prompt" in tuning.methods:
        names += LOOKED_FOR_IN_PROMPTS
    values = {field.name: getattr(group, field.name) for group in groups for field in dataclasses.fields(group)}
    return {name: values[name] for name in names}


def environment(device: torch.device) -> dict[str, Any]:
    """Package versions, and the hardware that a run is on."""
    return {
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in PACKAGES},
        "device": device_name(device),
        "threads": torch.get_num_threads(),
    }
