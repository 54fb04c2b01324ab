"""All stores together stay below the limit, and none that is in use is dropped."""

import os
import shutil
from pathlib import Path

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
        assert [store.name for store in stores if store.exists()] == ["c", "a"]
    make_room(stores[-1], 300, limit=400)
    assert [store.name for store in stores if store.exists()] == ["a"]


def test_a_killed_user_is_none(stores: list[Path]) -> None:
    (stores[0] / "users" / "killed.lock").touch()
    make_room(stores[-1], 200, limit=500)
    assert not stores[0].exists()


def test_a_disk_that_is_nearly_full(stores: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(stores[0])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * 10**9))
    make_room(stores[-1], 10**9, limit=10**12)
    assert all(store.exists() for store in stores)
    with pytest.raises(NoRoomError, match=r"2.0 GB of the disk are free"):
        make_room(stores[-1], 10**9 + 1, limit=10**12)


def test_who_is_alone(stores: list[Path]) -> None:
    with in_use(stores[0]):
        assert sole_user(stores[0])
        with in_use(stores[0]):
            assert not sole_user(stores[0])
        assert sole_user(stores[0])
