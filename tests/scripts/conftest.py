"""Commands in several processes."""

import importlib
import sys
from collections.abc import Callable

import pytest
from other_processes import fork


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int | None]]:
    """
    `processes("predict", 2, *words)` starts a command in two processes, as launchers of several machines do: none ends the others.
    """

    def run(name: str, count: int, *arguments: object) -> list[int | None]:
        main = importlib.import_module(f"hf_ser.cli.{name}").main
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        return fork(count, lambda: sys.exit(main()))

    return run
