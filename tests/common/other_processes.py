"""Processes beside that of the tests."""

import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def python(*arguments: object, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a new process, from the repository's root, and returns what it printed."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment},
    )


def fork(count: int, work: Callable[[], object]) -> list[int | None]:
    """
    `fork(2, work)` runs a function in two processes, with the environment that launchers give to each, and returns their exit
    statuses. New processes would import everything again.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(count)}

    def process(rank: int) -> None:
        os.environ.update(address, RANK=str(rank), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(count))
        work()

    context = multiprocessing.get_context("fork")
    started = [context.Process(target=process, args=(rank,), daemon=True) for rank in range(count)]
    for each in started:
        each.start()
    for each in started:
        each.join(300)
    return [each.exitcode for each in started]


def into_closed_pipe(command: Callable[[], int]) -> int | None:
    """Runs a command in a forked process, whose stdout nobody reads any more, as with `| head`; returns its status."""
    reader, writer = os.pipe()
    os.close(reader)

    def process() -> None:
        os.dup2(writer, 1)
        sys.stdout = os.fdopen(1, "w")
        sys.exit(command())

    child = multiprocessing.get_context("fork").Process(target=process)
    child.start()
    os.close(writer)
    child.join(60)
    return child.exitcode
