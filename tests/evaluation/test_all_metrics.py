import json
import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from hf_ser.evaluation import score
from hf_ser.evaluation.metrics import all_metrics

EMOTIONS = ("angry", "happy", "neutral", "sad")


def clips(number: int, seed: int = 0, emotions: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, emotions, number)
    scores = rng.random((number, emotions)) + 0.4 * np.eye(emotions)[labels]
    return scores / scores.sum(axis=1, keepdims=True), labels


def flat(found: dict[str, Any]) -> list[float]:
    """All numbers in their order, a missing one as -1."""
    values: list[float] = []
    for value in found.values():
        inner = list(value.values()) if isinstance(value, dict) else np.ravel(-1 if value is None else value).tolist()
        values += [-1 if one is None else one for one in inner]
    return values


class TestAllMetrics:
    def test_by_hand(self) -> None:
        probabilities = np.array([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.1, 0.9]])
        found = all_metrics(probabilities, np.array([0, 0, 1, 1]), ("happy", "sad"))
        assert found["confusion_matrix"] == [[1, 1], [0, 2]]
        assert found["recall"] == {"happy": 0.5, "sad": 1.0}
        assert found["uar"] == found["accuracy"] == 0.75
        assert found["eer_by_emotion"] == {"happy": 0.0, "sad": 0.0}  # a threshold at 0.35 separates them
        assert found["log_loss"] == pytest.approx(-(math.log(0.8) + math.log(0.4) + math.log(0.7) + math.log(0.9)) / 4)
        # each clip in a bin of its own: 0.8 right, 0.6 wrong, 0.7 right, 0.9 right
        assert found["ece"] == pytest.approx((0.2 + 0.6 + 0.3 + 0.1) / 4)

    def test_all_that_score_says(self) -> None:
        probabilities, labels = clips(100)
        found, scored = all_metrics(probabilities, labels, EMOTIONS), score(probabilities, labels)
        assert {name: found[name] for name in scored} == scored
        assert found["eer"] == pytest.approx(np.mean(list(found["eer_by_emotion"].values())))
        assert found["uar"] == pytest.approx(np.mean(list(found["recall"].values())))

    @given(number=st.integers(1, 40), seed=st.integers(0, 1000))
    def test_against_scikit_learn_and_in_any_order(self, number: int, seed: int) -> None:
        probabilities, labels = clips(number, seed)
        found = all_metrics(probabilities, labels, EMOTIONS)
        recall = metrics.recall_score(
            labels, probabilities.argmax(axis=1), labels=range(4), average=None, zero_division=np.nan
        )
        expected = [None if math.isnan(one) else pytest.approx(one) for one in recall]
        assert list(found["recall"].values()) == expected
        assert found["log_loss"] == pytest.approx(metrics.log_loss(labels, probabilities, labels=range(4)))
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        order = np.random.default_rng(seed).permutation(number)
        assert flat(all_metrics(probabilities[order], labels[order], EMOTIONS)) == pytest.approx(flat(found))

    def test_one_emotion_alone(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = all_metrics(np.eye(4)[[3, 3, 3]], np.array([3, 3, 3]), EMOTIONS)
        assert found["eer"] is None
        assert found["eer_by_emotion"] == dict.fromkeys(EMOTIONS)
        assert found["recall"] == {"angry": None, "happy": None, "neutral": None, "sad": 1.0}
        assert np.shape(found["confusion_matrix"]) == (4, 4)
        json.dumps(found, allow_nan=False)
