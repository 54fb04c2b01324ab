"""
Metrics of emotion recognition, as `evaluate` metrics that need no network: `UAR().compute(predictions=..., references=...)`.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, roc_curve

from hf_ser.features import IGNORED

# A script is first looked for modules beside it, and one of ours, as of many others, is called evaluate.py.
_path, sys.path = sys.path, [entry for entry in sys.path if not (Path(entry) / "evaluate.py").is_file()]
import evaluate  # noqa: E402

sys.path = _path

Array = npt.NDArray[Any]


class _LabelMetric(evaluate.Metric):
    """A metric of predicted against true labels, both integers of shape `(clips,)`."""

    description = ""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(keep_in_memory=True, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(description=self.description, citation="", features=features)


class Accuracy(_LabelMetric):
    """The share of clips that are recognised."""

    description = "The share of clips that are recognised."

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}


class F1(_LabelMetric):
    """The F1 score, averaged over the emotions: `weighted` by their clips, or `macro`, each emotion alike."""

    description = "The F1 score, averaged over the emotions, weighted by their clips and each alike."

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {
            f"f1_{average}": float(f1_score(references, predictions, average=average, zero_division=0.0))
            for average in ("weighted", "macro")
        }


class UAR(_LabelMetric):
    """The unweighted average recall: the mean of the recalls of the emotions that the references have."""

    description = "The unweighted average recall, over the emotions that the references have."

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
            return {"uar": float(balanced_accuracy_score(references, predictions))}


class ConfusionMatrix(_LabelMetric):
    """Clips by true (row) and predicted (column) emotion."""

    description = "Clips by true (row) and predicted (column) emotion."

    def _compute(self, predictions: Any, references: Any, emotions: int | None = None) -> dict[str, list[list[int]]]:
        labels = list(range(emotions)) if emotions else None
        return {"confusion_matrix": confusion_matrix(references, predictions, labels=labels).tolist()}


class EER(evaluate.Metric):
    """
    The equal error rate, one emotion against the others, averaged over the emotions that the references have (HuBERT-SER,
    Table 3): the rate at the threshold where as many of the others are accepted as of the emotion are refused.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(keep_in_memory=True, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features(
            {
                "prediction_scores": datasets.Sequence(datasets.Value("float64")),
                "references": datasets.Value("int64"),
            }
        )
        return evaluate.MetricInfo(
            description="The equal error rate, one emotion against the others, averaged.",
            citation="",
            features=features,
        )

    def _compute(self, prediction_scores: Any, references: Any) -> dict[str, float]:
        scores, labels = np.asarray(prediction_scores), np.asarray(references)
        present = [k for k in range(scores.shape[1]) if 0 < (labels == k).sum() < len(labels)]
        rates = [equal_error_rate(scores[:, k], labels == k) for k in present]
        return {"eer": float(np.mean(rates)) if rates else float("nan")}


def equal_error_rate(scores: Array, positive: Array) -> float:
    """
    The equal error rate of `scores` `(clips,)` at telling the `positive` `(clips,)` from the rest. Between two thresholds
    the rates are interpolated.

    Raises:
        ValueError: if all clips are positive, or none is.
    """
    if positive.all() or not positive.any():
        raise ValueError("an equal error rate needs clips that are of the emotion and clips that are not")
    false_alarm, hit, _ = roc_curve(positive, scores, drop_intermediate=False)
    miss = 1 - hit
    after = int(np.argmax(false_alarm >= miss))  # the first threshold at which false alarms outweigh misses
    if after == 0:
        return float(false_alarm[0])
    before = after - 1
    gap_before = miss[before] - false_alarm[before]
    gap_after = false_alarm[after] - miss[after]
    weight = gap_before / (gap_before + gap_after)
    return float(false_alarm[before] + weight * (false_alarm[after] - false_alarm[before]))


class DivergedError(ValueError):
    """A training that ended in weights without finite outputs."""


def per_clip(logits: Array, labels: Array, clips: Array) -> tuple[Array, Array, Array]:
    """
    Averages the probabilities of each clip's segments.

    Args:
        logits (`array` of shape `(segments, emotions)`): The model's outputs.
        labels (`array` of shape `(segments,)`): The true labels; a clip's segments share theirs. Segments labelled -100 do not
            count.
        clips (`array` of shape `(segments,)`): The clip that each segment is cut from.

    Returns:
        The clips `(clips,)` in ascending order, their probabilities `(clips, emotions)` and labels `(clips,)`.

    Raises:
        DivergedError: if a logit is not finite: no figure can be made of it.
    """
    if not np.isfinite(logits).all():
        raise DivergedError(
            "the model's outputs are not finite (NaN or infinite): training has diverged. Lower learning_rate."
        )
    counted = np.asarray(labels) != IGNORED
    logits, labels, clips = logits[counted], np.asarray(labels)[counted], np.asarray(clips)[counted]
    scores = np.asarray(logits, dtype=np.float64)
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    names, first, clip_of = np.unique(clips, return_index=True, return_inverse=True)
    probabilities = np.zeros((len(names), scores.shape[1]))
    np.add.at(probabilities, clip_of, scores)
    return names, probabilities / np.bincount(clip_of)[:, None], labels[first]


def score(probabilities: Array, labels: Array) -> dict[str, Any]:
    """
    Every metric for clips with `probabilities` `(clips, emotions)` and true `labels` `(clips,)`: accuracy, f1_weighted,
    f1_macro, uar, eer (all between 0 and 1) and confusion_matrix (clips; rows are the true emotions).
    """
    predictions = probabilities.argmax(axis=1)
    found: dict[str, Any] = {}
    for metric in (Accuracy(), F1(), UAR()):
        found |= metric.compute(predictions=predictions, references=labels)
    found |= EER().compute(prediction_scores=probabilities, references=labels)
    found |= ConfusionMatrix().compute(predictions=predictions, references=labels, emotions=probabilities.shape[1])
    return found
