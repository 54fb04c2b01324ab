"""
The model class for every encoder, and the code that goes to the Hub with it.

The modules in here are pushed as they are with a model that needs them, so that it opens in plain transformers with
`trust_remote_code=True`: they import nothing of the package but each other. Once this package is imported, it opens without.
"""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

from hf_ser.models.remote.configuration_hf_ser import SpeechClassifierConfig
from hf_ser.models.remote.encoders_hf_ser import (
    CalledProjectionsAttention,
    ClipWhisperEncoder,
    ValidFramesGroupNorm,
    call_projections,
    hear_valid_frames,
    valid_samples,
)
from hf_ser.models.remote.feature_extraction_hf_ser import SpeechFeatureExtractor
from hf_ser.models.remote.modeling_hf_ser import SpeechClassifier

AutoConfig.register(SpeechClassifierConfig.model_type, SpeechClassifierConfig)
AutoModelForAudioClassification.register(SpeechClassifierConfig, SpeechClassifier)
AutoFeatureExtractor.register(SpeechClassifierConfig, SpeechFeatureExtractor)
# What is saved brings its code along.
SpeechClassifierConfig.register_for_auto_class()
SpeechClassifier.register_for_auto_class("AutoModelForAudioClassification")
SpeechFeatureExtractor.register_for_auto_class()

__all__ = [
    "CalledProjectionsAttention",
    "ClipWhisperEncoder",
    "SpeechClassifier",
    "SpeechClassifierConfig",
    "SpeechFeatureExtractor",
    "ValidFramesGroupNorm",
    "call_projections",
    "hear_valid_frames",
    "valid_samples",
]
