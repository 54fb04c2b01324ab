"""Runs an exported model in place of the original one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoFeatureExtractor, PretrainedConfig, SequenceFeatureExtractor
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_ser.audio import SAMPLING_RATE
from hf_ser.command_line import importing
from hf_ser.machine import processors, threads_of_this_process
from hf_ser.modeling.families import family_of, maximum_samples
from hf_ser.modeling.load import NO_CODE
from hf_ser.records import CONFIGS

#: The record of an export, with the differences between its predicted values and those of the original model.
RECORD = "export.json"
#: The graph's file, by its precision.
GRAPHS = {"float32": "model.onnx", "int8": "model_int8.onnx"}
#: All files of an export. Large weights are beside their graph. The package's own model class comes with its code.
ENTRIES = (RECORD, *(f"{graph}*" for graph in GRAPHS.values()), *CONFIGS, "*_ser.py")
#: The graph's input beside the waveforms or spectrograms, and its output.
MASK, LOGITS = "attention_mask", "logits"


class ExportedModel(nn.Module):
    """An ONNX file as a module with the inputs and outputs of the original model. See [`open_exported`] for errors."""

    device = torch.device("cpu")

    def __init__(self, folder: Path, precision: str, config: PretrainedConfig) -> None:
        super().__init__()
        self.config, self.precision = config, precision
        self.graph = folder / GRAPHS[precision]
        self.session = _open(self.graph)
        self.input, _ = (found.name for found in self.session.get_inputs())

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """
        From the inputs of the original model, see [`~hf_ser.modeling.SERForAudioClassification.forward`], to `logits` `(batch,
        emotions + dimensions)`.

        Raises:
            ValueError: if the input is missing, or a clip is longer than Whisper's 30 s.
        """
        inputs = {"input_values": input_values, "input_features": input_features}[self.input]
        if inputs is None:
            raise ValueError(f"{self.input} is missing")
        kind = family_of(self.config).inputs
        frames = inputs.shape[kind.time]
        if kind.hop * frames > (longest := maximum_samples(self.config)):
            found = kind.hop * frames / SAMPLING_RATE
            raise ValueError(f"{self.input}: the model takes {longest / SAMPLING_RATE:g} s at most, found {found:g} s")
        if attention_mask is None:
            attention_mask = torch.ones(len(inputs), frames)
        values = {self.input: inputs.numpy(), MASK: attention_mask.numpy().astype(np.int64)}
        return SequenceClassifierOutput(logits=torch.from_numpy(self.session.run([LOGITS], values)[0]))


def is_exported(folder: str | Path) -> bool:
    """Whether there is an exported model in `folder`."""
    return (Path(folder).expanduser() / RECORD).is_file()


def open_exported(folder: str | Path) -> tuple[ExportedModel, SequenceFeatureExtractor]:
    """
    The model and the feature extractor in the folder of an exported model. `hf_ser.pipeline` opens it for use.

    Raises:
        FileNotFoundError: if a file is missing.
        ModuleNotFoundError: if onnxruntime is not installed.
        ValueError: if a file is damaged.
    """
    path = Path(folder).expanduser()
    try:
        precision = json.loads((path / RECORD).read_text(encoding="utf-8"))["precision"]
        files = (GRAPHS[precision], *CONFIGS)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path / RECORD)!r} is damaged ({error}): export the model again") from error
    for name in files:
        if not (path / name).is_file():
            raise FileNotFoundError(f"{str(folder)!r} has no {name}: copy it again, or export the model again")
    model = ExportedModel(path, precision, AutoConfig.from_pretrained(path, **NO_CODE))
    return model, AutoFeatureExtractor.from_pretrained(path, **NO_CODE)


def _open(graph: Path) -> Any:
    with importing("onnxruntime", "an exported model", extra="export"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if (threads := threads_of_this_process()) < processors():  # by default each process would take all
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors, which have no common class
        raise ValueError(
            f"{str(graph)!r} cannot be opened: {error}. Copy it again, or export the model again."
        ) from error
