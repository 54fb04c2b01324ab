"""
Damaged, absurd and hostile audio files: nothing crashes, hangs or fills the memory, and no good clip has other predictions.

500 files by default; `HF_SER_FUZZ=10000 pytest tests/inference/test_fuzz.py` takes as many. Some of them are trained on and go
through the page, too. A file depends on its number alone: `damaged(1234)` is the one that a failure names.
"""

import csv
import html
import json
import multiprocessing
import os
import resource
import shutil
import struct
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile
from small_files import write_clip

from hf_ser.audio import AudioError, prepare, read_mono
from hf_ser.audio.decode import REASONS
from hf_ser.corpora import Row, to_dataset
from hf_ser.pipeline import SERPipeline

FIRST, FILES, GROUP = (
    int(os.environ.get(name, other)) for name, other in [("HF_SER_FUZZ_FROM", 0), ("HF_SER_FUZZ", 500), ("", 100)]
)
#: Of so many files a model trains on those that it can, and so many go through the page.
SOME = max(FILES // 20, 25)
#: What a file, or a group that is prepared or predicted, may take.
SECONDS, BYTES = 120, 1 << 30
FORMATS = ("WAV PCM_16", "WAV FLOAT", "WAV DOUBLE", "WAV PCM_24", "WAV ULAW", "WAV IMA_ADPCM", "FLAC PCM_16", "OGG VORBIS", "OGG OPUS",
           "MP3 MPEG_LAYER_III", "W64 PCM_16", "AIFF PCM_16", "CAF ALAC_16", "RF64 PCM_16", "AU PCM_16")  # fmt: skip
#: Values that break arithmetic on sizes, rates and numbers of channels.
ODD = (0, 1, 2, 3, 255, 256, 1023, 1024, 1025, 3999, 65_535, 384_001, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
ODD_FLOATS = (np.nan, np.inf, -np.inf, 1e-42, 1e-30, 3.4e38, -3.4e38, 1e30, 1e19, 1e9)
NAMES = ("a", "ä" * 100, "x" * 240, "two\nlines", "\x1b[31m", "-rf", "<script>alert(1)</script>", "a|b", "..", "%s{0}", " ", "=1+1", "\u202e",
         "'; --", os.fsdecode(b"bad\xff"))  # fmt: skip


def file_of(samples: np.ndarray, rate: int, format: str) -> bytearray:
    buffer = BytesIO()
    soundfile.write(buffer, samples, rate, format=format.split()[0], subtype=format.split()[1])
    return bytearray(buffer.getvalue())


def damaged(number: int) -> tuple[str, bytes]:
    """The name and the content of a file."""
    rng = np.random.default_rng([2024, number])

    def below(high: int) -> int:
        return int(rng.integers(max(high, 1)))

    def noise(samples: int, channels: int) -> np.ndarray:
        return 0.3 * rng.standard_normal((samples, channels)).clip(-3, 3)

    format = FORMATS[below(len(FORMATS))]
    rate = int(rng.choice([8000, 16_000, 48_000, *([] if "OPUS" in format else [22_050, 44_100])]))
    content = file_of(
        noise(1 + below(rate // 4), 1 if "IMA" in format else 1 + below(2 if "MP3" in format else 3)), rate, format
    )
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        at, size = below(len(content)), below(2000)
        match str(
            rng.choice(["flip", "header", "cut", "out", "insert", "forge", "forge", "forge", "floats", "replace"])
        ):
            case "flip":
                for place in rng.integers(len(content) or 1, size=min(below(30), len(content))):
                    content[place] ^= 1 + below(255)
            case "header":
                content[at % 64 : at % 64 + 2] = rng.bytes(2)
            case "cut":
                del content[at:]
            case "out":
                del content[at : at + size]
            case "insert":
                content[at:at] = rng.bytes(size) if below(2) else bytes(content[:at])
            case "forge":  # a size, a rate, a number of channels or whatever else is there
                form = str(rng.choice(["<I", ">I", "<H", ">H"]))
                value = struct.pack(form, ODD[below(len(ODD))] % (1 << 8 * struct.calcsize(form)))
                at = 2 * below(64)
                content[at : at + len(value)] = value
            case "floats":
                samples = noise(1 + below(4000), 1 + below(2))
                samples[rng.random(samples.shape) < rng.choice([1e-3, 0.5, 1.1])] = rng.choice(ODD_FLOATS)
                content = file_of(samples, 16_000, str(rng.choice(["WAV FLOAT", "WAV DOUBLE"])))
            case "replace":
                others = (b"", b"\0" * 5000, rng.bytes(5000), bytes(content[:12]), b"<html><script>", b"\x80\x04K\x01.")
                content = bytearray(others[below(len(others))])
    return f"{NAMES[below(len(NAMES))]}{number}.wav", bytes(content)


def expected_of(path: Path) -> str:
    """Why a file cannot be used, or nothing."""
    try:
        read_mono(str(path))
    except AudioError as error:
        return error.reason
    return ""


def varies(path: Path) -> bool:
    """Whether each decoding of a file may be another: libmpg123 reads memory that it has not written behind a damaged frame."""
    try:
        with path.open("rb") as file:
            return soundfile.info(file).format == "MP3"
    except soundfile.LibsndfileError:
        return False


def write_damaged(number: int, folder: Path) -> Path:
    name, content = damaged(number)
    path = folder / name
    try:
        path.write_bytes(content)
    except OSError:  # a disk that takes no such name
        path = folder / f"{number}.wav"
        path.write_bytes(content)
    return path


def fuzz(folder: Path, recogniser: SERPipeline, pipe: Connection) -> None:
    """Reads, prepares and predicts all files. What is done goes into the pipe before it is done."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * BYTES,) * 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    datasets.disable_progress_bars()
    warnings.simplefilter("error", RuntimeWarning)  # NumPy's, of an overflow
    for first in range(FIRST, FIRST + FILES, GROUP):
        expected: dict[Path, str] = {}
        for number in range(first, min(first + GROUP, FIRST + FILES)):
            pipe.send(f"damaged({number})")
            path = write_damaged(number, folder)
            expected[path] = expected_of(path)
        pipe.send(f"preparing damaged({first}) and the next ones")
        rows = to_dataset([Row(str(path), f"{n:09}", "sad") for n, path in enumerate(expected)], "a")
        for (path, reason), found in zip(
            expected.items(), prepare([rows], folder / "cache", 1)["problem"], strict=True
        ):
            # A name that is no UTF-8 is none for Arrow.
            same = found == ("unreadable" if "\udcff" in path.name else reason)
            assert same or varies(path), f"{path}: {found}, expected {reason}"
        pipe.send(f"predicting damaged({first}) and the next ones")
        steady = [path for path in expected if not varies(path)]
        list(recogniser.predict([path for path in expected if path not in steady]))
        answers = list(recogniser.predict(steady))
        for answer, path in zip(answers, steady, strict=True):
            found = (answer.problem or "").partition(":")[0]
            assert found in {expected[path], "too short"}, f"{answer}: expected {expected[path]}"
            assert found in REASONS or sum(answer.probabilities.values()) == pytest.approx(1), answer
        good = [answer for answer in answers if not answer.problem]
        alone = list(recogniser.predict([Path(answer.name) for answer in good]))
        assert [answer.probabilities for answer in alone] == [answer.probabilities for answer in good]
        peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        assert peak < BYTES, f"{peak} bytes"
        pipe.send(Counter(expected.values()))
        shutil.rmtree(folder)
        folder.mkdir()
    print(f"{FILES} files, peak memory {peak / 1e6:.0f} MB")


def guarded(*arguments: Any) -> None:
    try:
        fuzz(*arguments)
    except Exception:
        arguments[-1].send(traceback.format_exc())


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits of memory are Linux' own")
def test_damaged_files_are_excluded_and_change_nothing_for_the_others(tmp_path: Path, layer_norm: SERPipeline) -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=guarded, args=(tmp_path, layer_norm, theirs))
    process.start()
    theirs.close()
    doing, found = "nothing yet", Counter[str]()
    try:
        while found.total() < FILES:
            assert ours.poll(SECONDS), f"{doing}: takes more than {SECONDS} s"
            message = ours.recv()  # an EOFError: the process has crashed
            if isinstance(message, Counter):
                found += message
            else:
                assert "Traceback" not in message, f"{doing}: {message}"
                doing = message
        process.join(SECONDS)
    except EOFError:
        process.join()
        pytest.fail(f"{doing}: the process ended with {process.exitcode}")
    finally:
        process.kill()
    assert min(found[reason] for reason in ("", "unreadable", "not finite", "empty")) > FILES / 100, found


@pytest.fixture
def files(tmp_path: Path) -> dict[Path, str]:
    """Some of the files, and why each cannot be used."""
    (tmp_path / "files").mkdir()
    paths = [write_damaged(number, tmp_path / "files") for number in range(FIRST, FIRST + SOME)]
    # No table can name the first ones.
    return {path: expected_of(path) for path in paths if not ("\udcff" in path.name or varies(path))}


def test_a_run_excludes_damaged_files_and_learns_the_same_without_them(
    files: dict[Path, str], tiny_hubert: Path, run_script: Callable[..., Any], tmp_path: Path
) -> None:
    parts = {"train": "angry sad", "validation": "sad angry", "test": "angry sad"}
    rows = [
        (write_clip(tmp_path / f"{part}-{emotion}.wav"), emotion, part)
        for part in parts
        for emotion in parts[part].split()
    ]

    def train(name: str, damaged: Iterable[Path]) -> dict[str, str]:
        lines = [
            json.dumps({"path": str(path), "emotion": emotion, "speaker": part, "split": part})
            for path, emotion, part in (*((path, "sad", "train") for path in damaged), *rows)
        ]
        (tmp_path / "clips.jsonl").write_text("\n".join(lines))
        done = run_script(
            "finetune", "--corpora", f"manifest={tmp_path / 'clips.jsonl'}", "--model_name_or_path", tiny_hubert, "--method", "full",
            "--head", "stock", "--max_steps", "1", "--split", "official", "--max_excluded", "1", "--bf16", "False",
            "--disable_tqdm", "True", "--output_dir", tmp_path / name,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        with (tmp_path / name / "excluded.csv").open(newline="", encoding="utf-8") as table:
            return {row["clip"].rpartition("/")[2]: row["reason"] for row in csv.DictReader(table)}

    excluded = train("all", files)
    used = [path for path in files if path.stem not in excluded]
    for path, reason in files.items():
        assert excluded.get(path.stem, "") in ({reason} if reason else {"", "too short"}), path
    assert len(used) > SOME / 10
    assert train("used", used) == {}
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("all", "used")]
    assert weights[0] == weights[1]


def test_the_page_refuses_damaged_files_and_predicts_the_same_without_them(files: dict[Path, str], model: Path) -> None:
    gradio = pytest.importorskip("gradio", reason="the page needs Gradio: pip install 'hf_ser[demo]'")
    from hf_ser.app.page import make_page

    answer = next(function.fn for function in make_page(str(model)).fns.values() if function.api_name == "predict")
    answers = {}
    for path, reason in files.items():
        try:
            answers[path] = answer(str(path))[0]
        except gradio.Error as error:
            found = html.unescape(error.message).partition(".wav is ")[2].partition(":")[0]
            assert found == reason or (found, reason) == ("too short", ""), path
        else:
            assert not reason, path
    assert len(answers) > SOME / 10
    assert {path: answer(str(path))[0] for path in answers} == answers
