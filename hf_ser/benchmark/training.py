"""How fast a variant trains, and whether two variants learn the same."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from transformers import SequenceFeatureExtractor, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from hf_ser.audio import SAMPLING_RATE, cut
from hf_ser.benchmark import clips as benchmark_clips
from hf_ser.benchmark import peer
from hf_ser.benchmark.clips import BenchmarkClips
from hf_ser.benchmark.settings import Settings
from hf_ser.benchmark.shapes import without_chance
from hf_ser.benchmark.variants import METHODS, Method, Setup, setups
from hf_ser.encoders import encoder_config, minimum_samples_in_training
from hf_ser.features import SpeechCollator, SpeechDataset
from hf_ser.machine import has_bfloat16
from hf_ser.memory import keep_freed_memory
from hf_ser.models import load_model
from hf_ser.models.load import load_config
from hf_ser.models.positions import use_stock_positions
from hf_ser.report.cost import operations, start_memory
from hf_ser.training.arguments import SERTrainingArguments
from hf_ser.training.frozen import cached_frozen_part, frozen_part
from hf_ser.training.trainer import SERTrainer
from hf_ser.tuning import Tuning, tune

LEARNING_RATE = 1e-4
#: As far as losses in float32 may differ that are the same.
TOLERANCE = 1e-4
#: Why losses differ on purpose, by the norm or the family of the encoder.
REASONS = {
    "group": "the encoder's group norm is taken over the padding, too, in transformers, and over the clip alone here",
    "whisper": "transformers' Whisper hears 30 s of every clip, and the clip alone here",
}


class _OrderedSERTrainer(SERTrainer):
    """[`SERTrainer`] with the order of [`~hf_ser.benchmark.peer.OrderedTrainer`]."""

    order: Any = ()

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.order


class Window(TrainerCallback):
    """
    Times the steps after the first few: the same steps again and again, until enough time has gone by.

    Args:
        warm_up (`int`): Steps that do not count.
        steps (`int`): Steps of an epoch.
        least_seconds (`float`): How long it takes at least.
        least_epochs (`int`): How many epochs are timed at least.
        places (`list[int]`): See [`watch_places`]; afterwards those of the steps that count.
    """

    def __init__(self, warm_up: int, steps: int, least_seconds: float, least_epochs: int, places: list[int]) -> None:
        self.warm_up = warm_up
        self.steps = steps
        self.places = places
        self.least_seconds = least_seconds
        self.least_epochs = least_epochs
        self.step_seconds: list[float] = []
        self.seconds = 0.0
        self.memory: dict[str, Any] = {}
        self._began = self._last = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._begin(args, state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step <= self.warm_up:
            self._begin(args, state)
            return
        now = time.perf_counter()
        self.step_seconds.append(now - self._last)
        self._last = now
        epochs, rest = divmod(state.global_step - self.warm_up, self.steps)
        if not rest and epochs >= self.least_epochs and now - self._began >= self.least_seconds:
            synchronize(args.device)
            self.seconds = time.perf_counter() - self._began
            self.memory = self._memory()
            control.should_training_stop = True

    def _begin(self, args: Any, state: Any) -> None:
        if state.global_step == self.warm_up:
            synchronize(args.device)
            self.places.clear()
            self._memory = start_memory(args.device)
            self._began = self._last = time.perf_counter()


def synchronize(device: torch.device) -> None:
    """Waits until a GPU has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def order(clips: int, seed: int) -> list[int]:
    """The random order in which every variant takes the clips, in every epoch."""
    return np.random.default_rng(seed).permutation(clips).tolist()


def arguments(settings: Settings, setup: Setup, max_steps: int) -> dict[str, Any]:
    """What transformers' training arguments are told, of either side."""
    cpu = not torch.cuda.is_available()
    return {
        "output_dir": str(settings.work / "output"),
        "per_device_train_batch_size": settings.batch_size,
        "max_steps": max_steps,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "bf16": has_bfloat16(cpu) if setup.bf16 is None else setup.bf16,
        "use_cpu": cpu,
        "dataloader_num_workers": settings.workers,
        "dataloader_persistent_workers": settings.workers > 0,  # the epochs are short here
        "remove_unused_columns": False,
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": settings.seed,
        **setup.arguments,
    }


def lora_dropout(settings: Settings) -> float:
    """That of both sides."""
    return 0.0 if settings.silent else 0.05


def plain_trainer(settings: Settings, clips: BenchmarkClips, method: Method, setup: Setup, max_steps: int) -> Trainer:
    """transformers' own way."""
    model, extractor = peer.load(settings.model, clips.emotions, method, lora_dropout(settings))
    rows, read = (clips.prepared, peer.read_prepared) if setup.prepared else (clips.files, peer.read_file)
    trainer = peer.OrderedTrainer(
        model=model,
        args=TrainingArguments(label_names=["labels"], **arguments(settings, setup, max_steps)),
        train_dataset=peer.dataset(rows, extractor, read),
        processing_class=extractor,
    )
    trainer.order = order(len(rows), settings.seed)
    return trainer


def own_trainer(settings: Settings, clips: BenchmarkClips, method: Method, setup: Setup, max_steps: int) -> SERTrainer:
    """This package's way, as `hf_ser.training.run` has it."""
    loaded = load_model(settings.model, clips.emotions, head=method.head)
    extractor: SequenceFeatureExtractor = loaded.feature_extractor
    samples = np.rint(clips.seconds * SAMPLING_RATE).astype(np.int64)
    tuning: dict[str, Any] = {**method.tuning, "lora_dropout": lora_dropout(settings)}
    tuned = tune(loaded, Tuning(**tuning))
    trainer = _OrderedSERTrainer(
        tuned,
        SERTrainingArguments(
            average_share=0.0,  # the baseline averages nothing
            cpu_threads=settings.threads,
            frozen_cache_gb=setup.cache_gb,
            **arguments(settings, setup, max_steps),
        ),
        collator=SpeechCollator(extractor, minimum_samples_in_training(loaded.model.config)),
        train_dataset=SpeechDataset(clips.prepared, cut(samples)),
        eval_dataset=SpeechDataset(clips.prepared, cut(samples[:0])),
    )
    if not setup.plain_attention:
        tuned.model.set_attn_implementation("sdpa")
    if not setup.fourier_positions:
        use_stock_positions(tuned.model)
    trainer.order = order(len(samples), settings.seed)
    return trainer


def make_trainer(settings: Settings, clips: BenchmarkClips, method: Method, setup: Setup, max_steps: int) -> Trainer:
    """The Trainer of a variant, with the same seed for what is drawn."""
    set_seed(settings.seed)
    if setup.keep_memory:
        keep_freed_memory()
    trainer = (own_trainer if setup.own else plain_trainer)(settings, clips, method, setup, max_steps)
    trainer.remove_callback(PrinterCallback)
    return trainer


@contextmanager
def cached(trainer: Trainer, settings: Settings, setup: Setup) -> Iterator[float]:
    """The cache of what is frozen, empty at first, if the variant has one; gives the seconds that it took to compute."""
    if not (setup.cache_gb and isinstance(trainer, SERTrainer)):
        yield 0.0
        return
    with TemporaryDirectory(dir=settings.work) as folder:
        began = time.perf_counter()
        with cached_frozen_part(trainer, setup.cache_gb, folder=Path(folder)):
            synchronize(trainer.args.device)
            yield time.perf_counter() - began


def measure(settings: Settings, name: str, variant: str) -> dict[str, Any]:
    """
    Trains by the method `name` as `variant` says, for some steps.

    Returns:
        `clips_per_second`, `speech_per_second` (seconds of speech, without padding), `steps` and `seconds` that were timed and
        the `step_seconds` of the first of them; `cached`, the part of the model whose features are kept, and `cache_seconds`;
        `memory`; `flops_per_second` and `flops_first_step`; `precision`. Or `skipped`, and why.
    """
    method, setup = METHODS[name], setups()[variant]
    clips = benchmark_clips.load(settings).first(settings.steps * settings.batch_size)
    trainer = make_trainer(settings, clips, method, setup, max_steps=1_000_000)
    part = None
    if setup.cache_gb:
        wrapped: Any = trainer.accelerator.unwrap_model(trainer.model)
        part = frozen_part(wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped)
        if part is None:
            return {"skipped": "nothing at the model's front is frozen, so that there is nothing to keep"}
    places = watch_places(trainer)
    least_epochs = 2 if part else 1
    window = Window(settings.warm_up, settings.steps, settings.least_seconds, least_epochs, places)
    trainer.add_callback(window)
    with cached(trainer, settings, setup) as cache_seconds:
        trainer.train()
        timed = sum(places)
        places.clear()
        trainer.model_wrapped.zero_grad()
        # Fetched before: to resample a clip is a convolution, too.
        batch = next(iter(trainer.get_train_dataloader()))
        flops = operations(partial(trainer.training_step, trainer.model_wrapped, batch))
        counted = sum(places)
    epochs = len(window.step_seconds) / settings.steps
    return {
        "clips_per_second": epochs * len(clips.seconds) / window.seconds,
        "speech_per_second": epochs * float(clips.seconds.sum()) / window.seconds,
        "steps": len(window.step_seconds),
        "seconds": window.seconds,
        "step_seconds": window.step_seconds[: settings.steps],
        "cache_seconds": cache_seconds,
        "cached": part,
        "memory": window.memory,
        "flops_per_second": flops * timed / counted / window.seconds,
        "flops_first_step": flops,
        "precision": "bfloat16" if trainer.args.bf16 else "float32",
    }


def watch_places(trainer: Trainer) -> list[int]:
    """
    Notes how much goes through the model, padding included: the size of what is at its front, each time that it is called. The
    operations of a model grow with it.
    """
    places: list[int] = []
    compute = trainer.compute_loss

    def noted(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        places.append(next(inputs[name].numel() for name in ("input_values", "input_features") if name in inputs))
        return compute(model, inputs, *args, **kwargs)

    trainer.compute_loss = noted
    return places


def check(settings: Settings, name: str) -> dict[str, Any]:
    """
    Trains by the method `name` from the same weights, in float32, without dropout and masks, and with the stock head: as the
    baseline and as each variant of this package.

    Returns:
        The `losses` of each variant, the largest `difference` of any from the baseline's, whether they are `equal`, and where
        they need not be, a `note` with the reason.
    """
    silent = settings.work / f"silent-{name}"
    without_chance(settings.model, silent)
    settings = replace(settings, model=str(silent), silent=True)
    clips = benchmark_clips.load(settings).first(settings.steps * settings.batch_size)
    config = encoder_config(load_config(settings.model))
    method = replace(METHODS[name], head="stock", weighted=False)
    losses: dict[str, list[float]] = {}
    weights: dict[str, torch.Tensor] = {}
    for variant, setup in setups().items():
        if variant not in settings.variants or (losses and not setup.own):
            continue
        trainer = make_trainer(settings, clips, method, replace(setup, bf16=False), max_steps=settings.steps)
        model: Any = trainer.accelerator.unwrap_model(trainer.model)
        if weights:
            model.load_state_dict(weights)
        else:
            weights = {key: value.clone() for key, value in model.state_dict().items()}
        with cached(trainer, settings, setup):
            losses[variant] = train_losses(trainer)
    first, *others = losses.values()
    difference = max((float(np.abs(np.subtract(other, first)).max()) for other in others), default=0.0)
    note = REASONS.get(getattr(config, "feat_extract_norm", config.model_type), "")
    return {
        "losses": losses,
        "difference": difference,
        "tolerance": TOLERANCE,
        "equal": difference <= TOLERANCE,
        "note": "" if difference <= TOLERANCE else note,
    }


def train_losses(trainer: Trainer) -> list[float]:
    """Trains, and gives the loss of every step."""
    losses: list[float] = []
    step = trainer.training_step

    def recorded(*args: Any, **kwargs: Any) -> torch.Tensor:
        loss = step(*args, **kwargs)
        losses.append(float(loss))
        return loss

    trainer.training_step = recorded
    trainer.train()
    return losses
