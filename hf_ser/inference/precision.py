"""The precision that a model computes in."""

import torch
from torch import nn
from transformers import AudioClassificationPipeline

PRECISIONS = ("float32", "bfloat16")


def in_bfloat16(classifier: AudioClassificationPipeline) -> AudioClassificationPipeline:
    """
    Lets a model compute its linear layers and convolutions in bfloat16, and what is left (norms, softmax) in float32, in
    place: about twice as fast on processors and GPUs that have it in hardware, and slower on others. Probabilities move by
    some thousandths. For using a model: its weights are rounded, so do not save it.

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
