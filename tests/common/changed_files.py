"""Files that tests change, and that they rename."""

import json
import os
from pathlib import Path
from typing import Any

import pytest


def rename_oddly(path: Path) -> Path:
    """Gives a file a name that is no UTF-8, `bad\\xff.wav` in its folder; on a disk that takes none the test is skipped."""
    odd = Path(os.fsdecode(os.fsencode(path.parent) + b"/bad\xff.wav"))
    try:
        return path.rename(odd)
    except OSError:
        pytest.skip("this disk takes UTF-8 alone")


def change(path: Path, **entries: Any) -> None:
    """Changes entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
