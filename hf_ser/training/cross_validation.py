"""Every fold and seed of an experiment, and of every setting of a sweep: each run a process of its own."""

import itertools
import logging
import os
import queue
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from hf_ser.corpora import read_corpora
from hf_ser.machine import processors
from hf_ser.records import RESULTS, RUN
from hf_ser.rendering.formats import table_in_markdown
from hf_ser.results import RunResults
from hf_ser.splits import SplitError, official_folds
from hf_ser.training.arguments import Arguments, parse_arguments
from hf_ser.training.folder import last_checkpoint
from hf_ser.training.identity import identity, require_same_run

logger = logging.getLogger(__name__)

SUMMARY = "cross_validation.json"
#: The metrics on test that are summarised, beside the probe's UAR.
SUMMARISED_METRICS = ("uar", "accuracy", "f1_weighted")
#: The heading of a column of the main metric.
HEADINGS = {"uar": "UAR on test, %", "ccc": "CCC on test, times 100"}
#: The arguments that folds and seeds set.
PLACED = ("output_dir", "fold", "folds", "seed")


@dataclass(frozen=True)
class Run:
    """One training. `setting` is what the sweep sets, in the words of the command line; `argv` has all arguments."""

    setting: dict[str, str]
    fold: int
    seed: int
    folder: Path
    argv: tuple[str, ...]

    @property
    def log(self) -> Path:
        """The file of its output: beside its folder, which must be empty when the run begins."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def finished(self) -> bool:
        """Whether its results are there."""
        return (self.folder / RESULTS).exists()

    @property
    def resumption(self) -> tuple[str, ...]:
        """The arguments with which an interrupted run goes on; none if it has not begun."""
        if last_checkpoint(self.folder):
            return "--resume_from_checkpoint", "True"
        # Without a checkpoint it stopped early.
        return ("--overwrite_output_dir", "True") if (self.folder / RUN).exists() else ()


def read_sweep(recipe: Any, words: Sequence[str]) -> dict[str, list[str]]:
    """
    The values of a sweep.

    Args:
        recipe (`dict`, *optional*): A recipe's `sweep`: a list of values, or one, for each argument.
        words (`Sequence[str]`): `argument=value,value` of the command line, which take the place of the recipe's.

    Returns:
        The values of each argument by its name, in which `-` is `_`, as words of the command line.

    Raises:
        ValueError: if one of them is of another form.
    """
    form = "config: sweep must be lines of the form argument: [value, value]; found"
    if not isinstance(recipe, dict | None):
        raise ValueError(f"{form} {recipe!r}")
    sweep: dict[str, list[str]] = {}
    for key, values in (recipe or {}).items():
        several = values if isinstance(values, list) else [values]
        if not several or any(value is None or isinstance(value, dict | list) for value in several):
            raise ValueError(f"{form} {key}: {values!r}")
        sweep[str(key).replace("-", "_")] = [str(value) for value in several]
    for word in words:
        key, equals, given = word.partition("=")
        if not (key and equals and given):
            raise ValueError(f"sweep: {word!r} is not of the form argument=value,value")
        sweep[key.replace("-", "_")] = given.split(",")
    return sweep


def read_seeds(recipe: Any) -> list[int] | None:
    """
    A recipe's `seeds`: a list of whole numbers, or one.

    Raises:
        ValueError: if they are anything else.
    """
    if recipe is None:
        return None
    seeds = recipe if isinstance(recipe, list) else [recipe]
    if not seeds or any(not isinstance(seed, int) or isinstance(seed, bool) for seed in seeds):
        raise ValueError(f"config: seeds must be whole numbers, as in [1, 2, 3]; found {recipe!r}")
    return seeds


def plan(
    argv: Sequence[str],
    arguments: Arguments,
    sweep: Mapping[str, Sequence[str | list[str]]],
    seeds: Sequence[int] | None,
) -> list[Run]:
    """
    The runs of an experiment: each setting of the sweep, with each fold and each seed.

    Args:
        argv (`Sequence[str]`): The arguments that all runs share, as `scripts/finetune.py` takes them.
        arguments (`Arguments`): The same, parsed.
        sweep (`dict[str, Sequence[str | list[str]]]`): Values of arguments, each in one text or in words; every combination is a
            setting.
        seeds (`Sequence[int]`, *optional*): Seeds of the training, by default the arguments' own.

    Raises:
        ValueError: if the sweep sets what folds and seeds set.
        SplitError: if there is nothing to make folds of.
    """
    if wrong := sorted(set(sweep) & set(PLACED)):
        raise ValueError(f"sweep: {', '.join(wrong)} is set by the folds and seeds; use folds and seeds")
    root = arguments.training.folder
    folds = fold_count(arguments)
    runs = []
    for values in itertools.product(*sweep.values()):
        words = {k: v.split() if isinstance(v, str) else v for k, v in zip(sweep, values, strict=True)}
        setting = {key: " ".join(value) for key, value in words.items()}
        name = "-".join(map(_slug, setting.values()))
        for fold, seed in itertools.product(range(folds), seeds or [arguments.training.seed]):
            folder = root / name / f"fold-{fold}-seed-{seed}"
            own = [word for key, value in words.items() for word in (f"--{key}", *value)]
            own += ["--seed", str(seed), "--output_dir", str(folder)]
            if arguments.script.split == "kfold":
                own += ["--folds", str(folds)]
            if folds > 1:
                own += ["--fold", str(fold)]
            runs.append(Run(setting, fold, seed, folder, (*argv, *own)))
    if len({run.folder for run in runs}) < len(runs):
        raise ValueError("sweep: two settings have the same values, or values whose folders would be called alike")
    return runs


def fold_count(arguments: Arguments) -> int:
    """
    How many folds there are: as many as sessions, or five of speakers (PEFT-SER, section V.A); as many as the corpus comes with,
    of its own; one for other splits.

    Raises:
        SplitError: if folds are made by session, and the corpora have none.
    """
    script = arguments.script
    if script.splits or script.split not in ("kfold", "official"):
        return 1
    if script.split == "official":
        return max(map(official_folds, read_corpora(script.corpora))) or 1
    if script.folds or script.fold_by == "speaker":
        return script.folds or 5
    sessions = {session for rows in read_corpora(script.corpora) for session in rows["session"][:]} - {None}
    if not sessions:
        raise SplitError("fold_by session: the corpora have no sessions; use fold_by speaker")
    return len(sessions)


def cross_validate(runs: Sequence[Run], script: Path, *, jobs: int | None = None) -> list[Run]:
    """
    Trains what is not finished yet, by `scripts/finetune.py`, with so many `jobs` at a time, by default one for each GPU, and one
    without. A run that was interrupted goes on from its checkpoint; one that fails is logged, and the others go on.

    Returns:
        The runs that failed.

    Raises:
        ValueError: if one is there already with other arguments, or its `results.json` is none: before anything is trained.
    """
    gpus = visible_gpus()
    jobs = jobs or max(len(gpus), 1)
    threads = max(processors() // jobs, 1)
    places: queue.Queue[dict[str, str]] = queue.Queue()
    for place in range(jobs):
        places.put({"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} if gpus else {})
    waiting = unfinished(runs)
    failed: list[Run] = []
    running: set[subprocess.Popen[bytes]] = set()

    def train(run: Run) -> int:
        place = places.get()
        try:
            words = [*run.argv, *run.resumption, "--disable_tqdm", "True", "--cpu_threads", str(threads)]
            command, environment = [sys.executable, str(script), *words], {**os.environ, **place}
            run.folder.parent.mkdir(parents=True, exist_ok=True)
            with run.log.open("ab") as log:
                process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
                running.add(process)
                status = process.wait()
                running.discard(process)
            return status
        finally:
            places.put(place)

    pool = ThreadPoolExecutor(jobs)
    try:
        with tqdm(total=len(runs), initial=len(runs) - len(waiting), unit=" runs") as bar:
            futures = {pool.submit(train, run): run for run in waiting}
            for future in as_completed(futures):
                run = futures[future]
                if future.result():
                    failed.append(run)
                    logger.error("%s failed, see %s:\n%s", run.folder, run.log, _last_lines(run.log))
                bar.update()
    except BaseException:  # Ctrl-C, above all: runs save what they have, and go on another time
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(running):  # threads remove those that end
            process.send_signal(signal.SIGINT)
        raise
    pool.shutdown()
    return failed


def unfinished(runs: Sequence[Run]) -> list[Run]:
    """
    The runs that are not finished yet.

    Raises:
        ValueError: if one is there already with other arguments, or its `results.json` is none.
    """
    for run in runs:
        if run.finished:
            RunResults.read(run.folder)
        if run.folder.exists():
            require_same_run(run.folder, identity(parse_arguments(run.argv)))
    return [run for run in runs if not run.finished]


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them: by index, `GPU-uuid` or `MIG-uuid`."""
    count = torch.cuda.device_count()
    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    if not (count and names[0]):
        return [str(index) for index in range(count)]
    # CUDA ignores what follows a device that is not there. Of several MIG devices it gives a process only the first.
    return names if names[0].startswith("MIG-") else names[:count]


def _last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines() if log.exists() else []
    return "\n".join(f"    {line}" for line in lines[-5:])


def summarise(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """
    For each setting the UAR on test of every finished run, mean and sample standard deviation of it and of accuracy, weighted F1
    and the probe's UAR, the trained parameters and the seconds of an epoch. A setting without a finished run is left out.
    """
    table: list[dict[str, Any]] = []
    for _, group in itertools.groupby(runs, key=lambda run: sorted(run.setting.items())):
        planned = list(group)
        finished = [run for run in planned if run.finished]
        results = [RunResults.read(run.folder) for run in finished]
        if not finished:
            continue
        main = results[0].main_metric
        names = SUMMARISED_METRICS if main == "uar" else (main,)
        metrics = [{**{name: found.test[name] for name in names}, **_metric_of_probe(found)} for found in results]
        seconds = [found.training.seconds / found.training.epochs for found in results if found.training.epochs]
        shared = [found.shared_speakers() for found in results]
        table.append(
            {
                "setting": finished[0].setting,
                "metric": main,
                main: [found[main] for found in metrics],
                "runs": [
                    {"fold": run.fold, "seed": run.seed, **found} for run, found in zip(finished, metrics, strict=True)
                ],
                "missing": len(planned) - len(finished),
                **_spread([found[main] for found in metrics]),
                **{name: _spread([found[name] for found in metrics]) for name in metrics[0] if name != main},
                "parameters": asdict(results[0].parameters),
                "split": results[0].split["name"],
                # Of the run with most; 0 only if it is known of every run.
                "speakers_shared_by_train_and_test": max(filter(None, shared), default=None if None in shared else 0),
                "seconds_per_epoch": statistics.mean(seconds) if seconds else None,
            }
        )
    return table


def _metric_of_probe(results: RunResults) -> dict[str, float]:
    main = results.main_metric
    return {f"probe_{main}": results.probe["test"][main]} if results.probe else {}


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.mean(known) if known else None,
        "standard_deviation": statistics.stdev(known) if len(known) > 1 else None,
    }


def in_per_cent(value: float | None) -> str:
    """A metric as text; CCC is not defined where all labels are the same."""
    return "not defined" if value is None else f"{100 * value:.2f}"


def mean_and_deviation(spread: Mapping[str, Any]) -> str:
    """A mean and its standard deviation as text, in per cent."""
    deviation = spread["standard_deviation"]
    return in_per_cent(spread["mean"]) + (f" ± {in_per_cent(deviation)}" if deviation is not None else "")


def as_markdown(table: Sequence[dict[str, Any]]) -> str:
    """The summary as PEFT-SER's Table V gives it: UAR on test in per cent, mean ± standard deviation over folds and seeds."""
    keys = list(table[0]["setting"]) if table else []
    heading = (
        " or ".join(HEADINGS[metric] for metric in dict.fromkeys(row["metric"] for row in table)) or HEADINGS["uar"]
    )
    head = [*keys, heading, f"probe's {heading}", "runs", "trained parameters", "s per epoch"]
    rows = [
        [
            *(Path(row["setting"][key]).name for key in keys),
            mean_and_deviation(row),
            mean_and_deviation(row[f"probe_{row['metric']}"]),
            f"{len(row['runs'])}" + (f" ({row['missing']} missing)" if row["missing"] else ""),
            f"{row['parameters']['trainable']:,}",
            f"{row['seconds_per_epoch']:.1f}" if row["seconds_per_epoch"] is not None else "-",
        ]
        for row in table
    ]
    return table_in_markdown(head, rows)


def _slug(value: str) -> str:
    return re.sub(r"[^\w.+]+", "_", Path(value).name if "/" in value else value).strip("_")
