"""Clips are shared out among the processes of a launcher."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from small_files import write_clip

from hf_ser.inference.clips import Clip, Prediction
from hf_ser.inference.processes import Processes, SharedTable, share_out


def test_each_process_gets_as_many_clips_and_bytes_in_their_order(tmp_path: Path) -> None:
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
    assert Processes.of_launcher().device("user/model") == "cuda:1"
    assert Processes().device("user/model") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Processes.of_launcher().device("user/model") is None


def test_a_table_that_is_replaced_keeps_no_old_row_when_it_is_continued(tmp_path: Path) -> None:
    path, clips = tmp_path / "p.csv", [Clip(name, lambda: np.zeros(0, np.float32)) for name in ("a.wav", "b.wav")]

    def write(emotion: str, count: int, *, resume: bool = False) -> SharedTable:
        table = SharedTable(path, ("happy", "sad"), "user/a", clips, Processes(), resume)
        for clip in table.own_clips[:count]:
            table.write(Prediction(clip.name, 1.0, {"happy": 0.0, "sad": 0.0, emotion: 1.0}))
        return table

    write("happy", 2).finish(2.0, Counter())
    old = path.read_bytes()
    write("sad", 0)
    assert path.read_bytes() == old  # until the first prediction
    write("sad", 1)  # and is killed
    write("sad", 2, resume=True).finish(1.0, Counter())
    with path.open(newline="") as file:
        assert [(row["name"], row["emotion"]) for row in csv.DictReader(file)] == [("a.wav", "sad"), ("b.wav", "sad")]
