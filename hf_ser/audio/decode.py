"""Files and stored clips become waveforms."""

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch
import torchaudio

#: What every encoder here was pretrained on, in Hz.
SAMPLING_RATE = 16_000
#: A clip whose loudest sample is below this is silent (-80 dB of full scale).
SILENCE = 1e-4

Waveform = npt.NDArray[np.float32]


class AudioError(ValueError):
    """A clip that cannot be used. `reason` is short and can be counted; the message has the details."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def decode(audio: dict[str, Any]) -> tuple[npt.NDArray[Any], int, str]:
    """
    Decodes what an undecoded `Audio` column holds.

    Args:
        audio (`dict`): `bytes`, or where they are none, the `path` of a file that soundfile reads.

    Returns:
        The samples `(frames, channels)` as float32, the sampling rate in Hz and soundfile's subtype (`PCM_16`).

    Raises:
        AudioError: if it cannot be decoded.
    """
    source = audio["path"] if audio["bytes"] is None else BytesIO(audio["bytes"])
    try:
        with soundfile.SoundFile(source) as file:
            return file.read(dtype="float32", always_2d=True), file.samplerate, file.subtype
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        hint = "; convert it to WAV or FLAC" if "Format not recognised" in str(error) else ""
        raise AudioError("unreadable", f"{error}{hint}".replace(str(audio["path"]), "the file")) from error


def to_mono_16k(samples: npt.NDArray[Any], sampling_rate: int) -> Waveform:
    """Averages the channels of `(frames, channels)` and resamples to 16 kHz: `(samples,)` float32."""
    mono = samples.mean(axis=1, dtype=np.float32)
    if sampling_rate == SAMPLING_RATE or not len(mono):
        return mono
    return torchaudio.functional.resample(torch.from_numpy(mono), sampling_rate, SAMPLING_RATE).numpy()


def check(waveform: Waveform) -> None:
    """
    Raises:
        AudioError: if a waveform is empty, has samples that are no numbers, or is silent.
    """
    if not len(waveform):
        raise AudioError("empty", "it has no samples")
    if not np.isfinite(waveform).all():
        raise AudioError("not finite", f"{np.count_nonzero(~np.isfinite(waveform))} samples are NaN or infinite")
    if (peak := float(np.abs(waveform).max())) < SILENCE:
        raise AudioError("silent", f"its loudest sample is {peak:.1g} of full scale")


def read_mono(audio: str | dict[str, Any]) -> Waveform:
    """
    Reads a file, or what an undecoded `Audio` column holds, as a 16 kHz mono waveform `(samples,)`.

    Raises:
        AudioError: if it cannot be decoded, or is empty, silent or not finite.
    """
    samples, sampling_rate, _ = decode({"bytes": None, "path": audio} if isinstance(audio, str) else audio)
    waveform = to_mono_16k(samples, sampling_rate)
    check(waveform)
    return waveform


def read_segment(audio: dict[str, Any], start: int, stop: int) -> Waveform:
    """The samples from `start` to `stop` of a prepared clip, without decoding the rest of a long recording."""
    with soundfile.SoundFile(BytesIO(audio["bytes"])) as file:
        file.seek(start)
        return file.read(stop - start, dtype="float32")


def encode(waveform: Waveform, subtype: str) -> bytes:
    """A 16 kHz mono WAV of a waveform `(samples,)`, as `PCM_16` or `FLOAT`."""
    buffer = BytesIO()
    soundfile.write(buffer, waveform, SAMPLING_RATE, format="WAV", subtype=subtype)
    return buffer.getvalue()
