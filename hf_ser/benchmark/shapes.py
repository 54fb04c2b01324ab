"""Encoders of the usual shapes with random weights: they cost what the real ones do, and need no download."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    HubertConfig,
    HubertModel,
    PretrainedConfig,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from hf_ser.models import tiny

#: Whole layers left out at random would be work left out at random: no layerdrop.
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True, "layerdrop": 0.0}
#: The encoder is what counts; there is little of the decoder.
DECODER = {"decoder_layers": 1, "decoder_ffn_dim": 64}


def _whisper(width: int, layers: int) -> WhisperConfig:
    heads = width // 64
    return WhisperConfig(
        d_model=width,
        encoder_layers=layers,
        encoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_attention_heads=heads,
        **DECODER,
    )


#: Configurations by name.
SHAPES: dict[str, PretrainedConfig] = {
    "tiny": HubertConfig(**tiny.CONFIG),
    "hubert-base": HubertConfig(layerdrop=0.0),
    "hubert-large": HubertConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, **LAYER_NORM
    ),
    "whisper-tiny": _whisper(384, 4),
    "whisper-small": _whisper(768, 12),
}
#: No dropout and no masks: two ways of training learn the same.
SILENT: dict[str, Any] = {
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "final_dropout": 0.0,
    "layerdrop": 0.0,
    "dropout": 0.0,
    "encoder_layerdrop": 0.0,
    "apply_spec_augment": False,
}


def make(shape: str, folder: Path, seed: int = 0) -> None:
    """Writes an encoder of `shape` with random weights, and its feature extractor."""
    config = SHAPES[shape]
    whisper = config.model_type == "whisper"
    torch.manual_seed(seed)
    (WhisperModel if whisper else HubertModel)(config).save_pretrained(folder)
    if whisper:
        WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(folder)
    else:
        Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)


def without_chance(model: str, folder: Path) -> None:
    """Writes the encoder of `model` with all that is random in training switched off."""
    config = AutoConfig.from_pretrained(model)
    config.update({name: value for name, value in SILENT.items() if name in config.to_dict()})
    AutoModel.from_pretrained(model, config=config, dtype=torch.float32).save_pretrained(folder)
    AutoFeatureExtractor.from_pretrained(model).save_pretrained(folder)
