"""A timeline as a picture."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator

from hf_ser.audio import SAMPLING_RATE
from hf_ser.audio.decode import Waveform
from hf_ser.emotions import canonical
from hf_ser.inference.timelines import SILENCE, EmotionSegment, Timeline

#: Okabe and Ito's colours, which people with any colour vision tell apart; neutral is grey in place of their black.
COLOURS = {
    "angry": "#D55E00",
    "calm": "#56B4E9",
    "disgust": "#009E73",
    "fear": "#CC79A7",
    "happy": "#F0E442",
    "neutral": "#A6A6A6",
    "sad": "#0072B2",
    "surprise": "#E69F00",
}
#: For emotions with names of their own.
OTHER_COLOURS = ("#332288", "#882255", "#117733", "#DDCC77", "#AA4499", "#661100")
SILENT: dict[str, Any] = {"facecolor": "white", "edgecolor": "#BBBBBB", "hatch": "////", "linewidth": 0.0}
#: A waveform is drawn as the range of its samples in so many steps of time.
STEPS = 2000
#: Seconds between two marks on the time axis; the first that gives at most a dozen marks is taken.
MARKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)


def plot_timeline(waveform: Waveform, timeline: Timeline) -> Figure:
    """
    Draws a recording: its waveform, the emotions' smoothed probabilities, and its segments.

    Args:
        waveform (`np.ndarray` of shape `(samples,)`): The recording at 16 kHz, mono.
        timeline (`Timeline`): Its timeline.

    Returns:
        A `Figure` that belongs to no window; `figure.savefig("emotions.png", dpi=120)` writes it.
    """
    colours = _colours(timeline.emotions)
    figure = Figure(figsize=(11, 5), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [2, 4, 0.8]})
    _draw_waveform(top, waveform)
    _draw_probabilities(middle, timeline, colours)
    _draw_segments(bottom, timeline.segments, colours, timeline.duration)
    _label_time(bottom, timeline.duration)
    # The legend has the order of the stack.
    shown = [Patch(facecolor=colours[emotion], label=emotion) for emotion in reversed(timeline.emotions)]
    if timeline.silent.any():
        shown.append(Patch(**SILENT, label=SILENCE))
    figure.legend(handles=shown, loc="outside right center", frameon=False)
    return figure


def _colours(emotions: Sequence[str]) -> dict[str, str]:
    others = cycle(OTHER_COLOURS)
    return {emotion: COLOURS.get(canonical(emotion)) or next(others) for emotion in emotions}


def _draw_waveform(axes: Axes, waveform: Waveform) -> None:
    step = -(-len(waveform) // STEPS)
    first = np.arange(0, len(waveform), step)
    low, high = np.minimum.reduceat(waveform, first), np.maximum.reduceat(waveform, first)
    axes.fill_between(first / SAMPLING_RATE, low, high, color="#444444", linewidth=0.3)
    peak = float(np.abs(waveform).max()) or 1.0
    axes.set_ylim(-1.05 * peak, 1.05 * peak)
    axes.set_yticks([])
    axes.set_ylabel("waveform")


def _draw_probabilities(axes: Axes, timeline: Timeline, colours: dict[str, str]) -> None:
    # The curve runs through the windows' middles, and is level from the outermost of them to the ends and to silence.
    time = np.concatenate([np.column_stack([timeline.borders[:-1], timeline.middle]).ravel(), [timeline.duration]])
    at_middle = timeline.smoothed  # (windows, emotions)
    before, after = at_middle[[0, *range(len(at_middle))]], at_middle[[*range(len(at_middle)), -1]]
    at_border = (np.where(np.isnan(before), after, before) + np.where(np.isnan(after), before, after)) / 2
    curve = np.empty((len(time), len(timeline.emotions)))
    curve[0::2], curve[1::2] = at_border, at_middle
    axes.stackplot(time, curve.T, colors=[colours[emotion] for emotion in timeline.emotions], linewidth=0)
    frames = np.flatnonzero(timeline.silent)
    start, stop = timeline.borders[frames], timeline.borders[frames + 1]
    axes.broken_barh(np.column_stack([start, stop - start]).tolist(), (0, 1), **SILENT)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes.set_ylabel("probability")


def _draw_segments(axes: Axes, segments: Sequence[EmotionSegment], colours: dict[str, str], duration: float) -> None:
    gap = 1.0 if len(segments) < 100 else 0.0  # thousands of gaps would cover the segments
    for emotion in dict.fromkeys(segment.emotion for segment in segments):
        spans = [(each.start, each.stop - each.start) for each in segments if each.emotion == emotion]
        look = SILENT if emotion == SILENCE else {"facecolor": colours[emotion], "edgecolor": "white", "linewidth": gap}
        axes.broken_barh(spans, (0, 1), **look)
    for segment in segments:
        width = segment.stop - segment.start
        if width / duration > 0.0085 * len(segment.emotion) + 0.008:  # the name fits into it
            red, green, blue = to_rgb(colours.get(segment.emotion, "white"))
            ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"  # easier to read on it
            axes.text(segment.start + width / 2, 0.5, segment.emotion, ha="center", va="center", color=ink)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_ylabel("segments", rotation=0, ha="right", va="center")


def _label_time(axes: Axes, duration: float) -> None:
    axes.set_xlim(0, duration)
    axes.xaxis.set_major_locator(MultipleLocator(next((mark for mark in MARKS if duration / mark <= 12), MARKS[-1])))
    if duration < 120:
        axes.set_xlabel("time (s)")
    elif duration < 3600:
        axes.set_xlabel("time (min:s)")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda time, _: f"{time // 60:.0f}:{time % 60:02.0f}"))
    else:
        axes.set_xlabel("time (h:min)")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda time, _: f"{time // 3600:.0f}:{time // 60 % 60:02.0f}"))
