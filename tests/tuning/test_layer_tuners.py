"""Bottlenecks, prompts and combinations of tuners: what trains, and that PEFT handles them as it does a LoRA."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import (
    AutoModel,
    HubertForSequenceClassification,
    Wav2Vec2Config,
    WavLMConfig,
    WhisperConfig,
    WhisperModel,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from tuned_models import make_encoder, randomise, run_encoder, small_config

from hf_ser.tuning import BottleneckConfig, CombinedConfig, DeepPromptConfig, parameter_counts

KINDS = ("hubert", "hubert-layer", "wav2vec2", "wavlm", "wavlm-layer", "wavlm-lora", "whisper")
TUNERS = ("sequential", "parallel", "prompt", "combined")
TYPES = {"sequential": "BOTTLENECK", "parallel": "BOTTLENECK", "prompt": "DEEP_PROMPT", "combined": "COMBINED"}


def configuration(tuner: str, kind: str = "", **options: Any) -> PeftConfig:
    if tuner == "prompt":
        return DeepPromptConfig(**options)
    if tuner == "combined":
        feed_forward = ["fc1", "fc2"] if kind == "whisper" else ["intermediate_dense", "output_dense"]
        lora = LoraConfig(r=2, target_modules=feed_forward)
        return CombinedConfig(parts=[DeepPromptConfig(), BottleneckConfig(bottleneck_size=4), lora], **options)
    return BottleneckConfig(**{"bottleneck_size": 8, "placement": tuner, **options})


def adapted(tuner: str, kind: str, **options: Any) -> Any:
    """An encoder of a kind with an adapter that changes its output."""
    return randomise(get_peft_model(make_encoder(kind), configuration(tuner, kind, **options)))


#: Every tuner with every second kind.
PAIRS = [(kind, tuner) for i, kind in enumerate(KINDS) for j, tuner in enumerate(TUNERS) if (i + j) % 2 == 0]


@pytest.mark.parametrize(("kind", "tuner"), PAIRS)
class TestEveryEncoder:
    def test_the_adapter_trains_and_nothing_else_and_is_saved_and_loaded(
        self, kind: str, tuner: str, tmp_path: Path
    ) -> None:
        model = get_peft_model(make_encoder(kind), configuration(tuner, kind))
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        trainable = {name for name, p in model.named_parameters() if p.requires_grad}
        # A layer has two projections with a weight and a bias each, the prompts, two LoRAs of two matrices each.
        assert len(trainable) == 3 * {"prompt": 1, "combined": 4 + 1 + 2 * 2}.get(tuner, 4)
        assert all(".default" in name for name in trainable)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        for _ in range(2):
            output = run_encoder(model.train(), kind).last_hidden_state
            (output * torch.randn_like(output)).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert {name for name, p in model.named_parameters() if not torch.equal(p, before[name])} == trainable

        expected = run_encoder(model.eval(), kind).last_hidden_state
        model.save_pretrained(tmp_path)
        assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == TYPES[tuner]
        loaded = PeftModel.from_pretrained(make_encoder(kind), tmp_path)
        torch.testing.assert_close(run_encoder(loaded, kind).last_hidden_state, expected)
        assert not any(p.requires_grad for p in loaded.parameters())
        again = PeftModel.from_pretrained(make_encoder(kind), tmp_path, is_trainable=True)
        assert parameter_counts(again)[0] == parameter_counts(model)[0] > 0

    def test_it_can_be_switched_off_and_removed_but_not_merged(self, kind: str, tuner: str) -> None:
        expected = run_encoder(make_encoder(kind), kind).last_hidden_state
        model = adapted(tuner, kind)
        changed = run_encoder(model, kind).last_hidden_state
        assert not torch.allclose(changed, expected, atol=1e-3)
        with model.disable_adapter():
            assert torch.equal(run_encoder(model, kind).last_hidden_state, expected)
        assert torch.equal(run_encoder(model, kind).last_hidden_state, changed)
        for merge in (model.merge_and_unload, model.merge_adapter):
            with pytest.raises(ValueError, match="cannot be merged"):
                merge()
        run_encoder(model, kind, output_hidden_states=True)
        base = model.unload()
        assert base.state_dict().keys() == make_encoder(kind).state_dict().keys()
        assert not any(isinstance(module, BaseTunerLayer) for module in base.modules())
        assert not any(module._forward_pre_hooks for module in base.modules() if isinstance(module, nn.LayerNorm))
        output = run_encoder(base, kind, output_hidden_states=True)
        assert torch.equal(output.last_hidden_state, expected)
        assert [state.shape for state in output.hidden_states] == [expected.shape] * 4


@pytest.mark.parametrize(
    ("kind", "tuner"),
    [(("hubert-layer", "wavlm-layer", "wavlm-layer-lora")[(i + j) % 3], tuner) for i, tuner in enumerate(TUNERS) for j in (0, 1)],
)  # fmt: skip
def test_the_output_for_a_clip_in_a_padded_batch_is_that_of_the_clip_alone(kind: str, tuner: str) -> None:
    model = adapted(tuner, kind)
    values, mask = torch.randn(2, 9000), torch.ones(2, 9000, dtype=torch.long)
    values[1, 6000:] = 0
    mask[1, 6000:] = 0
    together = model(values, attention_mask=mask, output_hidden_states=True).hidden_states
    alone = model(values[1:, :6000], attention_mask=mask[1:, :6000], output_hidden_states=True).hidden_states
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one[1, : other.shape[1]], other[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("config", "bottlenecks", "prompts"),
    [
        (Wav2Vec2Config(), 2_370_048, 46_080),
        (WavLMConfig(), 2_370_048, 46_080),
        (WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536), 395_264, 7_680),
        (WhisperConfig(d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048), 790_272, 15_360),
        (WhisperConfig(d_model=768, encoder_layers=12, encoder_attention_heads=12, encoder_ffn_dim=3072), 2_370_048, 46_080),
    ],
    ids=["wav2vec2-base", "wavlm-base-plus", "whisper-tiny", "whisper-base", "whisper-small"],
)  # fmt: skip
def test_as_many_parameters_as_in_table_iv(config: Any, bottlenecks: int, prompts: int) -> None:
    """PEFT-SER's adapters: 2.37 M, 2.37 M, 0.40 M, 0.79 M and 2.37 M; prompts: 0.05 M, 0.05 M, 0.01 M, 0.02 M and 0.05 M."""
    both = [(BottleneckConfig(placement=placement), bottlenecks) for placement in ("sequential", "parallel")]
    for tuner, expected in (*both, (DeepPromptConfig(), prompts)):
        with torch.device("meta"):
            encoder = WhisperEncoder(config) if config.model_type == "whisper" else AutoModel.from_config(config)
            assert parameter_counts(get_peft_model(encoder, tuner))[0] == expected


@pytest.mark.parametrize("tuner", TUNERS)
class TestAsPeft:
    def test_two_adapters_on_one_encoder(self, tuner: str, tmp_path: Path) -> None:
        second = {
            "prompt": DeepPromptConfig(prompt_length=2),
            "combined": CombinedConfig(parts=[DeepPromptConfig(prompt_length=2), LoraConfig(target_modules=["q_proj"])]),
            "sequential": BottleneckConfig(bottleneck_size=4, placement="parallel", scale=1.0),
        }.get(tuner, BottleneckConfig(bottleneck_size=4))  # fmt: skip
        kind = "wavlm-lora"
        first = run_encoder(adapted(tuner, kind)).last_hidden_state
        other = run_encoder(randomise(get_peft_model(make_encoder(kind), copy.deepcopy(second)))).last_hidden_state
        model = adapted(tuner, kind)
        model.add_adapter("other", second)
        randomise(model, "other")
        assert torch.equal(run_encoder(model).last_hidden_state, first)
        assert not any(".other" in n for n, p in model.named_parameters() if p.requires_grad)
        model.set_adapter("other")
        assert torch.equal(run_encoder(model).last_hidden_state, other)
        assert all(".other" in n for n, p in model.named_parameters() if p.requires_grad)
        model.save_pretrained(tmp_path)
        model.delete_adapter("default")
        assert not any(".default" in name for name, _ in model.named_parameters())
        model.set_adapter("other")
        assert torch.equal(run_encoder(model).last_hidden_state, other)
        loaded = PeftModel.from_pretrained(make_encoder(kind), tmp_path)
        loaded.load_adapter(tmp_path / "other", "second")
        torch.testing.assert_close(run_encoder(loaded).last_hidden_state, first)
        loaded.set_adapter("second")
        torch.testing.assert_close(run_encoder(loaded).last_hidden_state, other)

    def test_a_whole_head_is_saved_with_it(self, tuner: str, tmp_path: Path) -> None:
        def classifier(seed: int) -> HubertForSequenceClassification:
            torch.manual_seed(0)
            config = small_config("hubert")
            config.num_labels, config.use_weighted_layer_sum = 4, True
            model = HubertForSequenceClassification(config).eval()
            torch.manual_seed(seed)
            nn.init.normal_(model.projector.weight)
            nn.init.normal_(model.classifier.weight)
            return model

        values = torch.sin(torch.arange(3200) / 7).reshape(2, 1600)
        options = configuration(tuner, modules_to_save=["projector", "classifier"])
        model = randomise(get_peft_model(classifier(1), options))
        head = model.base_model.model.classifier.modules_to_save["default"]
        nn.init.normal_(head.weight)
        expected = model(values).logits
        model.save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(classifier(2), tmp_path)
        torch.testing.assert_close(loaded(values).logits, expected)
        # As with a LoRA, the head that was trained stays when the adapter is removed.
        assert torch.equal(loaded.unload().classifier.weight, head.weight)

    def test_a_copy_is_on_its_own(self, tuner: str) -> None:
        model = adapted(tuner, "hubert-layer")
        expected = run_encoder(model, output_hidden_states=True).hidden_states
        other = copy.deepcopy(model)
        for name, parameter in model.named_parameters():
            if ".default" in name:
                nn.init.zeros_(parameter)
        torch.testing.assert_close(run_encoder(other, output_hidden_states=True).hidden_states, expected)

    def test_on_an_encoder_in_bfloat16_it_trains_in_float32(self, tuner: str) -> None:
        model = randomise(get_peft_model(make_encoder("hubert-layer").bfloat16(), configuration(tuner)))
        assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
        assert model(torch.randn(2, 1600, dtype=torch.bfloat16)).last_hidden_state.dtype == torch.bfloat16

    def test_whispers_decoder_gets_none(self, tuner: str) -> None:
        model = get_peft_model(WhisperModel(small_config("whisper")), configuration(tuner, "whisper"))
        tuned = {name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
        assert tuned
        assert tuner == "combined" or not any("decoder" in name for name in tuned)  # a LoRA goes by the ends of names


@pytest.mark.parametrize("tuner", ["sequential", "parallel", "prompt"])
def test_without_an_encoder_it_is_refused(tuner: str) -> None:
    with pytest.raises(ValueError, match="no known family of encoders: give `target_modules`"):
        get_peft_model(nn.Sequential(nn.Linear(2, 2)), configuration(tuner))


@pytest.mark.parametrize(
    ("tuner", "targets", "expected"),
    [
        ("sequential", r".*layers\.[01]\.feed_forward", [f"encoder.layers.{i}.feed_forward" for i in (0, 1)]),
        ("prompt", ["layers.0", "layers.1"], ["encoder.layers.0", "encoder.layers.1"]),
    ],
)
def test_targets_can_be_chosen(tuner: str, targets: Any, expected: list[str]) -> None:
    model = adapted(tuner, "wav2vec2", target_modules=targets)
    assert model.base_model.targeted_module_names == expected
    states = run_encoder(model, output_hidden_states=True).hidden_states
    assert (len(states), len({state.shape for state in states})) == (4, 1)


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (BottleneckConfig, {"placement": "below"}, "placement='below': expected one of sequential, parallel"),
        (BottleneckConfig, {"non_linearity": "bend"}, "non_linearity='bend': expected one of"),
        (DeepPromptConfig, {"prompt_length": 0}, "prompt_length=0: expected 1 or more"),
    ],
)
def test_a_value_out_of_its_range_is_refused(config: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**options)
