"""Metrics of a model, their intervals, the comparison of models, fairness, and plots."""

from hf_ser.evaluation.metrics import DivergedError, per_clip, score

__all__ = ["DivergedError", "per_clip", "score"]
