"""Clips as a split sees them, and their three parts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_ser.corpora.columns import Texts, Words

PARTS = ("train", "validation", "test")

Indices = npt.NDArray[np.int64]


class SplitError(ValueError):
    """A split that the clips do not allow: the message says what is there, what is needed and what to do."""


@dataclass(frozen=True)
class Clips:
    """
    What a split needs to know of clips, each of length `(clips,)`.

    Args:
        names (`Sequence[str]`): Their names, the same on every machine.
        labels (`Sequence[str]`): Their emotions.
        speakers (`Sequence[str | None]`): Their speakers, `None` where unknown.
        genders (`Sequence[str | None]`): Their speakers' genders, `None` where unknown.
        corpora (`Sequence[str]`): The corpora that they come from.
        sessions (`Sequence[str | None]`): Their sessions, `None` where there are none.
        official (`Sequence[str | None]`): The part that the corpus puts them in, `None` where it does not say.
    """

    names: Sequence[str]
    labels: Sequence[str]
    speakers: Sequence[str | None]
    genders: Sequence[str | None]
    corpora: Sequence[str]
    sessions: Sequence[str | None]
    official: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.names)

    def of(self, indices: Indices) -> "Clips":
        """The clips at `indices`."""
        return Clips(*(_taken(column, indices) for column in vars(self).values()))


def _taken(column: Sequence[Any], indices: Indices) -> Sequence[Any]:
    return column.take(indices) if isinstance(column, Words | Texts) else [column[i] for i in indices]


@dataclass(frozen=True)
class Split:
    """
    A split of clips into three parts.

    Args:
        name (`str`): `random`, `speaker`, `kfold`, `official` or `file`.
        settings (`dict`): What it was made with: seed, shares, fold.
        parts (`dict[str, np.ndarray]`): For `train`, `validation` and `test`, the indices of the clips, sorted.
    """

    name: str
    settings: dict[str, Any]
    parts: dict[str, Indices]

    def speakers(self, clips: Clips) -> dict[str, set[str]]:
        """The known speakers of each part."""
        known = Words.of(clips.speakers)
        return {part: {name for name in known.take(rows).counts() if name} for part, rows in self.parts.items()}

    def shared_speakers(self, clips: Clips, part: str = "test") -> list[str]:
        """The speakers that are both in train and in `part`, computed from the clips, whatever the split is called."""
        speakers = self.speakers(clips)
        return sorted(speakers["train"] & speakers[part])

    def describe(self, clips: Clips) -> dict[str, Any]:
        """The split in figures: for each part its clips, speakers and emotions, and what train and test share."""
        speakers = self.speakers(clips)
        named, labels = Words.of(clips.speakers), Words.of(clips.labels)
        return {
            "name": self.name,
            **self.settings,
            "parts": {
                part: {
                    "clips": len(rows),
                    "speakers": len(speakers[part]),
                    "clips_without_speaker": named.take(rows).unknown,
                    "emotions": labels.take(rows).counts(),
                }
                for part, rows in self.parts.items()
            },
            "speakers_shared_by_train_and_test": len(speakers["train"] & speakers["test"]),
            "speakers_shared_by_train_and_validation": len(speakers["train"] & speakers["validation"]),
        }

    def save(self, path: Path, clips: Clips) -> None:
        """Writes `splits.json`: the names of each part's clips, what the split was made with, and its shared speakers."""
        content = {
            "name": self.name,
            "settings": self.settings,
            "shared_speakers": self.shared_speakers(clips),
            "emotions": {part: entry["emotions"] for part, entry in self.describe(clips)["parts"].items()},
            "parts": {part: list(_taken(clips.names, rows)) for part, rows in self.parts.items()},
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
