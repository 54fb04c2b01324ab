"""
Encoders whose output does not depend on padding, and whose projections a LoRA can train.

This file goes to the Hub with a model: it imports nothing but torch and transformers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel, WavLMModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.data2vec.modeling_data2vec_audio import Data2VecAudioPositionalConvEmbedding
from transformers.models.wavlm.modeling_wavlm import WavLMAttention
from transformers.models.whisper.modeling_whisper import WhisperEncoder, WhisperModel
from transformers.utils.output_capturing import capture_outputs


def samples_for_frames(config: PretrainedConfig, frames: int = 1) -> int:
    """The samples at 16 kHz that the convolutions of HuBERT and its relatives need for `frames` frames: 400 for the first."""
    samples = frames
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


class ClipGroupNorm(nn.GroupNorm):
    """
    The group norm of the first convolution, with a group for each channel, over the frames of each clip without its padding. The
    stock norm averages over both, so that its output depends on the batch.
    """

    #: The frames of each clip, one tensor `(batch,)`, or `None` for the stock norm. They stay until the next batch, because
    #: gradient checkpointing calls the norm again in the backward pass. In a list they are no state of the module, which would be
    #: saved and traced with it.
    frames: list[torch.Tensor | None]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`(batch, channels, frames)` to the same. Padding has no meaning; on a CPU it becomes zero."""
        (frames,) = self.frames
        if frames is None or frames.shape[0] != hidden.shape[0]:  # they belong to another batch
            return super().forward(hidden)
        if hidden.device.type == "cpu" and not torch.compiler.is_compiling():
            # One clip at a time: the fused kernel needs less memory than masked sums over the largest tensor of the model.
            longest, lengths = hidden.shape[-1], frames.tolist()
            if all(length == longest for length in lengths):
                return super().forward(hidden)
            clips = [super(ClipGroupNorm, self).forward(hidden[i : i + 1, :, :n]) for i, n in enumerate(lengths)]
            return torch.cat([F.pad(clip, (0, longest - clip.shape[-1])) for clip in clips])
        # A GPU would wait for the lengths, and start a kernel for each clip.
        number = frames[:, None, None]
        inside = torch.arange(hidden.shape[-1], device=hidden.device) < number  # (batch, 1, frames)
        values = hidden.float()
        mean = (values * inside).sum(dim=-1, keepdim=True) / number
        centred = (values - mean) * inside
        variance = centred.square().sum(dim=-1, keepdim=True) / number
        normalised = centred * (variance + self.eps).rsqrt() * self.weight[:, None] + self.bias[:, None]
        return normalised.to(self.weight.dtype)  # in 16 bits with FSDP and DeepSpeed, which have no autocast


class ClipPositions(Data2VecAudioPositionalConvEmbedding):
    """data2vec's positional convolutions. Each takes zeros after the end of a clip; in the stock ones only the first does."""

    #: One mask `(batch, frames)`, true where a frame is the clip's, or `None`: in a list it is no state of the module, which
    #: would be saved and traced with it.
    valid: list[torch.Tensor | None]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(batch, frames, hidden)` to the same; padding becomes zero."""
        (mask,) = self.valid
        hidden_states = hidden_states.transpose(1, 2)
        for layer in self.layers:
            hidden_states = layer(hidden_states)
            if mask is not None:
                hidden_states = hidden_states.masked_fill(~mask[:, None].bool(), 0)
        return hidden_states.transpose(1, 2)


def ignore_padding(encoder: PreTrainedModel) -> None:
    """
    Makes an encoder's output independent of padding, in place. Group-norm encoders (HuBERT Base, Wav2Vec2 Base, WavLM Base)
    normalise over the frames of each clip; data2vec's positional convolutions take zeros beyond the end of a clip. Weights
    and their names do not change. Other encoders do not change at all.
    """
    if getattr(encoder.config, "feat_extract_norm", None) == "group":
        norm = encoder.feature_extractor.conv_layers[0].layer_norm
        norm.__class__ = ClipGroupNorm
        norm.frames = [None]
        encoder.register_forward_pre_hook(_set_frames, with_kwargs=True)
    if encoder.config.model_type == "data2vec-audio":
        positions = encoder.encoder.pos_conv_embed
        positions.__class__ = ClipPositions
        positions.valid = [None]
        encoder.encoder.register_forward_pre_hook(_set_positions, with_kwargs=True)


def _set_positions(layers: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    layers.pos_conv_embed.valid[0] = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)


def _set_frames(encoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    first = encoder.feature_extractor.conv_layers[0]
    if isinstance(first.layer_norm, ClipGroupNorm):
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        (kernel,), (stride,) = first.conv.kernel_size, first.conv.stride
        # At least one frame, as for the encoder's own output.
        first.layer_norm.frames[0] = None if mask is None else ((mask.sum(dim=1) - kernel) // stride + 1).clamp(min=1)


@contextmanager
def valid_samples(encoder: nn.Module, attention_mask: torch.Tensor) -> Iterator[None]:
    """For a call of only the convolutions: `attention_mask` `(batch, samples)` is 1 where a sample belongs to the clip."""
    _set_frames(encoder, (), {"attention_mask": attention_mask})
    yield
    _set_frames(encoder, (), {})


class LoraCompatibleAttention(WavLMAttention):
    """
    WavLM's attention, with its four projections called as modules. The stock one passes their weights to a function of
    PyTorch, so that a LoRA on them has no effect and gets no gradient.

    The output is that of the stock one, by `scaled_dot_product_attention`. The position bias passes from layer to layer as
    `(1, heads, frames, frames)`, once for all clips.
    """

    #: It can be replaced by another attention function of transformers.
    attend = staticmethod(sdpa_attention_forward)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        index: int = 0,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """
        Args:
            hidden_states (`torch.Tensor` of shape `(batch, frames, hidden)`): The layer's input.
            attention_mask (`torch.Tensor` of shape `(batch, frames)`, *optional*): 1 where a frame is the clip's.
            position_bias (`torch.Tensor` of shape `(1, heads, frames, frames)`, *optional*): From the first layer.
            index (`int`, *optional*): The layer's number; not used, as in the stock one.
            **kwargs: `output_attentions`, in place of the configuration's.

        Returns:
            The output `(batch, frames, hidden)`; the attention `(batch, heads, frames, frames)` or `None`, for each head the
            mean over the heads, as in the stock one; and the position bias.
        """
        frames = hidden_states.shape[1]
        if position_bias is None:
            position_bias = self.compute_bias(frames, frames)[None]
        heads = hidden_states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (batch, heads, frames, head)
        gates = self.gru_rel_pos_linear(heads).unflatten(-1, (2, 4)).sum(-1)
        gate_a, gate_b = torch.sigmoid(gates).chunk(2, dim=-1)
        bias = (gate_a * (gate_b * self.gru_rel_pos_const - 1.0) + 2.0) * position_bias
        if attention_mask is not None:
            bias = bias.masked_fill(attention_mask.ne(1)[:, None, None], float("-inf"))
        query, key, value = (
            projection(hidden_states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        bias = bias.to(query.dtype)
        dropout = self.dropout if self.training else 0.0
        attention = None
        if kwargs.get("output_attentions", self.encoder_config.output_attentions):
            attention = torch.softmax(query * self.scaling @ key.transpose(-2, -1) + bias, dim=-1)
            attention = F.dropout(attention, dropout)
            attended = (attention @ value).transpose(1, 2)
            attention = attention.mean(dim=1, keepdim=True).expand_as(attention)
        else:
            attended, _ = self.attend(self, query, key, value, bias, dropout=dropout, scaling=self.scaling)
        return self.out_proj(attended.flatten(-2)), attention, position_bias


def use_lora_compatible_attention(model: PreTrainedModel) -> PreTrainedModel:
    """
    Gives every WavLM layer in `model` a [`LoraCompatibleAttention`], in place. Weights, their names and the output do not
    change; other encoders do not change at all.

    Args:
        model (`PreTrainedModel`): With or without a head, before or after PEFT has wrapped its layers.
    """
    for module in model.modules():
        if type(module) is WavLMAttention:
            module.__class__ = LoraCompatibleAttention
            module.encoder_config = model.config
    return model


class LoraCompatibleWavLM(WavLMModel):
    """WavLM with [`LoraCompatibleAttention`] in every layer."""

    _supports_sdpa = True

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        use_lora_compatible_attention(self)


class ClipWhisperEncoder(WhisperEncoder):
    """
    Whisper's encoder, on the frames of the clip and not on 30 s of padding (PEFT-SER, section III): about ten times less
    work for a clip of 3 s. The position embeddings are cut to the clip's length, and the output does not depend on padding.
    """

    @capture_outputs
    def forward(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutput:
        """
        Args:
            input_features (`torch.Tensor` of shape `(batch, mel bins, mel frames)`): At most 3,000 mel frames, 30 s.
            attention_mask (`torch.Tensor` of shape `(batch, mel frames)`, *optional*): 1 where a mel frame is the clip's;
                padding on the right.
            **kwargs: `output_hidden_states`, `output_attentions`.

        Returns:
            `last_hidden_state` `(batch, frames, hidden)`, a frame for two mel frames.

        Raises:
            ValueError: if a clip is longer than 30 s.
        """
        longest = 2 * self.max_source_positions
        if input_features.shape[-1] > longest:
            raise ValueError(
                f"input_features: found a clip of {input_features.shape[-1] / 100:g} s, expected at most {longest / 100:g} s, "
                f"the longest that Whisper takes. Cut it into segments (with hf_ser: segment_length={longest / 100:g})."
            )
        if self.training:  # SpecAugment, if the configuration asks for it; in transformers WhisperModel applies it
            input_features = WhisperModel._mask_input_features(self, input_features.clone(), attention_mask)
        mel_mask: torch.Tensor | float = 1.0
        frames_mask = None
        if attention_mask is not None:
            mel_mask, frames_mask = attention_mask[:, None].to(input_features.dtype), attention_mask[:, ::2]
        # Both convolutions take zeros beyond the end of a clip, as without padding.
        hidden_states = F.gelu(self.conv1(input_features * mel_mask)) * mel_mask
        hidden_states = F.gelu(self.conv2(hidden_states)).transpose(1, 2)  # (batch, frames, hidden)
        hidden_states = hidden_states + self.embed_positions.weight[: hidden_states.shape[1]]
        hidden_states = F.dropout(hidden_states, p=self.dropout, training=self.training)
        attention_mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=hidden_states, attention_mask=frames_mask
        )
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        return BaseModelOutput(last_hidden_state=self.layer_norm(hidden_states))


#: The encoders that are not transformers' own `AutoModel`, by their configuration's `model_type`.
ENCODERS: dict[str, Any] = {"wavlm": LoraCompatibleWavLM, "whisper": ClipWhisperEncoder}
