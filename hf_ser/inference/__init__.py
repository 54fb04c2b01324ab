"""What a trained model says: of many clips, and of a long recording over time."""

from hf_ser.inference.batches import emotions_of
from hf_ser.inference.export import LABELS, TABLES, PredictionFile, check_path, save
from hf_ser.inference.plots import plot_timeline
from hf_ser.inference.precision import PRECISIONS, in_bfloat16, in_int8, in_precision
from hf_ser.inference.predictions import Prediction, predict
from hf_ser.inference.sources import Clip, find_clips
from hf_ser.inference.timelines import SILENCE, EmotionSegment, Timeline, timeline

__all__ = [
    "LABELS",
    "PRECISIONS",
    "SILENCE",
    "TABLES",
    "Clip",
    "EmotionSegment",
    "Prediction",
    "PredictionFile",
    "Timeline",
    "check_path",
    "emotions_of",
    "find_clips",
    "in_bfloat16",
    "in_int8",
    "in_precision",
    "plot_timeline",
    "predict",
    "save",
    "timeline",
]
