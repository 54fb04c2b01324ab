"""How far a run's figures would move with other clips, and with other speakers: percentile bootstrap intervals."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_ser.evaluation.calibration import confidence_gaps, loss_of_clips
from hf_ser.wording import counted

Array = npt.NDArray[Any]

METRICS = ("uar", "accuracy", "f1_weighted", "f1_macro", "eer")
#: Fewer speakers give no interval by speaker. A bootstrap sees no more variety than the sample has: with s speakers its
#: variance is (s - 1) / s of the true one, and with a handful its percentiles jump from speaker to speaker. It would come
#: out too narrow just where the truth is most uncertain.
MIN_SPEAKERS = 10
#: Clips times resamples that are weighed at once: 16 MB in each of a few arrays, however many clips there are.
CHUNK = 1 << 21


def intervals(
    probabilities: Array,
    labels: Array,
    speakers: Sequence[str | None] | None,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    details: bool = False,
) -> dict[str, Any]:
    """
    Percentile bootstrap intervals of the figures that [`score`] gives, ready for JSON.

    Clips are drawn with replacement; and where it can be told who speaks, speakers are, each with all of their clips. The
    second says what may be expected of new speakers: clips of one speaker resemble each other, so that the first is too
    narrow for that.

    Args:
        probabilities (`array` of shape `(clips, emotions)`): The model's outputs.
        labels (`array` of shape `(clips,)`): The true labels.
        speakers (`list` of `str` or `None`, *optional*): Who speaks in each clip.
        resamples (`int`, *optional*, defaults to 1000): How often is drawn.
        level (`float`, *optional*, defaults to 0.95): The share of the resamples that lies in an interval.
        seed (`int`, *optional*, defaults to 0): The same seed gives the same intervals.
        details (`bool`, *optional*, defaults to `False`): Whether there are intervals of `log_loss` and `ece`, and of the
            `recall` and `eer_by_emotion` of each emotion, too.

    Returns:
        `level`, `resamples`, `seed`, and `clips` and `speakers`: for each of `METRICS` its `[low, high]`, both between 0 and
        1, or `None` where no resample has the metric; with `details` lists of them for `recall` and `eer_by_emotion`, in the
        order of the columns. `speakers` is `None` where there is no interval by speaker, and
        `speakers_reason` then says why.

    Raises:
        ValueError: if there is no clip, the lengths differ, `level` does not lie between 0 and 1, or `resamples` is below 1.
    """
    probabilities, labels = np.asarray(probabilities, dtype=float), np.asarray(labels)
    clips = len(labels)
    if probabilities.ndim != 2 or len(probabilities) != clips or clips == 0:
        raise ValueError(
            f"intervals need probabilities (clips, emotions) and labels (clips,) of at least one clip; found shapes "
            f"{probabilities.shape} and {labels.shape}"
        )
    if speakers is not None and len(speakers) != clips:
        raise ValueError(f"intervals need a speaker, or None, for each of {clips} clips; found {len(speakers)}")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"intervals need a level between 0 and 1 and a resample at least; found {level}, {resamples}")

    score_weighted = weighted_scorer(probabilities, labels, details)
    found: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    found["clips"] = _percentiles(score_weighted, np.arange(clips), resamples, level, seed)
    reason, speaker_of_clip = speaker_of_each_clip(speakers)
    if reason:
        return {**found, "speakers": None, "speakers_reason": reason}
    return {**found, "speakers": _percentiles(score_weighted, speaker_of_clip, resamples, level, seed)}


def speaker_of_each_clip(speakers: Sequence[str | None] | None) -> tuple[str, Array]:
    """Why speakers cannot be drawn, or nothing; and each clip's speaker, counted from 0."""
    none = np.zeros(0, dtype=np.int64)
    if speakers is None:
        return "the clips' speakers are not known", none
    if unknown := sum(speaker is None for speaker in speakers):
        return f"{unknown} of {len(speakers)} clips have no known speaker", none
    names, speaker_of_clip = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
    if len(names) < MIN_SPEAKERS:
        return too_few(len(names), "speaker", MIN_SPEAKERS), none
    return "", speaker_of_clip


def too_few(number: int, one: str, least: int) -> str:
    """Why there is no interval, in words."""
    return f"{counted(number, one)}, too few to draw from; at least {least} are needed"


def _percentiles(
    score_weighted: Callable[[Array], dict[str, Array]], unit_of_clip: Array, resamples: int, level: float, seed: int
) -> dict[str, Any]:
    """The interval of each metric where the units (clips, or speakers) are drawn as often as there are of them."""
    scores = [score_weighted(weights) for weights in draw(unit_of_clip, resamples, seed)]
    edges = (50 * (1 - level), 50 * (1 + level))

    def interval(values: Array) -> list[float] | None:
        values = values[np.isfinite(values)]  # a resample of one emotion alone has no equal error rate
        return [float(edge) for edge in np.percentile(values, edges)] if values.size else None

    found: dict[str, Any] = {}
    for name in scores[0]:
        values = np.concatenate([chunk[name] for chunk in scores], axis=-1)
        found[name] = interval(values) if values.ndim == 1 else [interval(row) for row in values]
    return found


def draw(unit_of_clip: Array, resamples: int, seed: int) -> Iterator[Array]:
    """
    How often each clip is in each resample, some resamples at a time: integers `(clips, up to resamples)`.

    Args:
        unit_of_clip (`array` of shape `(clips,)`): The unit that is drawn, counted from 0: the clip itself, or its speaker.
    """
    units, clips = int(unit_of_clip.max()) + 1, len(unit_of_clip)
    rng = np.random.default_rng(seed)
    at_once = max(1, CHUNK // clips)
    for first in range(0, resamples, at_once):
        number = min(at_once, resamples - first)
        drawn = rng.integers(0, units, size=(number, units))  # the same numbers, however many at once
        cells = drawn * number + np.arange(number)[:, None]
        counts = np.bincount(cells.ravel(), minlength=units * number).astype(np.int32).reshape(units, number)
        yield counts if units == clips else counts[unit_of_clip]


def weighted_scorer(probabilities: Array, labels: Array, details: bool = False) -> Callable[[Array], dict[str, Array]]:
    """
    A function that takes integer weights `(clips, resamples)` and returns each of `METRICS` as `(resamples,)`: for each
    resample what [`score`] says of the clips repeated by their weights, `nan` where there is no such figure.

    All sorting is done here, once.

    Args:
        probabilities (`array` of shape `(clips, emotions)`): The model's outputs.
        labels (`array` of shape `(clips,)`): The true labels.
        details (`bool`, *optional*, defaults to `False`): Whether it returns `log_loss` and `ece` `(resamples,)`, and `recall`
            and `eer_by_emotion` `(emotions, resamples)`, too.
    """
    emotions = probabilities.shape[1]
    cell = labels * emotions + probabilities.argmax(axis=1)
    by_cell = np.argsort(cell, kind="stable")
    cells, starts = np.unique(cell[by_cell], return_index=True)
    rankings = [_ranking(probabilities[:, k], labels == k) for k in range(emotions)]
    if details:
        loss, gaps = loss_of_clips(probabilities, labels), confidence_gaps(probabilities, labels)

    def score_weighted(weights: Array) -> dict[str, Array]:
        resamples = weights.shape[1]
        matrix = np.zeros((emotions * emotions, resamples))
        matrix[cells] = np.add.reduceat(weights[by_cell], starts, axis=0, dtype=np.int64)
        figures = _from_confusion(matrix.reshape(emotions, emotions, resamples))
        rates = np.stack([_equal_error_rates(weights, *ranking) for ranking in rankings])  # (emotions, resamples)
        figures["eer"] = _mean(rates, np.isfinite(rates))
        if not details:
            return {name: figures[name] for name in METRICS}
        clips = weights.sum(axis=0)
        figures["log_loss"] = loss @ weights / clips
        figures["ece"] = np.abs(gaps @ weights).sum(axis=0) / clips
        return {**figures, "eer_by_emotion": rates}

    return score_weighted


def _from_confusion(matrix: Array) -> dict[str, Array]:
    """The metrics of confusion matrices `(emotions, emotions, resamples)`, rows being the true emotions."""
    right = np.einsum("kkr->kr", matrix)  # (emotions, resamples)
    true, said = matrix.sum(axis=1), matrix.sum(axis=0)
    clips = true.sum(axis=0)
    recall = right / np.maximum(true, 1)
    f1 = 2 * right / np.maximum(true + said, 1)
    return {
        "recall": np.where(true > 0, recall, np.nan),
        "uar": _mean(recall, true > 0),
        "accuracy": right.sum(axis=0) / clips,
        "f1_weighted": (f1 * true).sum(axis=0) / clips,
        # scikit-learn's: over the emotions that are there or are said to be.
        "f1_macro": _mean(f1, true + said > 0),
    }


def _mean(values: Array, there: Array) -> Array:
    """The mean over the first axis, of what is there; `nan` where nothing is."""
    number = there.sum(axis=0)
    mean: Array = np.where(number > 0, np.where(there, values, 0.0).sum(axis=0) / np.maximum(number, 1), np.nan)
    return mean


def _ranking(scores: Array, positive: Array) -> tuple[Array, Array, Array, Array]:
    """
    The positive and the other clips, each from the highest score to the lowest; and for each threshold, from above all
    scores downwards, how many of either score as much: what an equal error rate of any resample needs.
    """
    order = np.argsort(-scores, kind="stable")
    hits, others = order[positive[order]], order[~positive[order]]
    thresholds = -np.unique(scores)[::-1]  # ascending, as np.searchsorted wants it
    accepted_hits = np.searchsorted(-scores[hits], thresholds, side="right")
    accepted_others = np.searchsorted(-scores[others], thresholds, side="right")
    return hits, others, np.concatenate([[0], accepted_hits]), np.concatenate([[0], accepted_others])


def _equal_error_rates(
    weights: Array, hits: Array, others: Array, accepted_hits: Array, accepted_others: Array
) -> Array:
    """
    For each resample the equal error rate of one emotion against the others, as `metrics.equal_error_rate` has it; `nan`
    where a resample has no clip of the emotion, or no other.
    """
    hit, alarm = _cumulated(weights, hits), _cumulated(weights, others)  # (clips + 1, resamples)
    positives, negatives = hit[-1], alarm[-1]
    column = np.arange(weights.shape[1])
    there = (positives > 0) & (negatives > 0)
    positives, negatives = np.maximum(positives, 1), np.maximum(negatives, 1)

    # False alarms grow and misses shrink as the threshold falls. Bisection for the first threshold at which the share of
    # false alarms is not below that of misses, in integers; the one above all scores is never it, the lowest always.
    below, at = np.zeros(len(column), dtype=np.int64), np.full(len(column), len(accepted_hits) - 1)
    while (open_ := at - below > 1).any():
        middle = (below + at) // 2
        alarms, hits_ = alarm[accepted_others[middle], column], hit[accepted_hits[middle], column]
        reached = alarms * positives >= (positives - hits_) * negatives
        at, below = np.where(open_ & reached, middle, at), np.where(open_ & ~reached, middle, below)

    def rates(threshold: Array) -> tuple[Array, Array]:
        alarms, hits_ = alarm[accepted_others[threshold], column], hit[accepted_hits[threshold], column]
        return alarms / negatives, 1 - hits_ / positives

    false_before, miss_before = rates(below)
    false_after, miss_after = rates(at)
    gap_before, gap_after = miss_before - false_before, false_after - miss_after
    share = gap_before / np.where(there, gap_before + gap_after, 1)
    rate: Array = np.where(there, false_before + share * (false_after - false_before), np.nan)
    return rate


def _cumulated(weights: Array, clips: Array) -> Array:
    """The weights of `clips` summed up in their order, from 0: `(clips + 1, resamples)`."""
    sums = np.zeros((len(clips) + 1, weights.shape[1]), dtype=np.int64)
    np.cumsum(weights[clips], axis=0, out=sums[1:])
    return sums
