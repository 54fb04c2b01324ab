"""Clips that are fetched while a model trains: what `dataset` and `sampling` are for clips that were prepared before."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from hf_ser.audio import SAMPLING_RATE, AudioError, Segments, read_mono
from hf_ser.audio.decode import REASONS, Waveform
from hf_ser.corpora import CorpusError, Excluded
from hf_ser.corpora.hub_dataset import ParquetStream
from hf_ser.training.dataset import SpeechDataset
from hf_ser.training.sampling import EpochSampler

logger = logging.getLogger(__name__)

#: The stop of a segment that ends with its clip.
WHOLE = 1 << 40


class Stream:
    """
    The audio of clips in Parquet files, with the length and the state of each clip that was decoded. Processes that load batches
    share it.

    Args:
        audio (`ParquetStream`): The source.
        minimum_samples (`int`): The samples of the shortest clip that the encoder takes, at 16 kHz.
        max_excluded (`float`): The share of clips that may be excluded.
        buffer (`int`): The number of clips that wait in memory, from which the next one is drawn at random; at least 1.
    """

    def __init__(self, audio: ParquetStream, minimum_samples: int, max_excluded: float, buffer: int) -> None:
        self.audio = audio
        self.minimum_samples = minimum_samples
        self.max_excluded = max_excluded
        self.buffer = buffer
        # In memory that worker processes share, whether they are forked or spawned.
        self.seconds = torch.full((len(audio),), torch.nan).share_memory_()
        #: Why a clip is excluded, by its place in `REASONS` from 1 on; 0 is no reason.
        self.reason = torch.zeros(len(audio), dtype=torch.uint8).share_memory_()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Stream":
        """The object itself: the parts of a split share it."""
        return self

    def decode(self, row: int, audio: dict[str, Any] | None) -> Waveform | None:
        """
        The waveform of a row's clip `(samples,)`, or `None` if the clip is excluded.

        Raises:
            CorpusError: if too many clips are excluded.
        """
        try:
            waveform = read_mono(audio, shortest=self.minimum_samples)
        except AudioError as error:
            if not self.reason[row]:
                self.reason[row] = 1 + REASONS.index(error.reason)
                logger.warning("row %d of the stream is excluded: %s", row, error)
            excluded = int(self.reason.count_nonzero())
            if excluded > self.max_excluded * len(self.audio):
                raise CorpusError(
                    f"max_excluded={self.max_excluded:g}: {excluded} of {len(self.audio)} clips of the stream are unusable; "
                    f"the last one was {error}"
                ) from error
            return None
        self.seconds[row] = len(waveform) / SAMPLING_RATE
        return waveform

    def excluded(self, names: Sequence[str], rows: Sequence[int]) -> list[Excluded]:
        """The excluded ones of the clips `names`, which are `rows` of the stream."""
        reasons = self.reason[torch.tensor(rows, dtype=torch.int64)].tolist()
        detail = "found while it was streamed; it is in neither training nor metrics"
        return [Excluded(name, REASONS[code - 1], detail) for name, code in zip(names, reasons, strict=True) if code]


class StreamedSpeech(SpeechDataset):
    """
    Segments of clips in Parquet files (`clips.info.stream`), fetched on demand; arguments, items and keys are those of
    [`SpeechDataset`]. A clip has a `row`, its place in the stream, and a segment that ends at `WHOLE` ends with its clip.

    The first access to a segment of a row group fetches the group; its other segments wait in memory. In the order of
    [`StreamSampler`] each group is fetched once in an epoch. An excluded clip becomes a filler: silence, without a label.

    Raises:
        ValueError: if the augmentation needs other clips.
    """

    def __init__(self, clips: Dataset, segments: Segments, *arguments: Any, **options: Any) -> None:
        super().__init__(clips, segments, *arguments, **options)
        if self.augmentation and self.augmentation.needs_other_clips:
            raise ValueError(
                "streaming: mixup_alpha and babble (distort_kinds) need other clips at any time, and a stream has each once; "
                "leave them out, or leave streaming out"
            )
        self.stream: Stream = clips.info.stream
        #: The row of each segment, and its row group.
        self.row = np.array(clips["row"][:], dtype=np.int64)[segments.clip]
        self.group = self.stream.audio.group_of(self.row)
        self._waiting: dict[int, dict[str, Any] | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_waiting": {}}

    def __getitem__(self, key: int) -> dict[str, Any]:
        epoch, i, filler = self.locate(key)
        clip = int(self.segments.clip[i])
        waveform = None if filler else self._waveform(i)
        if waveform is None:
            silence = np.zeros(self.stream.minimum_samples, dtype=np.float32)
            return {"waveform": silence, "labels": np.full_like(self.labels[clip], np.nan), "clip": clip}
        if self.augmentation:
            waveform = self.augmentation(torch.from_numpy(waveform), self.augmentation_seed(epoch, i)).numpy()
        return {"waveform": waveform, "labels": self.labels[clip], "clip": clip}

    def _waveform(self, i: int) -> Waveform | None:
        """The waveform of the segment `i` `(samples,)`, or `None` if it is unusable."""
        if i not in self._waiting:
            self._fetch(int(self.group[i]))
        waveform = self.stream.decode(int(self.row[i]), self._waiting.pop(i))
        if waveform is None:
            return None
        start, stop = int(self.segments.start[i]), int(self.segments.stop[i])
        waveform = waveform[start:stop]
        # The table may give a clip a greater length than it has; too little is left then of its last segment.
        return waveform if len(waveform) >= min(stop - start, self.stream.minimum_samples) else None

    def _fetch(self, group: int) -> None:
        mine = np.flatnonzero(self.group == group)
        rows, places = np.unique(self.row[mine], return_inverse=True)
        audio = self.stream.audio.fetch(group, rows)
        self._waiting.update((i, audio[place]) for i, place in zip(mine.tolist(), places.tolist(), strict=True))
        # A resumed run does not access the segments that it took before: the oldest are removed.
        for i in list(self._waiting)[: -(self.stream.buffer + 2 * len(mine))]:
            del self._waiting[i]


class StreamSampler(EpochSampler):
    """
    Shuffles the row groups in every epoch, and their segments in a buffer. Without a seed, for an evaluation, segments come in
    the stored order. Each process that loads batches has its own share of the row groups.

    The order depends on the seed, the epoch and the number of these processes; a resumed run continues in it, and fetches nothing
    of what it has taken before.

    Args:
        dataset (`StreamedSpeech`): The segments.
        batch (`int`): Segments in one batch of one process.
        seed (`int`, *optional*): The seed.
        processes (`int`, defaults to 1): Processes that train. An epoch of training ends with fillers, so that they get equally
            many batches.
        workers (`int`, defaults to 0): Processes that load the batches of each of them.
    """

    dataset: StreamedSpeech

    def __init__(
        self, dataset: StreamedSpeech, batch: int, seed: int | None = None, processes: int = 1, workers: int = 0
    ) -> None:
        super().__init__(
            dataset, batch, seed, -len(dataset) % (batch * processes) if seed is not None and processes > 1 else 0
        )
        self.parts = processes * max(workers, 1)

    def __iter__(self) -> Iterator[int]:
        group, batch = self.dataset.group, self.batch
        if self.seed is None:
            shares = np.array_split(np.argsort(group, kind="stable"), self.parts)
        else:
            rng = np.random.default_rng((self.seed, self.epoch))
            turn = rng.permutation(group.max() + 1)
            shares = np.array_split(np.argsort(turn[group], kind="stable"), self.parts)
            # Each segment waits for up to `buffer` others: no more are in memory, and fetching is steady.
            buffer = self.dataset.stream.buffer / self.parts
            waits = [rng.uniform(0, buffer, len(share)) for share in shares]
            shares = [
                share[np.argsort(np.arange(len(share)) + wait)] for share, wait in zip(shares, waits, strict=True)
            ]
        # The n-th batch goes to the process that reads the n-th part; what does not fill a batch of each comes last.
        end = len(shares[-1]) // batch * batch
        rounds = np.stack([share[:end].reshape(-1, batch) for share in shares], axis=1)
        order = np.concatenate([rounds.ravel(), *(share[end:] for share in shares)])
        first = self.epoch * len(self.dataset)
        yield from (first + order).tolist()
        yield from [-1 - first] * self.fillers
