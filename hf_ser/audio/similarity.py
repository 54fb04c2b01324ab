"""
Finds recordings that two sets of clips share, for instance train and test: the same samples, or the same recording at another
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
from datasets import Dataset
from tqdm import tqdm
from transformers.audio_utils import mel_filter_bank

from hf_ser.audio.decode import SAMPLING_RATE, Waveform, hash_of, read_mono

#: Two clips with at least this similarity are the same recording, see `near_duplicates`. In RAVDESS no pair of two takes of a
#: sentence reaches 0.51, except for one clip that is there twice. Copies through an MP3 of 16 kbit/s, or with white noise at 10
#: dB, have at least 0.93.
THRESHOLD = 0.7
#: A clip of the second set is compared sample by sample with this many clips of the first set: those with the nearest envelopes,
NEIGHBOURS = 8
#: if the cosine of the envelopes is at least this.
ENVELOPES = 0.85
#: Shorter clips, in seconds, are compared only for identical samples: any two vowels of 50 ms are similar.
SHORTEST = 0.5

#: The waveform is compared from 200 Hz (no hum of the mains) to 1 kHz, where all codecs and sampling rates keep the speech.
LOW_RATE, HIGHPASS = 2000, 200.0
#: A sample of the low rate is 8 samples of the clip. Shifts are tried in steps of a quarter of it.
STEPS = 4
#: The bands of the envelopes, their limits in Hz, and the exponent of their energies.
BANDS, BAND_LIMITS, COMPRESSION = 12, (100.0, 3400.0), 0.35
#: The frequencies of the modulation of the envelopes, in Hz.
MODULATION = np.arange(0.5, 8.01, 0.5)
FRAME, HOP = 512, 160
WINDOW = np.hanning(FRAME).astype(np.float32)
#: Clips of the second set that are compared at a time with all of the first.
BLOCK = 256


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """
    The data by which a clip is found again: 2 kB for each second, and 0.8 kB.

    Args:
        samples_hash (`str`): The hash of its samples, as in `hf_ser.audio.prepare`.
        envelope (`np.ndarray` of shape `(192,)`): The modulation of each band at each frequency, of norm 1 (float32). It does
            not depend on the position of the speech in the clip. Zeros for a silent clip.
        waveform (`np.ndarray` of shape `(samples / 8,)`): The clip at 2 kHz (int8), scaled to the largest level.
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


def fingerprints(clips: Dataset, progress: bool = True, of: str = "") -> list[Fingerprint]:
    """The fingerprints of prepared clips. With `progress` a bar is shown, if there is a terminal; it says `of` what they are."""
    disable = None if progress else True
    bar = tqdm(clips, desc=f"fingerprints {of}".rstrip(), unit=" clips", disable=disable, leave=not of)
    return [fingerprint(read_mono(clip["audio"])) for clip in bar]


def near_duplicates(
    first: Sequence[Fingerprint], second: Sequence[Fingerprint], threshold: float = THRESHOLD
) -> list[tuple[int, int, float]]:
    """
    The pairs of a clip of the first and a clip of the second set that are the same recording.

    The similarity is the largest absolute value of the cross-correlation of the two waveforms, between 200 Hz and 1 kHz, over
    all shifts. It is 1 for the same recording at another level or with other silence around it, and about sqrt(shared energy /
    energy) if one clip is a part of the other, or has noise. Two takes have different phases even if they sound the same; the
    default threshold is well above their similarity. Changes of phase or time are not found: another speed or pitch, strong
    reverberation.

    Only pairs that may be similar are correlated: for each clip of `second` the `NEIGHBOURS` clips of `first` with the nearest
    envelopes. All copies with identical samples are found. The time is proportional to the product of the sizes of both sets (a
    matrix product of the envelopes, in blocks) and to the size of the second set times `NEIGHBOURS` (the correlations), the
    memory to the number of clips.

    Args:
        first (`Sequence[Fingerprint]`): One set, for instance train.
        second (`Sequence[Fingerprint]`): The other set, for instance test.
        threshold (`float`, *optional*, defaults to 0.7): The lowest similarity of a pair that is returned, above 0, at most 1.

    Returns:
        `(index in first, index in second, similarity)`, sorted. A pair with identical samples has 1.0.
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
        # Most pairs are not similar at shifts of whole samples, so that the shifts between them need not be tried.
        if similarity(one, other, steps=1) < threshold / 2:
            continue
        if (value := similarity(one, other)) >= threshold:
            found[i, j] = value
    return sorted((i, j, value) for (i, j), value in found.items())


def nearest(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], neighbours: int) -> npt.NDArray[np.int64]:
    """
    For each row of `second` `(clips, dimensions)` those of `first` with the largest cosine that is `ENVELOPES` or more, at
    most `neighbours`; both have rows of norm 1. `(pairs, 2)`: the rows' indices in first and second.
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
    # Zeros after the spectrum interpolate the correlation between the samples.
    correlation = scipy.fft.irfft(spectrum, steps * size) * steps
    return min(float(np.abs(correlation).max()) / norm, 1.0)


def _low_waveform(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    low = scipy.signal.resample_poly(samples, 1, SAMPLING_RATE // LOW_RATE, window=_lowpass())
    low = scipy.signal.sosfilt(_highpass(), low)
    peak = float(np.abs(low).max())
    return np.round(low * (127 / peak) if peak else low).astype(np.int8)


def _envelope(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    # With a frame of silence on either side, the edges count as much as the rest.
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, FRAME), FRAME)[::HOP]
    power = np.square(np.abs(scipy.fft.rfft(frames * WINDOW, axis=1)))  # (frames, frequencies)
    energies = power @ _bands()  # (frames, bands)
    if not energies.any():
        return np.zeros(len(MODULATION) * BANDS, np.float32)
    times = np.arange(len(energies)) * (HOP / SAMPLING_RATE)
    waves = np.exp(-2j * np.pi * np.outer(MODULATION, times)).astype(np.complex64)
    # The magnitude does not depend on the position. The square root of f compensates that slow modulations are stronger.
    modulation = np.abs(waves @ energies**COMPRESSION) * np.sqrt(MODULATION)[:, None]
    return (modulation / np.linalg.norm(modulation)).astype(np.float32).ravel()


@lru_cache
def _lowpass() -> npt.NDArray[np.float32]:
    # No aliasing, which would change if a clip is moved by a few samples.
    return scipy.signal.firwin(385, 850.0, fs=SAMPLING_RATE).astype(np.float32)


@lru_cache
def _highpass() -> npt.NDArray[np.float64]:
    return np.asarray(scipy.signal.butter(4, HIGHPASS, "highpass", fs=LOW_RATE, output="sos"))


@lru_cache
def _bands() -> npt.NDArray[np.float32]:
    """Triangular filters `(frequencies, bands)` of the same width on the mel scale."""
    return mel_filter_bank(FRAME // 2 + 1, BANDS, *BAND_LIMITS, SAMPLING_RATE).astype(np.float32)
