"""Windows, smoothing and segments of a long recording."""

import dataclasses
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from predictions import make_sound

from hf_ser.audio import AudioError
from hf_ser.inference.timelines import SILENCE, Timeline
from hf_ser.pipeline import SERPipeline


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """Windows as `timeline` lays them, with any probabilities; some are silent."""
    count = draw(st.integers(1, 25))
    window = draw(st.sampled_from([0.5, 1.0, 3.0]))
    hop = window * draw(st.sampled_from([0.1, 0.25, 0.5, 1.0]))
    last = draw(st.floats(0.01, 1))  # the last hop may be shorter
    start = np.arange(count) * hop
    if count > 1:
        start[-1] -= hop * (1 - last)
    shares = draw(arrays(np.float64, (count, 3), elements=st.floats(0.001, 1)))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[draw(arrays(np.bool_, count, elements=st.sampled_from([False, False, False, True])))] = np.nan
    duration = float(start[-1] + window)
    return Timeline(("a", "b", "c"), start, start + window, shares, duration, draw(st.sampled_from([0.0, 0.7, 2.0])))


@given(timelines(), st.floats(0, 5))
def test_segments_are_a_partition(line: Timeline, minimum: float) -> None:
    line = dataclasses.replace(line, minimum=minimum)
    segments = line.segments
    assert (list(line), len(line)) == (segments, len(segments))
    assert segments[0].start == 0
    assert segments[-1].stop == line.duration
    for before, after in pairwise(segments):
        assert before.stop == after.start
        assert before.emotion != after.emotion
    for segment in segments:
        assert segment.stop > segment.start
        assert segment.stop - segment.start >= minimum or len(segments) == 1
        assert segment.emotion in ("a", "b", "c", SILENCE)
        assert np.isnan(segment.probability) if segment.emotion == SILENCE else 0 <= segment.probability <= 1


@given(timelines())
def test_without_a_minimum_each_frame_keeps_its_emotion(line: Timeline) -> None:
    segments = line.segments
    for i, centre in enumerate((line.borders[:-1] + line.borders[1:]) / 2):
        (segment,) = [each for each in segments if each.start <= centre < each.stop]
        best = SILENCE if line.silent[i] else line.emotions[int(line.smoothed[i].argmax())]
        assert segment.emotion == best


@given(timelines())
def test_smoothing_is_the_mean_of_the_windows_around(line: Timeline) -> None:
    for i, middle in enumerate(line.middle):
        near = np.abs(line.middle - middle) <= line.smoothing / 2 + 1e-6
        if line.silent[i]:
            assert np.isnan(line.smoothed[i]).all()
        else:
            assert line.smoothed[i] == pytest.approx(np.nanmean(line.probabilities[near], axis=0), abs=1e-9)
    off = dataclasses.replace(line, smoothing=0.0)
    np.testing.assert_allclose(off.smoothed, line.probabilities, atol=1e-12)


def made(shares: list[list[float]], minimum: float, hop: float = 1.0) -> Timeline:
    start = np.arange(len(shares)) * hop
    return Timeline(("a", "b", "c"), start, start + hop, np.array(shares), len(shares) * hop, minimum=minimum)


A, B, C = [0.8, 0.15, 0.05], [0.15, 0.8, 0.05], [0.05, 0.25, 0.7]


@pytest.mark.parametrize(
    ("windows", "minimum", "expected"),
    [
        ([A, A, C, B, B], 1.5, [(0, 2, "a", 0.8), (2, 5, "b", (0.25 + 0.8 + 0.8) / 3)]),  # b is more probable in it
        ([A, A, B, A, C, C], 1.5, [(0, 4, "a", (3 * 0.8 + 0.15) / 4), (4, 6, "c", 0.7)]),
        # The shortest goes first: from left to right, the two seconds of b would go to a before c makes them longer.
        ([A, A, A, B, B, C, B, B], 2.5, [(0, 3, "a", 0.8), (3, 8, "b", (4 * 0.8 + 0.25) / 5)]),
    ],
)
def test_a_flicker_goes_to_a_neighbour(windows: list[list[float]], minimum: float, expected: list[Any]) -> None:
    segments = made(windows, minimum).segments
    assert [(each.start, each.stop, each.emotion, pytest.approx(each.probability)) for each in segments] == expected


@pytest.mark.parametrize(("boundary", "smoothing"), [(10.0, 0.0), (13.3, 1.0), (20.0, 3.0)])
def test_finds_where_the_voice_changes(pitch: SERPipeline, boundary: float, smoothing: float) -> None:
    recording = np.concatenate([make_sound(boundary, 300), make_sound(30 - boundary, 1900)])
    line = pitch.timeline({"array": recording, "sampling_rate": 16_000}, smoothing=smoothing)
    low, high = line
    assert (low.emotion, high.emotion) == ("low", "high")
    assert low.stop == high.start == pytest.approx(boundary, abs=0.5)
    assert line.duration == high.stop == 30


def test_the_windows_lie_as_they_should(pitch: SERPipeline) -> None:
    line = pitch.timeline({"array": make_sound(5.2), "sampling_rate": 16_000}, window=2, hop=0.5, batch_seconds=5)
    np.testing.assert_allclose(line.start, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.2])
    np.testing.assert_allclose(line.stop - line.start, 2)
    np.testing.assert_allclose(line.borders, [0, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4.1, 5.2])
    assert line.stop[-1] == line.duration == 5.2
    assert line.emotions == ("low", "high")
    np.testing.assert_allclose(line.probabilities.sum(axis=1), 1)
    assert pitch.model.shapes == [(2, 32_000)] * 4, "windows go through the model in batches"


def test_silence_is_a_segment(pitch: SERPipeline) -> None:
    recording = np.concatenate([make_sound(6), np.zeros(10 * 16_000, np.float32), make_sound(6)])
    line = pitch.timeline({"array": recording, "sampling_rate": 16_000}, window=2, hop=0.5)
    assert [each.emotion for each in line] == ["low", SILENCE, "low"]
    first, silence, _ = line
    assert (silence.start, silence.stop) == (pytest.approx(6.75), pytest.approx(15.25))
    assert np.isnan(line.probabilities[line.silent]).all()
    assert np.isfinite(line.smoothed[~line.silent]).all()
    assert first.probability > 0.9


def test_recordings_and_arguments_that_do_not_fit(pitch: SERPipeline, tmp_path: Path) -> None:
    good = {"array": make_sound(1), "sampling_rate": 16_000}
    for options, message in [
        ({"window": 0.01}, r"window: the encoder needs at least 0.025 s, found 0.01"),
        ({"hop": 0.0}, r"hop: must be more than 0 s and not more than the window \(3.0 s\), found 0.0"),
        ({"hop": 3.1}, r"hop: .*found 3.1"),
        ({"smoothing": -1.0}, r"smoothing: must not be negative"),
        ({"batch_seconds": 0.0}, r"batch_seconds: must be more than 0 s and finite"),
        ({"window": math.nan}, r"window: the encoder needs at least 0.025 s, found nan"),
        ({"hop": math.nan}, r"hop: .*found nan"),
        ({"smoothing": math.nan}, r"smoothing: must not be negative, found nan"),
        ({"minimum": -1.0}, r"minimum: must not be negative, found -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            pitch.timeline(good, **options)
    with pytest.raises(AudioError, match="too short: it has 300 samples at 16 kHz, the encoder needs 400"):
        pitch.timeline({"array": make_sound(300 / 16_000), "sampling_rate": 16_000})
    with pytest.raises(AudioError, match="empty"):
        pitch.timeline({"array": np.zeros(0), "sampling_rate": 16_000})
    (tmp_path / "a.wav").write_bytes(b"nothing")
    with pytest.raises(AudioError, match="unreadable"):
        pitch.timeline(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", make_sound(1), 16_000)
    with pytest.raises(ValueError, match=r"recording: expected one recording, found 2: '.*a.wav', ..."):
        pitch.timeline(tmp_path)
