import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import make_hubert
from transformers import WavLMForSequenceClassification, WavLMModel

from hf_ser.modeling.encoders_ser import LoraCompatibleAttention, use_lora_compatible_attention

Pair = Callable[..., tuple[WavLMModel, WavLMModel]]


@pytest.fixture
def save_wavlm(tmp_path: Path) -> Callable[..., Path]:
    """Saves a random encoder. Short clips use the far buckets of its position bias, too."""
    sizes = {"num_hidden_layers": 3, "num_attention_heads": 4, "num_buckets": 16, "max_bucket_distance": 20}
    return lambda norm="group", **changes: make_hubert(tmp_path, norm, "wavlm", **sizes, **changes)


@pytest.fixture
def pair(save_wavlm: Callable[..., Path]) -> Pair:
    """A stock encoder, and the same with the attention that a LoRA can train."""

    def make(norm: str = "group", **changes: object) -> tuple[WavLMModel, WavLMModel]:
        torch.manual_seed(0)
        stock = WavLMModel.from_pretrained(save_wavlm(norm, **changes)).eval()
        for module in stock.modules():
            if hasattr(module, "gru_rel_pos_const"):  # all ones, and nearly no bias, as they are made
                torch.nn.init.normal_(module.gru_rel_pos_const)
                torch.nn.init.normal_(module.gru_rel_pos_linear.weight)
            if hasattr(module, "rel_attn_embed"):
                torch.nn.init.normal_(module.rel_attn_embed.weight)
        return stock, use_lora_compatible_attention(copy.deepcopy(stock))

    return make


def padded() -> dict[str, torch.Tensor]:
    mask = torch.ones(3, 12_000, dtype=torch.long)
    mask[0, 5000:] = 0
    mask[1, 401:] = 0
    return {"input_values": torch.randn(3, 12_000, generator=torch.manual_seed(1)) * mask, "attention_mask": mask}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_its_output_is_the_stock_ones(pair: Pair, norm: str, masked: bool) -> None:
    stock, ours = pair(norm)
    assert ours.state_dict().keys() == stock.state_dict().keys()
    assert {type(layer.attention) for layer in ours.encoder.layers} == {LoraCompatibleAttention}
    inputs = padded() if masked else {"input_values": padded()["input_values"]}
    with torch.no_grad():
        expected = stock(**inputs, output_hidden_states=True, output_attentions=True)
        found = ours(**inputs, output_hidden_states=True, output_attentions=True)
        fast = ours(**inputs, output_hidden_states=True)
    assert len(found.attentions) == len(expected.attentions) == 3
    for name in ("hidden_states", "attentions"):
        for one, other in zip(found[name], expected[name], strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    assert fast.get("attentions") is None
    for one, other in zip(fast.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(fast.last_hidden_state, expected.last_hidden_state, atol=1e-6, rtol=1e-5)


def test_its_gradients_are_the_stock_ones(pair: Pair) -> None:
    stock, ours = pair()
    for model in (stock, ours):
        model(**padded()).last_hidden_state.square().mean().backward()
    for (name, expected), found in zip(stock.named_parameters(), ours.parameters(), strict=True):
        if expected.grad is None:
            assert found.grad is None, name
        else:
            torch.testing.assert_close(found.grad, expected.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_with_dropout_it_is_the_stock_one_on_average(pair: Pair) -> None:
    stock, ours = pair(dropout=False, attention_dropout=0.3)
    layers = [model.encoder.layers[0].attention.train() for model in (stock, ours)]
    hidden = torch.randn(1, 12, 32, generator=torch.manual_seed(2)).expand(4000, -1, -1)
    with torch.no_grad():
        expected, found = (layer(hidden)[0] for layer in layers)
    torch.testing.assert_close(found.mean(0), expected.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(found.std(0), expected.std(0), atol=0.02, rtol=0.1)
    assert found.std(0).min() > 0


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_trains_every_parameter_and_merges_into_what_it_was(
    save_wavlm: Callable[..., Path], checkpointing: bool
) -> None:
    """Trap: after one step, every trainable parameter must have moved; of the stock one none of q/k/v would."""
    torch.manual_seed(0)
    model = WavLMForSequenceClassification.from_pretrained(save_wavlm(layerdrop=0.0), num_labels=4)
    model = use_lora_compatible_attention(model)
    lora = LoraConfig(
        r=4,
        target_modules=["q_proj", "k_proj", "v_proj", "out_proj"],
        modules_to_save=["projector", "classifier"],
        init_lora_weights=False,  # B is not zero, so that A moves in the first step
    )
    tuned = get_peft_model(model, lora).train()
    if checkpointing:
        tuned.gradient_checkpointing_enable({"use_reentrant": False})
    before = {name: p.detach().clone() for name, p in tuned.named_parameters() if p.requires_grad}
    assert sum("lora_" in name for name in before) == 3 * 4 * 2
    optimizer = torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], lr=1.0)
    tuned(**padded(), labels=torch.tensor([0, 1, 2])).loss.backward()
    optimizer.step()
    for name, p in tuned.named_parameters():
        if p.requires_grad:
            assert not torch.equal(before[name], p), name
    tuned.eval()
    with torch.no_grad():
        separate = tuned(**padded()).logits
        with tuned.disable_adapter():
            assert not torch.allclose(tuned(**padded()).logits, separate, atol=1e-4)
        merged = tuned.merge_and_unload()
        torch.testing.assert_close(merged(**padded()).logits, separate, atol=1e-5, rtol=1e-4)
