"""Several tuners as one adapter: what they compute, and that PEFT handles them as it does a LoRA."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hf_ser.modeling import use_lora_compatible_attention
from hf_ser.tuning.combined import places
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, PrefixTuningConfig, VeraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import AutoConfig, AutoModel, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from hf_ser.tuning import BottleneckConfig, CombinedConfig, DeepPromptConfig, Tuning, parameter_counts

SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 37, "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 24,
    "apply_spec_augment": False, "layerdrop": 0.0,
}  # fmt: skip
WHISPER = WhisperConfig(d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=37, decoder_layers=1,
                        decoder_attention_heads=2, decoder_ffn_dim=37, num_mel_bins=16, max_source_positions=50,
                        vocab_size=60, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3)  # fmt: skip
FAMILIES = ("hubert", "wav2vec2", "wavlm", "whisper")
FEED_FORWARD = {"whisper": ["fc1", "fc2"]}


def make_encoder(family: str) -> Any:
    torch.manual_seed(0)
    if family == "whisper":
        model: Any = WhisperEncoder(copy.deepcopy(WHISPER))
    else:
        model = use_lora_compatible_attention(AutoModel.from_config(AutoConfig.for_model(family, **SMALL)))
    return model.eval().requires_grad_(False)


def hear(model: nn.Module, family: str) -> torch.Tensor:
    """`(2, frames, 32)`: what the encoder makes of two clips."""
    inputs = torch.sin(torch.arange(2 * 16 * 100) ** 1.2 / 7)
    inputs = inputs.reshape(2, 16, 100) if family == "whisper" else inputs[:3200].reshape(2, 1600)
    with torch.no_grad():
        return model(inputs).last_hidden_state


def lora(family: str, **options: Any) -> LoraConfig:
    return LoraConfig(r=2, target_modules=FEED_FORWARD.get(family, ["intermediate_dense", "output_dense"]), **options)


def three(family: str) -> list[PeftConfig]:
    return [DeepPromptConfig(prompt_length=3), BottleneckConfig(bottleneck_size=4, scale=1.0), lora(family)]


def randomise(model: nn.Module, name: str = "default") -> Any:
    """Gives each weight of an adapter values that depend on its own name and shape alone."""
    for key, parameter in sorted(model.named_parameters()):
        kind = next((kind for kind in ("lora_A", "lora_B", "ia3_l", "bottleneck", "prompt_") if kind in key), None)
        if kind and (f".{name}." in key or key.endswith(f".{name}")):
            plain = key.replace("base_layer.", "").replace(f".{name}", "").removeprefix("base_model.model.")
            generator = torch.Generator().manual_seed(sum(ord(c) * (i + 1) for i, c in enumerate(plain)))
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + (kind == "ia3_l"))
    return model.eval()


@pytest.mark.parametrize("family", FAMILIES)
class TestEveryEncoder:
    def test_it_computes_what_its_parts_do_one_within_the_other(self, family: str) -> None:
        """A LoRA that is merged, an adapter on top of it, and prompts around its layers."""
        combined = randomise(get_peft_model(make_encoder(family), CombinedConfig(parts=three(family))))
        inner = randomise(get_peft_model(make_encoder(family), lora(family))).merge_and_unload()
        middle = randomise(get_peft_model(inner, BottleneckConfig(bottleneck_size=4, scale=1.0)))
        outer = randomise(get_peft_model(middle.get_base_model(), DeepPromptConfig(prompt_length=3)))
        for layer in (m for m in outer.modules() if isinstance(m, BaseTunerLayer)):
            layer.enable_adapters(True)
        expected = hear(outer, family)
        assert not torch.allclose(expected, hear(make_encoder(family), family), atol=1e-3)
        torch.testing.assert_close(hear(combined, family), expected, atol=2e-5, rtol=1e-4)

    def test_it_starts_as_the_encoder_and_nothing_else_trains(self, family: str) -> None:
        model = get_peft_model(make_encoder(family), CombinedConfig(parts=[lora(family), BottleneckConfig()]))
        assert torch.equal(hear(model, family), hear(make_encoder(family), family))
        trainable = {name for name, p in model.named_parameters() if p.requires_grad}
        assert len(trainable) == 2 * (2 * 2 + 4)
        assert all(".default" in name for name in trainable)

    def test_the_order_of_the_parts_does_not_matter(self, family: str) -> None:
        found = [
            hear(randomise(get_peft_model(make_encoder(family), CombinedConfig(parts=parts))), family)
            for parts in (three(family), three(family)[::-1])
        ]
        assert torch.equal(*found)

    def test_saved_and_loaded(self, family: str, tmp_path: Path) -> None:
        model = randomise(get_peft_model(make_encoder(family), CombinedConfig(parts=three(family))))
        model.save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(make_encoder(family), tmp_path).eval()
        assert torch.equal(hear(loaded, family), hear(model, family))
        assert not any(p.requires_grad for p in loaded.parameters())
        again = PeftModel.from_pretrained(make_encoder(family), tmp_path, is_trainable=True)
        assert parameter_counts(again)[0] == parameter_counts(model)[0] > 0

    def test_it_can_be_switched_off_and_taken_off(self, family: str) -> None:
        base = hear(make_encoder(family), family)
        model = randomise(get_peft_model(make_encoder(family), CombinedConfig(parts=three(family))))
        assert not torch.allclose(hear(model, family), base, atol=1e-3)
        with model.disable_adapter():
            assert torch.equal(hear(model, family), base)
        with pytest.raises(ValueError, match="cannot be merged"):
            model.merge_and_unload()
        plain = model.unload()
        assert not any(isinstance(module, BaseTunerLayer) for module in plain.modules())
        assert plain.state_dict().keys() == make_encoder(family).state_dict().keys()
        assert torch.equal(hear(plain, family), base)

    def test_two_adapters_of_other_parts_on_one_encoder(self, family: str, tmp_path: Path) -> None:
        """What was there first lies around what comes later, and still each computes what it does alone."""
        other = CombinedConfig(parts=[lora(family), DeepPromptConfig(prompt_length=2)])
        prompts = CombinedConfig(parts=[DeepPromptConfig(prompt_length=3), BottleneckConfig(bottleneck_size=4)])
        first = hear(randomise(get_peft_model(make_encoder(family), copy.deepcopy(prompts))), family)
        second = hear(randomise(get_peft_model(make_encoder(family), copy.deepcopy(other))), family)
        model = randomise(get_peft_model(make_encoder(family), prompts))
        model.add_adapter("other", other)
        randomise(model, "other")
        assert torch.equal(hear(model, family), first)
        assert {n for n, p in model.named_parameters() if p.requires_grad and ".other" in n} == set()
        model.set_adapter("other")
        assert torch.equal(hear(model, family), second)
        assert all(".other" in n for n, p in model.named_parameters() if p.requires_grad)
        model.save_pretrained(tmp_path)
        model.delete_adapter("default")
        assert not any(".default" in name for name, _ in model.named_parameters())
        model.set_adapter("other")
        assert torch.equal(hear(model, family), second)
        loaded = PeftModel.from_pretrained(make_encoder(family), tmp_path)
        loaded.load_adapter(tmp_path / "other", "second")
        assert torch.equal(hear(loaded, family), first)
        loaded.set_adapter("second")
        assert torch.equal(hear(loaded, family), second)


def test_tuners_of_peft_on_the_same_layers_lie_within_each_other_in_one_order() -> None:
    ia3 = IA3Config(target_modules=["q_proj", "v_proj"], feedforward_modules=[])
    found = []
    for parts in ([ia3, LoraConfig(r=2, target_modules=["q_proj"])], [LoraConfig(r=2, target_modules=["q_proj"]), ia3]):
        model = randomise(get_peft_model(make_encoder("hubert"), CombinedConfig(parts=parts)))
        found.append(hear(model, "hubert"))
        layers = [type(place.module).__module__ for place in places(model) if place.name.endswith("0.attention.q_proj")]
        assert [".lora." in name for name in layers] == [True, False, False]
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([BottleneckConfig()], "needs two or more"),
        ([BottleneckConfig(), BottleneckConfig(placement="parallel")], "BOTTLENECK is in it twice"),
        ([BottleneckConfig(), VeraConfig(target_modules=["q_proj"])], "VERA cannot be combined"),
        ([BottleneckConfig(), PrefixTuningConfig(num_virtual_tokens=2)], "PREFIX_TUNING cannot be combined"),
        ([BottleneckConfig(), {"peft_type": "NONE"}], "'NONE' is no type of PEFT"),
        ([BottleneckConfig(modules_to_save=["classifier"]), DeepPromptConfig()], "to the combination, not to BOTTLENECK"),
    ],
)
def test_what_cannot_be_combined_is_refused(parts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CombinedConfig(parts=parts)


def test_a_part_without_a_place_is_refused() -> None:
    config = CombinedConfig(parts=[DeepPromptConfig(), LoraConfig(target_modules=["nothing"])])
    with pytest.raises(ValueError, match="LORA: no module of the model is one of its target_modules"):
        get_peft_model(make_encoder("hubert"), config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "head+lora_ff"}, "head cannot be combined"),
        ({"method": "adapter+vera"}, "vera cannot be combined"),
        ({"method": "adapter+"}, "'' is none of"),
        ({"method": "adapter+adapter"}, "two adapters of one kind"),
        ({"method": "adapter+parallel_adapter"}, "two adapters of one kind"),
        ({"method": "lora_ff+lora_qkv", "lora_target_modules": ["fc1"]}, "several LoRA methods"),
        ({"method": "adapter+lora_ff", "peft_arguments": {"use_dora": True}}, "by the methods' names"),
    ],
)
def test_a_method_that_cannot_be_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tuning(**options)
