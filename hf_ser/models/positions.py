"""Positional convolutions by Fourier transforms, four to six times as fast on a CPU."""

from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

#: With a shorter kernel the convolution is as fast.
LEAST_KERNEL = 64
#: With fewer frames in a batch, a convolution whose weights train is as fast: their spectra are computed for each batch.
LEAST_FRAMES = 350


def fourier_conv1d(
    input: torch.Tensor, spectra: torch.Tensor, bias: torch.Tensor | None, kernel: int, padding: int
) -> torch.Tensor:
    """
    A grouped convolution of stride 1 as products of spectra, over blocks of as many frames as the spectra are for (overlap-save).

    Args:
        input (`torch.Tensor` of shape `(batch, channels, frames)`): The frames.
        spectra (`torch.Tensor` of shape `(groups, frequencies, in, out)`): The weights', see [`spectra_of`].
        bias (`torch.Tensor` of shape `(channels,)`, *optional*): Its bias.
        kernel (`int`): The length of the weights.
        padding (`int`): Zeros on either side of the frames.

    Returns:
        `(batch, channels, frames + 2 * padding - kernel + 1)`.
    """
    groups, frequencies, _, out = spectra.shape
    block = 2 * (frequencies - 1)
    batch, channels, frames = input.shape
    length, hop = frames + 2 * padding - kernel + 1, block - kernel + 1
    blocks = -(-length // hop)
    padded = F.pad(input, (padding, blocks * hop + kernel - 1 - frames - padding))
    blocked = torch.fft.rfft(padded.unfold(2, block, hop))  # (batch, channels, blocks, frequencies)
    blocked = blocked.view(batch, groups, channels // groups, blocks, frequencies).permute(1, 4, 0, 3, 2)
    found = torch.matmul(blocked.reshape(groups, frequencies, batch * blocks, -1), spectra)
    found = found.view(groups, frequencies, batch, blocks, out).permute(2, 0, 4, 3, 1)
    # Without the part of each block that wraps around from its end to its beginning.
    output = torch.fft.irfft(found, n=block)[..., :hop].reshape(batch, groups * out, blocks * hop)[..., :length]
    return output if bias is None else output + bias[:, None]


def spectra_of(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """
    Args:
        weight (`torch.Tensor` of shape `(out channels, in channels of a group, kernel)`): A convolution's.
        groups (`int`): Its groups.

    Returns:
        The spectra `(groups, frequencies, in, out)`, complex, for blocks of the power of 2 that is at least twice the kernel.
    """
    out, inner, kernel = weight.shape
    block = 2 ** (2 * kernel - 1).bit_length()
    spectra = torch.fft.rfft(weight, n=block).conj()
    return spectra.view(groups, out // groups, inner, -1).permute(0, 3, 2, 1).contiguous()


def use_fourier_positions(model: nn.Module) -> None:
    """
    Computes the positional convolutions of HuBERT and its relatives by Fourier transforms on a CPU, in place: all that are long,
    in groups and of stride 1. Weights and their names do not change; the output changes by rounding in float32.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv1d) and _is_long(module) and "forward" not in module.__dict__:
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def use_stock_positions(model: nn.Module) -> None:
    """Undoes [`use_fourier_positions`]."""
    for module in model.modules():
        if isinstance(module, nn.Conv1d) and getattr(module.__dict__.get("forward"), "__func__", None) is _forward:
            del module.forward
            module.__dict__.pop("_spectra", None)


def _is_long(conv: nn.Conv1d) -> bool:
    return (
        conv.groups > 1
        and conv.kernel_size[0] >= LEAST_KERNEL
        and (conv.stride, conv.dilation, conv.padding_mode) == ((1,), (1,), "zeros")
        and not isinstance(conv.padding, str)
    )


def _forward(conv: Any, input: torch.Tensor) -> torch.Tensor:
    """Replaces `nn.Conv1d.forward`."""
    trains = any(parameter.requires_grad for parameter in conv.parameters())
    # Weights that train may change without a new version; in inference mode nothing trains.
    keep = not trains or torch.is_inference_mode_enabled()
    few = input.shape[0] * input.shape[-1] < LEAST_FRAMES and not keep
    if input.device.type != "cpu" or input.ndim != 3 or few or torch.compiler.is_compiling():
        return nn.Conv1d.forward(conv, input)
    kind = torch.promote_types(input.dtype, torch.float32)
    with torch.autocast("cpu", enabled=False):
        spectra = _kept_spectra(conv, kind) if keep else spectra_of(conv.weight.to(kind), conv.groups)
        bias = None if conv.bias is None else conv.bias.to(kind)
        output = fourier_conv1d(input.to(kind), spectra, bias, conv.kernel_size[0], conv.padding[0])
    return output.to(input.dtype)


def _kept_spectra(conv: Any, kind: torch.dtype) -> torch.Tensor:
    """The spectra of the last call, as long as the weights are the same."""
    weights = list(conv.parameters())
    version = [kind, *((p.data_ptr(), 0 if p.is_inference() else p._version) for p in weights)]
    if "_spectra" not in conv.__dict__ or conv._spectra[0] != version:
        with torch.inference_mode(False), torch.no_grad():  # tensors of inference mode cannot be used in training
            conv._spectra = (version, spectra_of(conv.weight.to(kind), conv.groups))
    return conv._spectra[1]
