import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from hf_ser.evaluation.calibration import TOLERANCE, checked, confidence_gaps, reliability
from hf_ser.evaluation.metrics import all_metrics


def log_loss(probabilities: Any, labels: Any) -> float:
    found: float = all_metrics(probabilities, labels, list(map(str, range(np.shape(probabilities)[-1]))))["log_loss"]
    return found


def expected_calibration_error(probabilities: Any, labels: Any, bins: int) -> float:
    gaps = confidence_gaps(*checked(probabilities, labels), bins)
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
        found = reliability(binary(0.55, 0.65, 0.75, 0.95), [0, 1, 0, 0], bins=5)
        assert [(one["low"], one["high"]) for one in found] == [(k / 5, (k + 1) / 5) for k in range(5)]
        assert [one["clips"] for one in found] == [0, 0, 1, 2, 1]
        assert [one["confidence"] for one in found] == [None, None, *map(pytest.approx, (0.55, 0.7, 0.95))]
        assert [one["accuracy"] for one in found] == [None, None, 1, 0.5, 1]
        assert json.loads(json.dumps(found, allow_nan=False)) == found

    @pytest.mark.parametrize("bins", [5, 10, 15, 25])
    def test_a_confidence_on_an_edge_is_in_the_bin_below(self, bins: int) -> None:
        """Guo et al.: a bin is ((m - 1) / M, m / M]. Trap: 14 / 25 * 25 is a little above 14."""
        for edge in range(bins // 2 + 1, bins + 1):
            found = reliability(binary(edge / bins), [0], bins=bins)
            assert [one["clips"] for one in found].index(1) == edge - 1, edge / bins

    def test_a_little_more_than_1_is_in_the_last_bin(self) -> None:
        found = reliability([[1 + TOLERANCE / 2, 0]], [0])
        assert found[-1]["clips"] == 1
        assert found[-1]["confidence"] == 1

    @pytest.mark.parametrize("bins", [0, -1])
    def test_no_bin(self, bins: int) -> None:
        with pytest.raises(ValueError, match=f"bins must be 1 or more; found {bins}"):
            reliability(np.eye(2), [0, 1], bins)


class TestExpectedCalibrationError:
    def test_by_hand(self) -> None:
        # Bins of a fifth: one clip at 0.55, right; 0.65 and 0.75, one of them right; 0.95, right.
        found = expected_calibration_error(binary(0.55, 0.65, 0.75, 0.95), [0, 1, 0, 0], bins=5)
        assert found == pytest.approx((1 * 0.45 + 2 * 0.2 + 1 * 0.05) / 4)

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


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, dtype=int), r"at least one clip; found shapes \(0, 3\) and \(0,\)"),
        (np.zeros((2, 0)), [0, 0], r"found shapes \(2, 0\)"),
        (np.eye(3), [0, 1], r"found shapes \(3, 3\) and \(2,\)"),
        ([0.5, 0.5], [0, 1], r"found shapes \(2,\) and \(2,\)"),
        (np.eye(2), [[0], [1]], r"found shapes \(2, 2\) and \(2, 1\)"),
        (
            [[1, 0], [np.nan, 1], [np.inf, 0]],
            [0, 1, 1],
            r"row 1 of 3 \(counted from 0\) has .* not finite: \[nan, 1.0\]",
        ),
        ([[1, 0], [1, 0], [np.inf, 0]], [0, 1, 1], "row 2 of 3 .* not finite"),
        ([[1, 0], [1.2, -0.2]], [0, 1], "row 1 of 2 .* a negative probability"),
        ([[0.5, 0.5], [2, 3], [4, 4]], [0, 1, 1], "row 1 of 3 .* do not add up to 1; a model's logits need a softmax"),
        ([[0.5, 0.498], [0.5, 0.5]], [0, 1], "row 0 of 2 .* do not add up to 1"),
        (np.eye(2), [0, 2], "clip 1 of 2 .* has the label 2; with 2 emotions it must lie between 0 and 1"),
        (np.eye(2), [-1, 0], "clip 0 of 2 .* has the label -1"),
        (np.eye(2), [0.0, 1.0], "a label must be an integer, .* found float64"),
        (np.eye(2), ["0", "1"], "a label must be an integer"),
    ],
)
def test_what_does_not_fit_is_refused(probabilities: object, labels: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_loss(probabilities, labels)
