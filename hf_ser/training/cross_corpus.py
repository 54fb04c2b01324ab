"""Models that are trained on one corpus and tested on others: a matrix of UAR."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from hf_ser.corpora import CorpusError
from hf_ser.emotions import EmotionSelection
from hf_ser.rendering.formats import table_in_markdown
from hf_ser.rendering.headline import best_interval, best_unit
from hf_ser.results import RunResults
from hf_ser.training.cross_validation import Run
from hf_ser.wording import listed, per_cent

SUMMARY = "cross_corpus.json"


def shared_emotions(corpora: Sequence[Dataset], selection: EmotionSelection) -> list[str]:
    """
    The emotions that all corpora have, out of those selected.

    Raises:
        CorpusError: if they share fewer than two, or a corpus lacks one that was asked for.
    """
    found = {
        rows[0]["corpus"]: {label for word in rows.unique("emotion") if (label := selection.label(word))}
        for rows in corpora
    }
    shared = set.intersection(*found.values())
    missing = set(selection.names) - shared if selection.chosen else set()
    if len(shared) < 2 or missing:
        each = "; ".join(
            f"{corpus} has {listed(sorted(emotions)) or 'none of them'}" for corpus, emotions in found.items()
        )
        raise CorpusError(
            f"emotions: expected {listed(selection.names) if missing else 'two emotions at least'} in every corpus; {each}. "
            "Choose others, merge some (calm=neutral), or leave a corpus out."
        )
    return sorted(shared)


def settings(corpora: Sequence[str], *, leave_one_out: bool) -> list[list[str]]:
    """The corpora that train, of each run: one, or all but one."""
    return [[name for name in corpora if (name != one) == leave_one_out] for one in corpora]


def matrix(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """
    One row for each finished run: its training corpora (`train`), emotions, method, and by tested corpus (`test`) UAR, its 95 %
    interval and the number of clips. Training corpora are tested on speakers who were not in training, other corpora on all
    clips. `normalised` has the same for predictions that were normalised by speaker or corpus.
    """
    table = []
    for run in runs:
        if not run.finished:
            continue
        results = RunResults.read(run.folder)
        trained = results.split["train_corpora"]
        cells = {}
        for part, found in results.metrics.items():
            if part.startswith("test"):
                corpus = "+".join(trained) if part == "test" else part.removeprefix("test_")
                cells[corpus] = _uar(found)
                if normalised := found.get("normalised"):
                    cells[corpus]["normalised"] = {"by": normalised["by"], **_uar(normalised)}
        table.append({"train": trained, "emotions": results.emotions, "method": results.method, "test": cells})
    return table


def _uar(metrics: dict[str, Any]) -> dict[str, Any]:
    unit, edges = best_unit(metrics["intervals"], "uar"), best_interval(metrics["intervals"], "uar")
    return {"uar": metrics["uar"], "interval": edges and {"by": unit, "uar": edges}, "clips": metrics["clips"]}


def tested(table: Sequence[dict[str, Any]]) -> list[str]:
    """The corpora that are tested, in the order of the columns."""
    return list(dict.fromkeys(corpus for row in table for corpus in row["test"]))


def as_markdown(table: Sequence[dict[str, Any]]) -> str:
    """The matrix: a row for each run, a column for each corpus that is tested, and one for its normalised predictions."""
    corpora = tested(table)
    units = sorted(
        {found["normalised"]["by"] for row in table for found in row["test"].values() if "normalised" in found}
    )
    head = ["trained on", *(f"tested on {name}" for name in corpora)]
    head += [f"{name}, normalised by {unit}" for unit in units for name in corpora]
    lines = []
    for row in table:
        cells = [row["test"].get(corpus, {}) for corpus in corpora]
        normalised = [found.get("normalised", {}) for found in cells]
        cells += [found if found.get("by") == unit else {} for unit in units for found in normalised]
        lines.append(["+".join(row["train"]), *map(_cell, cells)])
    return table_in_markdown(head, lines)


def _cell(found: dict[str, Any]) -> str:
    if not found:
        return "-"
    uar = str(per_cent(found["uar"]))
    return (
        f"{uar} ({' to '.join(str(per_cent(edge)) for edge in found['interval']['uar'])})" if found["interval"] else uar
    )
