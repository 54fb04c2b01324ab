"""The order in which clips are streamed. Whole runs are tested in tests/training/test_streamed_runs.py."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset
from hypothesis import given
from hypothesis import strategies as st

from hf_ser.audio import AudioError, Augmentation, Segments
from hf_ser.audio.decode import REASONS, encode
from hf_ser.corpora.hub_dataset import ParquetStream, RowGroup
from hf_ser.training.streaming import Stream, StreamedSpeech, StreamSampler


def streamed(
    sizes: Sequence[int], buffer: int = 30, start: Sequence[int] | None = None, stop: Sequence[int] | None = None
) -> StreamedSpeech:
    """A segment of each clip in row groups of these sizes."""
    count = sum(sizes)
    audio = ParquetStream([RowGroup("clips.parquet", number, size, "audio") for number, size in enumerate(sizes)], {})
    columns = {"label": [n % 3 for n in range(count)], "row": range(count), "samples_hash": map(str, range(count))}
    segments = Segments(np.arange(count), np.array(start or [0] * count), np.array(stop or [1000] * count))
    clips = Dataset.from_dict({name: list(values) for name, values in columns.items()})
    clips = clips.cast_column("label", ClassLabel(names=["angry", "happy", "sad"]))
    clips.info.stream = Stream(audio, 400, 0.0, buffer)
    return StreamedSpeech(clips, segments, Augmentation())


GROUPS = st.lists(st.integers(1, 9), min_size=1, max_size=12)


@given(
    sizes=GROUPS,
    batch=st.integers(1, 7),
    buffer=st.integers(1, 40),
    processes=st.integers(1, 3),
    workers=st.integers(0, 3),
    seed=st.integers(0, 3),
)
def test_an_epoch_has_every_segment_once_and_every_process_as_many_batches(
    sizes: list[int], batch: int, buffer: int, processes: int, workers: int, seed: int
) -> None:
    dataset = streamed(sizes, buffer)
    sampler = StreamSampler(dataset, batch, seed, processes, workers)
    for epoch in (2, 3):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert len(keys) == len(sampler)
        assert sorted(key - epoch * sum(sizes) for key in keys if key >= 0) == list(range(sum(sizes)))
        if processes > 1:
            assert len(keys) % (batch * processes) == 0
        assert keys == list(sampler)


@given(sizes=GROUPS, batch=st.integers(1, 7), processes=st.integers(1, 3))
def test_an_evaluation_has_every_segment_once_and_no_filler(sizes: list[int], batch: int, processes: int) -> None:
    sampler = StreamSampler(streamed(sizes), batch, None, processes)
    keys = list(sampler)
    assert sorted(keys) == list(range(sum(sizes)))
    assert len(sampler) == sum(sizes)
    if processes == 1:
        assert keys == list(range(sum(sizes)))


def test_each_process_has_its_own_row_groups() -> None:
    """Four processes that each fetched everything would wait four times as long for the same Hub."""
    dataset = streamed([10] * 40, 80)
    keys = np.array(list(StreamSampler(dataset, 5, seed=0, processes=2, workers=2))).reshape(-1, 5)
    readers = [set(dataset.group[keys[n::4].ravel()].tolist()) for n in range(4)]
    assert sum(map(len, readers)) == 40


def test_epochs_differ_and_runs_do_not() -> None:
    orders = []
    for epoch in (0, 1, 0):
        sampler = StreamSampler(streamed([5] * 20), 4, seed=1)
        sampler.set_epoch(epoch)
        orders.append([key % 100 for key in sampler])
    assert orders[0] == orders[2] != orders[1]


@given(sizes=GROUPS, buffer=st.integers(1, 40), seed=st.integers(0, 3))
def test_no_more_segments_wait_than_the_buffer_holds(sizes: list[int], buffer: int, seed: int) -> None:
    dataset = streamed(sizes, buffer)
    fetched: set[int] = set()
    for n, key in enumerate(StreamSampler(dataset, 4, seed)):
        fetched.add(int(dataset.group[key]))
        waiting = sum(sizes[group] for group in fetched) - n - 1
        assert waiting < buffer + max(sizes)


def test_a_buffer_mixes_what_lies_together() -> None:
    dataset = streamed([10] * 100, 200)
    order = dataset.group[list(StreamSampler(dataset, 8, seed=0))]
    together = np.mean(order[1:] == order[:-1])
    assert together < 0.1  # without a buffer it is 0.9


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The row groups that were fetched, all of clips of 1,000 samples."""
    groups: list[int] = []

    def fetch(self: ParquetStream, group: int, rows: Sequence[int]) -> list[dict[str, Any]]:
        groups.append(group)
        noise = [np.random.default_rng(int(row)).uniform(-1, 1, 1000).astype(np.float32) for row in rows]
        return [{"bytes": encode(clip, "PCM_16"), "path": None} for clip in noise]

    monkeypatch.setattr(ParquetStream, "fetch", fetch)
    return groups


def test_fillers_fetch_nothing(fetched: list[int]) -> None:
    """Each would fetch a whole row group for a clip that does not count."""
    speech = streamed([4, 4])
    items = [speech[key] for key in StreamSampler(speech, 5, seed=0, processes=2)]
    assert sorted(fetched) == [0, 1]
    assert all(np.isnan(item["labels"]).all() for item in items[8:])
    assert sorted(item["labels"].argmax() for item in items[:8]) == sorted(n % 3 for n in range(8))


def test_a_segment_that_is_too_short_does_not_count(fetched: list[int]) -> None:
    """A table may give a clip a greater length than it has; too little may be left then of its last segment."""
    speech = streamed(
        [4, 4], start=[0, 600, 601, 900, 1000, 0, 0, 0], stop=[1000, 1000, 1001, 1300, 1400, 300, 400, 401]
    )
    items = [speech[i] for i in range(8)]
    assert [i for i, item in enumerate(items) if np.isnan(item["labels"]).all()] == [2, 3, 4]
    assert all(len(item["waveform"]) >= min(400, stop) for item, stop in zip(items, speech.segments.stop, strict=True))


@pytest.mark.parametrize("reason", REASONS)
def test_a_clip_is_excluded_for_any_reason(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object, shortest: int) -> None:
        raise AudioError(reason, "as it is")

    monkeypatch.setattr("hf_ser.training.streaming.read_mono", refuse)
    stream = Stream(ParquetStream([RowGroup("clips.parquet", 0, 3, "audio")], {}), 400, 1.0, 1)
    assert stream.decode(1, {"bytes": b"", "path": None}) is None
    assert [(clip.clip, clip.reason) for clip in stream.excluded(["a", "b", "c"], [0, 1, 2])] == [("b", reason)]
