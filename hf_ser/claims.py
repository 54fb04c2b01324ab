"""Lock files that show which processes use a folder. The system releases those of a killed process."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


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
