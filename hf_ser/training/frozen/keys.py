"""Names of what is cached: all that decides what a frozen part computes from a segment."""

import hashlib
import json
from importlib import metadata
from typing import Any

import torch
import transformers
from torch import nn
from transformers import SequenceFeatureExtractor

from hf_ser.features import SpeechDataset
from hf_ser.training.frozen.parts import LAYERS, front, layer_count

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


def part_key(model: Any, part: str, extractor: SequenceFeatureExtractor, precision: str) -> str:
    """
    A hash of all that decides what the frozen `part` of a model, see [`~hf_ser.training.frozen.frozen_part`], computes from a
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
        # The model class decides which layers there are.
        "layers": f"{layer_count(model)} of {type(model).__name__}" if part in LAYERS else None,
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
            drawn = [dataset.others(view, i) for i in range(len(names))]
            others = [f"{weight} {[names[i] for i in (partner, *voices)]}" for partner, voices, weight in drawn]
        versions = [metadata.version(package) for package in AUGMENTING]
        names = [
            f"{name} {dataset.augmentation} {dataset.drawn(view, i)} {other} {versions}"
            for i, (name, other) in enumerate(zip(names, others, strict=True))
        ]
    return [hashlib.blake2b(name.encode(), digest_size=16).hexdigest() for name in names]
