"""
Checks this package on a machine with a GPU, in one command and less than eight minutes: runs the tests marked gpu, then the speed
benchmark with HuBERT Base and Large (random weights, synthetic clips) beside transformers' Trainer in float32 and in bfloat16,
each with the fastest of its batch sizes.

    python benchmarks/gpu_check.py --output gpu
    python benchmarks/gpu_check.py --output gpu --device cpu    # a tiny model without the tests, to try out this script

Prints a table for each model, and writes gpu_check.json. See benchmarks/speed.py for what is measured.
"""

import argparse
import dataclasses
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from baseline import BASELINE, HALF_BASELINE, Result, Settings
from speed import benchmark, in_own_process, start_process, table

from hf_ser.command_line import errors_in_one_line
from hf_ser.machine import processors
from hf_ser.modeling.load import TINY

REPOSITORY = Path(__file__).parents[1]
TESTS = ["tests/test_gpu.py", "tests/report/test_cost.py"]
METHODS, VARIANTS = ["full", "lora_qkv", "frozen"], [BASELINE, HALF_BASELINE, "memory", "cache"]
ONCE: dict[str, Any] = {"methods": METHODS, "variants": VARIANTS, "rounds": 1, "inference": False}
#: The settings of each device, for each of its models.
MODELS: dict[str, list[Settings]] = {
    "cuda": [
        Settings(model=model, clips=256, batch_sizes=[16, 48, 128], steps=2, least_seconds=1.5,
                 workers=min(processors() - 1, 8), **ONCE)
        for model in ("hubert-base", "hubert-large")
    ],
    "cpu": [Settings(model=TINY, clips=4, batch_sizes=[1, 2], steps=2, least_seconds=0.01, threads=1, **ONCE)],
}  # fmt: skip
#: Seconds that a measurement takes beside its training: a process, the model, the clips.
START_SECONDS = 8.0


def run_tests(seconds: float) -> Result:
    """Runs the tests marked gpu: `passed`, and the last lines that they printed."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *TESTS]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"passed": False, "printed": [f"not finished after {seconds:.0f} s"]}
    return {"passed": done.returncode == 0, "printed": (done.stdout + done.stderr).splitlines()[-40:]}


def before(deadline: float) -> Callable[..., Result]:
    """Runs measurements in processes of their own, each with its share of the time that is left, and none after the deadline."""

    def run(task: Callable[..., Result], settings: Settings, *arguments: Any) -> Result:
        if time.perf_counter() > deadline:
            return {"skipped": "no time was left"}
        return in_own_process(task, settings, *arguments)

    return run


@errors_in_one_line(interrupted="interrupted")
def main() -> int:
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("speed").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the folder of the results")
    parser.add_argument("--device", choices=[*MODELS], default="cuda")
    parser.add_argument("--minutes", type=float, default=7.5, help="what all of it may take")
    arguments = parser.parse_args()
    gpu = arguments.device == "cuda"
    if gpu and not torch.cuda.is_available():
        print("there is no CUDA device: nothing is checked (--device cpu tries out this script)", file=sys.stderr)
        return 2
    deadline = time.perf_counter() + 60 * arguments.minutes
    found: Result = {"tests": run_tests(60 * arguments.minutes / 4) if gpu else None, "models": []}
    arguments.output.mkdir(parents=True, exist_ok=True)
    models = MODELS[arguments.device]
    for place, settings in enumerate(models):
        if time.perf_counter() > deadline:
            break
        start_process(settings.threads)
        left = (deadline - time.perf_counter()) / (len(models) - place)
        seconds = max(left / (len(METHODS) * len(VARIANTS) + 1) - START_SECONDS, 1.0)
        settings = dataclasses.replace(settings, most_seconds=seconds)
        with TemporaryDirectory(prefix="hf_ser-gpu-check-") as work:
            report = benchmark(settings, Path(work), before(deadline) if gpu else lambda task, *words: task(*words))
        print(table(report), end="\n\n", flush=True)
        found["models"].append(report)
        (arguments.output / "gpu_check.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if gpu:
        print("\n".join(found["tests"]["printed"]))
    return 0 if not gpu or found["tests"]["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
