"""
The conditions under which a model's robustness is measured: noise, babble, reverberation, channels, codecs, level, speed.

In contrast to `hf_ser.audio.augment`, which draws random changes of a clip in training, a condition is the same exact change of
every clip of a test, so that two models, or two strengths, are measured on the same distorted clips.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from io import BytesIO

import numpy as np
import numpy.typing as npt
import scipy  # its signal takes most of a second to import: that is left to the first use
import soundfile

from hf_ser.audio.decode import SAMPLING_RATE, Waveform

Samples = npt.NDArray[np.float64]

#: Pink noise has no power below this frequency, in Hz: lower frequencies are inaudible, but would have a part of the energy.
PINK_FROM = 20.0
#: A telephone's band in Hz, and its sampling rate (ITU-T G.712).
TELEPHONE_BAND, TELEPHONE_RATE = (300.0, 3400.0), 8000
#: The bitrates of an MP3 of 16 kHz, in kbit/s (MPEG-2 layer III, ISO/IEC 13818-3).
MP3_BITRATES = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
#: The delay of LAME and the decoder in samples (576 and 529), for an MP3 that does not contain it.
MP3_DELAY = 1105
#: Taps on either side of a resampling filter, in samples of the lower rate, and its Kaiser window's beta (-100 dB).
RESAMPLING_TAPS, RESAMPLING_BETA = 64, 10.0


@dataclass(frozen=True)
class Condition:
    """A kind of distortion and its level, in the unit that `UNITS` has; `None` for a kind without levels."""

    kind: str
    level: float | None = None

    @property
    def name(self) -> str:
        """The name in tables: `white noise, 10 dB SNR`."""
        return self.kind if self.level is None else f"{self.kind}, {self.level:g} {UNITS[self.kind]}"


def distort(waveform: Waveform, condition: Condition, seed: int, babble: Sequence[Waveform] = ()) -> Waveform:
    """
    Distorts a clip. The same clip, condition and seed give the same result in any order and process. The same seed gives the same
    noise at any ratio, so that two levels differ only in the level. Only `clipping` clips samples.

    | kind | what it is |
    |---|---|
    | `clean` | the clip itself |
    | `white noise` | Gaussian, as much power in every Hz |
    | `pink noise` | Gaussian, as much power in every octave from 20 Hz to 8 kHz: -3 dB per octave |
    | `babble` | the sum of the clips in `babble`, each at the same power, from a random place on, repeated if it is short |
    | `reverberation` | a room whose reverberation falls by 60 dB in that many seconds, see `room_response` |
    | `telephone band` | 300 to 3400 Hz, at 8 kHz (ITU-T G.712), without a codec |
    | `resampling` | to that rate and back: nothing is left above half of it |
    | `MP3` | encoded by LAME at that constant bitrate, and decoded |
    | `level` | louder or softer. It should have no effect on an encoder that normalises its input (HuBERT, Wav2Vec2) |
    | `clipping` | that share of the samples, the largest, is set to the largest of the others |
    | `speed` | played that many times as fast, pitch and length with it (Ko et al. 2015, Audio Augmentation for ASR) |

    A signal-to-noise ratio is 10 log10(sum of the clip's squares / sum of the noise's squares) over the whole clip with its
    pauses; during speech it is higher. A clip of digital silence has no energy, gets no noise, and stays silent.

    Args:
        waveform (`np.ndarray` of shape `(samples,)`): The clip, at 16 kHz.
        condition (`Condition`): The distortion.
        seed (`int`): The clip's own seed, at least 0: `clip_seed(seed, name)`. Two clips with the same seed get the same noise.
        babble (`Sequence[np.ndarray]`, *optional*): Other clips `(samples,)` of any length, for `babble`: 5 or more are a crowd.

    Returns:
        The clip, `(samples,)` in float32: as long and in the same place, except for `speed`.

    Raises:
        ValueError: if there is no such condition, or babble has no clips, or only silent ones.
    """
    # The level is not in the seed, so that two levels have the same noise.
    generator = np.random.default_rng(clip_seed(seed, condition.kind))
    return _distorted(waveform.astype(np.float64), condition, generator, babble).astype(np.float32)


def _distorted(
    clean: Samples, condition: Condition, generator: np.random.Generator, voices: Sequence[Waveform]
) -> Samples:
    level = 0.0 if condition.level is None else condition.level
    match condition.kind:
        case "clean":
            return clean
        case "white noise":
            return add_at_ratio(clean, generator.standard_normal(len(clean)), level)
        case "pink noise":
            return add_at_ratio(clean, pink_noise(len(clean), generator), level)
        case "babble":
            return add_at_ratio(clean, babble_noise(len(clean), generator, voices), level)
        case "reverberation":
            wet = scipy.signal.fftconvolve(clean, room_response(level, generator)[: len(clean)])[: len(clean)]
            before, after = _energy(clean), _energy(wet)
            return wet * math.sqrt(before / after) if after else wet  # as loud as it was
        case "telephone band":
            narrow = _change_rate(clean, 1, SAMPLING_RATE // TELEPHONE_RATE)
            taps = _telephone_filter()
            narrow = scipy.signal.fftconvolve(narrow, taps)[len(taps) // 2 :][: len(narrow)]
            return _change_rate(narrow, SAMPLING_RATE // TELEPHONE_RATE, 1)[: len(clean)]
        case "resampling":
            ratio = Fraction(round(1000 * level), SAMPLING_RATE)
            there = _change_rate(clean, ratio.numerator, ratio.denominator)
            return _change_rate(there, ratio.denominator, ratio.numerator)[: len(clean)]
        case "MP3":
            return _mp3(clean, level)
        case "level":
            return clean * 10 ** (level / 20)
        case "clipping":
            size = np.abs(clean)
            # The share counts the samples that are not zero, so that silence around a clip has no effect on its speech.
            sounding = np.sort(size[size > 0])
            clipped = min(round(level / 100 * len(sounding)), len(sounding) - 1)  # one is left, which has the limit
            limit = sounding[len(sounding) - 1 - clipped] if clipped > 0 else np.inf
            return np.clip(clean, -limit, limit)
        case "speed":
            ratio = Fraction(level).limit_denominator(100)
            return _change_rate(clean, ratio.denominator, ratio.numerator)
    raise ValueError(f"condition: found {condition.kind!r}, expected one of {', '.join(LEVELS)}")


def clip_seed(seed: int, name: str) -> int:
    """A clip's own seed, from an evaluation's seed and the clip's name: the same in every process, on every machine."""
    # A name on disk need not be UTF-8, and has surrogates in place of other bytes.
    digest = hashlib.blake2b(f"{seed} {name}".encode(errors="surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def add_at_ratio(clean: Samples, noise: Samples, snr: float) -> Samples:
    """`clean + g * noise`, both `(samples,)`, with g = sqrt(sum(clean²) / (sum(noise²) * 10^(snr / 10))), `snr` in dB."""
    energy, noise_energy = _energy(clean), _energy(noise)
    if not energy:
        return clean
    if not noise_energy:
        raise ValueError("the noise is silent where the clip is: there is nothing to add; pass other clips for babble")
    return clean + math.sqrt(energy / noise_energy * 10 ** (-snr / 10)) * noise


def pink_noise(samples: int, generator: np.random.Generator) -> Samples:
    """Gaussian noise `(samples,)` whose power density goes with 1/f from 20 Hz on: white noise, its spectrum times 1/sqrt(f)."""
    size = scipy.fft.next_fast_len(max(samples, SAMPLING_RATE // 10), real=True)
    frequencies = scipy.fft.rfftfreq(size, 1 / SAMPLING_RATE)
    gain = np.where(frequencies < PINK_FROM, 0.0, 1 / np.sqrt(np.maximum(frequencies, PINK_FROM)))
    return scipy.fft.irfft(scipy.fft.rfft(generator.standard_normal(size)) * gain, size)[:samples]


def babble_noise(samples: int, generator: np.random.Generator, voices: Sequence[Waveform]) -> Samples:
    """
    The sum `(samples,)` of other clips, each divided by its root mean square, from a random place on; after its end it begins
    again.
    """
    total = np.zeros(samples)
    for voice in voices:
        start = int(generator.integers(len(voice)))  # drawn for a silent clip, too: the others stay the same
        if power := float(np.mean(np.square(voice, dtype=np.float64))):
            total += np.resize(np.roll(voice, -start), samples) / math.sqrt(power)
    if not total.any():
        raise ValueError(f"babble: other clips with sound in them are needed, found {len(voices)}, all of them silent")
    return total


def room_response(rt60: float, generator: np.random.Generator) -> Samples:
    """
    The impulse response `(taps,)` of a synthetic room: the direct path, 1 at time 0, and from the next sample on Gaussian
    noise times 10^(-3 t / rt60), an amplitude that falls by 60 dB in `rt60` seconds (Polack's model of the late
    reverberation; Habets 2007, Single- and Multi-Microphone Speech Dereverberation, section 2.2). It has no early echoes,
    and as much energy as the direct path: the speaker stands at the critical distance.
    """
    taps = max(math.ceil(rt60 * SAMPLING_RATE), 1)
    tail = generator.standard_normal(taps) * 10 ** (-3 * np.arange(1, taps + 1) / (rt60 * SAMPLING_RATE))
    tail *= 1 / math.sqrt(_energy(tail))
    return np.concatenate([[1.0], tail])


@lru_cache
def _lowpass(up: int, down: int) -> Samples:
    slower = max(up, down)
    # Passes frequencies below 0.95 of half the lower rate. The band above is lost, so that there is no aliasing.
    width = 2 * RESAMPLING_TAPS * slower + 1
    return scipy.signal.firwin(width, 0.95 / slower, window=("kaiser", RESAMPLING_BETA))


def _change_rate(samples: Samples, up: int, down: int) -> Samples:
    """Resamples `(samples,)` by `up / down`: `(ceil(samples * up / down),)`, in the same place."""
    return scipy.signal.resample_poly(samples, up, down, window=_lowpass(up, down))


@lru_cache
def _telephone_filter() -> Samples:
    # 6 dB down at the band's ends, 80 dB down 40 Hz further.
    return scipy.signal.firwin(
        TELEPHONE_RATE // 16 + 1, TELEPHONE_BAND, pass_zero=False, fs=TELEPHONE_RATE, window=("kaiser", 8.0)
    )


def _mp3(clean: Samples, bitrate: float) -> Samples:
    buffer = BytesIO()
    # libsndfile has a "compression level" from 0 to 1 for a constant bitrate, too: at 16 kHz it goes from 160 to 8 kbit/s
    # in a straight line, and LAME takes the nearest bitrate there is; exactly 1 it refuses.
    compression = min((MP3_BITRATES[-1] - bitrate) / (MP3_BITRATES[-1] - MP3_BITRATES[0]), 0.9999)
    soundfile.write(
        buffer,
        clean.astype(np.float32),
        SAMPLING_RATE,
        format="MP3",
        compression_level=compression,
        bitrate_mode="CONSTANT",
    )
    buffer.seek(0)
    decoded: Samples = soundfile.read(buffer, dtype="float64")[0]
    # From 48 kbit/s on the first frame has room for the length and the delay of the clip, and the decoder cuts it out. Below, the
    # result is longer, by the delay of encoder and decoder and by padding at the end.
    start = MP3_DELAY if len(decoded) > len(clean) else 0
    return decoded[start : start + len(clean)]


def _energy(samples: Samples) -> float:
    # Not a dot product: in BLAS the order of the sum depends on the number of threads.
    return float(np.sum(np.square(samples)))


#: The kinds of conditions with levels, and the units of the levels.
UNITS = {
    **dict.fromkeys(("white noise", "pink noise", "babble"), "dB SNR"),
    "reverberation": "s RT60",
    "resampling": "kHz",
    "MP3": "kbit/s",
    "level": "dB",
    "clipping": "% of samples",
    "speed": "times",
}
#: The levels of `CONDITIONS`, by kind; from weak to strong.
LEVELS: dict[str, tuple[float | None, ...]] = {
    "clean": (None,),
    "white noise": (30, 20, 10, 5, 0),
    "pink noise": (30, 20, 10, 5, 0),
    "babble": (30, 20, 10, 5, 0),
    "reverberation": (0.3, 0.6, 1.0),
    "telephone band": (None,),
    "resampling": (8,),
    "MP3": (64, 32, 16),
    "level": (-20, -10, 10),
    "clipping": (1, 5, 20),
    "speed": (0.8, 0.9, 1.1, 1.25),
}
#: The conditions under which a model's robustness is measured by default.
CONDITIONS = tuple(Condition(kind, level) for kind, levels in LEVELS.items() for level in levels)
