"""Embedding prompts: what they compute, and where they start."""

import copy
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2Model, WhisperModel
from tuned_models import make_encoder, randomise, run_encoder, small_config

from hf_ser.modeling.encoders_ser import use_lora_compatible_attention
from hf_ser.tuning import DeepPromptConfig, frozen_modules, start_at_frames
from hf_ser.tuning.prompt import SPREAD, DeepPromptLayer, extend_mask

KINDS = ("hubert", "hubert-layer", "wav2vec2", "wavlm", "wavlm-layer", "wavlm-lora", "whisper")


def prompted(encoder: Any, **options: Any) -> Any:
    """An encoder of a kind, or one that is given, with prompts that change its output."""
    encoder = make_encoder(encoder) if isinstance(encoder, str) else encoder
    return randomise(get_peft_model(encoder, DeepPromptConfig(**options)))


def prompt_layers(model: nn.Module) -> list[DeepPromptLayer]:
    return [module for module in model.modules() if isinstance(module, DeepPromptLayer)]


def encoder_layers(model: Any, kind: str) -> nn.ModuleList:
    return model.layers if kind == "whisper" else model.encoder.layers


def restated(base: Any, prompts: list[torch.Tensor], kind: str, frames: torch.Tensor) -> list[torch.Tensor]:
    """The hidden states of an encoder without PEFT, with prompts put in and taken off by hand (equation 2)."""
    hidden, states, bias = frames, [frames], None
    for layer, embeddings in zip(encoder_layers(base, kind), prompts, strict=True):
        both = torch.cat([embeddings.expand(len(hidden), *embeddings.shape), hidden], dim=1)
        if "wavlm" in kind:
            output, bias = layer(both, position_bias=bias)
        else:
            output = layer(both, None)
        hidden = output[:, len(embeddings) :]
        states.append(hidden)
    if kind in ("whisper", "hubert-layer", "wavlm-layer"):
        states[-1] = (base.layer_norm if kind == "whisper" else base.encoder.layer_norm)(hidden)
    return states


class TestEveryEncoder:
    @pytest.mark.parametrize(
        ("kind", "recorded_before"), [*((kind, False) for kind in KINDS), ("hubert", True), ("whisper", True)]
    )
    def test_it_computes_what_the_paper_says(self, kind: str, recorded_before: bool) -> None:
        encoder = make_encoder(kind)
        plain = copy.deepcopy(encoder)
        if recorded_before:  # transformers sets its hooks on the layers when it first records
            run_encoder(encoder, kind, output_hidden_states=True)
        model = prompted(encoder)
        prompts = [layer.prompt_embeddings["default"].detach() for layer in prompt_layers(model)]
        assert [tuple(embeddings.shape) for embeddings in prompts] == [(5, 32)] * 3
        entering = run_encoder(plain, kind, output_hidden_states=True).hidden_states
        for _ in range(2):
            output = run_encoder(model, kind, output_hidden_states=True)
            with torch.no_grad():
                expected = restated(plain, prompts, kind, entering[0])
            assert len(output.hidden_states) == 4
            # The last one is recorded before or after the encoder's last norm, as the family does.
            for state, should in zip(output.hidden_states[:-1], expected[:-1], strict=True):
                torch.testing.assert_close(state, should)
            assert output.hidden_states[-1].shape == expected[-1].shape
            torch.testing.assert_close(output.last_hidden_state, expected[-1])

    @pytest.mark.parametrize(
        ("kind", "enabled"), [(kind, ("before", "after")[i % 2]) for i, kind in enumerate((*KINDS, "hubert"))]
    )
    def test_gradient_checkpointing_gives_the_same_gradients(self, kind: str, enabled: str) -> None:
        results = []
        for checkpointing in (False, True):
            encoder = make_encoder(kind)
            if checkpointing and enabled == "before":
                encoder.gradient_checkpointing_enable()
            model = prompted(encoder)
            if checkpointing and enabled == "after":
                encoder.gradient_checkpointing_enable()
            model.train()
            for module in frozen_modules(model):
                module.eval()
            calls: list[int] = []
            inside = encoder_layers(model, kind)[1].base_layer.final_layer_norm
            inside.register_forward_pre_hook(lambda *args, calls=calls: calls.append(1))
            output = run_encoder(model, kind, output_hidden_states=True)
            assert len(output.hidden_states) == 4
            sum(state.pow(3).mean() for state in output.hidden_states[1:]).backward()
            assert (len(calls) > 1) == checkpointing
            gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
            results.append((gradients, output.hidden_states))
        assert all(gradient.abs().max() > 0 for gradient in results[0][0].values())
        torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("kind", ["none", "bool", "float", "integer", "bool 4d", "float 4d", "bool 4d, one row"])
def test_a_mask_hides_the_same_frames_and_no_prompt(kind: str) -> None:
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


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_eager_and_sdpa_agree(attention: str) -> None:
    encoder = make_encoder("hubert-layer")
    encoder.set_attn_implementation(attention)
    model = prompted(encoder)
    mask = torch.ones(2, 1600, dtype=torch.long)
    mask[1, 900:] = 0
    masked = run_encoder(model, attention_mask=mask).last_hidden_state
    encoder.set_attn_implementation("eager")
    output = run_encoder(model, attention_mask=mask, output_attentions=True)
    torch.testing.assert_close(output.last_hidden_state, masked)
    places = masked.shape[1] + 5
    assert [attention.shape[-2:] for attention in output.attentions] == [(places, places)] * 3


class TestWavLM:
    @pytest.mark.parametrize("kind", ["wavlm", "wavlm-layer"])
    def test_either_attention_gives_the_same_output(self, kind: str) -> None:
        model = prompted(kind)
        mask = torch.ones(2, 1600, dtype=torch.long)
        if kind == "wavlm-layer":
            mask[1, 900:] = 0
        stock = run_encoder(model, attention_mask=mask).last_hidden_state
        ours = run_encoder(use_lora_compatible_attention(model), attention_mask=mask).last_hidden_state
        torch.testing.assert_close(ours[0], stock[0])
        valid = 2 if mask[1, -1] == 0 else stock.shape[1]
        torch.testing.assert_close(ours[1, :valid], stock[1, :valid])

    def test_some_layers_alone_are_refused(self) -> None:
        model = prompted("wavlm", target_modules=["layers.1", "layers.2"])
        with pytest.raises(ValueError, match="position_bias: found 4 places, from the layer before, expected 9"):
            run_encoder(model)


def test_a_whole_whisper_runs_with_prompts_in_its_encoder() -> None:
    model = prompted(WhisperModel(small_config("whisper")))
    features = torch.randn(1, 16, 100)
    output = model(input_features=features, decoder_input_ids=torch.tensor([[3, 4]]), output_hidden_states=True)
    assert {state.shape for state in output.encoder_hidden_states} == {(1, 50, 32)}


def test_they_start_small_and_unlike_each_other() -> None:
    encoder = Wav2Vec2Model(Wav2Vec2Config(num_hidden_layers=1, conv_dim=[16] * 7))
    (layer,) = prompt_layers(get_peft_model(encoder, DeepPromptConfig()))
    prompts = layer.prompt_embeddings["default"]
    assert prompts.abs().max() <= (6 / (5 + 768)) ** 0.5
    assert prompts.std() > 0.03
    assert len(prompts.unique(dim=0)) == 5


class TestStartAtFrames:
    """Prompts that are drawn as frames are leave the encoder nearly as it was, where random ones do not."""

    @staticmethod
    def clips(kind: str, count: int = 3) -> list[dict[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(1)
        if kind == "whisper":
            return [{"input_features": torch.randn(1, 16, 100, generator=generator)} for _ in range(count)]
        return [{"input_values": torch.randn(1, 6000 + 800 * i, generator=generator)} for i in range(count)]

    @pytest.mark.parametrize("kind", ["hubert-layer", "hubert", "wavlm-lora", "whisper"])
    def test_they_are_drawn_around_the_mean_of_the_frames_before_their_layer(self, kind: str) -> None:
        encoder = make_encoder(kind)
        clips = self.clips(kind)
        with torch.no_grad():
            expected = [encoder(**clip, output_hidden_states=True).hidden_states for clip in clips]
        model = prompted(encoder, prompt_length=2000)
        trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        model.train()
        start_at_frames(model, clips)
        assert model.training
        assert trainable == [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        for k, layer in enumerate(prompt_layers(model)):
            frames = torch.cat([states[k][0] for states in expected])
            prompts = layer.prompt_embeddings["default"].detach()
            deviation = SPREAD * frames.std(0)
            # five standard errors of 2000 draws
            assert ((prompts.mean(0) - frames.mean(0)).abs() < 5 * deviation / 2000**0.5 + 1e-6).all()
            torch.testing.assert_close(prompts.std(0), deviation, rtol=5 / 4000**0.5, atol=1e-6)

    def test_of_several_adapters_the_named_one_is_drawn_anew(self) -> None:
        model = prompted("hubert-layer")
        model.add_adapter("other", DeepPromptConfig(prompt_length=2))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        start_at_frames(model, self.clips("hubert-layer"), "other")
        moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert len(moved) == 3
        assert all("other" in name for name in moved)
        assert model.active_adapters == ["default"]

    def test_what_does_not_fit(self) -> None:
        model = prompted("hubert-layer")
        with pytest.raises(ValueError, match="'mine': the model has no prompts of this name"):
            start_at_frames(model, self.clips("hubert-layer"), "mine")
        with pytest.raises(ValueError, match="clips: found none"):
            start_at_frames(model, [])
