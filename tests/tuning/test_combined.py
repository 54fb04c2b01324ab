"""Several tuners as one adapter: what they compute together, and what cannot be combined."""

from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig, PrefixTuningConfig, VeraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from tuned_models import make_encoder, randomise, run_encoder

from hf_ser.tuning import BottleneckConfig, CombinedConfig, DeepPromptConfig, Tuning

KINDS = ("hubert", "wav2vec2", "wavlm-lora", "whisper")


def lora(kind: str) -> LoraConfig:
    return LoraConfig(
        r=2, target_modules=["fc1", "fc2"] if kind == "whisper" else ["intermediate_dense", "output_dense"]
    )


def three(kind: str) -> list[PeftConfig]:
    return [DeepPromptConfig(prompt_length=3), BottleneckConfig(bottleneck_size=4, scale=1.0), lora(kind)]


def output(kind: str, config: PeftConfig) -> torch.Tensor:
    """The output of an encoder of a kind with an adapter of a configuration."""
    return run_encoder(randomise(get_peft_model(make_encoder(kind), config)), kind).last_hidden_state.detach()


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_its_parts_do_one_within_the_other_in_whatever_order_they_are_given(kind: str) -> None:
    """A LoRA that is merged, an adapter on top of it, and prompts around its layers."""
    inner = randomise(get_peft_model(make_encoder(kind), lora(kind))).merge_and_unload()
    middle = randomise(get_peft_model(inner, BottleneckConfig(bottleneck_size=4, scale=1.0)))
    outer = randomise(get_peft_model(middle.get_base_model(), DeepPromptConfig(prompt_length=3)))
    for layer in (m for m in outer.modules() if isinstance(m, BaseTunerLayer)):
        layer.enable_adapters(True)
    expected = run_encoder(outer, kind).last_hidden_state
    combined = output(kind, CombinedConfig(parts=three(kind)))
    torch.testing.assert_close(combined, expected, atol=1e-4, rtol=1e-3)
    assert torch.equal(output(kind, CombinedConfig(parts=three(kind)[::-1])), combined)


def test_tuners_of_peft_on_the_same_layers_lie_within_each_other_in_one_order() -> None:
    ia3 = IA3Config(target_modules=["q_proj", "v_proj"], feedforward_modules=[])
    parts = [ia3, LoraConfig(r=2, target_modules=["q_proj"])]
    one, other = (output("hubert", CombinedConfig(parts=given)) for given in (parts, parts[::-1]))
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([BottleneckConfig()], "found BOTTLENECK, expected two or more"),
        (
            [BottleneckConfig(), BottleneckConfig(placement="parallel")],
            "found BOTTLENECK, BOTTLENECK, expected two or more, each of another type",
        ),
        ([BottleneckConfig(), VeraConfig(target_modules=["q_proj"])], "VERA cannot be combined"),
        ([BottleneckConfig(), PrefixTuningConfig(num_virtual_tokens=2)], "PREFIX_TUNING cannot be combined"),
        ([BottleneckConfig(), {"peft_type": "NONE"}], "'NONE' is no type of PEFT"),
        (
            [BottleneckConfig(modules_to_save=["classifier"]), DeepPromptConfig()],
            "to the combination, not to BOTTLENECK",
        ),
    ],
)
def test_what_cannot_be_combined_is_refused(parts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CombinedConfig(parts=parts)


def test_a_part_without_a_place_is_refused() -> None:
    config = CombinedConfig(parts=[DeepPromptConfig(), LoraConfig(target_modules=["nothing"])])
    with pytest.raises(ValueError, match="nothing.*: LORA finds none of them in the model"):
        get_peft_model(make_encoder("hubert"), config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_start": "zero"}, "prompt_start: expected frames or random, found 'zero'"),
        ({"method": "frozen+lora_ff"}, "frozen cannot be combined"),
        ({"method": "adapter+vera"}, "vera cannot be combined"),
        ({"method": "adapter+"}, "method='': expected one of"),
        ({"method": "adapter+adapter"}, "two adapters of one kind"),
        ({"method": "adapter+parallel_adapter"}, "two adapters of one kind"),
        ({"method": "lora_ff+lora_qkv", "lora_target_modules": ["fc1"]}, "expected one LoRA method"),
        ({"method": "adapter+lora_ff", "peft_arguments": {"use_dora": True}}, "by the methods' names"),
    ],
)
def test_a_method_that_cannot_be_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tuning(**options)
