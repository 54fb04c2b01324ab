"""From clips to batches: on-the-fly feature extraction, padding, shuffling."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from transformers import SequenceFeatureExtractor

from hf_ser.audio import SAMPLING_RATE, Augmentation, Segments, read_segment
from hf_ser.audio.decode import Waveform
from hf_ser.modeling.families import FILTERBANK, InputKind, filterbank_samples, input_kind
from hf_ser.targets import Rows, Targets

#: Clips that are added up to babble.
VOICES = 5
#: Offset in epochs of a repeated draw of a clip within one epoch. It is larger than any number of epochs, and prime, so that the
#: draw takes another cached view.
REPEAT = 1_000_003


class SpeechDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """
    Segments of clips, decoded and augmented on access.

    Item `i` of epoch `e` has the key `e * len(self) + i`. The augmentation depends only on the seed, the epoch and the segment,
    not on the number of workers or the order. Keys below `len(self)` are epoch 0. The key `-1 - key` gives the same item as a
    filler: its labels are NaN, which no loss counts.

    With mixup (Zhang et al. 2018, mixup: Beyond Empirical Risk Minimization) an item is
    `weight * segment + (1 - weight) * other`, augmented after that. The other segment is cut, or padded with zeros at its end, to
    the length of the first, and the labels are mixed alike. The weight is at least 0.5: the first segment is the main one.

    Args:
        clips (`datasets.Dataset`): Prepared clips with `audio` and `label`.
        segments (`Segments`): The segments to take; `segments.clip` are rows of `clips`.
        augmentation (`Augmentation`, *optional*): For training only.
        seed (`int`, defaults to 0): The augmentation's seed.
        targets (`Targets`, *optional*): What a model predicts, by default one emotion.
    """

    def __init__(
        self,
        clips: Dataset,
        segments: Segments,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        targets: Targets | None = None,
    ) -> None:
        # Not a selection of columns: pickled for a spawned worker, it would arrive empty.
        self.clips = clips
        self.segments = segments
        self.augmentation = augmentation if augmentation and augmentation.does_something else None
        self.seed = seed
        self.targets = targets or Targets.of(clips)
        #: The outputs that a model should have for each clip, `(clips, outputs)`.
        self.labels = self.targets.rows(clips)

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def emotions(self) -> npt.NDArray[np.int64]:
        """The emotion of each segment `(segments,)`, of a distribution the most frequent one, -1 for none."""
        rows = self.labels[self.segments.clip, : len(self.targets.emotions)]
        return np.where(np.isfinite(rows[:, 0]), rows.argmax(axis=1), -1)

    @property
    def mixes(self) -> bool:
        """Whether each segment is mixed with another one (mixup)."""
        return bool(self.augmentation and self.augmentation.mixup_alpha)

    def __getitem__(self, key: int) -> dict[str, Any]:
        """
        `waveform` `(samples,)` float32 at 16 kHz, `labels` `(outputs,)`, see [`~hf_ser.targets.Targets.rows`], and `clip`, the
        row it is cut from.
        """
        epoch, i, filler = self.locate(key)
        waveform = self._read(i)
        if self.augmentation:
            partner, voices, weight = self.others(epoch, i)
            if self.mixes:
                other = self._read(partner)
                waveform = weight * waveform
                common = min(len(waveform), len(other))
                waveform[:common] += (1 - weight) * other[:common]
            waveform = self.augmentation(
                torch.from_numpy(waveform), self.drawn(epoch, i), lambda: [self._read(voice) for voice in voices]
            ).numpy()
        labels = self.mixed_labels(epoch, i)
        return {
            "waveform": waveform,
            "labels": np.full_like(labels, np.nan) if filler else labels,
            "clip": int(self.segments.clip[i]),
        }

    def mixed_labels(self, epoch: int, i: int) -> Rows:
        """The labels of the segment `i` in an epoch `(outputs,)`, with mixup those of both segments."""
        own: Rows = self.labels[self.segments.clip[i]]
        if not self.mixes:
            return own
        partner, _, weight = self.others(epoch, i)
        return weight * own + (1 - weight) * self.labels[self.segments.clip[partner]]

    def labels_in(self, epoch: int) -> Rows:
        """The labels of all segments in an epoch `(segments, outputs)`."""
        if not self.mixes:
            return self.labels[self.segments.clip]
        return np.stack([self.mixed_labels(epoch, i) for i in range(len(self))])

    def _read(self, i: int) -> Waveform:
        """The waveform of the segment `i` `(samples,)`."""
        audio = self.clips[int(self.segments.clip[i])]["audio"]
        return read_segment(audio, int(self.segments.start[i]), int(self.segments.stop[i]))

    def others(self, epoch: int, i: int) -> tuple[int, list[int], float]:
        """
        The segment that the segment `i` is mixed with in an epoch, the segments of its babble, and its own weight in the mixture.
        """
        rng = np.random.default_rng((self.drawn(epoch, i), 1))
        shift = rng.integers(max(len(self) - 1, 1), size=1 + VOICES)  # any but itself
        partner, *voices = ((i + 1 + shift) % len(self)).tolist()
        alpha = self.augmentation.mixup_alpha if self.augmentation else 0.0
        weight = float(rng.beta(alpha, alpha)) if alpha else 1.0
        return partner, voices, max(weight, 1 - weight)

    def drawn(self, epoch: int, i: int) -> int:
        """
        The seed of the augmentation of the segment `i` in an epoch. It depends on the clip and not on `i`: another fold augments
        the same clip in the same way, and reuses its cached features.
        """
        clip, start = int(self.segments.clip[i]), int(self.segments.start[i])
        name = f"{self.seed} {epoch} {self._hashes[clip]} {start}"
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")

    @cached_property
    def _hashes(self) -> list[str]:
        return list(self.clips["samples_hash"][:])

    def locate(self, key: int) -> tuple[int, int, bool]:
        """The epoch and the segment that `key` stands for, and whether it is a filler."""
        filler = key < 0
        epoch, i = divmod(-1 - int(key) if filler else int(key), len(self))
        return epoch, i, filler


@dataclass
class SpeechCollator:
    """
    Makes a batch of items of [`SpeechDataset`]: extracted features, padded to the longest.

    Args:
        feature_extractor (`SequenceFeatureExtractor`): See `hf_ser.modeling.load_feature_extractor`.
        minimum_samples (`int`): Shorter batches are padded to this length, which the encoder, or SpecAugment in
            training, needs.
    """

    feature_extractor: SequenceFeatureExtractor
    minimum_samples: int

    @property
    def inputs(self) -> InputKind:
        """What the encoder takes."""
        return input_kind(self.feature_extractor)

    @property
    def per_second(self) -> int:
        """The places of the attention mask for a second."""
        return SAMPLING_RATE // self.inputs.hop

    @property
    def minimum(self) -> int:
        """The shortest batch, in places of the attention mask."""
        return -(-self.minimum_samples // self.inputs.hop)

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """
        `input_values` and `attention_mask` `(batch, samples)`, or for Whisper `input_features` `(batch, mel bins, mel frames)`
        and `attention_mask` `(batch, mel frames)`, for Wav2Vec2-BERT `(batch, frames, features)` and `(batch, frames)`;
        `labels` `(batch, outputs)` and `clip` `(batch,)`; and `by_length`, see [`by_length`].
        """
        waveforms = [item["waveform"] for item in items]
        longest = max(*map(len, waveforms), self.minimum_samples)
        if self.inputs is FILTERBANK:
            longest = 1 + (longest - filterbank_samples(1)) // 160  # it counts windows
        batch = self.feature_extractor(
            waveforms,
            sampling_rate=SAMPLING_RATE,
            padding="max_length",
            max_length=longest,
            return_attention_mask=True,  # with it each clip is normalised by itself, without it with its padding
            return_tensors="pt",
        )
        batch["labels"] = torch.from_numpy(np.stack([item["labels"] for item in items]))
        batch["clip"] = torch.tensor([item["clip"] for item in items])
        batch["by_length"] = by_length(batch["attention_mask"].sum(dim=1).numpy())
        return dict(batch)

    def cut(self, batch: dict[str, Any], slices: list[slice]) -> Iterator[dict[str, torch.Tensor]]:
        """
        Cuts a batch into micro-batches, `slices` of its clips in the order from the longest to the shortest. Padding that all
        clips of a micro-batch share is removed, and the mask, too, if no padding is left. The tensors are contiguous: for views
        `torch.compile` would compile anew.
        """
        order, lengths = batch["by_length"]
        ordered = {name: values[order] for name, values in batch.items() if name != "by_length"}
        for clips in slices:
            # A filterbank of `minimum_samples` may have fewer frames than `minimum`.
            length = min(max(int(lengths[clips.start]), self.minimum), batch["attention_mask"].shape[1])
            part = {name: values[clips] for name, values in ordered.items()}
            for name, axis in (("input_values", 1), ("input_features", self.inputs.time), ("attention_mask", 1)):
                if name in part:
                    part[name] = part[name].narrow(axis, 0, length).contiguous()
            if lengths[clips.stop - 1] == length:
                part.pop("attention_mask", None)
            yield part


def by_length(lengths: npt.NDArray[np.int64]) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
    """
    The clips of a batch from the longest to the shortest `(batch,)`, and their lengths in this order. The lengths are a NumPy
    array, because a batch is cut on the CPU: reading them from a GPU would wait for it.
    """
    order = np.argsort(-lengths, kind="stable")
    return torch.from_numpy(order), lengths[order]


class EpochSampler(torch.utils.data.Sampler[int]):
    """
    Yields the keys of a dataset's segments, in another order in each epoch. The keys contain the epoch. At the end of an epoch
    come as many filler keys as `fillers`.
    """

    def __init__(self, dataset: SpeechDataset, batch: int, seed: int | None, fillers: int) -> None:
        self.dataset = dataset
        self.batch = batch
        self.seed = seed
        self.fillers = fillers
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.dataset) + self.fillers


class StepSampler(EpochSampler):
    """
    Shuffles the segments anew in every epoch. The clips of a step of the optimizer are a random sample of all.

    Batches of clips of similar length would save padding, but would not be random samples: length depends on speaker, corpus and
    emotion. On RAVDESS, PEFT-SER's head on a frozen Whisper trained more slowly with them, and its results were worse. Only the
    batches that are accumulated to one step have similar lengths: training does not depend on how a step is cut.

    The order depends only on the seed and the epoch. A resumed run continues as if it had not stopped.

    A balanced epoch has the same number of segments, and each emotion equally often: only some segments of a frequent emotion,
    and those of a rare one several times, each time with another augmentation.

    Args:
        dataset (`SpeechDataset`): The segments.
        batch (`int`): Segments in one batch, over all processes: a multiple of them.
        seed (`int`): The seed.
        accumulated (`int`, defaults to 1): Batches in one step.
        processes (`int`, defaults to 1): Processes that share each batch, its first part for the first process and so on.
            Each gets equally many segments and nearly the same work, see [`equal_shares`]. The segments of a step do not depend
            on it. All must get equally many batches: the last one is filled up with fillers, which do not count, so that several
            processes train the same model as one.
        balanced (`bool`, defaults to False): Whether each emotion is drawn equally often.
    """

    seed: int

    def __init__(
        self,
        dataset: SpeechDataset,
        batch: int,
        seed: int,
        accumulated: int = 1,
        processes: int = 1,
        balanced: bool = False,
    ) -> None:
        super().__init__(dataset, batch, seed, -len(dataset) % batch if processes > 1 else 0)
        self.accumulated = accumulated
        self.processes = processes
        #: The emotion of each segment, -1 for none, if emotions are balanced.
        self.labels = dataset.emotions if balanced else None

    def __iter__(self) -> Iterator[int]:
        lengths = self.dataset.segments.samples
        rng = np.random.default_rng((self.seed, self.epoch))
        drawn = np.arange(len(lengths)) if self.labels is None else balanced_draws(self.labels, rng)
        order = self.epoch * len(lengths) + rng.permutation(drawn)
        step, each = self.batch * self.accumulated, self.batch // self.processes
        for first in range(0, len(order), step):
            keys = order[first : first + step]
            clips = keys % len(lengths)
            if self.fillers and first + step >= len(order):
                shortest = np.full(self.fillers, np.argmin(lengths[clips]))
                clips, keys = np.append(clips, clips[shortest]), np.append(keys, -1 - keys[shortest])
            shares = keys[equal_shares(lengths[clips], self.processes)]  # (processes, segments), the longest first
            for at in range(0, shares.shape[1], each):
                yield from shares[:, at : at + each].ravel().tolist()


def balanced_draws(labels: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """
    Draws as many segments as there are, each label equally often; some labels once more if the number cannot be divided. No
    segment is drawn again before all segments of its label were drawn.

    Args:
        labels (`array` of shape `(segments,)`): The label of each segment; those without one (-1) are not drawn.
        rng (`np.random.Generator`): The source of random numbers.

    Returns:
        `(segments,)`: a segment's index where it is drawn for the first time, and `REPEAT * segments` more each further time.
    """
    present = rng.permutation(
        np.unique(labels[labels >= 0])
    )  # in this order, so that the remainder goes to others in every epoch
    found = []
    for label, share in zip(present, np.array_split(labels, len(present)), strict=True):
        mine = np.flatnonzero(labels == label)
        rounds = -(-len(share) // len(mine))
        drawn = np.concatenate([n * REPEAT * len(labels) + rng.permutation(mine) for n in range(rounds)])
        found.append(drawn[: len(share)])
    return np.concatenate(found)


def equal_shares(work: npt.NDArray[Any], processes: int) -> npt.NDArray[np.int64]:
    """
    Shares clips among processes: equally many for each, and nearly the same work, because all wait for the last one. In each
    round each process gets one clip, the longest clips first; the process with the least work so far gets the longest of them.

    Args:
        work (`array` of shape `(clips,)`): The cost of each clip; their number is a multiple of `processes`.
        processes (`int`): The number of processes.

    Returns:
        The clips of each process, `(processes, clips / processes)`, the longest first.
    """
    rounds = np.argsort(-work, kind="stable").reshape(-1, processes)
    loads = np.zeros(processes)
    for clips in rounds:
        clips[np.argsort(loads, kind="stable")] = clips.copy()
        loads += work[clips]
    return rounds.T


def micro_batches_of_like_length(lengths: npt.NDArray[np.int64], budget: float, fixed: float = 0.0) -> list[slice]:
    """
    Cuts a batch into micro-batches of clips of similar length, with the least work in total. The work of a micro-batch is its
    number of clips times the longest of them, plus `fixed`.

    Args:
        lengths (`array` of shape `(clips,)`): The clips' lengths, the longest first.
        budget (`float`): The largest micro-batch (clips times longest). A single clip may be longer.
        fixed (`float`, defaults to 0): The fixed cost of each micro-batch, in the same unit.

    Returns:
        The clips of each micro-batch.
    """
    longest = lengths.tolist()
    clips = len(longest)
    # least[i]: the least work for the clips from the i-th longest on; the first micro-batch ends before stop[i].
    least, stop = [0.0] * (clips + 1), [clips] * (clips + 1)
    for first in range(clips - 1, -1, -1):
        most = clips - first if not longest[first] else max(int(budget // longest[first]), 1)
        ends = range(first + 1, min(first + most, clips) + 1)
        work, end = min(((end - first) * longest[first] + fixed + least[end], -end) for end in ends)
        least[first], stop[first] = work, -end  # of equally good cuts the one with larger micro-batches
    found, first = [], 0
    while first < clips:
        found.append(slice(first, stop[first]))
        first = stop[first]
    return found


def longest_first(segments: Segments) -> Segments:
    """The same segments, longest first: for evaluation, where order does not matter but padding costs time."""
    return segments.take(np.argsort(-segments.samples, kind="stable"))
