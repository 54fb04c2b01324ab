"""A benchmark from beginning to end: rounds of all measurements, in turns, so that a busy machine is busy for all."""

import logging
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from hf_ser.benchmark import clips, tasks
from hf_ser.benchmark.settings import Settings
from hf_ser.benchmark.shapes import SHAPES
from hf_ser.benchmark.tasks import BATCH_SIZES, PEER, TaskError, ways_of_inference
from hf_ser.benchmark.variants import BASELINE, DEFAULT_METHODS, METHODS, VARIANTS, setups
from hf_ser.encoders import encoder_config
from hf_ser.machine import processor_name, processors
from hf_ser.models.load import load_config, resolve_checkpoint
from hf_ser.report.cost import FLOPS_COUNTED

logger = logging.getLogger(__name__)

Run = Callable[..., dict[str, Any]]
PACKAGES = ("torch", "torchaudio", "transformers", "peft", "accelerate", "datasets", "numpy", "soundfile")
NOTES = (
    "Ratios are medians over the rounds of a variant's rate by the baseline's in the same round; rates are medians over rounds.",
    "All variants train on the same clips in the same batches, from the same encoder. Both sides leave no layers out at random "
    "(layerdrop 0). Validation and saving are not in the figures.",
    "Speech is counted without padding.",
    f"Share of peak: {FLOPS_COUNTED}; counted on the first batch and scaled by what goes through the model, padding included; by "
    "the rate of the best matrix product in the same precision.",
    "Whole runs are extrapolated: preparing and the frozen part's features, each as measured, once, and the epochs at the rate "
    "of the epochs that were measured.",
    "Inference reads files on both sides, and computes in float32 where nothing else is said; the pipeline has its best "
    "batch size of 1 to 16, and does not keep the padding of a batch out of the answer of a group-norm encoder (HuBERT Base).",
)


def benchmark(settings: Settings, run: Run = tasks.run_apart) -> dict[str, Any]:
    """
    Measures training, preparing and inference of all variants.

    Args:
        settings (`Settings`): What to measure. What is left open (corpora, methods) is filled in.
        run (`Callable`, *optional*): Does a task, see `hf_ser.benchmark.tasks`; by default in a process of its own.

    Returns:
        What `benchmark.json` holds.

    Raises:
        CorpusError, ValueError: if a corpus, model or argument does not fit.
        TaskError: if nothing can be measured.
    """
    machine = describe_machine(settings)
    settings = complete(settings, run)
    logger.info("preparing clips and models")
    about = run(settings, "set_up")
    peak = {key: value for key, value in run(settings, "peak").items() if key != "load"}
    rounds: list[dict[str, Any]] = []
    sizes: tuple[int, ...] = tuple(size for size in BATCH_SIZES if size <= settings.clips)
    for turn in range(settings.rounds):
        rounds.append(one_round(settings, turn, sizes, run))
        sizes = (rounds[0][PEER].get("batch_size", 1),)  # the pipeline's best of the first round
    prepare = [found["prepare"] for found in rounds]
    preparing = {key: median(one[key] for one in prepare) for key in prepare[0]}
    checks = {}
    if settings.check:
        for method in settings.methods:
            logger.info("check of %s", method)
            checks[method] = attempt(run, settings, "check", name=method)
    return {
        "settings": settings.json(),
        "machine": {**machine, "load_after": round(os.getloadavg()[0], 2)},
        "clips": {key: value for key, value in about.items() if key != "load"},
        "peak": peak,
        "training": [
            summarize_training(settings, method, variant, rounds, peak, preparing)
            for method in settings.methods
            for variant in settings.variants
        ],
        "preparing": preparing,
        "inference": summarize_inference(rounds),
        "check": checks,
        "notes": [*NOTES, *(f"{name}: {METHODS[name].note}" for name in settings.methods if METHODS[name].note)],
    }


def complete(settings: Settings, run: Run) -> Settings:
    """Makes the clips and the model where they are not given, and fills in the usual methods and the variants' order."""
    settings.work.mkdir(parents=True, exist_ok=True)
    model = settings.model
    if model in SHAPES:
        run(settings, "make_model", shape=model, folder=model)
        model = str(settings.work / model)
    else:
        model = resolve_checkpoint(model)
    family = encoder_config(load_config(model)).model_type
    corpora = settings.corpora or tuple(clips.write(settings.work / "clips", settings.clips, settings.seed))
    return replace(
        settings,
        model=model,
        corpora=corpora,
        methods=settings.methods or DEFAULT_METHODS.get(family, DEFAULT_METHODS[""]),
        variants=tuple(variant.name for variant in VARIANTS if variant.name in settings.variants),
    )


def one_round(settings: Settings, turn: int, sizes: Sequence[int], run: Run) -> dict[str, Any]:
    """Every measurement once; every other round the other way around."""
    logger.info("round %d of %d", turn + 1, settings.rounds)
    way = 1 if turn % 2 == 0 else -1
    found: dict[str, Any] = {"prepare": run(settings, "prepare", cache=f"prepared-{turn}"), "train": {}}
    for method in settings.methods:
        for variant in settings.variants[::way]:
            one = attempt(run, settings, "train", name=method, variant=variant)
            found["train"][method, variant] = one
            said = one.get("skipped") or one.get("problem") or f"{one['clips_per_second']:.3g} clips/s"
            logger.info("  %s, %s: %s", method, variant, said)
    for name in ways_of_inference()[::way]:
        tried = sizes if name == PEER else (1,)
        found[name] = one = attempt(run, settings, "classify", way=name, batch_sizes=tried)
        said = one.get("problem") or f"{one['clips_per_second']:.3g} clips/s"
        logger.info("  inference, %s: %s", name, said)
    return found


def attempt(run: Run, settings: Settings, task: str, **told: Any) -> dict[str, Any]:
    """A measurement; if it fails, `problem` says why, and the others go on."""
    try:
        return run(settings, task, **told)
    except TaskError as error:
        return {"problem": str(error)}


def median(values: Any) -> float:
    """The median, as JSON knows it."""
    return float(np.median(list(values)))


def summarize(mine: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds, and of the ratios to the baseline of the same round."""
    for name in ("skipped", "problem"):
        if said := [one[name] for one in mine if name in one]:
            return {name: said[0]}
    ratios = [
        one["clips_per_second"] / other["clips_per_second"]
        for one, other in zip(mine, base, strict=True)
        if "clips_per_second" in other
    ]
    return {
        "clips_per_second": median(one["clips_per_second"] for one in mine),
        "speech_per_second": median(one["speech_per_second"] for one in mine),
        "ratio": median(ratios) if ratios else None,
        "ratios": ratios,
        "peak_bytes": median(one["memory"]["peak_bytes"] for one in mine),
        "memory_of": mine[0]["memory"]["of"],
        "rounds": list(mine),
    }


def summarize_training(
    settings: Settings,
    method: str,
    variant: str,
    rounds: Sequence[dict[str, Any]],
    peak: dict[str, Any],
    preparing: dict[str, Any],
) -> dict[str, Any]:
    """A line of the comparison of training."""
    mine = [found["train"][method, variant] for found in rounds]
    line = {"method": method, "variant": variant, "adds": next(v.adds for v in VARIANTS if v.name == variant)}
    base = [found["train"][method, BASELINE] for found in rounds]
    summary = summarize(mine, base)
    if "clips_per_second" not in summary:
        return {**line, **summary}
    precision = mine[0]["precision"]
    best = peak[precision]["flops_per_second"]
    count = settings.steps * settings.batch_size
    prepared = count / preparing["clips_per_second"] if setups()[variant].prepared else 0.0
    cache = median(one["cache_seconds"] for one in mine)
    training = settings.epochs * count / summary["clips_per_second"]
    failed = any("clips_per_second" not in one for one in base)
    baseline = None if failed else settings.epochs * count / median(one["clips_per_second"] for one in base)
    seconds = prepared + cache + training
    return {
        **line,
        **summary,
        "precision": precision,
        "cached": mine[0]["cached"],
        "flops_per_second": median(one["flops_per_second"] for one in mine),
        "share_of_peak": median(one["flops_per_second"] for one in mine) / best,
        "cache_seconds": cache,
        "whole_run": {
            "epochs": settings.epochs,
            "clips": count,
            "seconds": seconds,
            "ratio": baseline and baseline / seconds,
            "preparing_seconds": prepared,
            "cache_seconds": cache,
            "extrapolated_from_epochs": min(one["steps"] for one in mine) / settings.steps,
        },
    }


def summarize_inference(rounds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of the comparison of inference."""
    peers = [found[PEER] for found in rounds]
    return [{"variant": name, **summarize([found[name] for found in rounds], peers)} for name in ways_of_inference()]


def describe_machine(settings: Settings) -> dict[str, Any]:
    """What it was measured on, and how busy that was before."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "processor": processor_name(),
        "processors": processors(),
        "threads": settings.threads,
        "gpu": gpu,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "load_before": round(os.getloadavg()[0], 2),
    }
