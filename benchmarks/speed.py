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
import gc
import json
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import datasets
import numpy as np
import pandas as pd
import torch
import transformers
from baseline import (
    BASELINE,
    DEFAULTS,
    HALF_BASELINE,
    VARIANTS,
    Result,
    Settings,
    extract,
    load_baseline,
    load_clips,
    read,
    set_up,
    solve_with_scikit_learn,
)
from peft import PeftModel
from transformers import Trainer, TrainerCallback, TrainingArguments

import hf_ser
from hf_ser import SERConfig, SERTrainer
from hf_ser.audio import SAMPLING_RATE, Augmentation, cut
from hf_ser.command_line import errors_in_one_line
from hf_ser.features import SpeechCollator, SpeechDataset
from hf_ser.machine import has_bfloat16, processor_name, processors
from hf_ser.memory import keep_freed_memory
from hf_ser.modeling import load_model
from hf_ser.modeling.families import minimum_samples_in_training
from hf_ser.report.cost import operations, start_memory
from hf_ser.training.base import BaseTrainer
from hf_ser.training.frozen import cached_frozen_part, frozen_part
from hf_ser.tuning import Tuning, tune

logger = logging.getLogger("speed")

PIPELINE, SCIKIT_LEARN = "pipeline", "scikit-learn"
#: The ways of inference: transformers' pipeline, and this package in each precision.
INFERENCE = (PIPELINE, "float32", "bfloat16", "int8")
#: The ways to a probe: scikit-learn, and this package on clips as they are, and with its augmentation.
PROBE = (SCIKIT_LEARN, "as they are", DEFAULTS)
AS_THEY_ARE = Augmentation(speed_probability=0.0, distort_probability=0.0)
#: The first of each is the baseline.
OTHERS = {"inference": INFERENCE, "probe": PROBE}
#: The batch sizes of transformers' pipeline and encoder, and how often each clip is predicted: on a GPU once is too short.
BATCH_SIZES, REPEATS = {"cpu": (1, 4, 16), "cuda": (16, 64)}, {"cpu": 1, "cuda": 4}
CACHE_GB = 64.0
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


# Training


class Ordered:
    """A Trainer that takes the clips in the same order in every epoch."""

    def __init__(self, *args: Any, order: Sequence[int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order = order
        self.remove_callback(transformers.PrinterCallback)  # type: ignore[attr-defined]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.order


class BaselineTrainer(Ordered, Trainer): ...


class OwnTrainer(Ordered, BaseTrainer): ...


class DefaultTrainer(Ordered, SERTrainer): ...


def optimisations(variant: str) -> list[str]:
    """The optimisations of a variant: its own and those of all variants before it."""
    return list(VARIANTS)[1 : list(VARIANTS).index(variant) + 1]


def make_trainer(
    settings: Settings,
    work: Path,
    clips: datasets.Dataset,
    method: str,
    variant: str,
    *,
    max_steps: int,
    batch_size: int | None = None,
) -> Any:
    """The Trainer of a variant."""
    transformers.set_seed(settings.seed)
    enabled, cpu = optimisations(variant), not torch.cuda.is_available()
    emotions, own_head = clips.features["label"].names, method == "frozen"
    order = np.random.default_rng(settings.seed).permutation(len(clips)).tolist()
    arguments: Result = {
        "output_dir": str(work / "output"),
        "per_device_train_batch_size": batch_size or settings.batch_sizes[0],
        "max_steps": max_steps,
        "use_cpu": cpu,
        "dataloader_num_workers": settings.workers,
        "dataloader_persistent_workers": settings.workers > 0,  # the epochs are short
        "remove_unused_columns": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": settings.seed,
    }
    if variant == DEFAULTS:
        keep_freed_memory()
        args = SERConfig(cpu_threads=settings.threads, frozen_cache_gb=CACHE_GB, overwrite_output_dir=True, **arguments)
        return DefaultTrainer(settings.model, args, labelled(clips, "audio"), peft_config=method, order=order)
    arguments |= {
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "bf16": "bfloat16" in enabled and has_bfloat16(cpu),
    }
    if "trainer" not in enabled:
        model, extractor = load_baseline(settings, emotions, method, weighted=own_head)
        column = "audio" if "prepared" in enabled else "file"
        return BaselineTrainer(
            model=model,
            args=TrainingArguments(label_names=["labels"], **arguments),
            train_dataset=clips.with_transform(partial(extract, column=column, extractor=extractor), [column, "label"]),
            processing_class=extractor,
            order=order,
        )
    loaded = load_model(settings.model, emotions, head="conv" if own_head else "stock")
    tuned = tune(loaded, Tuning(method=method, freeze_feature_encoder=False))
    segments = cut(np.rint(np.array(clips["duration"][:]) * SAMPLING_RATE))
    if "memory" in enabled:
        keep_freed_memory()
    trainer = OwnTrainer(
        tuned,
        SERConfig(
            average_share=0.0,  # the baseline does not average weights
            cpu_threads=settings.threads,
            frozen_cache_gb=CACHE_GB,
            micro_batch_seconds=None if "micro_batches" in enabled else 0,
            **arguments,
        ),
        collator=SpeechCollator(loaded.feature_extractor, minimum_samples_in_training(loaded.model.config)),
        train_dataset=SpeechDataset(clips, segments),
        eval_dataset=None,
        order=order,
    )
    if "attention" not in enabled:
        tuned.model.set_attn_implementation("sdpa")
    return trainer


def labelled(clips: datasets.Dataset, audio: str) -> datasets.Dataset:
    """Clips as a user's dataset has them: `audio`, from the column of that name, and `label`."""
    return clips.select_columns([audio, "label"]).rename_columns({audio: "audio"} if audio != "audio" else {})


class Timer(TrainerCallback):
    """
    Measures whole epochs after the warm-up, until `least_seconds` have passed; it ends `most_seconds` after the first step began.
    What comes before the first step takes `prepared_seconds`.
    """

    def __init__(self, settings: Settings, batch_size: int) -> None:
        self.settings, self.steps = settings, settings.training_clips // batch_size
        self.made = time.perf_counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.first = time.perf_counter()
        self.prepared_seconds = self.first - self.made

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        done = state.global_step - self.settings.warm_up
        late = done > 0 and time.perf_counter() - self.first > self.settings.most_seconds
        if done < 0 or (done % self.steps and not late):
            return
        if args.device.type == "cuda":
            torch.cuda.synchronize(args.device)
        if not done:
            self.memory, self.began = start_memory(args.device), time.perf_counter()
        self.seconds = time.perf_counter() - self.began
        if done and (late or self.seconds >= self.settings.least_seconds):
            self.clips = done * args.per_device_train_batch_size
            self.peak_bytes = self.memory()["peak_bytes"]
            control.should_training_stop = True


def train(settings: Settings, work: Path, method: str, variant: str) -> Result:
    """
    Measures some epochs of training with each batch size, from the first on, until the memory runs out.

    Returns:
        Of the fastest `batch_size`: `clips_per_second`, the `clips` and `seconds` that were measured, `peak_bytes`, and
        `cache_seconds`, the time to the first step, where a cache is filled before it, or a probe solved; of the first one the
        `operations` per clip, but for the defaults; and the clips per second of all `sizes`. Or `skipped` with the reason.
    """
    began, found = time.perf_counter(), list[Result]()
    with TemporaryDirectory(dir=work) as cache:
        for batch_size in settings.batch_sizes:
            gc.collect()  # a model and its Trainer refer to each other
            torch.cuda.empty_cache()
            if found and time.perf_counter() - began > settings.most_seconds:
                break
            try:
                found.append(train_batches(settings, work, method, variant, batch_size, cache))
            except torch.OutOfMemoryError:
                if not found:
                    raise
                break
            if "skipped" in found[0]:
                return found[0]
    best = max(found, key=lambda one: one["clips_per_second"])
    once = {key: found[0][key] for key in ("operations", "cache_seconds")}
    return {**best, **once, "sizes": {one["batch_size"]: one["clips_per_second"] for one in found}}


def train_batches(settings: Settings, work: Path, method: str, variant: str, batch_size: int, cache: str) -> Result:
    """The same with one batch size; `cache` is the folder of the outputs of frozen layers."""
    clips = load_clips(settings, work).select(range(settings.training_clips))
    counted: float | None = None
    with patch.dict(os.environ, {"HF_SER_CACHE": cache}):
        trainer = make_trainer(settings, work, clips, method, variant, max_steps=10**6, batch_size=batch_size)
        model = trainer.accelerator.unwrap_model(trainer.model)
        model = model.get_base_model() if isinstance(model, PeftModel) else model
        cached = variant == "cache"
        if cached and frozen_part(model) is None:
            return {"skipped": "nothing at the model's front is frozen"}
        timer = Timer(settings, batch_size)
        trainer.add_callback(timer)
        with cached_frozen_part(trainer) if cached else nullcontext():
            trainer.train()
            if batch_size == settings.batch_sizes[0] and variant != DEFAULTS:
                batch = next(iter(trainer.get_train_dataloader()))
                counted = operations(partial(trainer.training_step, trainer.model_wrapped, batch)) / batch_size
    return {
        "batch_size": batch_size,
        "clips_per_second": timer.clips / timer.seconds,
        "clips": timer.clips,
        "seconds": timer.seconds,
        "peak_bytes": timer.peak_bytes,
        "operations": counted,
        "cache_seconds": timer.prepared_seconds if variant in ("cache", DEFAULTS) else 0.0,
    }


def peak(settings: Settings, work: Path) -> Result:
    """Measures a large matrix product: `operations_per_second`, and its `dtype`."""
    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if has_bfloat16(not gpu) else torch.float32
    matrix = torch.randn(8192 if gpu else 512, 8192 if gpu else 512, dtype=dtype, device="cuda" if gpu else "cpu")
    rates = []
    for _ in range(10):
        began = time.perf_counter()
        matrix @ matrix
        if gpu:
            torch.cuda.synchronize()
        rates.append(2 * len(matrix) ** 3 / (time.perf_counter() - began))
    return {"operations_per_second": max(rates), "dtype": str(dtype).removeprefix("torch.")}


def data_sheet(name: str) -> float | None:
    """The operations per second of a GPU by its data sheet, if it is in [`DATA_SHEETS`]."""
    return next((rate for pattern, rate in DATA_SHEETS.items() if re.search(pattern, name)), None)


# Inference


def classify(settings: Settings, work: Path, way: str) -> Result:
    """
    Measures the prediction of all clips from their files in one of [`INFERENCE`].

    Returns:
        `clips_per_second`, `peak_bytes`, and the pipeline's fastest `batch_size`.
    """
    started = time.perf_counter()
    clips = load_clips(settings, work)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    files, emotions = clips["file"][:] * REPEATS[device.type], clips.features["label"].names
    transformers.set_seed(settings.seed)
    folder = work / "model"
    if way == PIPELINE:
        model, extractor = load_baseline(settings, emotions, "full")
        task: Result = {"task": "audio-classification", "device": device}
        classifier = transformers.AudioClassificationPipeline(model=model.eval(), feature_extractor=extractor, **task)
    else:
        loaded = load_model(settings.model, emotions)
        loaded.model.save_pretrained(folder)
        loaded.feature_extractor.save_pretrained(folder)
        keep_freed_memory()
        classifier = hf_ser.pipeline(folder, device=device, precision=way)

    def run(batch_size: int, count: int) -> None:
        if way == PIPELINE:
            arrays = ({"array": read(file), "sampling_rate": SAMPLING_RATE} for file in files[:count])
            found = list(classifier(arrays, batch_size=batch_size))
        else:
            paths = [file["path"] for file in files[:count]]
            found = [one for one in classifier.predict(paths) if one.problem is None]
        if len(found) < min(count, len(files)):
            raise RuntimeError(f"only {len(found)} of {len(files)} clips were classified")

    memory, times = start_memory(device), list[tuple[float, int]]()
    for batch_size in BATCH_SIZES[device.type] if way == PIPELINE else (0,):
        if times and time.perf_counter() - started > settings.most_seconds:
            break
        run(batch_size, batch_size or 1)  # warm-up
        began = time.perf_counter()
        run(batch_size, len(files))
        times.append((time.perf_counter() - began, batch_size))
    seconds, batch_size = min(times)
    return {"clips_per_second": len(files) / seconds, "batch_size": batch_size, "peak_bytes": memory()["peak_bytes"]}


# The probe


def solve(settings: Settings, work: Path, way: str) -> Result:
    """
    Measures a probe in one of [`PROBE`], from the files to the metrics: the script with several batch sizes, this package twice
    with empty caches. The fastest counts.

    Returns:
        `clips_per_second`, the script's `batch_size`, and the `peak_bytes` of all of them.
    """
    clips = labelled(load_clips(settings, work), "file")
    train = 3 * len(clips) // 4
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    memory, times = start_memory(device), list[tuple[float, int]]()
    started = time.perf_counter()
    for batch_size in BATCH_SIZES[device.type] if way == SCIKIT_LEARN else (0, 0):
        began = time.perf_counter()
        if times and began - started > settings.most_seconds:
            break
        try:
            if way == SCIKIT_LEARN:
                solve_with_scikit_learn(settings, clips, train, device, batch_size)
            else:
                solve_with_trainer(settings, work, clips, train, None if way == DEFAULTS else AS_THEY_ARE)
        except torch.OutOfMemoryError:
            if not times:
                raise
            break
        times.append((time.perf_counter() - began, batch_size))
    seconds, batch_size = min(times)
    return {"clips_per_second": len(clips) / seconds, "batch_size": batch_size, "peak_bytes": memory()["peak_bytes"]}


def solve_with_trainer(
    settings: Settings, work: Path, clips: datasets.Dataset, train: int, augmentation: Augmentation | None
) -> None:
    """This package's probe, with empty caches. The first `train` clips train, the others are tested."""
    with TemporaryDirectory(dir=work) as folder, patch.dict(os.environ, {"HF_SER_CACHE": folder}):
        trainer = SERTrainer(
            settings.model,
            SERConfig(
                output_dir=f"{folder}/output",
                cpu_threads=settings.threads,
                use_cpu=not torch.cuda.is_available(),
                dataloader_num_workers=settings.workers,
                report_to="none",
                disable_tqdm=True,
            ),
            clips.select(range(train)),
            peft_config="probe",
            augmentation=augmentation,
        )
        trainer.train()
        trainer.evaluate(clips.select(range(train, len(clips))))


# The benchmark


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
    Measures training, inference and probes in interleaved rounds.

    Args:
        settings (`Settings`): The arguments.
        work (`Path`): An empty folder.
        run (`Callable`, *optional*): Runs a task; by default in a process of its own.

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
