"""A process keeps what it has freed; and where memory is short, a clip is excluded, or an error says what to do."""

import json
import multiprocessing
import os
import platform
import re
import resource
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from datasets import Dataset
from small_files import write_clip

import hf_ser
from hf_ser import SERConfig, SERTrainer, memory
from hf_ser.audio import AudioError, decode, preparation, prepare
from hf_ser.corpora import Row, to_dataset
from hf_ser.inference.clips import find_clips
from hf_ser.memory import free_gpu_memory, free_memory, until_it_fits

PROGRAM = """
import json, resource, sys
import torch
from hf_ser.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.empty(16 * 2**20).fill_(1.0)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
taken = keep_freed_memory()
faults()
print(json.dumps({"taken": taken, "again": keep_freed_memory(), "before": before, "after": faults()}))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's allocator that gives memory back")
def test_a_tensor_takes_the_memory_that_another_has_freed() -> None:
    found = json.loads(subprocess.check_output([sys.executable, "-c", PROGRAM], text=True))
    assert found["taken"]
    assert found["again"]
    if found["before"] < 8 * 1000:  # else 16,384 pages for each tensor
        pytest.skip("this system gives memory in huge pages, and hardly any time is lost")
    assert found["after"] < found["before"] / 20


def test_what_the_process_holds_on_a_gpu_and_does_not_use_is_free_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (6e9, 16e9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 5e9)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 1e9)
    assert free_gpu_memory() == 10e9


def test_what_failed_is_freed_before_the_next_attempt_is_prepared() -> None:
    """Trap: a traceback keeps the graph of a step that failed, and preparing a smaller one needs memory, too."""
    made: list[weakref.ref[torch.Tensor]] = []
    reduced: list[str] = []

    def compute() -> str:
        if not made:
            tensor = torch.zeros(8)
            made.append(weakref.ref(tensor))
            raise MemoryError("it is full")
        return "computed"

    def reduce(error: Exception) -> None:
        assert made[0]() is None
        reduced.append(str(error))

    assert until_it_fits(compute, reduce) == "computed"
    assert reduced == ["it is full"]


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """A clip of a second, and one of ten minutes at 48 kHz, of which 115 MB are to be decoded."""
    soundfile.write(tmp_path / "long.flac", np.full(600 * 48_000, 0.1), 48_000)
    return [write_clip(tmp_path / "short.wav", seconds=1), tmp_path / "long.flac"]


@pytest.fixture
def rows(clips: list[Path]) -> Dataset:
    return to_dataset([Row(str(path), path.stem, "sad") for path in clips], "a")


def limited(function: Callable[[], Any]) -> Any:
    """What a function returns in a process that may take 64 MB more."""
    size = int(re.findall(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def run() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (size + 64 * 2**20, resource.RLIM_INFINITY))
        found = function()
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        sender.send(found)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    sender.close()
    found = receiver.recv()
    process.join()
    return found


def test_a_clip_beyond_the_memory_is_excluded(clips: list[Path]) -> None:
    def read(clip: Any) -> str:
        try:
            return f"{len(clip.read())} samples"
        except ValueError as error:
            return str(error)

    short, long = limited(lambda: [read(clip) for clip in find_clips(clips)])
    assert short == "16000 samples"
    assert long == "too long: it does not fit into memory; cut it into shorter files"


def test_a_clip_is_refused_before_memory_is_used_up(
    clips: list[Path], rows: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < free_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(decode, "free_memory", lambda: 100e6)
    long = find_clips(clips)[1]
    with pytest.raises(AudioError, match=r"^too long: 4\.37 minutes of it do not fit into memory, of which 100 MB are"):
        long.read()
    # In a corpus the clip would stay excluded when there is more memory.
    with pytest.raises(MemoryError, match=r"long\.flac: too long: .* or decode fewer at once \(prepare_workers\)"):
        prepare([rows], tmp_path / "cache", 1)
    monkeypatch.undo()
    assert prepare([rows], tmp_path / "cache", 1)["problem"][:] == ["", ""]


def test_a_model_is_refused_before_memory_is_used_up(
    tiny_hubert: Path, make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(method: str) -> None:
        args = SERConfig(str(tmp_path / method), max_steps=1, bf16=False, disable_tqdm=True, head="stock")
        SERTrainer(tiny_hubert, args, make_dataset(label=["sad", "happy"]), peft_config=method).train()

    weights = (tiny_hubert / "model.safetensors").stat().st_size
    monkeypatch.setattr(memory, "free_memory", lambda: 2 * weights)
    with pytest.raises(
        MemoryError, match=r"^training: the gradients and .* need 0\.00 GB of memory, of which 0\.00 GB are free"
    ):
        train("full")
    train("lora_qkv")
    monkeypatch.setattr(memory, "free_memory", lambda: weights / 2)
    with pytest.raises(
        MemoryError, match=rf"^{tiny_hubert}: its weights need .* end other programs, .* or choose a smaller"
    ):
        train("lora_qkv")
    with pytest.raises(MemoryError, match="its weights need"):
        hf_ser.pipeline(tiny_hubert)


def test_a_process_that_was_killed_while_it_decodes(
    rows: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "decode", lambda audio: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(MemoryError, match="prepare_workers=2: a process that decodes a was killed"):
        prepare([rows], tmp_path / "cache", 2)
