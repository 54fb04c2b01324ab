"""The picture of a timeline shows what is in it."""

import io
from dataclasses import replace

import numpy as np
import pytest

from hf_ser.inference.plots import plot_plane, plot_timeline
from hf_ser.inference.timelines import Timeline

EMOTIONS = ("angry", "bored", "happy", "sad")


def made(windows: int, hop: float = 0.5, silent: slice = slice(0)) -> tuple[np.ndarray, Timeline]:
    rng = np.random.default_rng(0)
    start = np.arange(windows) * hop
    shares = rng.dirichlet([0.5] * len(EMOTIONS), windows)
    shares[silent] = np.nan
    duration = float(start[-1] + 3)
    waveform = rng.uniform(-0.5, 0.5, round(min(duration, 60) * 16_000)).astype(np.float32)
    return waveform, Timeline(EMOTIONS, start, start + 3, shares, duration, 1.0)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("windows", "silent", "label", "marks"),
    [
        (1, slice(0, 1), "time (s)", ["0.0", "0.5", "1.0"]),
        (40, slice(10, 25), "time (s)", ["0", "2", "4"]),
        (600, slice(0), "time (min:s)", ["0:00", "0:30", "1:00"]),
        (7200, slice(0, 9), "time (h:min)", ["0:00", "0:10", "0:20"]),
    ],
)
def test_shows_waveform_probabilities_segments_and_time(
    windows: int, silent: slice, label: str, marks: list[str]
) -> None:
    waveform, line = made(windows, silent=silent)
    figure = plot_timeline(waveform, line)
    figure.savefig(io.BytesIO(), format="png")
    _, middle, bottom = figure.axes
    assert bottom.get_xlabel() == label
    assert bottom.get_xlim() == (0, line.duration)
    assert middle.get_ylim() == (0, 1)
    ticks = zip(bottom.get_xticks(), bottom.get_xticklabels(), strict=True)
    assert [label.get_text() for tick, label in ticks if tick >= 0][:3] == marks
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [*reversed(EMOTIONS), *(["silence"] if line.silent.any() else [])]


def test_draws_the_segments() -> None:
    waveform, line = made(40)
    merged = replace(line, minimum=5)
    assert len(merged) < len(line)
    for each in (line, merged):
        drawn = plot_timeline(waveform, each).axes[2].collections
        assert sum(len(spans.get_paths()) for spans in drawn) == len(each)


def with_dimensions(line: Timeline, emotions: bool = True) -> Timeline:
    rng = np.random.default_rng(1)
    values = np.where(line.silent[:, None], np.nan, rng.uniform(0, 1, (len(line.start), 2)))
    dimensions = {"dimensions": ("arousal", "valence"), "values": values}
    return replace(line, **dimensions, **({} if emotions else {"emotions": (), "probabilities": values[:, :0]}))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("emotions", [True, False])
def test_dimensions_are_curves_under_the_emotions(emotions: bool) -> None:
    waveform, line = made(40, silent=slice(10, 25))
    line = with_dimensions(line, emotions)
    figure = plot_timeline(waveform, line)
    figure.savefig(io.BytesIO(), format="png")
    curves = figure.axes[-2].get_lines()
    assert [curve.get_label() for curve in curves] == ["arousal", "valence"]
    assert len(figure.axes) == (4 if emotions else 3)
    middle = line.middle[5]
    shown = np.interp(middle, curves[0].get_xdata(), np.nan_to_num(np.asarray(curves[0].get_ydata(), dtype=float)))
    assert shown == pytest.approx(line.smoothed_values[5, 0], abs=1e-6)
    if not emotions:
        assert {segment.emotion for segment in line} == {"speech", "silence"}


def test_the_plane_has_a_point_and_the_path_to_it() -> None:
    _, line = made(40, silent=slice(3, 5))
    line = with_dimensions(line)
    figure = plot_plane({"arousal": 0.7, "valence": 0.2}, line)
    assert figure is not None
    figure.savefig(io.BytesIO(), format="png")
    path, point = figure.axes[0].get_lines()[:2]
    assert (point.get_xdata(), point.get_ydata()) == ([0.2], [0.7])
    np.testing.assert_allclose(np.asarray(path.get_xdata()), line.smoothed_values[:, 1])
    assert plot_plane({"arousal": 0.7}) is None
