"""A Trainer that trains, validates and predicts from what the frozen front of its model made of each clip, computed once."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hf_ser.cache import cache_folder
from hf_ser.features import SpeechCollator, SpeechDataset
from hf_ser.streaming import StreamedSpeech
from hf_ser.training.base import BaseTrainer
from hf_ser.training.frozen import keys, parts
from hf_ser.training.frozen.computing import Segment, Wanted, compute_missing, missing
from hf_ser.training.frozen.features import FrozenFeatures, whole
from hf_ser.training.frozen.room import NoRoomError, in_use, make_room, size, sole_user
from hf_ser.training.frozen.store import RECORD, FeatureStore

logger = logging.getLogger(__name__)

#: Makes a context in which a model computes.
Precision = Callable[[], AbstractContextManager[Any]]


@contextmanager
def cached_frozen_part(
    trainer: BaseTrainer, limit: float, views: int = 0, folder: Path | None = None
) -> Iterator[None]:
    """
    Within it, `trainer` trains and validates from what the frozen part of its model made of each clip. That is computed once,
    and kept on disk for other runs with the same frozen part: other folds, seeds, heads and methods.

    It does nothing, and the log says why, where nothing at the model's front is frozen, clips are streamed, or augmented and no
    views are asked for, features would take more room than there is, or the model is spread over the processes.

    Args:
        trainer (`BaseTrainer`): The Trainer; it is as before when the context ends.
        limit (`float`): GB (10^9 bytes) of disk that all that is kept of all models may take; 0 switches this off.
        views (`int`, *optional*, defaults to 0): Where clips are augmented, so many views of each are computed, those of the
            first epochs, and used in turn: epoch `e` hears view `e` modulo `views`.
        folder (`Path`, *optional*): Where to keep them, by default `frozen` in the package's cache.
    """
    datasets = {"train": trainer.train_dataset, "validation": trainer.eval_dataset}
    with ExitStack() as stack:
        # What is one vector for each clip is computed once and in float32, as it is for a prediction.
        pooled = parts.frozen_part(_untuned(trainer)) in parts.POOLED
        precision = nullcontext if pooled else trainer.accelerator.autocast
        if trainer.args.max_steps <= 0:
            views = min(views, math.ceil(trainer.args.num_train_epochs))
        features = stack.enter_context(_features(trainer, datasets, limit, views, folder, precision))
        if features is not None:
            stack.enter_context(_trained_from(trainer, features))
        yield


@contextmanager
def cached_predictions(
    trainer: BaseTrainer, dataset: SpeechDataset, limit: float, folder: Path | None = None
) -> Iterator[SpeechDataset]:
    """
    For `trainer.predict_clips`: gives `dataset` with what the frozen part of the model makes of each clip in float32, or
    `dataset` itself where that is not kept, see [`cached_frozen_part`]. The convolutions alone are not kept for this: whoever
    predicts once would write more than he saves.

    Args:
        trainer (`BaseTrainer`): The Trainer; it is as before when the context ends.
        dataset (`SpeechDataset`): Clips that are not augmented.
        limit (`float`): GB of disk.
        folder (`Path`, *optional*): Where to keep them, by default `frozen` in the package's cache.
    """
    with ExitStack() as stack:
        features = None
        if limit and parts.frozen_part(_untuned(trainer)) not in (None, "feature_encoder"):
            features = stack.enter_context(_features(trainer, {"": dataset}, limit, 0, folder, nullcontext))
        if features is None:
            yield dataset
        else:
            stack.enter_context(_trained_from(trainer, features))
            yield features.datasets[""]


@contextmanager
def frozen_features(
    trainer: BaseTrainer, dataset: SpeechDataset, limit: float, views: int = 0, folder: Path | None = None
) -> Iterator[FrozenFeatures | None]:
    """
    What the frozen part of a Trainer's model makes of the clips of `dataset` in float32, for whoever reads it whole; `None` where
    it is not kept, see [`cached_frozen_part`].
    """
    with _features(trainer, {"": dataset}, limit, views, folder, nullcontext) as features:
        yield features.datasets[""] if features else None


@dataclass(frozen=True)
class _Features:
    """What is kept: of which part of the model, and the datasets made of it."""

    part: str
    datasets: dict[str, FrozenFeatures]


def _untuned(trainer: BaseTrainer) -> Any:
    """The model without PEFT's wrapper."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def _features(
    trainer: BaseTrainer,
    datasets: Mapping[str, SpeechDataset],
    limit: float,
    views: int,
    folder: Path | None,
    precision: Precision,
) -> Iterator[_Features | None]:
    """The features of `datasets`, which nobody drops within this context; `None`, and the log says why, if there are none."""
    model = _untuned(trainer)
    part = parts.frozen_part(model)
    if part is None or (reason := _reason_against(trainer, datasets, limit, views)):
        reason = reason if part else "nothing at the model's front is frozen"
        logger.info("no features of a frozen part are kept: %s", reason)
        yield None
        return
    mixed = "no" if precision is nullcontext else trainer.accelerator.mixed_precision
    about = keys.describe(model, part, trainer.data_collator.feature_extractor, mixed)
    family = model.base_model.config.model_type
    place = (folder or cache_folder() / "frozen") / f"{family}-{part}-{keys.digest(about)}"
    wanted = {name: _wanted(dataset, views) for name, dataset in datasets.items()}
    with ExitStack() as held:
        if trainer.is_local_process_zero():  # the run's processes on a machine are one user of the store
            held.enter_context(in_use(place))
        features: _Features | None = None
        try:
            store = _Front(trainer, model, part, precision).fill(place, about, list(wanted.values()), limit * 1e9)
            minimum = 1 if part in parts.POOLED else _minimum_frames(model, trainer.data_collator)
            features = _Features(
                part, {name: _found(store, clips, minimum, model.main_input_name) for name, clips in wanted.items()}
            )
        except NoRoomError as error:
            logger.warning("no features of a frozen part are kept: %s", error)
            held.close()  # others may drop it
        yield features


@contextmanager
def _all_or_none(trainer: BaseTrainer) -> Iterator[None]:
    """If one of the run's processes finds no room within it, all of them raise [`NoRoomError`]. Each waits for the last."""
    error: NoRoomError | None = None
    try:
        yield
    except NoRoomError as found:
        error = found
    failed = torch.tensor([int(error is not None)], device=trainer.args.device)
    if trainer.accelerator.gather(failed).any():
        raise error or NoRoomError("another process of this run has found no room for them")


def _reason_against(trainer: BaseTrainer, datasets: Mapping[str, SpeechDataset], limit: float, views: int) -> str:
    if not limit:
        return "--frozen_cache_gb is 0"
    if trainer.shares_model:
        return "the weights are spread over the processes"
    if any(isinstance(dataset, StreamedSpeech) for dataset in datasets.values()):
        return "clips are streamed: who does that has no room for them"
    if not views and any(dataset.augmentation for dataset in datasets.values()):
        return "clips are augmented (--frozen_cache_views keeps some views of each)"
    if not any(len(dataset) for dataset in datasets.values()):
        return "there are no clips"
    return ""


def _wanted(dataset: SpeechDataset, views: int) -> Wanted:
    count = views if dataset.augmentation else 1
    return Wanted(dataset, [keys.segment_keys(dataset, view) for view in range(count)])


def _found(store: FeatureStore, wanted: Wanted, minimum: int, name: str) -> FrozenFeatures:
    frames = store.frames
    assert frames is not None
    views = [[store.entries[key] for key in view] for view in wanted.views]
    return FrozenFeatures(wanted.dataset, frames, views, minimum, name)


def _minimum_frames(model: Any, collator: SpeechCollator) -> int:
    """How many frames the shortest batch has, which the encoder, or SpecAugment in training, needs."""
    return int(model.base_model._get_feat_extract_output_lengths(torch.tensor(collator.minimum)))


@dataclass(frozen=True)
class _Front:
    """The frozen part of a Trainer's model, that computes in the precision of a context."""

    trainer: BaseTrainer
    model: Any
    part: str
    precision: Precision

    @torch.no_grad()
    def compute(self, segments: Sequence[Segment]) -> list[torch.Tensor]:
        """What it makes of segments: for each `(frames, width)` or `(frames, layers, width)`."""
        batch = self.trainer.data_collator([segment.dataset[segment.item] for segment in segments])
        device = self.trainer.args.device
        values, mask = (batch[name].to(device) for name in (self.model.main_input_name, "attention_mask"))
        with self.precision():
            return parts.compute(self.model, self.part, values, mask)

    def fill(self, folder: Path, about: dict[str, Any], wanted: Sequence[Wanted], limit: float) -> FeatureStore:
        """
        Computes what the store in `folder` lacks. One process of each machine makes room; all compute.

        Raises:
            NoRoomError: in all processes, if it does not fit into `limit` bytes in one of them.
        """
        began = time.perf_counter()
        args = self.trainer.args
        with _all_or_none(self.trainer):
            if self.trainer.is_local_process_zero():
                self._make_room(FeatureStore(folder, about), wanted, limit)
        store = FeatureStore(folder, about)  # as the first process has left it
        lacking = missing(store, wanted)
        computed = 0
        with _all_or_none(self.trainer):
            if lacking:
                self.model.eval()
                computed = compute_missing(
                    store,
                    lacking,
                    self.compute,
                    # On a processor the convolutions are bound by memory: one clip at a time stays in its cache.
                    batch=1 if args.device.type == "cpu" else args.per_device_eval_batch_size,
                    limit=limit,
                    quiet=args.disable_tqdm or not self.trainer.is_local_process_zero(),
                )
        logger.info(
            "%s, is kept: %d of %d segments computed in %.1f s, the others found; %.3f GB in %s, %.3f GB beside it "
            "(--frozen_cache_gb %g; it can be deleted when nothing trains)",
            parts.PARTS[self.part],
            computed,
            len({key for clips in wanted for view in clips.views for key in view}),
            time.perf_counter() - began,
            size(folder) / 1e9,
            folder,
            sum(size(other) for other in folder.parent.iterdir() if other != folder) / 1e9,
            limit / 1e9,
        )
        return store

    def _make_room(self, store: FeatureStore, wanted: Sequence[Wanted], limit: float) -> None:
        """Makes room for what is lacking or damaged, if need be by forgetting all that is in the store."""
        store.check(key for clips in wanted for view in clips.views for key in view)
        lacking = missing(store, wanted)
        if not lacking:
            return
        self.model.eval()
        pooled = self.part in parts.POOLED
        # Of the longest, a second has the most frames.
        example_of = (min if pooled else max)(lacking, key=lambda segment: segment.samples)
        [example] = self.compute([example_of])

        def needed(segments: Sequence[Segment]) -> float:
            lines = RECORD.itemsize * len(segments)
            if pooled:
                return float(example.nbytes * len(segments) + lines)
            return example.nbytes / example_of.samples * sum(segment.samples for segment in segments) + lines

        try:
            make_room(store.folder, needed(lacking), limit)
        except NoRoomError:
            everything = missing(None, wanted)
            with sole_user(store.folder) as alone:
                if needed(everything) > limit or not alone:
                    raise
                store.clear()
            make_room(store.folder, needed(everything), limit)


@contextmanager
def _trained_from(trainer: BaseTrainer, features: _Features) -> Iterator[None]:
    """Within it the Trainer's datasets are those of `features`, and its model takes what they give."""
    before = trainer.train_dataset, trainer.eval_dataset, trainer.data_collator
    args = trainer.args
    workers = args.dataloader_num_workers, args.dataloader_persistent_workers, args.dataloader_prefetch_factor
    trainer.train_dataset = features.datasets.get("train", trainer.train_dataset)
    trainer.eval_dataset = features.datasets.get("validation", trainer.eval_dataset)
    trainer.data_collator = whole
    if features.part in parts.POOLED:  # such a batch is read sooner than it is sent from a worker
        args.dataloader_num_workers, args.dataloader_persistent_workers, args.dataloader_prefetch_factor = (
            0,
            False,
            None,
        )
    model = trainer.model
    trained = [p for p in model.parameters() if p.requires_grad]
    # Every step clips and forgets gradients, and would walk through the whole encoder to find those few that there are.
    model.parameters = lambda recurse=True: iter(trained)
    try:
        with parts.fed_with_features(_untuned(trainer), features.part):
            yield
    finally:
        del model.parameters
        trainer.train_dataset, trainer.eval_dataset, trainer.data_collator = before
        args.dataloader_num_workers, args.dataloader_persistent_workers, args.dataloader_prefetch_factor = workers
