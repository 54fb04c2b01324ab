"""
An encoder of speech with a classification head for emotions.

This file goes to the Hub with a model: it imports nothing but torch and transformers.
"""

import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import logging

from .configuration_ser import SERModelConfig
from .encoders_ser import ENCODERS, ClipWhisperEncoder, ignore_padding, samples_for_frames


def load_in_float32(
    kind: Any, checkpoint: str | os.PathLike[str], config: PretrainedConfig, **hub: Any
) -> tuple[PreTrainedModel, set[str], set[str]]:
    """
    A model of the class `kind`, in float32 whatever the checkpoint is stored in; and the names of the weights that the checkpoint
    lacks, and of those that it has in another shape. Both are randomly initialised; the caller reports them.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model, info = kind.from_pretrained(
            checkpoint,
            config=config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **hub,
        )
    finally:
        logging.set_verbosity(verbosity)
    return model, set(info["missing_keys"]), {key for key, *_ in info["mismatched_keys"]}


def require_encoder(checkpoint: str | os.PathLike[str], random: Iterable[str]) -> None:
    """
    Raises:
        ValueError: if one of the encoder's weights `random` is needed. The embedding of masked frames is for training alone: a
            checkpoint that never masked may lack it.
    """
    if needed := sorted(name for name in random if not name.endswith("masked_spec_embed")):
        raise ValueError(
            f"{checkpoint}: {len(needed)} weights of the encoder are not in the checkpoint, or in another shape, for "
            f"instance {needed[0]}; they would be random"
        )


class SERForAudioClassification(PreTrainedModel):
    """
    Any encoder with one of three heads.

    - `conv` (PEFT-SER, section III): averages the outputs of all transformer layers with learned weights, passes each frame
      through three pointwise convolutions of 256 features with ReLU and dropout between them, averages over the clip's frames,
      and classifies with two linear layers. What enters the first layer is not averaged: the paper has the "hidden outputs of
      all encoder layers". On 12 layers of 768 features and for four emotions that is 395,280 parameters, the 0.4 M of its
      Table IV.
    - `stock`, transformers' own: one projection, the mean over time, one linear layer.
    - `linear`: one linear layer on the mean and the standard deviation over the clip's frames of every layer, and of what enters
      the first. These are the features of a logistic regression on a frozen encoder. Another linear layer follows.

    The output for a clip is the same alone and in a padded batch, whatever the encoder.

    Args:
        config (`SERModelConfig`): What to build.
        encoder (`PreTrainedModel`, *optional*): The encoder itself, in place of a random one.
    """

    config_class = SERModelConfig
    base_model_prefix = "encoder"
    main_input_name = "input_values"
    input_modalities = "audio"
    supports_gradient_checkpointing = True
    # The encoder refuses what it does not support.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    # The loss is the mean of the batch: a Trainer that accumulates gradients divides it.
    accepts_loss_kwargs = False

    def __init__(self, config: SERModelConfig, encoder: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        if encoder is None:
            if family := ENCODERS.get(config.encoder.model_type):
                encoder = family(config.encoder)
            else:
                encoder = AutoModel.from_config(config.encoder, dtype=torch.get_default_dtype())
        ignore_padding(encoder)
        config.encoder = encoder.config
        self.encoder = encoder
        self.main_input_name = encoder.main_input_name
        hidden, conv = config.hidden_size, config.conv_size
        # All heads but `conv` take what enters the first layer, too, as transformers' own does.
        layers = config.num_hidden_layers + (config.head != "conv")
        if config.use_weighted_layer_sum:
            self.layer_weights = nn.Parameter(torch.ones(layers) / layers)
        if config.head == "conv":
            self.projector: nn.Module = nn.Sequential(
                nn.Conv1d(hidden, conv, kernel_size=1),
                nn.ReLU(),
                nn.Dropout(config.head_dropout),
                nn.Conv1d(conv, conv, kernel_size=1),
                nn.ReLU(),
                nn.Dropout(config.head_dropout),
                nn.Conv1d(conv, conv, kernel_size=1),
            )
            self.hidden = nn.Linear(conv, conv)
            self.classifier = nn.Linear(conv, config.num_labels)
        else:
            features = 2 * layers * hidden if config.head == "linear" else hidden
            self.projector = nn.Linear(features, config.classifier_proj_size)
            self.classifier = nn.Linear(config.classifier_proj_size, config.num_labels)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if module is self:
            if self.config.use_weighted_layer_sum:
                nn.init.constant_(self.layer_weights, 1 / len(self.layer_weights))
        elif self.config.head == "conv" and isinstance(module, (nn.Conv1d, nn.Linear)):
            # As in the paper's code; with transformers' 0.02 the outputs of three layers would be nearly zero.
            module.reset_parameters()
        else:
            super()._init_weights(module)

    @classmethod
    def from_encoder(
        cls, checkpoint: str | os.PathLike[str], config: SERModelConfig, **hub: Any
    ) -> tuple["SERForAudioClassification", tuple[str, ...]]:
        """
        A classifier with a pretrained encoder and a new head, in float32 whatever the checkpoint is stored in.

        Args:
            checkpoint (`str` or `path`): A folder or a name on the Hub: the encoder alone, or any model of transformers
                that has it in it (with a head for CTC or classification, all of Whisper).
            config (`SERModelConfig`): What to build.
            **hub: For `from_pretrained`: `revision`, `token` and the like.

        Returns:
            The model, and the names of its weights that are new.

        Raises:
            ValueError: if the checkpoint lacks a weight of the encoder, or has it in another shape.
            OSError: if the checkpoint cannot be read.
        """
        family = ENCODERS.get(config.encoder.model_type, AutoModel)
        if family is ClipWhisperEncoder:
            hub["key_mapping"] = {r"^(?:model\.)?encoder\.": ""}
        elif AutoConfig.from_pretrained(checkpoint, **hub).model_type == config.model_type:
            hub["key_mapping"] = {r"^encoder\.": ""}  # another model of this class
        # Weights beside the encoder are left out.
        encoder, missing, mismatched = load_in_float32(family, checkpoint, config.encoder, **hub)
        require_encoder(checkpoint, missing | mismatched)
        config.name_or_path = str(checkpoint)
        config.dtype = torch.float32
        model = cls(config, encoder)
        new = [name for name, _ in model.named_parameters() if not name.startswith("encoder.")]
        return model, (*new, *(f"encoder.{name}" for name in missing))

    def freeze_feature_encoder(self) -> None:
        """Freezes the encoder's convolutional front, if it has one."""
        if isinstance(self.encoder, ClipWhisperEncoder):
            self.encoder.conv1.requires_grad_(False)
            self.encoder.conv2.requires_grad_(False)
        elif hasattr(self.encoder, "feature_extractor"):  # Wav2Vec2-BERT takes filterbanks, without convolutions
            self.encoder.feature_extractor._freeze_parameters()

    def valid_frames(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """
        How many frames of each clip leave the encoder, at least one.

        Args:
            attention_mask (`torch.Tensor` of shape `(batch, samples)`, with Whisper `(batch, mel frames)`): 1 where the
                input is the clip's; padding on the right. With Wav2Vec2-BERT `(batch, frames)`.

        Returns:
            `(batch,)`.
        """
        return self.encoder._get_feat_extract_output_lengths(attention_mask.sum(-1)).clamp(min=1)

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        input_features: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput | tuple[torch.Tensor, ...]:
        """
        Args:
            input_values (`torch.Tensor` of shape `(batch, samples)`): Waveforms at 16 kHz, as the feature extractor returns
                them.
            attention_mask (`torch.Tensor` of shape `(batch, samples)` or `(batch, mel frames)`, *optional*): 1 where the
                input is the clip's, 0 where it is padding, on the right.
            labels (`torch.Tensor` of shape `(batch,)`, *optional*): The emotions' numbers; -100 does not count.
            output_hidden_states (`bool`, *optional*): Whether the output has those of the encoder.
            output_attentions (`bool`, *optional*): Whether the output has those of the encoder.
            return_dict (`bool`, *optional*): Whether the output is a tuple if it is false.
            input_features (`torch.Tensor` of shape `(batch, mel bins, mel frames)`): In place of `input_values`, for
                Whisper; `(batch, frames, features)` for Wav2Vec2-BERT.
            **kwargs: For the encoder.

        Returns:
            `logits` `(batch, emotions)`, and `loss` if there are labels: their cross-entropy, the mean of the batch.

        Raises:
            ValueError: if there is no input, or a clip is longer than Whisper's 30 s.
        """
        inputs = input_features if input_values is None else input_values
        if inputs is None:
            raise ValueError(f"{self.main_input_name}: expected a tensor, found None")
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        if attention_mask is not None and self.main_input_name == "input_values":
            # Every clip has at least one frame, if need be with padding in it.
            attention_mask = attention_mask.clone()
            attention_mask[:, : samples_for_frames(self.config.encoder)] = 1
        takes_all_layers = self.config.head == "linear" or self.config.use_weighted_layer_sum
        outputs = self.encoder(
            inputs,
            attention_mask=attention_mask,
            output_hidden_states=output_hidden_states or takes_all_layers,
            output_attentions=output_attentions,
            **kwargs,
        )
        if self.config.head == "linear":
            pooled = self.projector(self.statistics(outputs, attention_mask).flatten(1))
        elif self.config.head == "conv":
            hidden = self._average_layers(outputs)
            projected = self.projector(hidden.transpose(1, 2)).transpose(1, 2)
            pooled = nn.functional.relu(self.hidden(self._average_frames(projected, attention_mask)))
        else:
            hidden = self._average_layers(outputs) if self.config.use_weighted_layer_sum else outputs.last_hidden_state
            pooled = self._average_frames(self.projector(hidden), attention_mask)
        logits = self.classifier(pooled)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        output = SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states if output_hidden_states else None,
            attentions=outputs.attentions if output_attentions else None,
        )
        as_tuple = not (self.config.return_dict if return_dict is None else return_dict)
        return output.to_tuple() if as_tuple else output

    def layers(self, outputs: Any) -> tuple[torch.Tensor, ...]:
        """The layers that the head takes, from the encoder's outputs, each `(batch, frames, hidden)`."""
        # The last one as the encoder returns it, normalised: versions of transformers record it differently.
        layers = (*outputs.hidden_states[:-1], outputs.last_hidden_state)
        return layers if self.config.head == "linear" else layers[-len(self.layer_weights) :]

    def statistics(self, outputs: Any, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """
        The mean and the standard deviation of each layer over the frames of each clip, side by side.

        Args:
            outputs: The encoder's, with all layers `(batch, frames, hidden)`.
            attention_mask (`torch.Tensor` of shape `(batch, samples)` or `(batch, mel frames)`, *optional*): See [`forward`].

        Returns:
            `(batch, layers, 2 * hidden)`, in float32.
        """
        found = []
        for layer in self.layers(outputs):
            layer = layer.float()
            mean = self._average_frames(layer, attention_mask)
            variance = self._average_frames((layer - mean[:, None]).square(), attention_mask)
            deviation = (variance + 1e-8).sqrt()  # the gradient of the root is finite for a single frame, too
            found.append(torch.cat([mean, deviation], dim=-1))
        return torch.stack(found, dim=1)

    def _average_layers(self, outputs: Any) -> torch.Tensor:
        """The layers' outputs, each `(batch, frames, hidden)`, averaged with the learned weights."""
        layers = self.layers(outputs)
        weights = torch.softmax(self.layer_weights, dim=-1)
        average = layers[0] * weights[0]
        for layer, weight in zip(layers[1:], weights[1:], strict=True):
            average = average + layer * weight
        return average

    def _average_frames(self, hidden: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """`(batch, frames, features)` to `(batch, features)`, over the frames of each clip, without padding."""
        if attention_mask is None:
            return hidden.mean(dim=1)
        lengths = self.valid_frames(attention_mask)[:, None]
        padding = torch.arange(hidden.shape[1], device=hidden.device) >= lengths
        return hidden.masked_fill(padding[..., None], 0).sum(dim=1) / lengths
