"""
An encoder with a classification head: the table of encoders, the heads, and opening a checkpoint by its name.

The modules `*_ser.py` are the package's own model class for any encoder. They are saved with a model that needs them, so that
plain transformers opens it with `trust_remote_code=True`, and import nothing of the package but each other. Where this package is
imported, the model opens without that argument.
"""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

from hf_ser.modeling.configuration_ser import SERModelConfig
from hf_ser.modeling.feature_extraction_ser import SERFeatureExtractor
from hf_ser.modeling.heads import (
    HEADS,
    BatchNormClassifier,
    StandardisedLinear,
    dimensions_of,
    fold_training_layers,
    split_outputs,
)
from hf_ser.modeling.load import Loaded, load_feature_extractor, load_model, resolve_checkpoint
from hf_ser.modeling.modeling_ser import SERForAudioClassification

AutoConfig.register(SERModelConfig.model_type, SERModelConfig)
AutoModelForAudioClassification.register(SERModelConfig, SERForAudioClassification)
AutoFeatureExtractor.register(SERModelConfig, SERFeatureExtractor)
# save_pretrained copies the modules beside the weights.
SERModelConfig.register_for_auto_class()
SERForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
SERFeatureExtractor.register_for_auto_class()

__all__ = [
    "HEADS",
    "BatchNormClassifier",
    "Loaded",
    "SERFeatureExtractor",
    "SERForAudioClassification",
    "SERModelConfig",
    "StandardisedLinear",
    "dimensions_of",
    "fold_training_layers",
    "load_feature_extractor",
    "load_model",
    "resolve_checkpoint",
    "split_outputs",
]
