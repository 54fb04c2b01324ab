"""Every metric of a model on a set of clips, ready for JSON, as a whole and by group."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_ser.evaluation.calibration import checked
from hf_ser.evaluation.metrics import confusion, weighted_scorer


def figures(probabilities: Any, labels: Any, emotions: Sequence[str]) -> dict[str, Any]:
    """
    Every metric of a model on clips, ready for JSON: `None` where there is none, never NaN.

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
    if len(emotions) != probabilities.shape[1] or len(set(emotions)) != len(emotions):
        raise ValueError(
            f"emotions need one different name for each of {probabilities.shape[1]} columns of probabilities; found "
            f"{list(emotions)}"
        )
    once = np.ones((len(labels), 1), dtype=np.int64)
    found = weighted_scorer(probabilities, labels, details=True)(once)
    values = {name: [None if math.isnan(one) else float(one) for one in value.ravel()] for name, value in found.items()}
    return {
        **{name: value[0] for name, value in values.items()},
        "confusion_matrix": confusion(probabilities, labels),
        "clips": len(labels),
        **{name: dict(zip(emotions, values[name], strict=True)) for name in ("recall", "eer_by_emotion")},
    }


def grouped(
    probabilities: Any, labels: Any, emotions: Sequence[str], groups: Sequence[str | None]
) -> dict[str, dict[str, Any]]:
    """
    The [`figures`] of each group of clips: of each corpus, speaker or gender.

    Args:
        probabilities, labels, emotions: See [`figures`].
        groups (`list` of `str` or `None`): The group of each clip; clips of none are left out.

    Returns:
        The metrics by group, sorted by the group's name; nothing where no clip has a group.

    Raises:
        ValueError: as [`figures`] does, and if `groups` has not one entry for each clip.
    """
    probabilities, labels = checked(probabilities, labels)
    if len(groups) != len(labels):
        raise ValueError(f"groups need one group, or None, for each of {len(labels)} clips; found {len(groups)}")
    clips_of_group: dict[str, list[int]] = {}
    for clip, group in enumerate(groups):
        if group is not None:
            clips_of_group.setdefault(str(group), []).append(clip)
    return {
        group: figures(probabilities[clips], labels[clips], emotions) for group, clips in sorted(clips_of_group.items())
    }
