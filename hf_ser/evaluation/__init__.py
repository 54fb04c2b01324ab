"""What a model can do: metrics, figures, plots."""

from hf_ser.evaluation.metrics import per_clip, score

__all__ = ["per_clip", "score"]
