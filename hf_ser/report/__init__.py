"""The report: quality, fairness, robustness, cost and leakage of a model on the clips of some corpora."""

from hf_ser.report.build import BuiltReport, Model, ReportOptions, build, open_model
from hf_ser.report.clips import PARTS, ModelEmotions, ModelRecords, ReportClips, load_clips
from hf_ser.report.files import check_folder, save

__all__ = [
    "PARTS",
    "BuiltReport",
    "Model",
    "ModelEmotions",
    "ModelRecords",
    "ReportClips",
    "ReportOptions",
    "build",
    "check_folder",
    "load_clips",
    "open_model",
    "save",
]
