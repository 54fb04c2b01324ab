"""Bottleneck adapters: what they compute, what trains, and that PEFT handles them as it does a LoRA."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hf_ser.modeling import use_lora_compatible_attention
from peft import PeftConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    HubertConfig,
    HubertForSequenceClassification,
    HubertModel,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperModel,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from hf_ser.tuning import parameter_counts
from hf_ser.tuning.bottleneck import BottleneckConfig, BottleneckLayer

SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 37, "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 24,
    "apply_spec_augment": False, "layerdrop": 0.0,
}  # fmt: skip
LAYER_NORM: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
WHISPER = WhisperConfig(d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=37, decoder_layers=1,
                        decoder_attention_heads=2, decoder_ffn_dim=37, num_mel_bins=16, max_source_positions=50,
                        vocab_size=60, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3)  # fmt: skip
FAMILIES: dict[str, Callable[[], Any]] = {
    "hubert-layer-norm": lambda: HubertModel(HubertConfig(**SMALL, **LAYER_NORM)),
    "hubert-group-norm": lambda: HubertModel(HubertConfig(**SMALL)),
    "wav2vec2": lambda: Wav2Vec2Model(Wav2Vec2Config(**SMALL)),
    "wavlm": lambda: WavLMModel(WavLMConfig(**SMALL)),
    "wavlm-layer-norm": lambda: WavLMModel(WavLMConfig(**SMALL, **LAYER_NORM)),
    "wavlm-called": lambda: use_lora_compatible_attention(WavLMModel(WavLMConfig(**SMALL))),
    "whisper": lambda: WhisperEncoder(copy.deepcopy(WHISPER)),
}
PLACEMENTS = ("sequential", "parallel")


def make_encoder(family: str) -> Any:
    torch.manual_seed(0)
    return FAMILIES[family]().eval().requires_grad_(False)


def hear(model: nn.Module, family: str = "") -> torch.Tensor:
    """`(2, frames, 32)`: what the encoder makes of two clips."""
    inputs = torch.sin(torch.arange(2 * 16 * 100) ** 1.2 / 7)
    inputs = inputs.reshape(2, 16, 100) if family == "whisper" else inputs[:3200].reshape(2, 1600)
    # WavLM rounds otherwise with gradients than without.
    with torch.set_grad_enabled(model.training):
        return model(inputs).last_hidden_state


def adapted(encoder: nn.Module, placement: str = "sequential", **options: Any) -> PeftModel:
    """With small adapters that change what comes out."""
    model = get_peft_model(encoder, BottleneckConfig(**{"bottleneck_size": 8, "placement": placement, **options}))
    return randomise(model)


def randomise(model: PeftModel, name: str = "default") -> PeftModel:
    generator = torch.Generator().manual_seed(0)
    for layer in bottlenecks(model):
        for projection in (layer.bottleneck_down[name], layer.bottleneck_up[name]):
            for parameter in projection.parameters():
                nn.init.normal_(parameter, generator=generator)
    return model.eval()


def bottlenecks(model: nn.Module) -> list[BottleneckLayer]:
    return [module for module in model.modules() if isinstance(module, BottleneckLayer)]


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("family", FAMILIES)
class TestEveryEncoder:
    def test_it_starts_as_the_encoder_that_it_adapts(self, family: str, placement: str) -> None:
        encoder = make_encoder(family)
        expected = hear(encoder, family)
        model = get_peft_model(encoder, BottleneckConfig(placement=placement)).eval()
        assert torch.equal(hear(model, family), expected)
        assert len(bottlenecks(model)) == 2

    def test_a_layer_computes_what_the_paper_says(self, family: str, placement: str) -> None:
        model = adapted(make_encoder(family), placement)
        layer = (model.layers if family == "whisper" else model.encoder.layers)[0]
        torch.manual_seed(1)
        hidden = torch.randn(2, 7, 32)
        output = layer(hidden, None)
        torch.testing.assert_close(
            output[0] if isinstance(output, tuple) else output, restated(layer, family, placement, hidden)
        )

    def test_what_should_train_moves_and_nothing_else(self, family: str, placement: str) -> None:
        model = get_peft_model(make_encoder(family), BottleneckConfig(placement=placement))
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        trainable = {name for name, p in model.named_parameters() if p.requires_grad}
        assert len(trainable) == 2 * 4  # layers; two projections' weights and biases
        assert all(".bottleneck_" in name for name in trainable)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        torch.manual_seed(0)
        for _ in range(2):
            output = hear(model.train(), family)
            (output * torch.randn_like(output)).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert {name for name, p in model.named_parameters() if not torch.equal(p, before[name])} == trainable

    def test_without_its_adapter_it_is_the_encoder(self, family: str, placement: str) -> None:
        encoder = make_encoder(family)
        expected = hear(encoder, family)
        model = adapted(encoder, placement)
        assert not torch.allclose(hear(model, family), expected, atol=1e-3)
        with model.disable_adapter():
            assert torch.equal(hear(model, family), expected)
        assert not torch.allclose(hear(model, family), expected, atol=1e-3)
        with pytest.raises(ValueError, match="not linear and cannot be merged"):
            model.merge_and_unload()
        with pytest.raises(ValueError, match="cannot be merged"):
            model.merge_adapter()
        base = model.unload()
        assert torch.equal(hear(base, family), expected)
        assert not any("bottleneck" in name for name, _ in base.named_modules())
        assert not any(module._forward_pre_hooks for module in base.modules() if isinstance(module, nn.LayerNorm))

    def test_saved_and_loaded_it_answers_the_same(self, family: str, placement: str, tmp_path: Path) -> None:
        model = adapted(make_encoder(family), placement, layers_to_transform=[1])
        expected = hear(model, family)
        model.save_pretrained(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
        config = PeftConfig.from_pretrained(tmp_path)
        assert isinstance(config, BottleneckConfig)
        assert (config.placement, config.bottleneck_size, config.layers_to_transform) == (placement, 8, [1])
        assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "BOTTLENECK"
        loaded = PeftModel.from_pretrained(make_encoder(family), tmp_path)
        assert len(bottlenecks(loaded)) == 1
        torch.testing.assert_close(hear(loaded, family), expected)
        assert not any(p.requires_grad for p in loaded.parameters())


def restated(layer: Any, family: str, placement: str, hidden: torch.Tensor) -> torch.Tensor:
    """An encoder layer with its adapter, written out."""
    whisper = family == "whisper"
    adapter = layer.fc2 if whisper else layer.feed_forward
    attention = layer.self_attn if whisper else layer.attention

    def attend(x: torch.Tensor) -> torch.Tensor:
        return attention(hidden_states=x)[0]

    def feed_forward(x: torch.Tensor) -> torch.Tensor:
        if whisper:
            return adapter.base_layer(nn.functional.gelu(layer.fc1(x)))
        return adapter.base_layer(x)

    def bottleneck(x: torch.Tensor) -> torch.Tensor:
        down, up = adapter.bottleneck_down["default"], adapter.bottleneck_up["default"]
        return 0.1 * (torch.clamp(x @ down.weight.T + down.bias, min=0) @ up.weight.T + up.bias)

    if whisper or family in ("hubert-layer-norm", "wavlm-layer-norm"):
        entering = hidden + attend((layer.self_attn_layer_norm if whisper else layer.layer_norm)(hidden))
        fed = feed_forward(layer.final_layer_norm(entering))
        return entering + fed + bottleneck(fed if placement == "sequential" else entering)
    entering = hidden + attend(hidden)
    normed = layer.layer_norm(entering)
    fed = feed_forward(normed)
    return layer.final_layer_norm(normed + fed + bottleneck(fed if placement == "sequential" else entering))


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("family", ["hubert-layer-norm", "wavlm-layer-norm"])
def test_a_clip_in_a_padded_batch_is_heard_as_alone(family: str, placement: str) -> None:
    model = adapted(make_encoder(family), placement)
    values, mask = torch.randn(2, 9000), torch.ones(2, 9000, dtype=torch.long)
    values[1, 6000:] = 0
    mask[1, 6000:] = 0
    together = model(values, attention_mask=mask).last_hidden_state[1]
    alone = model(values[1:, :6000], attention_mask=mask[1:, :6000]).last_hidden_state[0]
    torch.testing.assert_close(together[: len(alone)], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("config", "sequential"),
    [
        (Wav2Vec2Config(), 2_370_048),
        (WavLMConfig(), 2_370_048),
        (WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536), 395_264),
        (WhisperConfig(d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048), 790_272),
        (WhisperConfig(d_model=768, encoder_layers=12, encoder_attention_heads=12, encoder_ffn_dim=3072), 2_370_048),
    ],
    ids=["wav2vec2-base", "wavlm-base-plus", "whisper-tiny", "whisper-base", "whisper-small"],
)
def test_as_many_parameters_as_in_table_iv(config: Any, sequential: int) -> None:
    """2.37 M, 2.37 M, 0.40 M, 0.79 M and 2.37 M."""
    family = {"wav2vec2": Wav2Vec2Model, "wavlm": WavLMModel, "whisper": WhisperEncoder}[config.model_type]
    for placement in PLACEMENTS:
        with torch.device("meta"):
            model = get_peft_model(family(config), BottleneckConfig(placement=placement))
        assert parameter_counts(model)[0] == sequential


class TestAsPeft:
    def test_two_adapters_on_one_encoder(self, tmp_path: Path) -> None:
        base = hear(make_encoder("hubert-group-norm"))
        first = hear(adapted(make_encoder("hubert-group-norm")))
        model = adapted(make_encoder("hubert-group-norm"))
        model.add_adapter("other", BottleneckConfig(bottleneck_size=4, placement="parallel", scale=1.0))
        assert torch.equal(hear(model), first)
        model.set_adapter("other")
        assert torch.equal(hear(model), base)
        other = hear(randomise(model, "other"))
        assert not torch.allclose(other, first, atol=1e-3)
        assert {n.split(".")[-2] for n, p in model.named_parameters() if p.requires_grad} == {"other"}
        model.save_pretrained(tmp_path)
        model.set_adapter("default")
        assert torch.equal(hear(model), first)
        model.delete_adapter("default")
        assert not any(".default." in name for name, _ in model.named_parameters())
        model.set_adapter("other")
        assert torch.equal(hear(model), other)
        loaded = PeftModel.from_pretrained(make_encoder("hubert-group-norm"), tmp_path)
        loaded.load_adapter(tmp_path / "other", "second")
        torch.testing.assert_close(hear(loaded), first)
        loaded.set_adapter("second")
        torch.testing.assert_close(hear(loaded), other)

    def test_a_whole_head_is_saved_with_it(self, tmp_path: Path) -> None:
        def classifier(seed: int) -> HubertForSequenceClassification:
            torch.manual_seed(0)
            model = HubertForSequenceClassification(HubertConfig(**SMALL, num_labels=4)).eval()
            torch.manual_seed(seed)
            nn.init.normal_(model.projector.weight)
            nn.init.normal_(model.classifier.weight)
            return model

        values = torch.sin(torch.arange(3200) / 7).reshape(2, 1600)
        model = adapted(classifier(1), modules_to_save=["projector", "classifier"])
        trainable, _ = parameter_counts(model)
        assert trainable == 2 * (2 * 32 * 8 + 8 + 32) + 32 * 24 + 24 + 24 * 4 + 4
        nn.init.normal_(model.base_model.model.classifier.modules_to_save["default"].weight)
        expected = model(values).logits
        model.save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(classifier(2), tmp_path)
        torch.testing.assert_close(loaded(values).logits, expected)
        # As with a LoRA, the head that was trained stays when the adapter goes.
        unloaded = loaded.unload()
        assert torch.equal(
            unloaded.classifier.weight, model.base_model.model.classifier.modules_to_save["default"].weight
        )

    def test_an_encoder_within_another_module(self) -> None:
        class Bigger(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.speech = make_encoder("hubert-layer-norm")
                self.head = nn.Linear(32, 4)

            def forward(self, values: torch.Tensor) -> Any:
                return self.speech(values)

        expected = hear(adapted(make_encoder("hubert-layer-norm"), "parallel"))
        for targets in (None, ["feed_forward"], r".*layers\.[01]\.feed_forward"):
            model = adapted(Bigger(), "parallel", target_modules=targets)
            assert len(bottlenecks(model)) == 2
            assert torch.equal(hear(model), expected)

    def test_only_some_layers(self) -> None:
        for targets in (None, ["feed_forward"]):
            model = adapted(make_encoder("wav2vec2"), layers_to_transform=1, target_modules=targets)
            assert model.base_model.targeted_module_names == ["encoder.layers.1.feed_forward"]

    def test_whispers_decoder_gets_none(self) -> None:
        model = adapted(WhisperModel(copy.deepcopy(WHISPER)), "parallel")
        assert model.base_model.targeted_module_names == [f"encoder.layers.{i}.fc2" for i in (0, 1)]

    @pytest.mark.parametrize("placement", PLACEMENTS)
    def test_a_conformer(self, placement: str) -> None:
        config = Wav2Vec2BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=37,
                                    feature_projection_input_dim=16)  # fmt: skip
        model = adapted(Wav2Vec2BertModel(config), placement)
        assert model.base_model.targeted_module_names == [f"encoder.layers.{i}.ffn2" for i in (0, 1)]
        features = torch.randn(2, 20, 16)
        with model.disable_adapter():
            base = model(features).last_hidden_state
        assert not torch.allclose(model(features).last_hidden_state, base, atol=1e-3)

    @pytest.mark.parametrize("placement", PLACEMENTS)
    def test_a_copy_is_on_its_own(self, placement: str) -> None:
        model = adapted(make_encoder("hubert-layer-norm"), placement)
        expected = hear(model)
        other = copy.deepcopy(model)
        for layer in bottlenecks(model):
            nn.init.zeros_(layer.bottleneck_up["default"].weight)
        assert torch.equal(hear(other), expected)

    def test_what_is_not_known_is_refused(self) -> None:
        for message, options in {
            "bottleneck_size: 0 is less than 1": {"bottleneck_size": 0},
            "placement: 'below' is none of sequential, parallel": {"placement": "below"},
            r"dropout: 1.0 is not in \[0, 1\)": {"dropout": 1.0},
            "non_linearity: 'bend' is none of": {"non_linearity": "bend"},
        }.items():
            with pytest.raises(ValueError, match=message):
                BottleneckConfig(**options)
        with pytest.raises(ValueError, match="no bottleneck adapters are known for the model type"):
            get_peft_model(nn.Sequential(nn.Linear(2, 2)), BottleneckConfig())
        with pytest.raises(ValueError, match="give `layer_norm`"):
            get_peft_model(nn.Sequential(nn.Linear(2, 2)), BottleneckConfig(target_modules=["0"], placement="parallel"))


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_gradient_checkpointing_gives_the_same_gradients(placement: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        encoder = HubertModel(HubertConfig(**SMALL, **LAYER_NORM, hidden_dropout=0.0, attention_dropout=0.0,
                                           activation_dropout=0.0, feat_proj_dropout=0.0))  # fmt: skip
        model = adapted(encoder, placement, dropout=0.0).train()
        if checkpointing:
            encoder.gradient_checkpointing_enable()
        hear(model).pow(3).mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    assert all(gradient.abs().max() > 0 for gradient in gradients[0].values())
    torch.testing.assert_close(gradients[1], gradients[0])


def test_adapters_on_an_encoder_in_bfloat16_train_in_float32() -> None:
    model = adapted(make_encoder("hubert-layer-norm").bfloat16(), "parallel")
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    values = torch.randn(2, 1600, dtype=torch.bfloat16)
    assert model(values).last_hidden_state.dtype == torch.bfloat16
