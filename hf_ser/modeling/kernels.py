"""How a model computes: dropout, attention and convolutions that are fast on a CPU, and frozen weights in bfloat16."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_layers import GradientCheckpointingLayer

from hf_ser.modeling.encoders_ser import ClipGroupNorm, LoraCompatibleAttention

#: Its name in transformers' `attn_implementation`.
OWN = "hf_ser_sdpa"
#: With more frames PyTorch's own is as fast, and needs less memory: 20 s of speech.
MOST_FRAMES = 1000
#: A convolution of the feature encoder, wherever the encoder is in the model.
IN_FEATURE_ENCODER = re.compile(r"(^|\.)conv_layers\.\d+\.conv$")


class WordDropout(nn.Dropout):
    """
    Dropout that decides about four elements by one random word of 64 bits, where PyTorch draws a number for each, in one thread:
    2.4 ns for an element instead of 6.6. With LoRA, which drops out the input of each of its layers, that is a tenth of a step
    and more.

    The share of dropped elements is `p` to the nearest 1/65,536. A seed gives other masks than with PyTorch's own.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`(...)` to the same shape; does nothing in eval mode."""
        if not self.training or not 0 < self.p < 1 or input.device.type != "cpu" or not input.is_floating_point():
            return super().forward(input)
        return word_dropout(input, self.p)


def word_dropout(input: torch.Tensor, p: float) -> torch.Tensor:
    """`input` `(...)`, on a CPU, with a share `p` of its elements set to zero, and the others scaled; see [`WordDropout`]."""
    words = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    chances = words.view(torch.int16)[: input.numel()].view(input.shape)  # each of -32,768 to 32,767 alike
    below = min(round(p * 2**16), 2**16 - 1) - 2**15  # one more would wrap around, and keep all
    kept = chances.ge(below).to(input.dtype)
    return input * kept.mul_(1 / (1 - p))


def use_word_dropout(model: nn.Module) -> None:
    """Makes every dropout of `model` a [`WordDropout`], in place."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = WordDropout


def plain_on_cpu(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """
    Attention as two matrix products with a softmax between, where PyTorch's own is slower: on a CPU in bfloat16 (forward and
    backward take a third of the time at the length of clips) or with dropout (which PyTorch computes in float32, with a random
    number for each element). Elsewhere PyTorch's own.

    Args:
        module (`nn.Module`): The attention's layer.
        query, key, value (`torch.Tensor` of shape `(batch, heads, frames, head)`): Projected.
        attention_mask (`torch.Tensor` of shape `(batch, 1, frames, frames)`, *optional*): True where a frame attends to another,
            or what is added to the scores.
        scaling (`float`, *optional*): Of the scores; by default one by the root of the head's size.
        dropout (`float`): The share of the attention that is dropped.

    Returns:
        The attended `(batch, frames, heads, head)`, and no weights.
    """
    slow = query.device.type == "cpu" and (query.dtype == torch.bfloat16 or 0 < dropout < 1)
    plain = not getattr(module, "is_causal", False) and kwargs.get("position_bias") is None
    if not slow or not plain or key.shape[2] > MOST_FRAMES:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    if scaling is None:
        scaling = float(query.shape[-1]) ** -0.5
    scores = torch.matmul(query * scaling, key.transpose(-1, -2))
    if attention_mask is not None:
        if attention_mask.dtype == torch.bool:
            scores.masked_fill_(~attention_mask, torch.finfo(scores.dtype).min)
        else:
            scores += attention_mask
    weights = torch.softmax(scores, dim=-1)
    if dropout > 0:
        weights = word_dropout(weights, dropout)
    return torch.matmul(weights, value).transpose(1, 2), None


def own_mask(device: torch.device, allow_is_bidirectional_skip: bool = False, **options: Any) -> torch.Tensor | None:
    """
    transformers' mask `(batch, 1, frames, frames)` for `sdpa`. Without padding that leaves the mask out, but it has to ask the
    device for it: every forward pass would wait for a GPU.
    """
    skips = allow_is_bidirectional_skip and (device.type == "cpu" or options["attention_mask"] is None)
    return sdpa_mask(device=device, allow_is_bidirectional_skip=skips, **options)


def windows(hidden: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """What each frame of a convolution is computed from: `(batch, channels, steps)` to `(batch, frames, kernel * channels)`."""
    steps = hidden.transpose(1, 2).contiguous()
    batch, length, channels = steps.shape
    shape = batch, (length - kernel) // stride + 1, kernel * channels
    # A copy: matrix products take no rows that overlap.
    return steps.as_strided(shape, (length * channels, stride * channels, 1)).contiguous()


def window_weight(conv: nn.Conv1d) -> torch.Tensor:
    """A convolution's weight for [`windows`], `(out channels, kernel * channels)`."""
    return conv.weight.transpose(1, 2).flatten(1)


class WindowedConv1d(nn.Conv1d):
    """
    A convolution without padding that is a linear layer on [`windows`] on a CPU, where nothing needs its gradient. Its output is
    frame by frame in memory, as norms and the next layer take it. PyTorch's own copies it to channel by channel and back, and
    in bfloat16 takes longer itself.
    """

    def is_linear(self, hidden: torch.Tensor) -> bool:
        """Whether it is a linear layer for this input."""
        trains = torch.is_grad_enabled() and (hidden.requires_grad or self.weight.requires_grad)
        return hidden.device.type == "cpu" and not trains and not torch.compiler.is_compiling()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`(batch, channels, steps)` to `(batch, out channels, frames)`."""
        if not self.is_linear(input):
            return super().forward(input)
        found = windows(input, self.kernel_size[0], self.stride[0])
        return F.linear(found, window_weight(self), self.bias).transpose(1, 2)


class WindowedNormLayer(GradientCheckpointingLayer):
    """
    The first convolution of group-norm encoders, with norm and activation: the largest tensor of the model. As a linear layer on
    windows it needs no pass for the norm: mean and variance of each channel follow from mean and covariance of the windows.
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(batch, 1, samples)` to `(batch, channels, frames)`."""
        conv, norm = self.conv, self.layer_norm
        if not (isinstance(conv, WindowedConv1d) and conv.is_linear(hidden_states)):
            return self.activation(norm(conv(hidden_states)))
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else conv.weight.dtype
        with torch.autocast("cpu", enabled=False):
            found = windows(hidden_states.float(), conv.kernel_size[0], conv.stride[0])
            weight = window_weight(conv).to(dtype).float()  # as rounded as the convolution's own
            batch, frames, _ = found.shape
            number = norm.frames[0] if isinstance(norm, ClipGroupNorm) else None
            if number is None or len(number) != batch:
                number = torch.full((batch,), frames)
            inside = (torch.arange(frames) < number[:, None])[..., None]
            number = number[:, None, None]
            centred = (found - (found * inside).sum(1, keepdim=True) / number) * inside
            covariance = centred.transpose(1, 2) @ centred / number
            variance = (weight @ covariance * weight).sum(-1)  # (batch, channels)
            scaled = weight * (norm.weight * (variance + norm.eps).rsqrt())[..., None]
            normalised = torch.baddbmm(norm.bias.to(dtype), centred.to(dtype), scaled.to(dtype).transpose(1, 2))
        return self.activation(normalised).transpose(1, 2)


def use_windowed_convolutions(model: nn.Module) -> None:
    """Makes the convolutions of the feature encoder of HuBERT and its relatives [`WindowedConv1d`], in place."""
    for name, module in list(model.named_modules()):
        if type(module) is nn.Conv1d and IN_FEATURE_ENCODER.search(name) and module.padding == (0,):
            module.__class__ = WindowedConv1d
            layer = model.get_submodule(name.rpartition(".")[0])
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm) and norm.num_groups == norm.num_channels:
                layer.__class__ = WindowedNormLayer


AttentionInterface.register(OWN, plain_on_cpu)
AttentionMaskInterface.register(OWN, own_mask)


def use_own_attention(model: Any) -> None:
    """Replaces PyTorch's attention by [`plain_on_cpu`] in a model, and its mask by [`own_mask`]; outputs do not change."""
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(OWN)
    for module in model.modules():
        if isinstance(module, LoraCompatibleAttention):  # transformers offers no choice for WavLM
            module.attend = plain_on_cpu


@contextmanager
def attention(model: Any, implementation: str | None) -> Iterator[None]:
    """
    Within it a model computes attention by one of transformers' implementations (`sdpa`, `eager` or `flash_attention_2`), by
    default the one that it has. Flash attention has no float32, in which features and predictions are computed: it is for the
    training alone.

    Raises:
        ImportError, ValueError: if it is not installed, or the encoder does not support it.
    """
    before = model.config._attn_implementation
    if implementation:
        model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        if implementation:
            model.set_attn_implementation(before)


@contextmanager
def frozen_weights_in_bfloat16(model: Any) -> Iterator[None]:
    """
    Within it the frozen weights of the linear layers and convolutions of a model's encoder are in bfloat16: under autocast
    outputs and gradients are the same, because it rounds the same weights at every use. Afterwards they are what they were;
    meanwhile the float32 weights are in main memory.
    """
    layers = [module for module in model.base_model.modules() if isinstance(module, nn.Linear | nn.Conv1d)]
    frozen = [p for layer in layers for p in layer.parameters(recurse=False) if not p.requires_grad]
    originals = [p.data.cpu() for p in frozen]
    for parameter in frozen:
        parameter.data = parameter.data.to(torch.bfloat16)
    try:
        yield
    finally:
        for parameter, original in zip(frozen, originals, strict=True):
            parameter.data = original.to(parameter.device)
