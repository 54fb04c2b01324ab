"""
The package's own model class for any encoder, and the code that goes to the Hub with such a model.

The four modules in here are saved with a model that needs them, so that plain transformers opens it with
`trust_remote_code=True`. They import nothing of the package but each other. Where this package is imported, the model opens
without that argument.
"""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

from hf_ser.modeling.configuration_ser import SERModelConfig
from hf_ser.modeling.encoders_ser import (
    ClipGroupNorm,
    LoraCompatibleAttention,
    ignore_padding,
    samples_for_frames,
    use_lora_compatible_attention,
    valid_samples,
)
from hf_ser.modeling.feature_extraction_ser import SERFeatureExtractor
from hf_ser.modeling.modeling_ser import SERForAudioClassification

AutoConfig.register(SERModelConfig.model_type, SERModelConfig)
AutoModelForAudioClassification.register(SERModelConfig, SERForAudioClassification)
AutoFeatureExtractor.register(SERModelConfig, SERFeatureExtractor)
# save_pretrained copies the modules beside the weights.
SERModelConfig.register_for_auto_class()
SERForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
SERFeatureExtractor.register_for_auto_class()

__all__ = [
    "ClipGroupNorm",
    "LoraCompatibleAttention",
    "SERFeatureExtractor",
    "SERForAudioClassification",
    "SERModelConfig",
    "ignore_padding",
    "samples_for_frames",
    "use_lora_compatible_attention",
    "valid_samples",
]
