"""Bottleneck adapters: what they compute."""

from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import nn
from tuned_models import make_encoder, randomise, run_encoder

from hf_ser.tuning import BottleneckConfig

PLACEMENTS = ("sequential", "parallel")


def restated(layer: Any, kind: str, placement: str, hidden: torch.Tensor) -> torch.Tensor:
    """An encoder layer with its adapter, written out."""
    whisper = kind == "whisper"
    adapter = layer.fc2 if whisper else layer.feed_forward
    attention = layer.self_attn if whisper else layer.attention

    def attend(x: torch.Tensor) -> torch.Tensor:
        return attention(hidden_states=x)[0]

    def feed_forward(x: torch.Tensor) -> torch.Tensor:
        return adapter.base_layer(nn.functional.gelu(layer.fc1(x)) if whisper else x)

    def bottleneck(x: torch.Tensor) -> torch.Tensor:
        down, up = adapter.bottleneck_down["default"], adapter.bottleneck_up["default"]
        return 0.1 * (torch.clamp(x @ down.weight.T + down.bias, min=0) @ up.weight.T + up.bias)

    if whisper or kind.endswith("-layer"):
        entering = hidden + attend((layer.self_attn_layer_norm if whisper else layer.layer_norm)(hidden))
        fed = feed_forward(layer.final_layer_norm(entering))
        return entering + fed + bottleneck(fed if placement == "sequential" else entering)
    entering = hidden + attend(hidden)
    normed = layer.layer_norm(entering)
    fed = feed_forward(normed)
    return layer.final_layer_norm(normed + fed + bottleneck(fed if placement == "sequential" else entering))


@pytest.mark.parametrize(
    ("kind", "placement"),
    [(kind, placement) for kind in ("hubert", "hubert-layer", "whisper") for placement in PLACEMENTS]
    + [("wav2vec2", "parallel"), ("wavlm", "sequential"), ("wavlm-layer", "parallel"), ("wavlm-lora", "sequential")],
)
def test_a_layer_starts_as_it_was_and_computes_what_the_paper_says(kind: str, placement: str) -> None:
    encoder = make_encoder(kind)
    expected = run_encoder(encoder, kind).last_hidden_state
    model = get_peft_model(encoder, BottleneckConfig(bottleneck_size=8, placement=placement)).eval()
    assert torch.equal(run_encoder(model, kind).last_hidden_state, expected)
    layer = (randomise(model).layers if kind == "whisper" else randomise(model).encoder.layers)[0]
    hidden = torch.randn(2, 7, 32)
    output = layer(hidden, None)
    output = output[0] if isinstance(output, tuple) else output
    torch.testing.assert_close(output, restated(layer, kind, placement, hidden))


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_gradient_checkpointing_gives_the_same_gradients(placement: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        encoder = make_encoder("hubert-layer")
        config = BottleneckConfig(bottleneck_size=8, placement=placement, dropout=0.0)
        model = randomise(get_peft_model(encoder, config)).train()
        if checkpointing:
            encoder.gradient_checkpointing_enable()
        run_encoder(model).last_hidden_state.pow(3).mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    assert all(gradient.abs().max() > 0 for gradient in gradients[0].values())
    torch.testing.assert_close(gradients[1], gradients[0])
