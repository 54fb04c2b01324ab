"""An encoder with a head on it, from a checkpoint's name."""

from hf_ser.models.heads import HEADS, BatchNormClassifier, fold_batch_norm
from hf_ser.models.load import Loaded, load_model, resolve_checkpoint

__all__ = ["HEADS", "BatchNormClassifier", "Loaded", "fold_batch_norm", "load_model", "resolve_checkpoint"]
