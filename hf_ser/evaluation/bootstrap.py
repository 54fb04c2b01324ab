"""Percentile bootstrap over clips and over speakers: intervals of metrics, and of the differences between two models."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from hf_ser.evaluation.dimensions import Scorer, values_of
from hf_ser.wording import counted

Array = npt.NDArray[Any]

#: The share of the resamples that lies in an interval.
LEVEL = 0.95
#: Fewer speakers give no interval by speaker. A bootstrap sees no more variety than the sample has: with s speakers its
#: variance is (s - 1) / s of the true one, and with a handful its percentiles jump from speaker to speaker. It would come
#: out too narrow just where the truth is most uncertain.
MIN_SPEAKERS = 10
#: Clips times resamples that are weighed at once: 16 MB in each of a few arrays, however many clips there are.
CHUNK = 1 << 21
#: A smaller difference is what rounding leaves of none, and must not count as one side of 0.
NONE = 1e-12


def intervals(
    score_weighted: Scorer,
    clips: int,
    speakers: Sequence[str | None] | None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    min_clips: int = 1,
) -> dict[str, Any]:
    """
    Percentile bootstrap intervals of metrics, ready for JSON.

    Clips are drawn with replacement; and, where the speakers are known, speakers with all of their clips. The second tell more
    about new speakers: clips of one speaker resemble each other, so that intervals by clips are too narrow for them.

    Args:
        score_weighted (`Scorer`): From integer weights `(clips, resamples)` to each metric `(resamples,)` or `(..., resamples)`,
            NaN where a resample has none.
        clips (`int`): The number of clips, at least 1.
        speakers (`list` of `str` or `None`, *optional*): The speaker of each clip.
        resamples (`int`, defaults to 1000): The number of resamples.
        seed (`int`, defaults to 0): The same seed gives the same intervals.
        min_clips (`int`, defaults to 1): Fewer clips give no interval by clips.

    Returns:
        `level`, `resamples`, `seed`, and `clips` and `speakers`: for each metric its `[low, high]`, or `None` where no resample
        has the metric; of a metric with several values a list of them. Either is `None` where there is no interval of its kind;
        `clips_reason` or `speakers_reason` has the reason.
    """

    def of_units(unit_of_clip: Array) -> dict[str, Any]:
        drawn = resampled(score_weighted, unit_of_clip, resamples, seed).items()
        return {
            name: percentiles(values) if values.ndim == 1 else [percentiles(row) for row in values]
            for name, values in drawn
        }

    return {"level": LEVEL, "resamples": resamples, "seed": seed, **by_unit(of_units, clips, speakers, min_clips)}


def paired(
    first: Scorer,
    second: Scorer,
    clips: int,
    speakers: Sequence[str | None] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    min_clips: int = 1,
) -> dict[str, Any]:
    """
    Compares two models on the same clips, ready for JSON. A difference is the second's metric less the first's: of an equal
    error rate, the lower the better. Both models are scored on the same resamples: two intervals side by side, each of one
    model, may overlap where the interval of the difference excludes 0.

    Args:
        first, second (`Scorer`): From integer weights `(clips, resamples)` to each metric `(resamples,)`, NaN where there is
            none.
        clips, speakers, resamples, seed, min_clips: See [`~hf_ser.evaluation.bootstrap.intervals`].

    Returns:
        `level`, `resamples`, `seed`, and of each metric

        - `first`, `second`, `difference`: the metrics and their difference; `None` where there is none;
        - `clips`, `speakers`: the difference's percentile bootstrap `interval`, `[low, high]`; and `p`, twice the share of the
          resamples, the clips as they are counted as one of them, on the side of 0 that has fewer: 1 at most,
          2 / (resamples + 1) at least. `None` where no resample has the metric, and as with [`intervals`]. Each p is of one
          metric alone.
    """

    def differences(weights: Array) -> dict[str, Array]:
        """The second's metrics less the first's where the clips have `weights` `(clips, resamples)`: each `(resamples,)`."""
        one, two = first(weights), second(weights)
        apart = {name: two[name] - one[name] for name in one}
        return {name: np.where(np.abs(values) < NONE, 0.0, values) for name, values in apart.items()}  # NaN stays

    def of_units(unit_of_clip: Array) -> dict[str, Any]:
        drawn = resampled(differences, unit_of_clip, resamples, seed).items()
        return {name: percentiles(values) and {"interval": percentiles(values), "p": _p(values)}
                for name, values in drawn}  # fmt: skip

    scorers = {"first": first, "second": second, "difference": differences}
    found = {key: values_of(scorer, clips) for key, scorer in scorers.items()}
    drawn = {"level": LEVEL, "resamples": resamples, "seed": seed, **by_unit(of_units, clips, speakers, min_clips)}
    return found | drawn


def _p(values: Array) -> float:
    values = values[np.isfinite(values)]
    return min(1.0, float(2 * (min((values <= 0).sum(), (values >= 0).sum()) + 1) / (values.size + 1)))


def mcnemar(first: Array, second: Array) -> dict[str, Any]:
    """
    McNemar's exact two-sided test (1947) of which clips two models predict correctly, booleans `(clips,)`: the number of clips
    that `both`, `only_first`, `only_second` and `neither` do, and `p`. It takes clips to be independent, which those of one
    speaker are not: see the p by speakers.
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


def by_unit(
    of_units: Callable[[Array], dict[str, Any]], clips: int, speakers: Sequence[str | None] | None, min_clips: int
) -> dict[str, Any]:
    """
    What `of_units` finds where clips are drawn, and where speakers are: `clips` and `speakers`, or `None` and the reason why
    not. It takes the unit of each clip, `(clips,)`, counted from 0.
    """
    found: dict[str, Any] = {"clips": None, "speakers": None}
    if clips < min_clips:
        found["clips_reason"] = too_few(clips, "clip", min_clips)
    else:
        found["clips"] = of_units(np.arange(clips))
    reason, speaker_of_clip = speaker_of_each_clip(speakers)
    if reason:
        found["speakers_reason"] = reason
    else:
        found["speakers"] = of_units(speaker_of_clip)
    return found


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


def resampled(score_weighted: Scorer, unit_of_clip: Array, resamples: int, seed: int) -> dict[str, Array]:
    """Each metric of all resamples, `(..., resamples)`, where the units (clips, or speakers) are drawn."""
    scores = [score_weighted(weights) for weights in draw(unit_of_clip, resamples, seed)]
    return {name: np.concatenate([chunk[name] for chunk in scores], axis=-1) for name in scores[0]}


def percentiles(values: Array) -> list[float] | None:
    """The interval of a metric from its values in all resamples, `(resamples,)`."""
    values = values[np.isfinite(values)]  # a resample of one emotion alone has no equal error rate
    edges = (50 * (1 - LEVEL), 50 * (1 + LEVEL))
    return [float(edge) for edge in np.percentile(values, edges)] if values.size else None


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
