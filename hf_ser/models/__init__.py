"""An encoder with a head on it, from a checkpoint's name."""

from hf_ser.models.heads import HEADS, BatchNormClassifier, fold_batch_norm
from hf_ser.models.load import Loaded, load_model, resolve_checkpoint
from hf_ser.models.padding import hear_valid_frames, valid_samples

__all__ = [
    "HEADS",
    "BatchNormClassifier",
    "Loaded",
    "fold_batch_norm",
    "hear_valid_frames",
    "load_model",
    "resolve_checkpoint",
    "valid_samples",
]
