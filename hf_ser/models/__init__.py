"""An encoder with a head on it, from a checkpoint's name."""

from hf_ser.models.heads import HEADS, BatchNormClassifier, StandardisedLinear, fold_training_layers, start_linear_head
from hf_ser.models.load import (
    FAMILIES,
    Loaded,
    hears_thirty_seconds,
    load_feature_extractor,
    load_model,
    open_on_base,
    padding_changes_answers,
    ready,
    resolve_checkpoint,
)
from hf_ser.models.remote import SpeechClassifier, valid_samples

__all__ = [
    "FAMILIES",
    "HEADS",
    "BatchNormClassifier",
    "Loaded",
    "SpeechClassifier",
    "StandardisedLinear",
    "fold_training_layers",
    "hears_thirty_seconds",
    "load_feature_extractor",
    "load_model",
    "open_on_base",
    "padding_changes_answers",
    "ready",
    "resolve_checkpoint",
    "start_linear_head",
    "valid_samples",
]
