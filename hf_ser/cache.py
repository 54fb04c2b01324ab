"""The folder for what the package can compute again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """
    `HF_SER_CACHE`, or `~/.cache/hf_ser`: prepared corpora, outputs of frozen encoders, the synthetic corpus, the tiny model.
    Safe to delete.
    """
    return Path(os.environ.get("HF_SER_CACHE", "~/.cache/hf_ser")).expanduser()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """An `OSError` within it, of a full disk for instance, says which cache it is and what to do."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error
        advice = "free space there and check its permissions, or set HF_SER_CACHE to another folder"
        raise OSError(error.errno, f"the cache folder {str(folder)!r} cannot be written ({why}); {advice}") from error
