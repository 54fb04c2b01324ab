"""Clips and records that tests write, rename and change."""

import json
import os
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

#: Of the clips that a test has written.
numbers = count(1)


def write_clip(
    path: Path, seconds: float = 0.5, rate: int = 16_000, frequency: float | None = None, channels: int = 1
) -> Path:
    """Writes a clip whose samples are its own: two clips of a test differ unless they have the same frequency."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * np.sin(2 * np.pi * (frequency or 100 + next(numbers)) * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, np.stack([tone.astype(np.float32)] * channels, axis=1), rate)
    return path


def rename_oddly(path: Path) -> Path:
    """Gives a file a name that is no UTF-8, `bad\\xff.wav` in its folder; on a disk that takes none the test is skipped."""
    odd = Path(os.fsdecode(os.fsencode(path.parent) + b"/bad\xff.wav"))
    try:
        return path.rename(odd)
    except OSError:
        pytest.skip("this disk takes UTF-8 alone")


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change(path: Path, **entries: Any) -> None:
    """Changes entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
