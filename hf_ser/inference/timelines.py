"""The emotions over the time of a recording: windows, smoothing, segments."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: The emotion of a segment without sound, and of one with sound where the model has dimensions alone.
SILENCE, SPEECH = "silence", "speech"


@dataclass(frozen=True)
class EmotionSegment:
    """
    A part of a recording with one emotion.

    Args:
        start (`float`): Where it begins, in seconds.
        stop (`float`): Where it ends, in seconds.
        emotion (`str`): One of the model's emotions, or `silence`; `speech` where the model has none.
        probability (`float`): The emotion's mean (smoothed) probability over the segment; NaN for silence.
    """

    start: float
    stop: float
    emotion: str
    probability: float


@dataclass(frozen=True, eq=False)
class Timeline:
    """
    The segments of a recording, each with one emotion. Iteration gives its [`EmotionSegment`]s in the order of time.

    Each moment of the recording belongs to the window with the nearest middle. The recording therefore has as many frames as
    windows. Each is as long as the hop; the first and the last extend to the ends of the recording.

    Args:
        emotions (`tuple[str, ...]`): The model's emotions, in the order of its outputs.
        start (`np.ndarray` of shape `(windows,)`): Where each window begins, in seconds.
        stop (`np.ndarray` of shape `(windows,)`): Where it ends, in seconds.
        probabilities (`np.ndarray` of shape `(windows, emotions)`): The model's probabilities of each window, not smoothed.
            A window without sound has NaN.
        duration (`float`): The recording's length in seconds.
        smoothing (`float`, defaults to 0): The width of the moving average in seconds. `dataclasses.replace(timeline,
            smoothing=2.0)` smooths again without the model; `minimum` changes likewise.
        minimum (`float`, defaults to 0): No segment is shorter, in seconds, unless the recording is.
        dimensions (`tuple[str, ...]`): The model's dimensions.
        values (`np.ndarray` of shape `(windows, dimensions)`, *optional*): Their values in each window, not smoothed.
    """

    emotions: tuple[str, ...]
    start: Floats
    stop: Floats
    probabilities: Floats
    duration: float
    smoothing: float = 0.0
    minimum: float = 0.0
    dimensions: tuple[str, ...] = ()
    values: Floats | None = None

    def __iter__(self) -> Iterator[EmotionSegment]:
        return iter(self.segments)

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def middle(self) -> Floats:
        """The windows' middles `(windows,)`, in seconds."""
        return (self.start + self.stop) / 2

    @property
    def borders(self) -> Floats:
        """The frames' borders `(windows + 1,)` in seconds, from 0 to the duration: frame `i` is from border `i` to `i + 1`."""
        middle = self.middle
        return np.concatenate([[0.0], (middle[:-1] + middle[1:]) / 2, [self.duration]])

    @property
    def silent(self) -> npt.NDArray[np.bool_]:
        """Which windows have no sound `(windows,)`."""
        return np.isnan(self._outputs[:, 0])

    @property
    def _outputs(self) -> Floats:
        return self.probabilities if self.values is None else np.concatenate([self.probabilities, self.values], axis=1)

    @property
    def smoothed(self) -> Floats:
        """
        `(windows, emotions)`: for each window the mean probabilities of all windows whose middles are at most
        `smoothing / 2` seconds from its own. Windows without sound count in no mean and stay NaN.
        """
        return self._smoothed[:, : len(self.emotions)]

    @property
    def smoothed_values(self) -> Floats:
        """The same of the dimensions, `(windows, dimensions)`."""
        return self._smoothed[:, len(self.emotions) :]

    @cached_property
    def _smoothed(self) -> Floats:
        silent = self.silent[:, None]
        reach = self.smoothing / 2 + 1e-6  # includes a window exactly at the edge, whatever its rounding
        first = np.searchsorted(self.middle, self.middle - reach)
        last = np.searchsorted(self.middle, self.middle + reach)
        sums = _running_sum(np.where(silent, 0.0, self._outputs))
        counts = _running_sum((~silent).astype(np.float64))
        with np.errstate(invalid="ignore"):
            means = (sums[last] - sums[first]) / (counts[last] - counts[first])
        return np.where(silent, np.nan, means)

    @cached_property
    def segments(self) -> list[EmotionSegment]:
        """
        The recording from 0 to its duration as segments without gaps, neighbours of different emotion.

        Each frame has its most probable emotion after smoothing, or silence. While there is a segment shorter than
        `minimum`, the shortest takes the emotion of the neighbour that is more probable within it, and joins it.
        """
        names = (*(self.emotions or (SPEECH,)), SILENCE)
        borders, silent = self.borders, self.silent
        # (windows, emotions + 1): silence is one more emotion, with a probability of 0 or 1
        emotions = self.smoothed if self.emotions else np.ones((len(silent), 1))
        scores = np.column_stack([np.where(silent[:, None], 0.0, emotions), silent])
        sums = _running_sum(scores * np.diff(borders)[:, None])

        def mean(start: int, stop: int, which: int) -> float:
            return float((sums[stop, which] - sums[start, which]) / (borders[stop] - borders[start]))

        which = scores.argmax(axis=1)  # the emotion of each segment, at first of each frame
        edges = np.arange(len(which) + 1)  # the frames that the segments begin and end with
        while True:
            differs = np.flatnonzero(np.diff(which)) + 1
            which = which[np.concatenate([[0], differs])]
            edges = edges[np.concatenate([[0], differs, [-1]])]
            lengths = np.diff(borders[edges])
            shortest = int(lengths.argmin())
            if len(which) == 1 or lengths[shortest] >= self.minimum:
                break
            beside = [which[i] for i in (shortest - 1, shortest + 1) if 0 <= i < len(which)]
            start, stop = edges[shortest], edges[shortest + 1]
            which[shortest] = max(beside, key=lambda emotion: mean(start, stop, emotion))
        return [
            EmotionSegment(
                float(borders[start]),
                float(borders[stop]),
                names[emotion],
                float("nan") if names[emotion] == SILENCE else mean(start, stop, emotion),
            )
            for start, stop, emotion in zip(edges[:-1], edges[1:], which, strict=True)
        ]


def _running_sum(values: Floats) -> Floats:
    """Sums of the first 0, 1, ... rows: `(rows, columns)` to `(rows + 1, columns)`."""
    return np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(axis=0)])
