"""Long recordings are cut into segments of fixed length (HuBERT-SER, section 3.3)."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_ser.audio.decode import SAMPLING_RATE


@dataclass(frozen=True)
class Segments:
    """
    Segments of clips. A segment belongs to one clip, and therefore to one part of a split.

    Args:
        clip (`np.ndarray` of shape `(segments,)`): The index of the clip that it is cut from.
        start (`np.ndarray` of shape `(segments,)`): Its first sample at 16 kHz.
        stop (`np.ndarray` of shape `(segments,)`): The sample after its last one.
    """

    clip: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.clip)

    @property
    def samples(self) -> npt.NDArray[np.int64]:
        """The segments' lengths, in samples."""
        return self.stop - self.start

    def take(self, rows: npt.NDArray[np.int64]) -> "Segments":
        """Some of the segments, in the order of `rows`."""
        return Segments(self.clip[rows], self.start[rows], self.stop[rows])


def cut(samples: npt.ArrayLike, length: float | None = None, overlap: float = 0.0) -> Segments:
    """
    Cuts clips that are longer than `length`; shorter ones stay whole. The last segment of a clip ends with the clip. It overlaps
    the segment before, so that all segments of a cut clip have the same length.

    Args:
        samples (`array` of shape `(clips,)`): The clips' lengths in samples at 16 kHz.
        length (`float`, *optional*): Length of a segment in seconds; by default nothing is cut.
        overlap (`float`, *optional*, defaults to 0): The seconds that neighbouring segments share.

    Raises:
        ValueError: if `length` is not positive and finite, or `overlap` is negative or not less than `length`.
    """
    sizes = np.asarray(samples, dtype=np.int64)
    if length is None:
        return Segments(np.arange(len(sizes)), np.zeros_like(sizes), sizes)
    if not 0 < length < math.inf:  # NaN is not, either
        raise ValueError(f"segment_length: must be a number of seconds above 0, found {length}")
    if not 0 <= overlap < length:
        raise ValueError(
            f"segment_overlap: must be at least 0 s and less than segment_length ({length} s), found {overlap}"
        )
    window = max(round(length * SAMPLING_RATE), 1)
    hop = max(round((length - overlap) * SAMPLING_RATE), 1)
    counts = np.maximum(np.ceil((sizes - window) / hop).astype(np.int64), 0) + 1
    clip = np.repeat(np.arange(len(sizes)), counts)
    nth = np.arange(len(clip)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = np.minimum(nth * hop, np.maximum(sizes[clip] - window, 0))
    return Segments(clip, start, np.minimum(start + window, sizes[clip]))
