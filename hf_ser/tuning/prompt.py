"""Embedding prompts before every encoder layer (PEFT-SER, section II-C and equation 2), as a PEFT tuner."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from hf_ser.modeling.families import EncoderFamily
from hf_ser.tuning.layer_tuner import LayerTuner, LayerTunerConfig, TunedLayer

#: The distance between prompts of [`start_at_frames`] and the mean frame, in standard deviations of the frames. It makes the
#: prompts of a layer different from each other.
SPREAD = 0.2
HOOKS = (
    "_forward_hooks",
    "_forward_hooks_always_called",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)


@dataclass
class DeepPromptConfig(LayerTunerConfig):
    """
    Embedding prompts (PEFT-SER, section II-C and equation 2): trainable embeddings in front of the frames, new ones before
    every layer of the encoder. With the defaults an encoder of 12 layers with 768 features gets the 0.05 M parameters of the
    paper's table IV.

    Args:
        prompt_length (`int`, *optional*, defaults to 5): Embeddings before each layer (section V-A).
        target_modules, exclude_modules, modules_to_save: See [`LayerTunerConfig`]; the targets are encoder layers. WavLM's share
            one position bias, which fits prompts before all of them or before none.

    Raises:
        ValueError: if a value is out of its range.
    """

    prompt_length: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "DEEP_PROMPT"
        if self.prompt_length < 1:
            raise ValueError(f"prompt_length={self.prompt_length}: expected 1 or more")


class DeepPromptLayer(GradientCheckpointingLayer, TunedLayer):
    """
    An encoder layer Enc with trainable embeddings e in front of the frames h (PEFT-SER, section II-C):

        _, h = Enc(concat(e, h))                                                                       (equation 2)

    The outputs at the positions of the prompts are removed, so that everything around the layer sees only the frames: the next
    layer, the recorded hidden states, hooks on the layer. The attention inside sees both, as do recorded attentions and the
    convolution in a conformer layer.

    The embeddings are initialised uniformly within sqrt(6 / (length + hidden)), Xavier's rule for a matrix of their shape, as in
    visual prompt tuning, which the paper follows. They are not zero, because then all prompts of a layer would get the same
    gradient and stay equal.

    The arguments of `base_layer`, the encoder layer, begin with hidden states and an attention mask.
    """

    adapter_layer_names = ("prompt_embeddings",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: DeepPromptConfig) -> None:
        TunedLayer.__init__(self, base_layer, adapter_name)
        self.prompt_embeddings = nn.ParameterDict()
        # transformers records hidden states by hooks on encoder layers, some of which it sets later. This layer has the same
        # dictionaries of hooks, so that they run on it, without the prompts: of the encoder layer only forward is called.
        for hooks in HOOKS:
            setattr(self, hooks, getattr(base_layer, hooks))
        if isinstance(base_layer, GradientCheckpointingLayer) and base_layer.gradient_checkpointing:
            self.gradient_checkpointing = True
            self._gradient_checkpointing_func = base_layer._gradient_checkpointing_func
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: DeepPromptConfig) -> None:
        """Adds an adapter."""
        norm = next(module for module in self.get_base_layer().modules() if isinstance(module, nn.LayerNorm))
        prompts = nn.Parameter(torch.empty(config.prompt_length, norm.normalized_shape[0]))
        self.prompt_embeddings[adapter_name] = nn.init.xavier_uniform_(prompts)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """
        Args:
            hidden_states (`torch.Tensor`): The frames, `(batch, frames, hidden)`.
            attention_mask (`torch.Tensor`, *optional*): `(batch, frames)` or `(batch, 1, frames, frames)`, see
                [`extend_mask`].

        Returns:
            What the encoder layer returns: the frames, `(batch, frames, hidden)`, or a tuple that begins with them.
        """
        if not (active := self.active()):
            return self.base_layer.forward(hidden_states, attention_mask, *args, **kwargs)
        prompts = torch.cat([self.prompt_embeddings[name] for name in active]).to(hidden_states.dtype)
        length = prompts.shape[0]
        both = torch.cat([prompts.expand(hidden_states.shape[0], -1, -1), hidden_states], dim=1)
        bias = kwargs.get("position_bias")  # WavLM's, from the layer before: (batch * heads, frames, frames)
        if bias is not None and bias.shape[-1] != both.shape[1]:
            raise ValueError(
                f"position_bias: found {bias.shape[-1]} places, from the layer before, expected {both.shape[1]} ({length} "
                f"prompts, {hidden_states.shape[1]} frames): put the same prompts before every layer"
            )
        if kwargs.get("relative_position_embeddings") is not None:
            raise ValueError(
                'position_embeddings_type: prompts need "relative_key", which the checkpoints of Wav2Vec2-BERT have'
            )
        if (conv_mask := kwargs.get("conv_attention_mask")) is not None:
            kwargs["conv_attention_mask"] = extend_mask(conv_mask, length)
        output = self.base_layer.forward(both, extend_mask(attention_mask, length), *args, **kwargs)
        if isinstance(output, tuple):
            return (output[0][:, length:], *output[1:])
        return output[:, length:]


def extend_mask(mask: torch.Tensor | None, length: int) -> torch.Tensor | None:
    """
    An attention mask for `length` prompts in front of the frames: every frame attends to them. The prompts attend to the same
    frames as the first frame, which has no effect, because their outputs are removed.

    Args:
        mask (`torch.Tensor`, *optional*): `(batch, frames)` with true or one for a valid frame; or `(batch, 1, frames,
            frames)` with true, or with zero, which is added to the scores. `None` masks nothing.
        length (`int`): The prompts.
    """
    if mask is None:
        return None
    added = mask.ndim == 4 and mask.is_floating_point()
    mask = torch.cat([mask.new_full((*mask.shape[:-1], length), 0 if added else 1), mask], dim=-1)
    if mask.ndim == 4 and mask.shape[2] > 1:
        mask = torch.cat([mask[:, :, :1].expand(-1, -1, length, -1), mask], dim=2)
    return mask


class DeepPromptModel(LayerTuner):
    """
    Puts embedding prompts into a model (PEFT-SER, section II-C); see [`LayerTuner`] for the arguments, and
    [`~hf_ser.tuning.combined.CombinedModel`] for an example.
    """

    prefix = "prompt_"
    tuner_layer_cls = DeepPromptLayer
    _unmergeable = "embedding prompts are inputs, not weights,"

    def _default_targets(self, family: EncoderFamily) -> str:
        """Every layer."""
        return family.layers


def start_at_frames(
    model: PeftModel, clips: Iterable[Mapping[str, torch.Tensor]], adapter_name: str = "default"
) -> None:
    """
    Initialises the prompts of every layer beside the mean of the frames in front of that layer: each feature is drawn from a
    normal distribution around its mean, with `SPREAD` of the standard deviation that it has over the frames.

    Random prompts, as in PEFT-SER, are not similar to any frame, and change the output of the encoder before training: five of
    them change the outputs of Whisper tiny's layers by a third or more, prompts that are similar to frames by some hundredths.
    Smaller random prompts would not help, because a layer norm before the attention gives all prompts the same size.

    Args:
        model (`PeftModel`): With prompts, alone or combined with other adapters; changed in place.
        clips (`Iterable`): The model's inputs, `(1, ...)`, a clip at a time: nothing may be padded. A few are enough.
        adapter_name (`str`): The prompts' name.

    Raises:
        ValueError: if there are no prompts of this name, or no clips.
    """
    found = [module for module in model.modules() if isinstance(module, DeepPromptLayer)]
    frames: dict[nn.Module, list[torch.Tensor]] = {m: [] for m in found if adapter_name in m.prompt_embeddings}
    if not frames:
        raise ValueError(f"adapter_name={adapter_name!r}: the model has no prompts of this name")

    def keep(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]  # (1, frames, hidden)
        frames[layer].append(hidden.float().flatten(0, -2))

    hooks = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in frames]
    training = model.training
    try:
        with model.disable_adapter(), torch.no_grad():
            model.eval()
            for clip in clips:
                model(**clip)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    for layer, hidden in frames.items():
        if not hidden:
            raise ValueError("clips: found none, expected a few")
        deviation, mean = torch.std_mean(torch.cat(hidden), dim=0)
        prompts = layer.prompt_embeddings[adapter_name]  # type: ignore[index]
        prompts.data.copy_(mean + SPREAD * deviation * torch.randn_like(prompts))
