"""Commands in several processes."""

import importlib
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable

import pytest


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int | None]]:
    """
    `processes("predict", 2, *words)` starts a command in two processes, as launchers of several machines do: none ends the others.
    """

    def run(name: str, count: int, *arguments: object) -> list[int | None]:
        main = importlib.import_module(f"hf_ser.cli.{name}").main
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(count)}

        def process(rank: int) -> None:
            os.environ.update(address, RANK=str(rank), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(count))
            sys.exit(main())

        fork = multiprocessing.get_context("fork")  # imports nothing again
        started = [fork.Process(target=process, args=(rank,), daemon=True) for rank in range(count)]
        for each in started:
            each.start()
        for each in started:
            each.join(300)
        return [each.exitcode for each in started]

    return run
