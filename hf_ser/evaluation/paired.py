"""The comparison of two models on the same clips: a paired bootstrap, and McNemar's exact test."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from hf_ser.evaluation.bootstrap import LEVEL, by_unit, percentiles, resampled
from hf_ser.evaluation.dimensions import Scorer

Array = npt.NDArray[Any]

#: A smaller difference is what rounding leaves of none, and must not count as one side of 0.
NONE = 1e-12


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

    once = np.ones((clips, 1), dtype=np.int64)
    found: dict[str, Any] = {"level": LEVEL, "resamples": resamples, "seed": seed}
    for key, scorer in (("first", first), ("second", second), ("difference", differences)):
        values = {name: float(value[0]) for name, value in scorer(once).items()}
        found[key] = {name: value if np.isfinite(value) else None for name, value in values.items()}
    return found | by_unit(of_units, clips, speakers, min_clips)


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
