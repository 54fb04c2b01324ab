"""The frozen part of a model: which layers it has, their outputs, the keys of these, and the rest of the model on top of them."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import torch
import transformers
from torch import nn
from transformers import SequenceFeatureExtractor
from transformers.modeling_outputs import BaseModelOutput

from hf_ser.modeling import SERForAudioClassification, StandardisedLinear
from hf_ser.modeling.encoders_ser import valid_samples
from hf_ser.modeling.families import family_of
from hf_ser.training.attributes import temporarily
from hf_ser.training.dataset import SpeechDataset
from hf_ser.tuning import trained_module

#: The parts with all layers, `(frames, layers, width)`.
LAYERS = ("layers", "pooled_layers", "statistics")
#: The parts with one frame for each segment.
POOLED = ("pooled", "pooled_layers", "statistics")
#: Raise it when the code of this package changes what is computed or how it is stored.
VERSION = 3
#: The packages that change the samples of augmented clips.
AUGMENTING = ("hf_ser", "numpy", "scipy", "soundfile", "torchaudio")
#: Settings of the head, of training or of the checkpoint's origin, which a frozen part does not compute with.
IRRELEVANT = {
    "_name_or_path", "architectures", "classifier_proj_size", "dtype", "finetuning_task", "id2label", "label2id", "layerdrop",
    "encoder_layerdrop", "problem_type", "transformers_version", "use_weighted_layer_sum", "apply_spec_augment",
    "gradient_checkpointing", "return_dict", "output_hidden_states", "output_attentions",
}  # fmt: skip


def frozen_part(model: Any) -> str | None:
    """
    The largest first part of a model in which nothing trains: the convolutions (`feature_encoder`), the `encoder` or all its
    `layers`, their means over time (`pooled`, `pooled_layers`) where the head begins with a linear layer and a mean, which may
    change places, or their `statistics` (mean and standard deviation). `None` if there is none.
    """
    encoder = model.base_model
    if not any(p.requires_grad for p in encoder.parameters()):
        if isinstance(model, SERForAudioClassification) and model.config.head == "linear":
            return "statistics"
        if averages_first(model):
            return "pooled_layers" if model.config.use_weighted_layer_sum else "pooled"
        return "layers" if model.config.use_weighted_layer_sum else "encoder"
    convolutions = family_of(encoder.config).front == ("feature_extractor",)  # others have no module of them
    if convolutions and not any(p.requires_grad for p in encoder.feature_extractor.parameters()):
        return "feature_encoder"
    return None


def averages_first(model: Any) -> bool:
    """Whether the head applies one affine map to the frames before it averages them, and no dropout."""
    if isinstance(model, SERForAudioClassification) and model.config.head != "stock":
        return False
    # A LoRA around it drops out frame by frame.
    return type(trained_module(model.projector)) in (nn.Linear, StandardisedLinear)


def front(model: Any, part: str) -> nn.Module:
    """The frozen module."""
    return model.base_model.feature_extractor if part == "feature_encoder" else model.base_model


def compute(
    model: Any, part: str, values: torch.Tensor, mask: torch.Tensor, dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    """
    The outputs of the frozen part for a batch, without padding, on the CPU.

    Args:
        model (`PreTrainedModel`): The model, in eval mode.
        part (`str`): See [`frozen_part`].
        values (`torch.Tensor`): `(batch, samples)`, with Whisper `(batch, mel bins, mel frames)`.
        mask (`torch.Tensor`): `(batch, samples)` or `(batch, mel frames)`: 1 where the input is not padding.
        dtype (`torch.dtype`, defaults to `torch.float32`): The type of frames.

    Returns:
        For each segment `(frames, width)` or `(frames, layers, width)`; one frame, in float32, if the part is pooled.
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
    lengths = encoder._get_feat_extract_output_lengths(mask.sum(dim=1)).clamp(min=1)
    if part in POOLED:
        # A GPU would wait for the lengths, and start a kernel for each clip.
        padding = torch.arange(found.shape[1], device=found.device) >= lengths[:, None]
        sums = found.float().flatten(2).masked_fill(padding[..., None], 0).sum(dim=1)  # (batch, layers * width)
        return list((sums / lengths[:, None]).view(-1, 1, *found.shape[2:]).cpu())
    found = found.to(dtype).cpu()  # rounded before it is copied
    return [clip[:length] for clip, length in zip(found, lengths.tolist(), strict=True)]


@contextmanager
def fed_with_features(model: Any, part: str) -> Iterator[None]:
    """
    Within it, `model` takes the outputs of its frozen part, `(batch, frames, width)` or `(batch, frames, layers, width)`, as its
    input, with an `attention_mask` `(batch, frames)`. The frozen part stays in eval mode.
    """
    frozen = front(model, part).eval()

    def forward(frames: torch.Tensor, **_: Any) -> Any:
        if part == "feature_encoder":
            return frames.transpose(1, 2)
        if part == "statistics":
            return frames[:, 0]
        if part in LAYERS:
            return BaseModelOutput(last_hidden_state=frames[:, :, -1], hidden_states=frames.unbind(2))
        return BaseModelOutput(last_hidden_state=frames)

    # The mask is one of frames already.
    lengths = {"_get_feat_extract_output_lengths": lambda lengths, *_, **__: lengths}
    statistics = {"statistics": lambda statistics, _: statistics} if part == "statistics" else {}
    # Methods of these instances are replaced, not modules: checkpoints stay complete.
    with (
        # Each step would set hundreds of modules to train and back to eval.
        temporarily(frozen, forward=forward, train=lambda mode=True: frozen),
        temporarily(model.base_model, **lengths),
        # Under another name the Trainer does not count operations, for which it would visit all weights in each step.
        temporarily(model, main_input_name="frames", **lengths, **statistics),
    ):
        yield


def part_key(model: Any, part: str, extractor: SequenceFeatureExtractor, precision: str) -> str:
    """
    A hash of all that decides what the frozen `part` of a model, see [`frozen_part`], computes from a
    waveform: weights, configuration, feature extraction, precision (`no`, `bf16` or `fp16`), device and versions.
    """
    config = {
        name: value
        for name, value in model.base_model.config.to_dict().items()
        if name not in IRRELEVANT and not name.startswith("mask_") and not name.endswith("dropout")
    }
    if part == "feature_encoder":
        config = {name: value for name, value in config.items() if name.startswith(("conv_", "feat_extract_"))}
    about = {
        "version": VERSION,
        "part": part,
        # The model's class and its head decide which layers there are.
        "layers": [type(model).__name__, model.config.to_dict().get("head")] if part in LAYERS else None,
        "weights": weights_hash(front(model, part)),
        "config": config,
        "feature_extractor": extractor.to_dict(),
        "precision": precision,
        # Not allow_tf32: once transformers' --tf32 has set this, PyTorch refuses to read that.
        "matmul": torch.backends.cuda.matmul.fp32_precision,
        "convolutions": torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        "device": model.device.type,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    return hashlib.blake2b(json.dumps(about, sort_keys=True, default=str).encode(), digest_size=10).hexdigest()


def weights_hash(module: nn.Module) -> str:
    """The hash of a module's weights and their names."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        if name != "masked_spec_embed":  # stands in for masked frames in training alone, and may be drawn at random
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def segment_keys(dataset: SpeechDataset, view: int = 0) -> list[str]:
    """
    A key for each segment of a dataset: a hash of the clip's samples and of the segment's start and stop. Where clips
    are augmented it also covers the augmentation, what it draws in the epoch `view`, the other clips that it mixes in, and the
    versions of what changes the samples.
    """
    hashes = dataset.clips["samples_hash"][:]
    segments = dataset.segments
    places = zip(segments.clip.tolist(), segments.start.tolist(), segments.stop.tolist(), strict=True)
    names = [f"{hashes[clip]} {start} {stop}" for clip, start, stop in places]
    if dataset.augmentation:
        others = [""] * len(names)
        if dataset.augmentation.needs_other_clips:
            mixed = [dataset.others(view, i) for i in range(len(names))]
            others = [f"{weight} {[names[i] for i in (partner, *voices)]}" for partner, voices, weight in mixed]
        versions = [metadata.version(package) for package in AUGMENTING]
        names = [
            f"{name} {dataset.augmentation} {dataset.augmentation_seed(view, i)} {other} {versions}"
            for i, (name, other) in enumerate(zip(names, others, strict=True))
        ]
    return [hashlib.blake2b(name.encode(), digest_size=16).hexdigest() for name in names]
