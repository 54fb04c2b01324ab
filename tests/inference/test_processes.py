"""Clips are shared out among the processes of a launcher."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hf_ser.inference.processes import Processes, share_out


def test_each_process_gets_as_many_clips_and_bytes_in_their_order(
    tmp_path: Path, write_clip: Callable[..., Path]
) -> None:
    names = [str(write_clip(tmp_path / f"{i}.wav", seconds=0.1 * (1 + i % 3))) for i in range(10)]
    sizes = [Path(name).stat().st_size for name in names]
    shares = share_out(names, sizes, 3)
    assert sorted(name for share in shares for name in share) == names
    assert all(share == sorted(share) for share in shares)
    assert {len(share) for share in shares} == {3, 4}
    sums = [sum(Path(name).stat().st_size for name in share) for share in shares]
    assert max(sums) - min(sums) <= sizes[2]
    assert share_out(range(5), [0] * 5, 2) == [[0, 2, 4], [1, 3]]
    assert share_out([], [], 2) == [[], []]
    assert share_out("a", [1], 3) == [["a"], [], []]


def test_a_process_takes_its_own_gpu_of_those_that_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    for name, value in {"RANK": "5", "WORLD_SIZE": "8"}.items():  # without a launcher: as some clusters set them
        monkeypatch.setenv(name, value)
    assert Processes.of_launcher() == Processes()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert Processes.of_launcher() == Processes(5, 8, 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Processes.of_launcher().device() == "cuda:1"
    assert Processes().device() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Processes.of_launcher().device() is None
