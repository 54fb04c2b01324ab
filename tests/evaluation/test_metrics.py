import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import f1_score, recall_score, roc_curve

from hf_ser.evaluation import normalised, per_clip, plots, score
from hf_ser.evaluation.metrics import EER, F1, UAR, Accuracy, ConfusionMatrix

labels_and_predictions = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=4, max_size=60)


def one_hot(predictions: list[int], classes: int = 4) -> np.ndarray:
    return np.eye(classes)[predictions]


def test_by_hand() -> None:
    # angry: 2 of 3 right; happy: 1 of 1; sad: 0 of 1, taken for angry
    references, predictions = [0, 0, 0, 1, 2], [0, 0, 1, 1, 0]
    assert Accuracy().compute(predictions=predictions, references=references) == {"accuracy": pytest.approx(3 / 5)}
    assert UAR().compute(predictions=predictions, references=references) == {"uar": pytest.approx((2 / 3 + 1 + 0) / 3)}
    f1 = F1().compute(predictions=predictions, references=references)
    # F1: angry 2*2/(3+3), happy 2*1/(1+2), sad 0
    assert f1["f1_macro"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert f1["f1_weighted"] == pytest.approx((3 * 2 / 3 + 1 * 2 / 3 + 0) / 5)
    matrix = ConfusionMatrix().compute(predictions=predictions, references=references, emotions=3)
    assert matrix == {"confusion_matrix": [[2, 1, 0], [0, 1, 0], [1, 0, 0]]}


@given(labels_and_predictions)
def test_against_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    references, predictions = map(list, zip(*pairs, strict=True))
    found = score(one_hot(predictions), np.array(references))
    present = sorted(set(references))
    assert found["uar"] == pytest.approx(
        recall_score(references, predictions, labels=present, average="macro", zero_division=0)
    )
    assert found["f1_weighted"] == pytest.approx(f1_score(references, predictions, average="weighted", zero_division=0))
    assert found["accuracy"] == pytest.approx(np.mean(np.array(references) == predictions))
    assert np.sum(found["confusion_matrix"]) == len(pairs)
    assert np.shape(found["confusion_matrix"]) == (4, 4)


def equal_error_rate(scores: list[float], positive: np.ndarray) -> float:
    """Of two emotions, whose rates are the same."""
    rate: float = score(np.array([scores, [-one for one in scores]]).T, np.where(positive, 0, 1))["eer"]
    return rate


class TestEqualErrorRate:
    def test_by_hand(self) -> None:
        # One of four positives below one of four negatives: at the threshold between, a quarter of each is wrong.
        scores = [0.9, 0.8, 0.7, 0.3, 0.6, 0.2, 0.1, 0.0]
        assert equal_error_rate(scores, np.arange(8) < 4) == pytest.approx(0.25)
        assert equal_error_rate([0.1, 0.2, 0.8, 0.9], np.arange(4) < 2) == 1

    def test_between_two_thresholds_it_is_interpolated(self) -> None:
        # Scores that tell nothing: one step from nothing accepted to all accepted crosses at a half.
        assert equal_error_rate([1.0] * 10, np.arange(10) < 3) == pytest.approx(0.5)

    @given(seed=st.integers(0, 1000), levels=st.sampled_from([3, 10, 1000]))
    def test_it_lies_where_false_alarms_and_misses_cross(self, seed: int, levels: int) -> None:
        rng = np.random.default_rng(seed)
        positive = np.arange(30) % 3 == 0
        scores = np.round(levels * (rng.random(30) + 0.3 * positive)).tolist()
        alarms, hits, _ = roc_curve(positive, scores, drop_intermediate=False)
        expected = np.interp(0, alarms - 1 + hits, alarms)
        assert equal_error_rate(scores, positive) == pytest.approx(expected)

    def test_it_is_averaged_over_the_emotions_that_are_there(self) -> None:
        scores = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.1, 0.9, 0.0], [0.7, 0.3, 0.0]])
        two = EER().compute(prediction_scores=scores[:, :2], references=[0, 0, 1, 1])["eer"]
        assert EER().compute(prediction_scores=scores, references=[0, 0, 1, 1])["eer"] == pytest.approx(two)
        assert np.isnan(EER().compute(prediction_scores=[[0.2, 0.8]] * 3, references=[1, 1, 1])["eer"])


def test_no_metric_reaches_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: evaluate.load downloads code."""

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a metric has reached for the network")

    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert score(one_hot([0, 1, 2]), np.array([0, 1, 1]))["accuracy"] == pytest.approx(2 / 3)


class TestPerClip:
    def test_the_probabilities_of_a_clips_segments_are_averaged(self) -> None:
        logits = np.log(np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.5, 0.5]]))
        clips, probabilities, labels = per_clip(logits, np.eye(2)[[0, 1, 0, 0]], np.array([7, 3, 7, 7]), 2)
        assert clips.tolist() == [3, 7]
        np.testing.assert_allclose(probabilities, [[0.2, 0.8], [0.6, 0.4]])
        assert labels.argmax(axis=1).tolist() == [1, 0]

    def test_no_figure_is_made_of_nan(self) -> None:
        with pytest.raises(ValueError, match="training has diverged"):
            per_clip(np.array([[np.nan, 0.0]]), np.eye(2)[:1], np.array([0]), 2)


def test_plots_are_drawn_even_where_a_row_or_a_log_is_empty(tmp_path: Path) -> None:
    plots.confusion_matrix([[3, 1], [0, 0]], ("happy", "sad"), tmp_path / "matrix.png", "test")
    plots.training_curves([{"epoch": 1, "loss": 2.0}], None, tmp_path / "curves.png")
    for name in ("matrix.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_confusion_matrix_has_shares_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: figures.append(figure))
    plots.confusion_matrix([[15, 1], [0, 0]], ("angry", "sad"), tmp_path / "matrix.png")
    axes = figures[0].axes[0]
    assert [text.get_text() for text in axes.texts] == ["93.8 %\n15", "6.3 %\n1", "none", "none"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["angry\n(16)", "sad\n(0)"]


class TestNormalised:
    def test_it_is_the_linear_head_on_features_without_the_mean_of_their_group(self) -> None:
        """With balanced training emotions and no bias, as a head has that starts on standardised features."""
        rng = np.random.default_rng(0)
        features, weight = rng.standard_normal((30, 5)), rng.standard_normal((5, 3))
        groups = ["a"] * 12 + ["b"] * 18
        features[:12] += 2.0
        centred = features.copy()
        for rows in (slice(0, 12), slice(12, 30)):
            centred[rows] -= centred[rows].mean(axis=0)
        found = normalised(softmax(features @ weight, axis=1), groups, np.full(3, 1 / 3))
        np.testing.assert_allclose(found, softmax(centred @ weight, axis=1), atol=1e-12)

    def test_a_group_gets_the_shares_of_training_in_the_mean_and_others_stay(self) -> None:
        rng = np.random.default_rng(0)
        probabilities = softmax(rng.standard_normal((20, 4)), axis=1)
        prior = np.array([0.4, 0.3, 0.2, 0.1])
        found = normalised(probabilities, ["a"] * 15 + [None] * 5, prior)
        mean = np.log(found[:15]).mean(axis=0)
        np.testing.assert_allclose(softmax(mean), prior, atol=1e-12)
        np.testing.assert_allclose(found[15:], probabilities[15:], atol=1e-12)
