"""The precision that a model computes in."""

import re
from functools import wraps
from typing import Any, cast

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from hf_ser.machine import has_bfloat16
from hf_ser.modeling.kernels import use_own_attention, use_windowed_convolutions, window_weight, windows

PRECISIONS = ("float32", "bfloat16", "int8")
#: The encoder's layers, wherever the encoder is in the model.
LAYER = re.compile(r"(^|\.)layers\.\d+\.")
#: A layer with fewer inputs or outputs (a gate, a low rank) is not faster in int8.
LEAST_FEATURES = 32
#: The convolutions of the feature encoder and of the positions of HuBERT and its relatives.
CONVOLUTION = re.compile(r"(^|\.)(conv_layers\.\d+|pos_conv_embed(\.layers\.\d+)?)\.conv$")
#: Not the first convolution, of samples.
LEAST_CHANNELS = 16


def set_precision(model: nn.Module, precision: str, device: torch.device) -> None:
    """
    Makes a model compute in one of [`PRECISIONS`], in place. The weights are rounded, but in float32: do not save the model.

    - `bfloat16`: linear layers and convolutions in bfloat16, the others (norms, softmax) in float32. About twice as fast on
      processors and GPUs that have bfloat16 in hardware, slower on others. Probabilities change by some thousandths, a few
      by some hundredths.
    - `int8`, on a CPU: the linear layers of the encoder and the convolutions of HuBERT and its relatives, but not those of
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
        if not torch.backends.mkldnn.is_available():
            raise ValueError("precision: int8 needs a PyTorch with oneDNN, and this one has none; choose float32")
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
    kind = type(model)

    @wraps(kind.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            return kind.forward(self, *args, **kwargs)

    # Not in the instance, whose copies would call its forward.
    model.__class__ = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


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
        elif CONVOLUTION.search(name) and module.in_channels // module.groups >= LEAST_CHANNELS:
            rounded[name] = Int8Conv1d(module)
    if not rounded:
        raise ValueError("precision: the encoder has no linear layers to round to int8")
    for name, module in rounded.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module)


class Int8Linear(nn.Module):
    """
    A linear layer whose weight `(out, in)` is rounded to 8 bits, with a scale for each output; its bias is not. Inputs are
    rounded to 8 bits, too, with one scale for the whole tensor. Outputs are in float32, or what autocast computes in.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        weight = weight.detach().float()
        scales = (weight.abs().amax(dim=1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.zeros(len(weight), dtype=torch.long))
        self.register_buffer("bias", None if bias is None else bias.detach().float())
        #: The rounded weight `(in, out)`, in oneDNN's layout, which no state dict can hold.
        self.packed = torch.ops.onednn.qlinear_prepack((weight / scales[:, None]).round().to(torch.int8), None)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`(..., in)` to `(..., out)`."""
        return self.product(*round_to_8_bits(input))

    def product(self, rounded: torch.Tensor, scale: float, zero: int) -> torch.Tensor:
        """The same of an input rounded by [`round_to_8_bits`]."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        weight = self.packed, self.scales, self.zeros
        found: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            rounded, scale, zero, *weight, self.bias, 1.0, 0, dtype, "none", [], ""
        )
        return found


def round_to_8_bits(values: torch.Tensor) -> tuple[torch.Tensor, float, int]:
    """`values` `(...)` as whole numbers of 8 bits, of the same shape, with their scale and the number that stands for 0."""
    # Without VNNI the sum of two products of 8 bits overflows 16 bits, so that inputs get 7 bits.
    largest = 255 if torch.cpu._is_vnni_supported() else 127
    low, high = (float(value) for value in values.aminmax())
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / largest, torch.finfo(torch.float32).tiny)
    zero = round(-low / scale)
    rounded = torch.quantize_per_tensor(values.float(), scale, zero, torch.quint8)
    # Its memory as it is: `int_repr` would copy it.
    numbers = torch.empty(0, dtype=torch.uint8).set_(rounded.untyped_storage(), 0, rounded.size(), rounded.stride())
    return numbers, scale, zero


class Int8Conv1d(nn.Module):
    """A convolution as [`Int8Linear`]s, one for each group, on its [`~hf_ser.modeling.kernels.windows`]."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
        biases = [None] * conv.groups if conv.bias is None else conv.bias.chunk(conv.groups)
        weights = window_weight(conv).chunk(conv.groups)
        self.groups = nn.ModuleList(map(Int8Linear, weights, biases))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`(batch, channels, steps)` to `(batch, out channels, frames)`."""
        rounded, scale, zero = round_to_8_bits(input.transpose(1, 2).contiguous())
        if self.padding:
            rounded = F.pad(rounded, (0, 0, self.padding, self.padding), value=zero)
        found = [
            cast(Int8Linear, linear).product(windows(steps.transpose(1, 2), self.kernel, self.stride), scale, zero)
            for linear, steps in zip(self.groups, rounded.chunk(len(self.groups), dim=2), strict=True)
        ]
        return torch.cat(found, dim=2).transpose(1, 2)
