"""From clips to batches: on-the-fly feature extraction, augmentation, padding."""

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
BABBLE_VOICES = 5


class SpeechDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """
    Segments of clips, decoded and augmented on access.

    Item `i` of epoch `e` has the key `e * len(self) + i`. The augmentation depends only on the seed, the epoch and the segment,
    not on the number of workers or the order. Keys below `len(self)` are epoch 0. The key `-1 - key` gives the same item as a
    filler: its labels are NaN, which no loss counts.

    With mixup (Zhang et al. 2018, mixup: Beyond Empirical Risk Minimization) an item is
    `weight * segment + (1 - weight) * other`, augmented after that. The other segment is cut, or padded with zeros at its end, to
    the length of the first, and the labels are mixed alike: the mixture has a label if both segments have it. The weight is at
    least 0.5: the first segment is the main one.

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
                torch.from_numpy(waveform),
                self.augmentation_seed(epoch, i),
                lambda: [self._read(voice) for voice in voices],
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
        rng = np.random.default_rng((self.augmentation_seed(epoch, i), 1))
        shift = rng.integers(max(len(self) - 1, 1), size=1 + BABBLE_VOICES)  # any but itself
        partner, *voices = ((i + 1 + shift) % len(self)).tolist()
        alpha = self.augmentation.mixup_alpha if self.augmentation else 0.0
        weight = float(rng.beta(alpha, alpha)) if alpha else 1.0
        return partner, voices, max(weight, 1 - weight)

    def augmentation_seed(self, epoch: int, i: int) -> int:
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
