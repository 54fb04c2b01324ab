"""Embedding prompts: what they compute, what trains, and that PEFT handles them as it does a LoRA."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hf_ser.modeling import use_lora_compatible_attention
from hf_ser.tuning.prompt import SPREAD, extend_mask
from peft import PeftConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    HubertConfig,
    HubertForSequenceClassification,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperModel,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from hf_ser.tuning import frozen_modules, parameter_counts
from hf_ser.tuning.prompt import DeepPromptConfig, DeepPromptLayer, start_at_frames

SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 37, "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 24,
    "apply_spec_augment": False, "layerdrop": 0.0, "hidden_dropout": 0.0, "attention_dropout": 0.0,
    "activation_dropout": 0.0, "feat_proj_dropout": 0.0,
}  # fmt: skip
LAYER_NORM: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
WHISPER = WhisperConfig(d_model=32, encoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=37, decoder_layers=1,
                        decoder_attention_heads=2, decoder_ffn_dim=37, num_mel_bins=16, max_source_positions=50, dropout=0.0,
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


def make_encoder(family: str) -> Any:
    torch.manual_seed(0)
    encoder = FAMILIES[family]().eval().requires_grad_(False)
    if "wavlm" in family:
        # As drawn it is next to nothing, and would not show whether it is in its place.
        nn.init.normal_(encoder.encoder.layers[0].attention.rel_attn_embed.weight)
    return encoder


def hear(model: nn.Module, family: str = "", **options: Any) -> Any:
    """What the encoder makes of two clips: `last_hidden_state` is `(2, frames, 32)`."""
    inputs = torch.sin(torch.arange(2 * 16 * 100) ** 1.2 / 7)
    inputs = inputs.reshape(2, 16, 100) if family == "whisper" else inputs[:3200].reshape(2, 1600)
    # WavLM rounds otherwise with gradients than without.
    with torch.set_grad_enabled(model.training):
        return model(inputs, **options)


def prompted(encoder: nn.Module, **options: Any) -> PeftModel:
    """With prompts large enough to change what comes out."""
    return randomise(get_peft_model(encoder, DeepPromptConfig(**options)))


def randomise(model: PeftModel, name: str = "default") -> PeftModel:
    generator = torch.Generator().manual_seed(0)
    for layer in prompt_layers(model):
        nn.init.normal_(layer.prompt_embeddings[name], generator=generator)
    return model.eval()


def prompt_layers(model: nn.Module) -> list[DeepPromptLayer]:
    return [module for module in model.modules() if isinstance(module, DeepPromptLayer)]


def encoder_layers(model: nn.Module, family: str) -> nn.ModuleList:
    return model.layers if family == "whisper" else model.encoder.layers


def restated(base: Any, prompts: list[torch.Tensor], family: str, frames: torch.Tensor) -> list[torch.Tensor]:
    """The hidden states of an encoder without PEFT, with prompts put in and taken off by hand (equation 2)."""
    hidden, states, bias = frames, [frames], None
    for layer, embeddings in zip(encoder_layers(base, family), prompts, strict=True):
        both = torch.cat([embeddings.expand(len(hidden), *embeddings.shape), hidden], dim=1)
        if "wavlm" in family:
            output, bias = layer(both, position_bias=bias)
        else:
            output = layer(both, None)
        hidden = output[:, len(embeddings) :]
        states.append(hidden)
    if family in ("whisper", "hubert-layer-norm", "wavlm-layer-norm"):
        states[-1] = (base.layer_norm if family == "whisper" else base.encoder.layer_norm)(hidden)
    return states


@pytest.mark.parametrize("family", FAMILIES)
class TestEveryEncoder:
    @pytest.mark.parametrize("recorded_before", [False, True])
    def test_it_computes_what_the_paper_says(self, family: str, recorded_before: bool) -> None:
        encoder = make_encoder(family)
        plain = copy.deepcopy(encoder)
        if recorded_before:  # transformers sets its hooks on the layers when it is first asked to record
            hear(encoder, family, output_hidden_states=True)
        model = prompted(encoder)
        prompts = [layer.prompt_embeddings["default"].detach() for layer in prompt_layers(model)]
        assert [tuple(embeddings.shape) for embeddings in prompts] == [(5, 32)] * 3
        entering = hear(plain, family, output_hidden_states=True).hidden_states
        for _ in range(2):
            output = hear(model, family, output_hidden_states=True)
            assert torch.equal(output.hidden_states[0], entering[0])
            with torch.no_grad():
                expected = restated(plain, prompts, family, entering[0])
            assert len(output.hidden_states) == 4
            # The last one is recorded before or after the encoder's last norm, as the family does.
            for state, should in zip(output.hidden_states[:-1], expected[:-1], strict=True):
                torch.testing.assert_close(state, should)
            assert output.hidden_states[-1].shape == expected[-1].shape
            torch.testing.assert_close(output.last_hidden_state, expected[-1])
            assert not torch.allclose(output.last_hidden_state, entering[-1], atol=1e-3)

    def test_what_should_train_moves_and_nothing_else(self, family: str) -> None:
        model = get_peft_model(make_encoder(family), DeepPromptConfig())
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        trainable = {name for name, p in model.named_parameters() if p.requires_grad}
        assert len(trainable) == 3
        assert all(name.endswith(".prompt_embeddings.default") for name in trainable)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        torch.manual_seed(0)
        for _ in range(2):
            output = hear(model.train(), family).last_hidden_state
            (output * torch.randn_like(output)).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert {name for name, p in model.named_parameters() if not torch.equal(p, before[name])} == trainable
        # No two prompts of a layer went the same way.
        for layer in prompt_layers(model):
            assert len(layer.prompt_embeddings["default"].unique(dim=0)) == 5

    def test_without_its_prompts_it_is_the_encoder(self, family: str) -> None:
        encoder = make_encoder(family)
        expected = hear(encoder, family).last_hidden_state
        model = prompted(encoder)
        changed = hear(model, family).last_hidden_state
        assert not torch.allclose(changed, expected, atol=1e-3)
        with model.disable_adapter():
            assert torch.equal(hear(model, family).last_hidden_state, expected)
        assert torch.equal(hear(model, family).last_hidden_state, changed)
        with pytest.raises(ValueError, match="are inputs, not weights, and cannot be merged"):
            model.merge_and_unload()
        with pytest.raises(ValueError, match="cannot be merged"):
            model.merge_adapter()
        hear(model, family, output_hidden_states=True)
        base = model.unload()
        assert not any("prompt" in name for name, _ in base.named_modules())
        output = hear(base, family, output_hidden_states=True)
        assert torch.equal(output.last_hidden_state, expected)
        assert [state.shape for state in output.hidden_states] == [expected.shape] * 4

    def test_saved_and_loaded_it_answers_the_same(self, family: str, tmp_path: Path) -> None:
        model = prompted(make_encoder(family), prompt_length=3)
        expected = hear(model, family).last_hidden_state
        model.save_pretrained(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
        config = PeftConfig.from_pretrained(tmp_path)
        assert isinstance(config, DeepPromptConfig)
        assert config.prompt_length == 3
        assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "DEEP_PROMPT"
        loaded = PeftModel.from_pretrained(make_encoder(family), tmp_path)
        torch.testing.assert_close(hear(loaded, family).last_hidden_state, expected)
        assert not any(p.requires_grad for p in loaded.parameters())

    @pytest.mark.parametrize("enabled", ["before", "after"])
    @pytest.mark.parametrize("frozen_in_eval", [False, True])
    def test_gradient_checkpointing_gives_the_same_gradients(
        self, family: str, enabled: str, frozen_in_eval: bool
    ) -> None:
        results = []
        for checkpointing in (False, True):
            encoder = make_encoder(family)
            if checkpointing and enabled == "before":
                encoder.gradient_checkpointing_enable()
            model = prompted(encoder)
            if checkpointing and enabled == "after":
                encoder.gradient_checkpointing_enable()
            model.train()
            if frozen_in_eval:
                for module in frozen_modules(model):
                    module.eval()
            calls = []
            layer = encoder_layers(model, family)[1]
            inside = layer.base_layer.final_layer_norm
            inside.register_forward_pre_hook(lambda *args, calls=calls: calls.append(1))
            output = hear(model, family, output_hidden_states=True)
            assert len(output.hidden_states) == 4
            sum(state.pow(3).mean() for state in output.hidden_states[1:]).backward()
            assert (len(calls) > 1) == checkpointing
            gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
            results.append((gradients, output.hidden_states))
        assert all(gradient.abs().max() > 0 for gradient in results[0][0].values())
        torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["hubert-layer-norm", "wavlm-layer-norm", "wavlm-layer-norm-called"])
def test_a_clip_in_a_padded_batch_is_heard_as_alone(family: str, attention: str) -> None:
    encoder = make_encoder(family.removesuffix("-called"))
    if family.endswith("called"):
        use_lora_compatible_attention(encoder)
    if family.startswith("hubert"):
        encoder.set_attn_implementation(attention)
    model = prompted(encoder)
    values, mask = torch.randn(2, 9000), torch.ones(2, 9000, dtype=torch.long)
    values[1, 6000:] = 0
    mask[1, 6000:] = 0
    together = model(values, attention_mask=mask, output_hidden_states=True).hidden_states
    alone = model(values[1:, :6000], attention_mask=mask[1:, :6000], output_hidden_states=True).hidden_states
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one[1, : other.shape[1]], other[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["none", "bool", "float", "integer", "bool 4d", "float 4d", "bool 4d, one row"])
def test_a_mask_hides_from_the_frames_what_it_hid_and_no_prompt(kind: str) -> None:
    valid = torch.tensor([[1, 1, 1], [1, 1, 0]], dtype=torch.bool)
    lowest = torch.finfo(torch.float32).min
    squares = valid[:, None, None].expand(2, 1, 3, 3)
    long = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], dtype=torch.bool)
    long_squares = long[:, None, None].expand(2, 1, 5, 5)
    mask, expected = {
        "none": (None, None),
        "bool": (valid, long),
        "float": (valid.float(), long.float()),
        "integer": (valid.long(), long.long()),
        "bool 4d": (squares, long_squares),
        "float 4d": ((~squares) * lowest, (~long_squares) * lowest),
        "bool 4d, one row": (squares[:, :, :1], long_squares[:, :, :1]),
    }[kind]
    extended = extend_mask(mask, 2)
    if expected is None:
        assert extended is None
    else:
        assert extended.dtype == mask.dtype
        assert torch.equal(extended, expected)


def test_a_mask_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"of torch.Size\(\[2, 3, 3\]\) cannot be extended"):
        extend_mask(torch.ones(2, 3, 3), 2)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_eager_and_sdpa_hear_the_same(attention: str) -> None:
    encoder = make_encoder("hubert-layer-norm")
    encoder.set_attn_implementation(attention)
    model = prompted(encoder)
    seen = []
    layer = encoder.encoder.layers[0].base_layer.attention
    layer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["attention_mask"]), with_kwargs=True
    )
    mask = torch.ones(2, 1600, dtype=torch.long)
    hear(model, attention_mask=mask)
    mask[1, 900:] = 0
    masked = hear(model, attention_mask=mask).last_hidden_state
    frames = masked.shape[1]
    assert seen[1].shape[-2:] == (frames + 5, frames + 5)
    assert seen[1].dtype == (torch.bool if attention == "sdpa" else torch.float32)
    encoder.set_attn_implementation("eager")
    torch.testing.assert_close(hear(model, attention_mask=mask).last_hidden_state, masked)


class TestWavLM:
    def test_frames_keep_their_distances(self) -> None:
        """Prompts in front leave the position bias between two frames as it was."""
        model = prompted(make_encoder("wavlm"))
        layer = model.encoder.layers[0]
        frames = torch.randn(2, 7, 32)
        with_prompts = layer(frames)[1]
        with model.disable_adapter():
            without = layer(frames)[1]
        assert with_prompts.shape[-1] == 12
        assert torch.equal(with_prompts[:, 5:, 5:], without)

    @pytest.mark.parametrize("family", ["wavlm", "wavlm-layer-norm"])
    def test_either_attention_hears_the_same(self, family: str) -> None:
        model = prompted(make_encoder(family))
        mask = torch.ones(2, 1600, dtype=torch.long)
        if family == "wavlm-layer-norm":
            mask[1, 900:] = 0
        stock = hear(model, attention_mask=mask).last_hidden_state
        called = hear(use_lora_compatible_attention(model), attention_mask=mask).last_hidden_state
        torch.testing.assert_close(called[0], stock[0])
        valid = 2 if mask[1, -1] == 0 else stock.shape[1]
        torch.testing.assert_close(called[1, :valid], stock[1, :valid])

    def test_some_layers_alone_are_refused(self) -> None:
        with pytest.raises(ValueError, match="layers_to_transform: 1, but WavLM's layers hand one position bias along"):
            get_peft_model(make_encoder("wavlm"), DeepPromptConfig(layers_to_transform=1))
        model = prompted(make_encoder("wavlm"), target_modules=["layers.1", "layers.2"])
        with pytest.raises(
            ValueError, match="position bias from the layer before is for 4 places, and this layer has 9"
        ):
            hear(model)


@pytest.mark.parametrize(
    ("config", "prompts"),
    [
        (Wav2Vec2Config(), 46_080),
        (WavLMConfig(), 46_080),
        (WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536), 7_680),
        (WhisperConfig(d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048), 15_360),
        (WhisperConfig(d_model=768, encoder_layers=12, encoder_attention_heads=12, encoder_ffn_dim=3072), 46_080),
    ],
    ids=["wav2vec2-base", "wavlm-base-plus", "whisper-tiny", "whisper-base", "whisper-small"],
)
def test_as_many_parameters_as_in_table_iv(config: Any, prompts: int) -> None:
    """0.05 M, 0.05 M, 0.01 M, 0.02 M and 0.05 M."""
    family = {"wav2vec2": Wav2Vec2Model, "wavlm": WavLMModel, "whisper": WhisperEncoder}[config.model_type]
    with torch.device("meta"):
        model = get_peft_model(family(config), DeepPromptConfig())
    assert parameter_counts(model)[0] == prompts


class TestAsPeft:
    def test_two_adapters_on_one_encoder(self, tmp_path: Path) -> None:
        first = hear(prompted(make_encoder("wavlm"))).last_hidden_state
        model = prompted(make_encoder("wavlm"))
        model.add_adapter("other", DeepPromptConfig(prompt_length=2))
        assert torch.equal(hear(model).last_hidden_state, first)
        model.set_adapter("other")
        other = hear(randomise(model, "other")).last_hidden_state
        assert not torch.allclose(other, first, atol=1e-3)
        assert {n.split(".")[-1] for n, p in model.named_parameters() if p.requires_grad} == {"other"}
        model.save_pretrained(tmp_path)
        model.set_adapter("default")
        assert torch.equal(hear(model).last_hidden_state, first)
        model.delete_adapter("default")
        assert not any(name.endswith(".default") for name, _ in model.named_parameters())
        model.set_adapter("other")
        assert torch.equal(hear(model).last_hidden_state, other)
        loaded = PeftModel.from_pretrained(make_encoder("wavlm"), tmp_path)
        loaded.load_adapter(tmp_path / "other", "second")
        torch.testing.assert_close(hear(loaded).last_hidden_state, first)
        loaded.set_adapter("second")
        torch.testing.assert_close(hear(loaded).last_hidden_state, other)

    def test_a_whole_head_is_saved_with_it(self, tmp_path: Path) -> None:
        def classifier(seed: int) -> HubertForSequenceClassification:
            torch.manual_seed(0)
            model = HubertForSequenceClassification(
                HubertConfig(**SMALL, num_labels=4, use_weighted_layer_sum=True)
            ).eval()
            torch.manual_seed(seed)
            nn.init.normal_(model.projector.weight)
            nn.init.normal_(model.classifier.weight)
            return model

        values = torch.sin(torch.arange(3200) / 7).reshape(2, 1600)
        model = prompted(classifier(1), modules_to_save=["projector", "classifier"])
        trainable, _ = parameter_counts(model)
        assert trainable == 3 * 5 * 32 + 32 * 24 + 24 + 24 * 4 + 4
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

        expected = hear(prompted(make_encoder("hubert-layer-norm"))).last_hidden_state
        for targets in (None, ["layers.0", "layers.1", "layers.2"], r".*encoder\.layers\.[0-2]"):
            model = prompted(Bigger(), target_modules=targets)
            assert len(prompt_layers(model)) == 3
            assert torch.equal(hear(model).last_hidden_state, expected)

    def test_only_some_layers(self) -> None:
        model = prompted(make_encoder("wav2vec2"), layers_to_transform=[0, 2])
        assert model.base_model.targeted_module_names == ["encoder.layers.0", "encoder.layers.2"]
        states = hear(model, output_hidden_states=True).hidden_states
        assert len({state.shape for state in states}) == 1
        assert len(states) == 4

    def test_whispers_decoder_gets_none(self) -> None:
        model = prompted(WhisperModel(copy.deepcopy(WHISPER)))
        assert model.base_model.targeted_module_names == [f"encoder.layers.{i}" for i in range(3)]
        features = torch.randn(1, 16, 100)
        output = model(input_features=features, decoder_input_ids=torch.tensor([[3, 4]]), output_hidden_states=True)
        assert {state.shape for state in output.encoder_hidden_states} == {(1, 50, 32)}

    def test_recorded_attentions_have_the_prompts(self) -> None:
        encoder = make_encoder("hubert-layer-norm")
        encoder.set_attn_implementation("eager")
        output = hear(prompted(encoder), output_attentions=True, output_hidden_states=True)
        frames = output.last_hidden_state.shape[1]
        assert [attention.shape[-2:] for attention in output.attentions] == [(frames + 5, frames + 5)] * 3
        assert [state.shape[1] for state in output.hidden_states] == [frames] * 4

    def test_a_copy_is_on_its_own(self) -> None:
        model = prompted(make_encoder("hubert-layer-norm"))
        expected = hear(model, output_hidden_states=True).hidden_states
        other = copy.deepcopy(model)
        for layer in prompt_layers(model):
            nn.init.zeros_(layer.prompt_embeddings["default"])
        torch.testing.assert_close(hear(other, output_hidden_states=True).hidden_states, expected)

    def test_they_start_small_and_unlike_each_other(self) -> None:
        encoder = Wav2Vec2Model(Wav2Vec2Config(num_hidden_layers=1, conv_dim=[16] * 7))
        prompts = DeepPromptLayer(encoder.encoder.layers[0], "default", DeepPromptConfig()).prompt_embeddings["default"]
        assert prompts.abs().max() <= (6 / (5 + 768)) ** 0.5
        assert prompts.std() > 0.03
        assert len(prompts.unique(dim=0)) == 5

    def test_what_is_not_known_is_refused(self) -> None:
        with pytest.raises(ValueError, match="prompt_length: 0 is less than 1"):
            DeepPromptConfig(prompt_length=0)
        with pytest.raises(ValueError, match="no embedding prompts are known for the model type"):
            get_peft_model(nn.Sequential(nn.Linear(2, 2)), DeepPromptConfig())


def test_prompts_on_an_encoder_in_bfloat16_train_in_float32() -> None:
    model = prompted(make_encoder("hubert-layer-norm").bfloat16())
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    values = torch.randn(2, 1600, dtype=torch.bfloat16)
    assert model(values).last_hidden_state.dtype == torch.bfloat16


class TestStartAtFrames:
    """Prompts that are drawn as frames are leave the encoder nearly as it was, where random ones do not."""

    @staticmethod
    def clips(family: str, count: int = 3) -> list[dict[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(1)
        if family == "whisper":
            return [{"input_features": torch.randn(1, 16, 100, generator=generator)} for _ in range(count)]
        return [{"input_values": torch.randn(1, 6000 + 800 * i, generator=generator)} for i in range(count)]

    @pytest.mark.parametrize("family", ["hubert-layer-norm", "hubert-group-norm", "wavlm-called", "whisper"])
    def test_they_are_drawn_around_the_mean_of_the_frames_before_their_layer(self, family: str) -> None:
        encoder = make_encoder(family)
        clips = self.clips(family)
        with torch.no_grad():
            expected = [encoder(**clip, output_hidden_states=True).hidden_states for clip in clips]
        model = prompted(encoder, prompt_length=2000)
        trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        model.train()
        start_at_frames(model, clips)
        assert model.training
        assert trainable == [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        layers = [module for module in model.modules() if isinstance(module, DeepPromptLayer)]
        assert len(layers) == 3
        for k, layer in enumerate(layers):
            frames = torch.cat([states[k][0] for states in expected])
            prompts = layer.prompt_embeddings["default"].detach()
            deviation = SPREAD * frames.std(0)
            # five standard errors of 2000 draws
            assert ((prompts.mean(0) - frames.mean(0)).abs() < 5 * deviation / 2000**0.5 + 1e-6).all()
            torch.testing.assert_close(prompts.std(0), deviation, rtol=5 / 4000**0.5, atol=1e-6)

    def test_of_several_adapters_the_named_one_is_drawn_anew(self) -> None:
        model = prompted(make_encoder("hubert-layer-norm"))
        model.add_adapter("other", DeepPromptConfig(prompt_length=2))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        start_at_frames(model, self.clips("hubert-layer-norm"), "other")
        moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert len(moved) == 3
        assert all("other" in name for name in moved)
        assert model.active_adapters == ["default"]

    def test_what_does_not_fit(self) -> None:
        model = prompted(make_encoder("hubert-layer-norm"))
        with pytest.raises(ValueError, match="no prompts called 'mine'"):
            start_at_frames(model, self.clips("hubert-layer-norm"), "mine")
        with pytest.raises(ValueError, match="there are none"):
            start_at_frames(model, [])
