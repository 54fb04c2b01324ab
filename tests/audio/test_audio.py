"""Decoding, preparing, segmenting and augmenting waveforms."""

import math
import os
import platform
import struct
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset, Features, Value
from hypothesis import given
from hypothesis import strategies as st
from small_files import write_clip

from hf_ser.audio import SAMPLING_RATE, AudioError, Augmentation, cut, prepare, read_mono, read_segment
from hf_ser.audio import augment as augmenting
from hf_ser.audio.decode import encode, resample
from hf_ser.audio.distort import Condition, distort
from hf_ser.corpora import Row, read, to_dataset


def pitch(waveform: np.ndarray) -> float:
    """The frequency of a tone, in Hz."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 1 << 18))
    return float(spectrum.argmax()) * SAMPLING_RATE / (1 << 18)


class TestDecode:
    @pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
    def test_every_format_at_any_rate_with_any_channels_becomes_16_khz_mono(self, tmp_path: Path, suffix: str) -> None:
        path = write_clip(tmp_path / f"a{suffix}", seconds=1.0, rate=44_100, frequency=440, channels=2)
        waveform = read_mono(str(path))
        assert waveform.dtype == np.float32
        assert len(waveform) == pytest.approx(SAMPLING_RATE, abs=1200 if suffix == ".mp3" else 2)
        assert pitch(waveform) == pytest.approx(440, abs=2)
        assert np.abs(waveform).max() == pytest.approx(0.3, abs=0.05)

    @pytest.mark.parametrize("rate", [8000, 11_025, 44_099, 44_100, 96_000])
    def test_any_rate_becomes_16_khz(self, rate: int) -> None:
        """One that shares few factors with 16,000 would need gigabytes of filters."""
        seconds = 1.5
        tone = np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate).astype(np.float32)
        found = resample(tone, rate)
        expected = np.sin(2 * np.pi * 440 * np.arange(len(found)) / 16_000)
        assert len(found) == pytest.approx(seconds * 16_000, abs=1)
        np.testing.assert_allclose(found[500:-500], expected[500:-500], atol=0.01)

    def test_a_long_file_is_read_in_blocks_and_its_channels_are_averaged(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        samples = np.random.default_rng(0).uniform(-0.5, 0.5, (5001, 3)).astype(np.float32)
        soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
        monkeypatch.setattr("hf_ser.audio.decode.BLOCK", 1000)
        np.testing.assert_allclose(read_mono(str(tmp_path / "a.wav")), samples.mean(axis=1), atol=1e-7)


def file_of(samples: np.ndarray, format: str = "WAV", subtype: str | None = "FLOAT") -> bytes:
    """A file at 16 kHz."""
    buffer = BytesIO()
    soundfile.write(buffer, samples, 16_000, format=format, subtype=subtype)
    return buffer.getvalue()


def encoded(format: str, seconds: float = 4.0, channels: int = 1) -> bytearray:
    """A tone as a file of some format."""
    tone = 0.3 * np.sin(np.arange(round(seconds * 16_000)) / 20)
    return bytearray(file_of(np.stack([tone] * channels, axis=1), format, None))


def claims_samples(format: str, samples: int, channels: int = 1) -> bytes:
    """A file of 4 s whose header claims to have `samples`."""
    content = encoded(format, channels=channels)
    if format == "MP3":  # the Xing header counts frames, of 576 samples at 16 kHz
        at = content.index(b"Xing") + 8
        content[at : at + 4] = struct.pack(">I", samples // 576)
    elif format == "FLAC":  # the last 36 bits before the checksum in STREAMINFO
        assert content[:4] == b"fLaC"
        content[21] = content[21] & 0xF0 | samples >> 32
        content[22:26] = struct.pack(">I", samples & 0xFFFFFFFF)
    else:  # WAV: the size of the data, and of everything
        at = content.index(b"data") + 4
        content[at : at + 4] = struct.pack("<I", 2 * channels * samples)
        content[4:8] = struct.pack("<I", 2 * channels * samples + 36)
    return bytes(content)


class TestDamagedFiles:
    @pytest.mark.parametrize("format", ["MP3", "WAV"])
    @pytest.mark.parametrize("channels", [1, 2])
    def test_only_the_samples_that_are_there_are_decoded(self, format: str, channels: int) -> None:
        """And no memory is taken for the others: 10 minutes would be 38 MB for each channel."""
        audio = {"bytes": claims_samples(format, 600 * 16_000, channels), "path": None}
        tracemalloc.start()
        try:
            waveform = read_mono(audio)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 20e6
        assert len(waveform) == pytest.approx(4 * 16_000, abs=1200)
        assert np.abs(waveform).max() == pytest.approx(0.3, abs=0.05)

    def test_a_flac_that_ends_before_its_header_says_is_unreadable(self) -> None:
        with pytest.raises(AudioError, match="^unreadable"):
            read_mono({"bytes": claims_samples("FLAC", 600 * 16_000), "path": None})

    @pytest.mark.parametrize("rate", [1, 3999, 384_001, (1 << 31) - 1])
    def test_a_sampling_rate_that_no_recording_has_is_refused(self, rate: int) -> None:
        content = encoded("WAV", 0.5)
        content[24:28] = struct.pack("<I", rate)
        with pytest.raises(AudioError, match=f"its sampling rate is {rate} Hz, and must be from 4000 to 384000 Hz"):
            read_mono({"bytes": bytes(content), "path": None})

    @pytest.mark.parametrize(("rate", "samples"), [(16_000, 32_000), (8000, 16_000), (48_000, 96_000)])
    def test_a_recording_longer_than_the_limit_is_refused(self, rate: int, samples: int, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "a.flac", np.sin(np.arange(samples)) / 2, rate)
        assert len(read_mono(str(tmp_path / "a.flac"), longest=2.0)) == 32_000
        with pytest.raises(
            AudioError, match=r"^too long: it lasts more than 0\.0332 minutes at .* cut it into shorter files"
        ):
            read_mono(str(tmp_path / "a.flac"), longest=1.99)

    @pytest.mark.skipif(
        platform.libc_ver()[0] != "glibc", reason="elsewhere stderr of the C library cannot be replaced"
    )
    def test_libmpg123_prints_nothing_and_others_still_print(self, capfd: pytest.CaptureFixture[str]) -> None:
        content = bytearray(claims_samples("MP3", 600 * 16_000))
        content[len(content) // 2 : len(content) // 2 + 300] = bytes(300)
        audio = {"bytes": bytes(content), "path": None}
        soundfile.read(BytesIO(content))
        assert "Illegal Audio-MPEG-Header" in capfd.readouterr().err
        with ThreadPoolExecutor(2) as pool:
            reading = [pool.submit(read_mono, audio) for _ in range(200)]
            printed = 0
            while not all(future.done() for future in reading):
                print("x", end="", file=sys.stderr, flush=True)
                printed += 1
            assert subprocess.run([sys.executable, "-c", "import os; os.write(2, b'y')"], check=True)
        assert capfd.readouterr().err == "x" * printed + "y"
        soundfile.read(BytesIO(content))
        assert "Illegal Audio-MPEG-Header" in capfd.readouterr().err


BAD = {
    "unreadable": b"this is no audio",
    "empty": file_of(np.zeros(0)),
    "silent": file_of(np.full(8000, 2e-5)),
    "too loud": file_of(np.array([0.1, 1e30] * 4000)),
    "not finite": file_of(np.array([0.1, np.nan] * 4000)),
}


def test_a_segment_is_the_same_as_the_piece_of_the_whole(tmp_path: Path) -> None:
    content = {"bytes": write_clip(tmp_path / "a.wav", seconds=2.0).read_bytes(), "path": None}
    np.testing.assert_array_equal(read_segment(content, 5000, 9000), read_mono(content)[5000:9000])


def save_data_set(folder: Path, content: bytes) -> None:
    """A data set of one clip, with its audio inside."""
    struct = Features({"audio": {"bytes": Value("binary"), "path": Value("string")}, "label": Value("string")})
    data = Dataset.from_dict({"audio": [{"bytes": content, "path": None}], "label": ["sad"]}, features=struct)
    data.cast_column("audio", Audio(decode=False)).save_to_disk(folder)


class TestPrepare:
    def prepared(self, folder: Path, emotion: str = "sad") -> Dataset:
        """The clips of a folder; the cache is beside it."""
        rows = [Row(str(path), path.stem, emotion) for path in sorted(folder.glob("*.*"))]
        return prepare([to_dataset(rows, "a")], folder.parent / "cache", 2)

    def test_16_bit_16_khz_mono_keeps_its_very_samples(self, shared: Path, tmp_path: Path) -> None:
        rows = read(f"ravdess={shared / 'data/ravdess/Actor_05'}")[0].select(range(3))
        for row, before in zip(prepare([rows], tmp_path, 1), rows, strict=True):
            samples, _ = soundfile.read(before["audio"]["path"], dtype="float32")
            np.testing.assert_array_equal(read_mono(row["audio"]), samples)

    @pytest.mark.parametrize("reason", sorted(BAD))
    def test_a_bad_clip_among_good_ones_has_its_problem(self, tmp_path: Path, reason: str) -> None:
        for n in range(3):
            write_clip(tmp_path / f"a/good{n}.wav")
        (tmp_path / "a/bad.wav").write_bytes(BAD[reason])
        prepared = self.prepared(tmp_path / "a")
        assert dict(zip(prepared["clip"][:], prepared["problem"][:], strict=True)) == {
            "a/bad": reason,
            "a/good0": "",
            "a/good1": "",
            "a/good2": "",
        }
        assert str(tmp_path) not in str(prepared["detail"][:])

    def test_a_file_that_is_gone_is_unreadable(self, tmp_path: Path) -> None:
        rows = [Row(str(path), path.stem, "sad") for path in (write_clip(tmp_path / "a/1.wav"), tmp_path / "a/2.wav")]
        prepared = prepare([to_dataset(rows, "a")], tmp_path / "cache", 1)
        assert prepared["problem"][:] == ["", "unreadable"]
        assert prepared["detail"][1] == f"there is no file {str(tmp_path / 'a/2.wav')!r}"

    def test_nothing_is_decoded_twice(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for n in range(4):
            write_clip(tmp_path / f"a/{n}.wav")
        first = self.prepared(tmp_path / "a")

        def no_decoding(*_: object) -> None:
            raise AssertionError("decoded again")

        monkeypatch.setattr("hf_ser.audio.preparation._decode_one", no_decoding)
        again = self.prepared(tmp_path / "a", "happy")
        assert again["samples_hash"][:] == first["samples_hash"][:]
        assert again["emotion"][:] == ["happy"] * 4

    def test_a_file_that_changes_is_decoded_again(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a/1.wav", frequency=200)
        before = self.prepared(tmp_path / "a")["samples_hash"][0]
        write_clip(path, frequency=300)
        os.utime(path, ns=(1, 1))
        assert before != self.prepared(tmp_path / "a")["samples_hash"][0]

    def test_data_sets_that_differ_in_one_sample_do_not_share_audio(self, tmp_path: Path) -> None:
        loudest = []
        for level in (0.25, 0.5):
            samples = np.zeros(16_000, np.float32)
            samples[8000] = level
            save_data_set(tmp_path / str(level) / "mine", encode(samples, "PCM_16"))
            (row,) = prepare(read(f"dataset={tmp_path / str(level) / 'mine'}"), tmp_path / "cache", 1)
            loudest.append(read_mono(row["audio"]).max())
        assert loudest == [0.25, 0.5]

    @pytest.mark.parametrize("package", ["hf_ser", "torchaudio", "soundfile"])
    def test_another_version_of_what_decodes_and_resamples_decodes_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
    ) -> None:
        write_clip(tmp_path / "a/1.wav", rate=8000)
        for version in ("1.0", "1.0", "1.1"):
            monkeypatch.setattr(
                "hf_ser.audio.preparation.version",
                {"hf_ser": "0", "torchaudio": "0", "soundfile": "0", package: version}.get,
            )
            self.prepared(tmp_path / "a")
        assert len(list((tmp_path / "cache/corpora").glob("*/files.json"))) == 2

    def test_a_data_set_with_its_own_bytes_is_found_again(self, tmp_path: Path) -> None:
        save_data_set(tmp_path / "mine", write_clip(tmp_path / "1.wav").read_bytes())
        for _ in range(2):
            assert prepare(read(f"dataset={tmp_path / 'mine'}"), tmp_path / "cache", 1)["problem"][:] == [""]
            assert len(list((tmp_path / "cache/corpora").glob("*/files.json"))) == 1


class TestSegments:
    @given(
        sizes=st.lists(st.integers(1, 200_000), max_size=10),
        length=st.floats(0.1, 5),
        overlap_share=st.floats(0, 0.95),
    )
    def test_segments_cover_each_clip_and_stay_inside_it(
        self, sizes: list[int], length: float, overlap_share: float
    ) -> None:
        segments = cut(sizes, length, length * overlap_share)
        window = round(length * SAMPLING_RATE)
        for clip, size in enumerate(sizes):
            mine = segments.clip == clip
            starts, stops = segments.start[mine], segments.stop[mine]
            assert starts[0] == 0
            assert stops[-1] == size
            assert (starts[1:] <= stops[:-1]).all(), "a gap between two segments"
            assert (np.diff(starts) > 0).all()
            assert (stops - starts == min(window, size)).all()

    @pytest.mark.parametrize(
        ("length", "overlap"), [(0, 0), (-1, 0), (math.nan, 0), (math.inf, 0), (2, 2), (2, -0.5), (2, math.nan)]
    )
    def test_impossible_lengths(self, length: float, overlap: float) -> None:
        with pytest.raises(ValueError, match="segment_"):
            cut([16_000], length, overlap)


class TestAugmentation:
    ALL = Augmentation(noise_probability=1, pitch_probability=1, stretch_probability=1, mask_probability=1,
                       speed_probability=1, distort_probability=1,
                       distort_kinds=["white noise", "pink noise", "reverberation"])  # fmt: skip

    @pytest.fixture
    def waveform(self) -> torch.Tensor:
        return torch.sin(2 * torch.pi * 300 * torch.arange(24_000) / SAMPLING_RATE) * 0.3

    def test_the_same_seed_gives_the_same_and_another_seed_another(self, waveform: torch.Tensor) -> None:
        torch.manual_seed(1)
        before = waveform.clone()
        first = self.ALL(waveform, 7)
        torch.manual_seed(2)
        assert torch.equal(first, self.ALL(waveform, 7))
        assert torch.equal(before, waveform)
        assert not torch.equal(first, self.ALL(waveform, 8)[: len(first)])

    def test_noise_has_the_ratio_it_was_asked_for(self, waveform: torch.Tensor) -> None:
        noisy = Augmentation(noise_probability=1, noise_snr=[15, 15], speed_probability=0, distort_probability=0)(
            waveform, 0
        )
        noise = noisy - waveform
        assert 10 * torch.log10(waveform.square().mean() / noise.square().mean()) == pytest.approx(15, abs=0.1)

    @pytest.mark.parametrize("rate", [0.8, 1.25])
    def test_stretching_changes_the_length_and_not_the_pitch(self, waveform: torch.Tensor, rate: float) -> None:
        stretched = augmenting.time_stretch(waveform, rate)
        assert len(stretched) == round(len(waveform) / rate)
        assert pitch(stretched.numpy()) == pytest.approx(300, abs=3)

    @pytest.mark.parametrize("semitones", [-3, 2, 5])
    def test_shifting_changes_the_pitch_and_not_the_length(self, waveform: torch.Tensor, semitones: float) -> None:
        shifted = augmenting.pitch_shift(waveform, semitones)
        assert len(shifted) == len(waveform)
        assert pitch(shifted.numpy()) == pytest.approx(300 * 2 ** (semitones / 12), rel=0.01)

    def test_masking_silences_its_share(self) -> None:
        masked = Augmentation(mask_probability=1, mask_share=[0.1, 0.15])(torch.ones(16_000), 5)
        assert 0.1 <= (masked == 0).float().mean() <= 0.15

    def test_probabilities_are_kept(self) -> None:
        some = Augmentation(mask_probability=0.3)
        happened = np.mean([bool((some(torch.ones(2000), seed) == 0).any()) for seed in range(500)])
        assert happened == pytest.approx(0.3, abs=0.07)

    @pytest.mark.parametrize("rate", [0.9, 1.1, 1.234])
    def test_speed_changes_length_and_pitch_together(self, waveform: torch.Tensor, rate: float) -> None:
        faster = Augmentation(speed_probability=1, speed_rate=[rate, rate], distort_probability=0)(waveform, 0)
        assert len(faster) == pytest.approx(len(waveform) / round(rate, 2), abs=1)
        assert pitch(faster.numpy()) == pytest.approx(300 * round(rate, 2), rel=0.002)
        assert faster.dtype == torch.float32

    @pytest.mark.parametrize("kind", [kind for kind, levels in augmenting.DISTORT_LEVELS.items() if levels])
    def test_a_distortion_is_a_condition_at_a_level_of_its_range(self, waveform: torch.Tensor, kind: str) -> None:
        voices = [np.random.default_rng(n).standard_normal(9000).astype(np.float32) for n in range(5)]
        found = Augmentation(distort_probability=1, distort_kinds=[kind])(waveform, 5, lambda: voices)
        lowest, highest = (
            distort(waveform.numpy(), Condition(kind, level), 5, voices) - waveform.numpy()
            for level in augmenting.DISTORT_LEVELS[kind]
        )
        change = found.numpy() - waveform.numpy()
        power = [np.square(noise).sum() for noise in (lowest, change, highest)]
        assert min(power) < power[1] < max(power)
        if kind != "reverberation":  # the same noise, at another ratio
            assert np.corrcoef(change, lowest)[0, 1] == pytest.approx(1, abs=1e-4)

    def test_a_telephone_band_has_no_level(self, waveform: torch.Tensor) -> None:
        found = Augmentation(speed_probability=0, distort_probability=1, distort_kinds=["telephone band"])(waveform, 5)
        assert np.array_equal(found.numpy(), distort(waveform.numpy(), Condition("telephone band"), 0))

    def test_silent_voices_make_no_babble(self, waveform: torch.Tensor) -> None:
        babble = Augmentation(distort_probability=1, distort_kinds=["babble"], speed_probability=0)
        silence = [np.zeros(400, dtype=np.float32)] * 5
        assert torch.equal(babble(waveform, 0, lambda: silence), waveform)

    @pytest.mark.parametrize("samples", [400, 700, 4000])
    def test_short_clips_are_no_trouble(self, samples: int) -> None:
        assert torch.isfinite(self.ALL(torch.randn(samples) * 0.1, 0)).all()

    @pytest.mark.parametrize(
        "changes",
        [
            {"noise_probability": 1.5},
            {"noise_snr": [30, 10]},
            {"pitch_semitones": [1]},
            {"stretch_rate": [0, 1]},
            {"mask_share": [0.5, 1]},
            {"speed_probability": -1},
            {"speed_rate": [0.9, 5]},
            {"speed_rate": [0, 1]},
            {"distort_probability": 2},
            {"distort_kinds": []},
            {"distort_kinds": ["MP3"]},
            {"mixup_alpha": -0.1},
            {"mixup_alpha": math.nan},
        ],
    )
    def test_what_makes_no_sense_is_refused(self, changes: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=f"{next(iter(changes))}"):
            Augmentation(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("corpus", ["what?", "../../x", "..", "a/b", "<b>x</b> & y"])
def test_a_corpus_may_have_any_name_and_stays_in_the_cache(corpus: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 800), 16_000)
    rows = to_dataset([Row(str(tmp_path / "a.wav"), "a", "sad")], corpus)
    assert prepare([rows], tmp_path / "cache", 1)["problem"][:] == [""]
    (folder,) = [path for path in (tmp_path / "cache" / "corpora").iterdir() if path.is_dir()]
    assert (folder / "files.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav", "cache"}
