"""A model as an ONNX graph: inputs and attention mask to logits, for any number of clips of any length."""

import copy
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from torch import nn
from transformers import AudioClassificationPipeline, PreTrainedModel

from hf_ser.audio import SAMPLING_RATE
from hf_ser.encoders import family_of, maximum_samples, needs_thirty_seconds
from hf_ser.inference.batches import extract
from hf_ser.modeling import ClipGroupNorm
from hf_ser.models.positions import use_stock_positions
from hf_ser.tuning import merge, mergeable

#: What the graph takes beside the waveforms or spectrograms, and what it gives.
MASK, LOGITS = "attention_mask", "logits"
#: These tell of every operator that they do not need.
CHATTY = ("torch.onnx", "onnxscript", "onnx_ir")


class ValidFrames:
    """The frames of each clip of a batch, `(batch,)`: no module, so that tracing takes it for no state of the model."""

    frames: torch.Tensor


class MaskedGroupNorm(nn.Module):
    """
    [`ClipGroupNorm`] for a graph: in one go over the batch, where that one takes one clip after the other.

    Args:
        norm (`nn.GroupNorm`): The norm, with a group for each channel.
        valid (`ValidFrames`): Where it finds the clips' lengths.
    """

    def __init__(self, norm: nn.GroupNorm, valid: ValidFrames) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.valid = valid

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`(batch, channels, frames)` to the same. What comes out in the padding means nothing."""
        frames = self.valid.frames[:, None, None]
        inside = (torch.arange(hidden.shape[-1]) < frames).to(hidden.dtype)  # (batch, 1, frames)
        mean = (hidden * inside).sum(dim=-1, keepdim=True) / frames
        centred = (hidden - mean) * inside
        variance = centred.square().sum(dim=-1, keepdim=True) / frames
        return centred * (variance + self.eps).rsqrt() * self.weight[:, None] + self.bias[:, None]


class ClassifierGraph(nn.Module):
    """
    What is exported of a model: tensors in, tensors out.

    Args:
        model (`PreTrainedModel`): A classifier; its group norm, if it has one, is replaced.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.valid = ValidFrames()
        self.kernel, self.stride = 0, 0
        for name, module in list(model.named_modules()):
            if isinstance(module, ClipGroupNorm):
                layer = model.get_submodule(name.rpartition(".")[0])
                layer.layer_norm = MaskedGroupNorm(module, self.valid)
                (self.kernel,), (self.stride,) = layer.conv.kernel_size, layer.conv.stride
        self.model = model

    def forward(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """What the model takes, waveforms `(batch, samples)` or spectrograms, to logits `(batch, emotions)`."""
        if self.stride:
            self.valid.frames = ((attention_mask.sum(dim=1) - self.kernel) // self.stride + 1).clamp(min=1)
        return self.model(inputs, attention_mask=attention_mask).logits


def write_graph(classifier: AudioClassificationPipeline, path: Path) -> None:
    """
    Writes a model as an ONNX graph in float32. The model itself stays as it is.

    Adapters that can be merged are merged; bottleneck, prompt and combined ones are in the graph beside the layers.

    Args:
        classifier (`AudioClassificationPipeline`): What `hf_ser.load` returns, on the CPU.
        path (`Path`): The file. What is more than 2 GB goes into a file `.data` beside it.

    Raises:
        ValueError: if the model is of a family that this package does not fine-tune.
    """
    inputs_of = family_of(classifier.model.config).inputs
    if needs_thirty_seconds(classifier.model.config):
        raise ValueError(
            "the model is transformers' own Whisper, which hears 30 s of every clip; what can be exported is a Whisper that was "
            "fine-tuned with this package and hears the clip"
        )
    name = classifier.feature_extractor.model_input_names[0]
    most = maximum_samples(classifier.model.config) / inputs_of.hop
    longest = None if most == math.inf else int(most)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=longest)
    inputs = _example(classifier)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            ClassifierGraph(_plain(classifier)).eval(),
            (inputs[name], inputs[MASK].long()),
            input_names=[name, MASK],
            output_names=[LOGITS],
            dynamic_shapes=({0: batch, inputs_of.time: length}, {0: batch, 1: length}),
            verbose=False,
        )
        assert program is not None  # None is what TorchScript's exporter gives
        program.save(path)


def _plain(classifier: AudioClassificationPipeline) -> PreTrainedModel:
    """A copy of the model, with as little around its layers as there can be."""
    model = copy.deepcopy(classifier.model)
    use_stock_positions(model)  # a transform of a fixed length is no good for clips of any
    if not isinstance(model, PeftModel):
        return model
    return merge(model) if mergeable(model) else model.get_base_model()


def _example(classifier: AudioClassificationPipeline) -> dict[str, torch.Tensor]:
    """Two clips of different lengths: what the graph is traced with."""
    clips = np.random.default_rng(0).standard_normal(SAMPLING_RATE * 3 // 2).astype(np.float32)
    return extract(classifier, [clips, clips[:SAMPLING_RATE]])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says about itself; what it fails for is raised all the same."""
    levels = {name: logging.getLogger(name).level for name in CHATTY}
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
