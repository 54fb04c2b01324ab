import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from hf_ser.evaluation.metrics import all_metrics, confidence_gaps, reliability


def log_loss(probabilities: Any, labels: Any) -> float:
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    found: float = all_metrics(probabilities, labels, list(map(str, range(np.shape(probabilities)[-1]))))["log_loss"]
    return found


def expected_calibration_error(probabilities: Any, labels: Any, bins: int) -> float:
    gaps = confidence_gaps(probabilities, np.asarray(labels), bins)
    return float(np.abs(gaps.sum(axis=1)).sum() / len(labels))


def clips(number: int, emotions: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(emotions), number), rng.integers(0, emotions, number)


def binary(*confidences: float) -> np.ndarray:
    """Clips of two emotions, the first being the more probable one."""
    return np.array([[one, 1 - one] for one in confidences])


class TestLogLoss:
    def test_a_certain_mistake_does_not_make_it_infinite(self) -> None:
        probabilities = np.eye(2)
        found = log_loss(probabilities, [1, 1])
        assert found == pytest.approx(-math.log(np.finfo(float).eps) / 2)
        assert found == pytest.approx(metrics.log_loss([1, 1], probabilities, labels=[0, 1]))

    def test_all_certain_and_right(self) -> None:
        found = log_loss(np.eye(3), [0, 1, 2])
        assert found == 0
        assert math.copysign(1, found) == 1  # not -0.0


class TestReliability:
    def test_by_hand(self) -> None:
        found = reliability(binary(0.55, 0.65, 0.75, 0.95), np.array([0, 1, 0, 0]), bins=5)
        assert [(one["low"], one["high"]) for one in found] == [(k / 5, (k + 1) / 5) for k in range(5)]
        assert [one["clips"] for one in found] == [0, 0, 1, 2, 1]
        assert [one["confidence"] for one in found] == [None, None, *map(pytest.approx, (0.55, 0.7, 0.95))]
        assert [one["accuracy"] for one in found] == [None, None, 1, 0.5, 1]
        assert json.loads(json.dumps(found, allow_nan=False)) == found

    @pytest.mark.parametrize("bins", [5, 10, 15, 25])
    def test_a_confidence_on_an_edge_is_in_the_bin_below(self, bins: int) -> None:
        """Guo et al.: a bin is ((m - 1) / M, m / M]. Trap: 14 / 25 * 25 is a little above 14."""
        for edge in range(bins // 2 + 1, bins + 1):
            found = reliability(binary(edge / bins), np.array([0]), bins=bins)
            assert [one["clips"] for one in found].index(1) == edge - 1, edge / bins

    def test_a_little_more_than_1_is_in_the_last_bin(self) -> None:
        found = reliability(np.array([[1.0005, 0]]), np.array([0]))
        assert found[-1]["clips"] == 1
        assert found[-1]["confidence"] == 1


class TestExpectedCalibrationError:
    @given(number=st.integers(1, 60), bins=st.integers(1, 30), seed=st.integers(0, 1000))
    def test_against_a_loop_and_in_any_order(self, number: int, bins: int, seed: int) -> None:
        probabilities, labels = clips(number, 3, seed)
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
        expected = 0.0
        for k in range(bins):
            inside = (confidence > k / bins) & (confidence <= (k + 1) / bins)
            if inside.any():
                expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
        found = expected_calibration_error(probabilities, labels, bins)
        assert 0 <= found <= 1
        assert found == pytest.approx(expected)
        order = np.random.default_rng(seed).permutation(number)
        assert expected_calibration_error(probabilities[order], labels[order], bins) == pytest.approx(found)
        assert sum(one["clips"] for one in reliability(probabilities, labels, bins)) == number
