"""Features on disk: a folder for each frozen part, a limit for all of them together."""

import logging
import os
import shutil
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm

from hf_ser.cache import writing
from hf_ser.claims import abandoned, claim
from hf_ser.features import SpeechDataset

logger = logging.getLogger(__name__)

#: A file is written once its features have so many bytes. A killed process loses no more than that.
FILE_BYTES = 64e6
#: The most bytes that the header of a file has for each segment.
HEADER_BYTES = 150
#: Bytes of the disk that stay free.
SPARE = 1e9


class DiskLimitError(RuntimeError):
    """Features do not fit on the disk, or not below the limit."""


class Segment(NamedTuple):
    """A segment to compute: its dataset, its key in the dataset, and its length in samples."""

    dataset: SpeechDataset
    item: int
    samples: int


class FeatureStore:
    """
    Features of segments by their keys, in safetensors files. A file is complete when it appears and never changes, so that
    processes read while others write. A truncated or foreign file is deleted.

    Args:
        folder (`Path`): The folder, whose name is that of the frozen part.
        limit (`float`): The most bytes of all stores together.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder = folder
        self.limit = limit
        #: The file of each segment.
        self.paths: dict[str, Path] = {}
        self._read: set[Path] = set()
        self.refresh()

    def refresh(self) -> None:
        """Finds the files that other processes have added."""
        for path in set(self.folder.glob("*.safetensors")) - self._read:
            try:
                with safe_open(path, "pt") as file:
                    if (file.metadata() or {}).get("part") != self.folder.name:
                        raise SafetensorError("it is of another model")
                    self.paths |= dict.fromkeys(file.keys(), path)
                self._read.add(path)
            except FileNotFoundError:
                pass  # deleted meanwhile
            except SafetensorError as error:
                logger.warning("%s is damaged, and its features are computed again: %s", path, error)
                path.unlink(missing_ok=True)

    def load(self, keys: Iterable[str]) -> dict[str, torch.Tensor]:
        """The features of segments `(frames, ...)`, mapped into memory: the disk is read when they are used."""
        by_path: dict[Path, list[str]] = defaultdict(list)
        for key in keys:
            by_path[self.paths[key]].append(key)
        features: dict[str, torch.Tensor] = {}
        for path, mine in by_path.items():
            os.utime(path)  # deleted last
            with safe_open(path, "pt") as file:
                features.update((key, file.get_tensor(key)) for key in mine)
        return features

    def write(self, features: dict[str, torch.Tensor]) -> None:
        """
        Adds the features of segments, `(frames, ...)` each, as one file.

        Raises:
            DiskLimitError: if the file cannot be written.
        """
        path = self.folder / f"{uuid.uuid4().hex}.safetensors"
        partial = path.with_suffix(".partial")
        try:
            save_file(features, partial, {"part": self.folder.name})
            partial.replace(path)
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            raise DiskLimitError(f"{self.folder} cannot be written: {error}") from error
        self.refresh()

    def fill(
        self,
        wanted: Mapping[str, Segment],
        compute: Callable[[Sequence[Sequence[str]]], Iterable[list[torch.Tensor]]],
        *,
        batch: int,
        quiet: bool,
    ) -> int:
        """
        Computes the features of `wanted` that are missing, together with other processes that do the same.

        Args:
            wanted (`Mapping[str, Segment]`): The segments, by their keys.
            compute (`Callable`): From batches of keys to the features of each batch, one after the other.
            batch (`int`): The segments in a batch.
            quiet (`bool`): Whether to hide the progress bar.

        Returns:
            The number of segments that this process has computed.

        Raises:
            DiskLimitError: if the features do not fit.
        """
        groups: dict[str, list[str]] = defaultdict(list)
        for key in sorted(wanted.keys() - self.paths.keys(), key=lambda key: (-wanted[key].samples, key)):
            groups[key[0]].append(key)  # by length: such batches have little padding
        computed, estimated = 0, 0.0
        with tqdm(total=sum(map(len, groups.values())), desc="outputs of frozen layers", disable=quiet) as bar:
            for timeout in (0, -1):  # first what no other process computes, then what another may have left
                for group in list(groups):
                    with suppress(Timeout), FileLock(self.folder / f"{group}.lock").acquire(timeout=timeout):
                        self.refresh()
                        keys = [key for key in groups[group] if key not in self.paths]
                        bar.update(len(groups.pop(group)) - len(keys))
                        found: dict[str, torch.Tensor] = {}
                        size = 0
                        batches = [keys[at : at + batch] for at in range(0, len(keys), batch)]
                        for some, features in zip(batches, compute(batches), strict=True):
                            # Copies: a view would keep the padded batch.
                            features = [one.clone(memory_format=torch.contiguous_format) for one in features]
                            found.update(zip(some, features, strict=True))
                            size += sum(one.nbytes for one in features)
                            if not estimated:  # before hours of work whose outputs would not fit
                                estimated = self._make_room(wanted, found)
                                logger.info(
                                    "outputs of frozen layers: %.2g GB for %d segments", estimated / 1e9, bar.total
                                )
                            if some is batches[-1] or size > FILE_BYTES:
                                self._make_room(wanted, found)
                                self.write(found)
                                computed += len(found)
                                found, size = {}, 0
                            bar.update(len(some))
        return computed

    def _make_room(self, wanted: Mapping[str, Segment], found: Mapping[str, torch.Tensor]) -> float:
        """Deletes old features until all that is still missing fits: its bytes, estimated from features that were `found`."""
        missing = [segment for key, segment in wanted.items() if key not in self.paths]
        if all(len(one) == 1 for one in found.values()):  # one vector for each segment, however long
            factor = len(missing) / len(found)
        else:
            factor = sum(one.samples for one in missing) / sum(wanted[key].samples for key in found)
        needed = factor * sum(one.nbytes + HEADER_BYTES for one in found.values())
        make_room(self.folder, needed, self.limit, {path for key, path in self.paths.items() if key in wanted})
        return needed


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Protects the files of a store, which is created if need be, from other runs that delete old features."""
    with ExitStack() as stack:
        with writing(folder.parent), _all_stores(folder.parent):
            folder.mkdir(parents=True, exist_ok=True)
            if not users(folder):
                for partial in folder.glob("*.partial"):  # left by a killed process
                    partial.unlink()
            stack.enter_context(claim(folder / f"{uuid.uuid4().hex}.user"))
        yield


def users(folder: Path) -> int:
    """The number of runs that use a store."""
    return len(set(folder.glob("*.user")) - set(abandoned(folder.glob("*.user"))))


def make_room(folder: Path, needed: float, limit: float, kept: Collection[Path] = ()) -> None:
    """
    Deletes files that no run uses, the least recently used first, until `needed` more bytes fit into `folder`, and all stores
    beside it take no more than `limit` bytes with it. The files `kept` stay. If this is not enough, nothing is deleted.

    Raises:
        DiskLimitError: if they do not fit.
    """
    with _all_stores(folder.parent):
        files = {path: path.stat() for path in folder.parent.glob("*/*.safetensors")}
        taken, free = sum(file.st_size for file in files.values()), shutil.disk_usage(folder).free
        excess = max(taken + needed - limit, needed + SPARE - free)
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
            logger.info("deleted %s (%.2f GB), the least recently used features", path, files[path].st_size / 1e9)
            path.unlink()


def _all_stores(root: Path) -> FileLock:
    root.mkdir(parents=True, exist_ok=True)
    return FileLock(root / ".lock")
