"""How far a model's probabilities can be believed: log loss, expected calibration error, and what a reliability plot needs."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: No probability counts as less in the log loss, so that one certain mistake does not make it infinite: 36 nats at most.
SMALLEST = float(np.finfo(np.float64).eps)


def loss_of_clips(probabilities: Array, labels: Array) -> Array:
    """
    The negative natural logarithm of the probability of each clip's true emotion, `(clips,)`, in nats. Their mean is the log
    loss: ln(emotions) for a model that always answers 1 / emotions; unlike the loss of training not weighted by class.
    """
    loss: Array = -np.log(np.clip(probabilities[np.arange(len(labels)), labels], SMALLEST, 1.0)) + 0.0  # never -0.0
    return loss


def reliability(probabilities: Array, labels: Array, bins: int = 15) -> list[dict[str, Any]]:
    """
    The accuracy of the clips of about the same confidence: what a reliability plot draws (Guo et al. 2017, *On Calibration of
    Modern Neural Networks*, arXiv 1706.04599, section 2).

    The confidence of a clip is the probability of its most probable emotion. The bins are of equal width; as in the paper,
    one that goes from `low` to `high` holds the confidences above `low`, up to and with `high`.

    Args:
        probabilities (`array` of shape `(clips, emotions)`): The model's outputs.
        labels (`array` of shape `(clips,)`): The true labels.
        bins (`int`, *optional*, defaults to 15): How many bins lie between 0 and 1.

    Returns:
        For each bin, from low to high confidence: `low`, `high`, `clips`, and their mean `confidence` and `accuracy`, both
        between 0 and 1, `None` in an empty bin.
    """
    confidence, right, bin_of_clip = _binned(probabilities, labels, bins)
    found: list[dict[str, Any]] = []
    for k in range(bins):
        inside = bin_of_clip == k
        means = [float(values[inside].mean()) if inside.any() else None for values in (confidence, right)]
        found.append({"low": k / bins, "high": (k + 1) / bins, "clips": int(inside.sum()),
                      **dict(zip(("confidence", "accuracy"), means, strict=True))})  # fmt: skip
    return found


def _binned(probabilities: Array, labels: Array, bins: int) -> tuple[Array, Array, Array]:
    """The confidence of each clip `(clips,)`, whether it is right, and its bin."""
    confidence = np.minimum(probabilities.max(axis=1), 1.0)
    # The number of inner edges below a confidence. Not its product with the bins: 14 / 25 * 25 is a little above 14.
    edges = np.arange(1, bins) / bins
    return confidence, probabilities.argmax(axis=1) == labels, np.searchsorted(edges, confidence, side="left")


def confidence_gaps(probabilities: Array, labels: Array, bins: int = 15) -> Array:
    """
    In the row of each clip's bin, how far its confidence lies above 1 if it is right, or 0 if it is not: `(bins, clips)`. The
    sum of each row's absolute sum, divided by the clips, is the expected calibration error (Guo et al. 2017, equation 3).
    """
    confidence, right, bin_of_clip = _binned(probabilities, labels, bins)
    gaps = np.zeros((bins, len(labels)))
    gaps[bin_of_clip, np.arange(len(labels))] = confidence - right
    return gaps
