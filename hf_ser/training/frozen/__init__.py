"""
What the frozen front of a model computes of a clip is the same in every epoch, fold and run: it is computed once, and kept on
disk. `parts.py` says what of a model that is, `keys.py` when it is the same, `store.py` and `room.py` keep it, `computing.py`
fills in what is missing, `features.py` makes batches of it, and `cache.py` lets a Trainer train from them.
"""

from hf_ser.training.frozen.cache import cached_frozen_part, cached_predictions, frozen_features
from hf_ser.training.frozen.parts import frozen_part

__all__ = ["cached_frozen_part", "cached_predictions", "frozen_features", "frozen_part"]
