"""Shares clips among the processes of `accelerate launch` or `torchrun`, each of which writes a part of one table."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed

from hf_ser.inference.clips import Clip, Prediction
from hf_ser.inference.files import PredictionFile, merge_parts, parts_of
from hf_ser.inference.onnx import is_exported
from hf_ser.machine import equal_shares, threads_of_this_process

T = TypeVar("T")


@dataclass
class Processes:
    """This process (`rank`, on its machine `local_rank`) of the `count` that a launcher started; rank 0 is the main process."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    group: Any = field(default=None, init=False, compare=False)

    @classmethod
    def of_launcher(cls) -> "Processes":
        """The processes that the launcher's environment variables describe; one without a launcher."""
        if "LOCAL_RANK" not in os.environ:  # some clusters set the others for every program
            return cls()
        return cls(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))

    def device(self, model: str) -> str | None:
        """
        The GPU of this process for a model, of those that `CUDA_VISIBLE_DEVICES` allows; `None` without a launcher or a GPU, and
        for an exported model, which runs on the CPU.
        """
        own = self.count > 1 and torch.cuda.is_available() and not is_exported(model)
        return f"cuda:{self.local_rank}" if own else None

    def join(self) -> None:
        """Connects the processes. Load the model before: in connected ones transformers' pipeline leaves it on the CPU."""
        if self.count > 1:
            torch.set_num_threads(threads_of_this_process())  # launchers leave each process a single thread
            with self.connected():  # gloo: it moves small Python objects alone, and notices at once if a process ends
                distributed.init_process_group("gloo")
                self.group = distributed.new_group(timeout=timedelta(days=30))  # one may finish long before another

    def all_gather(self, value: Any) -> list[Any]:
        """The values of all processes, the main process' first. All processes must call it."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        with self.connected():
            distributed.all_gather_object(found, value, group=self.group)
        return found

    @contextmanager
    def connected(self) -> Iterator[None]:
        """If another process ended, the main process raises a `ConnectionError`, and the others end without a message."""
        try:
            yield
        except RuntimeError as error:
            if self.rank:
                raise SystemExit(1) from error
            lost = f"one of {self.count} processes ended early, see its message ({str(error).splitlines()[0]})"
            kept = "What was finished is kept: continue a table with resume=True, repeat the command of a report"
            raise ConnectionError(f"{lost}. {kept}") from error


class SharedTable(PredictionFile):
    """
    A table of predictions, see [`PredictionFile`]. Each process writes a part of it in a file beside it, row by row; a single
    process writes a new table directly. With `resume` it continues the table and the parts of earlier processes, of any number.
    Parts are merged in the order of the clips. All machines need the table's folder.

    Raises:
        ValueError: if there are predictions of another model, or a clip of the main process is not found by another one.
    """

    def __init__(
        self, path: Path, outputs: Sequence[str], model: str, clips: Sequence[Clip], processes: Processes, resume: bool
    ) -> None:
        self.processes, self.table = processes, (path, [clip.name for clip in clips], outputs, model)
        self.replaces = not resume
        in_parts = processes.count > 1 or resume or bool(parts_of(path))
        #: The number of clips that are not in the table, in the main process.
        self.waiting = 0
        shares: list[Any] = [None] * processes.count
        if not processes.rank:
            if resume:
                merge_parts(*self.table)
            for part in parts_of(path):
                part.unlink()
            table = PredictionFile(path, outputs, model, resume=resume)
            waiting = [clip.name for clip in clips if clip.name not in table]
            self.waiting = len(waiting)
            files = [name for name in waiting if os.path.isfile(name)]
            rows = [name for name in waiting if not os.path.isfile(name)]
            shares = share_out(files, list(map(os.path.getsize, files)), processes.count)
            for share, block in zip(shares, np.array_split(np.arange(len(rows)), processes.count), strict=True):
                share += [rows[row] for row in block]  # rows of a data set that are fetched together
        if processes.count > 1:
            with processes.connected():
                distributed.scatter_object_list(own := [None], shares, group=processes.group)
            shares = own
        place = {clip.name: i for i, clip in enumerate(clips)}
        if missing := [name for name in shares[0] if name not in place]:
            raise ValueError(f"sources: expected {missing[0]!r}, as in the main process; found none on this machine")
        #: This process' share of the clips that are not in the table.
        self.own_clips = [clips[i] for i in sorted(place[name] for name in shares[0])]
        part = path.with_stem(f"{path.stem}.part-{processes.rank}-of-{processes.count}")
        super().__init__(part if in_parts else path, outputs, model)

    def write(self, prediction: Prediction) -> None:
        """Adds a prediction. The first one removes the replaced table, so that a resumed command does not keep its rows."""
        if self.replaces and not self.begun:
            self.table[0].unlink(missing_ok=True)
        super().write(prediction)

    def finish(self, seconds: float, problems: Counter[str]) -> tuple[float, Counter[str]] | None:
        """Waits for all processes. The main one merges the parts and returns the sums over all; the others return `None`."""
        sums = self.processes.all_gather((seconds, problems))
        if self.processes.count > 1:
            distributed.destroy_process_group()
        if self.processes.rank:
            return None
        merge_parts(*self.table)
        return sum(each for each, _ in sums), sum((each for _, each in sums), Counter())


def share_out(clips: Sequence[T], sizes: Sequence[float], count: int) -> list[list[T]]:
    """
    Shares clips, or their names or numbers, among processes: equally many for each, in their order, and nearly the same work.
    `sizes` is the work of each clip, such as the bytes of its file.
    """
    work = np.append(sizes, [0] * (-len(clips) % count))
    return [
        [clips[clip] for clip in sorted(share) if clip < len(clips)] for share in equal_shares(work, count).tolist()
    ]
