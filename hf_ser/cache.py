"""The folder for what the package can compute again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """
    `HF_SER_CACHE`, or `~/.cache/hf_ser`: prepared corpora, outputs of frozen encoders, the synthetic corpus, the tiny model.
    Safe to delete.
    """
    return Path(os.environ.get("HF_SER_CACHE", "~/.cache/hf_ser")).expanduser()
