"""Group-norm encoders that hear a clip in a padded batch as they hear it alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel


class ValidFramesGroupNorm(nn.GroupNorm):
    """
    The group norm of a first convolution, over the frames of each clip and not over its padding. The stock one averages
    over both, so that an answer changes with what a clip is batched with.

    `frames` says how many frames of each clip are valid; without it this is the stock norm. It holds until the next
    batch, because gradient checkpointing asks again on the way back.
    """

    frames: list[int] | None = None

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`(batch, channels, frames)` to the same; padding becomes zero."""
        longest = hidden.shape[-1]
        known = self.frames is not None and len(self.frames) == len(hidden)  # else they are another batch's
        if not known or self.frames is None or all(length == longest for length in self.frames):
            return super().forward(hidden)
        # One clip at a time: the fused kernel needs less memory than masked sums over the largest tensor of the model.
        clips = [super(ValidFramesGroupNorm, self).forward(hidden[i : i + 1, :, :n]) for i, n in enumerate(self.frames)]
        return torch.cat([nn.functional.pad(clip, (0, longest - clip.shape[-1])) for clip in clips])


def hear_valid_frames(model: PreTrainedModel) -> PreTrainedModel:
    """
    Lets a group-norm encoder (HuBERT Base, Wav2Vec2 Base) take an attention mask, and answer for a clip in a padded batch
    what it answers for it alone. Weights and their names stay as they are; encoders with layer norm do, too.
    """
    encoder = model.base_model
    if model.config.feat_extract_norm == "group":
        stock = encoder.feature_extractor.conv_layers[0].layer_norm
        norm = ValidFramesGroupNorm(stock.num_groups, stock.num_channels, stock.eps).to(stock.weight)
        norm.weight, norm.bias = stock.weight, stock.bias
        encoder.feature_extractor.conv_layers[0].layer_norm = norm
        encoder.register_forward_pre_hook(_note_valid_frames, with_kwargs=True)
    return model


@contextmanager
def valid_samples(encoder: nn.Module, attention_mask: torch.Tensor) -> Iterator[None]:
    """For a call of the convolutions alone: `attention_mask` `(batch, samples)` says where each clip ends."""
    _note_valid_frames(encoder, (), {"attention_mask": attention_mask})
    yield
    _note_valid_frames(encoder, (), {})


def _note_valid_frames(encoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    first = encoder.feature_extractor.conv_layers[0]
    if isinstance(first.layer_norm, ValidFramesGroupNorm):
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        (kernel,), (stride,) = first.conv.kernel_size, first.conv.stride
        # At least one frame: of a clip that is too short for any, nothing is asked later.
        first.layer_norm.frames = (
            None if mask is None else [max((n - kernel) // stride + 1, 1) for n in mask.sum(dim=1).tolist()]
        )
