"""A split in a file: `splits.json`, which a run writes, and the next run, a report or a user of the Hub reads."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict

from hf_ser import records
from hf_ser.clips import as_clips, emotion_column, names_of
from hf_ser.splits.audit import shared_speakers
from hf_ser.splits.making import PARTS, Indices, SplitError, parts_of

logger = logging.getLogger(__name__)

#: The key in `splits.json` with the kind of names of its clips, if these are not the clips' own.
NAMED_BY = "clips_named_by"
#: This item in a file whose names are hashed by [`hash_name`].
BY_HASH = {NAMED_BY: "the first 16 digits of the SHA-256 of the name"}


def save_splits(parts: Mapping[str, Dataset], path: Path) -> None:
    """Writes `splits.json`: the names of each part's clips, what the split was made with, and the speakers that parts share."""
    records.write(path, _content(parts))


def _content(parts: Mapping[str, Dataset]) -> dict[str, Any]:
    made = dict(next(iter(parts.values())).info.split)
    return {
        "name": made.pop("name", "given"),
        "settings": made,
        "shared_speakers": shared_speakers(parts) if "test" in parts else [],
        "emotions": {part: emotion_column(clips).counts() for part, clips in parts.items()},
        "parts": {**{part: [] for part in PARTS}, **{part: names_of(clips) for part, clips in parts.items()}},
    }


def hashed(saved: Mapping[str, Any]) -> dict[str, Any]:
    """
    The content of a `splits.json` with a hash in place of each name of a clip and speaker. Users who have the corpora can still
    read and compare it. The names are not secret: a guessed name can be checked.
    """
    if NAMED_BY in saved:
        return dict(saved)
    parts = {part: sorted(map(hash_name, names)) for part, names in saved["parts"].items()}
    shared = sorted(map(hash_name, saved.get("shared_speakers", [])))
    return {**saved, **BY_HASH, "shared_speakers": shared, "parts": parts}


def hash_name(name: str) -> str:
    """The hash in place of a clip's name in a published `splits.json`."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class SavedSplit:
    """A split that [`save_splits`] wrote. Its content has the clips of each part by their names or hashes."""

    content: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "SavedSplit":
        """
        Raises:
            SplitError: if the file is missing or has other content, or names a clip twice.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            lists = [*content["parts"].values(), content.get("shared_speakers", [])]
            everywhere = Counter(name for names in content["parts"].values() for name in names)
            if not (
                all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists)
                and isinstance(content.get("settings", {}), dict)
                and set(PARTS) <= set(content["parts"])
            ):
                raise TypeError
        except OSError as error:
            raise SplitError(f"{str(path)!r} cannot be read: {error.strerror}") from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise SplitError(
                f"{str(path)!r} is no splits.json; it needs parts with train, validation and test, each a list of clip names"
            ) from error
        if twice := [name for name, count in everywhere.items() if count > 1]:
            raise SplitError(f"{str(path)!r} names {len(twice)} clips twice, for instance {twice[0]!r}")
        return cls(content)

    @property
    def parts(self) -> dict[str, list[str]]:
        """For each part the names of its clips, or their hashes."""
        return self.content["parts"]

    @property
    def settings(self) -> dict[str, Any]:
        """The kind of the split (`made_as`) and its settings."""
        return {"made_as": self.content.get("name"), **self.content.get("settings", {})}

    def named(self, names: Iterable[str]) -> list[str]:
        """The names of clips as this file has them: hashed, or not."""
        return [hash_name(name) for name in names] if NAMED_BY in self.content else list(names)

    def find(self, clips: Dataset) -> tuple[dict[str, Indices], int]:
        """
        Finds the clips of each part; a part may have none.

        Returns:
            For each part the indices of its clips, sorted; and the number of clips of the file that are missing.
        """
        index = {name: i for i, name in enumerate(self.named(names_of(clips)))}
        found = {part: sorted(index[name] for name in names if name in index) for part, names in self.parts.items()}
        missed = sum(map(len, self.parts.values())) - sum(map(len, found.values()))
        return {part: np.array(rows, dtype=np.int64) for part, rows in found.items()}, missed

    def count(self, names: Iterable[str], of: Iterable[str] | None = None) -> int:
        """The number of the clips `names` that are in some parts, by default in any."""
        there = {name for part in of or self.parts for name in self.parts[part]}
        return sum(name in there for name in self.named(names))


def read_splits(clips: Dataset, path: Path) -> DatasetDict:
    """
    Reads a split that [`save_splits`] wrote. Clips that are not in it are left out. The log has their number, and the number of
    its clips that are missing.

    Raises:
        SplitError: if the file is missing or has other content, names a clip twice, or all clips of a part are missing.
    """
    clips = as_clips(clips)
    saved = SavedSplit.read(path)
    rows, missed = saved.find(clips)
    if empty := [part for part in PARTS if not len(rows[part])]:
        names = [name for part in PARTS for name in saved.parts[part]]
        raise SplitError(
            f"none of the clips of {' and '.join(empty)} in {str(path)!r} is in the corpora. It names clips such as "
            f"{next(iter(names), 'none')!r}; the corpora have clips such as {saved.named(names_of(clips)[:1])[0]!r}."
        )
    left = len(clips) - sum(map(len, rows.values()))
    if missed or left:
        logger.warning("%s: %d of its clips are missing, %d clips of the corpora are not in it", path, missed, left)
    return parts_of(clips, "file", saved.settings, {part: found for part, found in rows.items() if len(found)})


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """
    The difference between the contents of two `splits.json` in words: clips of train or validation, or their emotions. Empty if
    there is none.
    """
    first, second = hashed(one), hashed(other)
    parts = ("train", "validation")
    moved = {part: set(first["parts"][part]) ^ set(second["parts"][part]) for part in parts}
    if found := ", ".join(f"{len(names)} in {part}" for part, names in moved.items() if names):
        return found
    emotions = [[content.get("emotions", {}).get(part) for part in parts] for content in (first, second)]
    return "" if emotions[0] == emotions[1] else "their emotions"


def require_same_splits(path: Path, parts: Mapping[str, Dataset]) -> None:
    """
    Makes sure that a resumed run has the split that it began with. Otherwise a model could be tested on a clip that it was
    trained on.

    Raises:
        SplitError: if `path` has other clips in a part, or other emotions of them, or cannot be read.
    """
    if found := differences(SavedSplit.read(path).content, _content(parts)):
        raise SplitError(
            f"resume_from_checkpoint: the clips are not those that the run began with ({found} differ from {path}). "
            f"Resume with the same corpora, emotions and split, or with the split in {path}."
        )
