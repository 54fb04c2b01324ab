"""Every figure of a model on a set of clips, ready for JSON, as a whole and by group."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_ser.evaluation.calibration import checked, expected_calibration_error, log_loss
from hf_ser.evaluation.metrics import equal_error_rate, score

Array = npt.NDArray[Any]


def figures(probabilities: Any, labels: Any, emotions: Sequence[str]) -> dict[str, Any]:
    """
    Every figure of a model on clips, ready for JSON: `None` where there is no such figure, never NaN.

    Args:
        probabilities (`array` of shape `(clips, emotions)`): The model's outputs, each row adding up to 1.
        labels (`array` of shape `(clips,)`): The true labels, integers from 0 to emotions - 1.
        emotions (`list` of `str`): The emotions' names, in the order of the columns.

    Returns:
        What [`score`] gives (accuracy, f1_weighted, f1_macro, uar and eer, between 0 and 1, and confusion_matrix, in clips),
        and `clips`; `recall` and `eer_by_emotion` (one emotion against the others) of each emotion, between 0 and 1;
        `log_loss` in nats; and `ece`, the expected calibration error in 15 bins, between 0 and 1. An emotion without clips
        has no recall, and an emotion without clips, or without clips of others, no equal error rate.

    Raises:
        ValueError: if there is no clip, the lengths differ, a probability is not finite or negative, a row does not add up
            to 1 (the first such row is named), a label is out of range, or `emotions` are not one different name for each
            column.
    """
    probabilities, labels = checked(probabilities, labels)
    _check_emotions(emotions, probabilities)
    return _figures(probabilities, labels, emotions)


def grouped(
    probabilities: Any, labels: Any, emotions: Sequence[str], groups: Sequence[str | None]
) -> dict[str, dict[str, Any]]:
    """
    The [`figures`] of each group of clips: of each corpus, speaker or gender.

    Args:
        probabilities (`array` of shape `(clips, emotions)`): The model's outputs, each row adding up to 1.
        labels (`array` of shape `(clips,)`): The true labels, integers from 0 to emotions - 1.
        emotions (`list` of `str`): The emotions' names, in the order of the columns.
        groups (`list` of `str` or `None`): The group of each clip; clips of none are left out.

    Returns:
        The figures by group, sorted by the group's name; nothing where no clip has a group.

    Raises:
        ValueError: as [`figures`] does, and if `groups` has not one entry for each clip.
    """
    probabilities, labels = checked(probabilities, labels)
    _check_emotions(emotions, probabilities)
    if len(groups) != len(labels):
        raise ValueError(f"groups need one group, or None, for each of {len(labels)} clips; found {len(groups)}")
    clips_of_group: dict[str, list[int]] = {}
    for clip, group in enumerate(groups):
        if group is not None:
            clips_of_group.setdefault(str(group), []).append(clip)
    return {
        group: _figures(probabilities[clips], labels[clips], emotions)
        for group, clips in sorted(clips_of_group.items())
    }


def _check_emotions(emotions: Sequence[str], probabilities: Array) -> None:
    if len(emotions) != probabilities.shape[1] or len(set(emotions)) != len(emotions):
        raise ValueError(
            f"emotions need one different name for each of {probabilities.shape[1]} columns of probabilities; found "
            f"{list(emotions)}"
        )


def _figures(probabilities: Array, labels: Array, emotions: Sequence[str]) -> dict[str, Any]:
    with warnings.catch_warnings():
        # A group of one emotion, all of it recognised, is nothing to warn of here.
        warnings.filterwarnings("ignore", message="A single label was found")
        found = score(probabilities, labels)
    # With one emotion alone, there is no equal error rate.
    found["eer"] = None if math.isnan(found["eer"]) else found["eer"]
    matrix = np.asarray(found["confusion_matrix"])
    true = matrix.sum(axis=1)
    return {
        **found,
        "clips": len(labels),
        "recall": {emotion: float(matrix[k, k] / true[k]) if true[k] else None for k, emotion in enumerate(emotions)},
        "eer_by_emotion": {
            emotion: equal_error_rate(probabilities[:, k], labels == k) if 0 < true[k] < len(labels) else None
            for k, emotion in enumerate(emotions)
        },
        "log_loss": log_loss(probabilities, labels),
        "ece": expected_calibration_error(probabilities, labels),
    }
