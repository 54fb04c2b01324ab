"""
Checks this package on a machine with a GPU, in one command and less than eight minutes: runs the tests marked gpu, then the speed
benchmark with HuBERT Large and Base (random weights, synthetic clips) beside transformers' Trainer in float32 and in bfloat16,
and beside its pipeline, each with the fastest of its batch sizes.

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
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from baseline import BASELINE, HALF_BASELINE, Result, Settings
from speed import benchmark, measurements, new_process, start_process, table

from hf_ser.command_line import errors_in_one_line
from hf_ser.machine import processors
from hf_ser.modeling.load import TINY

REPOSITORY = Path(__file__).parents[1]
TESTS = ["tests/test_gpu.py", "tests/report/test_cost.py"]
ONCE: dict[str, Any] = {"variants": [BASELINE, HALF_BASELINE, "memory", "cache"], "others": ["inference"], "rounds": 1}
#: The settings of each device, for each of its models.
MODELS: dict[str, list[Settings]] = {
    "cuda": [
        Settings(model=model, methods=methods, clips=256, batch_sizes=[32, 128], steps=2, least_seconds=1.5,
                 workers=min(processors() - 1, 8), **ONCE)
        for model, methods in {"hubert-large": ["full", "lora_qkv"], "hubert-base": ["full", "frozen"]}.items()
    ],
    "cpu": [Settings(model=TINY, methods=["full", "frozen"], clips=4, batch_sizes=[1, 2], steps=2, least_seconds=0.01, threads=1,
                     **ONCE)],
}  # fmt: skip
#: Seconds until a process is ready.
START_SECONDS = 8.0


def run_tests(seconds: float) -> Result:
    """Runs the tests marked gpu: `passed`, and the last lines that they printed."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *TESTS]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"passed": False, "printed": [f"not finished after {seconds:.0f} s"]}
    return {"passed": done.returncode == 0, "printed": (done.stdout + done.stderr).splitlines()[-40:]}


class Measurements:
    """
    Runs measurements, those of a method in one process: CUDA, the imports and the clips start once. None begins after the
    deadline.

    Args:
        deadline (`float`): On the clock `time.perf_counter`.
        left (`int`): So many measurements share the time that is left.
    """

    def __init__(self, deadline: float, left: int) -> None:
        self.deadline, self.left = deadline, left
        self.group: tuple[Any, ...] = ()
        self.process: ProcessPoolExecutor | None = None

    def __call__(self, task: Callable[..., Result], settings: Settings, work: Path, *names: str) -> Result:
        if (seconds := self.deadline - time.perf_counter()) < 0:
            return {"skipped": "no time was left"}
        seconds /= self.left
        self.left -= 1
        if self.process is None or self.group != (task, *names[:-1]):
            self.close()
            self.group, self.process = (task, *names[:-1]), new_process(settings)
            seconds -= START_SECONDS
        settings = dataclasses.replace(settings, most_seconds=max(seconds, 1.0))
        try:
            return self.process.submit(task, settings, work, *names).result()
        except BrokenProcessPool:
            self.process = None
            raise

    def close(self) -> None:
        """Ends the process."""
        if self.process is not None:
            self.process.shutdown()


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
        now = time.perf_counter()
        share = now + (deadline - now) / (len(models) - place)
        with (
            TemporaryDirectory(prefix="hf_ser-gpu-check-") as work,
            closing(Measurements(share, 1 + len(measurements(settings)))) as run,
        ):
            report = benchmark(settings, Path(work), run if gpu else lambda task, *words: task(*words))
        print(table(report), end="\n\n", flush=True)
        found["models"].append(report)
        (arguments.output / "gpu_check.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if gpu:
        print("\n".join(found["tests"]["printed"]))
    return 0 if not gpu or found["tests"]["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
