"""The same recording is found again, however it was changed on the way, and two takes of a sentence are not the same."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_files import write_clip

from hf_ser.audio import Fingerprint, near_duplicates, prepare, read_mono
from hf_ser.audio.distort import Condition, distort
from hf_ser.audio.similarity import ENVELOPES, THRESHOLD, fingerprint, nearest
from hf_ser.corpora import Row, to_dataset


def voice(seed: int, seconds: float = 2.0) -> np.ndarray:
    """Syllables with random pitches, formants and pauses, in silence, `(samples,)`."""
    generator = np.random.default_rng(seed)
    syllables = [np.zeros(4000)]
    while sum(map(len, syllables)) < (seconds - 0.25) * 16_000:
        time = np.arange(int(generator.integers(1500, 4000))) / 16_000
        pitch, formant = generator.uniform(90, 300), generator.uniform(300, 900)
        phase = 2 * np.pi * (pitch * time + generator.uniform(-100, 100) * time**2)
        tones = [np.sin(n * phase) * np.exp(-(((n * pitch - formant) / 300) ** 2)) for n in range(1, 12)]
        syllables.append(generator.uniform(0.3, 1) * np.hanning(len(time)) * sum(tones))
        syllables.append(np.zeros(int(generator.integers(200, 1500))))
    return np.pad(0.2 * np.concatenate(syllables), (0, 4000)).astype(np.float32)


def changed(kind: str, level: float | None = None) -> Callable[[np.ndarray], np.ndarray]:
    return lambda clip: distort(clip, Condition(kind, level), 1)


def all_at_once(clip: np.ndarray) -> np.ndarray:
    clip = changed("level", -12)(clip[3333:])
    return changed("MP3", 32)(changed("resampling", 8)(changed("white noise", 20)(clip)))


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "softer": changed("level", -20),
    "louder than can be": changed("level", 20),
    "upside down": lambda clip: -clip,
    "silence before and after": lambda clip: np.pad(clip, (8000, 5000)),
    "cut": lambda clip: clip[3500:-3500],
    "moved by less than a sample of the fingerprint": lambda clip: np.pad(clip, (4323, 0)),
    "8 kHz": changed("resampling", 8),
    "11.025 kHz": changed("resampling", 11.025),
    "MP3 of 64 kbit/s": changed("MP3", 64),
    "MP3 of 16 kbit/s": changed("MP3", 16),
    "white noise": changed("white noise", 20),
    "pink noise": changed("pink noise", 20),
    "DC": lambda clip: clip + np.float32(0.1),
    "all at once": all_at_once,
}


@pytest.fixture(scope="module")
def voices() -> list[np.ndarray]:
    return [voice(seed) for seed in range(12)]


@pytest.fixture(scope="module")
def prints(voices: list[np.ndarray]) -> list[Fingerprint]:
    return [fingerprint(clip) for clip in voices]


class TestSynthetic:
    @pytest.mark.parametrize("change", CHANGES)
    def test_a_changed_copy_is_found_and_nothing_else(
        self, voices: list[np.ndarray], prints: list[Fingerprint], change: str
    ) -> None:
        second = [fingerprint(CHANGES[change](voices[n])) for n in (7, 3)]
        found = near_duplicates(prints, second)
        assert [(i, j) for i, j, _ in found] == [(3, 1), (7, 0)]
        assert all(0.9 < value <= 1 for *_, value in found)

    @given(shift=st.integers(0, 8000), level=st.floats(0.001, 5))
    def test_shifts_and_levels_do_not_matter(self, shift: int, level: float) -> None:
        clip = voice(0, 1.0)
        moved = fingerprint(np.pad(np.float32(level) * clip, (shift, 0)))
        assert near_duplicates([fingerprint(clip)], [moved], threshold=0.95)

    def test_different_clips_are_no_duplicates(self, prints: list[Fingerprint]) -> None:
        assert near_duplicates(prints[:6], prints[6:], 0.5) == []

    def test_the_very_same_samples_are_all_found(self, voices: list[np.ndarray]) -> None:
        """However many copies there are, of however short a clip, even of a silent one."""
        for clip in (voices[0], voices[0][4000:4400], np.zeros(400, np.float32)):
            same, other = fingerprint(clip), fingerprint(voices[1])
            found = near_duplicates([same] * 20 + [other], [other, same, same])
            assert found == [(i, j, 1.0) for i in range(20) for j in (1, 2)] + [(20, 0, 1.0)]

    def test_short_and_silent_clips_are_not_compared_further(self) -> None:
        short = [fingerprint(voice(0)[4000:10_000]), fingerprint(0.5 * voice(0)[4000:10_000])]
        assert near_duplicates(short[:1], short[1:]) == []
        silent = [fingerprint(np.zeros(20_000, np.float32)), fingerprint(np.zeros(30_000, np.float32))]
        assert near_duplicates(silent[:1], silent[1:]) == []
        assert fingerprint(np.ones(1, np.float32)).envelope.shape == silent[0].envelope.shape

    def test_a_piece_is_similar_by_its_share_of_the_energy(self, voices: list[np.ndarray]) -> None:
        clip = voices[0]
        piece = clip[: len(clip) * 2 // 3]
        share = np.sqrt(np.sum(np.square(piece)) / np.sum(np.square(clip)))
        [(_, _, value)] = near_duplicates([fingerprint(clip)], [fingerprint(piece)], 0.5)
        assert value == pytest.approx(share, abs=0.1)

    def test_empty_sets(self, voices: list[np.ndarray]) -> None:
        one = fingerprint(voices[0])
        assert near_duplicates([], [one]) == near_duplicates([one], []) == []

    def test_the_hash_is_that_of_prepared_corpora(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "a/1.wav")
        prepared = prepare([to_dataset([Row(str(path), "1", "sad")], "a")], tmp_path / "cache", 1)
        assert fingerprint(read_mono(prepared[0]["audio"])).samples_hash == prepared[0]["samples_hash"]


class TestNearest:
    @given(
        sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
        neighbours=st.integers(1, 5),
        block=st.integers(1, 50),
        seed=st.integers(0, 100),
    )
    def test_it_is_what_a_full_matrix_gives(
        self, sizes: tuple[int, int], neighbours: int, block: int, seed: int
    ) -> None:
        generator = np.random.default_rng(seed)
        first, second = (1 + 0.5 * generator.standard_normal((size, 20)).astype(np.float32) for size in sizes)
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        second /= np.linalg.norm(second, axis=1, keepdims=True)
        cosines = second @ first.T
        best = np.argsort(-cosines, axis=1)[:, :neighbours]
        expected = {(int(i), j) for j in range(len(second)) for i in best[j] if cosines[j, i] >= ENVELOPES}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hf_ser.audio.similarity.BLOCK", block)
            found = nearest(first, second, neighbours)
        assert len(found) == len(expected)
        assert {(i, j) for i, j in found.tolist()} == expected


class TestRealSpeech:
    """RAVDESS: 03-01-emotion-intensity-statement-repetition-actor."""

    @pytest.fixture(scope="class")
    def clips(self, shared: Path) -> dict[str, np.ndarray]:
        paths = sorted((shared / "data/ravdess/Actor_07").glob("*.flac"))
        return {path.stem: read_mono(str(path)) for path in paths}

    def test_takes_are_no_duplicates_and_the_one_true_duplicate_is_found(self, clips: dict[str, np.ndarray]) -> None:
        takes = [{name: fingerprint(clips[name]) for name in clips if name.split("-")[5] == n} for n in ("01", "02")]
        assert len(takes[0]) > 25
        found = near_duplicates(list(takes[0].values()), list(takes[1].values()))
        pairs = [(list(takes[0])[i], list(takes[1])[j], value) for i, j, value in found]
        assert pairs == [("03-01-03-01-02-01-07", "03-01-03-01-02-02-07", 1.0)]
        below = near_duplicates(list(takes[0].values()), list(takes[1].values()), 0.01)
        assert sorted(value for *_, value in below)[-2] < THRESHOLD - 0.15
