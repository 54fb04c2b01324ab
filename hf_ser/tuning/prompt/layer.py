"""An encoder layer with embedding prompts."""

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from hf_ser.tuning.prompt.config import PromptConfig

HOOKS = (
    "_forward_hooks",
    "_forward_hooks_always_called",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)


class PromptLayer(GradientCheckpointingLayer, BaseTunerLayer):
    """
    An encoder layer Enc with trainable embeddings e in front of the frames h (PEFT-SER, section II-C):

        _, h = Enc(concat(e, h))                                                                       (equation 2)

    What comes out at the prompts' places is taken off, so that what is around the layer sees the frames alone: the next
    layer, the recorded hidden states, hooks on the layer. The attention inside sees both, and so do recorded attentions, and
    the convolution inside a conformer layer.

    The embeddings start uniform within sqrt(6 / (length + hidden)), as Xavier's rule has it for a matrix of their shape and
    as in visual prompt tuning, which the paper takes them from. They start small, but not at zero: at zero all of a
    layer's prompts would get the same gradient and stay the same.

    Args:
        base_layer (`nn.Module`): The encoder layer, whose arguments begin with hidden states and an attention mask.
        adapter_name (`str`): The first prompts.
        config (`PromptConfig`): What they are like.
    """

    # PEFT's own, which mypy does not see behind nn.Module.
    active_adapters: Any
    get_base_layer: Any
    set_adapter: Any
    _move_adapter_to_device_of_base_layer: Any

    adapter_layer_names = ("prompt_embeddings",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: PromptConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.prompt_embeddings = nn.ParameterDict()
        # transformers records hidden states by hooks on encoder layers, some of them set later than now. They run on this
        # layer in their stead, where they see the frames alone: same dictionaries, and the encoder layer is not called but
        # its forward is.
        for hooks in HOOKS:
            setattr(self, hooks, getattr(base_layer, hooks))
        if isinstance(base_layer, GradientCheckpointingLayer) and base_layer.gradient_checkpointing:
            self.gradient_checkpointing = True
            self._gradient_checkpointing_func = base_layer._gradient_checkpointing_func
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: PromptConfig) -> None:
        """Adds an adapter."""
        norm = next(module for module in self.get_base_layer().modules() if isinstance(module, nn.LayerNorm))
        prompts = nn.Parameter(torch.empty(config.prompt_length, norm.normalized_shape[0]))
        self.prompt_embeddings[adapter_name] = nn.init.xavier_uniform_(prompts)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _get_base_layer_device_and_dtype(self, base_layer: nn.Module) -> tuple[torch.device, torch.dtype]:
        # PEFT looks for a weight, which a whole layer does not have.
        parameter = next(base_layer.parameters())
        return parameter.device, parameter.dtype

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
        active = [] if self.disable_adapters else [n for n in self.active_adapters if n in self.prompt_embeddings]
        if not active:
            return self.base_layer.forward(hidden_states, attention_mask, *args, **kwargs)
        prompts = torch.cat([self.prompt_embeddings[name] for name in active]).to(hidden_states.dtype)
        length = prompts.shape[0]
        both = torch.cat([prompts.expand(hidden_states.shape[0], -1, -1), hidden_states], dim=1)
        bias = kwargs.get("position_bias")  # WavLM's, from the layer before: (batch * heads, frames, frames)
        if bias is not None and bias.shape[-1] != both.shape[1]:
            raise ValueError(
                f"the position bias from the layer before is for {bias.shape[-1]} places, and this layer has {both.shape[1]} "
                f"({length} prompts, {hidden_states.shape[1]} frames): put the same prompts before every layer"
            )
        if kwargs.get("relative_position_embeddings") is not None:
            raise ValueError(
                'prompts are made for a Wav2Vec2-BERT of position_embeddings_type "relative_key", as its checkpoints are'
            )
        if (conv_mask := kwargs.get("conv_attention_mask")) is not None:
            kwargs["conv_attention_mask"] = extend_mask(conv_mask, length)
        output = self.base_layer.forward(both, extend_mask(attention_mask, length), *args, **kwargs)
        if isinstance(output, tuple):
            return (output[0][:, length:], *output[1:])
        return output[:, length:]

    def __repr__(self) -> str:
        return "prompt." + super().__repr__()


def extend_mask(mask: torch.Tensor | None, length: int) -> torch.Tensor | None:
    """
    An attention mask with room for `length` prompts, which every frame attends to. What the prompts attend to does not
    matter, since nothing is read at their places; they attend to what the first frame does.

    Args:
        mask (`torch.Tensor`, *optional*): `(batch, frames)` with true or one for a valid frame; or `(batch, 1, frames,
            frames)` with true, or with zero as what is added to the scores. `None` hides nothing.
        length (`int`): How many prompts are in front of the frames.

    Raises:
        ValueError: if the mask is of another kind.
    """
    if mask is None:
        return None
    if not isinstance(mask, torch.Tensor) or mask.ndim not in (2, 4):
        raise ValueError(
            f"an attention mask of {getattr(mask, 'shape', type(mask).__name__)} cannot be extended by prompts: load the "
            'model with attn_implementation="sdpa" or "eager"'
        )
    added = mask.ndim == 4 and mask.is_floating_point()
    mask = torch.cat([mask.new_full((*mask.shape[:-1], length), 0 if added else 1), mask], dim=-1)
    if mask.ndim == 4 and mask.shape[2] > 1:
        mask = torch.cat([mask[:, :, :1].expand(-1, -1, length, -1), mask], dim=2)
    return mask
