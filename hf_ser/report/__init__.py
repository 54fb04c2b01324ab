"""The report: what a model can do, for whom, under what conditions, at what cost."""

from hf_ser.report.build import Model, ReportOptions, build, open_model
from hf_ser.report.clips import PARTS, ModelEmotions, ModelRecords, ReportClips, load_clips
from hf_ser.report.files import check_folder, save

__all__ = [
    "PARTS",
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
