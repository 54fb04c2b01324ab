"""A table of results, filled from finished runs."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_ser.papers.experiments import CELLS, Cell, Experiment, experiments_of, of_reports
from hf_ser.papers.runs import Run, deviations, in_paper_split, misfits, split_label
from hf_ser.papers.tables import Ours

#: How the line of all corpora together begins.
TOGETHER = "ours, mean of all"


@dataclass(frozen=True)
class Filled:
    """
    A table of results.

    Args:
        ours (`Ours`): Our figures.
        used (`set[Path]`): The folders of the runs that they are made of.
        refused (`dict[Path, list[str]]`): For the folder of every other run why it is none of them.
        finished (`dict[str, dict[str, int]]`): By the folder of an experiment, and by the split in words, how many of its folds
            have a finished run that was trained by its recipe; of a split without folds how many runs there are.
        unreported (`dict[str, list[Path]]`): By the folder of an experiment its runs by its recipe and on its split that have no
            report.
    """

    ours: Ours
    used: set[Path]
    refused: dict[Path, list[str]]
    finished: dict[str, dict[str, int]]
    unreported: dict[str, list[Path]]


def fill(table: str, runs: Sequence[Run], recipes: Path, models: Mapping[str, str]) -> Filled:
    """
    Fills a table: runs with different splits, or trained otherwise than by the recipe, stand in lines of their own that say so.

    Args:
        table (`str`): The table, one of `CELLS`.
        runs (`Sequence[Run]`): All finished runs.
        recipes (`Path`): The folder of the recipes.
        models (`dict[str, str]`): Folders of models by their names on the Hub, for which they stand.
    """
    ours = Ours()
    used: set[Path] = set()
    refused: dict[Path, list[str]] = {}
    cells = CELLS[table]
    groups: dict[str, dict[str, dict[tuple[object, ...], Run]]] = {}
    experiments = experiments_of(table)
    for experiment in experiments:
        groups[experiment.folder] = {}
        for run in runs:
            why = misfits(run, experiment, models)
            if why:
                refused[run.folder] = min(refused.get(run.folder, why), why, key=len)  # those of the nearest experiment
                continue
            label = _label(run, experiment, recipes)
            same = groups[experiment.folder].setdefault(label, {}).setdefault(run.place, run)
            used.add(run.folder)
            if same is not run:
                ours.notes.append(f"{run.folder} is the same fold and seed as {same.folder}, and is not counted.")
    for cell in cells:
        means: list[float] = []
        for name, experiment in cell.experiments.items():
            for label, by_place in groups[experiment.folder].items():
                figures = _by_fold(by_place.values(), cell)
                if not figures:
                    continue
                line = f"ours, {name}, {label}" if name else f"ours, {label}"
                ours.lines.setdefault(line, {})[cell.row, cell.column] = _cell(
                    cell, figures, _incomplete(list(by_place.values()), len(figures), experiment)
                )
                if label == _as_in_paper(by_place.values(), experiment) and len(figures) >= experiment.runs:
                    means.append(statistics.mean(figures))
        if len(means) == len(cell.experiments) > 1:
            line = f"{TOGETHER}, each on its paper's split"
            ours.lines.setdefault(line, {})[cell.row, cell.column] = _cell(cell, means, "")
    ours.lines = dict(sorted(ours.lines.items(), key=lambda item: not item[0].startswith(TOGETHER)))
    if of_reports(table) and (without := sum(not run.report for run in runs if run.folder in used)):
        ours.missing.append(
            f"{without} of the runs have no report.json beside their results.json; --run makes it, with scripts/evaluate.py"
        )
    return Filled(
        ours,
        used,
        {folder: why for folder, why in refused.items() if folder not in used},
        {
            folder: {label: len({run.fold for run in places.values()}) for label, places in labels.items()}
            for folder, labels in groups.items()
        },
        {
            experiment.folder: [
                run.folder
                for run in groups[experiment.folder].get(split_label(experiment.split), {}).values()
                if run.report is None
            ]
            for experiment in experiments
        },
    )


def _by_fold(runs: Iterable[Run], cell: Cell) -> list[float]:
    """A figure for each fold: the mean of its seeds."""
    found: dict[Any, list[float]] = {}
    for run in runs:
        if (value := figure(run, cell)) is not None:
            found.setdefault(run.fold, []).append(value)
    return [statistics.mean(values) for values in found.values()]


def figure(run: Run, cell: Cell) -> float | None:
    """
    A run's figure for a cell, between 0 and 1, `None` where the run has none: no report, or no clip of the emotion in test.
    """
    place = cell.figure.split("/")
    if place[0] == "confusion":
        emotions = run.results["emotions"]
        row = run.results["metrics"]["test"]["confusion_matrix"][emotions.index(place[1])]
        return row[emotions.index(place[2])] / sum(row) if sum(row) else None
    found: Any = {"report": run.report} if place[0] == "report" else run.results
    for key in place:
        found = (found or {}).get(key)
    return None if found is None else float(found)


def _label(run: Run, experiment: Experiment, recipes: Path) -> str:
    return ", ".join([split_label(run.results["split"]), *deviations(run, experiment, recipes)])


def _as_in_paper(runs: Iterable[Run], experiment: Experiment) -> str | None:
    """The label of runs that were split as in the paper and trained by the recipe, `None` if these were not split so."""
    if not all(in_paper_split(run, experiment) for run in runs):
        return None
    return split_label(experiment.split)


def _incomplete(runs: Sequence[Run], figures: int, experiment: Experiment) -> str:
    """How many of the folds are there, if not all."""
    expected = experiment.runs if in_paper_split(runs[0], experiment) else runs[0].results["split"].get("folds", 1)
    return "" if figures >= expected else f" ({figures} of {expected})"


def _cell(cell: Cell, figures: Sequence[float], incomplete: str) -> str:
    scale, digits = (100, 2) if cell.percent else (1, 4)
    text = f"{scale * statistics.mean(figures):.{digits}f}"
    if len(figures) > 1 and not cell.figure.startswith("confusion"):
        text += f" ± {scale * statistics.stdev(figures):.{digits}f}"
    return text + incomplete
