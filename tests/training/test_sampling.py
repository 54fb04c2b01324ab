"""The order of clips, their shares among processes, and micro-batches of clips of like length."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_ser.audio import Segments, cut
from hf_ser.training.sampling import StepSampler, longest_first, micro_batches_of_like_length


class _Lengths:
    """What the sampler needs of a dataset."""

    def __init__(self, samples: list[int], labels: list[int] | None = None) -> None:
        n = len(samples)
        self.emotions = np.array(labels)
        self.segments = Segments(np.arange(n), np.zeros(n, dtype=np.int64), np.array(samples))

    def __len__(self) -> int:
        return len(self.segments)


class TestStepSampler:
    @given(
        samples=st.lists(st.integers(1, 100), min_size=1, max_size=60),
        each=st.integers(1, 5),
        processes=st.integers(1, 4),
        accumulated=st.integers(1, 3),
        epoch=st.integers(0, 2),
    )
    def test_several_processes_get_equally_many_batches_and_fillers_do_not_count(
        self, samples: list[int], each: int, processes: int, accumulated: int, epoch: int
    ) -> None:
        n, batch = len(samples), each * processes
        sampler = StepSampler(_Lengths(samples), batch, 0, accumulated, processes)  # type: ignore[arg-type]
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert len(keys) == len(sampler)
        assert processes == 1 or len(keys) % batch == 0
        assert sorted(key % n for key in keys if key >= 0) == list(range(n))
        fillers = [-1 - key for key in keys if key < 0]
        assert all(key // n == epoch for key in fillers)
        last = [key % n for key in keys[(n - 1) // (batch * accumulated) * batch * accumulated :] if key >= 0]
        assert all(samples[key % n] == min(samples[i] for i in last) for key in fillers)

    def test_the_processes_of_a_step_wait_little_for_each_other(self) -> None:
        lengths = np.random.default_rng(0).uniform(1.5, 7, 6400)

        def waiting(keys: list[int]) -> float:
            work = lengths[keys].reshape(-1, 4, 8).sum(axis=2)  # (steps, processes)
            return float((work.max(axis=1) / work.mean(axis=1)).mean() - 1)

        sampler = StepSampler(_Lengths(lengths.tolist()), 32, seed=0, processes=4)  # type: ignore[arg-type]
        assert waiting(list(sampler)) < 0.02
        assert waiting(np.random.default_rng(0).permutation(6400).tolist()) > 0.1

    def test_how_a_step_is_cut_into_batches_does_not_change_its_clips(self) -> None:
        lengths = np.random.default_rng(0).integers(1500, 7000, 2000).tolist()
        whole, cut_up = (
            np.array(list(StepSampler(_Lengths(lengths), 64 // n, seed=0, accumulated=n))).copy()  # type: ignore[arg-type]
            for n in (1, 8)
        )
        for first in range(0, 2000, 64):
            assert set(whole[first : first + 64]) == set(cut_up[first : first + 64])

    def test_the_batches_of_a_step_are_of_like_length(self) -> None:
        lengths = np.random.default_rng(0).integers(1500, 7000, 2048)

        def padding(accumulated: int) -> float:
            keys = list(StepSampler(_Lengths(lengths.tolist()), 8, seed=0, accumulated=accumulated))  # type: ignore[arg-type]
            return float(1 - lengths.sum() / (8 * lengths[np.array(keys)].reshape(-1, 8).max(axis=1)).sum())

        assert padding(8) < 0.1
        assert padding(1) > 0.3

    def test_a_step_is_a_random_sample_whatever_the_lengths(self) -> None:
        lengths = np.random.default_rng(0).integers(1500, 7000, 3200)
        keys = np.array(list(StepSampler(_Lengths(lengths.tolist()), 32, seed=0)))  # type: ignore[arg-type]
        means = lengths[keys].reshape(-1, 32).mean(axis=1)
        expected = lengths.std() / np.sqrt(32)
        assert 0.7 * expected < means.std() < 1.4 * expected

    @given(
        labels=st.lists(st.integers(0, 4), min_size=1, max_size=80),
        each=st.integers(1, 5),
        processes=st.integers(1, 4),
        accumulated=st.integers(1, 3),
        epoch=st.integers(0, 3),
    )
    def test_a_balanced_epoch_has_each_emotion_equally_often_on_however_many_processes(
        self, labels: list[int], each: int, processes: int, accumulated: int, epoch: int
    ) -> None:
        n, batch = len(labels), each * processes
        samples = [1 + i % 7 for i in range(n)]
        found = []
        for count in (1, processes):
            sampler = StepSampler(_Lengths(samples, labels), batch, 5, accumulated, count, balanced=True)  # type: ignore[arg-type]
            sampler.set_epoch(epoch)
            found.append(list(sampler))
            assert len(found[-1]) == len(sampler)
            assert found[-1] == list(sampler)
        one, several = found
        step = batch * accumulated
        for first in range(0, n, step):
            assert sorted(k for k in several[first : first + step] if k >= 0) == sorted(one[first : first + step])
        assert len(one) == len(set(one)) == n  # a clip that is drawn again is augmented in another way
        draws = np.bincount([key % n for key in one], minlength=n)
        by_emotion = [draws[np.array(labels) == emotion] for emotion in set(labels)]
        totals = [mine.sum() for mine in by_emotion]
        assert max(totals) - min(totals) <= 1
        assert all(mine.max() - mine.min() <= 1 for mine in by_emotion)

    def test_balanced_epochs_take_others_of_a_frequent_emotion_and_other_views_of_a_rare_one(self) -> None:
        labels = [0] * 90 + [1] * 10
        sampler = StepSampler(_Lengths([5] * 100, labels), 8, seed=0, balanced=True)  # type: ignore[arg-type]
        epochs = []
        for epoch in range(8):
            sampler.set_epoch(epoch)
            epochs.append(list(sampler))
        assert {key % 100 for keys in epochs for key in keys} == set(range(100))
        assert len({key for keys in epochs for key in keys}) == 800
        views = [key // 100 % 4 for key in epochs[0] if key % 100 == 95]
        assert set(views) == {0, 1, 2, 3}

    @pytest.mark.parametrize("processes", [1, 2])
    def test_epochs_differ_and_a_seed_repeats(self, processes: int) -> None:
        def order(seed: int, epoch: int) -> list[int]:
            sampler = StepSampler(_Lengths(list(range(100))), 4, seed, processes=processes)  # type: ignore[arg-type]
            sampler.set_epoch(epoch)
            return [key % 100 for key in sampler]

        assert order(1, 0) == order(1, 0)
        assert order(1, 0) != order(1, 1)
        assert order(1, 0) != order(2, 0)


def test_longest_first() -> None:
    segments = longest_first(cut([3, 9, 5]))
    assert segments.clip.tolist() == [1, 2, 0]
    assert segments.samples.tolist() == [9, 5, 3]


class TestMicroBatches:
    @given(
        lengths=st.lists(st.integers(1, 40), min_size=1, max_size=40),
        budget=st.floats(1, 300),
        fixed=st.floats(0, 50),
    )
    def test_every_clip_is_in_one_micro_batch_within_the_budget(
        self, lengths: list[int], budget: float, fixed: float
    ) -> None:
        ordered = sorted(lengths, reverse=True)
        parts = [ordered[part] for part in micro_batches_of_like_length(np.array(ordered), budget, fixed)]
        assert [length for part in parts for length in part] == ordered
        for part in parts:
            assert len(part) == 1 or len(part) * part[0] <= budget

    @given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=7), fixed=st.floats(0, 30))
    def test_no_other_cut_is_less_work(self, lengths: list[int], fixed: float) -> None:
        budget = 45.0

        def work(parts: list[list[int]]) -> float:
            return sum(len(part) * max(part) + fixed for part in parts)

        ordered = sorted(lengths, reverse=True)
        cuts = [
            [ordered[a:b] for a, b in zip([0, *inner], [*inner, len(ordered)], strict=True)]
            for n in range(len(ordered))
            for inner in itertools.combinations(range(1, len(ordered)), n)
        ]
        allowed = [cut for cut in cuts if all(len(p) == 1 or len(p) * max(p) <= budget for p in cut)]
        found = [ordered[part] for part in micro_batches_of_like_length(np.array(ordered), budget, fixed)]
        assert work(found) == pytest.approx(min(work(cut) for cut in allowed))
