"""A trained model as one ONNX file that runs on a CPU without PyTorch's kernels, in float32 or int8."""

from hf_ser.export.run import ENTRIES, export, summary
from hf_ser.inference.onnx import ExportedModel, is_exported

__all__ = ["ENTRIES", "ExportedModel", "export", "is_exported", "summary"]
