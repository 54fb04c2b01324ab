"""
Whether two sets of clips share recordings, for instance train and test: the same samples, or the same recording at another
level, cut or moved, resampled, compressed or with some noise. Two takes of a sentence by the same actor do not count.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy  # its signal takes most of a second to import: that is left to the first use

from hf_ser.audio.decode import SAMPLING_RATE, Waveform, hash_of

#: From this similarity on two clips are the same recording, see `near_duplicates`. Of RAVDESS' two takes of each sentence no
#: pair reaches 0.51, other than one clip that is there twice; copies through an MP3 of 16 kbit/s, or with white noise at 10 dB,
#: have at least 0.93.
THRESHOLD = 0.7
#: With how many clips of the first set, the nearest by their envelopes, a clip of the second is compared sample by sample,
NEIGHBOURS = 8
#: if their envelopes' cosine is at least this.
ENVELOPES = 0.85
#: Clips that are shorter, in seconds, are compared for the very same samples alone: any two vowels of 50 ms look alike.
SHORTEST = 0.5

#: The waveform is compared from 200 Hz (no hum of the mains) to 1 kHz, where all codecs and sampling rates keep the speech.
LOW_RATE, HIGHPASS = 2000, 200.0
#: Samples of the low rate are 8 samples of the clip apart: a shift is looked for in steps of a quarter of that.
STEPS = 4
#: The envelopes' bands and their limits in Hz, and the power that their energies are raised to.
BANDS, BAND_LIMITS, COMPRESSION = 12, (100.0, 3400.0), 0.35
#: The frequencies in Hz at which an envelope's modulation is taken.
MODULATION = np.arange(0.5, 8.01, 0.5)
FRAME, HOP = 512, 160
WINDOW = np.hanning(FRAME).astype(np.float32)
#: Clips of the second set that are compared at a time with all of the first.
BLOCK = 256


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """
    What is kept of a clip to find it again: 2 kB for each second of it, and 0.8 kB.

    Args:
        samples_hash (`str`): The hash of its samples, that `hf_ser.audio.prepare` gives, too.
        envelope (`np.ndarray` of shape `(192,)`): How strongly each band is modulated at each frequency, of norm 1 (float32);
            the same wherever in the clip the speech is. Zeros for a silent clip.
        waveform (`np.ndarray` of shape `(samples / 8,)`): The clip at 2 kHz (int8), of whatever level.
    """

    samples_hash: str
    envelope: npt.NDArray[np.float32]
    waveform: npt.NDArray[np.int8]


def fingerprint(samples: Waveform) -> Fingerprint:
    """The fingerprint of a clip `(samples,)` at 16 kHz."""
    samples_hash = hash_of(samples)
    if peak := float(np.abs(samples).max()):
        samples = samples / np.float32(peak)
    return Fingerprint(samples_hash, _envelope(samples), _low_waveform(samples))


def near_duplicates(
    first: Sequence[Fingerprint], second: Sequence[Fingerprint], threshold: float = THRESHOLD
) -> list[tuple[int, int, float]]:
    """
    The pairs of a clip of the first and a clip of the second set that are the same recording.

    The similarity is the largest value, without its sign, of the two waveforms' cross-correlation, between 200 Hz and 1 kHz,
    over all shifts: 1 for the same recording at another level or with other silence around it; about
    sqrt(shared energy / energy) where one is a piece of the other, or has noise. Two takes have other phases even where
    they sound the same: the default threshold lies well above them. What changes the phases or the time is not
    found: another speed or pitch, strong reverberation.

    Only pairs that may be similar are correlated: for each clip of `second`, those `NEIGHBOURS` of `first` whose envelopes
    are nearest to its own. Copies of the very same samples are all found, whatever their number. Time grows with
    the first set's clips times the second's (a matrix product of their envelopes, in blocks) and with the second's times
    `NEIGHBOURS` (the correlations); memory with the clips alone.

    Args:
        first (`Sequence[Fingerprint]`): Of the one set, for instance train.
        second (`Sequence[Fingerprint]`): Of the other set, for instance test.
        threshold (`float`, *optional*, defaults to 0.7): The similarity from which on a pair is returned, over 0 to 1.

    Returns:
        `(index in first, index in second, similarity)`, sorted. A pair with the very same samples has 1.0.
    """
    if not first or not second:
        return []
    same = defaultdict(list)
    for i, one in enumerate(first):
        same[one.samples_hash].append(i)
    found = {(i, j): 1.0 for j, other in enumerate(second) for i in same.get(other.samples_hash, ())}
    candidates = nearest(
        np.stack([one.envelope for one in first]), np.stack([other.envelope for other in second]), NEIGHBOURS
    )
    shortest = SHORTEST * LOW_RATE
    for i, j in candidates.tolist():
        one, other = first[i].waveform, second[j].waveform
        if (i, j) in found or min(len(one), len(other)) < shortest:
            continue
        # Most pairs are far from similar already at whole samples' shifts, and those between need not be tried.
        if similarity(one, other, steps=1) < threshold / 2:
            continue
        if (value := similarity(one, other)) >= threshold:
            found[i, j] = value
    return sorted((i, j, value) for (i, j), value in found.items())


def nearest(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], neighbours: int) -> npt.NDArray[np.int64]:
    """
    For each row of `second` `(clips, dimensions)` those of `first` with the largest cosine that is `ENVELOPES` or more, at
    most `neighbours`; both have rows of norm 1.

    Returns:
        `(pairs, 2)`: the rows' indices in first and second.
    """
    pairs = [np.zeros((0, 2), np.int64)]
    for top in range(0, len(second), BLOCK):
        cosine = second[top : top + BLOCK] @ first.T  # (block, first)
        best = np.argpartition(-cosine, min(neighbours, len(first)) - 1, axis=1)[:, :neighbours]
        row, place = np.nonzero(np.take_along_axis(cosine, best, axis=1) >= ENVELOPES)
        pairs.append(np.stack([best[row, place], top + row], axis=1))
    return np.concatenate(pairs)


def similarity(one: npt.NDArray[np.int8], other: npt.NDArray[np.int8], steps: int = STEPS) -> float:
    """
    max over t of |sum_n one[n] other[n + t]| / (|one| |other|), of two waveforms `(samples,)` at 2 kHz, with `steps` shifts t
    in each sample: 0 to 1.
    """
    a, b = one.astype(np.float32), other.astype(np.float32)
    norm = math.sqrt(float(np.sum(np.square(a))) * float(np.sum(np.square(b))))
    if not norm:
        return 0.0
    size = scipy.fft.next_fast_len(len(a) + len(b), real=True)
    spectrum = scipy.fft.rfft(a, size) * np.conj(scipy.fft.rfft(b, size))
    # Zeros behind the spectrum give the correlation between the samples.
    correlation = scipy.fft.irfft(spectrum, steps * size) * steps
    return min(float(np.abs(correlation).max()) / norm, 1.0)


def _low_waveform(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    low = scipy.signal.resample_poly(samples, 1, SAMPLING_RATE // LOW_RATE, window=_lowpass())
    low = scipy.signal.sosfilt(_highpass(), low)
    peak = float(np.abs(low).max())
    return np.round(low * (127 / peak) if peak else low).astype(np.int8)


def _envelope(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    # A frame of silence on either side: what lies at an edge counts as much as elsewhere.
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, FRAME), FRAME)[::HOP]
    power = np.square(np.abs(scipy.fft.rfft(frames * WINDOW, axis=1)))  # (frames, frequencies)
    energies = power @ _bands()  # (frames, bands)
    if not energies.any():
        return np.zeros(len(MODULATION) * BANDS, np.float32)
    times = np.arange(len(energies)) * (HOP / SAMPLING_RATE)
    waves = np.exp(-2j * np.pi * np.outer(MODULATION, times)).astype(np.complex64)
    # The magnitude forgets when it was; slow modulations are the stronger ones, which the square root of f makes up for.
    modulation = np.abs(waves @ energies**COMPRESSION) * np.sqrt(MODULATION)[:, None]
    return (modulation / np.linalg.norm(modulation)).astype(np.float32).ravel()


@lru_cache
def _lowpass() -> npt.NDArray[np.float32]:
    # Whatever is folded back changes when a clip is moved by a few samples: nothing may be.
    return scipy.signal.firwin(385, 850.0, fs=SAMPLING_RATE).astype(np.float32)


@lru_cache
def _highpass() -> npt.NDArray[np.float64]:
    return np.asarray(scipy.signal.butter(4, HIGHPASS, "highpass", fs=LOW_RATE, output="sos"))


@lru_cache
def _bands() -> npt.NDArray[np.float32]:
    """Triangles `(frequencies, bands)` that are equally wide on the mel scale, 2595 log10(1 + f / 700)."""
    low, high = (2595 * math.log10(1 + limit / 700) for limit in BAND_LIMITS)
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(FRAME, 1 / SAMPLING_RATE)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(rising, falling), 0).astype(np.float32)
