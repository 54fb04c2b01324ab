"""
Frozen layers run once: their outputs are cached on disk and reused by every epoch, fold and later run on the same clips.

`parts.py` finds the frozen part of a model and names its outputs, `store.py` keeps them on disk, and a Trainer uses them through
`cache.py`.
"""

from hf_ser.training.frozen.cache import FrozenFeatures, cached_frozen_part, cached_predictions

__all__ = ["FrozenFeatures", "cached_frozen_part", "cached_predictions"]
