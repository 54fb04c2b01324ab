"""Whether one model is better than another on the same clips: a paired bootstrap, and McNemar's exact test."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from hf_ser.evaluation.bootstrap import METRICS, draw, speaker_of_each_clip, weighted_scorer
from hf_ser.evaluation.calibration import checked

Array = npt.NDArray[Any]
#: The weighted scorers of the first and the second model.
Scorers = tuple[Callable[[Array], dict[str, Array]], Callable[[Array], dict[str, Array]]]

LEVEL = 0.95
#: A smaller difference is what rounding leaves of none, and must not count as one side of 0.
NONE = 1e-12


def compare(
    first: Any,
    second: Any,
    labels: Any,
    speakers: Sequence[str | None] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """
    Compares two models on the same clips, ready for JSON. A difference is the second's figure less the first's: of an equal
    error rate, the lower the better.

    Both models are scored on the same resamples. What makes a clip hard makes it hard for both, and drops out of the
    difference; two intervals side by side, each of one model, may overlap where this one excludes 0.

    Args:
        first, second (`array` of shape `(clips, emotions)`): The outputs of the two models, each row adding up to 1.
        labels (`array` of shape `(clips,)`): The true labels.
        speakers (`list` of `str` or `None`, *optional*): Who speaks in each clip.
        resamples (`int`, *optional*, defaults to 1000): How often is drawn.
        seed (`int`, *optional*, defaults to 0): The same seed gives the same intervals.

    Returns:
        `level`, `resamples`, `seed`, and of each of `METRICS`

        - `first`, `second`, `difference`: the figures, and what lies between them; `None` where there is no such figure;
        - `clips`, `speakers`: the difference's percentile bootstrap `interval`, `[low, high]`, where clips, or speakers with
          all of their clips, are drawn with replacement; and `p`, twice the share of the resamples, the clips as they are
          counted as one of them, on the side of 0 that has fewer: 1 at most, 2 / (resamples + 1) at least. `None` where
          no resample has the metric. As with [`intervals`], `speakers` is `None` where a clip's speaker is not known or
          there are fewer than `MIN_SPEAKERS`, and `speakers_reason` then says why. Each p is of one metric alone;

        and `mcnemar`: how many clips `both`, `only_first`, `only_second` and `neither` have right, and the exact two-sided
        `p` (McNemar 1947): if the models were equally good, each clip that only one has right would be a fair coin's throw.
        It takes clips to be independent, which those of one speaker are not: see the p by speakers.

    Raises:
        ValueError: if there is no clip, the shapes differ, probabilities are none (the first such row is named), a label is
            out of range, or `resamples` is below 1.
    """
    both = []
    for name, given in (("first", first), ("second", second)):
        try:
            probabilities, labels = checked(given, labels)
        except ValueError as error:
            raise ValueError(f"the {name} model: {error}") from error
        both.append(probabilities)
    first, second = both
    clips = len(labels)
    if first.shape != second.shape:
        raise ValueError(f"both models need the same emotions; found shapes {first.shape} and {second.shape}")
    if speakers is not None and len(speakers) != clips:
        raise ValueError(f"a comparison needs a speaker, or None, for each of {clips} clips; found {len(speakers)}")
    if resamples < 1:
        raise ValueError(f"a comparison needs a resample at least; found {resamples}")

    scorers = weighted_scorer(first, labels), weighted_scorer(second, labels)
    once = np.ones((clips, 1), dtype=np.int64)
    found: dict[str, Any] = {"level": LEVEL, "resamples": resamples, "seed": seed}
    of_all = {"first": scorers[0](once), "second": scorers[1](once), "difference": _differences(scorers, once)}
    for key, values in of_all.items():
        found[key] = {name: float(values[name][0]) if np.isfinite(values[name][0]) else None for name in METRICS}
    found["clips"] = _bootstrap(scorers, np.arange(clips), resamples, seed)
    reason, speaker_of_clip = speaker_of_each_clip(speakers)
    found["speakers"] = None if reason else _bootstrap(scorers, speaker_of_clip, resamples, seed)
    if reason:
        found["speakers_reason"] = reason
    found["mcnemar"] = _mcnemar(first.argmax(axis=1) == labels, second.argmax(axis=1) == labels)
    return found


def _differences(scorers: Scorers, weights: Array) -> dict[str, Any]:
    """The second's metrics less the first's where the clips have `weights` `(clips, resamples)`: each `(resamples,)`."""
    first, second = (score(weights) for score in scorers)
    found = {}
    for name in METRICS:
        difference = second[name] - first[name]
        found[name] = np.where(np.abs(difference) < NONE, 0.0, difference)  # NaN stays
    return found


def _bootstrap(scorers: Scorers, unit_of_clip: Array, resamples: int, seed: int) -> dict[str, dict[str, Any] | None]:
    """Each metric's interval and p value where the units (clips, or speakers) are drawn as often as there are of them."""
    drawn = [_differences(scorers, weights) for weights in draw(unit_of_clip, resamples, seed)]
    edges = (50 * (1 - LEVEL), 50 * (1 + LEVEL))
    found: dict[str, dict[str, Any] | None] = {}
    for name in METRICS:
        values = np.concatenate([chunk[name] for chunk in drawn])
        values = values[np.isfinite(values)]  # a resample of one emotion alone has no equal error rate
        if not values.size:
            found[name] = None
            continue
        fewer = min((values <= 0).sum(), (values >= 0).sum())
        found[name] = {
            "interval": [float(edge) for edge in np.percentile(values, edges)],
            "p": min(1.0, float(2 * (fewer + 1) / (values.size + 1))),
        }
    return found


def _mcnemar(first: Array, second: Array) -> dict[str, Any]:
    """McNemar's exact test of which clips `(clips,)` the models have right."""
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    apart = only_first + only_second
    return {
        "both": int((first & second).sum()),
        "only_first": only_first,
        "only_second": only_second,
        "neither": int((~first & ~second).sum()),
        "p": float(binomtest(only_first, apart, 0.5).pvalue) if apart else 1.0,
    }
