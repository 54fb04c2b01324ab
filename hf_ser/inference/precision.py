"""The precision that a model computes in."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import AudioClassificationPipeline
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_ser.features import SpeechCollator
from hf_ser.machine import has_bfloat16

#: As `scripts/predict.py` and [`in_precision`] name them.
PRECISIONS = ("float32", "bfloat16", "int8")
#: Of the encoder's layers, wherever the encoder is in the model.
LAYER = re.compile(r"(^|\.)layers\.\d+\.")
#: A layer with fewer inputs or outputs is as fast as it stands: a gate, a low rank.
LEAST_FEATURES = 32


def in_precision(classifier: AudioClassificationPipeline, precision: str) -> AudioClassificationPipeline:
    """
    Lets a model compute in one of [`PRECISIONS`], in place; see [`in_bfloat16`] and [`in_int8`].

    Raises:
        ValueError: if the precision is unknown, or not for this model or device.
    """
    ways: dict[str, Callable[[AudioClassificationPipeline], AudioClassificationPipeline]] = {
        "float32": lambda classifier: classifier,
        "bfloat16": in_bfloat16,
        "int8": in_int8,
    }
    if precision not in ways:
        raise ValueError(f"precision: {precision!r} is none of {', '.join(PRECISIONS)}")
    return ways[precision](classifier)


def in_bfloat16(classifier: AudioClassificationPipeline) -> AudioClassificationPipeline:
    """
    Lets a model compute its linear layers and convolutions in bfloat16, and what is left (norms, softmax) in float32, in
    place: about twice as fast on processors and GPUs that have it in hardware, and slower on others. Probabilities move by
    some thousandths, a few by one or two hundredths. For using a model: its weights are rounded, so do not save it.

    Args:
        classifier (`AudioClassificationPipeline`): What `hf_ser.load` returns.

    Returns:
        `classifier`.

    Raises:
        ValueError: if it is an exported model, whose precision was chosen at its export.
    """
    model = classifier.model
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv1d)]
    if not layers:
        raise ValueError(
            "the model has no layers to be rounded to bfloat16; an exported one is as it was exported (--int8)"
        )
    for layer in layers:
        # Autocast would round the weights anew for every batch. Not those that are computed, as under a weight norm.
        for name, parameter in layer.named_parameters(recurse=False):
            setattr(layer, name, nn.Parameter(parameter.to(torch.bfloat16), requires_grad=False))
    model.forward = torch.autocast(classifier.device.type, torch.bfloat16)(model.forward)
    return classifier


class Int8Linear(nn.Module):
    """
    A linear layer with weights of 8 bits, with a scale for each output; what comes in is rounded to 8 bits, too, with one scale
    for the whole tensor. For a CPU.

    Args:
        linear (`nn.Linear`): The layer to round.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scales = (weight.abs().amax(dim=1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        rounded = torch.quantize_per_channel(
            weight, scales.double(), torch.zeros(len(scales), dtype=torch.long), 0, torch.qint8
        )
        bias = None if linear.bias is None else linear.bias.detach().float()
        self.packed = torch.ops.quantized.linear_prepack(rounded, bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`(..., in)` to `(..., out)`, in float32."""
        # Without VNNI two products of 8 bits add up to more than 16 bits hold: what comes in gets 7.
        return torch.ops.quantized.linear_dynamic(input.float(), self.packed, not torch.cpu._is_vnni_supported())


def in_int8(classifier: AudioClassificationPipeline) -> AudioClassificationPipeline:
    """
    Lets a model on a CPU compute the linear layers of its encoder, but not of adapters, in 8 bits, in place, and what is left in
    bfloat16 where the processor has it, as [`in_bfloat16`] does, else in float32. The clips of a batch go through the model one
    after the other, without padding: what a layer hears is rounded with one scale for all of it, and a clip is to be answered as
    alone. For using a model: do not save it.

    Args:
        classifier (`AudioClassificationPipeline`): What `hf_ser.load` returns.

    Returns:
        `classifier`.

    Raises:
        ValueError: if it is on another device, or an exported model, whose precision was chosen at its export.
    """
    model = classifier.model
    if classifier.device.type != "cpu":
        raise ValueError(f"int8 is for a CPU, and the model is on {classifier.device}; choose bfloat16 there")
    adapters = {
        id(module)
        for layer in model.modules()
        if isinstance(layer, BaseTunerLayer)
        for name in layer.adapter_layer_names
        if isinstance(getattr(layer, name, None), nn.Module)
        for module in getattr(layer, name).modules()
    }
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if type(module) is nn.Linear and LAYER.search(name) and id(module) not in adapters
        if min(module.weight.shape) >= LEAST_FEATURES
    ]
    if not layers:
        raise ValueError(
            "the model has no layers to be rounded to int8; an exported one is as it was exported (scripts/export.py --int8)"
        )
    for name, linear in layers:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, Int8Linear(linear))
    if has_bfloat16(cpu=True):
        in_bfloat16(classifier)
    model.forward = _one_by_one(model.forward, SpeechCollator(classifier.feature_extractor, 0))
    return classifier


def _one_by_one(forward: Callable[..., Any], collator: SpeechCollator) -> Callable[..., SequenceClassifierOutput]:
    def answer(attention_mask: torch.Tensor | None = None, **inputs: torch.Tensor) -> SequenceClassifierOutput:
        batch = inputs if attention_mask is None else {**inputs, "attention_mask": attention_mask}
        clips = len(next(iter(batch.values())))
        if attention_mask is None:
            pieces = [{name: values[i : i + 1] for name, values in batch.items()} for i in range(clips)]
        else:
            lengths = attention_mask.sum(dim=1).tolist()
            pieces = [collator.cut(batch, np.array([i]), int(length)) for i, length in enumerate(lengths)]
        return SequenceClassifierOutput(logits=torch.cat([forward(**piece).logits for piece in pieces]))

    return answer
