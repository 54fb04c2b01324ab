"""What the speed benchmark measures: a training, an inference, a probe. Each runs in a process of its own."""

import gc
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import datasets
import numpy as np
import torch
import transformers
from baseline import (
    DEFAULTS,
    VARIANTS,
    Result,
    Settings,
    extract,
    load_baseline,
    load_clips,
    read,
    solve_with_scikit_learn,
)
from transformers import Trainer, TrainerCallback, TrainingArguments

import hf_ser
from hf_ser import SERConfig, SERTrainer
from hf_ser.audio import SAMPLING_RATE, Augmentation, cut
from hf_ser.machine import has_bfloat16
from hf_ser.memory import keep_freed_memory
from hf_ser.modeling import load_model
from hf_ser.modeling.families import minimum_samples_in_training
from hf_ser.report.cost import operations, start_memory
from hf_ser.training.base import BaseTrainer
from hf_ser.training.dataset import SpeechCollator, SpeechDataset
from hf_ser.training.frozen import FrozenFeatures, cached_frozen_part
from hf_ser.tuning import Tuning, tune

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
        own = clips.select_columns(["audio", "label"])  # as a user's dataset
        return DefaultTrainer(settings.model, args, own, peft_config=method, order=order)
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
        timer = Timer(settings, batch_size)
        trainer.add_callback(timer)
        with cached_frozen_part(trainer) if variant == "cache" else nullcontext():
            if variant == "cache" and not isinstance(trainer.train_dataset, FrozenFeatures):
                return {"skipped": "nothing at the model's front is frozen, or its outputs do not fit on the disk"}
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
    clips = load_clips(settings, work).select_columns(["file", "label"]).rename_column("file", "audio")
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
