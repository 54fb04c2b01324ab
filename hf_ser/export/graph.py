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
from transformers import PreTrainedModel

from hf_ser.audio import SAMPLING_RATE
from hf_ser.inference.onnx import LOGITS, MASK
from hf_ser.modeling.families import family_of, maximum_samples, needs_thirty_seconds
from hf_ser.pipeline import SERPipeline
from hf_ser.tuning import merge, mergeable

#: The weights of a larger graph, in bytes, are in a file beside it.
LARGEST = 2**31 - 1


class ClassifierGraph(nn.Module):
    """The part of a model that is exported: from tensors to tensors."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The model's inputs, waveforms `(batch, samples)` or spectrograms, to logits `(batch, emotions)`."""
        return self.model(inputs, attention_mask=attention_mask).logits


def write_graph(recogniser: SERPipeline, path: Path) -> None:
    """
    Writes a model as an ONNX graph in float32. The model itself stays as it is.

    Adapters that can be merged are merged; bottleneck, prompt and combined ones are in the graph beside the layers.

    Args:
        recogniser (`SERPipeline`): What `hf_ser.pipeline` returns, on the CPU.
        path (`Path`): The file. Weights of more than 2 GB go into a file `.data` beside it.

    Raises:
        ValueError: if the model is of a family that this package does not fine-tune.
    """
    kind = family_of(recogniser.model.config).inputs
    if needs_thirty_seconds(recogniser.model.config):
        raise ValueError(
            "the model is transformers' own Whisper, which takes 30 s for every clip; expected a Whisper that this package "
            "has fine-tuned, which takes the clip"
        )
    most = maximum_samples(recogniser.model.config) / kind.hop
    batch = torch.export.Dim("batch")
    length = torch.export.Dim("length", max=None if most == math.inf else int(most))
    # The graph is traced with two clips of different lengths.
    clips = np.random.default_rng(0).standard_normal(SAMPLING_RATE * 3 // 2).astype(np.float32)
    inputs = recogniser.preprocess([clips, clips[:SAMPLING_RATE]])
    name = recogniser.feature_extractor.model_input_names[0]
    model = copy.deepcopy(recogniser.model)
    if isinstance(model, PeftModel):
        model = merge(model) if mergeable(model) else model.get_base_model()
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            ClassifierGraph(model).eval(),
            (inputs[name], inputs[MASK].long()),
            input_names=[name, MASK],
            output_names=[LOGITS],
            dynamic_shapes=({0: batch, kind.time: length}, {0: batch, 1: length}),
            verbose=False,
        )
        assert program is not None  # None is what TorchScript's exporter returns
        program.save(path)


def quantise(graph: Path, path: Path) -> None:
    """
    Writes a graph with the weights of its linear layers in int8, a scale for each output, and inputs that are quantised as
    they come (onnxruntime's dynamic quantisation). Convolutions stay in float32: in int8 they are not faster.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic  # an extra, which a Space does not install

    size = sum(file.stat().st_size for file in graph.parent.glob(f"{graph.name}*"))
    with _quiet():
        quantize_dynamic(
            graph,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=size > LARGEST,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own logs and warnings; errors are raised."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
