"""A trained model as one ONNX file that runs on a CPU without PyTorch's kernels, in float32 or int8."""

from hf_ser.export.exported import ExportedModel, is_exported, load_exported
from hf_ser.export.opening import open_classifier
from hf_ser.export.run import ExportSettings, export
from hf_ser.export.table import summary

__all__ = ["ExportSettings", "ExportedModel", "export", "is_exported", "load_exported", "open_classifier", "summary"]
