"""What a condition does to a clip is what it says."""

import itertools
import math

import numpy as np
import pytest
import scipy.signal
from hypothesis import example, given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from hf_ser.audio import SAMPLING_RATE
from hf_ser.audio.distort import CONDITIONS, MP3_BITRATES, Condition, clip_seed, distort, pink_noise

IDS = [condition.name for condition in CONDITIONS]
RANDOM = ("white noise", "pink noise", "babble", "reverberation")


def noise(samples: int = 48_000, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def speechlike(samples: int = 48_000, seed: int = 0) -> np.ndarray:
    """A voice with a falling pitch, in syllables, `(samples,)`."""
    time = np.arange(samples) / SAMPLING_RATE
    phase = 2 * np.pi * np.cumsum(180 + 10 * seed - 20 * time) / SAMPLING_RATE
    voice = sum(np.sin(n * phase) / n for n in range(1, 20))
    return (0.1 * voice * (0.2 + np.sin(2 * np.pi * 3 * time + seed) ** 2)).astype(np.float32)


BABBLE = [speechlike(30_000 + 5000 * seed, seed) for seed in range(1, 6)]


def decibels(ratio: float) -> float:
    return 10 * math.log10(ratio)


def ratio(clean: np.ndarray, distorted: np.ndarray) -> float:
    """The measured signal-to-noise ratio in dB."""
    before = clean.astype(np.float64)
    return decibels(np.sum(before**2) / np.sum((distorted.astype(np.float64) - before) ** 2))


def share_between(waveform: np.ndarray, low: float, high: float) -> float:
    """The energy between two frequencies, in dB of the whole."""
    power = np.abs(np.fft.rfft(waveform.astype(np.float64))) ** 2
    frequencies = np.fft.rfftfreq(len(waveform), 1 / SAMPLING_RATE)
    return decibels(power[(frequencies >= low) & (frequencies < high)].sum() / power.sum() + 1e-30)


def lag(clean: np.ndarray, distorted: np.ndarray) -> int:
    """By how many samples a distorted clip is late."""
    correlation = scipy.signal.correlate(distorted, clean, method="fft")
    return int(correlation.argmax()) - len(clean) + 1


class TestEveryCondition:
    @pytest.mark.parametrize("condition", CONDITIONS, ids=IDS)
    def test_a_clip_keeps_its_length_and_place_and_the_seed_decides(self, condition: Condition) -> None:
        clean = speechlike()
        before = clean.copy()
        np.random.seed(1)  # noqa: NPY002
        first = distort(clean, condition, 7, BABBLE)
        np.random.seed(2)  # noqa: NPY002
        with threadpool_limits(2):
            np.testing.assert_array_equal(first, distort(clean, condition, 7, BABBLE))
        np.testing.assert_array_equal(clean, before)
        assert first.dtype == np.float32
        assert np.isfinite(first).all()
        assert np.array_equal(first, distort(clean, condition, 8, BABBLE)) == (condition.kind not in RANDOM)
        if condition.kind == "speed":
            assert condition.level is not None
            assert len(first) == math.ceil(len(clean) / condition.level)
        else:
            assert len(first) == len(clean)
            assert abs(lag(clean, first)) <= 1

    @pytest.mark.parametrize("condition", CONDITIONS, ids=IDS)
    def test_short_and_silent_clips(self, condition: Condition) -> None:
        for samples in (1, 2, 400):
            short = distort(noise(samples), condition, 0, BABBLE)
            assert np.isfinite(short).all()
            assert len(short) == (math.ceil(samples / condition.level) if condition.kind == "speed" else samples)  # type: ignore[operator]
            silent = distort(np.zeros(samples, np.float32), condition, 0, BABBLE)
            assert np.abs(silent).max() < 1e-6
            assert len(silent) == len(short)

    def test_names_can_be_read_and_are_all_different(self) -> None:
        assert len(set(IDS)) == len(CONDITIONS) == len(set(CONDITIONS))
        assert {
            "clean",
            "white noise, 10 dB SNR",
            "reverberation, 0.3 s RT60",
            "telephone band",
            "MP3, 32 kbit/s",
            "clipping, 5 % of samples",
            "level, -20 dB",
            "speed, 1.25 times",
        } <= set(IDS)

    def test_a_kind_that_does_not_exist_is_refused(self) -> None:
        with pytest.raises(ValueError, match="found 'fog', expected one of clean, white noise"):
            distort(BABBLE[0], Condition("fog", 1.0), 0)


class TestNoise:
    @pytest.mark.parametrize("kind", ["white noise", "pink noise", "babble"])
    @given(snr=st.floats(-30, 40), seed=st.integers(0, 2**64 - 1), samples=st.integers(300, 5000))
    def test_the_ratio_is_the_one_asked_for(self, kind: str, snr: float, seed: int, samples: int) -> None:
        clean = noise(samples, level=0.9)
        assert ratio(clean, distort(clean, Condition(kind, snr), seed, BABBLE)) == pytest.approx(snr, abs=1e-3)

    @pytest.mark.parametrize("kind", ["white noise", "pink noise", "babble"])
    def test_levels_differ_in_the_level_alone(self, kind: str) -> None:
        clean = speechlike()
        strong, weak = (distort(clean, Condition(kind, snr), 5, BABBLE) - clean for snr in (0, 20))
        np.testing.assert_allclose(strong, 10 * weak, atol=1e-5)

    def test_white_and_pink_noise_have_their_slopes(self) -> None:
        def octaves(waveform: np.ndarray) -> np.ndarray:
            """Power densities in dB, from 31.25 Hz up to 8 kHz."""
            edges = [31.25 * 2**n for n in range(9)]
            return np.array(
                [share_between(waveform, low, high) - decibels(high - low) for low, high in itertools.pairwise(edges)]
            )

        pink = np.diff(octaves(pink_noise(1 << 20, np.random.default_rng(0))))
        np.testing.assert_allclose(pink, -3.01, atol=0.5)
        assert pink[2:].mean() == pytest.approx(-3.01, abs=0.05)
        silence = np.zeros(1 << 20, np.float32)
        silence[0] = 1.0
        white = distort(silence, Condition("white noise", 0), 0) - silence
        np.testing.assert_allclose(np.diff(octaves(white)), 0, atol=0.5)
        assert share_between(pink_noise(1 << 20, np.random.default_rng(0)), 0, 19.9) < -100

    def test_every_voice_of_a_babble_is_as_loud_as_the_others(self) -> None:
        """A voice at twice the frequency and a hundredth of the level."""
        time = np.arange(16_000) / SAMPLING_RATE
        voices = [0.5 * np.sin(2 * np.pi * 500 * time), 0.005 * np.sin(2 * np.pi * 1000 * time)]
        clean = np.zeros(32_000, np.float32)
        clean[0] = 1.0
        added = distort(clean, Condition("babble", 0), 0, voices) - clean
        assert share_between(added, 400, 600) == pytest.approx(-3.01, abs=0.1)
        assert share_between(added, 900, 1100) == pytest.approx(-3.01, abs=0.1)

    @pytest.mark.parametrize("babble", [[], [np.zeros(1000, np.float32)]])
    def test_a_babble_wants_clips_with_sound(self, babble: list[np.ndarray]) -> None:
        with pytest.raises(ValueError, match=f"other clips with sound .* found {len(babble)}"):
            distort(noise(), Condition("babble", 10), 0, babble)

    def test_a_voice_that_is_silent_changes_nothing_for_the_others(self) -> None:
        silent = np.zeros(500, np.float32)
        np.testing.assert_array_equal(
            distort(noise(), Condition("babble", 10), 0, [*BABBLE, silent]),
            distort(noise(), Condition("babble", 10), 0, BABBLE),
        )


class TestReverberation:
    @pytest.mark.parametrize("rt60", [0.3, 0.6, 1.0])
    @pytest.mark.parametrize("seed", range(3))
    def test_the_decay_takes_as_long_as_it_says(self, rt60: float, seed: int) -> None:
        """Schroeder's backward integration, and a line through its fall from -5 to -35 dB (ISO 3382, T30)."""
        impulse = np.zeros(2 * SAMPLING_RATE, np.float32)
        impulse[0] = 1.0
        response = distort(impulse, Condition("reverberation", rt60), seed).astype(np.float64)
        decay = np.cumsum(response[::-1] ** 2)[::-1]
        fall = 10 * np.log10(decay / decay[0] + 1e-30)
        inside = np.flatnonzero((fall < -5) & (fall > -35))
        slope = np.polyfit(inside / SAMPLING_RATE, fall[inside], 1)[0]
        assert -60 / slope == pytest.approx(rt60, rel=0.1)

    def test_the_direct_path_and_the_level_are_kept(self) -> None:
        clean = speechlike()
        wet = distort(clean, Condition("reverberation", 0.6), 0)
        assert np.sum(wet.astype(np.float64) ** 2) == pytest.approx(np.sum(clean.astype(np.float64) ** 2), rel=1e-5)
        impulse = np.zeros(SAMPLING_RATE, np.float32)
        impulse[100] = 0.5
        response = distort(impulse, Condition("reverberation", 0.6), 0)
        assert np.abs(response).argmax() == 100
        assert np.abs(response[:100]).max() < 1e-6
        assert response[100] ** 2 == pytest.approx(0.125, rel=1e-3)  # the other half of the energy is the room's


class TestBands:
    def test_a_telephone_passes_300_to_3400_hz(self) -> None:
        clean = noise(160_000)
        found = distort(clean, Condition("telephone band"), 0)
        assert share_between(found, 0, 250) < -50
        assert share_between(found, 3450, 8001) < -50
        assert decibels(10 ** (share_between(found, 0, 300) / 10) + 10 ** (share_between(found, 3400, 8001) / 10)) < -20
        # What passes, passes as it was.
        for low, high in [(350, 1000), (1000, 2000), (2000, 3350)]:
            band = scipy.signal.firwin(2001, [low + 30, high - 30], pass_zero=False, fs=SAMPLING_RATE)
            before, after = (scipy.signal.fftconvolve(x, band, "valid") for x in (clean, found))
            np.testing.assert_allclose(after, before, atol=0.002 * np.abs(before).max())

    @pytest.mark.parametrize("rate", [4, 8, 11.025, 12])
    def test_resampling_leaves_nothing_above_half_the_rate(self, rate: float) -> None:
        clean = noise(160_000)
        found = distort(clean, Condition("resampling", rate), 0)
        assert share_between(found, 500 * rate, 8001) < -50
        whole = decibels(np.sum(found.astype(np.float64) ** 2) / np.sum(clean.astype(np.float64) ** 2))
        assert whole == pytest.approx(decibels(0.93 * rate / 16), abs=0.1)

    @pytest.mark.parametrize("speed", [0.8, 0.9, 1.1, 1.25])
    def test_speed_moves_the_pitch_and_folds_nothing_back(self, speed: float) -> None:
        time = np.arange(32_000) / SAMPLING_RATE
        clean = (np.sin(2 * np.pi * 1000 * time) + np.sin(2 * np.pi * 6500 * time)).astype(np.float32)
        played = distort(clean, Condition("speed", speed), 0)
        assert len(played) == math.ceil(32_000 / speed)
        assert share_between(played, 990 * speed, 1010 * speed) == pytest.approx(0 if speed == 1.25 else -3, abs=0.1)
        if speed == 1.25:  # 8125 Hz cannot be
            assert share_between(played, 1400, 8001) < -45


class TestMP3:
    @pytest.mark.parametrize("bitrate", MP3_BITRATES)
    def test_every_bitrate_keeps_length_and_place(self, bitrate: int) -> None:
        for samples in (4000, 20_011):
            clean = speechlike(samples)
            found = distort(clean, Condition("MP3", bitrate), 0)
            assert len(found) == samples
            assert abs(lag(clean, found)) <= 1
        assert ratio(clean, found) > (2 if bitrate < 16 else 6)

    def test_fewer_bits_are_worse(self) -> None:
        clean = speechlike() + noise(level=0.01)
        ratios = [ratio(clean, distort(clean, Condition("MP3", bitrate), 0)) for bitrate in (16, 32, 64, 128)]
        assert ratios == sorted(ratios)
        assert ratios[-1] - ratios[0] > 3


class TestAmplitude:
    @pytest.mark.parametrize("level", [-20, -10, 10])
    def test_level(self, level: float) -> None:
        clean = noise(level=0.5)
        np.testing.assert_allclose(distort(clean, Condition("level", level), 0), clean * 10 ** (level / 20), rtol=1e-6)

    @given(share=st.floats(0, 99), samples=st.integers(1, 3000), seed=st.integers(0, 100))
    @example(share=99, samples=3, seed=0)
    def test_the_share_of_samples_that_are_clipped(self, share: float, samples: int, seed: int) -> None:
        clean = noise(samples, seed)
        found = distort(clean, Condition("clipping", share), 0)
        assert np.count_nonzero(found != clean) == pytest.approx(share / 100 * samples, abs=1)
        clipped = found != clean
        assert (np.abs(found[clipped]) == np.abs(found).max()).all()
        assert (np.sign(found) == np.sign(clean)).all()

    def test_silence_around_a_clip_does_not_change_what_is_clipped_of_it(self) -> None:
        clean = noise(8000)
        found = distort(np.pad(clean, 20_000), Condition("clipping", 20), 0)
        np.testing.assert_array_equal(found[20_000:-20_000], distort(clean, Condition("clipping", 20), 0))


def test_a_seed_is_the_same_for_ever() -> None:
    assert clip_seed(0, "ravdess/03-01-01-01-01-01-01") == 5545658165501818051
    assert clip_seed(0, b"caf\xe9".decode(errors="surrogateescape")) != clip_seed(0, "caf")
