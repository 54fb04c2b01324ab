"""Fixtures of the tests of cached features."""

import shutil
from types import SimpleNamespace

import pytest


@pytest.fixture(autouse=True)
def disk_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk has free space, whatever machine the tests run on."""
    usage = SimpleNamespace(total=10**13, used=0, free=10**13)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
