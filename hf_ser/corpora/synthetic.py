"""
A synthetic corpus of emotional "speech" for the demo and the tests: nothing to download, ready in seconds, the same bytes every
time. The clips are babble: a glottal source whose pitch, loudness and brightness change as in speech, filtered by the formants
of one vowel per syllable. Only the prosody depends on the emotion. Speakers differ in voice and habits, so that a model
recognises the emotions of new speakers, but not perfectly.

Five raters judge each clip: the emotion, and arousal, valence and dominance. They follow from the emotion and the loudness, and
differ between raters.

Metrics on this corpus show that the code works. They show nothing about people.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
from numpy.typing import NDArray

from hf_ser.cache import cache_folder
from hf_ser.emotions import DIMENSIONS, EMOTIONS

NAME = "synthetic"
RATE = 16_000  # Hz
FRAME, HOP = 512, 128  # samples: 32 ms, 8 ms

Samples = NDArray[np.float64]


@dataclass(frozen=True)
class Prosody:
    """The prosody of an emotion, the same for all speakers."""

    pitch: float  # semitones above the speaker's own pitch
    accent: float  # semitones (standard deviation) by which syllables rise and fall
    slope: float  # semitones from the clip's beginning to its end
    tremor: float  # semitones, a 7 Hz shake of the voice
    tempo: float  # syllables per second
    pause: float  # chance that a syllable is left silent
    level: float  # dB above the speaker's own loudness, over the same room noise
    dynamics: float  # dB (standard deviation) between syllables
    brightness: float  # Hz within which the voice's harmonics fall to 1/e: its spectral tilt
    breath: float  # loudness of the breath beside the voice, 0 to 1


PROSODY = {
    "angry": Prosody(4.0, 2.5, -2.0, 0.0, 5.8, 0.02, 8.0, 4.0, 3200, 0.03),
    "calm": Prosody(-1.0, 0.8, -1.0, 0.0, 3.2, 0.10, -5.0, 1.0, 800, 0.10),
    "disgust": Prosody(-3.0, 2.0, -6.0, 0.0, 2.8, 0.20, 0.0, 4.0, 2000, 0.03),
    "fear": Prosody(6.0, 1.0, 1.0, 1.0, 6.6, 0.12, -4.0, 2.0, 1300, 0.50),
    "happy": Prosody(4.0, 3.5, 2.0, 0.0, 4.8, 0.02, 4.0, 2.0, 1900, 0.05),
    "neutral": Prosody(0.0, 1.2, -2.0, 0.0, 4.4, 0.05, 0.0, 1.5, 1300, 0.05),
    "sad": Prosody(-2.0, 0.7, -3.0, 0.2, 2.3, 0.20, -10.0, 1.5, 550, 0.35),
    "surprise": Prosody(6.0, 2.0, 9.0, 0.0, 3.8, 0.05, 2.0, 2.5, 1900, 0.15),
}

#: Arousal, valence and dominance of the emotions, from 1 to 7.
PLACES = {
    "angry": (6.2, 1.8, 6.0),
    "calm": (1.8, 5.6, 4.6),
    "disgust": (4.0, 2.0, 5.0),
    "fear": (5.8, 2.2, 1.8),
    "happy": (5.6, 6.2, 5.4),
    "neutral": (3.4, 4.2, 4.0),
    "sad": (2.0, 2.4, 2.2),
    "surprise": (6.0, 5.0, 3.2),
}
RATERS = 5

# First three formants of a man's vowels in Hz: a, e, i, o, u and schwa.
VOWELS = np.array(
    [[730, 1090, 2440], [530, 1840, 2480], [270, 2290, 3010], [570, 840, 2410], [300, 870, 2240], [500, 1500, 2500]],
    float,
)
BANDWIDTHS = np.array([80.0, 110.0, 160.0])  # Hz
LOUDNESS = np.array([1.0, 0.6, 0.35])  # of each formant's resonance


@dataclass(frozen=True)
class Speaker:
    """A voice and its habits, which are the same for every emotion."""

    name: str
    pitch: float  # Hz
    tract: float  # formants are those of `VOWELS` times this: a shorter vocal tract has higher ones
    accent: float  # times the emotion's
    tempo: float  # times the emotion's
    brightness: float  # times the emotion's
    level: float  # dB

    @classmethod
    def draw(cls, index: int, rng: np.random.Generator) -> "Speaker":
        woman = index % 2 == 0
        return cls(
            name=f"{'f' if woman else 'm'}{index + 1:02d}",
            pitch=(200 if woman else 120) * 2 ** (rng.normal(0, 0.8) / 12),
            tract=(1.16 if woman else 1.0) * rng.uniform(0.97, 1.03),
            accent=np.exp(rng.normal(0, 0.12)),
            tempo=np.exp(rng.normal(0, 0.06)),
            brightness=np.exp(rng.normal(0, 0.10)),
            level=rng.normal(0, 1.0),
        )


def make(folder: Path, *, speakers: int = 24, clips_per_emotion: int = 6, seed: int = 0) -> None:
    """
    Writes the corpus as `folder/<speaker>/<speaker>_<emotion>_<nn>.wav`: 16 kHz, mono, 16 bit, 0.9 to 1.8 s per clip. The same
    arguments give the same bytes. `folder/ratings.csv` has a line for each clip and rater. The folder appears when it is
    complete.

    Args:
        folder (`Path`): The folder of the corpus. It must not exist, or be empty.
        speakers (`int`, *optional*, defaults to 24): The number of speakers, women and men in turn: `f01`, `m02`, `f03`, ...
        clips_per_emotion (`int`, *optional*, defaults to 6): The number of clips of each speaker and emotion.
        seed (`int`, *optional*, defaults to 0): Another seed gives other speakers and other clips.

    Raises:
        FileExistsError: if `folder` is a file, or is not empty.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise FileExistsError(f"{folder} already exists: remove it, or give another folder for the synthetic corpus.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as partial:
        whole = Path(partial) / folder.name
        whole.mkdir()
        judged: list[tuple[object, ...]] = [("clip", "rater", "emotion", *DIMENSIONS)]
        for index in range(speakers):
            speaker = Speaker.draw(index, np.random.default_rng((seed, index)))
            (whole / speaker.name).mkdir()
            for code, emotion in enumerate(EMOTIONS):
                for clip in range(clips_per_emotion):
                    # Counted from 1: to numpy, the seeds (0, 1) and (0, 1, 0, 0) are the same.
                    rng = np.random.default_rng((seed, index, 1 + code, 1 + clip))
                    file = whole / speaker.name / f"{speaker.name}_{emotion}_{1 + clip:02d}.wav"
                    samples = babble(speaker, PROSODY[emotion], rng)
                    soundfile.write(file, samples, RATE, subtype="PCM_16")
                    rng = np.random.default_rng((seed, index, 1 + code, 1 + clip, 1))  # the samples' stays as it was
                    judged += [(file.stem, *judgement) for judgement in judgements(emotion, samples, rng)]
        with (whole / "ratings.csv").open("w", newline="", encoding="utf-8") as table:
            csv.writer(table).writerows(judged)
        whole.rename(folder)


def judgements(emotion: str, samples: Samples, rng: np.random.Generator) -> list[tuple[object, ...]]:
    """Each rater's name, emotion, arousal, valence and dominance. At most two of five choose a neighbouring emotion."""
    place = np.array(PLACES[emotion])
    louder = 20 * np.log10(samples.std()) + 26 - PROSODY[emotion].level  # dB, than the emotion is for all speakers
    true = place + 0.15 * louder * np.array([1, 0, 1])
    rated = np.clip(np.rint(true + rng.normal(0, 0.6, (RATERS, 3))), 1, 7).astype(int)
    near = sorted(EMOTIONS, key=lambda other: np.linalg.norm(np.array(PLACES[other]) - place))[1:3]
    votes = [emotion] * RATERS
    for rater in rng.choice(RATERS, size=rng.binomial(2, 0.4), replace=False):
        votes[rater] = near[rng.integers(2)]
    return [(f"r{n}", vote, *map(int, of_clip)) for n, (vote, of_clip) in enumerate(zip(votes, rated, strict=True), 1)]


def speech(seconds: float, seed: int = 0, emotion: str = "neutral") -> NDArray[np.float32]:
    """[`babble`] of one speaker, repeated and cut to a length, `(samples,)` at 16 kHz."""
    rng = np.random.default_rng(seed)
    speaker, samples = Speaker.draw(seed, rng), np.zeros(0)
    while len(samples) < seconds * RATE:
        samples = np.append(samples, babble(speaker, PROSODY[emotion], rng))
    return samples[: round(seconds * RATE)].astype(np.float32)


def babble(speaker: Speaker, prosody: Prosody, rng: np.random.Generator) -> Samples:
    """One clip, `(samples,)` between -1 and 1: the speaker's voice with the emotion's prosody and some random variation."""
    time = np.arange(int(rng.uniform(0.9, 1.8) * RATE)) / RATE  # s
    end = time[-1]

    # Syllables, between a short silence before and after: where each begins, how loud it is, which vowel.
    tempo = prosody.tempo * speaker.tempo * np.exp(rng.normal(0, 0.06))
    begin, stop = rng.uniform(0.03, 0.10), end - rng.uniform(0.03, 0.10)
    count = max(2, round((stop - begin) * tempo))
    lengths = np.exp(rng.normal(0, 0.15, count))
    borders = begin + (stop - begin) * np.concatenate([[0.0], np.cumsum(lengths) / lengths.sum()])
    centres = (borders[:-1] + borders[1:]) / 2
    gains = 10 ** (rng.normal(0, prosody.dynamics, count) / 20)
    gains[1:] *= rng.random(count - 1) >= prosody.pause  # the first is never silent

    # Loudness: each syllable swells and fades.
    syllable = np.clip(np.searchsorted(borders, time, side="right") - 1, 0, count - 1)
    within = np.clip((time - borders[syllable]) / np.diff(borders)[syllable], 0, 1)
    loudness = gains[syllable] * np.sin(np.pi * within) ** 0.7

    # Pitch: the emotion's, its slope, an accent on each syllable, and the shake of the voice.
    accents = rng.normal(0, prosody.accent * speaker.accent, count)
    semitones = (
        prosody.pitch
        + rng.normal(0, 0.7)
        + prosody.slope * (time / end - 0.5)
        + np.interp(time, centres, accents)
        + prosody.tremor * np.sin(2 * np.pi * (7 * time + rng.random()))
    )
    pitch = speaker.pitch * 2 ** (semitones / 12)  # Hz

    # Source: a pulse per period, the sum of all harmonics with amplitude exp(-frequency / brightness), and breath.
    brightness = prosody.brightness * speaker.brightness * np.exp(rng.normal(0, 0.10))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    ratio = np.exp(-pitch / brightness)
    pulses = (1 - ratio * np.cos(phase)) / (1 - 2 * ratio * np.cos(phase) + ratio**2) - 1
    breath = prosody.breath * rng.normal(0, 1, time.size)
    source = loudness * (pulses / pulses.std() + breath)

    # Filter: glide from one syllable's formants to the next's.
    formants = speaker.tract * VOWELS[rng.integers(len(VOWELS), size=count)]  # (syllables, 3)
    voice = resonate(source, centres, formants)

    # Level: what the speaker adds to the noise of the room.
    level = prosody.level + speaker.level + rng.normal(0, 1.0)
    voice *= 10 ** ((level - 26) / 20) / voice.std()
    return voice + 10 ** (-60 / 20) * rng.normal(0, 1, time.size)


def resonate(source: Samples, centres: Samples, formants: Samples) -> Samples:
    """Filters `(samples,)` by formants `(syllables, 3)` in Hz which are reached at `centres` `(syllables,)` in s."""
    padded = np.pad(source, (FRAME, FRAME + -source.size % HOP))
    starts = np.arange(0, padded.size - FRAME + 1, HOP)
    window = np.sqrt(np.hanning(FRAME + 1)[:-1] * 2 * HOP / FRAME)  # squared and overlapped, it adds up to 1
    spectra = np.fft.rfft(padded[starts[:, None] + np.arange(FRAME)] * window)  # (frames, frequencies)

    time = (starts - FRAME / 2) / RATE
    tracks = np.stack([np.interp(time, centres, track) for track in formants.T], axis=1)  # (frames, 3)
    frequencies = np.fft.rfftfreq(FRAME, 1 / RATE)
    distance = (frequencies[None, :, None] - tracks[:, None, :]) / BANDWIDTHS  # (frames, frequencies, 3)
    spectra *= 0.03 + (LOUDNESS / (1 + distance**2)).sum(axis=-1)

    frames = np.fft.irfft(spectra, FRAME) * window
    filtered = np.zeros(padded.size)
    for offset in range(0, FRAME, HOP):  # every fourth frame lies end to end
        lane = frames[offset // HOP :: FRAME // HOP].reshape(-1)
        filtered[offset : offset + lane.size] += lane
    return filtered[FRAME : FRAME + source.size]


def default_folder() -> Path:
    """The folder of the corpus if none is given."""
    return cache_folder() / "synthetic_rated"  # an older one, without raters, may be beside it


def ensure(folder: Path) -> Path:
    """The folder. If it does not exist, the corpus is made in it first."""
    if not folder.exists():
        try:
            make(folder)
        except OSError:
            if not folder.exists():  # else another process has made it meanwhile
                raise
    return folder
