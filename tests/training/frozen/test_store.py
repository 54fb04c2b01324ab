"""What is kept is what was computed, whatever happens to the process or to the files."""

import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_ser.training.frozen.store import RECORD, FeatureStore

WIDTH = 3


def key(i: int) -> bytes:
    return i.to_bytes(16, "big")


def features(*lengths: int, first: int = 0, dtype: torch.dtype = torch.float32) -> list[tuple[bytes, torch.Tensor]]:
    """Features whose values are their own, under the keys `first`, `first` + 1, ..."""
    return [(key(first + i), 100.0 * (first + i) + torch.randn(n, WIDTH).to(dtype)) for i, n in enumerate(lengths)]


def assert_kept(store: FeatureStore, expected: Sequence[tuple[bytes, torch.Tensor]]) -> None:
    assert store.frames is not None or not expected
    for name, tensor in expected:
        entry = store.entries[name]
        found = store.frames.tensor(store.frames.array[entry.first : entry.first + entry.frames].copy())
        assert found.dtype == tensor.dtype
        assert torch.equal(found, tensor)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=4),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)
def test_what_one_adds_another_reads(batches: list[list[int]], dtype: torch.dtype) -> None:
    with TemporaryDirectory() as folder:
        early, writers = FeatureStore(Path(folder), {}), [FeatureStore(Path(folder), {}) for _ in range(2)]
        added: list[tuple[bytes, torch.Tensor]] = []
        for i, lengths in enumerate(batches):
            added += (new := features(*lengths, first=len(added), dtype=dtype))
            writers[i % 2].append(new)
        early.refresh()
        assert set(early.entries) == {name for name, _ in added}
        assert early.check(early.entries) == 0
        assert_kept(early, added)
        assert_kept(FeatureStore(Path(folder), {}), added)


def test_a_killed_process_leaves_whole_features_or_none(tmp_path: Path) -> None:
    old, new = features(4, 2), features(3, first=2)
    FeatureStore(tmp_path, {}).append(old)
    with (tmp_path / "features.bin").open("ab") as file:
        file.write(b"x" * 7)  # killed while it wrote frames,
    with (tmp_path / "index.bin").open("ab") as file:
        file.write(b"y" * (RECORD.itemsize - 1))  # and another one in its line
    store = FeatureStore(tmp_path, {})
    assert set(store.entries) == {name for name, _ in old}
    store.append(new)
    for found in (store, FeatureStore(tmp_path, {})):
        assert found.check(found.entries) == 0
        assert_kept(found, old + new)


@pytest.mark.parametrize("damage", ["cut", "bits", "deleted", "about", "index"])
def test_what_is_damaged_is_computed_anew_with_a_warning(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    old = features(4, 2, 5)
    store = FeatureStore(tmp_path, {})
    store.append(old)
    path = tmp_path / {"about": "about.json", "index": "index.bin"}.get(damage, "features.bin")
    content = bytearray(path.read_bytes())
    if damage == "deleted":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-1])
    else:
        content[len(content) // 2] ^= 0x55
        path.write_bytes(b"{" if damage == "about" else content)

    with caplog.at_level(logging.WARNING, "hf_ser"):
        store = FeatureStore(tmp_path, {})
        store.check([name for name, _ in old])
    left = [pair for pair in old if pair[0] in store.entries]
    assert len(left) == {"cut": 2, "bits": 2, "deleted": 0, "about": 0, "index": 2}[damage]
    assert_kept(store, left)
    assert "computed anew" in caplog.text

    again = [pair for pair in old if pair[0] not in store.entries]
    store.append(again)
    fresh = FeatureStore(tmp_path, {})
    assert fresh.check([name for name, _ in old]) == 0
    assert_kept(fresh, old)


def test_a_worker_is_sent_the_place_and_not_the_features(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, {})
    store.append(features(2000))
    frames = store.frames
    assert frames is not None
    assert frames.array.nbytes > 20_000
    sent = pickle.dumps(frames)
    assert len(sent) < 2000
    assert (pickle.loads(sent).array == frames.array).all()
