"""A WavLM whose attention calls its projections, so that a LoRA on query, key and value trains."""

from hf_ser.models.remote.encoders_hf_ser import CalledProjectionsAttention, call_projections

__all__ = ["CalledProjectionsAttention", "call_projections"]
