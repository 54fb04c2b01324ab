"""The frozen front of a model: how far it reaches, what it makes of clips, and the rest of the model fed with that."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from hf_ser.encoders import family_of
from hf_ser.modeling import SERForAudioClassification, valid_samples
from hf_ser.models import StandardisedLinear

#: What of a model is kept.
PARTS = {
    "feature_encoder": "what the frozen convolutions make of a clip",
    "encoder": "what the frozen encoder makes of a clip",
    "layers": "what all layers of the frozen encoder make of a clip",
    "pooled": "what the frozen encoder makes of a clip, averaged over time",
    "pooled_layers": "what all layers of the frozen encoder make of a clip, averaged over time",
    "statistics": "the mean and the standard deviation over time of all layers of the frozen encoder",
}
#: The parts of which all layers are kept, `(frames, layers, width)`.
LAYERS = ("layers", "pooled_layers", "statistics")
#: The parts that are one frame for each clip.
POOLED = ("pooled", "pooled_layers", "statistics")


def frozen_part(model: Any) -> str | None:
    """
    The largest first part of a model in which nothing trains.

    Returns:
        One of [`PARTS`], or `None`. Where the head begins with a linear layer and a mean over time, which may change places, the
        mean of each clip is all that it needs.
    """
    encoder = model.base_model
    if not any(p.requires_grad for p in encoder.parameters()):
        if isinstance(model, SERForAudioClassification) and model.config.head == "linear":
            return "statistics"
        if averages_first(model):
            return "pooled_layers" if model.config.use_weighted_layer_sum else "pooled"
        return "layers" if model.config.use_weighted_layer_sum else "encoder"
    if family_of(encoder.config).front != ("feature_extractor",):
        return None  # the convolutions are a small part, and no module of their own, or there are none
    if not any(p.requires_grad for p in encoder.feature_extractor.parameters()):
        return "feature_encoder"
    return None


def averages_first(model: Any) -> bool:
    """Whether all that the head does to the frames before it averages them is one affine map, the same in training."""
    if isinstance(model, SERForAudioClassification) and model.config.head != "stock":
        return False
    projector = model.projector
    if isinstance(projector, ModulesToSaveWrapper):
        projector = projector.modules_to_save[projector.active_adapters[0]]
    return type(projector) in (nn.Linear, StandardisedLinear)  # a LoRA around it drops out frame by frame


def layer_count(model: Any) -> int:
    """How many layers the head takes, what enters the first among them where it takes that."""
    if isinstance(model, SERForAudioClassification) and model.config.head == "linear":
        return int(model.config.num_hidden_layers) + 1
    return len(model.layer_weights)


def front(model: Any, part: str) -> nn.Module:
    """The frozen module."""
    return model.base_model.feature_extractor if part == "feature_encoder" else model.base_model


def compute(model: Any, part: str, values: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """
    What the frozen part makes of a batch, without padding.

    Args:
        model (`PreTrainedModel`): The model, in eval mode.
        part (`str`): See [`frozen_part`].
        values (`torch.Tensor`): `(batch, samples)`, with Whisper `(batch, mel bins, mel frames)`.
        mask (`torch.Tensor`): `(batch, samples)` or `(batch, mel frames)`: 1 where the input is the clip's.

    Returns:
        For each clip `(frames, width)` or `(frames, layers, width)`; one frame, in float32, if the part is pooled.
    """
    encoder = model.base_model
    if part == "statistics":
        outputs = encoder(values, attention_mask=mask, output_hidden_states=True)
        return list(model.statistics(outputs, mask)[:, None].cpu())  # (batch, 1, layers, width)
    if part == "feature_encoder":
        with valid_samples(encoder, mask):
            found = encoder.feature_extractor(values).transpose(1, 2)
    elif part in LAYERS:
        outputs = encoder(values, attention_mask=mask, output_hidden_states=True)
        layers = model.layers(outputs) if isinstance(model, SERForAudioClassification) else outputs.hidden_states
        found = torch.stack(layers, dim=2)  # (batch, frames, layers, width)
    else:
        found = encoder(values, attention_mask=mask).last_hidden_state
    lengths = encoder._get_feat_extract_output_lengths(mask.sum(dim=1)).clamp(min=1).tolist()
    clips = [clip[:length] for clip, length in zip(found, lengths, strict=True)]
    if part in POOLED:
        clips = [clip.float().mean(dim=0, keepdim=True) for clip in clips]
    return [clip.cpu() for clip in clips]


@contextmanager
def fed_with_features(model: Any, part: str) -> Iterator[None]:
    """
    Within it, `model` takes as `input_values` what its frozen part makes of clips, `(batch, frames, width)` or `(batch, frames,
    layers, width)`, with an `attention_mask` `(batch, frames)`. The frozen part stays in eval mode.
    """
    encoder = model.base_model
    frozen: Any = front(model, part)
    frozen.eval()
    # Methods of these instances, not modules: what is saved stays whole.
    if part == "feature_encoder":
        frozen.forward = lambda frames: frames.transpose(1, 2)
    elif part == "statistics":
        frozen.forward = lambda frames, **_: frames[:, 0]
        model.statistics = lambda statistics, _: statistics
    elif part in LAYERS:
        frozen.forward = lambda frames, **_: BaseModelOutput(
            last_hidden_state=frames[:, :, -1], hidden_states=frames.unbind(2)
        )
    else:
        frozen.forward = lambda frames, **_: BaseModelOutput(last_hidden_state=frames)
    # Every step would send hundreds of modules to train and back to eval.
    frozen.train = lambda mode=True: frozen
    for module in (model, encoder):
        module._get_feat_extract_output_lengths = lambda lengths, *_, **__: lengths  # the mask counts frames already
    # Under another name the Trainer does not count operations, for which it would walk through all weights in every step.
    name, model.main_input_name = model.main_input_name, "frames"
    try:
        yield
    finally:
        model.main_input_name = name
        vars(model).pop("statistics", None)
        del frozen.forward, frozen.train, model._get_feat_extract_output_lengths
        del encoder._get_feat_extract_output_lengths
