"""How far a model's probabilities can be believed: log loss, expected calibration error, and what a reliability plot needs."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: How far from 1 a row of probabilities may add up: what 16 bits, or four decimals in a file, leave of them.
TOLERANCE = 1e-3
#: No probability counts as less in the log loss, so that one certain mistake does not make it infinite: 36 nats at most.
SMALLEST = float(np.finfo(np.float64).eps)


def checked(probabilities: Any, labels: Any) -> tuple[Array, Array]:
    """
    Probabilities as floats `(clips, emotions)` and labels as integers `(clips,)`, if metrics can be computed from them.

    Args:
        probabilities (`array` of shape `(clips, emotions)`): The model's outputs, each row adding up to 1.
        labels (`array` of shape `(clips,)`): The true labels, integers from 0 to emotions - 1.

    Raises:
        ValueError: if there is no clip, the shapes do not fit, a probability is not finite or negative, a row does not add
            up to 1 (the first such row is named), or a label is no integer or out of range.
    """
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if probabilities.ndim != 2 or labels.ndim != 1 or len(probabilities) != len(labels) or probabilities.size == 0:
        raise ValueError(
            f"metrics need probabilities (clips, emotions) and labels (clips,) of at least one clip; found shapes "
            f"{probabilities.shape} and {labels.shape}"
        )
    sums = probabilities.sum(axis=1)
    for wrong, what in (
        (~np.isfinite(probabilities).all(axis=1), "probabilities that are not finite"),
        ((probabilities < 0).any(axis=1), "a negative probability"),
        (
            ~(np.abs(sums - 1) <= TOLERANCE),
            "probabilities that do not add up to 1; a model's logits need a softmax first",
        ),
    ):
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(f"row {row} of {len(sums)} (counted from 0) has {what}: {probabilities[row].tolist()}")
    check_labels(labels, probabilities.shape[1], "label")
    return probabilities, labels.astype(np.int64)


def check_labels(labels: Array, emotions: int, what: str) -> None:
    """
    Raises:
        ValueError: if `labels` `(clips,)`, named `what` in the message, are not integers from 0 to `emotions` - 1.
    """
    if labels.dtype.kind not in "iu":
        raise ValueError(f"a {what} must be an integer, the emotion's place counted from 0; found {labels.dtype}")
    wrong = (labels < 0) | (labels >= emotions)
    if wrong.any():
        clip = int(wrong.argmax())
        raise ValueError(
            f"clip {clip} of {len(labels)} (counted from 0) has the {what} {labels[clip]}; with {emotions} emotions it "
            f"must lie between 0 and {emotions - 1}"
        )


def loss_of_clips(probabilities: Array, labels: Array) -> Array:
    """
    The negative natural logarithm of the probability of each clip's true emotion, `(clips,)`, in nats. Their mean is the log
    loss: ln(emotions) for a model that always answers 1 / emotions; unlike the loss of training not weighted by class.
    """
    loss: Array = -np.log(np.clip(probabilities[np.arange(len(labels)), labels], SMALLEST, 1.0)) + 0.0  # never -0.0
    return loss


def reliability(probabilities: Any, labels: Any, bins: int = 15) -> list[dict[str, Any]]:
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

    Raises:
        ValueError: as [`checked`] does, and if `bins` is below 1.
    """
    if bins < 1:
        raise ValueError(f"bins must be 1 or more; found {bins}")
    confidence, right, bin_of_clip = _binned(*checked(probabilities, labels), bins)
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
