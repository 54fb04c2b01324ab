"""Emotions of many clips."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from tqdm import tqdm
from transformers import AudioClassificationPipeline

from hf_ser.audio import SAMPLING_RATE, AudioError
from hf_ser.audio.decode import SILENCE, Waveform, check
from hf_ser.encoders import minimum_samples
from hf_ser.inference.batches import budget, classify, emotions_of, longest_heard
from hf_ser.inference.sources import Clip, Source, clips_of, find_clips

#: How much is read before it is sorted by length: so many clips, or so many batches' worth of seconds.
POOL_CLIPS, POOL_BATCHES = 512, 16
#: Cuts a waveform `(samples,)` into pieces.
Cut = Callable[[Waveform], list[Waveform]]


@dataclass(frozen=True)
class Prediction:
    """
    What the model says of one clip.

    Args:
        name (`str`): The clip's name, see [`Clip`].
        duration (`float`): Its length in seconds; 0 if it could not be read.
        probabilities (`dict[str, float]`): Each emotion's probability; they add up to 1. Empty if there is a problem.
        problem (`str`, *optional*): Why there is no prediction: a reason (`unreadable`, `empty`, `silent`, `not finite`,
            `too short`), a colon and the details.
    """

    name: str
    duration: float
    probabilities: dict[str, float]
    problem: str | None = None

    @property
    def emotion(self) -> str | None:
        """The most likely emotion, or `None` if there is a problem."""
        return max(self.probabilities, key=self.probabilities.__getitem__, default=None)


def predict(
    classifier: AudioClassificationPipeline,
    sources: Source | Iterable[Source],
    *,
    batch_seconds: float | None = None,
    longest: float = 30.0,
    cut: Cut | None = None,
    progress: bool = True,
) -> Iterator[Prediction]:
    """
    Emotions of any number of clips, in the order of the sources and in memory that does not grow with their number.

    What comes out for a clip does not depend on the clips around it or on `batch_seconds`. A clip that cannot be used
    is in the results with the reason in `problem`.

    Args:
        classifier (`AudioClassificationPipeline`): What `hf_ser.load` returns.
        sources: Files, folders, patterns, `dataset=NAME`, arrays; see [`find_clips`]. They are looked up at once, except
            where they are an iterator: then each as its turn comes.
        batch_seconds (`float`, *optional*): Seconds of sound in a batch, padding included; by default 120 on a GPU and 8 on a
            CPU. Less needs less memory.
        longest (`float`, defaults to 30): A clip of more seconds is cut into as few equal segments as are not longer than
            this, and has the mean of their probabilities, weighted by length; silent segments are left out. It may be
            infinite, but a model that hears less (Whisper) gets segments all the same.
        cut (`Callable`, *optional*): In place of `longest`, cuts a clip's waveform `(samples,)` into its segments.
        progress (`bool`, defaults to `True`): Whether to show a progress bar, if there is a terminal.

    Returns:
        An iterator over one [`Prediction`] for each clip.

    Raises:
        FileNotFoundError: if a file is not there, or no audio is in a folder or matches a pattern.
        ValueError: if an argument is out of range, or a source is none.
    """
    seconds = budget(classifier, batch_seconds)
    if not longest >= 1:  # nor NaN
        raise ValueError(f"longest: must be at least 1 s, found {longest}")
    emotions_of(classifier)
    if isinstance(sources, str | Path | dict | Clip | Sequence):
        clips: Iterable[Clip] = find_clips(sources)
    else:
        clips = chain.from_iterable(clips_of(source, place) for place, source in enumerate(sources))
    return _predict(
        classifier, clips, seconds, cut or partial(equally, longest=min(longest, longest_heard(classifier))), progress
    )


def _predict(
    classifier: AudioClassificationPipeline,
    clips: Iterable[Clip],
    batch_seconds: float,
    cut: Cut,
    progress: bool,
) -> Iterator[Prediction]:
    total = len(clips) if isinstance(clips, list) else None
    coming = iter(clips)
    minimum = minimum_samples(classifier.model.config)
    with (
        ThreadPoolExecutor(1) as reader,  # decodes the next pool while the model works on this one
        tqdm(total=total, unit=" clips", disable=None if progress else True) as bar,
    ):
        next_pool = reader.submit(_read_pool, coming, POOL_BATCHES * batch_seconds, minimum)
        while pool := next_pool.result():
            next_pool = reader.submit(_read_pool, coming, POOL_BATCHES * batch_seconds, minimum)
            yield from _predict_pool(classifier, pool, batch_seconds, cut, bar)


@dataclass(frozen=True)
class _Read:
    name: str
    waveform: Waveform
    problem: str | None


def _read_pool(clips: Iterator[Clip], seconds: float, minimum: int) -> list[_Read]:
    pool: list[_Read] = []
    samples = 0
    while len(pool) < POOL_CLIPS and samples < seconds * SAMPLING_RATE and (clip := next(clips, None)):
        pool.append(_read(clip, minimum))
        samples += len(pool[-1].waveform)
    return pool


def _read(clip: Clip, minimum: int) -> _Read:
    waveform = np.zeros(0, np.float32)
    try:
        waveform = clip.read()
        check(waveform)
        if len(waveform) < minimum:
            raise AudioError("too short", f"it has {len(waveform)} samples at 16 kHz, the encoder needs {minimum}")
    except AudioError as error:
        return _Read(clip.name, waveform, " ".join(str(error).split()))
    return _Read(clip.name, waveform, None)


def _predict_pool(
    classifier: AudioClassificationPipeline, pool: list[_Read], batch_seconds: float, cut: Cut, bar: tqdm
) -> Iterator[Prediction]:
    emotions = emotions_of(classifier)
    usable = [i for i, read in enumerate(pool) if read.problem is None]
    bar.update(len(pool) - len(usable))
    owners, pieces = [], []  # a piece of waveform, and the place in the pool of the clip that it is cut from
    for i in usable:
        for piece in cut(pool[i].waveform):
            owners.append(i)
            pieces.append(piece)
    sums = np.zeros((len(pool), len(emotions)))
    weights = np.zeros((len(pool), 1))
    left = np.bincount(owners, minlength=len(pool)) if owners else np.zeros(len(pool), int)
    for batch, probabilities in classify(classifier, pieces, batch_seconds):
        for piece, row in zip(batch, probabilities, strict=True):
            owner = owners[piece]
            sums[owner] += len(pieces[piece]) * row
            weights[owner] += len(pieces[piece])
            left[owner] -= 1
            bar.update(int(left[owner] == 0))
    for i, read in enumerate(pool):
        duration = len(read.waveform) / SAMPLING_RATE
        if read.problem is not None:
            yield Prediction(read.name, duration, {}, read.problem)
        else:
            yield Prediction(read.name, duration, dict(zip(emotions, (sums[i] / weights[i]).tolist(), strict=True)))


def equally(waveform: Waveform, longest: float) -> list[Waveform]:
    """Equal pieces of at most `longest` seconds, without those that are silent: no moment counts twice."""
    count = 1 if math.isinf(longest) else math.ceil(len(waveform) / round(longest * SAMPLING_RATE))
    if count == 1:
        return [waveform]
    edges = np.linspace(0, len(waveform), count + 1).round().astype(int)
    pieces = [waveform[start:stop] for start, stop in pairwise(edges)]
    return [piece for piece in pieces if np.abs(piece).max() >= SILENCE]
