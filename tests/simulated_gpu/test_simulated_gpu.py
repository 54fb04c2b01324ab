"""Whole runs on a device that is not the CPU: what would fail on a GPU since its tensors meet those of the CPU, fails here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.cpp_extension import include_paths, library_paths

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The device, compiled."""
    if not (compiler := shutil.which("g++")):
        pytest.skip("there is no C++ compiler")
    path = tmp_path_factory.mktemp("device") / "device.so"
    where = [f"-I{folder}" for folder in include_paths()] + [f"-L{folder}" for folder in library_paths()]
    command = [compiler, "-shared", "-fPIC", "-std=c++17", "-O0", "-w", str(HERE / "device.cpp"), "-o", str(path)]
    subprocess.run([*command, *where, "-ltorch", "-ltorch_cpu", "-lc10"], check=True)
    return path


def test_runs_of_each_kind(library: Path, speech: Path, tiny_hubert: Path, tmp_path: Path) -> None:
    """Trap: the loss of an evaluation met its weights, and every run on a GPU ended with its first evaluation."""
    words = [library, speech, tiny_hubert, tmp_path]
    script = [sys.executable, str(HERE / "train_and_predict.py"), *map(str, words)]
    environment = {**os.environ, "ACCELERATE_TORCH_DEVICE": "gpu:0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(script, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    differences = json.loads((tmp_path / "differences.json").read_text())
    assert list(differences) == ["probe", "lora_qkv", "full"]
    assert max(differences.values()) < 1e-4
