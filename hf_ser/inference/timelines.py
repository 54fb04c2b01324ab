"""Emotions over the time of a long recording."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tqdm import tqdm
from transformers import AudioClassificationPipeline

from hf_ser.audio import SAMPLING_RATE, AudioError, cut
from hf_ser.audio.decode import SILENCE as SILENCE_LEVEL
from hf_ser.audio.decode import check
from hf_ser.encoders import minimum_samples
from hf_ser.inference.batches import Probabilities, budget, classify, emotions_of, longest_heard
from hf_ser.inference.sources import Source, find_clips

Times = npt.NDArray[np.float64]

#: What a segment is called in which there is no sound.
SILENCE = "silence"


@dataclass(frozen=True)
class EmotionSegment:
    """
    A stretch of a recording with one emotion.

    Args:
        start (`float`): Where it begins, in seconds.
        stop (`float`): Where it ends, in seconds.
        emotion (`str`): One of the model's emotions, or `silence`.
        probability (`float`): The emotion's mean (smoothed) probability over the segment; NaN for silence.
    """

    start: float
    stop: float
    emotion: str
    probability: float


@dataclass(frozen=True, eq=False)
class Timeline:
    """
    What the model says of the windows of a recording.

    Each moment of the recording belongs to the window whose middle is nearest to it. So the recording falls into as many
    frames as there are windows, each as long as the hop; the first and the last reach to the recording's ends.

    Args:
        emotions (`tuple[str, ...]`): The model's emotions, in the order of its outputs.
        start (`np.ndarray` of shape `(windows,)`): Where each window begins, in seconds.
        stop (`np.ndarray` of shape `(windows,)`): Where it ends, in seconds.
        probabilities (`np.ndarray` of shape `(windows, emotions)`): Each window's probabilities as the model gave them,
            not smoothed. A window without sound has NaN in all of them.
        duration (`float`): The recording's length in seconds.
        smoothing (`float`, defaults to 0): The width in seconds of the moving average behind `smoothed` and `segments`.
            `dataclasses.replace(timeline, smoothing=2.0)` smooths anew without running the model.
    """

    emotions: tuple[str, ...]
    start: Times
    stop: Times
    probabilities: Probabilities
    duration: float
    smoothing: float = 0.0

    @property
    def middle(self) -> Times:
        """The windows' middles `(windows,)`, in seconds."""
        return (self.start + self.stop) / 2

    @property
    def borders(self) -> Times:
        """The frames' borders `(windows + 1,)` in seconds, from 0 to the duration: frame `i` is from border `i` to `i + 1`."""
        middle = self.middle
        return np.concatenate([[0.0], (middle[:-1] + middle[1:]) / 2, [self.duration]])

    @property
    def silent(self) -> npt.NDArray[np.bool_]:
        """Which windows have no sound `(windows,)`."""
        return np.isnan(self.probabilities[:, 0])

    @property
    def smoothed(self) -> Probabilities:
        """
        The curve over the frames `(windows, emotions)`: for each window the mean of the probabilities of all windows whose
        middles are at most `smoothing / 2` seconds from its own. Windows without sound count in no mean and stay NaN.
        """
        silent = self.silent[:, None]
        reach = self.smoothing / 2 + 1e-6  # a window exactly at the edge is in, whatever its rounding
        first = np.searchsorted(self.middle, self.middle - reach)
        last = np.searchsorted(self.middle, self.middle + reach)
        sums = _running_sum(np.where(silent, 0.0, self.probabilities))
        counts = _running_sum((~silent).astype(np.float64))
        with np.errstate(invalid="ignore"):
            means = (sums[last] - sums[first]) / (counts[last] - counts[first])
        return np.where(silent, np.nan, means)

    def segments(self, minimum: float = 0.0) -> list[EmotionSegment]:
        """
        The recording from 0 to its duration as segments without gaps, neighbours of different emotion.

        Each frame has its most probable emotion after smoothing, or silence. Then, as long as there is a segment shorter
        than `minimum`, the shortest takes the emotion of that neighbour which is the more probable within it, and is
        merged with it.

        Args:
            minimum (`float`, defaults to 0): No segment is shorter, in seconds, unless the recording is.

        Raises:
            ValueError: if `minimum` is negative or NaN.
        """
        if not minimum >= 0:  # nor NaN
            raise ValueError(f"minimum: must not be negative, found {minimum}")
        names = (*self.emotions, SILENCE)
        borders = self.borders
        silent = self.silent
        # (windows, emotions + 1): silence is one more emotion, which is certain or impossible
        scores = np.column_stack([np.where(silent[:, None], 0.0, self.smoothed), silent])
        sums = _running_sum(scores * np.diff(borders)[:, None])

        def mean(start: int, stop: int, which: int) -> float:
            return float((sums[stop, which] - sums[start, which]) / (borders[stop] - borders[start]))

        which = scores.argmax(axis=1)  # of each segment, at first a frame, its emotion
        edges = np.arange(len(which) + 1)  # and the frames that it begins and ends with
        while True:
            differs = np.flatnonzero(np.diff(which)) + 1
            which = which[np.concatenate([[0], differs])]
            edges = edges[np.concatenate([[0], differs, [-1]])]
            lengths = np.diff(borders[edges])
            shortest = int(lengths.argmin())
            if len(which) == 1 or lengths[shortest] >= minimum:
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


def _running_sum(values: Probabilities) -> Probabilities:
    """Sums of the first 0, 1, ... rows: `(rows, columns)` to `(rows + 1, columns)`."""
    return np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(axis=0)])


def timeline(
    classifier: AudioClassificationPipeline,
    recording: Source,
    *,
    window: float = 3.0,
    hop: float = 0.5,
    smoothing: float = 1.0,
    batch_seconds: float | None = None,
    progress: bool = False,
) -> Timeline:
    """
    Emotions over the time of a recording of any length: windows go through the model, and a moving average over them.

    Args:
        classifier (`AudioClassificationPipeline`): What `hf_ser.load` returns.
        recording: One file, array or clip, see [`find_clips`].
        window (`float`, defaults to 3): The length of what the model hears at a time, in seconds. The last window ends
            with the recording; a recording shorter than a window is one window.
        hop (`float`, defaults to 0.5): From one window's beginning to the next one's, in seconds.
        smoothing (`float`, defaults to 1): The width of a centred moving average over the probabilities, in seconds; 0 for
            none. See [`Timeline.smoothed`].
        batch_seconds (`float`, *optional*): Seconds of sound in a batch, padding included; by default 120 on a GPU and 8 on a
            CPU. Less needs less memory.
        progress (`bool`, defaults to `False`): Whether to show a progress bar, if there is a terminal.

    Returns:
        A [`Timeline`]. Windows in which no sample reaches -80 dB of full scale do not go through the model, which would
        answer all the same: their probabilities are NaN, and their segments are called `silence`.

    Raises:
        AudioError: if the recording cannot be decoded, is empty or too short for the encoder, or has samples that are no
            numbers. One that is silent from end to end is a timeline of silence.
        FileNotFoundError: if it is not there.
        ValueError: if an argument is out of range, or names more than one recording.
    """
    minimum = minimum_samples(classifier.model.config)
    if not window * SAMPLING_RATE >= minimum:  # nor NaN
        raise ValueError(f"window: the encoder needs at least {minimum / SAMPLING_RATE} s, found {window}")
    if window > (most := longest_heard(classifier)):
        raise ValueError(f"window: the model hears {most:g} s at most, found {window}")
    if not 1 / SAMPLING_RATE <= hop <= window:
        raise ValueError(f"hop: must be more than 0 s and not more than the window ({window} s), found {hop}")
    if not smoothing >= 0:  # nor NaN
        raise ValueError(f"smoothing: must not be negative, found {smoothing}")
    seconds = budget(classifier, batch_seconds)
    emotions = emotions_of(classifier)
    clips = find_clips(recording)
    if len(clips) != 1:
        raise ValueError(f"recording: a timeline is of one recording, found {len(clips)}: {clips[0].name!r}, ...")
    waveform = clips[0].read()
    try:
        check(waveform)
    except AudioError as error:
        if error.reason != "silent":
            raise
    if len(waveform) < minimum:
        raise AudioError("too short", f"it has {len(waveform)} samples at 16 kHz, the encoder needs {minimum}")

    windows = cut([len(waveform)], window, window - hop)
    views = [waveform[start:stop] for start, stop in zip(windows.start, windows.stop, strict=True)]
    heard = [i for i, view in enumerate(views) if np.abs(view).max() >= SILENCE_LEVEL]
    probabilities = np.full((len(views), len(emotions)), np.nan)
    with tqdm(total=len(heard), unit=" windows", disable=None if progress else True) as bar:
        for batch, answers in classify(classifier, [views[i] for i in heard], seconds):
            probabilities[[heard[i] for i in batch]] = answers
            bar.update(len(batch))
    return Timeline(
        emotions,
        windows.start / SAMPLING_RATE,
        windows.stop / SAMPLING_RATE,
        probabilities,
        len(waveform) / SAMPLING_RATE,
        smoothing,
    )
