"""Features on disk: a folder for each frozen part, a limit for all of them together."""

import logging
import os
import shutil
import time
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
from hf_ser.training.dataset import SpeechDataset

logger = logging.getLogger(__name__)

#: A file is written once its features have so many bytes. A killed process loses no more than that.
FILE_BYTES = 64e6
#: The most bytes that the header of a file has for each segment.
HEADER_BYTES = 150
#: Bytes of the disk that stay free.
SPARE = 1e9
#: The number of times that the disk is checked while features are computed: each check looks at all files and segments.
LOOKS = 64


class DiskLimitError(RuntimeError):
    """Features do not fit on the disk, or not below the limit."""


class Segment(NamedTuple):
    """A segment to compute: its dataset, its key in the dataset, and the samples that the model takes."""

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
        wanted (`Mapping[str, Segment]`): The segments whose features are wanted, by their keys.
    """

    def __init__(self, folder: Path, limit: float, wanted: Mapping[str, Segment]) -> None:
        self.folder = folder
        self.limit = limit
        self.wanted = wanted
        #: Those without features.
        self.missing = dict(wanted)
        #: The file of each of the others.
        self.paths: dict[str, Path] = {}
        self._known: set[Path] = set()
        #: The known files that have none of the features.
        self._unneeded: set[Path] = set()
        self._refresh()

    def _refresh(self) -> None:
        """Finds the files that other processes have added."""
        for path in set(self.folder.glob("*.safetensors")) - self._known:
            try:
                with safe_open(path, "pt") as file:
                    if (file.metadata() or {}).get("part") != self.folder.name:
                        raise SafetensorError("it is of another model")
                    self._add(path, file.keys())
            except FileNotFoundError:
                pass  # deleted meanwhile
            except SafetensorError as error:
                logger.warning("%s is damaged, and its features are computed again: %s", path, error)
                path.unlink(missing_ok=True)

    def _add(self, path: Path, keys: Iterable[str]) -> None:
        self._known.add(path)
        found = self.wanted.keys() & keys
        if not found:
            self._unneeded.add(path)
        for key in found:
            self.paths[key] = path
            self.missing.pop(key, None)

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
        self._add(path, features)

    def fill(
        self,
        compute: Callable[[Sequence[str]], Iterable[tuple[str, torch.Tensor]]],
        *,
        quiet: bool,
    ) -> int:
        """
        Computes the features that are missing, together with other processes that do the same.

        Args:
            compute (`Callable`): From keys, those of the longest segments first, to each key with its features.
            quiet (`bool`): Whether to hide the progress bar. There is none if nothing is missing.

        Returns:
            The number of segments that this process has computed.

        Raises:
            DiskLimitError: if the features do not fit.
        """
        groups: dict[str, list[str]] = defaultdict(list)
        for key in sorted(self.missing, key=lambda key: (-self.missing[key].samples, key)):
            groups[key[0]].append(key)
        computed, estimated, unchecked = 0, 0.0, 0
        with tqdm(total=len(self.missing), desc="outputs of frozen layers", disable=quiet or not groups) as bar:
            for timeout in (0, -1):  # first what no other process computes, then what one may have left undone
                for group in list(groups):
                    with suppress(Timeout), FileLock(self.folder / f"{group}.lock").acquire(timeout=timeout):
                        self._refresh()
                        keys = [key for key in groups[group] if key in self.missing]
                        bar.update(len(groups.pop(group)) - len(keys))
                        found: dict[str, torch.Tensor] = {}
                        size = 0
                        for key, features in compute(keys):
                            # A copy: a view would keep the padded batch.
                            found[key] = features.clone(memory_format=torch.contiguous_format)
                            size += features.nbytes
                            if not estimated:  # before hours of work whose outputs would not fit
                                estimated = self._make_room(found)
                                logger.info(
                                    "outputs of frozen layers: %.2g GB for %d segments", estimated / 1e9, bar.total
                                )
                            if key == keys[-1] or size > FILE_BYTES:
                                unchecked += size
                                if unchecked > estimated / LOOKS:
                                    self._make_room(found)
                                    unchecked = 0
                                self.write(found)
                                computed += len(found)
                                found, size = {}, 0
                            bar.update()
        return computed

    def _make_room(self, found: Mapping[str, torch.Tensor]) -> float:
        """Deletes old features until all that is still missing fits: its bytes, estimated from features that were `found`."""
        self._refresh()
        if all(len(one) == 1 for one in found.values()):  # one vector for each segment, however long
            factor = len(self.missing) / len(found)
        else:
            samples = sum(segment.samples for segment in self.missing.values())
            factor = samples / sum(self.wanted[key].samples for key in found)
        needed = factor * sum(one.nbytes + HEADER_BYTES for one in found.values())
        make_room(self.folder, needed, self.limit, self._unneeded, self._known)
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


def make_room(
    folder: Path, needed: float, limit: float, unneeded: Collection[Path] = (), known: Collection[Path] | None = None
) -> None:
    """
    Deletes files that no run uses, the least recently used first, until `needed` more bytes fit into `folder`, and all stores
    beside it take no more than `limit` bytes with it. Of the files in `folder` only those that are `unneeded` go, and only those
    that are `known` count: `needed` still has what other processes have written since. If this is not enough, nothing is deleted.

    Raises:
        DiskLimitError: if they do not fit.
    """
    with _all_stores(folder.parent):
        files, now = {}, time.time()
        for path in folder.parent.glob("*/*.safetensors"):
            if path.parent == folder and known is not None and path not in known:
                continue
            if (file := path.stat()).st_mtime > now:  # the clock was set back: from now on it counts as used now
                os.utime(path)
            files[path] = min(file.st_mtime, now), file.st_size
        taken, free = sum(size for _, size in files.values()), shutil.disk_usage(folder).free
        excess = max(taken + needed - limit, needed + SPARE - free)
        unused = {store for store in {path.parent for path in files} if users(store) == (store == folder)}
        going = []
        for path in sorted(files, key=files.__getitem__):
            if excess > 0 and path.parent in unused and (path.parent != folder or path in unneeded):
                going.append(path)
                excess -= files[path][1]
        if excess > 0:
            raise DiskLimitError(
                f"{needed / 1e9:.2f} GB more are needed; frozen_cache_gb={limit / 1e9:g} allows {limit / 1e9:g} GB, "
                f"{taken / 1e9:.2f} GB are taken in {folder.parent}, and {free / 1e9:.1f} GB of the disk are free"
            )
        for path in going:
            logger.info("deleted %s (%.2f GB), the least recently used features", path, files[path][1] / 1e9)
            path.unlink()


def _all_stores(root: Path) -> FileLock:
    root.mkdir(parents=True, exist_ok=True)
    return FileLock(root / ".lock")
