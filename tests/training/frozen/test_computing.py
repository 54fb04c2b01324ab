"""Work is shared by those who do it at the same time, and not lost if they are stopped."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_ser.audio import Segments
from hf_ser.features import SpeechDataset
from hf_ser.training.frozen import computing
from hf_ser.training.frozen.computing import Segment, Wanted, compute_missing, missing, shares
from hf_ser.training.frozen.room import NoRoomError, in_use, size
from hf_ser.training.frozen.store import FeatureStore

COUNT = 60


def wanted(count: int = COUNT) -> Wanted:
    """Segments of half a second to three, whose keys are their numbers."""
    seconds = np.linspace(0.5, 3, count)
    nothing = np.zeros(count, dtype=np.int64)
    segments = Segments(np.arange(count), nothing, (16_000 * seconds).astype(np.int64))
    dataset = SpeechDataset(Dataset.from_dict({"label": [0] * count}), segments)
    return Wanted(dataset, [[bytes([i]) * 16 for i in range(count)]])


def features(segments: Sequence[Segment]) -> list[torch.Tensor]:
    return [torch.full((1 + segment.item % 3, 2), float(segment.item)) for segment in segments]


def fill(folder: Path, compute: computing.Compute = features, batch: int = 1, limit: float = 1e9) -> int:
    with in_use(folder):
        store = FeatureStore(folder, {})
        return compute_missing(store, missing(store, [wanted()]), compute, batch=batch, limit=limit, quiet=True)


def assert_complete(folder: Path) -> None:
    store = FeatureStore(folder, {})
    assert store.check(store.entries) == 0
    assert store.frames is not None
    for item, key in enumerate(wanted().views[0]):
        entry = store.entries[key]
        assert (store.frames.array[entry.first : entry.first + entry.frames] == item).all()


def test_shares_are_of_like_length() -> None:
    found = shares(missing(None, [wanted()]))
    assert sum(map(len, found.values())) == COUNT
    for share in found.values():
        samples = [segment.samples for segment in share]
        assert samples == sorted(samples, reverse=True)
        assert max(samples) - min(samples) < 8000


@pytest.mark.parametrize("batch", [1, 4])
def test_those_who_work_at_once_compute_each_segment_once(tmp_path: Path, batch: int) -> None:
    done: list[int] = []

    def slow(segments: Sequence[Segment]) -> list[torch.Tensor]:
        time.sleep(0.002)
        done.extend(segment.item for segment in segments)
        return features(segments)

    with ThreadPoolExecutor(3) as pool:
        counts = list(pool.map(lambda _: fill(tmp_path / "store", slow, batch), range(3)))
    assert Counter(done) == Counter(range(COUNT))
    assert sum(counts) == COUNT
    assert_complete(tmp_path / "store")


def test_after_an_interruption_the_rest_is_computed(tmp_path: Path) -> None:
    done: list[int] = []

    def interrupted(segments: Sequence[Segment]) -> list[torch.Tensor]:
        if len(done) == 30:
            raise KeyboardInterrupt
        done.extend(segment.item for segment in segments)
        return features(segments)

    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "store", interrupted)
    again = fill(tmp_path / "store")
    assert COUNT - 30 <= again < COUNT - 20  # of the last share nothing is there
    assert_complete(tmp_path / "store")


def test_the_limit_holds_while_it_computes(tmp_path: Path) -> None:
    with pytest.raises(NoRoomError, match="--frozen_cache_gb"):
        fill(tmp_path / "store", limit=900)
    assert 0 < size(tmp_path / "store") <= 900
    fill(tmp_path / "store")
    assert_complete(tmp_path / "store")


WORKER = """
import importlib.util, os, pathlib, signal, sys, time
spec = importlib.util.spec_from_file_location("shared", sys.argv[1])
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)

done = []

def slow(segments):
    print(segments[0].item, flush=True)
    done.append(segments[0].item)
    if len(done) == 5 and sys.argv[3] == "killed":
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.05)
    return shared.features(segments)

shared.fill(pathlib.Path(sys.argv[2]), slow)
"""


def test_a_process_that_is_killed_leaves_its_share_to_the_other(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, __file__, str(tmp_path / "store")]
    killed, other = (
        subprocess.Popen([*command, fate], stdout=subprocess.PIPE, text=True) for fate in ("killed", "goes on")
    )
    assert killed.stdout is not None
    for _ in range(5):
        killed.stdout.readline()
    killed.send_signal(signal.SIGKILL)
    printed, _ = other.communicate(timeout=300)
    killed.wait()
    assert other.returncode == 0
    assert COUNT - 10 < len(printed.split()) <= COUNT
    assert_complete(tmp_path / "store")
