"""
Opens reference models of the field for which transformers has no class, without code of theirs.

Two layouts are known. Weights that the forward pass does not use (a decoder, secondary emotions, gender) are not read.

- A dense head: the mean of the last layer's frames, a linear layer, tanh, a linear layer. audeering's models of arousal,
  dominance and valence have it (https://huggingface.co/audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim), and many
  classifiers of emotions, as `Wav2Vec2ForSpeechClassification`.
- vox-profile (https://github.com/tiantiaf0627/vox-profile-release, `src/model/emotion`): three pointwise convolutions, the mean
  over the clip's frames, two linear layers for each output. They take a learned average of WavLM's layers, or Whisper's last one.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    BatchFeature,
    PretrainedConfig,
    PreTrainedModel,
    SequenceFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from hf_ser.modeling import SERForAudioClassification, SERModelConfig
from hf_ser.modeling.load import NO_CODE
from hf_ser.records import WEIGHTS

Opened = tuple[PreTrainedModel, SequenceFeatureExtractor]
Weights = dict[str, torch.Tensor]

#: The encoders with a dense head, by `model_type` (the names of their weights begin with it), and weights of that head.
DENSE, DENSE_HEAD = ("wav2vec2", "hubert", "wavlm"), {"classifier.dense.weight", "classifier.out_proj.weight"}
#: vox-profile's emotions in the order of its outputs (its `src/example/categorized_emotion_wavlm.py`), in this package's words.
VOX_EMOTIONS = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise", "other")
VOX_DIMENSIONS = ("arousal", "valence", "dominance")
#: Its Whisper takes 15 s for every clip: 750 frames.
VOX_SECONDS, VOX_FRAMES = 15, 750
#: The beginnings of the names of its weights, and those of ours; and those that its forward pass does not use.
VOX_HEAD = {"model_seq.0.": "projector.0.", "model_seq.3.": "projector.2.", "model_seq.6.": "projector.4."}
VOX_WAVLM = {"backbone_model.": "encoder.", "weights": "layer_weights"}
VOX_WHISPER = {"backbone_model.encoder.": "encoder.", "embed_positions": "positions"}
VOX_UNUSED = ("backbone_model.decoder.", "emotion_layer.", "detailed_out_layer.", "gender_layer.", "weights")
#: SpecAugment is for training; without it an encoder has no embedding of masked frames.
UNMASKED: dict[str, Any] = {"apply_spec_augment": False, "mask_time_prob": 0.0, "mask_feature_prob": 0.0}


def open_reference(path: Path, name: str) -> Opened | None:
    """
    Opens a checkpoint of a known layout: `config.json` and `model*.safetensors` in a folder. No weight is random: a checkpoint
    with missing or other weights is refused. Errors call it `name`.

    Returns:
        `None` if the checkpoint has another layout. Else the model in float32 and its feature extractor. `logits` are
        `(batch, outputs)`: those of emotions first, then those of dimensions, which are values of about 0 to 1.
        `config.id2label` names them, `config.dimensions` the dimensions.

    Raises:
        ValueError: if weights are missing, unknown or of another shape, or the model's outputs are not known.
        SafetensorError: if a file is damaged.
    """
    settings, _ = PretrainedConfig.get_config_dict(path)
    files = [safe_open(file, framework="pt") for file in path.glob(WEIGHTS)]
    stored = {key: file for file in files for key in file.keys()}  # noqa: SIM118 - it is no dict
    if "model_type" not in settings and "pretrain_model" in settings:
        return _open_vox_profile(stored, settings, name)
    if settings.get("model_type") in DENSE and stored.keys() >= DENSE_HEAD:
        model = _open_dense(stored, AutoConfig.from_pretrained(path, **NO_CODE), name)
        return model, AutoFeatureExtractor.from_pretrained(path, **NO_CODE)
    return None


def _open_dense(stored: Mapping[str, Any], encoder: Any, name: str) -> PreTrainedModel:
    if (pooling := encoder.to_dict().get("pooling_mode", "mean")) != "mean":
        raise ValueError(f"{name!r}: config.json: pooling_mode: found {pooling!r}, expected 'mean'")
    encoder.update(UNMASKED)
    labels = [encoder.id2label[i] for i in sorted(encoder.id2label)]
    config = _config(encoder, labels, labels if encoder.problem_type == "regression" else [])
    renamed = {"classifier.dense.": "classifier.0.", "classifier.out_proj.": "classifier.2."}
    weights = _read(stored, {f"{encoder.model_type}.": "encoder.", **renamed})
    with torch.device("meta"):  # every weight comes from the checkpoint
        model: Any = SERForAudioClassification(config)
        model.projector = nn.Identity()
        model.classifier = _mlp(nn.Tanh(), encoder.hidden_size, encoder.hidden_size, len(labels))
    return _fill(model, weights, name)


def _open_vox_profile(stored: Mapping[str, Any], settings: dict[str, Any], name: str) -> Opened:
    kind = settings["pretrain_model"]
    whisper, large = kind.startswith("whisper"), kind == "wavlm_large"
    # Its models of dimensions alone take predict_gender. The one with Whisper has an emotion_layer all the same, untrained.
    dimensional = "predict_gender" in settings or name.split(" ")[0].endswith("-dim")
    heads = [*([] if dimensional else ["emotion"]), *VOX_DIMENSIONS]
    labels = [*([] if dimensional else VOX_EMOTIONS), *VOX_DIMENSIONS]
    renamed = {f"{head}_layer.": f"classifier.{head}." for head in heads}
    weights = _read(stored, {**renamed, **VOX_HEAD, **(VOX_WHISPER if whisper else VOX_WAVLM)}, VOX_UNUSED)
    # The positions are in the file twice, and once where both are one tensor.
    if positions := [weights.pop(key) for key in ("positions", "encoder.embed_positions.weight") if key in weights]:
        weights["encoder.embed_positions.weight"] = positions[0][:VOX_FRAMES]
    try:
        encoder: Any = _whisper_config(weights) if whisper else _wavlm_config(weights, large)
        width, features, _ = weights["projector.0.weight"].shape
        layers = 0 if whisper else len(weights["layer_weights"])
    except KeyError as error:
        raise ValueError(
            f"{name!r}: config.json: pretrain_model: found {kind!r}, but no weights {error.args[0]}; expected WavLM or Whisper"
        ) from error
    with torch.device("meta"):  # every weight comes from the checkpoint
        config = _config(encoder, labels, VOX_DIMENSIONS, use_weighted_layer_sum=not whisper)
        model: Any = SERForAudioClassification(config, WhisperEncoder(encoder) if whisper else None)
        if not whisper:  # with what enters the first layer (use_conv_output), or without
            model.layer_weights = nn.Parameter(torch.empty(layers))
        # On (batch, frames, features) a convolution of one frame is a linear layer.
        model.projector = _mlp(nn.ReLU(), features, width, width, width)
        model.classifier = VoxProfileHeads(width, heads)
    weights |= {key: weight.squeeze(-1) for key, weight in weights.items() if key.startswith("projector.")}
    # Waveforms are normalised for microsoft/wavlm-large, and not for microsoft/wavlm-base-plus.
    if not whisper:
        return _fill(model, weights, name), Wav2Vec2FeatureExtractor(do_normalize=large, return_attention_mask=True)
    extractor = FixedLengthFeatureExtractor(feature_size=encoder.num_mel_bins, chunk_length=VOX_SECONDS)
    return _fill(model, weights, name), extractor


class VoxProfileHeads(nn.ModuleDict):
    """Two linear layers from the features of a clip for each head: `emotion`, or a dimension, which has a sigmoid."""

    def __init__(self, width: int, heads: Sequence[str]) -> None:
        counts = {head: len(VOX_EMOTIONS) if head == "emotion" else 1 for head in heads}
        super().__init__({head: _mlp(nn.ReLU(), width, width, count) for head, count in counts.items()})

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """`(batch, features)` to `(batch, outputs)`."""
        found = {head: layers(pooled) for head, layers in self.items()}
        return torch.cat([x.sigmoid() if head in VOX_DIMENSIONS else x for head, x in found.items()], dim=-1)


class FixedLengthFeatureExtractor(WhisperFeatureExtractor):
    """Whisper's features, padded to `chunk_length` s with silence, which the encoder takes. The mask has the clip's frames."""

    def __call__(
        self, raw_speech: Any, return_tensors: str | None = None, sampling_rate: int | None = None, **kwargs: Any
    ) -> BatchFeature:
        """
        `raw_speech` is a clip `(samples,)` or a list of them. Other arguments of [`WhisperFeatureExtractor`] have no effect.

        Returns:
            `input_features` `(batch, mel bins, mel frames)` and `attention_mask` `(batch, mel frames)`.

        Raises:
            ValueError: if a clip is longer, or at another sampling rate.
        """
        clips = [np.asarray(clip, np.float32) for clip in ([raw_speech] if np.ndim(raw_speech[0]) == 0 else raw_speech)]
        if (longest := max(map(len, clips)) / self.sampling_rate) > self.chunk_length:
            raise ValueError(f"raw_speech: found a clip of {longest:g} s, expected at most {self.chunk_length} s")
        features = super().__call__(clips, padding="max_length", sampling_rate=sampling_rate, return_tensors="np")
        frames = np.array([max(len(clip) // self.hop_length, 1) for clip in clips])  # whole ones, as vox-profile counts
        mask = (np.arange(self.nb_max_frames) < frames[:, None]).astype(np.int64)
        return BatchFeature({**features, "attention_mask": mask}, tensor_type=return_tensors)


def _mlp(activation: nn.Module, *sizes: int) -> nn.Sequential:
    layers = [nn.Linear(*pair) for pair in pairwise(sizes)]
    return nn.Sequential(*[module for layer in layers for module in (layer, activation)][:-1])


def _config(encoder: Any, labels: Sequence[str], dimensions: Sequence[str], **settings: Any) -> SERModelConfig:
    settings["id2label"] = dict(enumerate(labels))
    settings["label2id"] = {label: i for i, label in enumerate(labels)}
    settings["problem_type"] = "regression" if len(dimensions) == len(labels) else None
    return SERModelConfig(encoder, head="stock", dimensions=list(dimensions), **settings)


def _wavlm_config(weights: Weights, large: bool) -> PretrainedConfig:
    """From the shapes of the weights; only the order of norms and layers is not in them."""
    layer, front = "encoder.encoder.layers.0.{}.weight", "encoder.feature_extractor.conv_layers.{}.conv.{}"
    hidden, in_group, kernel = weights["encoder.encoder.pos_conv_embed.conv.parametrizations.weight.original1"].shape
    return AutoConfig.for_model(
        "wavlm",
        hidden_size=hidden,
        num_hidden_layers=sum(key.endswith(".final_layer_norm.bias") for key in weights),
        num_attention_heads=weights[layer.format("attention.rel_attn_embed")].shape[1],
        intermediate_size=len(weights[layer.format("feed_forward.intermediate_dense")]),
        conv_dim=[len(weights[front.format(i, "weight")]) for i in range(7)],
        conv_bias=front.format(0, "bias") in weights,
        feat_extract_norm="layer" if large else "group",
        do_stable_layer_norm=large,
        num_conv_pos_embeddings=kernel,
        num_conv_pos_embedding_groups=hidden // in_group,
        **UNMASKED,
    )


def _whisper_config(weights: Weights) -> PretrainedConfig:
    """From the shapes of the weights. In every size of Whisper a head of the attention has 64 features."""
    hidden, mel_bins, _ = weights["encoder.conv1.weight"].shape
    return AutoConfig.for_model(
        "whisper",
        d_model=hidden,
        num_mel_bins=mel_bins,
        encoder_layers=sum(key.endswith(".final_layer_norm.bias") for key in weights),
        encoder_attention_heads=hidden // 64,
        encoder_ffn_dim=len(weights["encoder.layers.0.fc1.weight"]),
        max_source_positions=VOX_FRAMES,
    )


def _read(stored: Mapping[str, Any], renamed: dict[str, str], unused: tuple[str, ...] = ()) -> Weights:
    """
    The weights in float32, with LoRAs merged. A name that begins with one of `renamed` begins with another here; else those that
    begin with one of `unused` are not read.
    """
    weights: Weights = {}
    for key, file in stored.items():
        prefix = next((prefix for prefix in renamed if key.startswith(prefix)), "")
        if (prefix or not key.startswith(unused)) and not key.endswith("masked_spec_embed"):
            weights[renamed.get(prefix, "") + key.removeprefix(prefix)] = file.get_tensor(key).float()
    for old, new in {"conv.weight_g": "original0", "conv.weight_v": "original1"}.items():  # PyTorch's former names
        for key in [key for key in weights if key.endswith(old)]:
            weights[f"{key[:-8]}parametrizations.weight.{new}"] = weights.pop(key)
    # loralib's layers (https://github.com/microsoft/LoRA), whose scale is 1 / rank by default.
    for module in [key.removesuffix("lora_A") for key in weights if key.endswith(".lora_A")]:
        down, up = weights.pop(f"{module}lora_A"), weights.pop(f"{module}lora_B")  # (rank, in), (out, rank)
        weights[f"{module}weight"] = weights[f"{module}weight"] + up @ down / len(down)
    return weights


def _fill(model: PreTrainedModel, weights: Weights, name: str) -> PreTrainedModel:
    """Gives a model on the meta device its weights."""
    expected = model.state_dict()
    wrong = sorted(expected.keys() ^ weights.keys())
    wrong += [key for key in expected.keys() & weights.keys() if expected[key].shape != weights[key].shape]
    if wrong:
        raise ValueError(
            f"{name!r}: its weights do not fit its config.json: {len(wrong)} are missing, unknown or of another shape, for "
            f"instance {wrong[0]}. The model is of another layout or for another task, or its files belong to different models."
        )
    model.load_state_dict(weights, assign=True)
    return model
