"""A small HuBERT for the demo and the tests, which trains from scratch on a laptop's processor in under a minute."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

CONFIG = {
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    # Five layers instead of HuBERT's seven: the same number of samples per frame in half the time.
    "conv_dim": (32, 32, 32, 64, 64),
    "conv_kernel": (16, 8, 4, 4, 4),
    "conv_stride": (10, 4, 2, 2, 2),
    "num_feat_extract_layers": 5,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 64,
    # Layer norm, as in HuBERT Large, so that the output does not depend on padding. The biases keep the loudness.
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
    # With the usual 0.02 such a narrow model does not train from scratch.
    "initializer_range": 0.15,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
}


def make(folder: Path) -> None:
    """
    Saves a HuBERT with random weights, the same each time, and its feature extractor in a new folder, which appears when it is
    complete.
    """
    with torch.random.fork_rng():  # the caller's random state stays as it is
        torch.manual_seed(0)
        model = HubertModel(HubertConfig(**CONFIG))
    features = Wav2Vec2FeatureExtractor(sampling_rate=16_000, do_normalize=True, return_attention_mask=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as partial:
        whole = Path(partial) / folder.name
        model.save_pretrained(whole)
        features.save_pretrained(whole)
        whole.rename(folder)
