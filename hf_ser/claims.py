"""Lock files that show which processes use a folder. The system releases those of a killed process."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

#: The lock file in a folder that one process has for itself.
LOCK = ".lock"


@contextmanager
def claim(path: Path) -> Iterator[None]:
    """Within it, the new lock file `path` is locked. Afterwards it is deleted."""
    with FileLock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def abandoned(paths: Iterable[Path]) -> Iterator[Path]:
    """Those of the lock files that killed processes left. Each is deleted after it was yielded."""
    for path in paths:
        with suppress(Timeout), FileLock(path, timeout=0):
            yield path
            path.unlink(missing_ok=True)


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """
    Within it, no other process trains in an `output_dir`, which is created if need be. One that is still empty is deleted.

    Raises:
        BlockingIOError: if another process trains in it.
        OSError: if it cannot be written.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise BlockingIOError(
            f"output_dir: another process trains in {str(folder)!r}. Wait until it ends, or choose another folder. If there is "
            f"none, delete {str(folder / LOCK)!r}."
        ) from None
    except OSError as error:
        raise OSError(
            f"output_dir: {str(folder)!r} cannot be written ({error.strerror}); check its permissions, or choose another folder"
        ) from error
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        if new:
            with suppress(OSError):
                folder.rmdir()
