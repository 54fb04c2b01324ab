"""How much disk all stores may take, which of them are in use, and which go first."""

import logging
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

#: So many bytes of the disk are left free.
SPARE = 1e9


class NoRoomError(RuntimeError):
    """Features would not fit."""


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Within it, nobody drops the store in `folder`, which is made if need be. If the process is killed, that ends it, too."""
    with _all_stores(folder.parent):
        (folder / "users").mkdir(parents=True, exist_ok=True)
        mine = FileLock(folder / "users" / f"{uuid.uuid4().hex}.lock")
        mine.acquire()
        (folder / "used").touch()
    try:
        yield
    finally:
        with _all_stores(folder.parent):
            (folder / "used").touch()
            mine.release()
            Path(mine.lock_file).unlink(missing_ok=True)


def users(store: Path) -> int:
    """How many use a store now. What killed processes have left of themselves is cleared away."""
    alive = 0
    for path in (store / "users").glob("*.lock"):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            alive += 1
        else:
            lock.release()
            path.unlink(missing_ok=True)
    return alive


@contextmanager
def sole_user(folder: Path) -> Iterator[bool]:
    """Whether nobody else uses the store in `folder`, for one who does. Within it nobody else begins to."""
    with _all_stores(folder.parent):
        yield users(folder) == 1


def make_room(folder: Path, needed: float, limit: float) -> None:
    """
    Drops stores that nobody uses, the least recently used first, until `needed` more bytes fit into the one in `folder`. If
    they would not fit even then, nothing is dropped.

    Args:
        folder (`Path`): A store; the others lie beside it.
        needed (`float`): Bytes.
        limit (`float`): Bytes that all stores may take together.

    Raises:
        NoRoomError: if they do not fit.
    """
    with _all_stores(folder.parent):
        sizes = {store: size(store) for store in folder.parent.iterdir() if store.is_dir()}
        taken, free = sum(sizes.values()), shutil.disk_usage(folder).free
        excess = max(taken + needed - limit, needed + SPARE - free)
        going: list[Path] = []
        for store in sorted(sizes.keys() - {folder}, key=last_used):
            if excess <= 0:
                break
            if not users(store):
                going.append(store)
                excess -= sizes[store]
        if excess > 0:
            in_use_now = taken - sum(sizes[store] for store in going)
            raise NoRoomError(
                f"they would take {needed / 1e9:.2f} GB more. --frozen_cache_gb allows {limit / 1e9:g} GB, of which "
                f"{in_use_now / 1e9:.2f} are in use, and {free / 1e9:.1f} GB of the disk are free"
            )
        for store in going:
            logger.info("%s (%.2f GB) was not used for the longest time, and is dropped", store, sizes[store] / 1e9)
            shutil.rmtree(store)


def size(folder: Path) -> int:
    """The bytes that a store keeps."""
    found = 0
    with suppress(FileNotFoundError):  # another process may drop it meanwhile
        for path in folder.glob("*.bin"):
            found += path.stat().st_size
    return found


def last_used(store: Path) -> float:
    """When a store was last used, in seconds since 1970."""
    used = store / "used"
    return used.stat().st_mtime if used.exists() else 0.0


def _all_stores(root: Path) -> FileLock:
    root.mkdir(parents=True, exist_ok=True)
    return FileLock(root / ".lock")
