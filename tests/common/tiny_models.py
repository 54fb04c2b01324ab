"""Tiny models that tests make: random encoders, classifiers as runs leave them, and adapters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    PretrainedConfig,
    SequenceFeatureExtractor,
    Wav2Vec2FeatureExtractor,
)

SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 37,
                         "classifier_proj_size": 24}  # fmt: skip


def save_random(folder: Path, config: PretrainedConfig, extractor: SequenceFeatureExtractor) -> Path:
    """A random encoder, the same each time, with its feature extractor."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def hubert_config(
    norm: str = "layer", family: str = "hubert", dropout: bool = True, **changes: object
) -> PretrainedConfig:
    """Of a tiny HuBERT or relative, of the layer-norm or the group-norm kind, with dropout or without."""
    settings: dict[str, object] = {
        **SIZES,
        "conv_dim": [16] * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
        "feat_extract_norm": norm,
        "do_stable_layer_norm": norm == "layer",
        "conv_bias": norm == "layer",
        "apply_spec_augment": False,
    }
    if not dropout:
        names = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")
        settings |= dict.fromkeys(names, 0.0)
    return AutoConfig.for_model(family, **{**settings, **changes})


def make_hubert(folder: Path, norm: str = "layer", family: str = "hubert", **changes: Any) -> Path:
    """Saves a tiny random HuBERT or relative, see `hubert_config`: `make_hubert(folder, layerdrop=0.5)`."""
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=False, do_normalize=True)
    return save_random(folder, hubert_config(norm, family, **changes), extractor)


def shallow(encoder: Path, folder: Path) -> Path:
    """A random encoder of the same kind with a layer of each sort (two in WavLM, whose second has the first's positions)."""
    config = AutoConfig.from_pretrained(encoder)
    config.num_hidden_layers = config.encoder_layers = 2 if config.model_type == "wavlm" else 1
    if hasattr(config, "conv_dim"):  # 320 samples for a frame, as ever
        config.update({"conv_dim": [16] * 3, "conv_kernel": [10, 8, 8], "conv_stride": [5, 8, 8]})
        config.num_feat_extract_layers = 3
    return save_random(folder, config, AutoFeatureExtractor.from_pretrained(encoder))


def save_model(
    encoder: Path, folder: Path, emotions: Sequence[str] = ("angry", "happy", "sad"), dimensions: Sequence[str] = (),
    gain: float = 1, **options: Any,
) -> Path:  # fmt: skip
    """
    `save_model(encoder, folder, emotions, dimensions)` saves an encoder with a random head, as a run leaves a model; with a `gain`
    its predictions differ from clip to clip.
    """
    from hf_ser.modeling import load_model, split_outputs

    torch.manual_seed(0)
    loaded = load_model(str(encoder), emotions, dimensions, **options)
    loaded.model.classifier.weight.data *= gain
    split_outputs(loaded.model).save_pretrained(folder)
    loaded.feature_extractor.save_pretrained(folder)
    return folder


def save_adapted(
    encoder: Path, folder: Path, method: str, emotions: Sequence[str] = ("angry", "happy", "sad"), trained: bool = False,
    **settings: Any,
) -> Path:  # fmt: skip
    """
    `save_adapted(encoder, folder, method, emotions)` saves an adapter for an encoder, as a run leaves it; with `trained` none of
    its weights is at its start.
    """
    from hf_ser.modeling import load_model
    from hf_ser.tuning import Tuning, save_adapter, tune

    torch.manual_seed(0)
    loaded = load_model(str(encoder), emotions)
    if trained:
        loaded.model.classifier.weight.data *= 30
    tuned = tune(loaded, Tuning(method=method, **settings))
    for name, parameter in tuned.model.named_parameters():
        if trained and parameter.requires_grad and "classifier" not in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    save_adapter(tuned.model, tuned.new, folder, base=str(encoder))
    loaded.model.config.save_pretrained(folder)
    loaded.feature_extractor.save_pretrained(folder)
    return folder
