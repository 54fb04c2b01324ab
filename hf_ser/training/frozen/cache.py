"""A Trainer that trains, validates and predicts from the cached outputs of the frozen part of its model."""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from hf_ser.audio import SAMPLING_RATE
from hf_ser.cache import cache_folder
from hf_ser.memory import BATCH_SECONDS, kind_of
from hf_ser.modeling.kernels import frozen_weights_in_bfloat16
from hf_ser.modeling.replicas import Replicas
from hf_ser.training.attributes import temporarily
from hf_ser.training.base import BaseTrainer
from hf_ser.training.dataset import SpeechCollator, SpeechDataset, by_length
from hf_ser.training.frozen.parts import POOLED, compute, fed_with_features, frozen_part, part_key, segment_keys
from hf_ser.training.frozen.store import DiskLimitError, FeatureStore, Segment, in_use
from hf_ser.training.micro_batches import batch_scale
from hf_ser.training.streaming import StreamedSpeech

logger = logging.getLogger(__name__)

#: Seconds of speech in a batch, padding included; a longer segment is a batch of one. On a CPU convolutions are bound by memory:
#: the work on one clip at a time fits into the processor's cache.
SECONDS = {"cpu": 0.0, "gpu": BATCH_SECONDS["gpu"]}


@contextmanager
def cached_frozen_part(trainer: BaseTrainer) -> Iterator[None]:
    """
    Within it, `trainer` trains and validates from the outputs of the frozen part of its model. They are computed once for each
    clip, and cached on disk for all epochs and for later runs with the same frozen part: other folds, seeds, heads and methods.

    Where that is impossible the Trainer stays as it is, and the log gives the reason.
    """
    views = trainer.args.frozen_cache_views
    if trainer.args.max_steps <= 0:
        views = min(views, math.ceil(trainer.args.num_train_epochs))
    datasets = {"train_dataset": trainer.train_dataset}
    if trainer.eval_dataset is not None:
        datasets["eval_dataset"] = trainer.eval_dataset
    precision = trainer.accelerator.mixed_precision
    with _features(trainer, datasets, views, precision) as features, temporarily(trainer, **features):
        yield


@contextmanager
def cached_predictions(trainer: BaseTrainer, dataset: SpeechDataset, precision: str = "no") -> Iterator[SpeechDataset]:
    """
    The same for `trainer.predict_clips`, in float32, or another of accelerate's precisions. It gives `dataset` as
    [`FrozenFeatures`]; where nothing is frozen, or only the convolutions, `dataset` itself: it takes longer to write their
    outputs than to predict once.
    """
    with trainer.out_of_modes():
        if frozen_part(_untuned(trainer)) in ("feature_encoder", None):
            yield dataset
            return
        with _features(trainer, {"": dataset}, trainer.args.frozen_cache_views, precision) as features:
            yield features.get("", dataset)


class FrozenFeatures(SpeechDataset):
    """
    The segments of a [`SpeechDataset`], with the outputs of a frozen part in place of waveforms. It gives whole batches, padded
    to the longest segment.

    Args:
        dataset (`SpeechDataset`): The segments.
        store (`FeatureStore`): The features.
        keys (`Sequence[Sequence[str]]`): For each view of the clips the key of each segment in the store: epoch `e` takes the
            view `e` modulo their number.
        minimum (`int`): The number of frames of the shortest batch, which SpecAugment needs.
        name (`str`): The name of the model's input.
    """

    def __init__(
        self, dataset: SpeechDataset, store: FeatureStore, keys: Sequence[Sequence[str]], minimum: int, name: str
    ) -> None:
        # All that is known of the segments, without computing it again.
        vars(self).update(vars(dataset), augmentation=None)
        self.store = store
        self.keys = keys
        self.minimum = minimum
        self.name = name
        self.lengths = np.array([[len(frames) for frames in view] for view in self._features])  # (views, segments)
        #: The labels of each view of each segment, `(views, segments, outputs)`.
        self.mixed = np.stack([dataset.labels_in(view) for view in range(len(keys))])

    @cached_property
    def _features(self) -> list[list[torch.Tensor]]:
        features = self.store.load({key for view in self.keys for key in view})
        return [[features[key] for key in view] for view in self.keys]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_features"}  # a worker maps them itself

    def vectors(self) -> torch.Tensor:
        """The features of all views of all segments in float32, where each is one frame: `(views * segments, ...)`."""
        return torch.cat([frames for view in self._features for frames in view]).float()

    def __getitem__(self, key: int) -> dict[str, Any]:
        """A batch of one."""
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[int]) -> dict[str, Any]:
        """
        A batch: the input `(batch, frames, width)` or `(batch, frames, layers, width)`, `attention_mask` `(batch, frames)` unless
        each segment is one frame, `labels` `(batch, outputs)`, `clip` `(batch,)`, and `by_length`, see
        [`~hf_ser.training.dataset.by_length`].
        """
        asked = np.asarray(keys)
        filler = asked < 0
        epoch, i = np.divmod(np.where(filler, -1 - asked, asked), len(self))
        view = epoch % len(self.keys)
        segments = [self._features[v][s] for v, s in zip(view.tolist(), i.tolist(), strict=True)]
        shortest = segments[0].new_zeros(self.minimum, *segments[0].shape[1:])
        padded = pad_sequence([*segments, shortest], batch_first=True)[:-1]
        batch = {
            self.name: padded,
            "labels": torch.from_numpy(np.where(filler[:, None], np.float32(np.nan), self.mixed[view, i])),
            "clip": torch.from_numpy(self.segments.clip[i]),
            "by_length": by_length(self.lengths[view, i]),
        }
        if (longest := padded.shape[1]) > 1:
            batch["attention_mask"] = torch.from_numpy(np.arange(longest) < self.lengths[view, i, None]).long()
        return batch


def whole(batch: dict[str, Any]) -> dict[str, Any]:
    """The collator of [`FrozenFeatures`], which gives whole batches."""
    return batch


@dataclass
class FrameCollator(SpeechCollator):
    """
    The same for outputs of the convolutions, whose batches can be cut into micro-batches: most of the model is still to come.

    Args:
        frames (`int`): The frames of the shortest batch.
    """

    frames: int

    @property
    def per_second(self) -> int:
        return SAMPLING_RATE // 320

    @property
    def minimum(self) -> int:
        return self.frames

    def __call__(self, items: Any) -> Any:
        return items


def _untuned(trainer: BaseTrainer) -> Any:
    """The model without PEFT's wrapper."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _reason_against(trainer: BaseTrainer, part: str | None, datasets: Mapping[str, SpeechDataset], views: int) -> str:
    if part is None:
        return "no first part of the model is frozen"
    if not trainer.args.frozen_cache_gb:
        return "frozen_cache_gb is 0"
    if trainer.shares_model:
        return "the model is sharded over the processes"
    if any(isinstance(dataset, StreamedSpeech) for dataset in datasets.values()):
        return "clips are streamed"
    if not views and any(dataset.augmentation for dataset in datasets.values()):
        return "clips are augmented and frozen_cache_views is 0"
    if not any(len(dataset) for dataset in datasets.values()):
        return "there are no clips"
    return ""


@contextmanager
def _features(
    trainer: BaseTrainer, datasets: Mapping[str, SpeechDataset], views: int, precision: str
) -> Iterator[dict[str, FrozenFeatures]]:
    """Yields the features of `datasets`, which the model takes meanwhile; nothing, and logs the reason, if none are cached."""
    model = _untuned(trainer)
    part = frozen_part(model)
    reason = _reason_against(trainer, part, datasets, views)
    if part is None or reason:
        logger.info("no outputs of frozen layers are cached: %s", reason)
        yield {}
        return
    key = part_key(model, part, trainer.data_collator.feature_extractor, precision)
    store_folder = cache_folder() / "frozen" / f"{model.base_model.config.model_type}-{part}-{key}"
    keys = {
        name: [segment_keys(dataset, view) for view in range(views if dataset.augmentation else 1)]
        for name, dataset in datasets.items()
    }
    wanted: dict[str, Segment] = {}
    for name, dataset in datasets.items():
        samples = dataset.segments.samples.clip(min=trainer.data_collator.minimum_samples).tolist()
        for view, of_view in enumerate(keys[name]):
            items = range(view * len(dataset), (view + 1) * len(dataset))
            wanted.update((key, Segment(dataset, *rest)) for key, *rest in zip(of_view, items, samples, strict=True))
    with ExitStack() as stack:
        if trainer.is_local_process_zero():  # the processes of a run on a machine are one user of the store
            stack.enter_context(in_use(store_folder))
        trainer.accelerator.wait_for_everyone()
        store_folder.mkdir(parents=True, exist_ok=True)  # each machine has a cache
        store = FeatureStore(store_folder, trainer.args.frozen_cache_gb * 1e9, wanted)
        reason = _fill(trainer, store, part, precision)
        # All processes train from features, or none.
        if trainer.accelerator.gather(torch.tensor([bool(reason)], device=trainer.args.device)).any():
            logger.warning(
                "no outputs of frozen layers are cached: %s. They are computed anew each time.",
                reason or "another process lacks disk space",
            )
            stack.close()  # other runs may delete the files
            yield {}
            return
        shortest = torch.tensor(trainer.data_collator.minimum)
        minimum = 1 if part in POOLED else int(model.base_model._get_feat_extract_output_lengths(shortest))
        features = {
            name: FrozenFeatures(dataset, store, keys[name], minimum, model.main_input_name)
            for name, dataset in datasets.items()
        }
        stack.enter_context(trainer.mode(partial(_takes_features, trainer, part, minimum)))
        yield features


def _fill(trainer: BaseTrainer, store: FeatureStore, part: str, precision: str) -> str:
    """Computes what the store lacks; gives the reason if it does not fit."""
    model, args = _untuned(trainer).eval(), trainer.args
    name = model.main_input_name
    # The outputs of a layer norm are in float32 under autocast, too, and the next layer rounds them.
    kept = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    most = SECONDS[kind_of(args.device)] * batch_scale(model) * SAMPLING_RATE
    workers = min(args.dataloader_num_workers, len(store.missing))
    chosen: list[Any] = []  # the batches of keys that the loader gives next
    loader: Any = DataLoader(
        store.wanted,  # type: ignore[arg-type]
        batch_sampler=chosen,
        collate_fn=partial(_collate, trainer.data_collator),
        num_workers=workers,
        persistent_workers=workers > 0,  # for all batches: to start them takes seconds
        pin_memory=args.dataloader_pin_memory,
        generator=torch.Generator(),  # its own: training draws the same whether features are cached or not
    )

    @torch.no_grad()
    def outputs_of(batch: Mapping[str, torch.Tensor], model: Any) -> list[list[torch.Tensor]]:
        inputs = {key: batch[key].to(args.device, non_blocking=True) for key in (name, "attention_mask")}
        with nullcontext() if precision == "no" else trainer.accelerator.autocast():
            return trainer.in_fitting_parts(
                lambda some: compute(model, part, some[name], some["attention_mask"], kept), inputs
            )

    def outputs(keys: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
        chosen.clear()
        first = 0
        while first < len(keys):  # they are in the order of their length: such batches have little padding
            chosen.append(keys[first : first + max(int(most // store.wanted[keys[first]].samples), 1)])
            first += len(chosen[-1])
        found = replicas.map(outputs_of, loader if keys else ())
        for of_batch, of_parts in zip(chosen, found, strict=True):
            yield from zip(of_batch, chain.from_iterable(of_parts), strict=True)

    began = time.perf_counter()
    quiet = args.disable_tqdm or not trainer.is_local_process_zero()
    try:
        # Autocast would round them for each batch.
        with (
            frozen_weights_in_bfloat16(model) if precision == "bf16" else nullcontext(),
            trainer.without_autocast(),
            closing(Replicas(model, args.device)) as replicas,
        ):
            computed = store.fill(outputs, quiet=quiet)
    except DiskLimitError as error:
        return str(error)  # the error itself would keep the workers
    found = f"{computed} of {len(store.wanted)} segments computed in {time.perf_counter() - began:.1f} s"
    logger.info("frozen layers (%s): %s, the others were in the cache, %s", part, found, store.folder)
    return ""


def _collate(collator: SpeechCollator, segments: Sequence[Segment]) -> dict[str, Any]:
    return collator([segment.dataset[segment.item] for segment in segments])


@contextmanager
def _takes_features(trainer: BaseTrainer, part: str, minimum: int) -> Iterator[None]:
    """Within it, the model and the data loaders of a Trainer take features."""
    args, model, collator = trainer.args, trainer.model, trainer.data_collator
    collate: Any = whole
    settings: dict[str, Any] = {}
    if part == "feature_encoder":
        collate = FrameCollator(collator.feature_extractor, collator.minimum_samples, minimum)
        settings["micro_batch_seconds"] = args.micro_batch_seconds or 0.0  # whole, unless asked for or short of memory
    elif part in POOLED:  # it takes longer to send such a batch from a worker than to read it
        workers = {"num_workers": 0, "persistent_workers": False, "prefetch_factor": None}
        settings = {f"dataloader_{name}": value for name, value in workers.items()}
    trained = [p for p in model.parameters() if p.requires_grad]
    with (
        temporarily(trainer, data_collator=collate),
        temporarily(args, **settings),
        # Each step clips and clears gradients, and would look for them in the whole encoder.
        temporarily(model, parameters=lambda recurse=True: iter(trained)),
        fed_with_features(_untuned(trainer), part),
    ):
        yield
