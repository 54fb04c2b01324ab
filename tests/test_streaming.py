"""The order in which clips are streamed. What comes of it is tested with whole runs, in tests/training/test_streaming.py."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from hf_ser.audio import Augmentation, Segments
from hf_ser.audio.decode import encode
from hf_ser.corpora import hub_stream
from hf_ser.corpora.hub_stream import HubStream, RowGroup
from hf_ser.features import IGNORED
from hf_ser.streaming import Stream, StreamedSpeech, StreamSampler, buffered


def in_groups(group: np.ndarray, buffer: int) -> Any:
    """All that a sampler asks of a dataset."""
    stream = SimpleNamespace(buffer=buffer)
    return type("InGroups", (), {"group": group, "stream": stream, "__len__": lambda self: len(group)})()


@given(
    groups=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    batch=st.integers(1, 7),
    buffer=st.integers(1, 40),
    processes=st.integers(1, 3),
    workers=st.integers(0, 3),
    seed=st.integers(0, 3),
)
def test_an_epoch_has_every_segment_once_and_every_process_as_many_batches(
    groups: list[int], batch: int, buffer: int, processes: int, workers: int, seed: int
) -> None:
    group = np.repeat(np.arange(len(groups)), groups)
    dataset = in_groups(group, buffer)
    sampler = StreamSampler(dataset, batch, seed, processes, workers)
    sampler.set_epoch(2)
    keys = list(sampler)
    assert len(keys) == len(sampler)
    assert sorted(key - 2 * len(group) for key in keys if key >= 0) == list(range(len(group)))
    if processes > 1:
        assert len(keys) % (batch * processes) == 0
    assert keys == list(sampler)
    sampler.set_epoch(3)
    assert sorted(key - 3 * len(group) for key in sampler if key >= 0) == list(range(len(group)))


def test_each_reader_keeps_to_its_own_row_groups() -> None:
    """Four processes that each fetched everything would wait four times as long for the same Hub."""
    group = np.repeat(np.arange(40), 10)
    keys = np.array(list(StreamSampler(in_groups(group, 80), 5, seed=0, processes=2, workers=2))).reshape(-1, 5)
    readers = [set(group[keys[n::4].ravel()].tolist()) for n in range(4)]
    assert sum(map(len, readers)) == 40
    order = keys.ravel()
    assert abs(np.corrcoef(np.arange(len(order)), group[order])[0, 1]) < 0.5


@given(
    groups=st.lists(st.integers(1, 9), min_size=1, max_size=12), batch=st.integers(1, 7), processes=st.integers(1, 3)
)
def test_an_evaluation_has_every_segment_once_and_no_filler(groups: list[int], batch: int, processes: int) -> None:
    group = np.repeat(np.arange(len(groups)), groups)
    sampler = StreamSampler(in_groups(group, 10), batch, None, processes)
    keys = list(sampler)
    assert sorted(keys) == list(range(len(group)))
    assert len(sampler) == len(group)
    if processes == 1:
        assert keys == list(range(len(group)))


def test_two_epochs_have_another_order_and_two_runs_the_same() -> None:
    orders = []
    for epoch in (0, 1, 0):
        sampler = StreamSampler(in_groups(np.repeat(np.arange(20), 5), 30), 4, seed=1)
        sampler.set_epoch(epoch)
        orders.append([key % 100 for key in sampler])
    assert orders[0] == orders[2] != orders[1]


def test_a_buffer_mixes_what_lies_together() -> None:
    order = buffered(np.arange(1000), 200, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(1000))
    assert max(order[:100]) < 300  # what has not come yet cannot leave
    assert np.abs(np.diff(order)).mean() > 50


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The row groups that were fetched, all of clips of 1,000 samples."""
    groups: list[int] = []

    def fetch(self: HubStream, group: int, rows: Sequence[int]) -> list[dict[str, Any]]:
        groups.append(group)
        return [
            {
                "bytes": encode(np.random.default_rng(row).uniform(-1, 1, 1000).astype(np.float32), "PCM_16"),
                "path": None,
            }
            for row in rows
        ]

    monkeypatch.setattr(HubStream, "fetch", fetch)
    return groups


def streamed(start: Sequence[int], stop: Sequence[int]) -> StreamedSpeech:
    """Two row groups of four clips, of each a piece."""
    audio = HubStream([RowGroup("clips.parquet", number, 4, "audio") for number in range(2)])
    clips = Dataset.from_dict(
        {"label": [n % 3 for n in range(8)], "row": list(range(8)), "samples_hash": [str(n) for n in range(8)]}
    )
    segments = Segments(np.arange(8), np.array(start), np.array(stop))
    return StreamedSpeech(clips, segments, Stream(audio, 400, 0.0, 10), Augmentation())


def test_fillers_fetch_nothing(fetched: list[int]) -> None:
    """Each would fetch a whole row group for a clip that does not count."""
    speech = streamed([0] * 8, [1000] * 8)
    sampler = StreamSampler(speech, 5, seed=0, processes=2)
    items = [speech[key] for key in sampler]
    assert sorted(fetched) == [0, 1]
    assert [item["label"] for item in items[8:]] == [IGNORED] * 2
    assert sorted(item["label"] for item in items[:8]) == sorted(n % 3 for n in range(8))


def test_a_stream_of_many_files_keeps_few_of_them_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set may have thousands: each would stay a connection, in every process that loads batches."""
    opened: list[str] = []
    closed: list[str] = []

    class File:
        def __init__(self, name: str) -> None:
            self.name = name
            opened.append(name)

        def read_row_group(self, number: int, columns: list[str]) -> pa.Table:
            assert self.name not in closed
            return pa.table({"audio": [{"bytes": self.name.encode(), "path": None}]})

        def close(self, force: bool) -> None:
            assert force  # a file that was given stays open otherwise
            closed.append(self.name)

    monkeypatch.setattr(hub_stream, "_parquet", File)
    count = hub_stream.OPEN_FILES
    audio = HubStream([RowGroup(f"{n}.parquet", 0, 1, "audio") for n in range(count + 2)])

    def hear(group: int) -> None:
        assert audio.fetch(group, [group]) == [{"bytes": f"{group}.parquet".encode(), "path": None}]

    for group in range(count):
        hear(group)
    hear(0)
    assert (len(opened), closed) == (count, [])
    hear(count)
    hear(count + 1)
    assert closed == ["1.parquet", "2.parquet"]  # those that were not read for the longest time
    hear(0)
    assert len(opened) == count + 2


def test_a_piece_that_is_too_short_does_not_count(fetched: list[int]) -> None:
    """A table may say that a clip is longer than it is: an encoder cannot hear what is left of the last piece."""
    speech = streamed([0, 600, 601, 900, 1000, 0, 0, 0], [1000, 1000, 1001, 1300, 1400, 300, 400, 401])
    items = [speech[i] for i in range(8)]
    assert [item["label"] == IGNORED for item in items] == [False, False, True, True, True, False, False, False]
    assert all(len(item["waveform"]) >= min(400, stop) for item, stop in zip(items, speech.segments.stop, strict=True))
