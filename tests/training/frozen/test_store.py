"""Features on disk are those that were computed, whatever happens to processes or files, and stay below the limit."""

import multiprocessing
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from hf_ser.training.frozen import store
from hf_ser.training.frozen.store import DiskLimitError, FeatureStore, Segment, in_use, make_room, users

COUNT = 60
#: Segments of half a second to three, whose keys are made of their numbers.
WANTED = {f"{i:02x}"[::-1]: Segment(None, i, 8_000 + 680 * i) for i in range(COUNT)}  # type: ignore[arg-type]


def outputs(segments: Sequence[Segment], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Views of a larger tensor, with their axes in another order."""
    return [torch.full((2, 5), segment.item, dtype=dtype).T[: 1 + segment.item % 3] for segment in segments]


def fill(
    folder: Path,
    compute: Callable[[Sequence[Segment]], list[torch.Tensor]] = outputs,
    limit: float = 1e9,
    wanted: Mapping[str, Segment] = WANTED,
) -> int:
    def computing(keys: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
        return ((key, compute([wanted[key]])[0]) for key in keys)

    with in_use(folder):
        return FeatureStore(folder, limit, wanted).fill(computing, quiet=True)


def read(folder: Path) -> dict[str, torch.Tensor]:
    found = FeatureStore(folder, 0, WANTED)
    return found.load(found.paths)


def assert_complete(folder: Path, dtype: torch.dtype = torch.float32) -> None:
    found = read(folder)
    assert found.keys() == WANTED.keys()
    for expected, key in zip(outputs(list(WANTED.values()), dtype), WANTED, strict=True):
        assert found[key].dtype == dtype
        assert torch.equal(found[key], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_processes_compute_each_segment_once(tmp_path: Path, dtype: torch.dtype) -> None:
    done: list[int] = []

    def slow(segments: Sequence[Segment]) -> list[torch.Tensor]:
        time.sleep(0.002)
        done.extend(segment.item for segment in segments)
        return outputs(segments, dtype)

    with ThreadPoolExecutor(3) as pool:
        counts = list(pool.map(lambda _: fill(tmp_path / "store", slow), range(3)))
    assert Counter(done) == Counter(range(COUNT))
    assert sum(counts) == COUNT
    assert_complete(tmp_path / "store", dtype)


def test_after_an_interruption_the_rest_is_computed(tmp_path: Path) -> None:
    def interrupted(segments: Sequence[Segment]) -> list[torch.Tensor]:
        if len(list((tmp_path / "store").glob("*.safetensors"))) == 8:
            raise KeyboardInterrupt
        return outputs(segments)

    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "store", interrupted)
    kept = len(read(tmp_path / "store"))
    assert kept > 20
    assert fill(tmp_path / "store") == COUNT - kept
    assert_complete(tmp_path / "store")


def test_a_process_that_is_killed_leaves_its_segments_to_the_other(tmp_path: Path) -> None:
    done = tmp_path / "done"
    done.touch()

    def slow(segments: Sequence[Segment]) -> list[torch.Tensor]:
        with done.open("a") as file:
            file.write("x")
        time.sleep(0.02)
        return outputs(segments)

    fork = multiprocessing.get_context("fork")
    killed, other = (fork.Process(target=fill, args=(tmp_path / "store", slow)) for _ in range(2))
    for process in (killed, other):
        process.start()
    while done.stat().st_size < 10:
        time.sleep(0.01)
    killed.kill()
    for process in (killed, other):
        process.join()
    assert other.exitcode == 0
    assert COUNT <= done.stat().st_size < COUNT + 10
    assert_complete(tmp_path / "store")
    assert users(tmp_path / "store") == 0


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def of_another_model(path: Path) -> None:
    save_file({"features": torch.zeros(3, 2)}, path, {"part": "other"})


@pytest.mark.parametrize("damage", [cut, Path.unlink, of_another_model, lambda path: path.write_bytes(b"x" * 99)])
def test_a_damaged_or_foreign_file_is_computed_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    fill(tmp_path / "store")
    damage(next((tmp_path / "store").glob("*.safetensors")))
    assert 0 < fill(tmp_path / "store") < COUNT / 4
    assert_complete(tmp_path / "store")


def test_the_limit_holds(tmp_path: Path) -> None:
    fill(tmp_path / "complete")
    needed = sum(frames.nbytes for frames in read(tmp_path / "complete").values())
    shutil.rmtree(tmp_path / "complete")
    tried: list[int] = []

    def counted(segments: Sequence[Segment]) -> list[torch.Tensor]:
        tried.extend(segment.item for segment in segments)
        return outputs(segments)

    with pytest.raises(DiskLimitError, match=r"GB more are needed; frozen_cache_gb=.* allows"):
        fill(tmp_path / "store", counted, limit=needed / 2)
    assert len(tried) == 1  # and not all that would not fit
    assert read(tmp_path / "store") == {}
    fill(tmp_path / "store")
    assert_complete(tmp_path / "store")


def full(segments: Sequence[Segment]) -> list[torch.Tensor]:
    """As many bytes as samples."""
    return [torch.zeros(segment.samples // 400, 100) for segment in segments]


def test_the_disk_is_not_looked_at_for_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: with each file all segments were counted and all files looked at."""
    monkeypatch.setattr(store, "FILE_BYTES", 0)
    looks, usage = [], shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: looks.append(path) or usage(path))
    wanted = {f"{i:03x}"[::-1]: Segment(None, i, 400) for i in range(400)}  # type: ignore[arg-type]
    assert fill(tmp_path / "store", full, wanted=wanted) == 400
    assert len(list((tmp_path / "store").glob("*.safetensors"))) == 400
    assert 30 < len(looks) < 70


def test_processes_do_not_count_twice_what_the_others_have_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "FILE_BYTES", 0)
    wanted = {f"{'ab'[i % 2]}{i}": Segment(None, i, 4000) for i in range(COUNT)}  # type: ignore[arg-type]

    def slow(segments: Sequence[Segment]) -> list[torch.Tensor]:
        time.sleep(0.002)
        return full(segments)

    def process(_: int) -> int:
        return fill(tmp_path / "store", slow, limit=1.25 * 4150 * COUNT, wanted=wanted)

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(process, range(2))) == COUNT


def test_the_limit_holds_for_all_runs_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "FILE_BYTES", 0)
    needed = sum(segment.samples + 150 for segment in WANTED.values())
    done: list[int] = []

    def beside_another(segments: Sequence[Segment]) -> list[torch.Tensor]:
        done.append(len(segments))
        if len(done) == 10:
            (tmp_path / "other" / "1.safetensors").write_bytes(b"x" * needed)
        return full(segments)

    with in_use(tmp_path / "other"), pytest.raises(DiskLimitError):
        fill(tmp_path / "store", beside_another, limit=1.5 * needed)
    assert 10 <= len(done) < 20


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DiskLimitError, match="gone cannot be written"):
        FeatureStore(tmp_path / "gone", 0, WANTED).write({"x": torch.zeros(1, 2)})


@pytest.fixture
def stores(tmp_path: Path) -> list[Path]:
    """Four stores with a file of 100 bytes each, of which the last ones were used last."""
    found = [tmp_path / "frozen" / name for name in "dcba"]
    for i, folder in enumerate(found):
        folder.mkdir(parents=True)
        (folder / "1.safetensors").write_bytes(b"x" * 100)
        os.utime(folder / "1.safetensors", (i, i))
    return found


def left(stores: list[Path]) -> str:
    return "".join(store.name for store in stores if list(store.glob("*.safetensors")))


@pytest.mark.parametrize(("needed", "expected"), [(100, "dcba"), (101, "cba"), (200, "cba"), (201, "ba"), (400, "a")])
def test_the_least_recently_used_go_first(stores: list[Path], needed: int, expected: str) -> None:
    with in_use(stores[-1]):
        make_room(stores[-1], needed, limit=500)
    assert left(stores) == expected


def test_what_another_process_has_just_written_is_not_counted_twice(stores: list[Path]) -> None:
    with in_use(stores[-1]):
        make_room(stores[-1], 200, limit=500, known=())
    assert left(stores) == "dcba"


def test_what_was_used_last_goes_last(stores: list[Path]) -> None:
    fill(stores[0])
    for path in stores[0].iterdir():
        os.utime(path, (0, 0))
    size = sum(path.stat().st_size for path in stores[0].iterdir())
    read(stores[0])
    make_room(stores[-1], 200, limit=size + 300)
    assert left(stores) == "da"


def test_what_a_run_uses_is_never_deleted(stores: list[Path]) -> None:
    with in_use(stores[-1]), in_use(stores[1]):
        with pytest.raises(DiskLimitError):
            make_room(stores[-1], 300, limit=400)
        assert left(stores) == "dcba"  # nothing is deleted for what does not fit anyway
        make_room(stores[-1], 200, limit=400)
        assert left(stores) == "ca"
    (stores[1] / "killed.user").touch()
    with in_use(stores[-1]):
        make_room(stores[-1], 300, limit=400)
    assert left(stores) == "a"


def test_of_its_own_store_a_run_deletes_what_neither_it_nor_another_run_needs(stores: list[Path]) -> None:
    own = list(stores[-1].iterdir())
    with in_use(stores[-1]):
        with in_use(stores[-1]), pytest.raises(DiskLimitError):
            make_room(stores[-1], 500, limit=500, unneeded=own)
        with pytest.raises(DiskLimitError):
            make_room(stores[-1], 500, limit=500)  # another process of the run may have just written it
        make_room(stores[-1], 500, limit=500, unneeded=own)
    assert left(stores) == ""


def test_other_segments_of_the_same_store_go(tmp_path: Path) -> None:
    halves = [{key: WANTED[key] for key in list(WANTED)[half::2]} for half in range(2)]
    for half in halves:
        fill(tmp_path / "store", full, limit=1.2 * sum(segment.samples + 150 for segment in half.values()), wanted=half)
    assert halves[1].keys() < read(tmp_path / "store").keys() < WANTED.keys()


@pytest.mark.parametrize("ahead", [-1e9, 1e9])
def test_a_clock_that_jumps(stores: list[Path], ahead: float) -> None:
    """What a run uses stays, whatever its time; and what was written in the future is not kept for ever."""
    [jumped], [used] = (list(store.iterdir()) for store in (stores[0], stores[-1]))
    for path in (jumped, used):
        os.utime(path, (time.time() + ahead,) * 2)
    with in_use(stores[-1]):
        make_room(stores[-1], 0, limit=400)
        time.sleep(0.02)
        for folder in stores[1:3]:
            os.utime(folder / "1.safetensors")  # is used after that
        make_room(stores[-1], 100, limit=400)
        assert left(stores) == "cba"
        make_room(stores[-1], 300, limit=400)
        assert left(stores) == "a"


def test_a_disk_that_is_nearly_full(stores: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2 * 10**9))
    make_room(stores[-1], 10**9, limit=10**12)
    with pytest.raises(DiskLimitError, match=r"2.0 GB of the disk are free"):
        make_room(stores[-1], 10**9 + 301, limit=10**12)  # the others have 300
    assert left(stores) == "dcba"


def test_no_run_begins_to_use_a_store_while_room_is_made(stores: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def use() -> None:
        with in_use(stores[0]):
            pass

    other = threading.Thread(target=use, daemon=True)

    def free(path: Path) -> SimpleNamespace:
        other.start()
        other.join(0.2)
        assert other.is_alive()
        return SimpleNamespace(free=10**13)

    monkeypatch.setattr(shutil, "disk_usage", free)
    make_room(stores[-1], 0, limit=500)
    other.join(10)
    assert not other.is_alive()
