"""Damaged, absurd and hostile audio files: nothing crashes, hangs or fills the memory, and no good clip answers otherwise.

150 files by default; `HF_SER_FUZZ=10000 pytest tests/audio/test_fuzz.py` runs as many as that. A file depends on its number alone:
`damaged(1234)` is the one that a failure names.
"""

import multiprocessing
import os
import resource
import shutil
import struct
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile

from hf_ser.audio import AudioError, prepare, read_mono
from hf_ser.audio.decode import REASONS
from hf_ser.corpora import Row, to_dataset
from hf_ser.pipeline import SERPipeline

FIRST, FILES, GROUP = int(os.environ.get("HF_SER_FUZZ_FROM", 0)), int(os.environ.get("HF_SER_FUZZ", 150)), 50
#: For a file, or for a group of them that is prepared and predicted, in seconds; and for the memory that they may take.
SECONDS, BYTES = 120, 1 << 30
FORMATS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAV", "PCM_24"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"),
           ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("W64", "PCM_16"), ("AIFF", "PCM_16"),
           ("CAF", "ALAC_16"), ("RF64", "PCM_16"), ("AU", "PCM_16")]  # fmt: skip
#: Values that break arithmetic on sizes, rates and numbers of channels.
ODD = [0, 1, 2, 3, 255, 256, 1023, 1024, 1025, 3999, 65_535, 384_001, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
ODD_FLOATS = [np.nan, np.inf, -np.inf, 1e-42, 1e-30, 3.4e38, -3.4e38, 1e30, 1e19, 1e9]
NAMES = ["a", "ä" * 100, "x" * 240, "two\nlines", "\x1b[31mred", "-rf", "<script>alert(1)</script>", "a|b", "..", "%s{0}", " ",
         "=1+1", "\u202eexe", "'; --", "\N{PILE OF POO}", os.fsdecode(b"bad\xff")]  # fmt: skip


def encoded(rng: np.random.Generator) -> bytearray:
    """A clip of up to a second in one of the formats, at a rate and with channels that the format has."""
    format, subtype = FORMATS[rng.integers(len(FORMATS))]
    rate = int(rng.choice([8000, 16_000, 48_000] if subtype == "OPUS" else [8000, 16_000, 22_050, 44_100, 48_000]))
    channels = 1 if subtype == "IMA_ADPCM" else int(rng.integers(1, 4 if format != "MP3" else 3))
    samples = 0.3 * rng.standard_normal((int(rng.integers(1, rate)), channels)).clip(-3, 3)
    buffer = BytesIO()
    soundfile.write(buffer, samples, rate, format=format, subtype=subtype)
    return bytearray(buffer.getvalue())


def flip(content: bytearray, rng: np.random.Generator) -> None:
    for at in rng.integers(len(content), size=int(rng.integers(1, 30))):
        content[at] ^= int(rng.integers(1, 256))


def flip_in_header(content: bytearray, rng: np.random.Generator) -> None:
    for at in rng.integers(min(len(content), 64), size=int(rng.integers(1, 4))):
        content[at] = int(rng.integers(256))


def cut_off(content: bytearray, rng: np.random.Generator) -> None:
    del content[int(rng.integers(len(content))) :]


def cut_out(content: bytearray, rng: np.random.Generator) -> None:
    start = int(rng.integers(len(content)))
    del content[start : start + int(rng.integers(1, 2000))]


def insert(content: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(len(content)))
    content[at:at] = rng.bytes(int(rng.integers(1, 2000))) if rng.random() < 0.5 else bytes(content[:at])


def forge(content: bytearray, rng: np.random.Generator) -> None:
    """A size, rate, number of channels or whatever else is in the header becomes an odd one."""
    at, order = 2 * int(rng.integers(min(len(content) // 2, 64))), rng.choice(["<", ">"])
    form = "I" if rng.random() < 0.7 else "H"
    value = struct.pack(order + form, ODD[rng.integers(len(ODD))] % (1 << 8 * struct.calcsize(form)))
    content[at : at + len(value)] = value


def spoil_floats(content: bytearray, rng: np.random.Generator) -> None:
    """A WAV of floats with some that are none, or that no recording has."""
    samples = 0.3 * rng.standard_normal((int(rng.integers(1, 16_000)), int(rng.integers(1, 3))))
    value = ODD_FLOATS[rng.integers(len(ODD_FLOATS))]
    samples[rng.random(samples.shape) < rng.choice([1e-3, 0.5, 1.1])] = value
    buffer = BytesIO()
    soundfile.write(buffer, samples, 16_000, format="WAV", subtype=str(rng.choice(["FLOAT", "DOUBLE"])))
    content[:] = buffer.getvalue()


def replace(content: bytearray, rng: np.random.Generator) -> None:
    """Something else altogether: nothing, zeros, noise, a header alone, or another kind of file."""
    kinds = [
        b"",
        b"\0" * 5000,
        rng.bytes(5000),
        bytes(content[:12]),
        b"<html><script>alert(1)</script></html>",
        b"\x80\x04K\x01.",
    ]
    content[:] = kinds[rng.integers(len(kinds))]


DAMAGES: list[Callable[[bytearray, np.random.Generator], None]] = [
    flip, flip_in_header, flip_in_header, cut_off, cut_out, insert, forge, forge, forge, spoil_floats, replace,
]  # fmt: skip


def damaged(number: int) -> tuple[str, bytes]:
    """A file's name and content."""
    rng = np.random.default_rng([2024, number])
    content = encoded(rng)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        if content:
            DAMAGES[rng.integers(len(DAMAGES))](content, rng)
    return f"{NAMES[rng.integers(len(NAMES))]}{number}.wav", bytes(content)


def expected_of(path: Path) -> str:
    """Why a file cannot be used, or nothing."""
    try:
        read_mono(str(path))
    except AudioError as error:
        return error.reason
    return ""


def write(folder: Path, number: int) -> Path:
    name, content = damaged(number)
    path = folder / name
    try:
        path.write_bytes(content)
    except OSError:  # a disk that takes no such name
        path = folder / f"{number}.wav"
        path.write_bytes(content)
    return path


def fuzz(folder: Path, groups: list[range], recogniser: SERPipeline, pipe: Connection) -> None:
    """Reads, prepares and predicts the files of each group. What is done goes into the pipe before it is done."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * BYTES,) * 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    datasets.disable_progress_bars()
    warnings.simplefilter("error", RuntimeWarning)  # NumPy's, of an overflow
    for group in groups:
        expected: dict[Path, str] = {}
        for number in group:
            pipe.send(f"damaged({number})")
            path = write(folder, number)
            expected[path] = expected_of(path)
        pipe.send(f"preparing damaged({group[0]}) to damaged({group[-1]})")
        rows = to_dataset([Row(str(path), f"{n:09}", "sad") for n, path in enumerate(expected)], "a")
        prepared = prepare([rows], folder / "cache", 1)["problem"][:]
        for (path, reason), found in zip(expected.items(), prepared, strict=True):
            # A name that is no UTF-8 is none for Arrow.
            assert found == ("unreadable" if "\udcff" in path.name else reason), f"{path}: {found}, expected {reason}"
        pipe.send(f"predicting damaged({group[0]}) to damaged({group[-1]})")
        answers = list(recogniser.predict(list(expected)))
        for answer, reason in zip(answers, expected.values(), strict=True):
            found = (answer.problem or "").partition(":")[0]
            assert found in {reason, "too short"}, f"{answer}: expected {reason}"
            assert found in REASONS or sum(answer.probabilities.values()) == pytest.approx(1), answer
        good = [answer for answer in answers if not answer.problem]
        alone = list(recogniser.predict([Path(answer.name) for answer in good]))
        assert [answer.probabilities for answer in alone] == [answer.probabilities for answer in good]
        peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        pipe.send({"files": len(group), "good": len(good), "peak": peak, **Counter(expected.values())})
        shutil.rmtree(folder)
        folder.mkdir()


def guarded(*arguments: Any) -> None:
    try:
        fuzz(*arguments)
    except Exception:
        arguments[-1].send(traceback.format_exc())
        raise


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits of memory are Linux' own")
def test_damaged_files_are_excluded_and_change_nothing_for_the_others(tmp_path: Path, layer_norm: SERPipeline) -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    (tmp_path / "files").mkdir()
    groups = [range(FIRST + FILES)[first : first + GROUP] for first in range(FIRST, FIRST + FILES, GROUP)]
    process = multiprocessing.get_context("fork").Process(
        target=guarded, args=(tmp_path / "files", groups, layer_norm, theirs)
    )
    process.start()
    theirs.close()
    doing, found = "nothing yet", Counter[str]()
    try:
        while found["files"] < FILES:
            assert ours.poll(SECONDS), f"{doing}: takes more than {SECONDS} s"
            try:
                message = ours.recv()
            except EOFError:
                process.join()
                pytest.fail(f"{doing}: the process ended with {process.exitcode}")
            if isinstance(message, dict):
                peak = max(found.pop("peak", 0), message.pop("peak"))
                found += Counter(message)
                found["peak"] = peak
            else:
                assert "Traceback" not in message, f"{doing}: {message}"
                doing = message
        process.join(SECONDS)
    finally:
        process.kill()
    assert found["peak"] < BYTES, found
    assert min(found["good"], found["unreadable"], found["not finite"], found["empty"]) > FILES / 100, found
    print(dict(found))
