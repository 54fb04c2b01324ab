"""What a model can do: metrics, figures, plots."""

from hf_ser.evaluation.metrics import DivergedError, normalised, per_clip, score

__all__ = ["DivergedError", "normalised", "per_clip", "score"]
