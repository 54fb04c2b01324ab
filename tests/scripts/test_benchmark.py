"""scripts/benchmark.py, as a user calls it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]


def test_a_benchmark_and_the_one_that_is_there(python: Run, run_script: Run, tmp_path: Path) -> None:
    words = ["--shape", "tiny", "--quick", "--methods", "lora_classifier", "--variants", "baseline", "cache", "--output",
             tmp_path / "out"]  # fmt: skip
    done = python("scripts/benchmark.py", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert [line["variant"] for line in report["training"]] == ["baseline", "cache"]
    assert report["settings"]["model"] == "tiny"
    assert "lora_classifier           cache" in done.stdout
    again = run_script("benchmark", *words)
    assert again.returncode == 1
    assert "holds a benchmark; choose another folder, or --overwrite" in again.stderr


def test_a_method_that_does_not_exist(run_script: Run, tmp_path: Path) -> None:
    done = run_script("benchmark", "--methods", "lora", "--output", tmp_path)
    assert done.returncode == 1
    assert "error: --methods: 'lora' is none of full" in done.stderr


def test_the_scale_of_corpora_that_are_too_small(run_script: Run, tmp_path: Path) -> None:
    done = run_script("benchmark", "--scale", "1000", "10", "--output", tmp_path)
    assert done.returncode == 1
    assert "error: --scale: needs corpora of 400 clips at least, found 10" in done.stderr
