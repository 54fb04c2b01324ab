"""An encoder with a classification head, from a checkpoint's name."""

from hf_ser.models.heads import (
    HEADS,
    BatchNormClassifier,
    StandardisedLinear,
    dimensions_of,
    fold_training_layers,
    split_outputs,
    start_linear_head,
)
from hf_ser.models.load import Loaded, load_feature_extractor, load_model, open_on_base, ready, resolve_checkpoint

__all__ = [
    "HEADS",
    "BatchNormClassifier",
    "Loaded",
    "StandardisedLinear",
    "dimensions_of",
    "fold_training_layers",
    "load_feature_extractor",
    "load_model",
    "open_on_base",
    "ready",
    "resolve_checkpoint",
    "split_outputs",
    "start_linear_head",
]
