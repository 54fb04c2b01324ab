"""The precision that a model computes in."""

import re
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn.utils import parametrize

from hf_ser.machine import has_bfloat16
from hf_ser.modeling.kernels import takes_windows, use_own_attention, use_windowed_convolutions, window_weight, windows

PRECISIONS = ("float32", "bfloat16", "int8")
#: The encoder's layers, wherever the encoder is in the model.
LAYER = re.compile(r"(^|\.)layers\.\d+\.")
#: A layer with fewer inputs or outputs (a gate, a low rank) is not faster in int8.
LEAST_FEATURES = 32


def set_precision(model: nn.Module, precision: str, device: torch.device) -> None:
    """
    Makes a model compute in one of [`PRECISIONS`], in place. The weights are rounded, but in float32: do not save the model.

    - `bfloat16`: linear layers and convolutions in bfloat16, the others (norms, softmax) in float32. About twice as fast on
      processors and GPUs that have bfloat16 in hardware, slower on others. Probabilities change by some thousandths, a few
      by some hundredths.
    - `int8`, on a CPU: the linear layers of the encoder and the convolutions of its feature encoder, but not those of
      adapters, in 8 bits; the others in bfloat16 where the processor has it. The inputs of a layer are rounded with one scale
      for the whole batch: a clip has other probabilities in a batch than alone.

    Raises:
        ValueError: if there is no such precision, or not for this model or device.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is none of {', '.join(PRECISIONS)}")
    if precision == "int8":
        if device.type != "cpu":
            raise ValueError(f"precision: int8 is for a CPU, and the model is on {device}; choose bfloat16")
        _round_to_int8(model)
    if device.type == "cpu":
        use_windowed_convolutions(model)
    if precision == "bfloat16" or (precision == "int8" and has_bfloat16(cpu=True)):
        _round_to_bfloat16(model, device)


def _round_to_bfloat16(model: Any, device: torch.device) -> None:
    if device.type == "cpu":
        use_own_attention(model)
    for layer in list(model.modules()):
        if parametrize.is_parametrized(layer):  # a weight norm, which would be computed for every batch
            for name in list(layer.parametrizations):
                parametrize.remove_parametrizations(layer, name)
        if isinstance(layer, nn.Linear | nn.Conv1d):
            # Autocast would round the weights again for every batch.
            for name, parameter in layer.named_parameters(recurse=False):
                setattr(layer, name, nn.Parameter(parameter.to(torch.bfloat16), requires_grad=False))
    model.forward = torch.autocast(device.type, torch.bfloat16)(model.forward)


def _round_to_int8(model: nn.Module) -> None:
    adapters = {
        id(module)
        for layer in model.modules()
        if isinstance(layer, BaseTunerLayer)
        for name in layer.adapter_layer_names
        if isinstance(getattr(layer, name, None), nn.Module)
        for module in getattr(layer, name).modules()
    }
    rounded: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if id(module) in adapters:
            continue
        if type(module) is nn.Linear and LAYER.search(name) and min(module.weight.shape) >= LEAST_FEATURES:
            rounded[name] = Int8Linear(module.weight, module.bias)
        elif isinstance(module, nn.Conv1d) and takes_windows(name, module) and module.in_channels >= LEAST_FEATURES:
            rounded[name] = Int8Conv1d(module)
    if not rounded:
        raise ValueError("precision: the encoder has no linear layers to round to int8")
    for name, module in rounded.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module)


class Int8Linear(nn.Module):
    """
    A linear layer whose weight `(out, in)` is rounded to 8 bits, with a scale for each output; its bias is not. Inputs are
    rounded to 8 bits, too, with one scale for the whole tensor. For a CPU.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        weight = weight.detach().float()
        scales = (weight.abs().amax(dim=1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        rounded = torch.quantize_per_channel(
            weight, scales.double(), torch.zeros(len(scales), dtype=torch.long), 0, torch.qint8
        )
        self.packed = torch.ops.quantized.linear_prepack(rounded, None if bias is None else bias.detach().float())

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`(..., in)` to `(..., out)`, in float32."""
        # Without VNNI the sum of two products of 8 bits overflows 16 bits, so that inputs get 7 bits.
        return torch.ops.quantized.linear_dynamic(input.float(), self.packed, not torch.cpu._is_vnni_supported())


class Int8Conv1d(nn.Module):
    """A convolution of the feature encoder as an [`Int8Linear`] on its [`~hf_ser.modeling.kernels.windows`]."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        (self.kernel,), (self.stride,) = conv.kernel_size, conv.stride
        self.linear = Int8Linear(window_weight(conv), conv.bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`(batch, channels, steps)` to `(batch, out channels, frames)`, in float32."""
        found: torch.Tensor = self.linear(windows(input.float(), self.kernel, self.stride))
        return found.transpose(1, 2)
