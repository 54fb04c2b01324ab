"""Features on disk: a folder for each frozen part, a limit for all of them together."""

import logging
import os
import shutil
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm

from hf_ser.features import SpeechDataset

logger = logging.getLogger(__name__)

#: A file is written once its features have so many bytes. A killed process loses no more than that.
FILE_BYTES = 64e6
#: Groups of segments. Processes that compute at the same time compute different groups.
GROUPS = 16
#: Bytes of the disk that stay free.
SPARE = 1e9
SUFFIX = ".safetensors"


class DiskLimitError(RuntimeError):
    """Features do not fit on the disk, or not below the limit."""


class Place(NamedTuple):
    """Where the features of a segment are: the file, the first frame in it, and the number of frames."""

    path: Path
    first: int
    frames: int


class Segment(NamedTuple):
    """A segment to compute: its dataset, its key in the dataset, and its length in samples."""

    dataset: SpeechDataset
    item: int
    samples: int


def open_features(path: Path) -> torch.Tensor:
    """The features of all segments in a file `(frames, ...)`, mapped into memory: pages are read when they are used."""
    with safe_open(path, "pt") as file:
        return file.get_tensor("features")


class FeatureStore:
    """
    Features of segments by their keys, in safetensors files. A file is complete when it appears and never changes, so that
    processes read while others write. A truncated or foreign file is deleted.

    Args:
        folder (`Path`): The folder, whose name is that of the frozen part.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places: dict[bytes, Place] = {}
        self._read: set[Path] = set()
        self.refresh()

    def refresh(self) -> None:
        """Reads the indexes of files that were added."""
        for path in sorted(set(self.folder.glob(f"*{SUFFIX}")) - self._read):
            try:
                with safe_open(path, "pt") as file:
                    if (file.metadata() or {}).get("part") != self.folder.name:
                        raise SafetensorError("it is of another model")
                    keys, lengths = file.get_tensor("keys"), file.get_tensor("lengths")
            except FileNotFoundError:
                continue  # deleted meanwhile
            except SafetensorError as error:
                logger.warning("%s is damaged, and its features are computed again: %s", path, error)
                path.unlink(missing_ok=True)
                continue
            self._read.add(path)
            first = lengths.cumsum(0) - lengths
            for key, *place in zip(keys.numpy(), first.tolist(), lengths.tolist(), strict=True):
                self.places[key.tobytes()] = Place(path, *place)

    def write(self, features: Mapping[bytes, torch.Tensor]) -> None:
        """
        Adds the features of segments, `(frames, ...)` each, as one file.

        Raises:
            DiskLimitError: if the file cannot be written.
        """
        path = self.folder / f"{uuid.uuid4().hex}{SUFFIX}"
        partial = path.with_suffix(".partial")
        tensors = {
            "features": torch.cat(list(features.values())),
            "lengths": torch.tensor([len(frames) for frames in features.values()]),
            "keys": torch.from_numpy(np.frombuffer(b"".join(features), np.uint8).reshape(len(features), -1).copy()),
        }
        try:
            save_file(tensors, partial, {"part": self.folder.name})
            partial.replace(path)
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            raise DiskLimitError(f"{self.folder} cannot be written: {error}") from error
        self.refresh()

    def fill(
        self,
        wanted: Mapping[bytes, Segment],
        compute: Callable[[Sequence[Segment]], list[torch.Tensor]],
        *,
        batch: int,
        limit: float,
        quiet: bool,
    ) -> int:
        """
        Computes the features that are missing, together with other processes that do the same.

        Args:
            wanted (`Mapping[bytes, Segment]`): All segments that are needed, by their keys.
            compute (`Callable`): Gives the features of segments, `(frames, ...)` each.
            batch (`int`): The number of segments that are computed at once.
            limit (`float`): Bytes that all stores may take together.
            quiet (`bool`): Whether to show no progress bar.

        Returns:
            The number of segments that this process has computed.

        Raises:
            DiskLimitError: if the features do not fit.
        """
        groups: dict[int, list[bytes]] = defaultdict(list)
        # Batches of like length have little padding.
        for key in sorted(wanted.keys() - self.places.keys(), key=lambda key: (-wanted[key].samples, key)):
            groups[key[0] % GROUPS].append(key)
        computed = 0
        with tqdm(total=sum(map(len, groups.values())), desc="outputs of frozen layers", disable=quiet) as bar:
            for timeout in (0, -1):  # first the groups that no other process computes; then the others, should it fail
                for group in list(groups):
                    lock = FileLock(self.folder / f"{group}.lock")
                    with suppress(Timeout), lock.acquire(timeout=timeout):
                        self.refresh()
                        keys = [key for key in groups[group] if key not in self.places]
                        bar.update(len(groups.pop(group)) - len(keys))
                        found: dict[bytes, torch.Tensor] = {}
                        for at in range(0, len(keys), batch):
                            some = keys[at : at + batch]
                            # Copies: a view would keep the padded batch.
                            features = [one.clone() for one in compute([wanted[key] for key in some])]
                            found |= dict(zip(some, features, strict=True))
                            if at + batch >= len(keys) or sum(one.nbytes for one in found.values()) > FILE_BYTES:
                                self._make_room(wanted, found, limit)
                                self.write(found)
                                computed += len(found)
                                found = {}
                            bar.update(len(some))
        return computed

    def _make_room(self, wanted: Mapping[bytes, Segment], found: Mapping[bytes, torch.Tensor], limit: float) -> None:
        """Makes room for all that is still missing, by the size of the features that were computed last."""
        missing = [segment for key, segment in wanted.items() if key not in self.places]
        if all(len(one) == 1 for one in found.values()):  # one vector for each segment, however long
            factor = len(missing) / len(found)
        else:
            factor = sum(one.samples for one in missing) / sum(wanted[key].samples for key in found)
        needed = factor * sum(one.nbytes for one in found.values())
        make_room(self.folder, needed, limit, {place.path for key, place in self.places.items() if key in wanted})


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Protects the files of a store, which is created if need be, from other processes that make room."""
    with _all_stores(folder.parent):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{uuid.uuid4().hex}.user")
        lock.acquire()  # the system releases it if the process is killed
    try:
        yield
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def users(folder: Path) -> int:
    """The number of runs that use a store."""
    count = 0
    for path in folder.glob("*.user"):
        try:
            with FileLock(path, timeout=0):
                pass
            path.unlink(missing_ok=True)  # left by a killed process
        except Timeout:
            count += 1
    return count


def make_room(folder: Path, needed: float, limit: float, kept: Collection[Path] = ()) -> None:
    """
    Deletes files that no run uses, the least recently used first, until `needed` more bytes fit. If they do not fit even then,
    nothing is deleted.

    Args:
        folder (`Path`): The store of this run; the others lie beside it.
        needed (`float`): Bytes.
        limit (`float`): Bytes that all stores may take together.
        kept (`Collection[Path]`): Files in `folder` that this run uses.

    Raises:
        DiskLimitError: if they do not fit.
    """
    with _all_stores(folder.parent):
        files = {path: path.stat() for path in folder.parent.glob(f"*/*{SUFFIX}")}
        taken, free = sum(file.st_size for file in files.values()), shutil.disk_usage(folder).free
        excess = max(taken + needed - limit, needed + SPARE - free)
        # Of its own store a run deletes files if no other run uses it.
        unused = {store for store in {path.parent for path in files} if users(store) == (store == folder)}
        going = []
        for path in sorted(files, key=lambda path: files[path].st_mtime):
            if excess > 0 and path.parent in unused and path not in kept:
                going.append(path)
                excess -= files[path].st_size
        if excess > 0:
            raise DiskLimitError(
                f"{needed / 1e9:.2f} GB more are needed; frozen_cache_gb={limit / 1e9:g} allows {limit / 1e9:g} GB, "
                f"{taken / 1e9:.2f} GB are taken in {folder.parent}, and {free / 1e9:.1f} GB of the disk are free"
            )
        for path in going:
            path.unlink()
    if going:
        logger.info(
            "deleted %.2f GB of features in %s that were not used for the longest time",
            sum(files[path].st_size for path in going) / 1e9,
            folder.parent,
        )


def mark_used(paths: Collection[Path]) -> None:
    """Makes files the last ones to be deleted."""
    for path in paths:
        os.utime(path)


def _all_stores(root: Path) -> FileLock:
    root.mkdir(parents=True, exist_ok=True)
    return FileLock(root / ".lock")
