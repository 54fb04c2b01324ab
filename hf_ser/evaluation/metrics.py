"""
Metrics of emotion recognition, as `evaluate` metrics that need no network: `UAR().compute(predictions=..., references=...)`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import datasets
import numpy as np
from scipy.special import softmax

from hf_ser.evaluation.dimensions import Array, Scorer, count_pairs, mean_where, values_of

# Python looks for modules beside a script first, and one of our scripts, as of many others, is called evaluate.py.
_path, sys.path = sys.path, [entry for entry in sys.path if not (Path(entry) / "evaluate.py").is_file()]
import evaluate  # noqa: E402

sys.path = _path

EMOTION_METRICS = ("uar", "accuracy", "f1_weighted", "f1_macro", "eer")
#: The lowest probability in the log loss, so that one certain mistake does not make it infinite: it is 36 nats at most.
SMALLEST = float(np.finfo(np.float64).eps)


class _Metric(evaluate.Metric):
    """Metrics of [`score`] from predicted and true labels, both integers of shape `(clips,)`."""

    names: ClassVar[tuple[str, ...]] = ()
    predicted: ClassVar[Any] = {"predictions": datasets.Value("int64")}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(keep_in_memory=True, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({**self.predicted, "references": datasets.Value("int64")})
        return evaluate.MetricInfo(description=self.__doc__, citation="", features=features)

    def _compute(self, predictions: Any, references: Any, emotions: int | None = None) -> dict[str, Any]:
        one_hot = np.eye(emotions or 1 + max(*predictions, *references))[np.asarray(predictions)]
        found = score(one_hot, np.asarray(references))
        return {name: found[name] for name in self.names}


class Accuracy(_Metric):
    """The share of clips that are predicted correctly."""

    names = ("accuracy",)


class F1(_Metric):
    """The F1 score, averaged over the emotions: `weighted` by their clips, or `macro`, each emotion alike."""

    names = ("f1_weighted", "f1_macro")


class UAR(_Metric):
    """The unweighted average recall: the mean of the recalls of the emotions that the references have."""

    names = ("uar",)


class ConfusionMatrix(_Metric):
    """Clips by true (row) and predicted (column) emotion."""

    names = ("confusion_matrix",)


class EER(_Metric):
    """
    The equal error rate, one emotion against the others, averaged over the emotions that the references have (HuBERT-SER, Table
    3): the error rate at the threshold where the share of the others that is accepted equals the share of the emotion that is
    rejected.
    """

    predicted: ClassVar[Any] = {"prediction_scores": datasets.Sequence(datasets.Value("float64"))}

    def _compute(self, prediction_scores: Any, references: Any) -> dict[str, Any]:  # type: ignore[override]
        return {"eer": score(np.asarray(prediction_scores), np.asarray(references))["eer"]}


class DivergedError(ValueError):
    """A training whose weights have no finite outputs."""


def per_clip(logits: Array, labels: Array, clips: Array, emotions: int) -> tuple[Array, Array, Array]:
    """
    Averages the outputs of each clip's segments: probabilities of emotions, values of dimensions.

    Args:
        logits (`array` of shape `(segments, outputs)`): The model's outputs.
        labels (`array` of shape `(segments, outputs)`): The true outputs, the same for all segments of a clip. Segments without
            any label (NaN) do not count.
        clips (`array` of shape `(segments,)`): The clip that each segment is cut from.
        emotions (`int`): The number of logits of emotions, which are the first outputs.

    Returns:
        The clips `(clips,)` in ascending order, their outputs and their labels, both `(clips, outputs)`.

    Raises:
        DivergedError: if a logit is not finite.
    """
    if not np.isfinite(logits).all():
        raise DivergedError(
            "the model's outputs are not finite (NaN or infinite): training has diverged. Lower learning_rate."
        )
    counted = np.isfinite(labels).any(axis=1)
    outputs = np.array(logits, dtype=np.float64)[counted]
    if emotions:
        outputs[:, :emotions] = softmax(outputs[:, :emotions], axis=1)
    names, first, clip_of = np.unique(np.asarray(clips)[counted], return_index=True, return_inverse=True)
    sums = np.zeros((len(names), outputs.shape[1]))
    np.add.at(sums, clip_of, outputs)
    return names, sums / np.bincount(clip_of)[:, None], np.asarray(labels)[counted][first]


def emotion_metrics(probabilities: Array, wanted: Array) -> dict[str, Any]:
    """
    The metrics of [`score`] over the clips that have an emotion; of a distribution the most frequent one counts. Empty without
    any. `wanted` has the true probabilities `(clips, emotions)`, NaN for a clip without emotion.
    """
    there = np.isfinite(wanted[:, 0])
    return score(probabilities[there], wanted[there].argmax(axis=1)) if there.any() else {}


def normalised(probabilities: Array, groups: Sequence[str | None], prior: Array) -> Array:
    """
    Adapts predictions to each speaker or corpus without labels: the mean of the log-probabilities over the clips of a group
    becomes the logarithm of `prior`. For a linear head this is the same as subtracting the group's mean from its features. It
    assumes that the shares of the emotions are about the same in each group.

    Args:
        probabilities (`np.ndarray` of shape `(clips, emotions)`): The model's own.
        groups (`Sequence[str]`): The speaker or corpus of each clip; clips without one keep their probabilities.
        prior (`np.ndarray` of shape `(emotions,)`): The expected shares of the emotions.

    Returns:
        Probabilities `(clips, emotions)`.
    """
    tiny = np.finfo(np.float64).tiny
    scores = np.log(np.maximum(probabilities, tiny))
    names = np.array([name or "" for name in groups])
    for name in {*names.tolist()} - {""}:
        inside = names == name
        scores[inside] += np.log(np.maximum(prior, tiny)) - scores[inside].mean(axis=0)
    found = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def score(probabilities: Array, labels: Array) -> dict[str, Any]:
    """
    Every metric for clips with `probabilities` `(clips, emotions)` and true `labels` `(clips,)`: accuracy, f1_weighted,
    f1_macro, uar, eer (all between 0 and 1) and confusion_matrix (clips; rows are the true emotions).
    """
    found = weighted_scorer(probabilities, labels)(np.ones((len(labels), 1), dtype=np.int64))
    return {
        **{name: float(value[0]) for name, value in found.items()},
        "confusion_matrix": confusion(probabilities, labels),
    }


def confusion(probabilities: Array, labels: Array) -> list[list[int]]:
    """The clips by true (row) and predicted (column) emotion."""
    return count_pairs(labels, probabilities.argmax(axis=1), probabilities.shape[1])


def all_metrics(probabilities: Array, labels: Array, emotions: Sequence[str]) -> dict[str, Any]:
    """
    Every metric of a model on clips, ready for JSON: `None` in place of NaN.

    Args:
        probabilities (`array` of shape `(clips, emotions)`): The model's outputs, each row adding up to 1; at least one.
        labels (`array` of shape `(clips,)`): The true labels, integers from 0 to emotions - 1.
        emotions (`list` of `str`): The emotions' names, in the order of the columns.

    Returns:
        The metrics of [`score`]; `recall` and `eer_by_emotion` (one emotion against the others) of each emotion, between 0 and 1;
        `log_loss` in nats, not weighted by class: ln(emotions) for a model that always predicts 1 / emotions; and `ece`, the
        expected calibration error in 15 bins, between 0 and 1. An emotion without clips has no recall. An emotion without
        clips, or without clips of others, has no equal error rate.
    """
    values = values_of(weighted_scorer(probabilities, labels, details=True), len(labels))
    by_emotion = {name: dict(zip(emotions, values[name], strict=True)) for name in ("recall", "eer_by_emotion")}
    return {**values, **by_emotion, "confusion_matrix": confusion(probabilities, labels)}


def weighted_scorer(probabilities: Array, labels: Array, details: bool = False) -> Scorer:
    """
    A function that takes integer weights `(clips, resamples)` and returns each of `EMOTION_METRICS` as `(resamples,)`: for each
    resample the metrics of [`score`] on the clips repeated by their weights, NaN if there is none. The clips are sorted once.

    Args:
        probabilities, labels: See [`all_metrics`].
        details (`bool`, *optional*, defaults to `False`): Whether it returns `log_loss` and `ece` `(resamples,)`, and `recall`
            and `eer_by_emotion` `(emotions, resamples)`, too.
    """
    emotions = probabilities.shape[1]
    cell = labels * emotions + probabilities.argmax(axis=1)
    by_cell = np.argsort(cell, kind="stable")
    cells, starts = np.unique(cell[by_cell], return_index=True)
    if details:
        loss = -np.log(np.clip(probabilities[np.arange(len(labels)), labels], SMALLEST, 1.0)) + 0.0  # never -0.0
        gaps = confidence_gaps(probabilities, labels)

    def score_weighted(weights: Array) -> dict[str, Array]:
        resamples = weights.shape[1]
        matrix = np.zeros((emotions * emotions, resamples))
        matrix[cells] = np.add.reduceat(weights[by_cell], starts, axis=0, dtype=np.int64)
        metrics = _from_confusion(matrix.reshape(emotions, emotions, resamples))
        rates = np.stack([_equal_error_rates(weights, probabilities[:, k], labels == k) for k in range(emotions)])
        metrics["eer"] = mean_where(rates, np.isfinite(rates))
        if not details:
            return {name: metrics[name] for name in EMOTION_METRICS}
        clips = weights.sum(axis=0)
        metrics["log_loss"] = loss @ weights / clips
        metrics["ece"] = np.abs(gaps @ weights).sum(axis=0) / clips
        return {**metrics, "eer_by_emotion": rates}

    return score_weighted


def _from_confusion(matrix: Array) -> dict[str, Array]:
    """The metrics of confusion matrices `(emotions, emotions, resamples)`, rows being the true emotions."""
    right = np.einsum("kkr->kr", matrix)  # (emotions, resamples)
    true, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    clips = true.sum(axis=0)
    recall = right / np.maximum(true, 1)
    f1 = 2 * right / np.maximum(true + predicted, 1)
    return {
        "recall": np.where(true > 0, recall, np.nan),
        "uar": mean_where(recall, true > 0),
        "accuracy": right.sum(axis=0) / clips,
        "f1_weighted": (f1 * true).sum(axis=0) / clips,
        # As in scikit-learn: over the emotions that clips have or that are predicted.
        "f1_macro": mean_where(f1, true + predicted > 0),
    }


def _equal_error_rates(weights: Array, scores: Array, positive: Array) -> Array:
    """
    For each resample the equal error rate of one emotion against the others, interpolated between two thresholds; NaN if a
    resample has no clip of the emotion, or no other.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(-scores[order], append=np.inf))  # clips with the same score are accepted together
    hits, alarms = (
        np.cumsum(np.where(of[order, None], weights[order], 0), axis=0)[last] for of in (positive, ~positive)
    )  # (thresholds, resamples)
    above = np.zeros((1, weights.shape[1]))  # the first threshold accepts nothing
    with np.errstate(invalid="ignore"):
        false, miss = np.concatenate([above, alarms / alarms[-1]]), np.concatenate([1 + above, 1 - hits / hits[-1]])
    # With a lower threshold there are more false alarms and fewer misses. The first threshold with as many false alarms, and the
    # one before.
    at, column = (false >= miss).argmax(axis=0), np.arange(weights.shape[1])
    before, after = (miss - false)[at - 1, column], (false - miss)[at, column]
    with np.errstate(invalid="ignore"):
        return (after * false[at - 1, column] + before * false[at, column]) / (before + after)


def reliability(probabilities: Array, labels: Array, bins: int = 15) -> list[dict[str, Any]]:
    """
    The accuracy of the clips of about the same confidence, for a reliability plot (Guo et al. 2017, *On Calibration of Modern
    Neural Networks*, arXiv 1706.04599, section 2).

    The confidence of a clip is the probability of its most probable emotion. The bins have equal width; as in the paper, a bin
    from `low` to `high` includes `high` and not `low`. See [`all_metrics`] for the arguments.

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
    """The confidence of each clip `(clips,)`, whether its prediction is correct, and its bin."""
    confidence = np.minimum(probabilities.max(axis=1), 1.0)
    # The number of inner edges below a confidence. Not the product with the bins, because 14 / 25 * 25 is slightly above 14.
    edges = np.arange(1, bins) / bins
    return confidence, probabilities.argmax(axis=1) == labels, np.searchsorted(edges, confidence, side="left")


def confidence_gaps(probabilities: Array, labels: Array, bins: int = 15) -> Array:
    """
    In the row of each clip's bin its confidence minus 1 if the prediction is correct, else its confidence: `(bins, clips)`. The
    sum of the absolute sums of the rows, divided by the clips, is the expected calibration error (Guo et al. 2017, equation 3).
    """
    confidence, right, bin_of_clip = _binned(probabilities, labels, bins)
    gaps = np.zeros((bins, len(labels)))
    gaps[bin_of_clip, np.arange(len(labels))] = confidence - right
    return gaps
