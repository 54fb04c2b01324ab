"""Features of segments on disk: a file that only grows, from which processes read while others add to it."""

import json
import logging
import os
import zlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock

logger = logging.getLogger(__name__)

#: Each type of features, and the type that NumPy keeps it as: it has no bfloat16.
TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": np.int16}
#: A line of the index. A segment without frames is one that was found to be damaged.
RECORD = np.dtype([("key", "V16"), ("first", "<i8"), ("frames", "<i4"), ("checksum", "<u4")])


class Entry(NamedTuple):
    """Where the features of a segment lie: the first of its frames, how many they are, and the checksum of their bytes."""

    first: int
    frames: int
    checksum: int


class StoredFrames:
    """
    The frames in a file, mapped into memory: what is read is in the system's cache of files, and not the process' own.

    Args:
        path (`Path`): The file.
        dtype (`str`): One of [`TYPES`].
        shape (`Sequence[int]`): Of a frame: `(width,)` or `(layers, width)`.
    """

    def __init__(self, path: Path, dtype: str, shape: Sequence[int]) -> None:
        self.path = path
        self.dtype = dtype
        self.shape = tuple(shape)

    @property
    def frame_bytes(self) -> int:
        """The size of a frame."""
        return int(np.prod(self.shape)) * np.dtype(TYPES[self.dtype]).itemsize

    @cached_property
    def array(self) -> npt.NDArray[Any]:
        """`(frames, width)` or `(frames, layers, width)`."""
        count = self.path.stat().st_size // self.frame_bytes
        # Not a memmap: its indexing is slower than an array's.
        return np.asarray(np.memmap(self.path, TYPES[self.dtype], "r", shape=(count, *self.shape)))

    def tensor(self, frames: npt.NDArray[Any]) -> torch.Tensor:
        """Frames that were copied out of the file, in their own type."""
        return torch.from_numpy(frames).view(getattr(torch, self.dtype))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "array"}  # a worker maps the file itself


class FeatureStore:
    """
    Features by the keys of their segments, see `hf_ser.training.frozen.keys`.

    `features.bin` has the frames of all segments in a row, `index.bin` a line for each segment, and `about.json` what they are.
    Frames are written before their line: of a process that is killed a whole line is left, or none. Lines are looked at again
    as other processes write them; frames are checked before they are used.

    Args:
        folder (`Path`): The store's own folder, see `hf_ser.training.frozen.room.in_use`.
        about (`dict`): What it holds, for whoever looks into the folder.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder = folder
        self.about = about
        self.entries: dict[bytes, Entry] = {}
        self._features, self._index, self._about = (folder / n for n in ("features.bin", "index.bin", "about.json"))
        self._read = 0  # bytes of the index
        self.refresh()

    @property
    def frames(self) -> StoredFrames | None:
        """The frames; `None` as long as there are none."""
        try:
            told = json.loads(self._about.read_text(encoding="utf-8"))
            return StoredFrames(self._features, told["dtype"], told["shape"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            logger.warning("%s is damaged: its features are computed anew", self._about)
            self.clear()
            return None

    def clear(self) -> None:
        """Forgets everything."""
        for path in (self._about, self._index, self._features):
            path.unlink(missing_ok=True)
        self.entries, self._read = {}, 0

    def refresh(self) -> None:
        """Looks what has been added since."""
        frames = self.frames
        if frames is None or not self._index.exists():
            return
        if not self._features.exists():
            logger.warning("%s is gone: its features are computed anew", self._features)
            self.clear()
            return
        with self._index.open("rb") as file:
            file.seek(self._read)
            found = file.read()
        records = np.frombuffer(found, RECORD, count=len(found) // RECORD.itemsize)  # the last may be half a line yet
        self._read += records.nbytes
        end = self._features.stat().st_size // frames.frame_bytes
        lost = set()
        for key, first, count, checksum in records.tolist():
            self.entries.pop(key, None)
            lost.discard(key)
            if count > 0 and 0 <= first <= end - count:
                self.entries[key] = Entry(first, count, checksum)
            elif count:
                lost.add(key)
        if lost:
            logger.warning("%s: %d segments are missing, and computed anew", self._features, len(lost))

    def check(self, keys: Iterable[bytes]) -> int:
        """
        Reads the features of those of `keys` that are here, and forgets what is damaged.

        Returns:
            How many were.
        """
        frames = self.frames
        wanted = sorted((self.entries[key], key) for key in set(keys) if key in self.entries)
        if frames is None or not wanted:
            return 0
        bad = []
        with self._features.open("rb") as file:
            for entry, key in wanted:
                file.seek(entry.first * frames.frame_bytes)
                if zlib.crc32(file.read(entry.frames * frames.frame_bytes)) != entry.checksum:
                    bad.append(key)
        if bad:
            logger.warning("%s: %d segments are damaged, and computed anew", self._features, len(bad))
            with self.lock:
                self._add_lines([(key, 0, 0, 0) for key in bad])
            self.refresh()
        return len(bad)

    @property
    def lock(self) -> FileLock:
        """Held by who adds to the store."""
        return FileLock(self.folder / "append.lock")

    def claim(self, share: str) -> FileLock:
        """A lock for a share of the work, so that processes that compute at the same time compute different things."""
        (self.folder / "claims").mkdir(exist_ok=True)
        return FileLock(self.folder / "claims" / f"{share}.lock")

    def append(self, features: Sequence[tuple[bytes, torch.Tensor]]) -> None:
        """
        Adds the features of segments.

        Args:
            features (`Sequence[tuple[bytes, torch.Tensor]]`): Keys, and frames `(frames, width)` or `(frames, layers, width)`.
        """
        with self.lock:
            self.refresh()
            frames = self.frames or self._begin(features[0][1])
            end = max((entry.first + entry.frames for entry in self.entries.values()), default=0)
            lines = []
            with self._features.open("r+b" if self._features.exists() else "w+b") as file:
                file.seek(end * frames.frame_bytes)  # over what a killed process has left there
                for key, tensor in features:
                    content = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
                    file.write(content)
                    lines.append((key, end, len(tensor), zlib.crc32(content)))
                    end += len(tensor)
            self._add_lines(lines)
        self.refresh()

    def _begin(self, example: torch.Tensor) -> StoredFrames:
        dtype, shape = str(example.dtype).removeprefix("torch."), list(example.shape[1:])
        told = {"dtype": dtype, "shape": shape, "of": self.about}
        partial = self._about.with_suffix(".partial")
        partial.write_text(json.dumps(told, indent=1, default=str) + "\n", encoding="utf-8")
        partial.replace(self._about)
        return StoredFrames(self._features, dtype, shape)

    def _add_lines(self, lines: Sequence[tuple[bytes, int, int, int]]) -> None:
        with self._index.open("ab") as file:
            os.truncate(file.fileno(), file.tell() // RECORD.itemsize * RECORD.itemsize)  # a killed process' half line
            file.write(np.array([(np.void(key), *rest) for key, *rest in lines], RECORD).tobytes())
