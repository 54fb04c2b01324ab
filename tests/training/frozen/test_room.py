"""All stores together stay below the limit, and none that is in use is dropped."""

import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from hf_ser.training.frozen.room import NoRoomError, in_use, make_room, size, sole_user


@pytest.fixture
def stores(tmp_path: Path) -> list[Path]:
    """Four stores of 100 bytes, of which the last ones were used last."""
    found = [tmp_path / "frozen" / name for name in "dcba"]
    for i, folder in enumerate(found):
        with in_use(folder):
            (folder / "features.bin").write_bytes(b"x" * 100)
        os.utime(folder / "used", (i, i))
    return found


@pytest.mark.parametrize(("needed", "left"), [(100, "dcba"), (101, "cba"), (200, "cba"), (201, "ba"), (400, "a")])
def test_the_least_recently_used_go_first(stores: list[Path], needed: int, left: str) -> None:
    make_room(stores[-1], needed, limit=500)
    assert [store.name for store in stores if store.exists()] == list(left)
    assert sum(map(size, stores)) + needed <= 500


def test_using_a_store_makes_it_the_last_to_go(stores: list[Path]) -> None:
    with in_use(stores[0]):
        pass
    make_room(stores[-1], 300, limit=500)
    assert [store.name for store in stores if store.exists()] == ["d", "a"]


def test_one_that_is_in_use_is_never_dropped(stores: list[Path]) -> None:
    with in_use(stores[1]):
        with pytest.raises(
            NoRoomError, match=r"0.00 GB more. --frozen_cache_gb allows 4e-07 GB, of which 0.00 are in use"
        ):
            make_room(stores[-1], 300, limit=400)
        make_room(stores[-1], 200, limit=400)
        assert [store.name for store in stores if store.exists()] == ["c", "a"]
    make_room(stores[-1], 300, limit=400)
    assert [store.name for store in stores if store.exists()] == ["a"]


@pytest.mark.parametrize("limit", [500, 10**12])
def test_nothing_is_dropped_for_what_does_not_fit_anyway(
    stores: list[Path], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
    with pytest.raises(NoRoomError):
        make_room(stores[-1], 401, limit)
    assert all(store.exists() for store in stores)


def test_a_killed_user_is_none(stores: list[Path]) -> None:
    (stores[0] / "users" / "killed.lock").touch()
    make_room(stores[-1], 200, limit=500)
    assert not stores[0].exists()


def test_a_disk_that_is_nearly_full(stores: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2 * 10**9))
    make_room(stores[-1], 10**9, limit=10**12)
    assert all(store.exists() for store in stores)
    with pytest.raises(NoRoomError, match=r"2.0 GB of the disk are free"):
        make_room(stores[-1], 10**9 + 301, limit=10**12)  # what others keep is 300


def test_who_is_alone(stores: list[Path]) -> None:
    with in_use(stores[0]):
        with sole_user(stores[0]) as alone:
            assert alone
        with in_use(stores[0]), sole_user(stores[0]) as alone:
            assert not alone
        with sole_user(stores[0]) as alone:
            assert alone


def test_nobody_comes_while_one_is_alone(stores: list[Path]) -> None:
    """Who came between the question and the clearing would keep places in a file that is gone."""

    def use() -> None:
        with in_use(stores[0]):
            pass

    other = threading.Thread(target=use, daemon=True)
    with in_use(stores[0]), sole_user(stores[0]):
        other.start()
        other.join(0.2)
        assert other.is_alive()
    other.join(10)
    assert not other.is_alive()


def test_others_may_go_while_their_sizes_are_added_up(stores: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    stat = Path.stat

    def dropped(path: Path, **options: bool) -> os.stat_result:
        if path.name == "features.bin":
            path.unlink(missing_ok=True)
        return stat(path, **options)

    assert size(stores[0]) == 100
    monkeypatch.setattr(Path, "stat", dropped)
    assert size(stores[0]) == 0
