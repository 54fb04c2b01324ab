"""Metrics of a model, their intervals, the comparison of models, fairness, and plots."""

from hf_ser.evaluation.dimensions import concordance_of
from hf_ser.evaluation.metrics import DivergedError, emotion_metrics, normalised, per_clip, score

__all__ = ["DivergedError", "concordance_of", "emotion_metrics", "normalised", "per_clip", "score"]
