"""Intervals of metrics, and the comparison of two models on the same clips."""

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_ser.evaluation import bootstrap, score
from hf_ser.evaluation.bootstrap import draw, mcnemar, paired
from hf_ser.evaluation.metrics import EMOTION_METRICS, all_metrics, weighted_scorer


def models(
    number: int, better: float = 0.2, seed: int = 0, emotions: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two models that know a little of the labels, the second more by `better`; and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, emotions, number)
    outputs = []
    for known in (0.4, 0.4 + better):
        scores = rng.random((number, emotions)) + known * np.eye(emotions)[labels]
        outputs.append(scores / scores.sum(axis=1, keepdims=True))
    return outputs[0], outputs[1], labels


def clips(number: int, emotions: int = 4, seed: int = 0, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The first of them; with `levels` its probabilities are rounded, so that many tie."""
    scores, _, labels = models(number, seed=seed, emotions=emotions)
    return (np.round(scores * levels) / levels if levels else scores), labels


def plainly_drawn(units: list[Any], resamples: int, seed: int) -> Iterator[np.ndarray]:
    """The clips of each resample, where clips (each a unit) or speakers with all of their clips are drawn."""
    order = sorted(set(units))
    for one in np.random.default_rng(seed).integers(0, len(order), (resamples, len(order))):
        yield np.concatenate([np.flatnonzero(np.array(units) == order[k]) for k in one])


def intervals(
    probabilities: np.ndarray, labels: np.ndarray, speakers: list[str | None] | list[str] | None, **given: Any
) -> dict[str, Any]:
    return bootstrap.intervals(weighted_scorer(probabilities, labels), len(labels), speakers, **given)


@given(
    number=st.integers(1, 40),
    emotions=st.integers(2, 5),
    levels=st.sampled_from([None, 2, 4, 10]),
    seed=st.integers(0, 10_000),
    kept=st.floats(0.1, 1),
)
def test_metrics_from_weights_are_those_of_the_clips_repeated_by_their_weights(
    number: int, emotions: int, levels: int | None, seed: int, kept: float
) -> None:
    probabilities, labels = clips(number, emotions, seed, levels)
    rng = np.random.default_rng(seed + 1)
    weights = rng.integers(0, 4, (number, 3)) * (rng.random((number, 3)) < kept)
    weights[rng.integers(0, number), weights.sum(axis=0) == 0] = 1  # no resample is empty
    found = weighted_scorer(probabilities, labels, details=True)(weights)
    few = weighted_scorer(probabilities, labels)(weights)
    for resample in range(3):
        rows = np.repeat(np.arange(number), weights[:, resample])
        expected = all_metrics(probabilities[rows], labels[rows], list("abcde")[:emotions])
        for name, values in found.items():
            each = expected[name].values() if isinstance(expected[name], dict) else [expected[name]]
            truth = [np.nan if one is None else one for one in each]
            np.testing.assert_allclose(np.atleast_1d(values[..., resample]), truth, atol=1e-9, err_msg=name)
        for name in EMOTION_METRICS:
            np.testing.assert_array_equal(few[name], found[name])


class TestDraw:
    def test_a_speaker_is_drawn_with_all_clips(self) -> None:
        speaker = np.repeat(np.arange(12), [1, 5, 2, 3, 1, 1, 1, 1, 4, 2, 2, 7])
        for weights in draw(speaker, 50, 0):
            for one in range(12):
                assert (weights[speaker == one] == weights[speaker == one][0]).all()
            first = np.unique(speaker, return_index=True)[1]
            assert (weights[first].sum(axis=0) == 12).all()

    def test_how_many_are_drawn_at_once_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        probabilities, labels = clips(50)
        speakers = [f"s{i % 11}" for i in range(50)]
        whole = intervals(probabilities, labels, speakers, resamples=40)
        monkeypatch.setattr(bootstrap, "CHUNK", 50 * 7)
        assert intervals(probabilities, labels, speakers, resamples=40) == whole


class TestIntervals:
    def test_against_a_plain_bootstrap(self) -> None:
        probabilities, labels = clips(80, levels=20)
        speakers = [f"s{i % 10}" for i in range(80)]
        found = intervals(probabilities, labels, speakers, resamples=30, seed=3)
        for unit, units in (("clips", list(range(80))), ("speakers", speakers)):
            values = [score(probabilities[rows], labels[rows]) for rows in plainly_drawn(units, 30, 3)]
            for name in EMOTION_METRICS:
                expected = np.percentile([value[name] for value in values], [2.5, 97.5])
                np.testing.assert_allclose(found[unit][name], expected, atol=1e-12, err_msg=f"{unit} {name}")

    def test_what_it_says_is_json_and_holds_the_figure(self) -> None:
        probabilities, labels = clips(300)
        found = intervals(probabilities, labels, [f"s{i % 20:02d}" for i in range(300)])
        assert json.loads(json.dumps(found)) == found
        assert (found["level"], found["resamples"]) == (0.95, 1000)
        values = score(probabilities, labels)
        for unit in ("clips", "speakers"):
            for name in EMOTION_METRICS:
                low, high = found[unit][name]
                assert 0 <= low < values[name] < high <= 1
        assert "speakers_reason" not in found

    def test_speakers_who_differ_make_it_wider(self) -> None:
        labels = np.tile([0, 1], 200)
        speakers = np.repeat(np.arange(20), 20)
        right = np.where(speakers % 2 == 0, labels, 1 - labels)  # all clips of half of the speakers are wrong
        found = intervals(np.eye(2)[right], labels, [str(one) for one in speakers])
        width = {unit: np.diff(found[unit]["accuracy"])[0] for unit in ("clips", "speakers")}
        assert width["speakers"] > 3 * width["clips"]

    @pytest.mark.parametrize(
        ("speakers", "reason"),
        [
            (None, "the clips' speakers are not known"),
            (["a"] * 10 + [None] * 20, "20 of 30 clips have no known speaker"),
            (["a"] * 30, "1 speaker, too few to draw from; at least 10 are needed"),
            ([str(i % 9) for i in range(30)], "9 speakers, too few to draw from; at least 10 are needed"),
        ],
    )
    def test_where_there_is_none_by_speaker_it_says_why(self, speakers: list[str | None] | None, reason: str) -> None:
        probabilities, labels = clips(30)
        found = intervals(probabilities, labels, speakers, resamples=10)
        assert found["speakers"] is None
        assert found["speakers_reason"] == reason

    def test_no_figure_is_made_of_one_emotion(self) -> None:
        probabilities, _ = clips(20)
        found = intervals(probabilities, np.zeros(20, dtype=int), None, resamples=10)
        assert found["clips"]["eer"] is None
        assert found["clips"]["uar"] is not None

    def test_the_seed_decides(self) -> None:
        probabilities, labels = clips(40)
        first, again, other = (intervals(probabilities, labels, None, resamples=50, seed=seed) for seed in (1, 1, 2))
        assert first == again
        assert first["clips"] != other["clips"]

    def test_it_is_quick(self) -> None:
        probabilities, labels = clips(10_000, 8)
        speakers = [str(i % 50) for i in range(10_000)]
        began = time.process_time()
        intervals(probabilities, labels, speakers, resamples=100)
        assert time.process_time() - began < 5  # a fifth of a second on an idle processor


def test_an_interval_of_each_emotion() -> None:
    probabilities, labels = clips(40, 3)
    scorer = weighted_scorer(probabilities, labels, details=True)
    found = bootstrap.intervals(scorer, len(labels), None, resamples=50)["clips"]
    assert len(found["recall"]) == len(found["eer_by_emotion"]) == 3
    assert found["log_loss"][0] < all_metrics(probabilities, labels, ["a", "b", "c"])["log_loss"] < found["log_loss"][1]


def compare(
    first: np.ndarray, second: np.ndarray, labels: np.ndarray, speakers: list[str | None] | None = None, **given: Any
) -> dict[str, Any]:
    found = paired(weighted_scorer(first, labels), weighted_scorer(second, labels), len(labels), speakers, **given)
    return found | {"mcnemar": mcnemar(first.argmax(axis=1) == labels, second.argmax(axis=1) == labels)}


def speakers(number: int, of: int = 12) -> list[str | None]:
    return [f"s{k % of:02d}" for k in range(number)]


def test_a_comparison_against_a_plain_bootstrap() -> None:
    first, second, labels = models(60, better=0.05)
    names = speakers(60, of=10)
    found = compare(first, second, labels, names, resamples=19, seed=3)
    for key, expected in (("first", score(first, labels)), ("second", score(second, labels))):
        assert found[key] == {name: pytest.approx(expected[name]) for name in EMOTION_METRICS}
        assert all(
            found["difference"][name] == pytest.approx(found["second"][name] - found["first"][name])
            for name in EMOTION_METRICS
        )
    for unit, units in (("clips", list(range(60))), ("speakers", names)):
        differences = []
        for rows in plainly_drawn(units, 19, 3):
            before, after = score(first[rows], labels[rows]), score(second[rows], labels[rows])
            differences.append([after[name] - before[name] for name in EMOTION_METRICS])
        for k, name in enumerate(EMOTION_METRICS):
            values = np.array(differences)[:, k]
            interval = np.percentile(values, [2.5, 97.5])
            np.testing.assert_allclose(found[unit][name]["interval"], interval, atol=1e-12, err_msg=f"{unit} {name}")
            fewer = min((values < 1e-12).sum(), (values > -1e-12).sum())
            assert found[unit][name]["p"] == pytest.approx(min(1, 2 * (fewer + 1) / 20)), f"{unit} {name}"


class TestAModelAndItself:
    def test_do_not_differ(self) -> None:
        first, _, labels = models(80)
        found = compare(first, first, labels, speakers(80), resamples=50)
        assert found["difference"] == dict.fromkeys(EMOTION_METRICS, 0)
        for unit in ("clips", "speakers"):
            assert found[unit] == {name: {"interval": [0, 0], "p": 1} for name in EMOTION_METRICS}
        assert found["mcnemar"]["p"] == 1
        assert found["mcnemar"]["only_first"] == found["mcnemar"]["only_second"] == 0

    def test_what_rounding_leaves_is_no_difference(self) -> None:
        """The same recalls of other emotions: their means are added up in another order."""
        labels = np.repeat(np.arange(3), 10)
        right = np.array([1, 2, 3])  # (0.1 + 0.2) + 0.3 is a little more than (0.3 + 0.2) + 0.1
        outputs = []
        for of_emotion in (right, right[::-1]):
            predictions = labels.copy()
            for emotion, number in enumerate(of_emotion):
                predictions[emotion * 10 + number : (emotion + 1) * 10] = (emotion + 1) % 3
            outputs.append(np.eye(3)[predictions])
        assert compare(*outputs, labels, resamples=5)["difference"]["uar"] == 0


def test_a_better_model_is_found_to_be_one() -> None:
    first, second, labels = models(400, better=0.5)
    found = compare(first, second, labels, speakers(400, of=20), resamples=200)
    for unit in ("clips", "speakers"):
        for name in EMOTION_METRICS:
            low, high = found[unit][name]["interval"]
            assert low < found["difference"][name] < high
            assert high < 0 if name == "eer" else low > 0
            assert found[unit][name]["p"] == pytest.approx(2 / 201)
    assert found["mcnemar"]["p"] < 1e-6
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_both_are_scored_on_the_same_resamples() -> None:
    """Two models that differ on one clip: apart, each moves by some per cent; together, by that clip alone."""
    first, _, labels = models(200)
    second = first.copy()
    wrong = int(np.flatnonzero(first.argmax(axis=1) != labels)[0])
    second[wrong] = np.eye(4)[labels[wrong]]
    low, high = compare(first, second, labels)["clips"]["accuracy"]["interval"]
    assert low == 0
    assert 1 / 200 <= high <= 4 / 200


@given(number=st.integers(2, 40), seed=st.integers(0, 1000))
def test_the_other_way_round_the_signs_change_and_nothing_else(number: int, seed: int) -> None:
    first, second, labels = models(number, seed=seed)
    there, back = (compare(*pair, labels, resamples=30, seed=seed) for pair in ((first, second), (second, first)))
    assert (there["first"], there["second"]) == (back["second"], back["first"])
    for name in EMOTION_METRICS:
        if there["difference"][name] is not None:
            assert there["difference"][name] == pytest.approx(-back["difference"][name])
        if there["clips"][name] is not None:
            low, high = back["clips"][name]["interval"]
            assert there["clips"][name] == {"interval": [pytest.approx(-high), pytest.approx(-low)],
                                            "p": back["clips"][name]["p"]}  # fmt: skip
            assert 2 / 31 <= there["clips"][name]["p"] <= 1
    assert there["mcnemar"]["only_first"] == back["mcnemar"]["only_second"]
    assert there["mcnemar"]["p"] == back["mcnemar"]["p"]


def test_mcnemars_test_by_hand() -> None:
    first, second = [1] * 11 + [0] * 9, [1] * 10 + [0] + [1] * 5 + [0] * 4
    # 1 of 6 throws, or fewer, and as unlikely on the other side: 2 * (1 + 6) / 2^6
    counts = {"both": 10, "only_first": 1, "only_second": 5, "neither": 4, "p": pytest.approx(2 * 7 / 64)}
    assert mcnemar(np.array(first, dtype=bool), np.array(second, dtype=bool)) == counts
