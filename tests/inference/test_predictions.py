"""Many clips at once get what each gets alone, in order; bad ones are told and set aside."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AudioClassificationPipeline

from hf_ser.audio import read_mono
from hf_ser.inference import Prediction, find_clips, predict, predictions

Sound = Callable[..., np.ndarray]
KINDS = ["layer_norm", "group_norm"]


def noise(samples: int, seed: int) -> dict[str, Any]:
    """A clip of noise, each of another level and colour."""
    rng = np.random.default_rng(seed)
    samples_ = np.convolve(rng.standard_normal(samples), rng.uniform(0, 1, 1 + seed % 7), "same")
    return {"array": (rng.uniform(0.01, 0.3) * samples_).astype(np.float32), "sampling_rate": 16_000}


def alone(classifier: AudioClassificationPipeline, clip: dict[str, Any]) -> dict[str, float]:
    return {answer["label"]: answer["score"] for answer in classifier(dict(clip), top_k=None)}


def run(classifier: Any, sources: Any, **options: Any) -> list[Prediction]:
    return list(predict(classifier, sources, progress=False, **options))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_seconds", [0.1, 2.0, 1000.0])
def test_the_same_as_the_pipeline_in_any_batch(kind: str, batch_seconds: float, request: pytest.FixtureRequest) -> None:
    classifier = request.getfixturevalue(kind)
    clips = [noise(samples, seed) for seed, samples in enumerate([9000, 400, 40_000, 700, 401, 16_000, 3200, 25_000])]
    answers = run(classifier, clips, batch_seconds=batch_seconds)
    expected = [alone(classifier, clip) for clip in clips]
    spread = np.ptp([[each[emotion] for emotion in sorted(each)] for each in expected], axis=0)
    assert spread.max() > 0.1, "the clips are too alike for the test to say anything"
    assert [answer.name for answer in answers] == [f"array {place}" for place in range(len(clips))]
    for answer, reference in zip(answers, expected, strict=True):
        assert answer.probabilities == pytest.approx(reference, abs=1e-4)
        assert answer.emotion == max(reference, key=reference.__getitem__)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_whatever_the_clips_beside_it(kind: str, request: pytest.FixtureRequest) -> None:
    classifier = request.getfixturevalue(kind)
    clip = noise(2_000, 5)
    reference = alone(classifier, clip)

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @given(st.lists(st.integers(400, 30_000), max_size=6), st.floats(0.05, 10), st.data())
    def holds(lengths: list[int], batch_seconds: float, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(lengths)))
        clips = [noise(length, seed) for seed, length in enumerate(lengths)]
        answers = run(classifier, [*clips[:place], clip, *clips[place:]], batch_seconds=batch_seconds)
        assert len(answers) == len(lengths) + 1
        assert answers[place].probabilities == pytest.approx(reference, abs=1e-4)

    holds()


def test_real_speech_as_the_pipeline_has_it(
    shared: Path, opened: Callable[[Path], AudioClassificationPipeline]
) -> None:
    classifier = opened(shared / "models" / "hubert-mini")
    files = sorted((shared / "data" / "ravdess" / "Actor_02").glob("*.flac"))[:6]
    for answer, file in zip(run(classifier, files, batch_seconds=30), files, strict=True):
        reference = alone(classifier, {"array": read_mono(str(file)), "sampling_rate": 16_000})
        assert answer.probabilities == pytest.approx(reference, abs=1e-4)


def test_bad_files_among_good_ones(
    layer_norm: AudioClassificationPipeline, tmp_path: Path, write_clip: Callable[..., Path]
) -> None:
    write_clip(tmp_path / "a.wav", seconds=0.5)
    (tmp_path / "b.wav").write_bytes(b"RIFF and nothing more")
    write_clip(tmp_path / "c.flac", seconds=0.7)
    soundfile.write(tmp_path / "d.wav", np.zeros(0), 16_000)
    soundfile.write(tmp_path / "e.wav", np.zeros(16_000), 16_000)
    soundfile.write(tmp_path / "f.wav", np.full(399, 0.1), 16_000)
    soundfile.write(tmp_path / "g.wav", np.full(900, np.nan), 16_000, subtype="FLOAT")
    write_clip(tmp_path / "h.ogg", seconds=0.6)
    answers = run(layer_norm, tmp_path)
    assert [Path(answer.name).name[0] for answer in answers] == list("abcdefgh")
    reasons = [answer.problem and answer.problem.partition(":")[0] for answer in answers]
    assert reasons == [None, "unreadable", None, "empty", "silent", "too short", "not finite", None]
    for answer in answers:
        assert sum(answer.probabilities.values()) == pytest.approx(0 if answer.problem else 1)
        assert (answer.emotion is None) == bool(answer.problem)
    assert answers[2].duration == pytest.approx(0.7)


def test_nothing_but_bad_files(layer_norm: AudioClassificationPipeline, tmp_path: Path) -> None:
    (tmp_path / "b.wav").write_bytes(b"")
    assert [answer.emotion for answer in run(layer_norm, tmp_path)] == [None]
    assert run(layer_norm, []) == []


def test_a_long_clip_has_the_mean_of_its_segments(pitch: SimpleNamespace, make_sound: Sound) -> None:
    clip = np.concatenate([make_sound(1.2), make_sound(1.2, 900), make_sound(1.2, 1700)])
    (answer,) = run(pitch, {"array": clip, "sampling_rate": 16_000}, longest=1.25, batch_seconds=2.4)
    thirds = [{"array": part, "sampling_rate": 16_000} for part in np.split(clip, 3)]
    expected = np.mean([part.probabilities["high"] for part in run(pitch, thirds)])
    assert answer.probabilities["high"] == pytest.approx(expected, abs=1e-6)
    assert answer.duration == pytest.approx(3.6)
    assert pitch.model.shapes[:2] == [(2, 19_200), (1, 19_200)]


def test_segments_of_unlike_length_count_by_their_length(pitch: SimpleNamespace, make_sound: Sound) -> None:
    """16,001 samples in two: one of 8,000, one of 8,001."""
    clip = np.concatenate([make_sound(0.5), make_sound(0.6, 2000)])[:16_001]
    (answer,) = run(pitch, {"array": clip, "sampling_rate": 16_000}, longest=1)
    parts = run(pitch, [{"array": part, "sampling_rate": 16_000} for part in (clip[:8_000], clip[8_000:])])
    expected = (8_000 * parts[0].probabilities["high"] + 8_001 * parts[1].probabilities["high"]) / 16_001
    assert answer.probabilities["high"] == pytest.approx(expected, abs=1e-12)


def test_silence_in_a_long_clip_does_not_count(pitch: SimpleNamespace, make_sound: Sound) -> None:
    clip = np.concatenate([make_sound(2, 2000), np.zeros(2 * 16_000, np.float32)])
    (answer,) = run(pitch, {"array": clip, "sampling_rate": 16_000}, longest=2)
    (spoken,) = run(pitch, {"array": clip[:32_000], "sampling_rate": 16_000}, longest=2)
    assert answer.probabilities == pytest.approx(spoken.probabilities)


def test_stereo_at_48_khz_is_its_mono_version_at_16_khz(
    layer_norm: AudioClassificationPipeline, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    time = np.arange(48_000) / 48_000
    voice = sum(0.1 / k * np.sin(2 * np.pi * 180 * k * time + rng.uniform(0, 6)) for k in range(1, 12))
    apart = 0.05 * np.sin(2 * np.pi * 500 * time)  # in opposite phase, so that the mean is without it
    soundfile.write(tmp_path / "stereo.wav", np.stack([voice + apart, voice - apart], axis=1), 48_000)
    soundfile.write(tmp_path / "mono.wav", voice[::3], 16_000)
    mono, stereo = run(layer_norm, tmp_path)
    assert stereo.probabilities == pytest.approx(mono.probabilities, abs=5e-3)


def test_reads_a_few_pools_ahead_and_no_more(
    pitch: SimpleNamespace, make_sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "POOL_CLIPS", 4)
    given_out = 0

    def endless() -> Iterator[dict[str, Any]]:
        nonlocal given_out
        while True:
            given_out += 1
            yield {"array": make_sound(0.1), "sampling_rate": 16_000}

    coming = predict(pitch, endless(), progress=False)
    assert [next(coming).name for _ in range(10)] == [f"array {place}" for place in range(10)]
    assert given_out <= 16
    coming.close()  # type: ignore[attr-defined]
    assert not torch.is_inference_mode_enabled()


def test_pools_are_bounded_by_seconds_too(pitch: SimpleNamespace, make_sound: Sound) -> None:
    clip = {"array": make_sound(1), "sampling_rate": 16_000}
    clips = iter(find_clips([clip] * 100))
    assert len(predictions._read_pool(clips, 8.5, 400)) == 9


def test_little_of_a_batch_is_padding_and_none_exceeds_its_budget(pitch: SimpleNamespace) -> None:
    lengths = np.random.default_rng(0).integers(400, 60_000, 200)
    run(pitch, [noise(int(length), 1) for length in lengths], batch_seconds=20)
    sizes = [clips * samples for clips, samples in pitch.model.shapes]
    assert max(sizes) <= 20 * 16_000
    assert sum(sizes) < 1.1 * lengths.sum()


def test_what_cannot_be_asked(pitch: SimpleNamespace, tmp_path: Path) -> None:
    """At once, not when the first answer is asked for."""
    with pytest.raises(FileNotFoundError, match="gone"):
        predict(pitch, [tmp_path / "gone"])
    with pytest.raises(ValueError, match="batch_seconds: must be more than 0 s, found 0"):
        predict(pitch, [], batch_seconds=0)
    with pytest.raises(ValueError, match="batch_seconds: must be a number of seconds that memory can hold, found inf"):
        predict(pitch, [], batch_seconds=float("inf"))
    with pytest.raises(ValueError, match="batch_seconds: must be more than 0 s, found nan"):
        predict(pitch, [], batch_seconds=float("nan"))
    for longest in (0.5, float("nan")):
        with pytest.raises(ValueError, match=f"longest: must be at least 1 s, found {longest}"):
            predict(pitch, [], longest=longest)
    pitch.model.config.problem_type = "regression"
    with pytest.raises(ValueError, match="problem_type is 'regression'"):
        predict(pitch, [])
