"""Clips that are fetched from the Hub while a model trains: what `hf_ser.features` has for clips on the disk."""

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset

from hf_ser.audio import SAMPLING_RATE, AudioError, Augmentation, Segments, read_mono
from hf_ser.audio.decode import Waveform
from hf_ser.corpora import CorpusError, SetAside
from hf_ser.corpora.hub_stream import HubStream
from hf_ser.features import IGNORED, EpochSampler, SpeechDataset

logger = logging.getLogger(__name__)

#: A segment that ends with its clip, wherever that is.
WHOLE = 1 << 40
#: Why a clip that was fetched cannot be used, by number; 0 is no reason.
REASONS = ("", "unreadable", "empty", "not finite", "silent", "too short")


class Stream:
    """
    Clips on the Hub, and what is learned of them as they are heard. Processes that load batches share it.

    Args:
        audio (`HubStream`): Where they come from.
        minimum_samples (`int`): The shortest clip that the encoder can take, at 16 kHz.
        max_set_aside (`float`): The share of clips that may turn out to be unusable.
        buffer (`int`): Clips that wait in memory, of which the next one is drawn at random; at least 1.
    """

    def __init__(self, audio: HubStream, minimum_samples: int, max_set_aside: float, buffer: int) -> None:
        self.audio = audio
        self.minimum_samples = minimum_samples
        self.max_set_aside = max_set_aside
        self.buffer = buffer
        # In memory that worker processes share, whether they are forked or spawned: 5 bytes a clip.
        self.seconds = torch.full((len(audio),), torch.nan).share_memory_()
        self.reason = torch.zeros(len(audio), dtype=torch.uint8).share_memory_()

    def decode(self, row: int, audio: dict[str, Any]) -> Waveform | None:
        """
        The waveform of a row's clip `(samples,)`, or `None` if it cannot be used, which is said once.

        Raises:
            CorpusError: if that happens too often.
        """
        try:
            waveform = read_mono(audio)
            if len(waveform) < self.minimum_samples:
                seconds, needed = len(waveform) / SAMPLING_RATE, self.minimum_samples / SAMPLING_RATE
                raise AudioError("too short", f"{seconds:.4f} s; the encoder needs {needed:.4f} s")
        except AudioError as error:
            self._set_aside(row, error)
            return None
        self.seconds[row] = len(waveform) / SAMPLING_RATE
        return waveform

    def _set_aside(self, row: int, error: AudioError) -> None:
        if self.reason[row]:
            return
        self.reason[row] = REASONS.index(error.reason)
        logger.warning("row %d of the stream is set aside: %s", row, error)
        broken = int(self.reason.count_nonzero())
        if broken > self.max_set_aside * len(self.audio):
            raise CorpusError(
                f"--streaming: {broken} of {len(self.audio)} clips cannot be used, more than --max_set_aside "
                f"{self.max_set_aside:g} allows; the last one was {error}"
            )

    def set_aside(self, names: Sequence[str], rows: Sequence[int]) -> list[SetAside]:
        """Of the clips called `names`, which are `rows` of the stream, those that turned out to be unusable."""
        reasons = self.reason[torch.tensor(rows, dtype=torch.int64)].tolist()
        detail = "found while it was streamed; it took no part in training and figures"
        return [SetAside(name, REASONS[code], detail) for name, code in zip(names, reasons, strict=True) if code]


class StreamedSpeech(SpeechDataset):
    """
    Segments of clips on the Hub, fetched as they are asked for; items and keys are those of [`SpeechDataset`].

    A row group is fetched for the first of its clips that is asked for, and the others wait in memory for their turn: whoever
    asks in the order of [`StreamSampler`] fetches each once in an epoch. A clip that cannot be used becomes a filler, which
    no loss and no figure counts. A filler is silence: for a clip it would fetch a row group.

    Args:
        clips (`datasets.Dataset`): The clips with `label` and `row`, their row in the stream.
        segments (`Segments`): The pieces to take; one that ends at `WHOLE` ends with its clip.
        stream (`Stream`): Their audio.
        augmentation (`Augmentation`, *optional*): For training only.
        seed (`int`, defaults to 0): The augmentation's seed.

    Raises:
        ValueError: if the augmentation needs other clips.
    """

    def __init__(
        self,
        clips: Dataset,
        segments: Segments,
        stream: Stream,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        if augmentation and augmentation.needs_other_clips:
            raise ValueError(
                "--streaming: clips come one after the other, and --mixup_alpha and babble (--distort_kinds) need other clips at "
                "any time; leave them out, or leave --streaming out"
            )
        super().__init__(clips, segments, augmentation, seed)
        self.stream = stream
        self.labels = np.array(clips["label"][:])
        self.row = np.array(clips["row"][:], dtype=np.int64)
        #: The row group of each segment.
        self.group = stream.audio.group_of(self.row[segments.clip])
        # Segments of each clip of mine, in the order of rows: (clips,) each
        self._rows, self._uses = np.unique(self.row[segments.clip], return_counts=True)
        self._waiting: OrderedDict[int, dict[int, tuple[dict[str, Any], int]]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_waiting": OrderedDict()}

    def __getitem__(self, key: int) -> dict[str, Any]:
        epoch, i, filler = self.locate(key)
        clip = int(self.segments.clip[i])
        waveform = None if filler else self._piece(i)
        if waveform is None:
            silence = np.zeros(self.stream.minimum_samples, dtype=np.float32)
            return {"waveform": silence, "label": IGNORED, "clip": clip}
        if self.augmentation:
            waveform = self.augmentation(torch.from_numpy(waveform), self.drawn(epoch, i)).numpy()
        return {"waveform": waveform, "label": int(self.labels[clip]), "clip": clip}

    def _piece(self, i: int) -> Waveform | None:
        """The waveform of the segment `i` `(samples,)`, or `None` if it cannot be used."""
        row = int(self.row[self.segments.clip[i]])
        waveform = self.stream.decode(row, self._take(int(self.group[i]), row))
        if waveform is None:
            return None
        start, stop = int(self.segments.start[i]), int(self.segments.stop[i])
        # A table may say that a clip is longer than it is, and leave too little of its last segment.
        piece = waveform[start:stop]
        return piece if len(piece) >= min(stop - start, self.stream.minimum_samples) else None

    def _take(self, group: int, row: int) -> dict[str, Any]:
        """The audio of a row, which goes from memory once all segments of its clip were taken."""
        waiting = self._waiting.get(group, {})
        if row not in waiting:
            first, end = np.searchsorted(self._rows, self.stream.audio.first[group : group + 2])
            rows, uses = self._rows[first:end].tolist(), self._uses[first:end].tolist()
            fetched = self.stream.audio.fetch(group, rows)
            waiting = {one: (audio, use) for one, audio, use in zip(rows, fetched, uses, strict=True)}
            self._waiting[group] = waiting
            self._make_room()
        audio, left = waiting.pop(row)
        if left > 1:
            waiting[row] = (audio, left - 1)
        if not waiting:
            del self._waiting[group]
        return audio

    def _make_room(self) -> None:
        """Lets go of what nobody has come for, as the rest of a row group in which a run was resumed."""
        most = self.stream.buffer + 2 * max(len(rows) for rows in self._waiting.values())
        while len(self._waiting) > 1 and sum(map(len, self._waiting.values())) > most:
            self._waiting.popitem(last=False)


class StreamSampler(EpochSampler):
    """
    Shuffles the row groups anew in every epoch, and their segments in a buffer: as `datasets` shuffles a stream. Without a seed,
    for an evaluation, all comes in the stored order. So each row group is fetched once in an epoch, by one process.

    The order depends on the seed, the epoch, and how many processes load batches; a run that is resumed goes on as if it had
    not stopped, and fetches nothing of what it has heard.

    Args:
        dataset (`StreamedSpeech`): What is sampled; the keys that come out carry the epoch.
        batch (`int`): Segments in one batch of one process.
        seed (`int`, *optional*): The seed.
        processes (`int`, defaults to 1): Processes that train. The epoch is filled up so that they get equally many batches; an
            evaluation is not: accelerate does that, and leaves out of the figures what it has added.
        workers (`int`, defaults to 0): Processes that load the batches of each of them.
    """

    dataset: StreamedSpeech

    def __init__(
        self, dataset: StreamedSpeech, batch: int, seed: int | None = None, processes: int = 1, workers: int = 0
    ) -> None:
        super().__init__(
            dataset, batch, seed, -len(dataset) % (batch * processes) if seed is not None and processes > 1 else 0
        )
        self.readers = processes * max(workers, 1)

    def __iter__(self) -> Iterator[int]:
        queues = self._queues()
        taken = [0] * self.readers
        first, turn = self.epoch * len(self.dataset), 0
        for at in range(0, len(self.dataset), self.batch):
            size = min(self.batch, len(self.dataset) - at)
            batch: list[int] = []
            # The n-th batch goes to the n-th reader; one that has come to its end gets what others have left.
            for reader in (turn, *(other for other in range(self.readers) if other != turn)):
                more = queues[reader][taken[reader] : taken[reader] + size - len(batch)].tolist()
                taken[reader] += len(more)
                batch += more
            turn = (turn + 1) % self.readers
            yield from (first + segment for segment in batch)
        yield from [-1 - first] * self.fillers

    def _queues(self) -> list[npt.NDArray[np.int64]]:
        """The segments of each reader, in the order in which it takes them."""
        count = len(np.unique(self.dataset.group))
        if self.seed is None:
            return self._share(range(count))
        rng = np.random.default_rng((self.seed, self.epoch))
        buffer = max(self.dataset.stream.buffer // self.readers, 1)
        return [buffered(segments, buffer, rng) for segments in self._share(rng.permutation(count).tolist())]

    def _share(self, turns: Sequence[int]) -> list[npt.NDArray[np.int64]]:
        """The segments of each reader: the row groups as `turns` says, each to whom has the fewest so far."""
        order = np.argsort(self.dataset.group, kind="stable")
        _, starts = np.unique(self.dataset.group[order], return_index=True)
        groups = np.split(order, starts[1:])
        shares: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(self.readers)]
        sizes = np.zeros(self.readers, dtype=np.int64)
        for k in turns:
            reader = int(np.argmin(sizes))
            shares[reader].append(groups[k])
            sizes[reader] += len(groups[k])
        return [np.concatenate(share) if share else np.zeros(0, dtype=np.int64) for share in shares]


def buffered(segments: npt.NDArray[np.int64], size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The order in which segments leave a buffer of `size` that draws at random and is filled up in the given order."""
    if len(segments) <= size:
        return rng.permutation(segments)
    buffer = segments[:size].copy()
    order = np.empty_like(segments)
    for n, (place, segment) in enumerate(
        zip(rng.integers(size, size=len(segments) - size), segments[size:], strict=True)
    ):
        order[n], buffer[place] = buffer[place], segment
    order[len(segments) - size :] = rng.permutation(buffer)
    return order
