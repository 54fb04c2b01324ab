"""The clips that a report is made on: those of the corpora that the model has not learned from, with its own emotions."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from hf_ser import records
from hf_ser.audio import prepare
from hf_ser.command_line import require_share
from hf_ser.corpora import CorpusError, SetAside, read_corpora
from hf_ser.emotions import EmotionSelection, canonical
from hf_ser.records import RESULTS, SPLITS
from hf_ser.splits import Clips, SavedSplit, Split, SplitError
from hf_ser.training.clips import report as report_set_aside
from hf_ser.training.clips import set_copies_aside, set_unusable_aside
from hf_ser.wording import counted

logger = logging.getLogger(__name__)

PARTS = ("auto", "test", "validation", "all")


@dataclass(frozen=True)
class ModelEmotions:
    """
    The outputs of a model, and the emotions that they stand for.

    Args:
        names (`tuple[str, ...]`): The emotions, in alphabetical order.
        of_output (`tuple[int, ...]`): For each of the model's outputs, in their order, the place of its emotion in `names`;
            several may share one.
        renamed (`dict[str, str]`): The outputs that are called otherwise than their emotion.
    """

    names: tuple[str, ...]
    of_output: tuple[int, ...]
    renamed: dict[str, str]

    @classmethod
    def of(cls, outputs: Sequence[str], label_map: Mapping[str, str] | None = None) -> "ModelEmotions":
        """
        Args:
            outputs (`Sequence[str]`): What the model calls its outputs.
            label_map (`dict[str, str]`, *optional*): Emotions for some of them: `{"LABEL_0": "neutral"}`. Common spellings
                (`hap`, `anger`) need none.

        Raises:
            ValueError: if `label_map` names an output that the model does not have, an output is called by its number alone,
                or all stand for one emotion.
        """
        given = dict(label_map or {})
        if unknown := sorted(set(given) - set(outputs)):
            raise ValueError(f"--label_map: the model has no {unknown[0]!r}; its labels are {', '.join(outputs)}")
        meant = [canonical(given.get(output, output)) for output in outputs]
        if nameless := [output for output, emotion in zip(outputs, meant, strict=True) if emotion.startswith("label_")]:
            raise ValueError(
                f"--label_map: the model calls an output {nameless[0]!r}, which is no emotion; say what its outputs mean, for "
                f"instance {nameless[0]}=neutral (all of them: {', '.join(outputs)})"
            )
        names = tuple(sorted(set(meant)))
        if len(names) < 2:
            raise ValueError(f"--label_map: all outputs stand for {names[0]}; at least two emotions are needed")
        renamed = {output: emotion for output, emotion in zip(outputs, meant, strict=True) if output != emotion}
        return cls(names, tuple(names.index(emotion) for emotion in meant), renamed)

    def probabilities(self, outputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """From `(clips, outputs)` to `(clips, emotions)`: outputs that share an emotion are added."""
        found = np.zeros((len(outputs), len(self.names)))
        for output, place in enumerate(self.of_output):
            found[:, place] += outputs[:, output]
        return found


@dataclass(frozen=True)
class ModelRecords:
    """
    What a run has left beside its model; empty for a model of somebody else.

    Args:
        results (`dict`): What `results.json` holds.
        split (`SavedSplit`, *optional*): What `splits.json` holds.
    """

    results: dict[str, Any] = field(default_factory=dict)
    split: SavedSplit | None = None

    @classmethod
    def read(cls, folder: Path | None) -> "ModelRecords":
        """
        Reads them from a run's folder; those of an `adapter/` are in the folder above.

        Raises:
            ValueError: if one of them is not as a run writes it.
        """
        if folder is None:
            return cls()
        run = records.run_of(folder)
        if run is None:
            return cls()
        split = run / SPLITS
        return cls(records.read(run / RESULTS), SavedSplit.read(split) if split.is_file() else None)


@dataclass(frozen=True)
class ReportClips:
    """
    The clips of a report.

    Args:
        clips (`datasets.Dataset`): Those that are tested, with `audio`, `clip` (the name), `speaker`, `gender`, `corpus`.
        labels (`np.ndarray` of shape `(clips,)`): Their emotions, places in the model's `names`.
        table (`Clips`): What is known of them.
        part (`str`): `test` or `validation` of the model's own split, or `all`.
        split (`str`, *optional*): The name of that split.
        learned (`datasets.Dataset`, *optional*): The clips of the same corpora that the model was trained or chosen on;
            `None` if it is not known which.
        set_aside (`list[SetAside]`): Those that cannot be used, and why.
        left_out (`dict[str, int]`): Clips of emotions that the model does not tell.
        notes (`list[str]`): What a reader must know.
        max_set_aside (`float`): The share of a corpus that may be unusable.
    """

    clips: Dataset
    labels: npt.NDArray[np.int64]
    table: Clips
    part: str
    split: str | None
    learned: Dataset | None
    set_aside: list[SetAside]
    left_out: dict[str, int]
    notes: list[str]
    max_set_aside: float


def load_clips(
    corpora: Sequence[str],
    emotions: ModelEmotions,
    brought: ModelRecords,
    *,
    merges: Mapping[str, str] | None = None,
    part: str = "auto",
    max_set_aside: float = 0.05,
    minimum_seconds: float = 0.0,
    workers: int | None = None,
) -> ReportClips:
    """
    Reads and prepares corpora, and takes the clips that the model can be tested on.

    Args:
        corpora (`Sequence[str]`): As NAME=PATH, see `hf_ser.corpora.read_corpora`.
        emotions (`ModelEmotions`): What the model tells apart.
        brought (`ModelRecords`): What its run has left.
        merges (`dict[str, str]`, *optional*): Emotions of the corpora that count as another, by default those of the run.
        part (`str`, defaults to `"auto"`): `test` or `validation` of the run's split; `all`: every clip, whether the model
            has learned it or not; `auto`: the test part if the run's split has clips of these corpora, else all.
        max_set_aside (`float`, defaults to 0.05): Stop if a larger share of a corpus cannot be used.
        minimum_seconds (`float`, defaults to 0): The shortest clip that the encoder takes.
        workers (`int`, *optional*): Processes that decode, by default one for each processor.

    Raises:
        CorpusError: if a corpus cannot be read, too many of its clips cannot be used, or no clip has an emotion of the model.
        SplitError: if a part is asked for, and the model brings no split or none of its clips is there.
    """
    if part not in PARTS:
        raise ValueError(f"--part: {part!r} is none of {', '.join(PARTS)}")
    require_share("max_set_aside", max_set_aside)
    merged = dict(merges if merges is not None else brought.results.get("merged_emotions") or {})
    if strangers := sorted(set(merged.values()) - set(emotions.names)):
        raise ValueError(
            f"--emotions: the model does not tell {strangers[0]!r}; what it tells is {', '.join(emotions.names)}"
        )
    selection = EmotionSelection(emotions.names, merged)
    everything = rows = prepare(read_corpora(corpora), workers=workers)
    usable, set_aside = set_unusable_aside(rows, bool, minimum_seconds)  # whatever the emotion, if there is one
    spoken = rows["emotion"][:]
    told = {i: label for i in usable if (label := selection.label(spoken[i])) is not None}
    left_out = dict(sorted(Counter(spoken[i] for i in usable if i not in told).items()))
    if not usable:
        raise CorpusError(f"--corpora: none of {counted(len(rows), 'clip')} can be used, for instance {set_aside[0]}")
    if not told:
        there = sorted({spoken[i] for i in usable})
        raise CorpusError(
            f"--corpora: no clip has an emotion that the model tells ({', '.join(emotions.names)}); there are "
            f"{', '.join(there) or 'no clips'}. Say what the model's labels mean with --label_map LABEL=EMOTION, or count an "
            "emotion as another with --emotions FROM=TO."
        )
    rows = rows.select(list(told))
    labels = np.array([emotions.names.index(label) for label in told.values()])
    table = Clips(rows["clip"][:], list(told.values()), rows["speaker"][:], rows["gender"][:], rows["corpus"][:],
                  rows["session"][:], rows["split"][:])  # fmt: skip

    split, notes, again = _own_split(brought, table, part, rows["samples_hash"][:])
    set_aside += again
    tested, learned, used, name = _choose(len(rows), split, part)
    if used == "validation":
        notes.append("These clips chose the model among those of its training: figures on them are too good.")
    elif used == "all" and learned is not None and len(learned):
        notes.append("Some of these clips are clips that the model has learned from: figures on them say little.")
    # Within what is tested alone: that a clip has the samples of one in training is what leakage is about.
    once, copies = set_copies_aside(rows, tested.tolist())
    tested = np.array(once, dtype=np.int64)
    set_aside += copies
    report_set_aside(everything, set_aside, max_set_aside)
    if missing := [emotion for k, emotion in enumerate(emotions.names) if k not in set(labels[tested].tolist())]:
        notes.append(f"No clip is of {', '.join(missing)}, which the model may answer: UAR is over the other emotions.")
    if left_out:
        count = ", ".join(f"{number} {emotion}" for emotion, number in left_out.items())
        notes.append(f"Left out, as the model has no such emotion: {count}.")
    return ReportClips(
        clips=rows.select(tested),
        labels=labels[tested],
        table=table.of(tested),
        part=used,
        split=name,
        learned=None if learned is None else rows.select(learned),
        set_aside=set_aside,
        left_out=left_out,
        notes=notes,
        max_set_aside=max_set_aside,
    )


def _choose(
    number: int, split: Split | None, part: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None, str, str | None]:
    """
    Of `number` clips those that are tested, and those that the model has learned from, `None` if it is not known; what part of
    the model's own split the former are, or `all`; and that split's name, if its clips are there.
    """
    everything = np.arange(number)
    if split is None:
        return everything, None, "all", None
    learned = np.concatenate([split.parts["train"], split.parts["validation"]])
    if not len(learned) and not len(split.parts["test"]):
        return everything, learned, "all", None  # a split of other clips
    name = str(split.settings.get("made_as") or split.name)
    if part == "all":
        return everything, learned, "all", name
    if part == "validation":
        return split.parts["validation"], split.parts["train"], "validation", name
    return split.parts["test"], learned, "test", name


def _own_split(
    brought: ModelRecords, table: Clips, part: str, samples: Sequence[str]
) -> tuple[Split | None, list[str], list[SetAside]]:
    """
    The split of the model's run, as far as its clips are there; what is to be said of it; and the clips that it does not have
    because they are copies, by the hash of their `samples`, of some that it has.
    """
    if brought.split is None:
        if part in ("test", "validation"):
            raise SplitError(
                f"--part: the model brings no splits.json, so that its {part} part is not known; use --part all"
            )
        return None, ["The model brings no splits.json: whether it has learned from these clips is not known."], []
    parts, missed = brought.split.find(table)
    known = sum(len(rows) for rows in parts.values())
    split = Split("file", brought.split.settings, parts)
    if part in ("test", "validation") and not len(parts[part]):
        raise SplitError(
            f"--part: no clip of the model's {part} part is in the corpora. Name the corpora that it was trained on, or use "
            "--part all."
        )
    if not known:
        return split, ["None of these clips is in the model's splits.json: it was trained on others."], []
    if part == "auto" and not len(parts["test"]):
        raise SplitError(
            "--part: the corpora have clips that the model has learned from, and none that it was tested on; use --part all to "
            "test it on all of them"
        )
    notes = []
    if missed:
        notes.append(f"Of the model's splits.json {counted(missed, 'clip')} cannot be found in these corpora.")
    copies: list[SetAside] = []
    if part != "all":
        inside = {i for rows in parts.values() for i in rows.tolist()}
        first_with = {samples[i]: table.names[i] for i in inside}
        copies = [SetAside(name, "duplicate", f"the same audio as {first_with[samples[i]]}")
                  for i, name in enumerate(table.names) if i not in inside and samples[i] in first_with]  # fmt: skip
    if part == "auto" and (others := len(table) - known - len(copies)):
        notes.append(
            f"Left out, as the model's splits.json does not have them: {counted(others, 'clip')} of these corpora."
        )
    return split, notes, copies
