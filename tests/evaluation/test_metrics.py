"""The metrics of emotions, of clips that are cut into segments, and their plots."""

import json
import math
import socket
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics

from hf_ser.evaluation import normalised, per_clip, plots, score
from hf_ser.evaluation.metrics import EER, F1, UAR, Accuracy, ConfusionMatrix, all_metrics
from hf_ser.results import RunResults

EXAMPLE = Path(__file__).parents[2] / "model_cards/hubert-mini-ravdess-full"
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
        predictions = probabilities.argmax(axis=1)
        recall = metrics.recall_score(labels, predictions, labels=range(4), average=None, zero_division=np.nan)
        expected = [None if math.isnan(one) else pytest.approx(one) for one in recall]
        assert list(found["recall"].values()) == expected
        assert found["uar"] == pytest.approx(np.nanmean(recall))
        assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predictions))
        for average in ("weighted", "macro"):
            expected_f1 = metrics.f1_score(labels, predictions, average=average, zero_division=0)
            assert found[f"f1_{average}"] == pytest.approx(expected_f1)
        assert found["confusion_matrix"] == metrics.confusion_matrix(labels, predictions, labels=range(4)).tolist()
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


def equal_error_rate(scores: list[float], positive: np.ndarray) -> float:
    """Of two emotions, whose rates are the same."""
    rate: float = score(np.array([scores, [-one for one in scores]]).T, np.where(positive, 0, 1))["eer"]
    return rate


class TestEqualErrorRate:
    def test_between_two_thresholds_it_is_interpolated(self) -> None:
        # Scores that tell nothing: one step from nothing accepted to all accepted crosses at a half.
        assert equal_error_rate([1.0] * 10, np.arange(10) < 3) == pytest.approx(0.5)

    @given(seed=st.integers(0, 1000), levels=st.sampled_from([3, 10, 1000]))
    def test_it_lies_where_false_alarms_and_misses_cross(self, seed: int, levels: int) -> None:
        rng = np.random.default_rng(seed)
        positive = np.arange(30) % 3 == 0
        scores = np.round(levels * (rng.random(30) + 0.3 * positive)).tolist()
        alarms, hits, _ = metrics.roc_curve(positive, scores, drop_intermediate=False)
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
    assert Accuracy().compute(predictions=[0, 1, 2], references=[0, 1, 1]) == {"accuracy": pytest.approx(2 / 3)}


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
    results = RunResults.read(EXAMPLE)
    for figure in (
        plots.confusion_matrix([[3, 1], [0, 0]], ("happy", "sad"), "test"),
        plots.training_curves(replace(results, history=[], probe=None, metrics={})),
    ):
        plots.save_figure(figure, tmp_path / "plot.png")
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_training_curves_have_the_probe_and_what_was_kept() -> None:
    results = RunResults.read(EXAMPLE)
    lines = {line.get_label(): line.get_ydata() for line in plots.training_curves(results).axes[1].lines}
    assert results.probe is not None
    assert lines["UAR of the probe"][0] == pytest.approx(100 * results.probe["validation"]["uar"])
    assert lines["UAR of the kept weights"] == pytest.approx([100 * results.metrics["validation"]["uar"]])
    assert len(lines["UAR"]) == 3


def test_the_confusion_matrix_has_shares_and_counts() -> None:
    axes = plots.confusion_matrix([[15, 1], [0, 0]], ("angry", "sad")).axes[0]
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
