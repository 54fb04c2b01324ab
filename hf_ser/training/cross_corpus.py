"""Models that are trained on one corpus and tested on others: a matrix of UAR."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from hf_ser.corpora import CorpusError
from hf_ser.emotions import EmotionSelection
from hf_ser.records import RESULTS
from hf_ser.rendering.headline import best_unit
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
            f"Choose "
            "others, merge some (calm=neutral), or leave a corpus out."
        )
    return sorted(shared)


def settings(corpora: Sequence[str], *, leave_one_out: bool) -> list[str]:
    """The corpora that train, of each run: one, or all but one."""
    if leave_one_out:
        return [" ".join(name for name in corpora if name != left) for left in corpora]
    return list(corpora)


def matrix(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """
    For each finished run the corpora that train (`train`), the emotions and the method, and for each corpus that is tested
    (`test`) UAR, its 95 % interval and the clips: of the training corpora themselves those of speakers who were not in
    training, of each other corpus all.
    """
    table = []
    for run in runs:
        if not (run.folder / RESULTS).exists():
            continue
        results = RunResults.read(run.folder)
        trained = run.setting["train_corpora"].split()
        cells = {}
        for part, found in results.metrics.items():
            if part.startswith("test"):
                unit = best_unit(found["intervals"])
                interval = {"by": unit, "uar": found["intervals"][unit]["uar"]}
                corpus = "+".join(trained) if part == "test" else part.removeprefix("test_")
                cells[corpus] = {"uar": found["uar"], "interval": interval, "clips": found["clips"]}
        table.append({"train": trained, "emotions": results.emotions, "method": results.method, "test": cells})
    return table


def as_markdown(table: Sequence[dict[str, Any]]) -> str:
    """The matrix: a row for each run, a column for each corpus that is tested."""
    columns = list(dict.fromkeys(corpus for row in table for corpus in row["test"]))
    lines = [["trained on", *(f"tested on {name}" for name in columns)], ["---"] * (len(columns) + 1)]
    for row in table:
        lines.append(["+".join(row["train"]), *(_cell(row["test"].get(corpus)) for corpus in columns)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    low, high = map(per_cent, found["interval"]["uar"])
    return f"{per_cent(found['uar'])} ({low} to {high})"
