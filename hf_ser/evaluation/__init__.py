"""Metrics of a model, their intervals, the comparison of models, fairness, and plots."""

from hf_ser.evaluation.dimensions import mean_scorer
from hf_ser.evaluation.metrics import DivergedError, emotion_metrics, normalised, per_clip, score

__all__ = ["DivergedError", "emotion_metrics", "mean_scorer", "normalised", "per_clip", "score"]
