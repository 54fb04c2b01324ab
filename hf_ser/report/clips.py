"""The clips of a report: those with an emotion of the model, by default the test part of the model's own split."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from hf_ser.audio import prepare
from hf_ser.clips import exclude_copies, exclude_unusable, names_of, with_labels
from hf_ser.clips import report as report_excluded
from hf_ser.corpora import CorpusError, Excluded, read_corpora
from hf_ser.emotions import EmotionSelection
from hf_ser.report.model import ModelEmotions, ModelRecords
from hf_ser.splits import Indices, SavedSplit, SplitError
from hf_ser.wording import counted, listed

#: Parts that need no split.
WITHOUT_SPLIT = ("auto", "all")


@dataclass(frozen=True)
class ReportClips:
    """
    The clips of a report.

    Args:
        clips (`datasets.Dataset`): With `audio`, `clip` (the name), `label` (an index into the model's `names`), `speaker`,
            `gender`, `corpus`.
        part (`str`): A part of the model's own split that did not train it (`test`, `validation`, `test2`), or `all`.
        split (`str`, *optional*): The kind of that split.
        trained_on (`datasets.Dataset`, *optional*): The clips of the same corpora that the model was trained or selected
            on; `None` if they are unknown.
        excluded (`list[Excluded]`): Clips that cannot be used, and why.
        other_emotions (`dict[str, int]`): Numbers of clips of emotions that the model lacks.
        notes (`list[str]`): Notes for the report.
        max_excluded (`float`): The share of a corpus that may be excluded.
    """

    clips: Dataset
    part: str
    split: str | None
    trained_on: Dataset | None
    excluded: list[Excluded]
    other_emotions: dict[str, int]
    notes: list[str]
    max_excluded: float

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The label of each clip, `(clips,)`."""
        return np.array(self.clips["label"][:], dtype=np.int64)


def load_clips(
    corpora: Sequence[str],
    emotions: ModelEmotions,
    run: ModelRecords,
    *,
    merges: Mapping[str, str] | None = None,
    part: str = "auto",
    max_excluded: float = 0.05,
    minimum_seconds: float = 0.0,
) -> ReportClips:
    """
    Reads and prepares corpora, and selects the clips that the model can be evaluated on.

    Args:
        corpora (`Sequence[str]`): As NAME=PATH, see `hf_ser.corpora.read_corpora`.
        emotions (`ModelEmotions`): The emotions of the model.
        run (`ModelRecords`): The records of its run.
        merges (`dict[str, str]`, *optional*): Emotions of the corpora that count as another, by default those of the run.
        part (`str`, defaults to `"auto"`): `validation`, `test` or a further test part of the run's split; `all`: every clip,
            whether the model was trained on it or not; `auto`: the test part if the run's split has clips of these corpora, else
            all.
        max_excluded (`float`, defaults to 0.05): Fail if a larger share of a corpus cannot be used.
        minimum_seconds (`float`, defaults to 0): The shortest clip that the encoder takes, in seconds.

    Raises:
        CorpusError: if a corpus cannot be read, too many of its clips cannot be used, or no clip has an emotion of the model.
        SplitError: if the run has no split, or the part that is asked for has no clip here.
    """
    known = [*WITHOUT_SPLIT, *(name for name in (run.split.parts if run.split else ()) if name != "train")]
    if part not in known and run.split:
        raise ValueError(f"part={part!r}: expected {listed(known, 'or')}")
    if not 0 <= max_excluded <= 1:
        raise ValueError(f"max_excluded={max_excluded}: expected a share from 0 to 1")
    merged = dict(merges if merges is not None else run.results.merged_emotions if run.results else {})
    names = ", ".join(emotions.names)
    if strangers := sorted(set(merged.values()) - set(emotions.names)):
        raise ValueError(f"emotions={merged}: the model does not have {strangers[0]!r}; it has {names}")
    selection = EmotionSelection(emotions.names, merged)
    everything = prepare(read_corpora(corpora))
    usable, excluded = exclude_unusable(everything, bool, minimum_seconds)  # of any emotion
    spoken = everything["emotion"][:]
    labelled = {i: label for i in usable if (label := selection.label(spoken[i])) is not None}
    other_emotions = dict(sorted(Counter(spoken[i] for i in usable if i not in labelled).items()))
    if not usable:
        raise CorpusError(
            f"corpora={list(corpora)}: none of {counted(len(everything), 'clip')} can be used, for instance {excluded[0]}"
        )
    if not labelled:
        raise CorpusError(
            f"corpora={list(corpora)}: no clip has an emotion of the model ({names}); found {', '.join(other_emotions)}. Map the "
            "model's labels to emotions with label_map, or count an emotion of the corpora as another with emotions."
        )
    taken = np.array(list(labelled), dtype=np.int64)
    labels = np.array([emotions.names.index(label) for label in labelled.values()])
    rows = with_labels(everything, taken, labels, emotions.names).select(taken)

    split: str | None = None
    copies: list[Excluded] = []
    if run.split is not None:
        split, tested, trained_on, used, notes, copies = _own_split(run.split, rows, part)
    elif part not in WITHOUT_SPLIT:
        raise SplitError(f"part={part!r}: the model has no splits.json, so its {part} part is unknown; use part='all'")
    else:
        tested, trained_on, used = np.arange(len(rows)), None, "all"
        notes = ["The model has no splits.json: whether it was trained on these clips is unknown."]
    # Copies among the tested clips only: a tested clip with the samples of one in training is leakage.
    once, more_copies = exclude_copies(rows, tested.tolist())
    excluded += [*copies, *more_copies]
    report_excluded(everything, excluded, max_excluded)
    if missing := [emotion for k, emotion in enumerate(emotions.names) if k not in set(labels[once].tolist())]:
        notes.append(
            f"No clip is of {', '.join(missing)}, which the model may predict: UAR is over the other emotions."
        )
    if other_emotions:
        count = ", ".join(f"{number} {emotion}" for emotion, number in other_emotions.items())
        notes.append(f"Left out, as the model has no such emotion: {count}.")
    return ReportClips(
        clips=rows.select(once),
        part=used,
        split=split,
        trained_on=None if trained_on is None else rows.select(trained_on),
        excluded=excluded,
        other_emotions=other_emotions,
        notes=notes,
        max_excluded=max_excluded,
    )


def _own_split(
    saved: SavedSplit, clips: Dataset, part: str
) -> tuple[str | None, Indices, Indices, str, list[str], list[Excluded]]:
    """
    By the split of the model's own run: its kind, if it has any of these clips; the clips to test, and those that the model was
    trained or selected on; the part used; notes; and the clips that the split lacks because they are copies, by the hash of their
    samples, of clips that it has.
    """
    parts, missed = saved.find(clips)
    train, validation, test = (parts[name] for name in ("train", "validation", "test"))
    everything, trained_on = np.arange(len(clips)), np.concatenate([train, validation])
    inside = set(np.concatenate(list(parts.values())).tolist())
    kind = str(saved.settings["made_as"]) if inside else None
    if part not in WITHOUT_SPLIT and not len(parts[part]):
        raise SplitError(
            f"part={part!r}: the corpora have no clip of the model's {part} part. Use the corpora that it was trained on, or "
            "part='all'."
        )
    if not inside:
        notes = ["None of these clips is in the model's splits.json: it was trained on others."]
        return kind, everything, trained_on, "all", notes, []
    if part == "auto" and not len(test):
        raise SplitError(
            "part='auto': the corpora have clips that the model was trained on, and none that it was tested on; use part='all' "
            "for all of them"
        )
    notes = []
    if missed:
        notes.append(f"Of the model's splits.json {counted(missed, 'clip')} cannot be found in these corpora.")
    if part == "all":
        if len(trained_on):
            notes.append("The model was trained on some of these clips: metrics on them say little.")
        return kind, everything, trained_on, "all", notes, []
    names, samples = names_of(clips), clips["samples_hash"][:]
    first_with = {samples[i]: names[i] for i in inside}
    copies = [Excluded(name, "duplicate", f"the same audio as {first_with[samples[i]]}")
              for i, name in enumerate(names) if i not in inside and samples[i] in first_with]  # fmt: skip
    if part == "validation":
        notes.append("These clips selected the model during its training: metrics on them are too good.")
        return kind, validation, train, "validation", notes, copies
    if part == "auto" and (others := len(clips) - len(inside) - len(copies)):
        notes.append(f"Left out, as the model's splits.json lacks them: {counted(others, 'clip')} of these corpora.")
    used = "test" if part == "auto" else part
    return kind, parts[used], trained_on, used, notes, copies
