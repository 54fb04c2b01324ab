"""What the tests of frozen features have in common."""

import shutil
from types import SimpleNamespace

import pytest


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room on the disk, whatever else lies on this machine's."""
    usage = SimpleNamespace(total=10**13, used=0, free=10**13)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
