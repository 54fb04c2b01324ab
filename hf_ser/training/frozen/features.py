"""Batches of what the frozen front of a model made of the segments of a dataset."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hf_ser.features import IGNORED, SpeechDataset
from hf_ser.training.frozen.store import Entry, StoredFrames


class FrozenFeatures(SpeechDataset):
    """
    The segments of a [`SpeechDataset`], with what the frozen front made of each in place of its waveform. Whole batches are read
    at once, padded to the longest: there is nothing left to collate.

    Args:
        dataset (`SpeechDataset`): The segments.
        frames (`StoredFrames`): Where the features are.
        views (`Sequence[Sequence[Entry]]`): For each view of the clips where that of each segment is: epoch `e` takes the
            view `e` modulo their number.
        minimum (`int`): Shorter batches are padded to so many frames, which SpecAugment needs.
        name (`str`): What the model calls its input.
    """

    def __init__(
        self, dataset: SpeechDataset, frames: StoredFrames, views: Sequence[Sequence[Entry]], minimum: int, name: str
    ) -> None:
        super().__init__(dataset.clips, dataset.segments)
        self.name = name
        self.frames = frames
        self.first = np.array([[entry.first for entry in view] for view in views], dtype=np.int64)
        self.lengths = np.array([[entry.frames for entry in view] for view in views], dtype=np.int64)
        self.minimum = minimum
        self.labels = np.array(dataset.clips["label"][:], dtype=np.int64)[dataset.segments.clip]
        self.mixup = bool(dataset.augmentation and dataset.augmentation.mixup_alpha)
        if self.mixup:
            drawn = [[dataset.others(view, i) for i in range(len(self))] for view in range(len(views))]
            self.other_labels = np.array([[self.labels[partner] for partner, _, _ in view] for view in drawn])
            self.weights = np.array([[weight for _, _, weight in view] for view in drawn], dtype=np.float32)

    def __getitem__(self, key: int) -> dict[str, torch.Tensor]:
        """A batch of one."""
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[int]) -> dict[str, torch.Tensor]:
        """
        A batch, as a DataLoader asks for it: the input `(batch, frames, width)` or `(batch, frames, layers, width)`,
        `attention_mask` `(batch, frames)` unless each segment is one frame, `labels` and `clip` `(batch,)`, with mixup
        `other_label` and `weight` `(batch,)`, too.
        """
        asked = np.asarray(keys)
        filler = asked < 0
        epoch, i = np.divmod(np.where(filler, -1 - asked, asked), len(self))
        view = epoch % len(self.first)
        batch = {
            "labels": torch.from_numpy(np.where(filler, IGNORED, self.labels[i])),
            "clip": torch.from_numpy(self.segments.clip[i]),
        }
        if self.mixup:
            batch["other_label"] = torch.from_numpy(np.where(filler, IGNORED, self.other_labels[view, i]))
            batch["weight"] = torch.from_numpy(self.weights[view, i])
        first, lengths = self.first[view, i], self.lengths[view, i]
        longest = max(int(lengths.max()), self.minimum)
        if longest == 1:
            return {self.name: self.frames.tensor(self.frames.array[first][:, None]), **batch}
        stored = self.frames.array
        padded = np.zeros((len(asked), longest, *self.frames.shape), stored.dtype)
        for row, start, length in zip(padded, first.tolist(), lengths.tolist(), strict=True):
            row[:length] = stored[start : start + length]
        mask = torch.from_numpy(np.arange(longest) < lengths[:, None]).long()
        return {self.name: self.frames.tensor(padded), "attention_mask": mask, **batch}


def whole(batch: dict[str, Any]) -> dict[str, Any]:
    """The collator of [`FrozenFeatures`], whose batches are made already."""
    return batch
