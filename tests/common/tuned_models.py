"""Tiny random encoders without a head, and what they compute; and models that are tuned by a method."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_models import hubert_config
from torch import nn
from transformers import AutoModel, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

import hf_ser
from hf_ser.modeling import load_model
from hf_ser.modeling.encoders_ser import use_lora_compatible_attention
from hf_ser.modeling.families import minimum_samples
from hf_ser.training.dataset import SpeechCollator
from hf_ser.tuning import Tuning, fold_head, frozen_modules, save_adapter, tune

WHISPER: dict[str, Any] = {
    "d_model": 32, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 37, "decoder_layers": 1,
    "decoder_attention_heads": 2, "decoder_ffn_dim": 37, "num_mel_bins": 16, "max_source_positions": 50, "dropout": 0.0,
    "vocab_size": 60, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3,
}  # fmt: skip


def small_config(kind: str) -> Any:
    """The configuration of a kind: `hubert`, `hubert-layer`, `wavlm`, `whisper` and the like."""
    if kind == "whisper":
        return WhisperConfig(**WHISPER)
    norm = "layer" if "-layer" in kind else "group"
    return hubert_config(norm, kind.split("-")[0], dropout=False, num_hidden_layers=3, layerdrop=0.0)


def make_encoder(kind: str) -> Any:
    """Makes the encoder of a kind, always the same; `wavlm-lora` has an attention that a LoRA can train."""
    torch.manual_seed(0)
    config = small_config(kind)
    encoder = WhisperEncoder(config) if kind == "whisper" else AutoModel.from_config(config)
    if "wavlm" in kind:
        # As initialised it is next to nothing, and would not show whether it is in its place.
        nn.init.normal_(encoder.encoder.layers[0].attention.rel_attn_embed.weight)
    if "-lora" in kind:
        use_lora_compatible_attention(encoder)
    return encoder.eval().requires_grad_(False)


def run_encoder(model: nn.Module, kind: str = "", **options: Any) -> Any:
    """Runs an encoder on two clips: `last_hidden_state` is `(2, frames, 32)`."""
    inputs = torch.sin(torch.arange(2 * 16 * 100) ** 1.2 / 7)
    inputs = inputs.reshape(2, 16, 100) if kind == "whisper" else inputs[:3200].reshape(2, 1600)
    # WavLM rounds otherwise with gradients than without.
    with torch.set_grad_enabled(model.training):
        return model(inputs, **options)


def randomise(model: nn.Module, name: str = "default") -> Any:
    """Gives each weight of an adapter values that depend on its own name and shape alone, large enough to change the output."""
    for key, parameter in sorted(model.named_parameters()):
        kind = next((kind for kind in ("lora_A", "lora_B", "ia3_l", "bottleneck", "prompt_") if kind in key), None)
        if kind and (f".{name}." in key or key.endswith(f".{name}")):
            plain = key.replace("base_layer.", "").replace(f".{name}", "").removeprefix("base_model.model.")
            generator = torch.Generator().manual_seed(sum(ord(c) * (i + 1) for i, c in enumerate(plain)))
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5 + (kind == "ia3_l"))
    return model.eval()


class TunedModel:
    """
    A checkpoint with a new head for four emotions, tuned by a method; `inputs` is a batch of clips of several lengths, with
    their labels.
    """

    def __init__(
        self, checkpoint: Path, method: str, head: str = "stock", weighted_layer_sum: bool = False, mask_time_prob: float = 0,
        **options: Any,
    ) -> None:  # fmt: skip
        torch.manual_seed(0)
        self.checkpoint = checkpoint
        self.loaded = load_model(
            str(checkpoint), ("angry", "happy", "neutral", "sad"), head=head, weighted_layer_sum=weighted_layer_sum,
            mask_time_prob=mask_time_prob,
        )  # fmt: skip
        if head == "linear":  # as if a probe had been solved
            nn.init.normal_(self.loaded.model.projector.linear.weight, std=0.1)
            self.loaded.model.projector.mean.normal_()
            self.loaded.model.projector.scale.uniform_(0.5, 2.0)
        self.tuned = tune(self.loaded, Tuning(method=method, **{"lora_dropout": 0.0, **options}))
        self.model = self.tuned.model
        waves = [torch.sin(torch.arange(n) / (5 + n % 7)).numpy() for n in (9000, 6000, 12_000, 5000)]
        collator = SpeechCollator(self.loaded.feature_extractor, minimum_samples(self.loaded.model.config))
        items = [{"waveform": wave, "labels": np.array(i), "clip": i} for i, wave in enumerate(waves)]
        self.inputs = {name: value for name, value in collator(items).items() if name not in ("clip", "by_length")}

    @property
    def trainable(self) -> set[str]:
        """The names of the parameters that train."""
        return {name for name, p in self.model.named_parameters() if p.requires_grad}

    def set_to_train(self) -> None:
        """Sets the model to train mode, and its frozen modules to eval mode."""
        self.model.train()
        for module in frozen_modules(self.model):
            module.eval()

    def train(self, steps: int = 3) -> set[str]:
        """Trains for some steps: a LoRA's first matrix gets no gradient while its second is zero. Returns what has moved."""
        before = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        optimizer = torch.optim.Adam([p for p in self.model.parameters() if p.requires_grad], lr=1e-2)
        for _ in range(steps):
            self.set_to_train()
            self.model(**self.inputs).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return {name for name, p in self.model.named_parameters() if not torch.equal(p, before[name])}

    def logits(self, model: Any = None) -> torch.Tensor:
        """What the model, or another one, computes in eval mode."""
        with torch.no_grad():
            inputs = {name: value for name, value in self.inputs.items() if name != "labels"}
            return (self.model if model is None else model).eval()(**inputs).logits

    def save(self, folder: Path) -> None:
        """Saves the adapter as a run leaves it."""
        save_adapter(self.model, fold_head(self.model, self.tuned.new), folder, base=str(self.checkpoint))
        self.model.config.save_pretrained(folder)
        self.loaded.feature_extractor.save_pretrained(folder)

    def opened_logits(self, folder: Path) -> torch.Tensor:
        """What the model computes that is opened from a folder; whatever is drawn at random meanwhile must be replaced."""
        torch.manual_seed(99)
        return self.logits(hf_ser.pipeline(folder).model)
