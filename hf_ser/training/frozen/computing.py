"""What a store lacks is computed, by several processes together if need be."""

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from filelock import Timeout
from tqdm.auto import tqdm

from hf_ser.audio import SAMPLING_RATE
from hf_ser.features import SpeechDataset
from hf_ser.training.frozen.room import NoRoomError, make_room
from hf_ser.training.frozen.store import RECORD, FeatureStore

logger = logging.getLogger(__name__)

#: What is computed is written when it takes so many bytes or seconds: so much is lost if the process is killed.
BUFFER_BYTES = 16e6
BUFFER_SECONDS = 5.0


@dataclass(frozen=True)
class Wanted:
    """
    Segments whose features are wanted.

    Args:
        dataset (`SpeechDataset`): Where they are.
        views (`list[list[bytes]]`): For each view of the dataset the keys of its segments in the store.
    """

    dataset: SpeechDataset
    views: list[list[bytes]]


@dataclass(frozen=True)
class Segment:
    """A segment to compute: its key in the store, and its dataset, key and samples there."""

    key: bytes
    dataset: SpeechDataset
    item: int
    samples: int


#: Computes the features of segments.
Compute = Callable[[Sequence[Segment]], list[torch.Tensor]]


def missing(store: FeatureStore | None, wanted: Sequence[Wanted]) -> list[Segment]:
    """The segments that the store does not have, each once; without a store all."""
    known = store.entries if store else {}
    found: dict[bytes, Segment] = {}
    for part in wanted:
        samples = part.dataset.segments.samples.tolist()
        for view, keys in enumerate(part.views):
            for i, key in enumerate(keys):
                if key not in known:
                    found[key] = Segment(key, part.dataset, view * len(keys) + i, samples[i])
    return list(found.values())


def shares(segments: Sequence[Segment]) -> dict[str, list[Segment]]:
    """
    The same shares of the work in every process: segments of like length, for which a batch has little padding, and of these
    eight shares, longest first.
    """
    found = defaultdict(list)
    for segment in sorted(segments, key=lambda segment: -segment.samples):
        found[f"{2 * segment.samples // SAMPLING_RATE}-{segment.key[0] % 8}"].append(segment)
    return found


def compute_missing(
    store: FeatureStore, segments: Sequence[Segment], compute: Compute, *, batch: int, limit: float, quiet: bool
) -> int:
    """
    Computes the features of `segments`, but for those that another process computes meanwhile, and adds them to the store.

    Args:
        store (`FeatureStore`): Where they are to be.
        segments (`Sequence[Segment]`): See [`missing`].
        compute (`Compute`): Computes them.
        batch (`int`): Segments that are computed at once.
        limit (`float`): Bytes that all stores may take together.
        quiet (`bool`): Whether to show no progress bar.

    Returns:
        How many this process has computed.

    Raises:
        NoRoomError: if they do not fit.
    """
    writer = _Writer(store, limit)
    waiting = deque(shares(segments).items())
    busy = 0
    with tqdm(total=len(segments), desc="features of the frozen part", disable=quiet) as bar:
        while waiting:
            name, share = waiting.popleft()
            claim = store.claim(name)
            try:
                # Where others are at all that is left, they are waited for.
                held = claim.acquire(timeout=-1 if busy > len(waiting) else 0)
            except Timeout:
                waiting.append((name, share))
                busy += 1
                continue
            busy = 0
            with held:
                store.refresh()
                left = [segment for segment in share if segment.key not in store.entries]
                bar.update(len(share) - len(left))
                for at in range(0, len(left), batch):
                    group = left[at : at + batch]
                    writer.add(group, compute(group))
                    bar.update(len(group))
                writer.flush()
    return writer.written


class _Writer:
    """Gathers features, and adds them to a store some at a time."""

    def __init__(self, store: FeatureStore, limit: float) -> None:
        self.store = store
        self.limit = limit
        self.written = 0
        self._features: list[tuple[bytes, torch.Tensor]] = []
        self._last = time.monotonic()

    @property
    def _bytes(self) -> int:
        return sum(tensor.nbytes for _, tensor in self._features)

    def add(self, segments: Sequence[Segment], found: Sequence[torch.Tensor]) -> None:
        # Copies: a view would keep the whole batch.
        self._features += [(segment.key, clip.clone()) for segment, clip in zip(segments, found, strict=True)]
        if self._bytes > BUFFER_BYTES or time.monotonic() - self._last > BUFFER_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._features:
            make_room(self.store.folder, self._bytes + RECORD.itemsize * len(self._features), self.limit)
            try:
                self.store.append(self._features)
            except OSError as error:
                raise NoRoomError(f"{self.store.folder} cannot be written: {error.strerror}") from error
            self.written += len(self._features)
        self._features, self._last = [], time.monotonic()
