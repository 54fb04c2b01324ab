"""
What a model predicts of a clip: one emotion, the distribution over emotions, arousal, valence and dominance. From the corpora's
judgements of raters to the clips' columns, and from these to a model's outputs.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Dataset

from hf_ser.corpora import CORPORA, CorpusError, entry_of
from hf_ser.corpora.columns import Words, arrow_column
from hf_ser.emotions import DIMENSIONS, DISTRIBUTION, EMOTION, EmotionSelection, parse_targets

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]

#: For each dimension the lowest and highest value of a corpus' scale.
Ranges = dict[str, list[float]]


class Votes(NamedTuple):
    """
    The votes for each clip.

    Args:
        counts (`np.ndarray` of shape `(clips, emotions)`): Votes for each of the run's emotions, in parts where a rater named
            several.
        raters (`np.ndarray` of shape `(clips,)`): Raters who named one of the run's emotions.
        chosen (`np.ndarray` of shape `(clips, emotions + 1)`): Raters who chose each emotion and no other; the last are all
            emotions that are none of the run's.
    """

    counts: Floats
    raters: Counts
    chosen: Counts


class Truth(NamedTuple):
    """
    The true labels of clips.

    Args:
        labels (`np.ndarray` of shape `(clips,)`): The index of each clip's emotion among those of the run, -1 for no such
            emotion.
        values (`dict[str, np.ndarray]`): The dimensions that some clips have, `(clips,)` from 0 to 1, and `emotion_distribution`,
            `(clips, emotions)`; NaN where a clip has none.
        votes (`Votes`, *optional*): The raters' votes.
        ranges (`dict[str, Ranges]`): The scale of each corpus.
    """

    labels: Counts
    values: dict[str, Floats]
    votes: Votes | None
    ranges: dict[str, Ranges]

    def has(self, targets: Collection[str]) -> npt.NDArray[np.bool_]:
        """Whether each clip has one of the targets, `(clips,)`."""
        found = (self.labels >= 0) & (EMOTION in targets)
        for name in {*targets} & {*self.values}:
            found |= ~np.isnan(self.values[name]).reshape(len(found), -1).any(axis=1)
        return found


def truth_of(
    rows: Dataset,
    selection: EmotionSelection,
    targets: Collection[str],
    corpora: Mapping[str, str],
    *,
    minimum_raters: int = 1,
    vote_smoothing: float = 0.0,
    dimension_range: Sequence[float] | None = None,
) -> Truth:
    """
    The labels of clips.

    Args:
        rows (`datasets.Dataset`): Clips as `hf_ser.corpora.read` returns them.
        selection (`EmotionSelection`): The emotions of the run.
        targets (`Collection[str]`): Some of `hf_ser.emotions.TARGETS`.
        corpora (`dict[str, str]`): The `NAME=PATH` that each corpus is read from; dimensions of others are from 0 to 1.
        minimum_raters, vote_smoothing, dimension_range: See [`~hf_ser.clips.load_corpora`].

    Raises:
        CorpusError: if a dimension among the targets is outside its scale, or a distribution does not add up to 1.
    """
    emotions = Words.of(arrow_column(rows, "emotion"))
    labels = Words(emotions.codes, [selection.label(word) or "" for word in emotions.words]).places(selection.names)
    entries = {corpus: entry_of(specification) for corpus, specification in corpora.items()}
    scale = list(map(float, dimension_range or (0, 1)))  # of manifests and data sets
    ranges = {name: entry.dimensions if entry else dict.fromkeys(DIMENSIONS, scale) for name, entry in entries.items()}
    # Users cannot correct a table that comes with a corpus' release.
    released = {corpus for corpus, specification in corpora.items() if specification.partition("=")[0] in CORPORA}
    values = scaled_dimensions(rows, ranges, targets, released)
    votes = count_votes(rows, selection) if selection.names and "votes" in rows.column_names else None
    if DISTRIBUTION in rows.column_names:
        values[DISTRIBUTION] = given_distributions(rows, len(selection.names))
    elif votes is not None and DISTRIBUTION in targets:
        values[DISTRIBUTION] = distributions(votes, minimum_raters, vote_smoothing)
    return Truth(labels, values, votes, ranges)


def scaled_dimensions(
    rows: Dataset, ranges: Mapping[str, Ranges], required: Collection[str], released: Collection[str]
) -> dict[str, Floats]:
    """
    The dimensions that some clips have, `(clips,)` from 0 to 1, NaN where a clip has none.

    Raises:
        CorpusError: if a value of a `required` dimension is outside the scale. In `released` corpora the clip has none then.
    """
    corpora, found = Words.of(arrow_column(rows, "corpus")), {}
    for name in DIMENSIONS:
        if name not in rows.column_names:
            continue
        values = arrow_column(rows, name).to_numpy(zero_copy_only=False).astype(np.float64)
        scales = np.array([ranges.get(str(corpus), {}).get(name, [0.0, 1.0]) for corpus in corpora.words])
        low, high = scales[corpora.codes].T
        scaled = (values - low) / (high - low)
        outside = (scaled < -1e-6) | (scaled > 1 + 1e-6)
        for code in np.unique(corpora.codes[outside]):
            corpus, mine = corpora.words[code], np.flatnonzero(outside & (corpora.codes == code))
            clip, value, (least, most) = rows[int(mine[0])]["clip"], values[mine[0]], scales[code]
            if name in required and corpus not in released:
                raise CorpusError(
                    f"{clip}: {name}: found {value:g}, expected {least:g} to {most:g}; give the lowest and the highest value of "
                    "the scale as dimension_range"
                )
            logger.warning(
                "%s: %d clips have no %s, as theirs is outside %g to %g, for instance %s (%g)",
                corpus, len(mine), name, least, most, clip, value,
            )  # fmt: skip
        found[name] = np.where(outside, np.nan, scaled.clip(0, 1))
    return found


def count_votes(rows: Dataset, selection: EmotionSelection) -> Votes:
    """The votes for the emotions of a run, those for merged ones included."""
    lists = arrow_column(rows, "votes")
    clip, votes = _flat(lists)
    words = Words.of(votes)
    place = {name: k for k, name in enumerate(selection.names)}
    share = np.zeros((len(words.words), len(place) + 1))  # of each word's vote
    for k, word in enumerate(words.words):
        named = [place.get(selection.label(emotion) or "", len(place)) for emotion in word.split("+")]
        np.add.at(share[k], named, 1)
        share[k] /= len(named)  # six sixths are less than 1
    chosen = np.zeros((len(rows), len(place) + 1), dtype=np.int64)
    counts = np.zeros(chosen.shape)
    np.add.at(counts, clip, share[words.codes])
    np.add.at(chosen, clip, share[words.codes] == 1)
    among = share[words.codes, :-1].any(axis=1)
    return Votes(counts[:, :-1], np.bincount(clip[among], minlength=len(rows)), chosen)


def distributions(votes: Votes, minimum_raters: int, smoothing: float) -> Floats:
    """
    The votes for each clip as shares of the emotions, `(clips, emotions)`; NaN where fewer than `minimum_raters` named one of
    them. `smoothing` is added to each emotion's count.
    """
    enough = votes.raters >= max(minimum_raters, 1)
    counts = np.where(enough[:, None], votes.counts + smoothing, np.nan)
    return counts / counts.sum(axis=1, keepdims=True)


def given_distributions(rows: Dataset, emotions: int) -> Floats:
    """
    The column `emotion_distribution` of a data set, `(clips, emotions)`; NaN where a clip has none.

    Raises:
        CorpusError: if one is not a share for each emotion, 1 in all.
    """
    shares = np.full((len(rows), emotions), np.nan)
    for i, given in enumerate(rows["emotion_distribution"][:]):
        if given is None:
            continue
        if len(given) != emotions or None in given or min(given, default=0) < 0 or abs(sum(given) - 1) > 1e-3:
            raise CorpusError(
                f"{rows[i]['clip']}: emotion_distribution: found {given}, expected a share for each of the {emotions} "
                "emotions of label, 1 in all"
            )
        shares[i] = np.array(given) / sum(given)
    return shares


def shares_of(shares: Floats, names: Sequence[str], present: Sequence[str]) -> Floats:
    """The shares of the emotions `present` among them; NaN where a clip has none."""
    kept = shares[:, [names.index(name) for name in present]]
    total = kept.sum(axis=1, keepdims=True)
    return kept / np.where(total == 0, np.nan, total)


def check_targets(values: Mapping[str, Floats], targets: Collection[str]) -> None:
    """
    Raises:
        CorpusError: if no clip has one of the targets. The log has a warning if a dimension is the same for all clips.
    """
    for name in [name for name in targets if name != EMOTION]:
        known = values.get(name, np.empty(0))
        known = known[~np.isnan(known)]
        if not len(known):
            raise lacking(name)
        if name in DIMENSIONS and np.ptp(known) == 0:
            logger.warning("%s: all clips have the same value, so that metrics of it are undefined", name)


def lacking(target: str) -> CorpusError:
    """The error for a target, other than the emotion, that no clip has."""
    dimension = target in DIMENSIONS
    with_it = [
        corpus
        for corpus, entry in CORPORA.items()
        if (target in entry.dimensions if dimension else any(table.raters for table in entry.tables))
    ]
    column = target if dimension else "votes, of minimum_raters at least"
    return CorpusError(
        f"targets: no clip has {target}; corpora with it are {', '.join(with_it)}, where their tables are complete, and "
        f"manifests and data sets with a column {column}"
    )


def optional(values: Floats) -> pa.Array:
    """A column of numbers `(clips,)` or of lists `(clips, emotions)`; none in place of NaN."""
    if values.ndim == 1:
        return pa.array(values, pa.float32(), from_pandas=True)
    rows = values.tolist()
    return pa.array([row if row[0] == row[0] else None for row in rows], pa.list_(pa.float32()))


def agreement(rows: Dataset, taken: npt.NDArray[np.int64], votes: Votes | None) -> dict[str, dict[str, dict[str, Any]]]:
    """
    How far the raters of each corpus agree on the clips `taken`, by corpus and by `emotion` or dimension: Krippendorff's `alpha`,
    none where it is undefined; `raters`, their mean number for a rated clip; and `clips`, the number of rated clips.

    For emotions alpha is nominal: all emotions that are none of the run's count as one, and raters who named several do not
    count. For dimensions it is that of interval data.
    """
    corpora = Words.of(arrow_column(rows, "corpus"))
    found: dict[str, dict[str, dict[str, Any]]] = {}
    counted: dict[str, tuple[Counts, Floats | None]] = {}
    if votes is not None:
        counted["emotion"] = votes.chosen, None
    for name in DIMENSIONS:
        if (column := f"{name}_ratings") in rows.column_names:
            clip, ratings = _flat(arrow_column(rows, column))
            values, place = np.unique(ratings.to_numpy(zero_copy_only=False).astype(np.float64), return_inverse=True)
            counts = np.zeros((len(rows), len(values)), dtype=np.int64)
            np.add.at(counts, (clip, place), 1)
            counted[name] = counts, values
    for code, corpus in enumerate(corpora.words):
        mine = taken[corpora.codes[taken] == code]
        for name, (counts, scale) in counted.items():
            of_clips = counts[mine].sum(axis=1)
            if not of_clips.any():
                continue
            found.setdefault(corpus, {})[name] = {
                "alpha": krippendorff_alpha(counts[mine], scale),
                "raters": float(of_clips[of_clips > 0].mean()),
                "clips": int((of_clips > 0).sum()),
            }
    return found


def krippendorff_alpha(counts: Counts, scale: Floats | None = None) -> float | None:
    """
    Krippendorff's alpha (Krippendorff 2004, Content Analysis, chapter 11): 1 less the disagreement within clips over that of
    any two ratings.

    Args:
        counts (`np.ndarray` of shape `(clips, values)`): How many raters gave each value. Clips of one rater do not count.
        scale (`np.ndarray` of shape `(values,)`, *optional*): The values, for the interval level; without them the nominal one.

    Returns:
        At most 1; `None` where nobody could disagree.
    """

    def disagreement(counts: Floats) -> Floats:
        """The sum over all pairs of ratings, of 1 where they differ, or of the squared difference."""
        if scale is None:
            return counts.sum(axis=-1) ** 2 - (counts**2).sum(axis=-1)
        first, second = (counts * scale).sum(axis=-1), (counts * scale**2).sum(axis=-1)
        return 2 * (counts.sum(axis=-1) * second - first**2)

    counted = counts[counts.sum(axis=1) > 1].astype(np.float64)
    each, whole = counted.sum(axis=1), counted.sum(axis=0)
    expected = disagreement(whole) / (whole.sum() - 1) if len(counted) else 0.0
    return float(1 - (disagreement(counted) / (each - 1)).sum() / expected) if expected > 0 else None


def _flat(lists: Any) -> tuple[npt.NDArray[np.int64], Any]:
    """The values of a column of lists, one after the other, and the clip of each."""
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(lists)), lengths), lists.flatten()


@dataclass(frozen=True)
class Targets:
    """
    The outputs of a model: a logit for each emotion, then a value for each dimension.

    Args:
        emotions (`tuple[str, ...]`): The emotions in the order of the labels; none for a model of dimensions alone.
        weights (`dict[str, float]`): The weight of each target's loss, by its name; see [`~hf_ser.emotions.parse_targets`].
    """

    emotions: tuple[str, ...]
    weights: Mapping[str, float]

    @classmethod
    def of(cls, clips: Dataset, words: Sequence[str] = (EMOTION,)) -> "Targets":
        """
        The targets `words` of clips.

        Raises:
            CorpusError: if no clip has one of them, or all clips have the same emotion.
            ValueError: see [`~hf_ser.emotions.parse_targets`].
        """
        weights = parse_targets(words)
        targets = cls(emotions_of(clips) if {EMOTION, DISTRIBUTION} & weights.keys() else (), weights)
        if len(targets.emotions) == 1:
            raise CorpusError(f"emotions: found clips of {targets.emotions[0]} alone, expected two emotions at least")
        for name in weights:
            known = name in clips.column_names and arrow_column(clips, name).null_count < len(clips)
            if name != EMOTION and not known:
                raise lacking(name)
        return targets

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The dimensions, in the order of the outputs."""
        return tuple(name for name in DIMENSIONS if name in self.weights)

    def rows(self, clips: Dataset) -> Rows:
        """
        The outputs that a model should have for each clip, `(clips, outputs)`; NaN where a clip has no such label.

        For the emotions it is 1 for the true one, or the distribution, each times the weight of that target. If a clip has both
        and both are targets, it is their sum.
        """
        emotions = len(self.emotions)
        found = np.full((len(clips), emotions + len(self.dimensions)), np.nan, dtype=np.float32)
        if EMOTION in self.weights:
            labels = labels_of(clips)
            found[labels >= 0, :emotions] = self.weights[EMOTION] * np.eye(emotions)[labels[labels >= 0]]
        if DISTRIBUTION in self.weights:
            shares = self.weights[DISTRIBUTION] * numbers(clips, DISTRIBUTION, emotions)
            both = np.nan_to_num(found[:, :emotions]) + np.nan_to_num(shares)
            neither = np.isnan(found[:, :emotions]) & np.isnan(shares)
            found[:, :emotions] = np.where(neither, np.nan, both)
        found[:, emotions:] = dimension_rows(clips, self.dimensions)
        return found


def emotions_of(clips: Dataset) -> tuple[str, ...]:
    """The emotions, in the order of the labels."""
    return tuple(clips.features["label"].names)


def labels_of(clips: Dataset) -> npt.NDArray[np.int32]:
    """The number of each clip's emotion `(clips,)`, -1 where it has none of the run's."""
    return arrow_column(clips, "label").fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)


def dimension_rows(clips: Dataset, dimensions: Sequence[str]) -> Rows:
    """The dimensions `(clips, dimensions)`, from 0 to 1; NaN where a clip has none."""
    columns = [numbers(clips, name) for name in dimensions]
    return np.concatenate([np.empty((len(clips), 0), np.float32), *columns], axis=1)


def numbers(clips: Dataset, name: str, width: int = 1) -> Rows:
    """A column of numbers, or of lists of `width` numbers, `(clips, width)`; NaN where it or a value is missing."""
    found = np.full((len(clips), width), np.nan, dtype=np.float32)
    if name in clips.column_names:
        column = arrow_column(clips, name)
        values = column.drop_null() if width == 1 else column.flatten()  # both leave out missing values
        found[column.is_valid().to_numpy(zero_copy_only=False)] = np.asarray(values).reshape(-1, width)
    return found
