from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hf_ser.clips import load_corpora
from hf_ser.corpora import read, synthetic
from hf_ser.emotions import DIMENSIONS, EMOTIONS


def test_it_is_the_same_every_time_and_differs_with_the_seed(tmp_path: Path) -> None:
    def made(name: str, speakers: int = 2, clips: int = 1, seed: int = 0) -> tuple[dict[str, bytes], list[str]]:
        folder = tmp_path / name
        synthetic.make(folder, speakers=speakers, clips_per_emotion=clips, seed=seed)
        samples = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.wav")}
        return samples, (folder / "ratings.csv").read_text().splitlines()

    samples, ratings = made("first")
    assert made("again") == (samples, ratings)
    assert len(ratings) == 1 + 5 * 16
    more, more_ratings = made("more", speakers=3, clips=2)
    assert samples.items() < more.items()
    assert set(ratings) < set(more_ratings)
    other, other_ratings = made("other", seed=1)
    assert other.keys() == samples.keys()
    assert other != samples
    assert other_ratings != ratings


def test_its_rows(speech: Path) -> None:
    [rows] = read(f"synthetic={speech}")
    assert Counter(rows["emotion"][:]) == dict.fromkeys(EMOTIONS, 12)
    assert Counter(rows["gender"][:]) == {"female": 48, "male": 48}
    assert len(set(rows["speaker"][:])) == 6


def test_clips_are_audible_and_short(speech: Path) -> None:
    for path in speech.rglob("*.wav"):
        samples, rate = soundfile.read(path)
        assert rate == 16_000
        assert 0.5 < len(samples) / rate < 2.5
        assert 0.01 < np.abs(samples).max() <= 1


def pitch(path: str) -> float:
    """The median pitch in Hz, from the autocorrelation of 40 ms frames that are loud enough to be voiced."""
    samples, rate = soundfile.read(path)
    frames = samples[: len(samples) // 640 * 640].reshape(-1, 640)
    frames = frames[frames.std(axis=1) > np.median(frames.std(axis=1))]
    spectra = np.abs(np.fft.rfft(frames * np.hanning(640), 2048)) ** 2
    lags = np.fft.irfft(spectra)[:, rate // 500 : rate // 70]
    return float(np.median(rate / (lags.argmax(axis=1) + rate // 500)))


def test_the_emotion_is_in_the_voice(speech: Path) -> None:
    for folder in filter(Path.is_dir, speech.iterdir()):
        surprise, sad = (
            np.mean([pitch(str(path)) for path in folder.glob(f"*_{emotion}_*")]) for emotion in ("surprise", "sad")
        )
        assert surprise > 1.1 * sad, folder.name


def test_it_is_made_where_it_is_asked_for_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_make = synthetic.make
    monkeypatch.setattr(synthetic, "make", lambda folder: true_make(folder, speakers=2, clips_per_emotion=1))
    [first] = read(f"synthetic={tmp_path / 'new/corpus'}")
    monkeypatch.setattr(synthetic, "make", None)
    [again] = read(f"synthetic={tmp_path / 'new/corpus'}")
    assert len(first) == 16
    assert first[:] == again[:]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match=str(tmp_path)):
        synthetic.make(tmp_path)


def test_an_interruption_leaves_nothing_that_looks_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def interrupted(path: object, *_: object, **__: object) -> None:
        written.append(path)
        if len(written) > 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(synthetic.soundfile, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthetic.make(tmp_path / "corpus", speakers=1, clips_per_emotion=1)
    assert list(tmp_path.iterdir()) == []


def test_most_raters_choose_the_emotion_and_their_mean_is_the_clip_s(speech: Path) -> None:
    [rows] = read(f"synthetic={speech}")
    unanimous = 0
    for row in rows:
        votes = Counter(row["votes"])
        assert votes.total() == 5
        assert votes[row["emotion"]] >= 3
        unanimous += votes[row["emotion"]] == 5
        for name in DIMENSIONS:
            assert row[name] == pytest.approx(np.mean(row[f"{name}_ratings"]), abs=1e-6)
            assert set(row[f"{name}_ratings"]) <= set(range(1, 8))
    assert 0.2 < unanimous / len(rows) < 0.6
    # Someone who knows the emotion alone knows most of the dimensions.
    emotions = np.array([EMOTIONS.index(emotion) for emotion in rows["emotion"][:]])
    for name in DIMENSIONS:
        values = np.array(rows[name][:])
        means = np.array([values[emotions == k].mean() for k in range(8)])[emotions]
        assert means.var() / values.var() > 0.9


def test_it_is_known_how_far_its_raters_agree(speech: Path) -> None:
    found = load_corpora([f"synthetic={speech}"]).info.agreement["synthetic"]
    assert {name: (of["raters"], of["clips"]) for name, of in found.items()} == dict.fromkeys(
        ("emotion", *DIMENSIONS), (5, 96)
    )
    assert all(0.6 < of["alpha"] < 0.95 for of in found.values())
