"""Augmentation of waveforms, in training only (HuBERT-SER, section 1; PEFT-SER, section V.A)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torchaudio.functional as F

from hf_ser.audio.decode import SAMPLING_RATE, Waveform
from hf_ser.audio.distort import Condition, distort
from hf_ser.command_line import option, require_choices

N_FFT, HOP = 512, 128
#: Augmentation makes no clip longer than this number of samples (Whisper's 30 s), unless it was longer before.
LONGEST = 30 * SAMPLING_RATE
#: The augmentations that have a probability.
MEASURES = ("noise", "pitch", "stretch", "mask", "speed", "distort")
#: The distortions of `hf_ser.audio.distort` for training, and the range that their level is drawn from: a signal-to-noise ratio
#: in dB, for reverberation the RT60 in seconds; `None` for those without levels.
DISTORT_LEVELS = {
    "white noise": [5.0, 30.0],
    "pink noise": [5.0, 30.0],
    "reverberation": [0.2, 0.8],
    "telephone band": None,
    "babble": [5.0, 30.0],
}


def _span(low: float, high: float, text: str) -> list[float]:
    """A field for a range that a strength is drawn from."""
    return option([low, high], help=f"{text} (two numbers: lowest, highest).")


def _probability(text: str, default: float = 0.0) -> float:
    return option(default, help=f"Probability that {text}, in training.")


@dataclass(frozen=True)
class Augmentation:
    """
    The augmentations of a waveform, each with its probability and the range that its strength is drawn from.

    Each field has its help. A shifted pitch keeps the tempo, and a changed tempo keeps the pitch; speed changes both (Ko et al.
    2015, Audio Augmentation for Speech Recognition). White noise is Gaussian. Babble consists of other clips of train: with it,
    a fold cannot reuse the cached features of another one. For mixup see `hf_ser.training.dataset.SpeechDataset`.

    Raises:
        ValueError: if a probability or a range is none.
    """

    noise_probability: float = _probability("white noise is added")
    noise_snr: list[float] = _span(10.0, 30.0, "The noise's signal-to-noise ratio in dB")
    pitch_probability: float = _probability("the pitch is shifted")
    pitch_semitones: list[float] = _span(-2.0, 2.0, "The shift in semitones")
    stretch_probability: float = _probability("the tempo is changed")
    stretch_rate: list[float] = _span(0.9, 1.1, "The rate; above 1 is faster")
    mask_probability: float = _probability("a stretch of time is set to zero")
    mask_share: list[float] = _span(0.10, 0.15, "The share of the clip that is set to zero")
    speed_probability: float = _probability("tempo and pitch are changed together, by resampling", 0.7)
    speed_rate: list[float] = _span(0.9, 1.1, "The rate, in hundredths; above 1 is faster")
    distort_probability: float = _probability("one of distort_kinds is applied", 0.2)
    distort_kinds: list[str] = option(
        [kind for kind in DISTORT_LEVELS if kind != "babble"],
        help="Distortions to draw from; all but babble by default. The level is drawn, too: noise and babble (other "
        "clips of train) at 5 to 30 dB SNR, reverberation with an RT60 of 0.2 to 0.8 s.",
        choices=list(DISTORT_LEVELS),
    )
    mixup_alpha: float = option(
        0.0,
        help="Mixup: add another clip of train to each clip, and train on both labels. Its weight is drawn from "
        "Beta(alpha, alpha), and at most 0.5. 0: off.",
    )

    def __post_init__(self) -> None:
        for name in MEASURES:
            if not 0 <= (value := getattr(self, f"{name}_probability")) <= 1:
                raise ValueError(f"{name}_probability: must lie between 0 and 1, found {value}")
        for name in ("noise_snr", "pitch_semitones", "stretch_rate", "mask_share", "speed_rate"):
            span = getattr(self, name)
            if len(span) != 2 or span[0] > span[1]:
                raise ValueError(f"{name}: two numbers are needed, the lower one first; found {span}")
        if self.stretch_rate[0] <= 0:
            raise ValueError(f"stretch_rate: must be more than 0, found {self.stretch_rate[0]}")
        if not (self.mask_share[0] >= 0 and self.mask_share[1] < 1):
            raise ValueError(f"mask_share: must lie between 0 and 1, found {self.mask_share}")
        if not 0.25 <= self.speed_rate[0] <= self.speed_rate[1] <= 4:
            raise ValueError(f"speed_rate: must lie between 0.25 and 4, found {self.speed_rate}")
        require_choices(self)
        if not self.distort_kinds:
            raise ValueError("distort_kinds: expected at least one, found none")
        if not 0 <= self.mixup_alpha < math.inf:
            raise ValueError(f"mixup_alpha: must be 0 or a number above, found {self.mixup_alpha}")

    @property
    def does_something(self) -> bool:
        """Whether any of it is on."""
        return bool(self.mixup_alpha) or any(getattr(self, f"{name}_probability") for name in MEASURES)

    @property
    def needs_other_clips(self) -> bool:
        """Whether it adds other clips to a clip: mixup and babble."""
        return bool(self.mixup_alpha or (self.distort_probability and "babble" in self.distort_kinds))

    def __call__(
        self, waveform: torch.Tensor, seed: int, babble: Callable[[], Sequence[Waveform]] = tuple
    ) -> torch.Tensor:
        """
        Augments a waveform `(samples,)`; stretching and speed change its length. The same waveform and seed give the same
        result, in any process and order. Mixup is not done here.

        Args:
            waveform (`torch.Tensor`): The clip.
            seed (`int`): At least 0.
            babble (`Callable`, *optional*): Reads other clips; called if babble is drawn.
        """
        longest = max(len(waveform), LONGEST)
        generator = torch.Generator().manual_seed(seed)
        # All numbers are always drawn, so that one augmentation does not change the numbers of the others.
        happens = torch.rand(4, generator=generator).tolist()
        strength = torch.rand(4, generator=generator).tolist()
        where = torch.rand((), generator=generator).item()
        # From another generator, because the noise below must not change.
        more = np.random.default_rng(seed)
        happens += more.random(2).tolist()
        strength += more.random(2).tolist()
        kind = self.distort_kinds[more.integers(len(self.distort_kinds))]

        def drawn(span: list[float], nth: int) -> float:
            return span[0] + (span[1] - span[0]) * strength[nth]

        if happens[4] < self.speed_probability:
            # In hundredths, since the resampler's filter grows with the denominator. Not by `distort`, whose longer filters take
            # thirty times as long.
            waveform = F.resample(waveform, round(100 * drawn(self.speed_rate, 4)), 100)
        if happens[0] < self.stretch_probability:
            waveform = time_stretch(waveform, drawn(self.stretch_rate, 0))
        if happens[1] < self.pitch_probability:
            waveform = pitch_shift(waveform, drawn(self.pitch_semitones, 1))
        if happens[5] < self.distort_probability:
            levels = DISTORT_LEVELS[kind]
            condition = Condition(kind, drawn(levels, 5) if levels else None)
            voices = babble() if kind == "babble" else ()
            # Segments of long recordings may all be silent.
            if kind != "babble" or any(voice.any() for voice in voices):
                waveform = torch.from_numpy(distort(waveform.numpy(), condition, seed, voices))
        if happens[2] < self.noise_probability:
            noise = torch.randn(waveform.shape, generator=generator)
            waveform = F.add_noise(waveform, noise, torch.tensor(drawn(self.noise_snr, 2)))
        if happens[3] < self.mask_probability:
            waveform = time_mask(waveform, drawn(self.mask_share, 3), where)
        return waveform[:longest]


def time_stretch(waveform: torch.Tensor, rate: float) -> torch.Tensor:
    """Plays a waveform `(samples,)` `rate` times as fast at the same pitch (phase vocoder)."""
    window = torch.hann_window(N_FFT)
    spectrum = torch.stft(waveform, N_FFT, HOP, window=window, return_complex=True)  # (frequencies, frames)
    advance = torch.linspace(0, math.pi * HOP, spectrum.shape[0])[:, None]
    stretched = F.phase_vocoder(spectrum, rate, advance)
    return torch.istft(stretched, N_FFT, HOP, window=window, length=round(len(waveform) / rate))


def pitch_shift(waveform: torch.Tensor, semitones: float) -> torch.Tensor:
    """Shifts the pitch of a waveform `(samples,)` at the same tempo and length: stretched, then resampled."""
    # The ratio is rounded to 160ths (a tenth of a semitone): a resampler's kernel grows with its denominator.
    parts = max(round(160 * 2 ** (semitones / 12)), 1)
    stretched = time_stretch(waveform, 160 / parts)
    shifted = F.resample(stretched, parts * SAMPLING_RATE // 160, SAMPLING_RATE)
    return torch.nn.functional.pad(shifted, (0, max(len(waveform) - len(shifted), 0)))[: len(waveform)]


def time_mask(waveform: torch.Tensor, share: float, where: float) -> torch.Tensor:
    """Sets `share` of a waveform `(samples,)` to zero, `where` (0 to 1) in it."""
    width = round(share * len(waveform))
    start = round(where * (len(waveform) - width))
    masked = waveform.clone()
    masked[start : start + width] = 0.0
    return masked
