"""Percentile bootstrap over clips and over speakers: intervals of metrics, and of the differences between two models."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from hf_ser.evaluation.dimensions import Array, Scorer, values_of
from hf_ser.wording import counted

#: The share of the resamples that lies in an interval.
LEVEL = 0.95
#: Fewer speakers give no interval by speaker. With s speakers the variance of a bootstrap is (s - 1) / s of the true one, and
#: with few of them its percentiles depend on single speakers: the interval would be too narrow where the uncertainty is largest.
MIN_SPEAKERS = 10
#: Clips times resamples that are computed at once: 16 MB in each of a few arrays, for any number of clips.
CHUNK = 1 << 21
#: Smaller differences are rounding errors, and count as 0.
NONE = 1e-12


def percentiles(values: Array) -> list[Any] | None:
    """The interval of a metric from its values in all resamples `(resamples,)`; of `(..., resamples)` a list of them."""
    if values.ndim > 1:
        return [percentiles(row) for row in values]
    values = values[np.isfinite(values)]  # a resample of one emotion alone has no equal error rate
    edges = (50 * (1 - LEVEL), 50 * (1 + LEVEL))
    return [float(edge) for edge in np.percentile(values, edges)] if values.size else None


def intervals(
    score_weighted: Scorer,
    clips: int,
    speakers: Sequence[str | None] | None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    min_clips: int = 1,
    summary: Callable[[Array], Any] = percentiles,
) -> dict[str, Any]:
    """
    Percentile bootstrap intervals of metrics, ready for JSON.

    Clips are drawn with replacement, and if the speakers are known, speakers with all of their clips. For new speakers only the
    intervals by speakers are valid: clips of one speaker are similar, so that intervals by clips are too narrow.

    Args:
        score_weighted (`Scorer`): From integer weights `(clips, resamples)` to each metric `(resamples,)` or `(..., resamples)`,
            NaN if a resample has none.
        clips (`int`): The number of clips, at least 1.
        speakers (`list` of `str` or `None`, *optional*): The speaker of each clip.
        resamples (`int`, defaults to 1000): The number of resamples.
        seed (`int`, defaults to 0): The same seed gives the same intervals.
        min_clips (`int`, defaults to 1): Fewer clips give no interval by clips.
        summary (`Callable`, *optional*): From a metric's values in all resamples to the result, by default the interval.

    Returns:
        `level`, `resamples`, `seed`, and `clips` and `speakers`: for each metric its `[low, high]`, or `None` where no resample
        has the metric; of a metric with several values a list of them. Either is `None` if there is no interval of its kind;
        `clips_reason` or `speakers_reason` has the reason.
    """
    found: dict[str, Any] = {"level": LEVEL, "resamples": resamples, "seed": seed}
    units = {"clips": (too_few(clips, "clip", min_clips), np.arange(clips)), "speakers": speaker_of_each_clip(speakers)}
    for unit, (reason, unit_of_clip) in units.items():
        if reason:
            found |= {unit: None, f"{unit}_reason": reason}
            continue
        scores = [score_weighted(weights) for weights in draw(unit_of_clip, resamples, seed)]
        metrics = {name: np.concatenate([chunk[name] for chunk in scores], axis=-1) for name in scores[0]}
        found[unit] = {name: summary(values) for name, values in metrics.items()}
    return found


def paired(
    first: Scorer, second: Scorer, clips: int, speakers: Sequence[str | None] | None = None, **drawing: Any
) -> dict[str, Any]:
    """
    Compares two models on the same clips, ready for JSON. A difference is the second's metric minus the first's; for an equal
    error rate lower is better. Both models are scored on the same resamples: the intervals of two models may overlap although
    the interval of their difference excludes 0.

    Args:
        first, second (`Scorer`): From integer weights `(clips, resamples)` to each metric `(resamples,)`, NaN where there is
            none.
        clips, speakers, **drawing: See [`~hf_ser.evaluation.bootstrap.intervals`].

    Returns:
        `level`, `resamples`, `seed`, and of each metric

        - `first`, `second`, `difference`: the metrics and their difference; `None` where there is none;
        - `clips`, `speakers`: the difference's percentile bootstrap `interval`, `[low, high]`; and `p`, twice the share of the
          resamples on the side of 0 that has fewer, where the clips themselves count as one resample: from 2 / (resamples + 1)
          to 1. `None` if no resample has the metric, and as with [`intervals`]. The p are not corrected for several metrics.
    """

    def differences(weights: Array) -> dict[str, Array]:
        """The second's metrics minus the first's for clips with `weights` `(clips, resamples)`: each `(resamples,)`."""
        one, two = first(weights), second(weights)
        apart = {name: two[name] - one[name] for name in one}
        return {name: np.where(np.abs(values) < NONE, 0.0, values) for name, values in apart.items()}  # NaN stays

    def interval_and_p(values: Array) -> dict[str, Any] | None:
        edges, values = percentiles(values), values[np.isfinite(values)]
        fewer = min((values <= 0).sum(), (values >= 0).sum())
        p = min(1.0, float(2 * (fewer + 1) / (values.size + 1)))
        return {"interval": edges, "p": p} if edges else None

    scorers = {"first": first, "second": second, "difference": differences}
    found: dict[str, Any] = {key: values_of(scorer, clips) for key, scorer in scorers.items()}
    return found | intervals(differences, clips, speakers, summary=interval_and_p, **drawing)


def mcnemar(first: Array, second: Array) -> dict[str, Any]:
    """
    McNemar's exact two-sided test (1947) of the clips that two models predict correctly, booleans `(clips,)`: the number of clips
    that `both`, `only_first`, `only_second` and `neither` predict correctly, and `p`. It assumes independent clips. Those of one
    speaker are not independent: see the p by speakers.
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    apart = only_first + only_second
    return {
        "both": int((first & second).sum()),
        "only_first": only_first,
        "only_second": only_second,
        "neither": int((~first & ~second).sum()),
        "p": float(binomtest(only_first, apart, 0.5).pvalue) if apart else 1.0,
    }


def speaker_of_each_clip(speakers: Sequence[str | None] | None) -> tuple[str, Array]:
    """The reason why speakers cannot be drawn, or an empty text; and each clip's speaker, counted from 0."""
    none = np.zeros(0, dtype=np.int64)
    if speakers is None:
        return "the clips' speakers are not known", none
    if unknown := sum(speaker is None for speaker in speakers):
        return f"{unknown} of {len(speakers)} clips have no known speaker", none
    names, speaker_of_clip = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
    return too_few(len(names), "speaker", MIN_SPEAKERS), speaker_of_clip


def too_few(number: int, one: str, least: int) -> str:
    """The reason why this number of units gives no interval; empty if it does."""
    return f"{counted(number, one)}, too few to draw from; at least {least} are needed" if number < least else ""


def draw(unit_of_clip: Array, resamples: int, seed: int) -> Iterator[Array]:
    """
    The number of times that each clip is in each resample, some resamples at a time: integers `(clips, up to resamples)`. For
    each clip `unit_of_clip` has the unit that is drawn, counted from 0: the clip itself, or its speaker.
    """
    units, clips = int(unit_of_clip.max()) + 1, len(unit_of_clip)
    rng = np.random.default_rng(seed)
    at_once = max(1, CHUNK // clips)
    for first in range(0, resamples, at_once):
        number = min(at_once, resamples - first)
        drawn = rng.integers(0, units, size=(number, units))  # the numbers do not depend on `at_once`
        cells = drawn * number + np.arange(number)[:, None]
        counts = np.bincount(cells.ravel(), minlength=units * number).astype(np.int32).reshape(units, number)
        yield counts if units == clips else counts[unit_of_clip]
