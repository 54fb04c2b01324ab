"""The picture of a timeline shows what is in it."""

import io
from dataclasses import replace

import numpy as np
import pytest

from hf_ser.inference.plots import plot_timeline
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
        (1, slice(0), "time (s)", ["0.0", "0.5", "1.0"]),
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
