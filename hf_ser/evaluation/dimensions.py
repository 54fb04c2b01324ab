"""Metrics of arousal, valence and dominance, and of distributions over emotions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import rel_entr

Array = npt.NDArray[Any]
#: From weights `(clips, resamples)` to each metric `(resamples,)`.
Scorer = Callable[[Array], dict[str, Array]]

#: The metrics of a distribution.
DISTRIBUTION_METRICS = ("kl", "js", "cosine")
#: Of a histogram from 0 to 1.
BINS = 20


def values_of(scorer: Scorer, clips: int) -> dict[str, Any]:
    """Each metric of all clips; `None` if it is undefined; a list for a metric with several values."""
    found = scorer(np.ones((clips, 1), dtype=np.int64))
    values = {
        name: [float(one) if np.isfinite(one) else None for one in value.ravel()] for name, value in found.items()
    }
    return {name: several if found[name].ndim > 1 else several[0] for name, several in values.items()}


def dimension_scorer(values: Array, truth: Array) -> Scorer:
    """
    A function that takes integer weights `(clips, resamples)` and returns `ccc` and `mae` (the mean absolute error), each
    `(resamples,)`, for the clips repeated by their weights. The concordance correlation coefficient (Lin 1989) is

        CCC = 2 cov(values, truth) / (var(values) + var(truth) + (mean(values) - mean(truth))^2)

    with the variances and the covariance of the sample as it is (divided by the number of clips): from -1 to 1, and NaN where
    the truth is constant or there are fewer than two clips.

    Args:
        values, truth (`array` of shape `(clips,)`): Predictions and labels, NaN where a clip has no label.
    """
    there = np.isfinite(truth)
    x, y = values[there].astype(np.float64), truth[there].astype(np.float64)
    constant = len(y) < 2 or float(np.ptp(y)) == 0.0
    # Minus their mean, for the precision of the sums of squares.
    middle = float(y.mean()) if len(y) else 0.0
    x, y, errors = x - middle, y - middle, np.abs(x - y)
    sums_of = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, errors])

    def score_weighted(weights: Array) -> dict[str, Array]:
        n, sx, sy, sxx, syy, sxy, absolute = sums_of @ weights[there]
        with np.errstate(invalid="ignore", divide="ignore"):
            mx, my = sx / n, sy / n
            vx, vy, covariance = sxx / n - mx**2, syy / n - my**2, sxy / n - mx * my
            apart = vx + vy + (mx - my) ** 2
            undefined = constant | (vy <= 1e-12)
            return {"ccc": np.where(undefined, np.nan, 2 * covariance / apart), "mae": absolute / n}

    return score_weighted


def mean_scorer(values: Array, truth: Array) -> Scorer:
    """
    A function that takes integer weights `(clips, resamples)` and returns `ccc` `(resamples,)`, the mean over those dimensions
    for which it is defined. `values` and `truth` are `(clips, dimensions)`.
    """
    scorers = [dimension_scorer(*column) for column in zip(values.T, truth.T, strict=True)]

    def score_weighted(weights: Array) -> dict[str, Array]:
        each = np.stack([scorer(weights)["ccc"] for scorer in scorers])
        return {"ccc": mean_where(each, np.isfinite(each))}

    return score_weighted


def mean_where(values: Array, there: Array) -> Array:
    """The mean over the first axis of the values that are `there`; NaN if none is."""
    number = there.sum(axis=0)
    return np.where(number > 0, np.where(there, values, 0.0).sum(axis=0) / np.maximum(number, 1), np.nan)


def joint_histogram(values: Array, truth: Array) -> list[list[int]]:
    """
    The labelled clips `(clips,)` by true (row) and predicted value (column), each from 0 to 1 in `BINS` equal bins. Values
    outside are in the first or last bin.
    """
    there = np.isfinite(truth)
    rows, columns = (np.clip(of[there] * BINS, 0, BINS - 1).astype(int) for of in (truth, values))
    return count_pairs(rows, columns, BINS)


def count_pairs(rows: Array, columns: Array, size: int) -> list[list[int]]:
    """The clips by two integers from 0 to `size` - 1, `rows` and `columns` `(clips,)`."""
    return np.bincount(rows * size + columns, minlength=size**2).reshape(size, size).tolist()


def distribution_scorer(probabilities: Array, truth: Array) -> Scorer:
    """
    A function that takes integer weights `(clips, resamples)` and returns `kl`, `js` and `cosine` `(resamples,)`, means over the
    clips:

        KL = sum t log(t / p),   JS = KL(t, m) / 2 + KL(p, m) / 2 with m = (t + p) / 2,   cosine = t p / (|t| |p|)

    with the raters' distribution t and the predicted one p; in nats.

    Args:
        probabilities, truth (`array` of shape `(clips, emotions)`): Each row adds up to 1; a row of NaN for a clip without truth.
    """
    there = np.isfinite(truth[:, 0])
    p, t = probabilities[there].astype(np.float64), truth[there].astype(np.float64)
    p = np.maximum(p, np.finfo(np.float64).eps)
    middle = (p + t) / 2
    lengths = np.linalg.norm(p, axis=1) * np.linalg.norm(t, axis=1)
    of_clips = np.stack([
        rel_entr(t, p).sum(1), (rel_entr(t, middle) + rel_entr(p, middle)).sum(1) / 2, (p * t).sum(1) / lengths
    ])  # fmt: skip

    def score_weighted(weights: Array) -> dict[str, Array]:
        with np.errstate(invalid="ignore"):
            return dict(zip(DISTRIBUTION_METRICS, of_clips @ weights[there] / weights[there].sum(0), strict=True))

    return score_weighted
