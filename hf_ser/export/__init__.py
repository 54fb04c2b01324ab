"""A trained model as one ONNX file that runs on a CPU without PyTorch's kernels, in float32 or int8."""

from hf_ser.export.run import export, summary

__all__ = ["export", "summary"]
