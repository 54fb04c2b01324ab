"""
Commands that are killed: repeated, they end in what they leave without an interruption, and before that nothing looks finished.

In the normal run each command is killed at a few moments, one after the other, and goes on each time. `HF_SER_KILLS=50` adds 50 random
moments of each command, each from its beginning.
"""

import hashlib
import json
import mmap
import multiprocessing
import os
import re
import resource
import shutil
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from small_files import write_clip
from tiny_models import save_model
from tqdm.std import TqdmDefaultWriteLock

import hf_ser
from hf_ser.cli import predict
from hf_ser.evaluation import plots
from hf_ser.export import export
from hf_ser.inference.files import PredictionFile
from hf_ser.training import SERTrainer, finetune, parse_arguments
from hf_ser.training.run import finetune_seeds

KILLS = int(os.environ.get("HF_SER_KILLS", "0"))
#: Audit events of a change on the disk, and the place of the file's path among their arguments.
CHANGES = {"open": 0, "os.mkdir": 0, "os.rename": 1, "os.remove": 0, "os.rmdir": 0, "os.link": 1, "os.truncate": 0}
#: The exit status of a process that is killed, and of one that writes more than it may or whose child did.
KILLED, CUT_OFF = (-signal.SIGKILL,), (-signal.SIGXFSZ, 1)
#: Bytes after which a file is cut off.
CUT = 700


class Moment(NamedTuple):
    """
    The moment before the `number`-th of those changes on the disk that match `pattern`, such as `open run/config.json`. With `cut`,
    it is within the next write of more than `CUT` bytes, of whichever library.
    """

    pattern: str
    number: int = 1
    cut: bool = False


class Command(NamedTuple):
    """
    Something that is killed in a folder and repeated.

    Args:
        run: The command, with its option to resume.
        finished: Whether the folder looks as if it had ended.
        found: What it leaves.
        moments: The chosen moments, in the order in which they come.
        start: Fills the folder before the command.
    """

    run: Callable[[Path], object]
    finished: Callable[[Path], bool]
    found: Callable[[Path], Any]
    moments: tuple[Moment, ...]
    start: Callable[[Path], object] = lambda folder: None


def forked(function: Callable[..., object], *arguments: object) -> int | None:
    """The exit status of a function in a forked process, which imports nothing again."""

    def run() -> None:
        torch.set_num_threads(1)  # OpenMP's threads are the parent's, and a second one would be waited for in vain
        # The lock of progress bars is the parent's, too: a process that is killed while it holds it would never release it.
        TqdmDefaultWriteLock.acquire = TqdmDefaultWriteLock.release = lambda *_, **__: None  # type: ignore[method-assign]
        function(*arguments)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(300)
    assert not process.is_alive(), process.kill()
    return process.exitcode


def watched(command: Callable[[Path], object], folder: Path, log: Path, moment: Moment | None = None) -> None:
    """Runs a command, and lists in `log` what it and its children change below `folder`; kills them at the moment."""
    os.setsid()
    for stream in (1, 2):  # a file would be cut off, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    counted = mmap.mmap(-1, 8)  # shared with children
    lines = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(event: str, arguments: Any) -> None:
        if event not in CHANGES or isinstance(path := arguments[CHANGES[event]], int):
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        path = os.fsdecode(path)
        if not os.path.isabs(path) and event in ("os.remove", "os.rmdir") and arguments[1] >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{arguments[1]}"), path)
        if not path.startswith(f"{folder}/"):
            return
        line = f"{event} {path.removeprefix(f'{folder}/')}"
        os.write(lines, f"{line}\n".encode())
        if moment and re.search(moment.pattern, line):
            number = struct.unpack("q", counted[:])[0] + 1
            counted[:] = struct.pack("q", number)
            if number == moment.number and moment.cut:
                resource.setrlimit(resource.RLIMIT_FSIZE, (CUT, CUT))  # SIGXFSZ ends whoever writes more
            elif number == moment.number:
                os.killpg(0, signal.SIGKILL)

    sys.addaudithook(note)
    command(folder)


def kill(command: Command, folder: Path, moment: Moment, expected: Any) -> int | None:
    """Runs a command until that moment, if it comes. What looks finished then must be finished."""
    status = forked(watched, command.run, folder, os.devnull, moment)
    if command.finished(folder):
        assert command.found(folder) == expected, f"killed at {moment}, it looks finished"
    return status


def check(command: Command, root: Path) -> tuple[Path, Any]:
    """
    Compares what a command leaves when it was killed with what it leaves otherwise.

    Returns:
        A folder in which it was killed and has ended, and what it leaves.
    """

    def make_folder(name: str) -> Path:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir()
        command.start(root / name)
        return root / name

    whole = make_folder("whole")
    assert forked(watched, command.run, whole, root / "changes") == 0
    expected, changes = command.found(whole), (root / "changes").read_text().splitlines()
    rng = np.random.default_rng(0)
    for turn in range(KILLS):
        folder, number = make_folder("random"), int(rng.integers(len(changes)))
        kill(command, folder, moment := Moment("", 1 + number, cut=bool(turn % 2)), expected)
        print(f"{turn}: {changes[number]}{', cut' * moment.cut}", flush=True)
        assert forked(command.run, folder) == 0, f"killed at {moment}"
        assert command.found(folder) == expected, f"killed at {moment}"
    folder = make_folder("chosen")
    for moment in command.moments:
        assert kill(command, folder, moment, expected) in (CUT_OFF if moment.cut else KILLED), f"{moment} does not come"
    assert forked(command.run, folder) == 0
    assert command.found(folder) == expected
    return folder, expected


def content(folder: Path, *patterns: str) -> dict[str, str]:
    """Hashes of files, of the tensors in weights, by name."""
    found = {}
    for path in [path for pattern in patterns for path in sorted(folder.glob(pattern))]:
        digest = hashlib.sha256()
        if path.suffix == ".safetensors":  # whose header has no order
            for name, tensor in sorted(load_file(path).items()):
                digest.update(name.encode() + tensor.tobytes())
        else:
            digest.update(path.read_bytes())
        found[path.relative_to(folder).as_posix()] = digest.hexdigest()
    return found


class Training:
    """A run of a tiny model, its caches in the same folder as the run."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def run(self, folder: Path) -> None:
        """With --seeds the same command resumes."""
        os.environ["HF_SER_CACHE"] = str(folder / "cache")
        words = [*self.words, "--output_dir", str(folder / "run")]
        finetune_seeds(words, parse_arguments(words), [1])

    def again(self, folder: Path) -> None:
        """Resumes the run, finished or not."""
        os.environ["HF_SER_CACHE"] = str(folder / "cache")
        words = [*self.words, "--seed", "1", "--output_dir", str(folder / "run/seed-1")]
        finetune(parse_arguments([*words, "--resume_from_checkpoint", "True"]))

    def finished(self, folder: Path) -> bool:
        return (folder / "run/seed-1/results.json").exists()

    def found(self, folder: Path) -> Any:
        run = folder / "run/seed-1"
        results = json.loads((run / "results.json").read_text())
        files = content(run, "*.safetensors", "adapter/*.safetensors", "*config.json", "splits.json", "excluded.csv")
        return files, results["metrics"], results["kept"], results["training"]["steps"]


def test_a_training(speech: Path, tiny_hubert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("confusion_matrix", "training_curves"):  # each run would draw for a second
        monkeypatch.setattr(plots, name, lambda *_: None)
    monkeypatch.setattr(plots, "save_figure", lambda _, path: path.touch())
    words = ["--corpora", f"synthetic={speech}", "--model_name_or_path", str(tiny_hubert), "--num_train_epochs", "2",
             "--emotions", "angry", "sad", "--learning_rate", "3e-3", "--method", "lora_qkv", "--bf16", "False",
             "--disable_tqdm", "True", "--prepare_workers", "1", "--cpu_threads", "1", "--speed_probability", "0",
             "--distort_probability", "0"]  # fmt: skip
    if not KILLS:
        monkeypatch.setattr(SERTrainer, "_solve_probe", lambda self: None)
        words += ["--head", "stock"]
    training = Training(*words)
    moments = (
        Moment("open cache/corpora/.*/tmp", cut=True),
        Moment("open run/seed-1/.splits.json"),
        Moment("rename cache/frozen/.*safetensors"),
        Moment("checkpoint-2/adapter_config", cut=True),
        Moment("open run/seed-1/.splits.json", 2, cut=True),
        Moment("rename run/seed-1/results.json"),
    )
    command = Command(training.run, training.finished, training.found, moments)
    folder, expected = check(command, tmp_path)
    assert not [*folder.glob("cache/corpora/*/tmp*"), *folder.rglob("*.partial"), *folder.rglob(".*.json.*")]
    assert not [*folder.glob("run/**/.lock")]
    # Finished, it is resumed: what it has left is replaced.
    again = command._replace(run=training.again)
    assert kill(again, folder, Moment("open run/seed-1/.unsaved-.*/adapter/adapter_config.json"), expected) in KILLED
    assert not command.finished(folder)
    assert forked(training.again, folder) == 0
    assert command.found(folder) == expected
    assert not [*folder.glob("run/*/.unsaved-*")]


@pytest.fixture
def classifier(tiny_hubert: Path, tmp_path: Path) -> Path:
    return save_model(tiny_hubert, tmp_path / "model", ("angry", "sad"))


def test_the_merging_of_a_table(classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [write_clip(tmp_path / "clips" / f"{number}.wav") for number in range(12)]  # rows of more than CUT bytes
    recogniser = hf_ser.pipeline(classifier)
    predictions = list(recogniser.predict(clips))

    def start(folder: Path) -> None:
        for part in range(2):
            file = PredictionFile(folder / f"out.part-{part}-of-2.csv", recogniser.emotions, str(classifier))
            for prediction in predictions[part::3]:
                file.write(prediction)

    def command(folder: Path) -> None:
        words = [str(classifier), *map(str, clips), "--output", str(folder / "out.csv"), "--resume"]
        monkeypatch.setattr(sys, "argv", ["predict", *words])
        sys.exit(predict.main())

    def rows(folder: Path) -> list[str]:
        return (folder / "out.csv").read_text().splitlines()

    def finished(folder: Path) -> bool:
        return (folder / "out.csv").exists() and len(rows(folder)) > len(clips)

    moments = (
        Moment("open .out-unfinished", cut=True),
        Moment("rename out.csv"),
        Moment("remove out.part-1"),
        Moment("open out.part-0-of-1"),
        Moment("open out.part-0-of-1", 2),
    )
    check(Command(command, finished, rows, moments, start), tmp_path)


def test_an_export(classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = {"clips": 1, "seconds": 1.0, "alone": 0.0, "batch": 0.0, "equal": 1.0}
    for name, stub in {
        "PACKAGES": ("torch",),
        "write_graph": lambda model, path: path.write_bytes(b"graph" * 1000),
        "ExportedModel": lambda *_: None,
        "SERPipeline": lambda **_: None,
        "compare": lambda *_: same,
    }.items():
        monkeypatch.setattr(f"hf_ser.export.{name}", stub)

    def command(folder: Path) -> None:
        export(classifier, folder / "exported", overwrite=True)

    moments = (
        Moment("open", cut=True),
        Moment("open .*/config.json"),
        Moment("open .*/export.json"),
        Moment("rename exported"),
    )

    def finished(folder: Path) -> bool:
        return (folder / "exported").exists()

    check(Command(command, finished, lambda folder: content(folder / "exported", "*"), moments), tmp_path)
