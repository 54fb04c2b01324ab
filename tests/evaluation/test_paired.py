import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_ser.evaluation import score
from hf_ser.evaluation.bootstrap import mcnemar, paired
from hf_ser.evaluation.metrics import METRICS, weighted_scorer


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


def compare(
    first: np.ndarray, second: np.ndarray, labels: np.ndarray, speakers: list[str | None] | None = None, **given: Any
) -> dict[str, Any]:
    found = paired(weighted_scorer(first, labels), weighted_scorer(second, labels), len(labels), speakers, **given)
    return found | {"mcnemar": mcnemar(first.argmax(axis=1) == labels, second.argmax(axis=1) == labels)}


def speakers(number: int, of: int = 12) -> list[str | None]:
    return [f"s{k % of:02d}" for k in range(number)]


def test_the_figures_are_those_of_score() -> None:
    first, second, labels = models(100)
    found = compare(first, second, labels, resamples=10)
    before, after = score(first, labels), score(second, labels)
    for name in METRICS:
        assert found["first"][name] == pytest.approx(before[name])
        assert found["second"][name] == pytest.approx(after[name])
        assert found["difference"][name] == pytest.approx(after[name] - before[name])


def test_against_a_plain_bootstrap() -> None:
    first, second, labels = models(60, better=0.05)
    names = speakers(60, of=10)
    found = compare(first, second, labels, names, resamples=19, seed=3)
    for unit, units in (("clips", list(range(60))), ("speakers", names)):
        order = sorted(set(units))
        drawn = np.random.default_rng(3).integers(0, len(order), (19, len(order)))
        differences = []
        for one in drawn:
            rows = np.concatenate([np.flatnonzero(np.array(units) == order[k]) for k in one])
            before, after = score(first[rows], labels[rows]), score(second[rows], labels[rows])
            differences.append([after[name] - before[name] for name in METRICS])
        for k, name in enumerate(METRICS):
            values = np.array(differences)[:, k]
            interval = np.percentile(values, [2.5, 97.5])
            np.testing.assert_allclose(found[unit][name]["interval"], interval, atol=1e-12, err_msg=f"{unit} {name}")
            fewer = min((values < 1e-12).sum(), (values > -1e-12).sum())
            assert found[unit][name]["p"] == pytest.approx(min(1, 2 * (fewer + 1) / 20)), f"{unit} {name}"


class TestAModelAndItself:
    def test_do_not_differ(self) -> None:
        first, _, labels = models(80)
        found = compare(first, first, labels, speakers(80), resamples=50)
        assert found["difference"] == dict.fromkeys(METRICS, 0)
        for unit in ("clips", "speakers"):
            assert found[unit] == {name: {"interval": [0, 0], "p": 1} for name in METRICS}
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
        for name in METRICS:
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
    for name in METRICS:
        if there["difference"][name] is not None:
            assert there["difference"][name] == pytest.approx(-back["difference"][name])
        if there["clips"][name] is not None:
            low, high = back["clips"][name]["interval"]
            assert there["clips"][name] == {"interval": [pytest.approx(-high), pytest.approx(-low)],
                                            "p": back["clips"][name]["p"]}  # fmt: skip
            assert 2 / 31 <= there["clips"][name]["p"] <= 1
    assert there["mcnemar"]["only_first"] == back["mcnemar"]["only_second"]
    assert there["mcnemar"]["p"] == back["mcnemar"]["p"]


class TestMcNemar:
    @staticmethod
    def of(both: int, only_first: int, only_second: int, neither: int) -> dict[str, Any]:
        first = [1] * (both + only_first) + [0] * (only_second + neither)
        second = [1] * both + [0] * only_first + [1] * only_second + [0] * neither
        return mcnemar(np.array(first, dtype=bool), np.array(second, dtype=bool))

    def test_by_hand(self) -> None:
        # 1 of 6 throws, or fewer, and as unlikely on the other side: 2 * (1 + 6) / 2^6
        assert self.of(10, 1, 5, 4) == {
            "both": 10,
            "only_first": 1,
            "only_second": 5,
            "neither": 4,
            "p": pytest.approx(2 * 7 / 64),
        }
