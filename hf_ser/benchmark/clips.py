"""The clips of a benchmark: made up, with the lengths and rates of the usual corpora, or real ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from datasets import Dataset, concatenate_datasets

from hf_ser.audio import SAMPLING_RATE, prepare
from hf_ser.benchmark.settings import Settings
from hf_ser.corpora import CorpusError, read_corpora
from hf_ser.encoders import minimum_samples
from hf_ser.models.load import load_config

#: Sampling rate in Hz, format, and share of the clips: CREMA-D (a half as FLAC), TESS, RAVDESS, SAVEE by their sizes.
KINDS = (
    (16_000, "wav", 0.31),
    (16_000, "flac", 0.30),
    (24_000, "wav", 0.23),
    (48_000, "wav", 0.12),
    (44_100, "wav", 0.04),
)
#: Seconds: lengths are log-normal around the median, within the limits.
MEDIAN, SPREAD, SHORTEST, LONGEST = 2.8, 0.35, 1.5, 7.0
EMOTIONS = ("angry", "happy", "neutral", "sad")
MANIFEST = "clips.csv"
PREPARED = "prepared"


def write(folder: Path, clips: int, seed: int = 0) -> list[str]:
    """
    Writes made-up clips and their manifest.

    Returns:
        What `--corpora` would be told.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    kinds = rng.choice(len(KINDS), size=clips, p=[share for *_, share in KINDS])
    kinds[: len(KINDS)] = np.arange(len(KINDS))[:clips]  # each kind once at least
    lengths = np.clip(MEDIAN * np.exp(SPREAD * rng.standard_normal(clips)), SHORTEST, LONGEST)
    rows = []
    for i, (kind, length) in enumerate(zip(rng.permutation(kinds), lengths, strict=True)):
        rate, suffix, _ = KINDS[kind]
        name = f"clip{i:05d}.{suffix}"
        soundfile.write(folder / name, voice(length, rate, rng), rate, subtype="PCM_16")
        rows.append({"path": name, "emotion": EMOTIONS[i % len(EMOTIONS)], "speaker": f"s{i % 10}"})
    pd.DataFrame(rows).to_csv(folder / MANIFEST, index=False)
    return [f"manifest={folder / MANIFEST}"]


def voice(length: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Harmonics with noise, in syllables: `(samples,)` float64 of `length` seconds at `rate` Hz."""
    time = np.arange(round(length * rate)) / rate
    pitch = rng.uniform(90, 250)
    tone = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 12))
    return 0.1 * (1.2 + np.sin(2 * np.pi * 4 * time)) * (tone + 0.1 * rng.standard_normal(len(time)))


@dataclass(frozen=True)
class BenchmarkClips:
    """
    The clips, in one order, in both ways.

    Args:
        files (`datasets.Dataset`): Undecoded rows with `audio` and `label`.
        prepared (`datasets.Dataset`): The same from the prepared corpus.
        emotions (`tuple[str, ...]`): The labels' names.
        seconds (`np.ndarray`): The clips' lengths.
    """

    files: Dataset
    prepared: Dataset
    emotions: tuple[str, ...]
    seconds: np.ndarray

    def first(self, count: int) -> "BenchmarkClips":
        """The first `count` of them."""
        rows = range(count)
        return BenchmarkClips(self.files.select(rows), self.prepared.select(rows), self.emotions, self.seconds[:count])


def load(settings: Settings) -> BenchmarkClips:
    """
    The clips of a benchmark, chosen at random from its corpora. Decodes what was not prepared yet.

    Raises:
        CorpusError: if the corpora have fewer that can be used.
    """
    corpora = read_corpora(settings.corpora)
    prepared = prepare(corpora, cache=settings.work / PREPARED, workers=settings.threads)
    least = minimum_samples(load_config(settings.model)) / SAMPLING_RATE
    usable = [
        i
        for i, (problem, seconds) in enumerate(zip(prepared["problem"][:], prepared["duration"][:], strict=True))
        if not problem and seconds >= least
    ]
    if len(usable) < settings.clips:
        raise CorpusError(
            f"--clips: {settings.clips} are asked for, and the corpora have {len(usable)} that can be used"
        )
    chosen = np.random.default_rng(settings.seed).permutation(usable)[: settings.clips].tolist()
    words = [prepared["emotion"][i] or "unknown" for i in chosen]
    emotions = tuple(sorted(set(words)))
    if len(emotions) < 2:
        raise CorpusError(f"--corpora: the clips chosen have the emotion {emotions[0]} alone; give more --clips")
    label = Dataset.from_dict({"label": [emotions.index(word) for word in words]})
    files = concatenate_datasets(corpora).select(chosen).select_columns(["audio"])
    rows = prepared.select(chosen).select_columns(["audio", "duration", "samples_hash"])
    return BenchmarkClips(
        concatenate_datasets([files, label], axis=1),
        concatenate_datasets([rows, label], axis=1),
        emotions,
        np.array(rows["duration"][:], dtype=np.float64),
    )


def describe(clips: BenchmarkClips, settings: Settings) -> dict[str, Any]:
    """What the clips are like, in seconds."""
    made_up = f"made up; log-normal lengths around {MEDIAN} s (spread {SPREAD}) within {SHORTEST} to {LONGEST} s"
    names = sorted({word.partition("=")[0] for word in settings.corpora})
    return {
        "of": made_up if settings.corpora[0].endswith(MANIFEST) else ", ".join(names),
        "clips": len(clips.seconds),
        "seconds": float(clips.seconds.sum()),
        "median": float(np.median(clips.seconds)),
        "shortest": float(clips.seconds.min()),
        "longest": float(clips.seconds.max()),
        "training_clips": settings.steps * settings.batch_size,
        "training_seconds": float(clips.seconds[: settings.steps * settings.batch_size].sum()),
        "files": [{"sampling_rate": rate, "format": kind, "share": share} for rate, kind, share in KINDS]
        if settings.corpora[0].endswith(MANIFEST)
        else None,
    }
