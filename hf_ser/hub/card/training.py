"""How a model was trained: parameters, hyperparameters, cost, command, and the losses of each epoch."""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from hf_ser.hub.card.figures import SHORT_METRICS
from hf_ser.hub.card.words import Results, duration, known, percent, table
from hf_ser.wording import counted, listed

#: Arguments of a run that decide where it ran, how much memory it took and what it printed, not what it learned; and those
#: that the card tells in other words.
UNTOLD = re.compile(
    r"(use_cpu|disable_tqdm|report_to|debug|label_names|do_eval|do_train|do_predict|greater_is_better|log_level.*|logging_.*"
    r"|save_.*|push_to_hub.*|hub_.*|run_name|project|trackio_.*|cpu_threads|prepare_workers|dataloader_(pin|num|persist).*"
    r"|frozen_cache_gb|bf16|fp16|(activation|gradient)_checkpointing.*|remove_unused_columns|.*_dir|resume_from_checkpoint)"
)


def parameters_note(results: Results) -> str:
    """How many parameters were trained of how many."""
    parameters = results.get("parameters") or {}
    if not (parameters.get("trainable") and parameters.get("total")):
        return ""
    share = f"{100 * parameters['trainable'] / parameters['total']:.3g}"
    if share == "100" and parameters["trainable"] < parameters["total"]:
        share = "over 99.9"
    return f"Trained: {parameters['trainable']:,} of {parameters['total']:,} parameters ({share} %){_head(results)}."


def _head(results: Results) -> str:
    if results.get("head") != "batchnorm":
        return ""
    return ", with batch norm and dropout before the last layer, folded into it afterwards"


def hyperparameters(results: Results) -> tuple[str, str]:
    """The hyperparameters that are not at their defaults, and those that are, each as a list."""
    training = results.get("training") or {}
    chosen = _told(training.get("arguments"))
    others = {name: value for name, value in _told(training.get("defaults")).items() if name not in chosen}
    return _hyperparameters(chosen), _hyperparameters(others)


def _told(arguments: Results | None) -> dict[str, Any]:
    return {
        name: value
        for name, value in (arguments or {}).items()
        if known(value) and not UNTOLD.fullmatch(name) and not _path(value)
    }


def _path(value: Any) -> bool:
    return isinstance(value, str) and PurePath(value).is_absolute()


def _hyperparameters(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- `{name}`: {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items() if known(item))
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _processes(training: Results) -> str:
    """`, 16 processes on 2 machines (FSDP 2)`; nothing for one. Older results do not say what they shared."""
    processes, machines, parallelism = (training.get(key) for key in ("processes", "machines", "parallelism"))
    if (processes or 1) == 1:
        return ""
    where = f" on {machines} machines" if (machines or 1) > 1 else ""
    return f", {processes} processes{where}{f' ({parallelism})' if parallelism else ''}"


def cost_list(results: Results) -> str:
    """On what it was trained and what that took: hardware, time, steps, seeds, memory, energy."""
    training, environment = results.get("training") or {}, results.get("environment") or {}
    lines = []
    # What another process has used before is not known.
    since = f"since it went on from {training['resumed_from']}" if training.get("resumed_from") else ""
    if device := environment.get("device"):
        threads = (
            f", {counted(environment['threads'], 'thread')}" if "CPU" in device and environment.get("threads") else ""
        )
        lines.append(f"Hardware: {device}{threads}{_processes(training)}")
    if known(training.get("seconds")):
        steps = []
        if known(training.get("epochs")):
            steps.append(f"{training['epochs']:g} epoch{'s' if training['epochs'] != 1 else ''}")
        if known(training.get("steps")):
            steps.append(counted(training["steps"], "step"))
        took = [duration(training["seconds"]), *steps]
        if since:
            in_all = f"; {', '.join(steps)} in all" if steps else ""
            lines.append(f"Time: {took[0]} {since}{in_all}")
        else:
            lines.append(f"Time: {' for '.join(took[:2])}{''.join(f', {step}' for step in took[2:])}")
    batch = training.get("clips_per_step")
    precision = training.get("precision")
    if how := [
        *([f"{counted(batch, 'clip')} in a step"] if batch else []),
        *([f"in {precision}"] if precision else []),
    ]:
        lines.append(f"Steps: {', '.join(how)}")
    if seeds := [f"{seed} ({name})" for name, seed in (results.get("seeds") or {}).items() if known(seed)]:
        lines.append(f"Seeds: {listed(seeds)}")
    memory = results.get("peak_memory_bytes") or {}
    amounts = [
        f"{memory[kind] / 1e9:.1f} GB {where}"
        for kind, where in (("process", "in the process"), ("gpu", "on the GPU"))
        if memory.get(kind)
    ]
    if amounts:
        lines.append(f"Peak memory{f', {since}' if since else ''}: {listed(amounts)}")
    if known(training.get("energy_kwh")):
        lines.append(f"Energy, measured{f' {since}' if since else ''}: {training['energy_kwh']:.3g} kWh")
    return "\n".join(f"- {line}" for line in lines)


def versions_note(results: Results) -> str:
    """Python and the packages."""
    environment = results.get("environment") or {}
    packages = dict(environment.get("packages") or {})
    versions = [f"Python {environment['python']}"] if environment.get("python") else []
    return ", ".join([*versions, *(f"{name} {version}" for name, version in packages.items() if version)])


def command_line(results: Results) -> str:
    """The command, in which a path from the root is its last part alone."""
    command = str(results.get("command") or "")
    return re.sub(r"(?<![^\s='\":])~?/(?:[^\s'\"/]*/)*(?=[^\s'\"/])", "", command)


def history_table(results: Results) -> str:
    """The losses and the validation figures of each epoch."""
    epochs: dict[float, dict[str, Any]] = {}
    for entry in results.get("history") or []:
        if known(entry.get("epoch")):
            epochs.setdefault(entry["epoch"], {}).update({k: v for k, v in entry.items() if known(v)})
    names = {"loss": "Loss, train", "eval_loss": "Loss, validation"}
    names |= {f"eval_{key}": f"{name[:1].upper()}{name[1:]}, validation" for key, name in SHORT_METRICS.items()}
    rows = [
        [
            f"{epoch:g}",
            f"{entry['learning_rate']:.2g}" if "learning_rate" in entry else "",
            *((f"{entry[key]:.4f}" if "loss" in key else percent(entry[key])) if key in entry else "" for key in names),
        ]
        for epoch, entry in sorted(epochs.items())
    ]
    return (
        table(["Epoch", "Learning rate", *names.values()], rows, left=()) if any(any(row[1:]) for row in rows) else ""
    )
