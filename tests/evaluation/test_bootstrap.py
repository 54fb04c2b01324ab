import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_ser.evaluation import bootstrap, score
from hf_ser.evaluation.bootstrap import draw
from hf_ser.evaluation.metrics import METRICS, weighted_scorer


def clips(number: int, emotions: int = 4, seed: int = 0, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that know a little of the labels; with `levels` they are rounded, so that many tie."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, emotions, number)
    scores = rng.random((number, emotions)) + 0.4 * np.eye(emotions)[labels]
    scores /= scores.sum(axis=1, keepdims=True)
    return (np.round(scores * levels) / levels if levels else scores), labels


def intervals(
    probabilities: np.ndarray, labels: np.ndarray, speakers: list[str | None] | list[str] | None, **given: Any
) -> dict[str, Any]:
    return bootstrap.intervals(weighted_scorer(probabilities, labels), len(labels), speakers, **given)


class TestWeights:
    """Metrics computed from weights are those of `score` on the clips repeated by their weights."""

    @given(
        number=st.integers(1, 40),
        emotions=st.integers(2, 5),
        levels=st.sampled_from([None, 2, 4, 10]),
        seed=st.integers(0, 10_000),
        kept=st.floats(0.1, 1),
    )
    def test_against_the_clips_themselves(
        self, number: int, emotions: int, levels: int | None, seed: int, kept: float
    ) -> None:
        probabilities, labels = clips(number, emotions, seed, levels)
        rng = np.random.default_rng(seed + 1)
        weights = rng.integers(0, 4, (number, 3)) * (rng.random((number, 3)) < kept)
        weights[rng.integers(0, number), weights.sum(axis=0) == 0] = 1  # no resample is empty
        found = weighted_scorer(probabilities, labels)(weights)
        for resample in range(3):
            rows = np.repeat(np.arange(number), weights[:, resample])
            expected = score(probabilities[rows], labels[rows])
            for name in METRICS:
                assert found[name][resample] == pytest.approx(expected[name], nan_ok=True, abs=1e-12), name


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
        for unit, names in (("clips", list(map(str, range(80)))), ("speakers", speakers)):
            order = sorted(set(names)) if unit == "speakers" else names
            drawn = np.random.default_rng(3).integers(0, len(order), (30, len(order)))
            values = []
            for one in drawn:
                rows = np.concatenate([np.flatnonzero(np.array(names) == order[k]) for k in one])
                values.append(score(probabilities[rows], labels[rows]))
            for name in METRICS:
                expected = np.percentile([value[name] for value in values], [2.5, 97.5])
                np.testing.assert_allclose(found[unit][name], expected, atol=1e-12, err_msg=f"{unit} {name}")

    def test_what_it_says_is_json_and_holds_the_figure(self) -> None:
        probabilities, labels = clips(300)
        found = intervals(probabilities, labels, [f"s{i % 20:02d}" for i in range(300)])
        assert json.loads(json.dumps(found)) == found
        assert (found["level"], found["resamples"]) == (0.95, 1000)
        values = score(probabilities, labels)
        for unit in ("clips", "speakers"):
            for name in METRICS:
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


def test_details_are_those_of_the_clips_repeated_by_their_weights() -> None:
    """By brute force: every metric of a resample is that of its clips, as many times as they were drawn."""
    from hf_ser.evaluation.metrics import all_metrics

    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet(np.ones(3), 40)
    labels = rng.integers(0, 3, 40)
    weights = rng.multinomial(40, np.full(40, 1 / 40), size=5).T
    found = weighted_scorer(probabilities, labels, details=True)(weights)
    for resample in range(5):
        drawn = np.repeat(np.arange(40), weights[:, resample])
        expected = all_metrics(probabilities[drawn], labels[drawn], ["a", "b", "c"])
        for name in (*METRICS, "log_loss", "ece"):
            assert found[name][resample] == pytest.approx(expected[name], abs=1e-9), name
        for k, emotion in enumerate(("a", "b", "c")):
            assert found["recall"][k, resample] == pytest.approx(expected["recall"][emotion], abs=1e-9)
            assert found["eer_by_emotion"][k, resample] == pytest.approx(expected["eer_by_emotion"][emotion], abs=1e-9)
    scorer = weighted_scorer(probabilities, labels, details=True)
    found = bootstrap.intervals(scorer, len(labels), None, resamples=50)["clips"]
    assert len(found["recall"]) == len(found["eer_by_emotion"]) == 3
    assert found["log_loss"][0] < all_metrics(probabilities, labels, ["a", "b", "c"])["log_loss"] < found["log_loss"][1]
