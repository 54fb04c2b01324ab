"""The report: quality, fairness, robustness, cost and leakage of a model on the clips of some corpora."""

from hf_ser.report.build import BuiltReport, build
from hf_ser.report.clips import load_clips
from hf_ser.report.files import check_folder, save
from hf_ser.report.model import Model, ModelEmotions, open_model
from hf_ser.report.options import ReportOptions

__all__ = [
    "BuiltReport",
    "Model",
    "ModelEmotions",
    "ReportOptions",
    "build",
    "check_folder",
    "load_clips",
    "open_model",
    "save",
]
