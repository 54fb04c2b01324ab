"""The clips of a report: those with a label that the model predicts, by default the test part of the model's own split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from hf_ser.audio import prepare
from hf_ser.clips import column, exclude_copies, exclude_unusable, names_of, require_few_excluded, with_truth
from hf_ser.corpora import CorpusError, Excluded, read_corpora
from hf_ser.emotions import DISTRIBUTION, EMOTION, EMOTIONS, EmotionSelection, require_range
from hf_ser.report.model import Model, ModelEmotions
from hf_ser.splits import Indices, SavedSplit, SplitError
from hf_ser.targets import Truth, agreement, truth_of
from hf_ser.wording import counted, listed

#: Parts that need no split.
WITHOUT_SPLIT = ("auto", "all")


@dataclass(frozen=True)
class ReportClips:
    """
    The clips of a report.

    Args:
        clips (`datasets.Dataset`): With `audio`, `clip` (the name), `label` (an index into the model's emotions, none for a clip
            that has another target alone), `speaker`, `gender`, `corpus`; the model's dimensions from 0 to 1 and
            `emotion_distribution`, as far as the corpora have them.
        part (`str`): A part of the model's own split that did not train it (`test`, `validation`, `test2`), or `all`.
        split (`str`, *optional*): The kind of that split.
        trained_on (`datasets.Dataset`, *optional*): The clips of the same corpora that the model was trained or selected
            on; `None` if they are unknown.
        excluded (`list[Excluded]`): Unusable clips, with the reasons.
        other_emotions (`dict[str, int]`): The number of clips of each emotion that the model lacks.
        agreement (`dict[str, dict[str, dict]]`): The agreement of the raters on these clips, see
            [`~hf_ser.targets.agreement`].
        notes (`list[str]`): Notes for the report.
        max_excluded (`float`): The share of a corpus that may be excluded.
    """

    clips: Dataset
    part: str
    split: str | None
    trained_on: Dataset | None
    excluded: list[Excluded]
    other_emotions: dict[str, int]
    agreement: dict[str, dict[str, dict[str, Any]]]
    notes: list[str]
    max_excluded: float


def load_clips(
    corpora: Sequence[str],
    model: Model,
    *,
    merges: Mapping[str, str] | None = None,
    part: str = "auto",
    dimension_range: Sequence[float] | None = None,
    max_excluded: float = 0.05,
) -> ReportClips:
    """
    Reads and prepares corpora, and selects the clips that a model can be evaluated on: those with an emotion or a dimension of
    the model; if it was trained on the raters' votes, those with votes, too.

    Args:
        corpora (`Sequence[str]`): As NAME=PATH, see `hf_ser.corpora.read_corpora`.
        model (`Model`): The model.
        merges (`dict[str, str]`, *optional*): Emotions of the corpora that count as another, by default those of the run.
        part (`str`, defaults to `"auto"`): `validation`, `test` or a further test part of the run's split; `all`: every clip,
            also those that the model was trained on; `auto`: the test part if the run's split has clips of these corpora, else
            all.
        dimension_range (`Sequence[float]`, *optional*): The lowest and highest value of dimensions in manifests and data sets, by
            default as in the run, else 0 and 1.
        max_excluded (`float`, defaults to 0.05): Fail if a larger share of a corpus cannot be used.

    Raises:
        CorpusError: if a corpus cannot be read, too many of its clips cannot be used, a dimension is outside its scale, or no
            clip has an emotion or a dimension of the model.
        SplitError: if the run has no split, or the corpora have no clip of the part.
    """
    known = [*WITHOUT_SPLIT, *(name for name in (model.split.parts if model.split else ()) if name != "train")]
    if part not in known and model.split:
        raise ValueError(f"part={part!r}: expected {listed(known, 'or')}")
    if not 0 <= max_excluded <= 1:
        raise ValueError(f"max_excluded={max_excluded}: expected a share from 0 to 1")
    require_range(dimension_range)
    read = read_corpora(corpora)
    everything, where = prepare(read), f"corpora={list(corpora)}"
    named = {rows[0]["corpus"]: rows.info.dataset_name for rows in read}
    emotions, dimensions, trained = model.emotions, model.dimensions, model.targets
    truth = _truth(everything, model, merges, named, dimension_range)
    rated = truth.has([*dimensions, *{DISTRIBUTION} & trained.keys()])
    usable, excluded = exclude_unusable(everything, bool, model.shortest, rated)  # of any emotion
    if not usable:
        raise CorpusError(
            f"{where}: none of {counted(len(everything), 'clip')} can be used, for instance {excluded[0]}"
        )
    taken = np.array(usable, dtype=np.int64)[(rated | truth.has([EMOTION]))[usable]]
    others = column(everything, "emotion").take(np.setdiff1d(usable, taken)).counts()
    if not truth.has([EMOTION, *dimensions])[taken].any():
        raise CorpusError(f"{where}: {_none_has(emotions, dimensions, others)}")
    rows = with_truth(everything, taken, truth.labels, emotions.names or EMOTIONS, truth.values).select(taken)

    own = _part(model.split, rows, part)
    # Only copies among the tested clips: a tested clip with the samples of one in training is leakage.
    clips, copies = exclude_copies(everything, taken[own.tested].tolist())
    excluded += [*own.copies, *copies]
    require_few_excluded(everything, excluded, max_excluded)
    notes = own.notes + _labels_missing(
        emotions, truth.labels[clips], {name: truth.values[name][clips] for name in dimensions}
    )
    if others:
        count = ", ".join(f"{number} {emotion}" for emotion, number in others.items())
        has_none = "the model has no such emotion" if emotions.names else f"they have no {listed(dimensions, 'or')}"
        notes.append(f"Left out, as {has_none}: {count}.")
    agreed = {
        corpus: {target: found for target, found in of.items() if target in (*dimensions, EMOTION)}
        for corpus, of in agreement(everything, np.array(clips), truth.votes).items()
    }
    return ReportClips(
        clips=rows.select(np.searchsorted(taken, clips)),
        part=own.name,
        split=own.split,
        trained_on=None if own.trained_on is None else rows.select(own.trained_on),
        excluded=excluded,
        other_emotions=others if emotions.names else {},
        agreement={corpus: of for corpus, of in agreed.items() if of},
        notes=notes,
        max_excluded=max_excluded,
    )


def _truth(
    rows: Dataset,
    model: Model,
    merges: Mapping[str, str] | None,
    corpora: Mapping[str, str],
    dimension_range: Sequence[float] | None,
) -> Truth:
    """The labels of all clips, with the arguments of the model's run: dimensions, and votes if they are of use."""
    names, results = model.emotions.names, model.results
    given = (results and results.identity) or {}
    merged = dict(results.merged_emotions if results and names else {}) if merges is None else dict(merges)
    if strangers := sorted(set(merged.values()) - set(names)):
        raise ValueError(
            f"emotions={merged}: the model does not have {strangers[0]!r}; it has {', '.join(names) or 'none'}"
        )
    truth = truth_of(
        rows,
        EmotionSelection(names, merged),
        [*model.dimensions, DISTRIBUTION],
        corpora,
        minimum_raters=given.get("minimum_raters", 1),
        vote_smoothing=given.get("vote_smoothing", 0.0),
        dimension_range=dimension_range or given.get("dimension_range"),
    )
    none = np.full(len(rows), np.nan)
    labels, values = truth.labels, {name: truth.values.get(name, none) for name in model.dimensions}
    # The votes of one rater are the label.
    if truth.votes is not None and (DISTRIBUTION in model.targets or truth.votes.raters.max(initial=0) > 1):
        values[DISTRIBUTION] = shares = truth.values[DISTRIBUTION]
        if EMOTION not in model.targets:  # as in training, the emotion that most raters named
            labels = np.where(np.isfinite(shares[:, 0]), shares.argmax(axis=1), -1)
    return truth._replace(labels=labels, values=values)


def _none_has(emotions: ModelEmotions, dimensions: Sequence[str], others: Mapping[str, int]) -> str:
    """The reason why no clip can be used for the report."""
    targets = [*([f"an emotion of the model ({', '.join(emotions.names)})"] if emotions.names else []), *dimensions]
    advice = (
        "Map the model's labels to emotions with label_map, or count an emotion of the corpora as another with emotions."
        if emotions.names
        else "Dimensions are columns of manifests and data sets; docs/corpora.md has the corpora with them."
    )
    return f"no clip has {listed(targets, 'or')}; found {', '.join(others) or 'other labels'}. {advice}"


def _labels_missing(
    emotions: ModelEmotions, labels: npt.NDArray[np.int64], values: Mapping[str, npt.NDArray[np.float64]]
) -> list[str]:
    """Notes on labels that no clip or only some clips have."""
    notes, present = [], set(labels.tolist()) - {-1}
    missing = [emotion for k, emotion in enumerate(emotions.names) if k not in present]
    if missing and present:
        notes.append(
            f"No clip is of {', '.join(missing)}, which the model may predict: UAR is over the other emotions."
        )
    numbers = {name: int(np.isfinite(of_clips).sum()) for name, of_clips in values.items()}
    if emotions.names:
        numbers["emotion"] = int((labels >= 0).sum())
    for name, number in numbers.items():
        if not number:
            notes.append(f"No clip has a label of {name}: its metrics are missing.")
        elif number < len(labels):
            notes.append(
                f"Of {counted(len(labels), 'clip')} {number:,} have a label of {name}: its metrics are of these."
            )
        if name in values and number and np.nanmax(values[name]) == np.nanmin(values[name]):
            notes.append(f"All clips with a label of {name} have the same: its CCC is undefined.")
    return notes


class _Part(NamedTuple):
    """The clips to test, and those that the model was trained or selected on, if they are known."""

    name: str
    split: str | None
    tested: Indices
    trained_on: Indices | None
    notes: list[str]
    copies: Sequence[Excluded] = ()


def _part(saved: SavedSplit | None, clips: Dataset, part: str) -> _Part:
    """
    The requested part, by the split of the model's own run if there is one; the kind of the split, if it has any of these clips;
    and the clips that the split lacks because they are copies, by the hash of their samples, of clips that it has.
    """
    everything = np.arange(len(clips))
    if saved is None:
        if part not in WITHOUT_SPLIT:
            raise SplitError(
                f"part={part!r}: the model has no splits.json, so its {part} part is unknown; use part='all'"
            )
        return _Part("all", None, everything, None,
                     ["The model has no splits.json: whether it was trained on these clips is unknown."])  # fmt: skip
    parts, missed = saved.find(clips)
    trained_on = np.concatenate([parts["train"], parts["validation"]])
    inside = set(np.concatenate(list(parts.values())).tolist())
    if part not in WITHOUT_SPLIT and not len(parts[part]):
        raise SplitError(
            f"part={part!r}: the corpora have no clip of the model's {part} part. Use the corpora that it was trained on, or "
            "part='all'."
        )
    if not inside:
        notes = [  # another reader names the same recordings otherwise
            "None of these clips is named in the model's splits.json; whether it was trained on the same recordings is "
            "unknown."
        ]
        return _Part("all", None, everything, trained_on, notes)
    if part == "auto" and not len(parts["test"]):
        raise SplitError(
            "part='auto': the corpora have clips that the model was trained on, and none that it was tested on; use part='all' "
            "for all of them"
        )
    kind, notes = str(saved.settings["made_as"]), []
    if missed:
        notes.append(f"Of the model's splits.json {counted(missed, 'clip')} cannot be found in these corpora.")
    if part == "all":
        if len(trained_on):
            notes.append("The model was trained on some of these clips: metrics on them say little.")
        return _Part("all", kind, everything, trained_on, notes)
    names, samples = names_of(clips), clips["samples_hash"][:]
    first_with = {samples[i]: names[i] for i in inside}
    copies = [Excluded(name, "duplicate", f"the same audio as {first_with[samples[i]]}")
              for i, name in enumerate(names) if i not in inside and samples[i] in first_with]  # fmt: skip
    if part == "validation":
        notes.append("These clips selected the model during its training: metrics on them are too good.")
        trained_on = parts["train"]
    elif part == "auto":
        part = "test"
        if others := len(clips) - len(inside) - len(copies):
            notes.append(
                f"Left out, as the model's splits.json lacks them: {counted(others, 'clip')} of these corpora."
            )
    return _Part(part, kind, parts[part], trained_on, notes, copies)
