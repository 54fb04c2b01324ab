"""The frozen weights of an encoder in bfloat16 while an adapter trains."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def frozen_weights_in_bfloat16(model: Any) -> Iterator[None]:
    """
    Within it the frozen weights of an encoder's linear layers and convolutions are in bfloat16: under autocast outputs and
    gradients are the same, because it rounds the same weights at every use. Afterwards they are what they were; meanwhile the
    float32 weights are in main memory.
    """
    layers = [m for m in model.get_base_model().base_model.modules() if isinstance(m, nn.Linear | nn.Conv1d)]
    frozen = [p for layer in layers for p in layer.parameters(recurse=False) if not p.requires_grad]
    originals = [p.data.cpu() for p in frozen]
    for parameter in frozen:
        parameter.data = parameter.data.to(torch.bfloat16)
    try:
        yield
    finally:
        for parameter, original in zip(frozen, originals, strict=True):
            parameter.data = original.to(parameter.device)
