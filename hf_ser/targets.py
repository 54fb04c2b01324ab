"""What a model predicts of a clip: one emotion, the distribution over emotions, arousal, valence and dominance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from hf_ser.annotations import lacking
from hf_ser.clips import emotion_column, emotions_of
from hf_ser.corpora import CorpusError
from hf_ser.corpora.columns import arrow_column
from hf_ser.emotions import DIMENSIONS, DISTRIBUTION, EMOTION, parse_targets

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Targets:
    """
    The outputs of a model: a logit for each emotion, then a value for each dimension.

    Args:
        emotions (`tuple[str, ...]`): The emotions in the order of the labels; none for a model of dimensions alone.
        weights (`dict[str, float]`): The weight of each target's loss, by its name; see [`~hf_ser.emotions.parse_targets`].
    """

    emotions: tuple[str, ...]
    weights: Mapping[str, float]

    @classmethod
    def of(cls, clips: Dataset, words: Sequence[str] = (EMOTION,)) -> "Targets":
        """
        The targets `words` of clips.

        Raises:
            CorpusError: if no clip has one of them, or all clips have the same emotion.
            ValueError: see [`~hf_ser.emotions.parse_targets`].
        """
        weights = parse_targets(words)
        targets = cls(emotions_of(clips) if {EMOTION, DISTRIBUTION} & weights.keys() else (), weights)
        if len(targets.emotions) == 1:
            raise CorpusError(f"emotions: found clips of {targets.emotions[0]} alone, expected two emotions at least")
        for name in weights:
            known = name in clips.column_names and arrow_column(clips, name).null_count < len(clips)
            if name != EMOTION and not known:
                raise lacking(name)
        return targets

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The dimensions, in the order of the outputs."""
        return tuple(name for name in DIMENSIONS if name in self.weights)

    def rows(self, clips: Dataset) -> Rows:
        """
        The outputs that a model should have for each clip, `(clips, outputs)`; NaN where a clip has no such label.

        For the emotions it is 1 for the true one, or the distribution, each times the weight of that target. If a clip has both
        and both are targets, it is their sum.
        """
        emotions = len(self.emotions)
        found = np.full((len(clips), emotions + len(self.dimensions)), np.nan, dtype=np.float32)
        if EMOTION in self.weights:
            labels = emotion_column(clips).codes
            found[labels >= 0, :emotions] = self.weights[EMOTION] * np.eye(emotions)[labels[labels >= 0]]
        if DISTRIBUTION in self.weights:
            shares = self.weights[DISTRIBUTION] * distribution_rows(clips, emotions)
            both = np.nan_to_num(found[:, :emotions]) + np.nan_to_num(shares)
            neither = np.isnan(found[:, :emotions]) & np.isnan(shares)
            found[:, :emotions] = np.where(neither, np.nan, both)
        found[:, emotions:] = dimension_rows(clips, self.dimensions)
        return found


def distribution_rows(clips: Dataset, emotions: int) -> Rows:
    """The distribution over the emotions `(clips, emotions)`; NaN where a clip has none."""
    return _column(clips, DISTRIBUTION, emotions)


def dimension_rows(clips: Dataset, dimensions: Sequence[str]) -> Rows:
    """The dimensions `(clips, dimensions)`, from 0 to 1; NaN where a clip has none."""
    columns = [_column(clips, name, 1) for name in dimensions]
    return np.concatenate([np.empty((len(clips), 0), np.float32), *columns], axis=1)


def _column(clips: Dataset, name: str, width: int) -> Rows:
    """A column of numbers or lists of them `(clips, width)`, NaN where it or a value is missing."""
    found = np.full((len(clips), width), np.nan, dtype=np.float32)
    if name in clips.column_names:
        column = arrow_column(clips, name)
        values = column.drop_null() if width == 1 else column.flatten()  # both leave out missing values
        found[column.is_valid().to_numpy(zero_copy_only=False)] = np.asarray(values).reshape(-1, width)
    return found
