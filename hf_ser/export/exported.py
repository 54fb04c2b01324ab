"""Runs an exported model, in the place of the model that it was made of."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    AudioClassificationPipeline,
    AutoConfig,
    AutoFeatureExtractor,
    PretrainedConfig,
    SequenceFeatureExtractor,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_ser.encoders import family_of, maximum_samples
from hf_ser.export.files import GRAPHS, RECORD
from hf_ser.export.graph import LOGITS, MASK


class ExportedModel(nn.Module):
    """
    An ONNX file, called as the model is called that it was made of.

    Args:
        graph (`Path`): The file.
        config (`PretrainedConfig`): The model's.
        threads (`int`, *optional*): How many it uses, by default one for each core.
        one_by_one (`bool`, defaults to `False`): Whether the clips of a batch go through it one after the other, without
            their padding. In int8 they must, for the same answer as alone: the quantised inputs have one scale for all.

    Raises:
        ModuleNotFoundError: if onnxruntime is not installed.
        ValueError: if the file cannot be read.
    """

    def __init__(
        self, graph: Path, config: PretrainedConfig, *, threads: int | None = None, one_by_one: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        self.graph = graph
        self.one_by_one = one_by_one
        self.session = _open(graph, threads)
        self.input, _ = (found.name for found in self.session.get_inputs())
        inputs = family_of(config).inputs
        self.time = inputs.time
        self.longest = maximum_samples(config) / inputs.hop

    @property
    def precision(self) -> str:
        """What it was exported in."""
        return next((precision for precision, name in GRAPHS.items() if name == self.graph.name), "float32")

    @property
    def device(self) -> torch.device:
        """Always the CPU."""
        return torch.device("cpu")

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """
        Args:
            input_values (`torch.Tensor` of shape `(batch, samples)`): What the feature extractor gives.
            attention_mask (`torch.Tensor` of shape `(batch, samples)` or `(batch, mel frames)`, *optional*): 1 where the input
                is the clip's, 0 where it is padding, on the right.
            input_features (`torch.Tensor` of shape `(batch, mel bins, mel frames)`): In place of `input_values`, for Whisper.

        Returns:
            `logits` `(batch, emotions)`.

        Raises:
            ValueError: if the input is missing, or a clip is longer than Whisper's 30 s.
        """
        inputs = {"input_values": input_values, "input_features": input_features}[self.input]
        if inputs is None:
            raise ValueError(f"{self.input} is missing")
        if inputs.shape[self.time] > self.longest:
            raise ValueError(
                f"input_features: a clip of {inputs.shape[self.time] / 100:g} s, and Whisper hears at most "
                f"{self.longest / 100:g} s"
            )
        if attention_mask is None:
            attention_mask = torch.ones(len(inputs), inputs.shape[self.time])
        mask = attention_mask.numpy().astype(np.int64)
        values = inputs.numpy()
        if self.one_by_one:
            lengths = mask.sum(axis=1)
            values = np.moveaxis(values, self.time, -1)
            clips = [np.moveaxis(values[i : i + 1, ..., :n], -1, self.time) for i, n in enumerate(lengths)]
            rows = [
                self._run(clip, mask[i : i + 1, :n]) for i, (clip, n) in enumerate(zip(clips, lengths, strict=True))
            ]
            logits = np.concatenate(rows)
        else:
            logits = self._run(values, mask)
        return SequenceClassifierOutput(logits=torch.from_numpy(logits))

    def _run(self, values: np.ndarray, mask: np.ndarray) -> Any:
        return self.session.run([LOGITS], {self.input: values, MASK: mask})[0]


class ExportedClassifier(AudioClassificationPipeline):
    """A pipeline whose model is an [`ExportedModel`]."""

    def check_model_type(self, supported_models: Any) -> None:
        """Nothing: it knows the classes of transformers alone, and would complain of any other."""


def classifier_of(model: ExportedModel, extractor: SequenceFeatureExtractor) -> AudioClassificationPipeline:
    """The pipeline around an exported model."""
    return ExportedClassifier(
        model=model.eval(), feature_extractor=extractor, task="audio-classification", device=model.device
    )


def is_exported(folder: str | Path) -> bool:
    """Whether `scripts/export.py` has left an exported model in `folder`."""
    return (Path(folder).expanduser() / RECORD).is_file()


def load_exported(folder: str | Path, *, threads: int | None = None) -> AudioClassificationPipeline:
    """
    Opens an exported model for the CPU. It goes where what `hf_ser.load` returns goes: to `hf_ser.inference.predict` and
    `timeline`, and it can be called as any pipeline.

    Args:
        folder (`str` or `Path`): What `scripts/export.py` has left.
        threads (`int`, *optional*): How many threads a call uses, by default one for each core.

    Returns:
        An `AudioClassificationPipeline`; `.model` (an [`ExportedModel`]) and `.feature_extractor` are its parts.

    Raises:
        FileNotFoundError: if `folder` holds no exported model, or not all of it.
        ModuleNotFoundError: if onnxruntime is not installed.
        ValueError: if a file is damaged.
    """
    path = Path(folder).expanduser()
    if not is_exported(path):
        raise FileNotFoundError(
            f"{str(folder)!r} holds no exported model: it has no {RECORD}. scripts/export.py makes one; what is not exported "
            "opens with hf_ser.load"
        )
    try:
        precision = json.loads((path / RECORD).read_text(encoding="utf-8"))["precision"]
        graph = path / GRAPHS[precision]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path / RECORD)!r} is damaged ({error}): export the model anew") from error
    for file in (graph, path / "config.json", path / "preprocessor_config.json"):
        if not file.is_file():
            raise FileNotFoundError(f"{str(folder)!r} has no {file.name}: copy it again, or export the model anew")
    model = ExportedModel(graph, AutoConfig.from_pretrained(path), threads=threads, one_by_one=precision == "int8")
    return classifier_of(model, AutoFeatureExtractor.from_pretrained(path))


def _open(graph: Path, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "an exported model needs onnxruntime; install it with pip install 'hf_ser[export]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if threads is not None:
        if threads < 1:
            raise ValueError(f"threads: must be at least 1, found {threads}")
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds of error, which have nothing in common
        raise ValueError(
            f"{str(graph)!r} cannot be opened: {error}. Copy it again, or export the model anew."
        ) from error
