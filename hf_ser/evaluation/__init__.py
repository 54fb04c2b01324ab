"""What a model can do: metrics, figures, plots."""

from hf_ser.evaluation.metrics import DivergedError, per_clip, score

__all__ = ["DivergedError", "per_clip", "score"]
