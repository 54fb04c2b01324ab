"""What is measured of several targets at once, and the metrics of dimensions that a report has beyond a run's."""

from typing import Any

import numpy as np
import pytest
from formulas import concordance

from hf_ser.evaluation.dimensions import dimension_scorer, joint_histogram, mean_scorer
from hf_ser.evaluation.fairness import fairness_of_dimension
from hf_ser.evaluation.measures import Evaluated
from hf_ser.evaluation.metrics import all_metrics

DRAWN: dict[str, Any] = {"resamples": 19, "seed": 3}


def rated(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels of a dimension."""
    rng = np.random.default_rng(seed)
    truth = rng.random(number)
    return 0.6 * truth + 0.4 * rng.random(number), truth


def evaluated(number: int = 40) -> Evaluated:
    """Two emotions and two dimensions; every fourth clip lacks an emotion, the first eight a dimension."""
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet([1, 1], number)
    pairs = [rated(number, seed) for seed in (1, 2)]
    values, truth = (np.stack(of, axis=1) for of in zip(*pairs, strict=True))
    labels = rng.integers(0, 2, number)
    labels[::4], truth[:8, 0] = -1, np.nan
    shares = np.full((number, 2), np.nan)
    speakers = [f"s{place % 10}" for place in range(number)]
    return Evaluated(("happy", "sad"), ("arousal", "valence"), probabilities, values, labels, shares, truth, speakers)


class TestEvaluated:
    def test_each_target_is_measured_on_the_clips_with_a_label_of_it(self) -> None:
        clips = evaluated()
        measures = clips.measures
        assert {name: len(measure.rows) for name, measure in measures.items()} == {
            "emotion": 30, "dimensions": 40, "arousal": 32, "valence": 40
        }  # fmt: skip
        metrics = clips.metrics(**DRAWN)
        rows = np.isfinite(clips.truth[:, 0])
        ccc = concordance(clips.values[rows, 0], clips.truth[rows, 0])
        assert metrics["dimensions"]["arousal"]["ccc"] == pytest.approx(ccc)
        assert metrics["ccc"] == pytest.approx((ccc + metrics["dimensions"]["valence"]["ccc"]) / 2)
        assert (metrics["clips"], np.sum(metrics["confusion_matrix"])) == (40, 30)
        assert "distribution" not in metrics
        intervals = clips.intervals(**DRAWN)
        assert intervals is not None
        for unit in ("clips", "speakers"):
            assert {"uar", "eer", "ccc"} <= intervals[unit].keys()
            low, high = metrics["dimensions"]["arousal"]["intervals"][unit]["ccc"]
            assert low < ccc < high

    def test_parts_of_it(self) -> None:
        clips = evaluated()
        assert clips.only((), ("valence",)).measures.keys() == {"dimensions", "valence"}
        assert clips.only(clips.emotions, ()).measures.keys() == {"emotion"}
        some = clips.select(np.arange(10))
        assert (len(some), some.speakers) == (10, clips.speakers[:10])
        own = all_metrics(clips.probabilities[some.labelled], clips.labels[some.labelled], clips.emotions)
        assert {name: some.metrics()[name] for name in own} == own
        unlabelled = clips.only((), ("arousal",)).select(np.array([0, 5]))
        assert unlabelled.metrics() == {"clips": 2}
        assert unlabelled.intervals(**DRAWN) is None

    def test_the_mean_is_over_the_dimensions_for_which_ccc_is_defined(self) -> None:
        values, truth = rated(20)
        pairs = np.stack([values, values], axis=1), np.stack([truth, np.full(20, 0.5)], axis=1)
        once = np.ones((20, 1))
        assert mean_scorer(*pairs)(once)["ccc"] == pytest.approx([concordance(values, truth)])
        assert np.isnan(mean_scorer(pairs[0][:, 1:], pairs[1][:, 1:])(once)["ccc"]).all()


def test_metrics_from_weights_are_those_of_the_clips_repeated_by_their_weights() -> None:
    values, truth = rated(60)
    weights = np.random.default_rng(3).multinomial(60, np.full(60, 1 / 60), size=5).T
    found = dimension_scorer(values, truth)(weights)
    for resample, of_clips in enumerate(weights.T):
        rows = np.repeat(np.arange(60), of_clips)
        assert found["ccc"][resample] == pytest.approx(concordance(values[rows], truth[rows]))
        assert found["mae"][resample] == pytest.approx(np.abs(values[rows] - truth[rows]).mean())


class TestFairnessOfADimension:
    def test_a_model_that_predicts_less_for_one_gender(self) -> None:
        values, truth = rated(200)
        genders = ["female", "male"] * 100
        even = fairness_of_dimension(values, truth, genders, draws=100)
        shifted = fairness_of_dimension(values - 0.3 * (np.arange(200) % 2), truth, genders, draws=100)
        errors = [float((values - truth)[k::2].mean()) for k in range(2)]
        assert [even["by_gender"][name]["mean_error"] for name in ("female", "male")] == pytest.approx(errors)
        assert even["mean_error"] == pytest.approx(abs(errors[0] - errors[1]))
        assert even["mean_error"] < 2 * even["by_chance"]["mean_error"]["p95"]
        assert shifted["mean_error"] > 0.2 > 2 * shifted["by_chance"]["mean_error"]["p95"]
        assert shifted["by_gender"]["female"] == even["by_gender"]["female"]
        ccc = concordance(values[::2], truth[::2]) - concordance(values[1::2], truth[1::2])
        assert even["ccc"] == pytest.approx(abs(ccc))

    def test_chance_is_that_of_permuted_genders(self) -> None:
        """Of four clips two women: each of the six ways to choose them is as likely."""
        values, truth = np.array([0.1, 0.3, 0.5, 0.9]), np.array([0.0, 0.1, 0.2, 0.3])
        found = fairness_of_dimension(values, truth, ["f", "f", "m", "m"], draws=3000)
        errors = values - truth
        ways = sorted(abs(errors[[0, k]].mean() - np.delete(errors, [0, k]).mean()) for k in (1, 2, 3))
        assert found["by_chance"]["mean_error"]["median"] == pytest.approx(ways[1])
        assert found["by_chance"]["mean_error"]["p95"] == pytest.approx(ways[2])

    @pytest.mark.parametrize(
        ("genders", "reason"),
        [([None] * 4, "are not known"), (["female"] * 3 + [None], "there is no other to compare")],
    )
    def test_where_there_is_nothing_to_compare(self, genders: list[str | None], reason: str) -> None:
        found = fairness_of_dimension(*rated(4), genders)
        assert (found["mean_error"], found["ccc"]) == (None, None)
        assert reason in found["reason"]
        assert found["unknown"] == genders.count(None)


def test_a_histogram_of_labels_and_predictions() -> None:
    values, truth = np.array([-0.2, 0.5, 1.3, 0.5, 0.2]), np.array([0.0, 0.51, 1.0, 0.52, np.nan])
    found = np.array(joint_histogram(values, truth))
    assert found.shape == (20, 20)
    assert (found[0, 0], found[10, 10], found[19, 19], found.sum()) == (1, 2, 1, 4)
