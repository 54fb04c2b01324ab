"""Tiny random encoders without a head, and what they compute."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from hf_ser.modeling import use_lora_compatible_attention

SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 37, "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 24,
    "apply_spec_augment": False, "layerdrop": 0.0, "hidden_dropout": 0.0, "attention_dropout": 0.0,
    "activation_dropout": 0.0, "feat_proj_dropout": 0.0,
}  # fmt: skip
LAYER_NORM: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
WHISPER: dict[str, Any] = {
    "d_model": 32, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 37, "decoder_layers": 1,
    "decoder_attention_heads": 2, "decoder_ffn_dim": 37, "num_mel_bins": 16, "max_source_positions": 50, "dropout": 0.0,
    "vocab_size": 60, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3,
}  # fmt: skip


@pytest.fixture(scope="session")
def small_config() -> Callable[[str], Any]:
    """The configuration of a kind: `hubert`, `hubert-layer`, `wavlm`, `whisper` and the like."""

    def config(kind: str) -> Any:
        if kind == "whisper":
            return WhisperConfig(**WHISPER)
        family = kind.split("-")[0]
        return AutoConfig.for_model(family, **SMALL, **(LAYER_NORM if "-layer" in kind else {}))

    return config


@pytest.fixture(scope="session")
def make_encoder(small_config: Callable[[str], Any]) -> Callable[[str], Any]:
    """Makes the encoder of a kind, always the same; `wavlm-lora` has an attention that a LoRA can train."""

    def make(kind: str) -> Any:
        torch.manual_seed(0)
        config = small_config(kind)
        encoder = WhisperEncoder(config) if kind == "whisper" else AutoModel.from_config(config)
        if "wavlm" in kind:
            # As initialised it is next to nothing, and would not show whether it is in its place.
            nn.init.normal_(encoder.encoder.layers[0].attention.rel_attn_embed.weight)
        if "-lora" in kind:
            use_lora_compatible_attention(encoder)
        return encoder.eval().requires_grad_(False)

    return make


@pytest.fixture(scope="session")
def run_encoder() -> Callable[..., Any]:
    """Runs an encoder on two clips: `last_hidden_state` is `(2, frames, 32)`."""

    def run(model: nn.Module, kind: str = "", **options: Any) -> Any:
        inputs = torch.sin(torch.arange(2 * 16 * 100) ** 1.2 / 7)
        inputs = inputs.reshape(2, 16, 100) if kind == "whisper" else inputs[:3200].reshape(2, 1600)
        # WavLM rounds otherwise with gradients than without.
        with torch.set_grad_enabled(model.training):
            return model(inputs, **options)

    return run


@pytest.fixture(scope="session")
def randomise() -> Callable[..., Any]:
    """Gives each weight of an adapter values that depend on its own name and shape alone, large enough to change the output."""

    def fill(model: nn.Module, name: str = "default") -> Any:
        for key, parameter in sorted(model.named_parameters()):
            kind = next((kind for kind in ("lora_A", "lora_B", "ia3_l", "bottleneck", "prompt_") if kind in key), None)
            if kind and (f".{name}." in key or key.endswith(f".{name}")):
                plain = key.replace("base_layer.", "").replace(f".{name}", "").removeprefix("base_model.model.")
                generator = torch.Generator().manual_seed(sum(ord(c) * (i + 1) for i, c in enumerate(plain)))
                with torch.no_grad():
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5 + (kind == "ia3_l"))
        return model.eval()

    return fill
