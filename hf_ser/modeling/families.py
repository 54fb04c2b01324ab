"""
The table of encoder families: all differences between families, except for the code of their encoders.

To add a family that transformers has, add an entry to [`FAMILIES`]. Fields that it leaves out have HuBERT's values. Code for
single families is in `encoders_ser.py`, which is saved with models: Whisper without 30 s of padding, an attention of WavLM that
LoRA can train, and [`~hf_ser.modeling.encoders_ser.ignore_padding`] for families whose output depends on padding.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import (
    AutoFeatureExtractor,
    PretrainedConfig,
    SeamlessM4TFeatureExtractor,
    SequenceFeatureExtractor,
    WhisperFeatureExtractor,
)

from hf_ser.modeling.configuration_ser import SERModelConfig
from hf_ser.modeling.encoders_ser import samples_for_frames
from hf_ser.modeling.feature_extraction_ser import SERFeatureExtractor


def filterbank_samples(windows: int) -> int:
    """The samples at 16 kHz of `windows` windows of 25 ms, one every 10 ms."""
    return 400 + 160 * (windows - 1)


@dataclass(frozen=True)
class InputKind:
    """
    What an encoder takes: waveforms, mel spectrograms or filterbanks.

    Args:
        hop (`int`): The samples at 16 kHz for each place of the attention mask.
        samples (`Callable`): From the encoder's configuration and a number of frames to the samples that these frames need.
        time (`int`, defaults to 1): The axis of time in a batch of inputs.
        longest (`Callable`, *optional*): From the encoder's configuration to the samples of the longest clip, by default any.
    """

    hop: int
    samples: Callable[[PretrainedConfig, int], int]
    time: int = 1
    longest: Callable[[PretrainedConfig], float] = lambda config: math.inf


#: `input_values` `(batch, samples)`, a frame for about 320 samples, through strided convolutions.
WAVEFORM = InputKind(hop=1, samples=samples_for_frames)
#: Whisper's `input_features` `(batch, mel bins, mel frames)`, of at most 30 s: a frame for two mel frames.
MEL_SPECTROGRAM = InputKind(
    hop=160,
    samples=lambda config, frames: 320 * frames,
    time=2,
    longest=lambda config: 320 * config.max_source_positions,
)
#: Wav2Vec2-BERT's `input_features` `(batch, frames, features)`: a frame for two windows.
FILTERBANK = InputKind(hop=320, samples=lambda config, frames: filterbank_samples(2 * frames))


@dataclass(frozen=True)
class EncoderFamily:
    """
    The properties of a family of encoders. The defaults are those of HuBERT.

    Modules are named as in an encoder layer; `layers` is a regular expression for the names of the layers in a model.

    Args:
        inputs (`InputKind`): What the encoder takes.
        feature_extractor (`type`): The class that opens the checkpoint's feature extractor.
        own_class (`bool`): Whether the package's own model class is needed whatever the head, because transformers' class pads
            each clip to 30 s and ignores the attention mask.
        front (`tuple[str, ...]`): The convolutions in front of the layers, in the encoder.
        layers (`str`): The transformer layers.
        attention (`tuple[str, ...]`): The projections of query, key, value and output.
        feed_forward (`tuple[str, ...]`): The two matrices of the feed-forward; in a conformer, of both feed-forwards.
        adapted (`str`): The module whose output is that of the layer's (last) feed-forward, to which a bottleneck is added.
        norm (`str`, *optional*): The layer norm in front of that feed-forward. By default `final_layer_norm` in encoders that
            normalise first (HuBERT Large), `layer_norm` in those that normalise last (HuBERT Base).
        stock_mixes_padding (`bool`): Whether the output of transformers' own class for a clip depends on its padding, though it
            has no group norm.
    """

    inputs: InputKind = WAVEFORM
    feature_extractor: Any = AutoFeatureExtractor
    own_class: bool = False
    front: tuple[str, ...] = ("feature_extractor",)
    layers: str = r"(.*\.)?encoder\.layers\.\d+"
    attention: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    feed_forward: tuple[str, ...] = ("intermediate_dense", "output_dense")
    adapted: str = "feed_forward"
    norm: str | None = None
    stock_mixes_padding: bool = False

    def normalises_first(self, config: PretrainedConfig) -> bool:
        """Whether each layer of such an encoder normalises its input. Then there is also a norm after the last layer."""
        return self.feed_forward_norm(config) == "final_layer_norm"

    def feed_forward_norm(self, config: PretrainedConfig) -> str:
        """The layer norm in front of the adapted feed-forward, in a layer of an encoder of this configuration."""
        stable = config.to_dict().get("do_stable_layer_norm")
        return self.norm or ("final_layer_norm" if stable else "layer_norm")


#: The families, by the `model_type` of their configuration.
FAMILIES: dict[str, EncoderFamily] = {
    "hubert": EncoderFamily(),
    "wav2vec2": EncoderFamily(),
    "unispeech": EncoderFamily(),
    "unispeech-sat": EncoderFamily(),
    "wavlm": EncoderFamily(),
    "data2vec-audio": EncoderFamily(norm="layer_norm", stock_mixes_padding=True),
    "wav2vec2-bert": EncoderFamily(
        inputs=FILTERBANK,
        front=(),
        attention=("linear_q", "linear_k", "linear_v", "linear_out"),
        adapted="ffn2",
        norm="ffn2_layer_norm",
    ),
    "whisper": EncoderFamily(
        inputs=MEL_SPECTROGRAM,
        feature_extractor=SERFeatureExtractor,
        own_class=True,
        front=("conv1", "conv2"),
        layers=r"(?!(.*\.)?decoder\.)(.*\.)?layers\.\d+",  # the decoder's have the same name
        feed_forward=("fc1", "fc2"),
        adapted="fc2",
        norm="final_layer_norm",
    ),
}


def encoder_config(config: PretrainedConfig) -> PretrainedConfig:
    """The configuration of a model's encoder: for a [`SERModelConfig`] its `encoder`, else the model's own."""
    return config.encoder if config.model_type == SERModelConfig.model_type else config


def family_of(config: PretrainedConfig) -> EncoderFamily:
    """
    The family of a model's encoder.

    Raises:
        ValueError: if the table has no such family.
    """
    kind = encoder_config(config).model_type
    if kind not in FAMILIES:
        raise ValueError(f"model_type: found {kind!r}, expected one of {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def layer_numbers(names: Sequence[str], config: PretrainedConfig) -> dict[str, int]:
    """By parameter name the number of its transformer layer; the norm after the last layer belongs to that layer."""
    family = family_of(config)
    found = {name: int(layer[0].rpartition(".")[2]) for name in names if (layer := re.match(family.layers, name))}
    if family.normalises_first(encoder_config(config)):
        norms = (name for name in names if re.search(r"(?:^|\.)encoder\.layer_norm\.", name))
        found |= dict.fromkeys(norms, max(found.values(), default=0))
    return found


def input_kind(extractor: SequenceFeatureExtractor) -> InputKind:
    """The input of the encoder that this feature extractor belongs to."""
    if isinstance(extractor, WhisperFeatureExtractor):
        return MEL_SPECTROGRAM
    return FILTERBANK if isinstance(extractor, SeamlessM4TFeatureExtractor) else WAVEFORM


def masks_frames(config: PretrainedConfig) -> bool:
    """Whether SpecAugment masks spans of frames in training."""
    config = encoder_config(config)
    return config.apply_spec_augment and config.mask_time_prob > 0


def minimum_samples(config: PretrainedConfig, frames: int = 1) -> int:
    """
    The samples at 16 kHz that a model's encoder needs for `frames` frames. For a model of another family, which this package does
    not train, a window of 25 ms for each.
    """
    config = encoder_config(config)
    family = FAMILIES.get(config.model_type)
    return family.inputs.samples(config, frames) if family else filterbank_samples(1) * frames


def minimum_samples_in_training(config: PretrainedConfig) -> int:
    """The samples of the shortest batch in training: SpecAugment fails on a batch that is shorter than one of its masks."""
    return minimum_samples(config, encoder_config(config).mask_time_length + 1 if masks_frames(config) else 1)


def maximum_samples(config: PretrainedConfig) -> float:
    """The samples of the longest clip that an encoder takes: 30 s for Whisper, infinitely many for others."""
    config = encoder_config(config)
    family = FAMILIES.get(config.model_type)
    return family.inputs.longest(config) if family else math.inf


def needs_thirty_seconds(config: PretrainedConfig) -> bool:
    """Whether a model is transformers' own Whisper, whose inputs all have 30 s. The package's own takes the clip's frames."""
    return config.model_type in FAMILIES and FAMILIES[config.model_type].own_class


def padding_changes_predictions(config: PretrainedConfig) -> bool:
    """
    Whether transformers' own class of a model gives slightly different probabilities for a clip in a padded batch than for the
    clip alone, because the padding has an effect on group norm and on data2vec's positional convolutions. It has none on a model
    that this package opens, see [`~hf_ser.modeling.encoders_ser.ignore_padding`].
    """
    family = FAMILIES.get(config.model_type)
    return bool(family and family.stock_mixes_padding) or config.to_dict().get("feat_extract_norm") == "group"
