"""Threads read clips ahead of a model."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from hf_ser.audio import AudioError
from hf_ser.audio.decode import Waveform, check
from hf_ser.inference.clips import Clip

#: The most clips in a pool.
POOL_CLIPS = 512


@dataclass(frozen=True)
class ReadClip:
    """
    Args:
        name (`str`): See [`~hf_ser.inference.clips.Clip`].
        waveform (`np.ndarray` of shape `(samples,)`): At 16 kHz; empty if it could not be decoded.
        problem (`AudioError`, *optional*): Why it cannot be used.
    """

    name: str
    waveform: Waveform
    problem: AudioError | None


def read(clip: Clip, shortest: int) -> ReadClip:
    """Reads a clip for an encoder that needs the `shortest` samples."""
    waveform = np.zeros(0, np.float32)
    try:
        waveform = clip.read()
        check(waveform, shortest)
    except AudioError as error:
        return ReadClip(clip.name, waveform, error)
    return ReadClip(clip.name, waveform, None)


@contextmanager
def start_threads(count: int) -> Iterator[Executor]:
    """Starts threads. Each of several computes alone, as a worker of a DataLoader does: PyTorch would start as many for each."""
    own = torch.get_num_threads()
    alone = (torch.set_num_threads, (1,)) if count > 1 else (None, ())
    try:
        with ThreadPoolExecutor(count, "reader", *alone) as threads:
            yield threads
    finally:
        if count > 1:
            torch.set_num_threads(own)  # the number is for threads to come, too


def read_pools(
    clips: Iterator[Clip], shortest: int, samples: float, threads: Executor, at_once: int
) -> Generator[list[ReadClip] | None, None, None]:
    """
    Reads clips in pools of `POOL_CLIPS` or about so many `samples`, in their order. While one is in use, the next one is read.

    Args:
        clips (`Iterator[Clip]`): They are asked for in another thread.
        shortest (`int`): See [`read`].
        samples (`float`): Of longer clips there are fewer in a pool, but one at least.
        threads (`Executor`): Read the clips.
        at_once (`int`): So many at a time, of long ones fewer.

    Yields:
        The pools; `None` before one that is still being read.
    """
    read_ahead = _read_all(clips, shortest, samples, threads, at_once)
    with ThreadPoolExecutor(1) as collector:
        coming = collector.submit(_collect, read_ahead, samples)
        while True:
            if not coming.done():
                yield None
            if not (pool := coming.result()):
                return
            coming = collector.submit(_collect, read_ahead, samples)
            yield pool


def _read_all(
    clips: Iterator[Clip], shortest: int, samples: float, threads: Executor, at_once: int
) -> Iterator[ReadClip]:
    coming: deque[Future[ReadClip]] = deque()
    ahead = 1
    while True:
        more = islice(clips, max(ahead - len(coming), 0))
        coming.extend(threads.submit(read, clip, shortest) for clip in more)
        if not coming:
            return
        clip = coming.popleft().result()
        ahead = min(at_once, 1 + int(samples / max(len(clip.waveform), 1)))  # if the next ones are as long
        yield clip


def _collect(clips: Iterator[ReadClip], most: float) -> list[ReadClip]:
    pool: list[ReadClip] = []
    samples = 0
    while len(pool) < POOL_CLIPS and samples < most and (clip := next(clips, None)):
        pool.append(clip)
        samples += len(clip.waveform)
    return pool
