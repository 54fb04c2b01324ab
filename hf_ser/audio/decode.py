"""Files and stored clips become waveforms."""

import ctypes
import hashlib
import math
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # its signal takes most of a second to import: that is left to the first use
import soundfile
import torch
import torchaudio

from hf_ser.memory import free_memory, is_out_of_memory

#: The sampling rate that all encoders were pretrained on, in Hz.
SAMPLING_RATE = 16_000
#: A clip whose loudest sample is below this is silent (-80 dB of full scale).
SILENCE = 1e-4
#: A clip with a sample above this times full scale is damaged: its power would overflow. 32-bit integers stored as floats are
#: below it.
LOUDEST = 1e10
#: Why a clip cannot be used. The last one depends on the encoder.
REASONS = ("unreadable", "empty", "not finite", "silent", "too loud", "too long", "too short")

#: The lowest and highest sampling rate of a recording, in Hz. Another one means that the header is damaged.
RATES = (4_000, 384_000)
#: The longest recording that is decoded, in seconds, and the most samples of its mean (4 GB): 6 hours at up to 48 kHz.
LONGEST, MOST_SAMPLES = 6 * 3600.0, 1 << 30
#: Samples that are decoded at a time.
BLOCK = 1 << 20
#: Polyphase filters with more phases are not used.
PHASES = 1000

Waveform = npt.NDArray[np.float32]


class AudioError(ValueError):
    """A clip that cannot be used. `reason` is short and can be counted; the message has the details."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class MemoryShortError(AudioError):
    """A clip that does not fit into the memory that is free now."""

    def __init__(self, detail: str) -> None:
        super().__init__("too long", f"{detail}; cut it into shorter files")


@dataclass(frozen=True)
class Decoded:
    """
    The content of a file before it is resampled: the mean of its channels `(samples,)`, its sampling rate in Hz, the number of
    its channels, and the type of its samples in the words of soundfile (`PCM_16`).
    """

    mono: Waveform
    sampling_rate: int
    channels: int
    subtype: str


_lock = threading.Lock()
_decoding = 0
if platform.libc_ver()[0] == "glibc":
    _libc = ctypes.CDLL(None)
    _libc.fopen.restype = ctypes.c_void_p
    _nowhere = _libc.fopen(b"/dev/null", b"w")
    _stderr = ctypes.c_void_p.in_dll(_libc, "stderr")
    _terminal = _stderr.value
else:  # elsewhere the variable is another or may not be written: the messages are printed
    _stderr, _terminal, _nowhere = ctypes.c_void_p(), None, None


@contextmanager
def _silenced() -> Iterator[None]:
    """
    Discards what C code prints to C's `stderr`, in all threads, until the last of them leaves: libmpg123, which decodes MP3 for
    libsndfile, prints what is wrong with a file. File descriptor 2 stays as it is: Python's own `sys.stderr`, C++'s `std::cerr`
    and processes that are started meanwhile print as before.
    """
    global _decoding
    with _lock:
        _decoding += 1
        _stderr.value = _nowhere
    try:
        yield
    finally:
        with _lock:
            _decoding -= 1
            if not _decoding:
                _stderr.value = _terminal


@contextmanager
def _memory_permitting() -> Iterator[None]:
    """A lack of memory becomes a [`MemoryShortError`]."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryShortError("it does not fit into memory") from error


@_memory_permitting()
def decode(audio: dict[str, Any] | None, longest: float = LONGEST) -> Decoded:
    """
    Decodes an item of an undecoded `Audio` column, block by block: only the mean of the channels of a long recording is in
    memory. Memory grows with the decoded samples; the length in a damaged header has no effect.

    Args:
        audio (`dict`, *optional*): `bytes`, or if they are none, the `path` of a file that soundfile reads.
        longest (`float`, *optional*, defaults to 6 hours): The longest recording that is accepted, in seconds.

    Raises:
        AudioError: if it cannot be decoded, its sampling rate is outside of `RATES`, it is longer than `longest` or
            `MOST_SAMPLES`, or does not fit into memory (`MemoryShortError`).
    """
    audio = audio or {"bytes": None, "path": None}
    path = os.fsencode(audio["path"] or "")  # a name on disk need not be UTF-8
    if audio["bytes"] is None and not path:
        raise AudioError("unreadable", "there is neither a path nor content")
    if audio["bytes"] is None and b"\0" in path:  # soundfile would open the file whose name is the part before it
        raise AudioError("unreadable", "there is a null byte in its path")
    source = path if audio["bytes"] is None else BytesIO(audio["bytes"])
    try:
        with _silenced(), soundfile.SoundFile(source) as file:
            return Decoded(_mean_of_channels(file, longest), file.samplerate, file.channels, file.subtype)
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        if audio["bytes"] == b"" or (audio["bytes"] is None and os.path.isfile(path) and not os.path.getsize(path)):
            raise AudioError("empty", "the file has no bytes") from error
        if audio["bytes"] is None and not os.path.exists(path):
            raise AudioError("unreadable", f"there is no file {audio['path']!r}") from error
        hint = "; convert it to WAV or FLAC" if "Format not recognised" in str(error) else ""
        raise AudioError("unreadable", f"{error}{hint}".replace(repr(path), "'the file'")) from error


def _mean_of_channels(file: soundfile.SoundFile, longest: float) -> Waveform:
    rate = file.samplerate
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(
            "unreadable",
            f"its sampling rate is {rate} Hz, and must be from {RATES[0]} to {RATES[1]} Hz; its header may be damaged",
        )
    most = min(int(longest * rate), MOST_SAMPLES)
    mono = [np.zeros(0, np.float32)]
    samples = 0
    # Not SoundFile.blocks, which yields as many blocks as the header claims, even if the file ends before.
    while len(block := file.read(max(BLOCK // file.channels, 1), dtype="float32", always_2d=True)):
        samples += len(block)
        if samples > most:
            raise AudioError(
                "too long",
                f"it lasts more than {most / rate / 60:.3g} minutes at {rate} Hz, the longest that is accepted; "
                "cut it into shorter files",
            )
        # The next steps need twice as much. Without room for it the system may kill this or another process.
        if samples > BLOCK and 8 * samples > (free := free_memory()):
            minutes = samples / rate / 60
            raise MemoryShortError(
                f"{minutes:.3g} minutes of it do not fit into memory, of which {free / 1e6:.0f} MB are free"
            )
        with np.errstate(all="ignore"):  # `check` finds what is not finite
            mono.append(block.mean(axis=1, dtype=np.float32))
    return np.concatenate(mono)


@_memory_permitting()
def resample(mono: Waveform, sampling_rate: int) -> Waveform:
    """Resamples `(samples,)` of `sampling_rate` Hz to 16 kHz: `(samples,)` float32."""
    if sampling_rate == SAMPLING_RATE or not len(mono):
        return mono
    if sampling_rate // math.gcd(sampling_rate, SAMPLING_RATE) <= PHASES:
        return torchaudio.functional.resample(torch.from_numpy(mono), sampling_rate, SAMPLING_RATE).numpy()
    # A rate that shares few factors with 16,000 would need a filter for each of as many phases, and gigabytes for them. Instead,
    # the spectrum of whole seconds is cut or extended. Silence after the end separates it from the beginning.
    seconds = len(mono) // sampling_rate + 2
    padded = np.pad(mono, (0, seconds * sampling_rate - len(mono)))
    with np.errstate(all="ignore"):  # `check` finds what is not finite
        found = scipy.signal.resample(padded, seconds * SAMPLING_RATE).astype(np.float32)
    return found[: math.ceil(len(mono) * SAMPLING_RATE / sampling_rate)]


def check(waveform: Waveform, shortest: int = 0) -> None:
    """
    Raises:
        AudioError: if a waveform is empty, has fewer samples than the `shortest` clip of an encoder or samples that are not
            finite, is silent, or is louder than `LOUDEST`.
    """
    if not len(waveform):
        raise AudioError("empty", "it has no samples")
    if len(waveform) < shortest:
        raise AudioError("too short", f"it has {len(waveform)} samples at 16 kHz, the encoder needs {shortest}")
    if not np.isfinite(waveform).all():
        raise AudioError("not finite", f"{np.count_nonzero(~np.isfinite(waveform))} samples are NaN or infinite")
    if (peak := float(np.abs(waveform).max())) < SILENCE:
        raise AudioError("silent", f"its loudest sample is {peak:.1g} of full scale")
    if peak > LOUDEST:
        raise AudioError("too loud", f"its loudest sample is {peak:.1g} times full scale; the file may be damaged")


def hash_of(waveform: Waveform) -> str:
    """A hash of the samples: equal only for identical waveforms."""
    return hashlib.blake2b(waveform.tobytes(), digest_size=16).hexdigest()


def read_mono(audio: str | dict[str, Any] | None, longest: float = LONGEST, shortest: int = 0) -> Waveform:
    """
    Reads a file, or an item of an undecoded `Audio` column, as a 16 kHz mono waveform `(samples,)`. `longest` is in seconds,
    `shortest` in samples of the waveform.

    Raises:
        AudioError: if it cannot be decoded (see [`decode`]), or cannot be used (see [`check`]).
    """
    decoded = decode({"bytes": None, "path": audio} if isinstance(audio, str) else audio, longest)
    waveform = resample(decoded.mono, decoded.sampling_rate)
    check(waveform, shortest)
    return waveform


def read_segment(audio: dict[str, Any], start: int, stop: int) -> Waveform:
    """The samples from `start` to `stop` of a prepared clip, without decoding the rest of a long recording."""
    with soundfile.SoundFile(BytesIO(audio["bytes"])) as file:
        file.seek(start)
        return file.read(stop - start, dtype="float32")


@_memory_permitting()
def encode(waveform: Waveform, subtype: str) -> bytes:
    """A 16 kHz mono WAV of a waveform `(samples,)`, as `PCM_16` or `FLOAT`."""
    buffer = BytesIO()
    soundfile.write(buffer, waveform, SAMPLING_RATE, format="WAV", subtype=subtype)
    return buffer.getvalue()
