"""
Compares the speed of this package with plain transformers, on the same clips and weights.

    python benchmarks/speed.py                                   # HuBERT Base with random weights, synthetic clips
    python benchmarks/speed.py --model whisper-tiny --rounds 2 --check --output benchmarks/whisper-tiny
    python benchmarks/speed.py --model facebook/hubert-large-ll60k --corpora ravdess=/data/RAVDESS --methods full lora_qkv

The baseline of training is transformers' example of audio classification; each variant adds one optimisation of this package to
the variant before it. The baseline of inference is transformers' pipeline with the fastest of its batch sizes. All variants train
on the same clips in the same batches, from the same encoder. Each measurement runs in a process of its own, and the measurements
are interleaved, so that a busy machine slows down all of them. A ratio is the median over the rounds of a variant's clips per
second, divided by the baseline's in the same round. A whole run is extrapolated: preparing and caching as measured, once, and the
epochs at the measured rate. Validation and saving are not measured. The method head trains this package's conv head, and in the
baseline transformers' head on a weighted sum of the layers.

With --check the losses of all variants in float32 are compared. They differ on purpose where transformers normalises over the
padding, too (group-norm encoders such as HuBERT Base), or pads every clip to 30 s (Whisper).

Writes benchmark.json and benchmark.png, and prints a table.
"""

import argparse
import dataclasses
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from io import BytesIO
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import numpy as np
import pandas as pd
import soundfile
import torch
import transformers
from matplotlib.figure import Figure
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import HubertConfig, PretrainedConfig, Trainer, TrainerCallback, TrainingArguments, WhisperConfig

import hf_ser
from hf_ser.audio import SAMPLING_RATE, cut, prepare
from hf_ser.audio.decode import resample
from hf_ser.command_line import errors_in_one_line
from hf_ser.corpora import CorpusError, read_corpora
from hf_ser.encoders import encoder_config, minimum_samples, minimum_samples_in_training
from hf_ser.features import SpeechCollator, SpeechDataset
from hf_ser.machine import has_bfloat16, keep_freed_memory, processor_name, processors
from hf_ser.models import load_model
from hf_ser.models.load import load_config, resolve_checkpoint
from hf_ser.report.cost import start_memory
from hf_ser.training import SERConfig
from hf_ser.training.base import BaseTrainer
from hf_ser.training.frozen import cached_frozen_part, frozen_part
from hf_ser.tuning import Tuning, tune

logger = logging.getLogger("speed")
Result = dict[str, Any]

#: Encoders with random weights: they cost what the published ones do. No layers are left out at random (layerdrop 0).
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
TINY = {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536}
DECODER = {"decoder_layers": 1, "decoder_attention_heads": 6, "decoder_ffn_dim": 64}
SHAPES: dict[str, PretrainedConfig] = {
    "hubert-base": HubertConfig(layerdrop=0.0),
    "hubert-large": HubertConfig(**LARGE, **LAYER_NORM, layerdrop=0.0),
    "whisper-tiny": WhisperConfig(**TINY, **DECODER),
}
#: The methods, and the modules that the baseline's LoRA adapts.
METHODS: dict[str, tuple[str, ...]] = {
    "full": (),
    "lora_qkv": ("q_proj", "k_proj", "v_proj"),
    "lora_ff": ("fc1", "fc2", "intermediate_dense", "output_dense"),
    "lora_classifier": ("classifier",),
    "frozen": (),
}
#: The variants of training. Each has the optimisations of all variants before it.
VARIANTS = {
    "baseline": "transformers' Trainer: files decoded at every access, float32",
    "prepared": "clips from the corpus that was decoded once",
    "bfloat16": "bfloat16 where the hardware has it",
    "trainer": "this package's model and Trainer: frozen modules in eval mode and without a graph",
    "attention": "attention as plain matrix products in bfloat16 or with dropout, on a CPU",
    "micro_batches": "a batch in micro-batches of similar lengths, with less padding",
    "memory": "the allocator keeps freed memory, on a CPU",
    "cache": "the outputs of the frozen layers are kept between epochs",
}
BASELINE, PIPELINE = "baseline", "pipeline"
#: The ways of inference: transformers' pipeline, and this package in each precision.
INFERENCE = (PIPELINE, "float32", "bfloat16", "int8")
BATCH_SIZES = (1, 4, 16)
CACHE_GB = 64.0
#: Sampling rate in Hz, format and share of the synthetic clips: CREMA-D (half of it as FLAC), TESS, RAVDESS, SAVEE by size.
KINDS = (
    (16_000, "wav", 0.31),
    (16_000, "flac", 0.30),
    (24_000, "wav", 0.23),
    (48_000, "wav", 0.12),
    (44_100, "wav", 0.04),
)
#: Two losses in float32 are equal up to this difference.
TOLERANCE = 1e-4


def option(default: Any, words: str) -> Any:
    """A field that `HfArgumentParser` shows with its help."""
    return field(default=default, metadata={"help": words})


@dataclass(frozen=True)
class Settings:
    """The arguments of a benchmark. `clips=512 batch_size=16 steps=20 workers=4` keep a GPU busy."""

    model: str = option("hubert-base", f"encoder: a folder, a name on the Hub, or random weights: {', '.join(SHAPES)}")
    methods: list[str] = field(
        default_factory=list,
        metadata={"help": "by default those of the paper with this encoder", "choices": [*METHODS]},
    )
    variants: list[str] = field(
        default_factory=lambda: [*VARIANTS],
        metadata={"help": "; ".join(map(": ".join, VARIANTS.items())), "choices": [*VARIANTS]},
    )
    corpora: list[str] = field(default_factory=list, metadata={"help": "NAME=PATH; by default synthetic clips"})
    clips: int = option(32, "clips that are predicted, and clips of the synthetic corpus")
    batch_size: int = option(4, "clips in a training batch")
    steps: int = option(4, "training steps in an epoch")
    warm_up: int = option(1, "training steps before the measurement, at least 1")
    least_seconds: float = option(2.0, "seconds that are measured at least, in whole epochs")
    rounds: int = option(3, "how often each measurement is taken")
    epochs: int = option(50, "epochs of the extrapolated run")
    threads: int = option(processors(), "threads of a process on the CPU")
    workers: int = option(0, "processes that load the batches, on both sides")
    seed: int = option(0, "seed of clips, weights and order")
    check: bool = option(False, "also compare the losses of the variants in float32")
    output: str = option("benchmark", "the folder of the results")

    def __post_init__(self) -> None:
        if self.clips < self.steps * self.batch_size:
            raise ValueError(
                f"clips={self.clips}: expected at least steps * batch_size, {self.steps * self.batch_size}"
            )
        if BASELINE not in self.variants:
            raise ValueError(f"variants={self.variants}: expected {BASELINE} among them, for comparison")


# Clips


def write_clips(folder: Path, clips: int, seed: int = 0) -> str:
    """Writes synthetic clips with the rates, formats and lengths of the usual corpora, and returns `manifest=PATH`."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    kinds = rng.choice(len(KINDS), size=clips, p=[share for *_, share in KINDS])
    kinds[: len(KINDS)] = np.arange(len(KINDS))[:clips]  # each kind at least once
    lengths = np.clip(2.8 * np.exp(0.35 * rng.standard_normal(clips)), 1.5, 7.0)
    rows = []
    for i, (kind, length) in enumerate(zip(rng.permutation(kinds), lengths, strict=True)):
        rate, suffix, _ = KINDS[kind]
        seconds, pitch = np.arange(round(length * rate)) / rate, rng.uniform(90, 250)
        tone = sum(np.sin(2 * np.pi * k * pitch * seconds) / k for k in range(1, 12))
        samples = 0.1 * (1.2 + np.sin(8 * np.pi * seconds)) * (tone + 0.1 * rng.standard_normal(len(seconds)))
        soundfile.write(folder / f"{i:05d}.{suffix}", samples, rate, subtype="PCM_16")
        rows.append([f"{i:05d}.{suffix}", ("angry", "happy", "neutral", "sad")[i % 4], f"s{i % 10}"])
    pd.DataFrame(rows, columns=["path", "emotion", "speaker"]).to_csv(folder / "clips.csv", index=False)
    return f"manifest={folder / 'clips.csv'}"


def load_clips(settings: Settings, work: Path) -> datasets.Dataset:
    """
    Draws `settings.clips` clips from the corpora; decodes what is not prepared yet.

    Returns:
        Rows with `file` (undecoded), `audio` (prepared, 16 kHz), `label`, `duration` (s) and `samples_hash`, in random order.

    Raises:
        CorpusError: if the corpora have too few usable files.
    """
    corpora = read_corpora(settings.corpora)
    prepared = prepare(corpora, cache=work / "prepared", workers=settings.threads)
    files = datasets.concatenate_datasets(corpora).select_columns(["audio"]).rename_column("audio", "file")
    shortest = minimum_samples(load_config(settings.model)) / SAMPLING_RATE
    columns = zip(files["file"], prepared["problem"][:], prepared["duration"][:], strict=True)
    usable = [i for i, (file, problem, s) in enumerate(columns) if file["path"] and not problem and s >= shortest]
    if len(usable) < settings.clips:
        raise CorpusError(
            f"corpora: expected clips={settings.clips} usable files, found {len(usable)}; give fewer clips"
        )
    chosen = np.random.default_rng(settings.seed).permutation(usable)[: settings.clips].tolist()
    names = [prepared["emotion"][i] or "unknown" for i in chosen]
    features = datasets.Features({"label": datasets.ClassLabel(names=sorted(set(names)))})
    labels = datasets.Dataset.from_dict({"label": names}, features=features)
    rows = prepared.select_columns(["audio", "duration", "samples_hash"])
    return datasets.concatenate_datasets([files.select(chosen), rows.select(chosen), labels], axis=1)


# The baseline: transformers, PEFT and nothing else


def read(audio: Result) -> np.ndarray:
    """Decodes a file or a prepared clip: `(samples,)` at 16 kHz."""
    source = audio["path"] if audio["bytes"] is None else BytesIO(audio["bytes"])
    samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    return resample(samples.mean(axis=1), rate)


def extract(batch: dict[str, list[Any]], column: str, extractor: Any) -> dict[str, list[Any]]:
    """The features of some rows, clip by clip, as transformers' example has it."""
    name = extractor.model_input_names[0]
    waveforms = [read(audio) for audio in batch[column]]
    return {name: list(extractor(waveforms, sampling_rate=SAMPLING_RATE)[name]), "labels": batch["label"]}


def load_baseline(
    settings: Settings, emotions: Sequence[str], method: str, *, weighted: bool = False, lora_dropout: float = 0.05
) -> tuple[Any, Any]:
    """The stock model with the parameters of `method` trainable, and its feature extractor."""
    config = transformers.AutoConfig.from_pretrained(settings.model)
    whisper = config.model_type == "whisper"
    config.id2label = dict(enumerate(emotions))
    config.use_weighted_layer_sum, config.apply_spec_augment = weighted, False
    setattr(config, "encoder_layerdrop" if whisper else "layerdrop", 0.0)
    stock = transformers.AutoModelForAudioClassification
    model = stock.from_pretrained(settings.model, config=config, dtype=torch.float32)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(settings.model, return_attention_mask=not whisper)
    if METHODS[method]:
        present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        targets = sorted(present.intersection(METHODS[method]))
        head = None if method == "lora_classifier" else ["projector", "classifier"]
        lora = {"target_modules": targets, "modules_to_save": head, "lora_dropout": lora_dropout}
        return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, **lora)), extractor
    if method == "frozen":
        model.freeze_encoder() if whisper else model.freeze_base_model()
    return model, extractor


# Training


class Recording:
    """A Trainer that takes the clips in the same order in every epoch, and keeps the loss of every step."""

    def __init__(self, *args: Any, order: Sequence[int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order, self.losses = order, list[torch.Tensor]()
        self.remove_callback(transformers.PrinterCallback)  # type: ignore[attr-defined]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.order

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.losses.append(super().training_step(*args, **kwargs))  # type: ignore[misc]
        return self.losses[-1]


class BaselineTrainer(Recording, Trainer): ...


class OwnTrainer(Recording, BaseTrainer): ...


def optimisations(variant: str) -> list[str]:
    """The optimisations of a variant: its own and those of all variants before it."""
    return list(VARIANTS)[1 : list(VARIANTS).index(variant) + 1]


def make_trainer(
    settings: Settings, work: Path, clips: datasets.Dataset, method: str, variant: str, *, max_steps: int, check: bool
) -> Any:
    """
    The Trainer of a variant. With `check` it trains in float32 with the stock head and without dropout in LoRA, so that its
    losses can be compared with those of other variants.
    """
    transformers.set_seed(settings.seed)
    enabled, cpu = optimisations(variant), not torch.cuda.is_available()
    emotions, lora_dropout = clips.features["label"].names, 0.0 if check else 0.05
    own_head = method == "frozen" and not check
    order = np.random.default_rng(settings.seed).permutation(len(clips)).tolist()
    arguments: Result = {
        "output_dir": str(work / "output"),
        "per_device_train_batch_size": settings.batch_size,
        "max_steps": max_steps,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "bf16": "bfloat16" in enabled and not check and has_bfloat16(cpu),
        "use_cpu": cpu,
        "dataloader_num_workers": settings.workers,
        "dataloader_persistent_workers": settings.workers > 0,  # the epochs are short
        "remove_unused_columns": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": settings.seed,
    }
    if "trainer" not in enabled:
        model, extractor = load_baseline(settings, emotions, method, weighted=own_head, lora_dropout=lora_dropout)
        column = "audio" if "prepared" in enabled else "file"
        return BaselineTrainer(
            model=model,
            args=TrainingArguments(label_names=["labels"], **arguments),
            train_dataset=clips.with_transform(partial(extract, column=column, extractor=extractor), [column, "label"]),
            processing_class=extractor,
            order=order,
        )
    loaded = load_model(settings.model, emotions, head="conv" if own_head else "stock")
    tuned = tune(loaded, Tuning(method=method, freeze_feature_encoder=False, lora_dropout=lora_dropout))
    segments = cut(np.rint(np.array(clips["duration"][:]) * SAMPLING_RATE))
    if "memory" in enabled:
        keep_freed_memory()
    trainer = OwnTrainer(
        tuned,
        SERConfig(
            average_share=0.0,  # the baseline does not average weights
            cpu_threads=settings.threads,
            micro_batch_seconds=None if "micro_batches" in enabled else 0,
            **arguments,
        ),
        collator=SpeechCollator(loaded.feature_extractor, minimum_samples_in_training(loaded.model.config)),
        train_dataset=SpeechDataset(clips, segments),
        eval_dataset=SpeechDataset(clips, segments),
        order=order,
    )
    if "attention" not in enabled:
        tuned.model.set_attn_implementation("sdpa")
    return trainer


def caching(trainer: Any, variant: str, folder: str) -> AbstractContextManager[None]:
    """The cache of the frozen layers, which is empty at first, where a variant has it."""
    cached = "cache" in optimisations(variant)
    return cached_frozen_part(trainer, CACHE_GB, folder=Path(folder)) if cached else nullcontext()


class Timer(TrainerCallback):
    """Measures whole epochs after the warm-up, until `least_seconds` have passed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.epochs, rest = divmod(state.global_step - self.settings.warm_up, self.settings.steps)
        if self.epochs < 0 or rest:
            return
        if args.device.type == "cuda":
            torch.cuda.synchronize(args.device)
        if not self.epochs:
            self.memory, self.began = start_memory(args.device), time.perf_counter()
        self.seconds = time.perf_counter() - self.began
        if self.epochs and self.seconds >= self.settings.least_seconds:
            self.peak_bytes = self.memory()["peak_bytes"]
            control.should_training_stop = True


def train(settings: Settings, work: Path, method: str, variant: str) -> Result:
    """
    Measures some epochs of training.

    Returns:
        `clips_per_second`, the `epochs` and `seconds` that were measured, `peak_bytes`, and `cache_seconds`, the time to fill
        the cache; or `skipped` with the reason.
    """
    clips = load_clips(settings, work).select(range(settings.steps * settings.batch_size))
    trainer = make_trainer(settings, work, clips, method, variant, max_steps=10**6, check=False)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model = model.get_base_model() if isinstance(model, PeftModel) else model
    if "cache" in optimisations(variant) and frozen_part(model) is None:
        return {"skipped": "nothing at the model's front is frozen"}
    timer = Timer(settings)
    trainer.add_callback(timer)
    with TemporaryDirectory(dir=work) as folder:
        began = time.perf_counter()
        with caching(trainer, variant, folder):
            cache_seconds = time.perf_counter() - began
            trainer.train()
    return {
        "clips_per_second": timer.epochs * len(clips) / timer.seconds,
        "epochs": timer.epochs,
        "seconds": timer.seconds,
        "peak_bytes": timer.peak_bytes,
        "cache_seconds": cache_seconds,
    }


def check_losses(settings: Settings, work: Path, method: str) -> Result:
    """
    Trains the baseline, and each variant with this package's Trainer, from the same weights in float32 without dropout.

    Returns:
        `losses` `(steps,)` of each variant, `difference` (the largest to the baseline's), and whether they are `equal`.
    """
    encoder = transformers.AutoModel.from_pretrained(settings.model, dtype=torch.float32)
    for name in encoder.config.to_dict():
        if name.endswith(("dropout", "layerdrop")):
            setattr(encoder.config, name, 0.0)
    silent = work / f"silent-{method}"
    encoder.save_pretrained(silent)
    transformers.AutoFeatureExtractor.from_pretrained(settings.model).save_pretrained(silent)
    settings = dataclasses.replace(settings, model=str(silent))
    clips = load_clips(settings, work).select(range(settings.steps * settings.batch_size))
    losses: dict[str, list[float]] = {}
    weights: dict[str, torch.Tensor] = {}
    for variant in settings.variants:
        if variant != BASELINE and "trainer" not in optimisations(variant):
            continue
        trainer = make_trainer(settings, work, clips, method, variant, max_steps=settings.steps, check=True)
        model = trainer.accelerator.unwrap_model(trainer.model)
        weights = weights or {key: value.clone() for key, value in model.state_dict().items()}
        model.load_state_dict(weights)
        with TemporaryDirectory(dir=work) as folder, caching(trainer, variant, folder):
            trainer.train()
        losses[variant] = [float(loss) for loss in trainer.losses]
    difference = max(float(np.abs(np.subtract(found, losses[BASELINE])).max()) for found in losses.values())
    return {"losses": losses, "difference": difference, "equal": difference <= TOLERANCE}


# Inference


def classify(settings: Settings, work: Path, way: str) -> Result:
    """
    Measures the prediction of all clips from their files in one of [`INFERENCE`].

    Returns:
        `clips_per_second`, `peak_bytes`, and the pipeline's fastest `batch_size`.
    """
    clips = load_clips(settings, work)
    files, emotions = clips["file"][:], clips.features["label"].names
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
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

    memory, times = start_memory(device), []
    for batch_size in BATCH_SIZES if way == PIPELINE else (0,):
        run(batch_size, batch_size or 1)  # warm-up
        began = time.perf_counter()
        run(batch_size, len(files))
        times.append((time.perf_counter() - began, batch_size))
    seconds, batch_size = min(times)
    return {"clips_per_second": len(files) / seconds, "batch_size": batch_size, "peak_bytes": memory()["peak_bytes"]}


# The benchmark


def in_own_process(task: Callable[..., Result], settings: Settings, *arguments: Any) -> Result:
    """Runs a task in a new process, so that its memory and settings do not reach the next task."""
    forkserver = "forkserver" in get_all_start_methods()
    context: Any = get_context("forkserver" if forkserver else "spawn")
    if forkserver:  # the server imports once what every task needs
        context.set_forkserver_preload(["hf_ser.training", "hf_ser.pipeline", "hf_ser.report.cost"])
    with ProcessPoolExecutor(1, context, initializer=start_process, initargs=(settings.threads,)) as pool:
        return pool.submit(task, settings, *arguments).result()


def start_process(threads: int) -> None:
    """Gives a process its threads and one GPU: the Trainer would share out a batch to all GPUs."""
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    torch.set_num_threads(threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.simplefilter("ignore")


def set_up(settings: Settings, work: Path) -> Settings:
    """Makes the encoder and the clips that are not given, and fills in the default methods."""
    model = resolve_checkpoint(settings.model)
    if config := SHAPES.get(model):
        transformers.set_seed(settings.seed)
        model = str(work / model)
        whisper = config.model_type == "whisper"
        (transformers.WhisperModel if whisper else transformers.HubertModel)(config).save_pretrained(model)
        extractor = transformers.WhisperFeatureExtractor if whisper else transformers.Wav2Vec2FeatureExtractor
        extractor(return_attention_mask=not whisper).save_pretrained(model)
    whisper = encoder_config(load_config(model)).model_type == "whisper"
    usual = ["lora_ff", "frozen"] if whisper else ["full", "lora_qkv", "lora_classifier", "frozen"]
    return dataclasses.replace(
        settings,
        model=model,
        corpora=settings.corpora or [write_clips(work / "clips", settings.clips, settings.seed)],
        methods=settings.methods or usual,
        variants=[name for name in VARIANTS if name in settings.variants],
    )


def benchmark(settings: Settings, work: Path, run: Callable[..., Result] = in_own_process) -> Result:
    """
    Measures training and inference in interleaved rounds.

    Args:
        settings (`Settings`): The arguments.
        work (`Path`): An empty folder.
        run (`Callable`, *optional*): Runs a task; by default in a process of its own.

    Returns:
        The content of `benchmark.json`: `settings`, `machine`, `preparing`, `lines` (one for each method and variant, and for
        each way of inference) and `check`.
    """
    load_before, name = os.getloadavg()[0], settings.model
    settings = set_up(settings, work)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        clips = load_clips(settings, work)
        seconds.append(time.perf_counter() - began)
    ways = [way for way in INFERENCE if way != "int8" or not torch.cuda.is_available()]
    places = [*((m, v) for m in settings.methods for v in settings.variants), *(("inference", way) for way in ways)]
    rounds: list[dict[tuple[str, str], Result]] = []
    for turn in range(settings.rounds):
        rounds.append({})
        for group, variant in places[:: -1 if turn % 2 else 1]:
            task, names = (classify, [variant]) if group == "inference" else (train, [group, variant])
            try:
                found = run(task, settings, work, *names)
            except Exception as error:  # the other measurements go on
                found = {"problem": f"{type(error).__name__}: {error}"}
            rounds[-1][group, variant] = found
            logger.info("round %d, %s, %s: %s", turn + 1, group, variant, next(iter(found.items())))
    preparing = {"clips": len(clips), "speech": sum(clips["duration"]), "first": seconds[0], "again": seconds[1]}
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "settings": {
            **{key: value for key, value in dataclasses.asdict(settings).items() if key != "output"},
            "model": Path(name).name if Path(name).is_dir() else name,
            "corpora": [corpus.partition("=")[0] for corpus in settings.corpora],
        },
        "machine": {
            "name": gpu or processor_name(),
            "processors": processors(),
            "load": [round(load_before, 2), round(os.getloadavg()[0], 2)],
            "versions": {name: version(name) for name in ("torch", "transformers", "peft", "accelerate", "datasets")},
        },
        "preparing": preparing,
        "lines": [summarise(settings, preparing, rounds, *place) for place in places],
        "check": {method: run(check_losses, settings, work, method) for method in settings.methods if settings.check},
    }


def summarise(
    settings: Settings, preparing: Result, rounds: Sequence[dict[tuple[str, str], Result]], group: str, variant: str
) -> Result:
    """A line of the comparison: medians over the rounds, and ratios to the baseline of the same round."""
    mine = [found[group, variant] for found in rounds]
    base = [found[group, PIPELINE if group == "inference" else BASELINE] for found in rounds]
    line = {"group": group, "variant": variant, "rounds": mine}
    for one in (*mine, *base):
        if "clips_per_second" not in one:
            return {**line, **one}
    rates, base_rates = ([one["clips_per_second"] for one in ones] for ones in (mine, base))
    line["ratio"] = median(rate / other for rate, other in zip(rates, base_rates, strict=True))
    line |= {key: median(one[key] for one in mine) for key in ("clips_per_second", "peak_bytes")}
    if group != "inference":
        clips = settings.steps * settings.batch_size
        prepare_seconds = clips * preparing["first"] / preparing["clips"] if variant != BASELINE else 0.0
        once = prepare_seconds + median(one["cache_seconds"] for one in mine)
        line["run_seconds"] = once + settings.epochs * clips / median(rates)
        line["run_ratio"] = settings.epochs * clips / median(base_rates) / line["run_seconds"]
    return line


def table(report: Result) -> str:
    """The comparison as text."""
    settings, machine, preparing = report["settings"], report["machine"], report["preparing"]
    lines = pd.DataFrame(report["lines"]).drop(columns="rounds")
    lines["peak_bytes"] /= 1e9
    names = {"clips_per_second": "clips/s", "peak_bytes": "peak GB", "run_seconds": f"{settings['epochs']} epochs, s"}
    text = [
        f"{settings['model']} on {machine['name']}, {settings['threads']} threads, load {machine['load']} before and after",
        f"{preparing['clips']} clips of {preparing['speech']:.0f} s: prepared in {preparing['first']:.2f} s, the second time in "
        f"{preparing['again']:.2f} s",
        lines.rename(columns=names).to_string(index=False, na_rep="", float_format="{:.3g}".format),
    ]
    for method, found in report["check"].items():
        verdict = "equal" if found["equal"] else "different"
        text.append(f"{method}: the losses are {verdict}, largest difference {found['difference']:.1g}")
    return "\n".join(text)


def plot(report: Result, path: Path) -> None:
    """Draws each variant's ratio to its baseline, with the clips per second beside the bar."""
    lines = [line for line in report["lines"] if "ratio" in line]
    figure = Figure(figsize=(9, 1.5 + 0.3 * len(lines)), layout="constrained")
    axes = figure.subplots()
    colours = ["#7F7F7F" if line["variant"] in (BASELINE, PIPELINE) else "#0072B2" for line in lines]
    bars = axes.barh(range(len(lines)), [line["ratio"] for line in lines], color=colours, height=0.7)
    labels = [f"{line['ratio']:.2f}x ({line['clips_per_second']:.3g} clips/s)" for line in lines]
    axes.bar_label(bars, labels, padding=3, fontsize=8)
    axes.set_yticks(range(len(lines)), [f"{line['group']}, {line['variant']}" for line in lines], fontsize=8)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.margins(x=0.3)
    axes.set(xscale="log", xlabel="clips per second, relative to the baseline")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"{report['settings']['model']} on {report['machine']['name']}, {report['settings']['threads']} threads"
    )
    figure.savefig(path, dpi=150)


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
    plot(report, folder / "benchmark.png")
    print(table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
