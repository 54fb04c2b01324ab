"""A timeline as a picture."""

from collections.abc import Mapping, Sequence
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
from hf_ser.evaluation.plots import plain_text
from hf_ser.inference.timelines import SILENCE, SPEECH, EmotionSegment, Floats, Timeline

#: Okabe and Ito's colours, which people with any colour vision can distinguish; neutral is grey in place of their black.
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
#: A waveform is drawn as the range of its samples in this many steps of time.
STEPS = 2000
#: Seconds between two marks on the time axis; the first that gives at most a dozen marks is taken.
MARKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)


def plot_timeline(waveform: Waveform, timeline: Timeline) -> Figure:
    """
    Draws a recording: its waveform, the emotions' smoothed probabilities, the dimensions as curves, and its segments.

    Args:
        waveform (`np.ndarray` of shape `(samples,)`): The recording at 16 kHz, mono.
        timeline (`Timeline`): Its timeline.

    Returns:
        A `Figure` that belongs to no window; `figure.savefig("emotions.png", dpi=120)` writes it.
    """
    others = cycle(OTHER_COLOURS)
    colours = {emotion: COLOURS.get(canonical(emotion)) or next(others) for emotion in timeline.emotions}
    rows = {"waveform": 2.0, "emotions": 4.0, "dimensions": 3.0, "segments": 0.8}
    heights = [height for name, height in rows.items() if getattr(timeline, name, True)]
    figure = Figure(figsize=(11, 0.735 * sum(heights)), layout="constrained")
    top, *middle, bottom = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights})
    _draw_waveform(top, waveform)
    if timeline.emotions:
        _draw_probabilities(middle[0], timeline, colours)
    if timeline.dimensions:
        _draw_dimensions(middle[-1], timeline)
    _draw_segments(bottom, timeline.segments, colours, timeline.duration)
    _label_time(bottom, timeline.duration)
    # The legend has the order of the stack.
    shown: list[Any] = [
        Patch(facecolor=colours[emotion], label=plain_text(emotion)) for emotion in reversed(timeline.emotions)
    ]
    if timeline.dimensions:
        shown += middle[-1].get_lines()[: len(timeline.dimensions)]
    if timeline.silent.any():
        shown.append(Patch(**SILENT, label=SILENCE))
    figure.legend(handles=shown, loc="outside right center", frameon=False)
    return figure


def plot_plane(dimensions: Mapping[str, float], timeline: Timeline | None = None) -> Figure | None:
    """
    Draws valence and arousal of a whole recording, from 0 to 1, as a point in their plane, with the windows of a longer one as a
    path. `None` where the model lacks one of the two dimensions.
    """
    if not {"valence", "arousal"} <= dimensions.keys():
        return None
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    axes = figure.subplots()
    if timeline is not None:
        x, y = (timeline.smoothed_values[:, timeline.dimensions.index(name)] for name in ("valence", "arousal"))
        axes.plot(x, y, color="#BBBBBB", linewidth=1)
        dots = axes.scatter(x, y, c=timeline.middle, cmap="viridis", s=16)
        figure.colorbar(dots, ax=axes, label="time (s)", shrink=0.8)
    axes.plot(dimensions["valence"], dimensions["arousal"], "o", color="#D55E00", markersize=11)
    axes.axhline(0.5, color="#BBBBBB", linewidth=0.8, zorder=0)
    axes.axvline(0.5, color="#BBBBBB", linewidth=0.8, zorder=0)
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1),
        xlabel="valence (negative to positive)",
        ylabel="arousal (calm to excited)",
        aspect="equal",
    )
    return figure


def _draw_waveform(axes: Axes, waveform: Waveform) -> None:
    step = -(-len(waveform) // STEPS)
    first = np.arange(0, len(waveform), step)
    low, high = np.minimum.reduceat(waveform, first), np.maximum.reduceat(waveform, first)
    axes.fill_between(first / SAMPLING_RATE, low, high, color="#444444", linewidth=0.3)
    peak = float(np.abs(waveform).max()) or 1.0
    axes.set(ylim=(-1.05 * peak, 1.05 * peak), yticks=[], ylabel="waveform")


def _draw_probabilities(axes: Axes, timeline: Timeline, colours: dict[str, str]) -> None:
    time, curve = _curves(timeline, timeline.smoothed)
    axes.stackplot(time, curve.T, colors=[colours[emotion] for emotion in timeline.emotions], linewidth=0)
    _draw_silence(axes, timeline)
    axes.set(ylim=(0, 1), yticks=[0, 0.5, 1], yticklabels=["0 %", "50 %", "100 %"], ylabel="probability")


def _draw_dimensions(axes: Axes, timeline: Timeline) -> None:
    time, curves = _curves(timeline, timeline.smoothed_values)
    for name, curve, style in zip(timeline.dimensions, curves.T, cycle(("-", "--", ":"))):
        axes.plot(time, curve, style, color="black", linewidth=1.2, label=name)
    _draw_silence(axes, timeline)
    limits = np.nanmin(curves, initial=0), np.nanmax(curves, initial=1)
    axes.set(ylim=limits, yticks=[0, 0.5, 1], ylabel="dimensions")


def _draw_silence(axes: Axes, timeline: Timeline) -> None:
    frames = np.flatnonzero(timeline.silent)
    start, stop = timeline.borders[frames], timeline.borders[frames + 1]
    axes.broken_barh(np.column_stack([start, stop - start]).tolist(), (0, 1), **SILENT)


def _curves(timeline: Timeline, at_middle: Floats) -> tuple[Floats, Floats]:
    """
    Times `(points,)` and curves `(points, columns)` through the values `(windows, columns)` at the windows' middles. They are
    level from the outermost of them to the ends and to silence.
    """
    time = np.concatenate([np.column_stack([timeline.borders[:-1], timeline.middle]).ravel(), [timeline.duration]])
    before, after = at_middle[[0, *range(len(at_middle))]], at_middle[[*range(len(at_middle)), -1]]
    at_border = (np.where(np.isnan(before), after, before) + np.where(np.isnan(after), before, after)) / 2
    curves = np.empty((len(time), at_middle.shape[1]))
    curves[0::2], curves[1::2] = at_border, at_middle
    return time, curves


def _draw_segments(axes: Axes, segments: Sequence[EmotionSegment], colours: dict[str, str], duration: float) -> None:
    gap = 1.0 if len(segments) < 100 else 0.0  # thousands of gaps would cover the segments
    for emotion in dict.fromkeys(segment.emotion for segment in segments):
        spans = [(each.start, each.stop - each.start) for each in segments if each.emotion == emotion]
        colour = "#DDDDDD" if emotion == SPEECH else colours.get(emotion)
        look = SILENT if emotion == SILENCE else {"facecolor": colour, "edgecolor": "white", "linewidth": gap}
        axes.broken_barh(spans, (0, 1), **look)
    for segment in segments:
        width = segment.stop - segment.start
        if width / duration > 0.0085 * len(segment.emotion) + 0.008:  # the name fits into it
            red, green, blue = to_rgb(colours.get(segment.emotion, "white"))
            ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"  # easier to read on it
            axes.text(segment.start + width / 2, 0.5, plain_text(segment.emotion), ha="center", va="center", color=ink)
    axes.set(ylim=(0, 1), yticks=[])
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
