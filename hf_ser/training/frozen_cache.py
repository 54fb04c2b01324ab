"""What the frozen part of a model computes of a clip is the same in every epoch: it is computed once, and kept in memory."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm
from transformers.modeling_outputs import BaseModelOutput

from hf_ser.features import IGNORED, SpeechCollator, SpeechDataset
from hf_ser.models import SpeechClassifier, valid_samples
from hf_ser.training.trainer import SERTrainer

logger = logging.getLogger(__name__)


class FrozenFeatures(SpeechDataset):
    """
    The segments of a [`SpeechDataset`], with what the frozen part made of each in place of its waveform.

    Args:
        dataset (`SpeechDataset`): The segments.
        frames (`list[torch.Tensor]`): For each segment `(frames, width)`, or of several layers `(frames, layers, width)`.
    """

    def __init__(self, dataset: SpeechDataset, frames: list[torch.Tensor]) -> None:
        super().__init__(dataset.clips, dataset.segments)
        self.frames = frames
        labels = dataset.clips["label"][:]
        self.labels = [labels[clip] for clip in dataset.segments.clip]

    def __getitem__(self, key: int) -> dict[str, Any]:
        """`frames` `(frames, width)` or `(frames, layers, width)`, `label` and `clip`."""
        _, i, filler = self.locate(key)
        label = IGNORED if filler else self.labels[i]
        return {"frames": self.frames[i], "label": label, "clip": int(self.segments.clip[i])}


@dataclass
class FrameCollator:
    """
    Makes a batch of what [`FrozenFeatures`] gives, padded to the longest.

    Args:
        minimum (`int`): Shorter batches are padded to so many frames, which SpecAugment needs.
    """

    minimum: int

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """
        `input_values` `(batch, frames, width)` or `(batch, frames, layers, width)`, `attention_mask` `(batch, frames)`, `labels`
        and `clip` `(batch,)`.
        """
        frames = [item["frames"] for item in items]
        lengths = torch.tensor([len(piece) for piece in frames])
        padded = nn.utils.rnn.pad_sequence(frames, batch_first=True)
        missing = max(self.minimum - padded.shape[1], 0)
        padded = nn.functional.pad(padded, (*(0, 0) * (padded.dim() - 2), 0, missing))
        return {
            "input_values": padded,
            "attention_mask": (torch.arange(padded.shape[1]) < lengths[:, None]).long(),
            "labels": torch.tensor([item["label"] for item in items]),
            "clip": torch.tensor([item["clip"] for item in items]),
        }


def frozen_part(model: Any) -> str | None:
    """
    The largest first part of a model in which nothing trains: `"encoder"`, `"layers"` (the encoder, of which the head wants
    all layers), `"feature_encoder"` (its convolutions) or `None`.
    """
    encoder = model.base_model
    own_class = isinstance(model, SpeechClassifier)
    weighted = model.config.use_weighted_layer_sum
    if not any(p.requires_grad for p in encoder.parameters()) and (own_class or not weighted):
        return "layers" if weighted else "encoder"
    if encoder.config.model_type == "whisper":
        return None  # its convolutions are a small part, and no module of their own
    if not any(p.requires_grad for p in encoder.feature_extractor.parameters()):
        return "feature_encoder"
    return None


@contextmanager
def cached_frozen_part(trainer: SERTrainer, limit: float) -> Iterator[None]:
    """
    Within it, `trainer` trains and validates from what the frozen part of its model made of each clip, computed once.

    It does nothing, and the log says why, where clips are augmented (then they differ in every epoch), nothing at the
    model's front is frozen, or more than `limit` would be kept.

    Args:
        trainer (`SERTrainer`): The Trainer; it is as before when the context ends.
        limit (`float`): GB of memory, for each process.
    """
    wrapped = trainer.accelerator.unwrap_model(trainer.model)
    model = wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped
    datasets = {"train": trainer.train_dataset, "validation": trainer.eval_dataset}
    part = frozen_part(model)
    if reason := _reason_against(model, part, datasets, limit):
        logger.info("no features are kept between epochs: %s", reason)
        yield
        return

    before = trainer.train_dataset, trainer.eval_dataset, trainer.data_collator
    collator: SpeechCollator = trainer.data_collator
    trainer.train_dataset, trainer.eval_dataset = (
        FrozenFeatures(dataset, _compute(trainer, model, part, dataset, collator, name))
        for name, dataset in datasets.items()
    )
    encoder = model.base_model
    trainer.data_collator = FrameCollator(int(encoder._get_feat_extract_output_lengths(_length(model, collator))))
    # Methods of these instances, not modules: what is saved stays whole.
    if part == "encoder":
        encoder.forward = lambda frames, **_: BaseModelOutput(last_hidden_state=frames)
    elif part == "layers":
        encoder.forward = lambda frames, **_: BaseModelOutput(
            last_hidden_state=frames[:, :, -1], hidden_states=frames.unbind(2)
        )
    else:
        encoder.feature_extractor.forward = lambda frames: frames.transpose(1, 2)
    for module in (model, encoder):
        module._get_feat_extract_output_lengths = lambda lengths, *_, **__: lengths  # the mask counts frames already
    name, model.main_input_name = model.main_input_name, "frames"
    try:
        yield
    finally:
        model.main_input_name = name
        del (encoder.feature_extractor if part == "feature_encoder" else encoder).forward
        del model._get_feat_extract_output_lengths, encoder._get_feat_extract_output_lengths
        trainer.train_dataset, trainer.eval_dataset, trainer.data_collator = before


def _length(model: Any, collator: SpeechCollator) -> torch.Tensor:
    """How long the shortest batch is at the encoder's front, in samples or mel frames."""
    samples = collator.minimum_samples
    return torch.tensor(samples // 160 if model.base_model.config.model_type == "whisper" else samples)


def _reason_against(model: Any, part: str | None, datasets: dict[str, SpeechDataset], limit: float) -> str | None:
    if part is None:
        return "nothing at the model's front is frozen"
    if any(dataset.augmentation for dataset in datasets.values()):
        return "clips are augmented"
    samples = sum(int(dataset.segments.samples.sum()) for dataset in datasets.values())
    config = model.base_model.config
    width = config.conv_dim[-1] if part == "feature_encoder" else config.hidden_size
    layers = len(model.layer_weights) if part == "layers" else 1
    stride = 320 if config.model_type == "whisper" else int(torch.tensor(config.conv_stride).prod())
    size = samples / stride * width * layers * 4 / 1e9
    if size > limit:
        return f"they would take {size:.1f} GB, more than --frozen_cache_gb {limit:g}"
    logger.info("features of the frozen %s are computed once: at most %.2f GB", part.replace("_", " "), size)
    return None


@torch.no_grad()
def _compute(
    trainer: SERTrainer, model: Any, part: str | None, dataset: SpeechDataset, collator: SpeechCollator, name: str
) -> list[torch.Tensor]:
    model.eval()
    frames: dict[int, torch.Tensor] = {}
    order = np.argsort(-dataset.segments.samples, kind="stable")
    # On a processor the convolutions are bound by memory: one clip at a time stays in its cache.
    size = 1 if trainer.args.device.type == "cpu" else trainer.args.per_device_eval_batch_size
    batches = [order[at : at + size] for at in range(0, len(order), size)]
    for rows in tqdm(
        batches,
        desc=f"frozen features ({name})",
        disable=trainer.args.disable_tqdm or not trainer.is_local_process_zero(),
    ):
        batch = collator([dataset[int(i)] for i in rows])
        values, mask = (batch[key].to(trainer.args.device) for key in (model.main_input_name, "attention_mask"))
        with trainer.accelerator.autocast():
            if part == "encoder":
                found = model.base_model(values, attention_mask=mask).last_hidden_state
            elif part == "layers":
                outputs = model.base_model(values, attention_mask=mask, output_hidden_states=True)
                found = torch.stack(model.layers(outputs), dim=2)  # (batch, frames, layers, width)
            else:
                with valid_samples(model.base_model, mask):
                    found = model.base_model.feature_extractor(values).transpose(1, 2)
        lengths = model.base_model._get_feat_extract_output_lengths(mask.sum(dim=1))
        for i, states, length in zip(rows, found.cpu(), lengths.tolist(), strict=True):
            frames[int(i)] = states[:length].clone()  # a view would keep the whole batch
    return [frames[i] for i in range(len(dataset))]
