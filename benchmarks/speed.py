"""
Compares the speed of this package with plain transformers, on the same clips and weights.

    python benchmarks/speed.py                                   # HuBERT Base with random weights, synthetic clips
    python benchmarks/speed.py --model whisper-tiny --rounds 2 --output benchmarks/whisper-tiny
    python benchmarks/speed.py --model facebook/hubert-large-ll60k --corpora ravdess=/data/RAVDESS --methods full lora_qkv

The baseline of training is transformers' example of audio classification, in float32 and in bfloat16; each variant after it adds
one optimisation of this package to the variant before it, and the last one is SERTrainer with its defaults. The baseline of
inference is transformers' pipeline; that of a probe is a script with transformers' encoder and scikit-learn, from the files to
the metrics of the last quarter of the clips. Of several batch sizes the fastest counts. All variants train on the same clips in
the same order, from the same encoder. Each measurement runs in a process of its own, and the measurements are interleaved, so
that a busy machine slows down all of them. A ratio is the median over the rounds of a variant's clips per second, divided by the
baseline's in the same round. A whole run is extrapolated: preparing and caching as measured, once, and the epochs at the measured
rate. Validation and saving are not measured. The method frozen trains this package's conv head (with its defaults the linear
one), and in the baseline transformers' head on a weighted sum of the layers.

The share of matmul is the rate of operations (those of matrix products and convolutions in a training step, with its padding),
divided by the measured rate of a large matrix product in bfloat16 (float32, where the hardware has no bfloat16). MFU, the model
FLOPs utilisation, is the rate of operations, divided by that of the GPU's data sheet, if DATA_SHEETS has it.

Writes benchmark.json, and prints a table. benchmarks/gpu_check.py runs it on a machine with a GPU.
"""

import argparse
import dataclasses
import json
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import pandas as pd
import torch
import transformers
from baseline import (
    BASELINE,
    DEFAULTS,
    HALF_BASELINE,
    Result,
    Settings,
    load_clips,
    set_up,
)
from tasks import OTHERS, classify, optimisations, peak, solve, train

from hf_ser.command_line import errors_in_one_line
from hf_ser.machine import processor_name, processors

logger = logging.getLogger("speed")

#: Operations per second in dense matrix products in bfloat16 (V100, T4: float16), by a pattern of the GPU's name. From NVIDIA's
#: data sheets, https://www.nvidia.com/en-us/data-center/ and h200, h100, a100, l4, tesla-t4 or v100. Those of H200, H100 and L4
#: state twice as much, with sparsity (1,979 and 242 TFLOP/s). H200 and H100 are those with SXM: others are slower.
DATA_SHEETS = {
    r"\bH200$": 989e12,
    r"\bH100 80GB HBM3$": 989e12,
    r"\bA100\b": 312e12,
    r"\bL4$": 121e12,
    r"\bT4$": 65e12,
    r"\bV100-SXM": 125e12,
}


def data_sheet(name: str) -> float | None:
    """The operations per second of a GPU by its data sheet, if it is in [`DATA_SHEETS`]."""
    return next((rate for pattern, rate in DATA_SHEETS.items() if re.search(pattern, name)), None)


def in_own_process(task: Callable[..., Result], settings: Settings, *arguments: Any) -> Result:
    """Runs a task in a new process, so that its memory and settings do not reach the next task."""
    with new_process(settings) as process:
        return process.submit(task, settings, *arguments).result()


def new_process(settings: Settings) -> ProcessPoolExecutor:
    """A process for tasks."""
    forkserver = "forkserver" in get_all_start_methods()
    context: Any = get_context("forkserver" if forkserver else "spawn")
    if forkserver:  # the server imports once what every task needs
        context.set_forkserver_preload(["hf_ser.training", "hf_ser.pipeline", "hf_ser.report.cost"])
    return ProcessPoolExecutor(1, context, initializer=start_process, initargs=(settings.threads,))


def start_process(threads: int) -> None:
    """Gives a process its threads and one GPU: the Trainer would share out a batch to all GPUs."""
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    torch.set_num_threads(threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.simplefilter("ignore")


def benchmark(settings: Settings, work: Path, run: Callable[..., Result] = in_own_process) -> Result:
    """
    Measures training, inference and probes in interleaved rounds, in the empty folder `work`; `run` runs a task.

    Returns:
        The content of `benchmark.json`: `settings`, `machine`, `preparing`, and `lines`, one for each method and variant, and for
        each way of inference and to a probe.
    """
    load_before, name = os.getloadavg()[0], settings.model
    settings = set_up(settings, work)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        clips = load_clips(settings, work)
        seconds.append(time.perf_counter() - began)
    fastest = run(peak, settings, work)
    places = measurements(settings)
    rounds: list[dict[tuple[str, str], Result]] = []
    for turn in range(settings.rounds):
        rounds.append({})
        for group, variant in places[:: -1 if turn % 2 else 1]:
            task, names = {"inference": (classify, [variant]), "probe": (solve, [variant])}.get(
                group, (train, [group, variant])
            )
            try:
                found = run(task, settings, work, *names)
            except Exception as error:  # the other measurements go on
                found = {"problem": f"{type(error).__name__}: {error}"}
            rounds[-1][group, variant] = found
            logger.info("round %d, %s, %s: %s", turn + 1, group, variant, next(iter(found.items())))
    preparing = {"clips": len(clips), "speech": sum(clips["duration"]), "first": seconds[0], "again": seconds[1]}
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else processor_name()
    fastest["data_sheet"] = data_sheet(device)
    return {
        "settings": {
            **{key: value for key, value in dataclasses.asdict(settings).items() if key != "output"},
            "model": Path(name).name if Path(name).is_dir() else name,
            "corpora": [corpus.partition("=")[0] for corpus in settings.corpora],
        },
        "machine": {
            "name": device,
            "processors": processors(),
            "load": [round(load_before, 2), round(os.getloadavg()[0], 2)],
            "versions": {name: version(name) for name in ("torch", "transformers", "peft", "accelerate", "datasets")},
        },
        "peak": fastest,
        "preparing": preparing,
        "lines": [summarise(settings, preparing, fastest, rounds, *place) for place in places],
    }


def measurements(settings: Settings) -> list[tuple[str, str]]:
    """Each method with each variant, and the ways of inference and to a probe."""
    places = [(method, variant) for method in settings.methods for variant in settings.variants]
    places += [(group, way) for group in settings.others for way in OTHERS[group]]
    return [place for place in places if place != ("inference", "int8") or not torch.cuda.is_available()]


def summarise(
    settings: Settings,
    preparing: Result,
    fastest: Result,
    rounds: Sequence[dict[tuple[str, str], Result]],
    group: str,
    variant: str,
) -> Result:
    """A line of the comparison: medians over the rounds, and ratios to the baselines of the same round."""
    mine = [found[group, variant] for found in rounds]
    base = [found[group, OTHERS.get(group, (BASELINE,))[0]] for found in rounds]
    line = {"group": group, "variant": variant, "rounds": mine}
    for one in (*mine, *base):
        if "clips_per_second" not in one:
            return {**line, **one}
    rates, base_rates = ([one["clips_per_second"] for one in ones] for ones in (mine, base))
    line["ratio"] = median(mine / other for mine, other in zip(rates, base_rates, strict=True))
    line |= {key: median(one[key] for one in mine) for key in ("clips_per_second", "batch_size", "peak_bytes")}
    if group not in OTHERS:
        half = [found.get((group, HALF_BASELINE), {}).get("clips_per_second") for found in rounds]
        if all(half):
            line["half_ratio"] = median(mine / other for mine, other in zip(rates, half, strict=True))
        if variant != DEFAULTS:
            operations_per_second = median(one["operations"] * one["clips_per_second"] for one in mine)
            line["share_of_matmul"] = operations_per_second / fastest["operations_per_second"]
            if fastest["data_sheet"]:
                line["mfu"] = operations_per_second / fastest["data_sheet"]
        clips = settings.training_clips
        prepared = "prepared" in optimisations(variant)
        prepare_seconds = clips * preparing["first"] / preparing["clips"] if prepared else 0.0
        once = prepare_seconds + median(one["cache_seconds"] for one in mine)
        line["run_seconds"] = once + settings.epochs * clips / median(rates)
        line["run_ratio"] = settings.epochs * clips / median(base_rates) / line["run_seconds"]
    return line


def table(report: Result) -> str:
    """The comparison as text."""
    settings, machine, preparing = report["settings"], report["machine"], report["preparing"]
    lines = pd.DataFrame(report["lines"]).drop(columns="rounds")
    lines["peak_bytes"] /= 1e9
    names = {
        "clips_per_second": "clips/s",
        "batch_size": "batch",
        "peak_bytes": "peak GB",
        "half_ratio": "ratio to bfloat16",
        "share_of_matmul": "share of matmul",
        "mfu": "MFU",
        "run_seconds": f"{settings['epochs']} epochs, s",
    }
    sheet = report["peak"]["data_sheet"]
    text = [
        f"{settings['model']} on {machine['name']}, {settings['threads']} threads, load {machine['load']} before and after",
        f"matmul: {report['peak']['operations_per_second'] / 1e12:.3g} TFLOP/s in {report['peak']['dtype']}"
        + (f", {sheet / 1e12:.3g} by the data sheet" if sheet else ""),
        f"{preparing['clips']} clips of {preparing['speech']:.0f} s: prepared in {preparing['first']:.2f} s, the second time in "
        f"{preparing['again']:.2f} s",
        lines.rename(columns=names).to_string(index=False, na_rep="", float_format="{:.3g}".format),
    ]
    return "\n".join(text)


@errors_in_one_line(interrupted="interrupted")
def main() -> int:
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logger.setLevel(logging.INFO)
    parser = transformers.HfArgumentParser(
        Settings, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    (settings,) = parser.parse_args_into_dataclasses()
    start_process(settings.threads)
    with TemporaryDirectory(prefix="hf_ser-benchmark-") as work:
        report = benchmark(settings, Path(work))
    folder = Path(settings.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmark.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
