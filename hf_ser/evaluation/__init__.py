"""Metrics of a model, their intervals, the comparison of models, fairness, and plots."""

from hf_ser.evaluation.metrics import DivergedError, normalised, per_clip, score

__all__ = ["DivergedError", "normalised", "per_clip", "score"]
