"""From a checkpoint's name to a model with a classification head for the run's emotions."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForAudioClassification,
    PretrainedConfig,
    PreTrainedModel,
    SequenceFeatureExtractor,
    Wav2Vec2FeatureExtractor,
)

from hf_ser import records
from hf_ser.audio import SAMPLING_RATE
from hf_ser.cache import cache_folder, writing
from hf_ser.emotions import canonical
from hf_ser.memory import require_memory
from hf_ser.modeling import tiny
from hf_ser.modeling.configuration_ser import SERModelConfig
from hf_ser.modeling.encoders_ser import ignore_padding, use_lora_compatible_attention
from hf_ser.modeling.families import encoder_config, family_of
from hf_ser.modeling.heads import (
    HEADS,
    BatchNormClassifier,
    beside,
    join_outputs,
    set_outputs,
    start_dimensions,
    start_linear_head,
    with_dimensions,
)
from hf_ser.modeling.modeling_ser import SERForAudioClassification, load_in_float32, require_encoder
from hf_ser.wording import listed

logger = logging.getLogger(__name__)

#: The beginnings of the names of a head's weights.
HEAD = ("classifier.", "projector.", "hidden.", "layer_weights")
#: The name of the package's own small HuBERT with random weights, see `hf_ser.modeling.tiny`.
TINY = "hubert-tiny-random"
#: For `from_pretrained`, which would ask on the terminal for code of a checkpoint. The package's own classes need none.
NO_CODE = {"trust_remote_code": False}


@dataclass(frozen=True)
class Loaded:
    """
    A model that is ready to be tuned.

    Args:
        model (`PreTrainedModel`): In float32, with the run's emotions in its configuration.
        feature_extractor (`SequenceFeatureExtractor`): Its feature extractor.
        new (`tuple[str, ...]`): The names of the parameters that are not those of the checkpoint, because they are randomly
            initialised or reordered. They must be saved.
    """

    model: PreTrainedModel
    feature_extractor: SequenceFeatureExtractor
    new: tuple[str, ...]


def resolve_checkpoint(name: str) -> str:
    """The folder or name on the Hub for `name`: `hubert-tiny-random` is created on its first use."""
    if name != TINY:
        return name
    folder = cache_folder() / "models" / TINY
    if not folder.exists():
        with writing(cache_folder()):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):  # processes that start together create one
                if not folder.exists():
                    tiny.make(folder)
    return str(folder)


def load_model(
    checkpoint: str,
    emotions: Sequence[str],
    dimensions: Sequence[str] = (),
    *,
    head: str = "stock",
    weighted_layer_sum: bool = False,
    mask_time_prob: float = 0.0,
    mask_feature_prob: float = 0.0,
    do_normalize: bool | None = None,
    feature_extractor: str | None = None,
) -> Loaded:
    """
    Loads an encoder with a head for `emotions`, in float32 whatever the type of the file. Its output does not depend on padding,
    and a LoRA can train all of its projections.

    A classifier for the same emotions (in any order and with synonyms) is kept, with its rows in the order of `emotions`, unless
    the head is `linear`. Any other classifier is replaced, and the log says so.

    Args:
        checkpoint (`str`): A folder or a name on the Hub, of one of [`~hf_ser.modeling.families.FAMILIES`], or fine-tuned with
            this package.
        emotions (`Sequence[str]`): The emotions, in the order of the labels.
        dimensions (`Sequence[str]`): Arousal and the like; the model's outputs for them come after those for emotions.
        head (`str`, defaults to `"stock"`): `linear`, `stock`, `batchnorm` or `conv`, see [`HEADS`]. A `linear` one has
            zeros until its probe is solved, see `hf_ser.training.probe`.
        weighted_layer_sum (`bool`, defaults to `False`): The head takes a learned average of all layers, not the last one.
        mask_time_prob, mask_feature_prob (`float`, defaults to 0): SpecAugment's shares of masked frames and features in
            training. 0 masks nothing, whatever the checkpoint's configuration says.
        do_normalize (`bool`, *optional*): See [`load_feature_extractor`].
        feature_extractor (`str`, *optional*): Where it comes from, by default from the checkpoint.

    Raises:
        ValueError: if the checkpoint cannot be loaded, is of another family, `head` is unknown, or the feature extractor has
            no `do_normalize`.
    """
    if head not in HEADS:
        raise ValueError(f"head={head!r}: expected one of {', '.join(HEADS)}")
    source = resolve_checkpoint(checkpoint)
    config = load_config(source)
    extractor = load_feature_extractor(feature_extractor or source, config, do_normalize)
    encoder = encoder_config(config)
    # The checkpoint's own SpecAugment would act under some methods only.
    encoder.apply_spec_augment = mask_time_prob > 0 or mask_feature_prob > 0
    if encoder.apply_spec_augment:
        encoder.update({"mask_time_prob": mask_time_prob, "mask_feature_prob": mask_feature_prob})
        logger.info(
            "SpecAugment in training: mask_time_prob %g, mask_feature_prob %g", mask_time_prob, mask_feature_prob
        )
    if config.model_type == SERModelConfig.model_type:
        own_class = head == "linear" or head != config.head  # in place of the head that it has
    else:
        own_class = head == "conv" or family_of(config).own_class
    model: Any
    try:
        with untrusted(source):
            if own_class:
                if head == "batchnorm":
                    raise ValueError(f"head='batchnorm': expected linear, stock or conv for {config.model_type}")
                settings = SERModelConfig(encoder=encoder, head=head, use_weighted_layer_sum=weighted_layer_sum)
                set_outputs(settings, emotions, dimensions)
                if head == "linear":
                    settings.classifier_proj_size = settings.num_labels
                model, missing = SERForAudioClassification.from_encoder(source, settings)
                new = set(missing)
                start_dimensions(model)
                logger.info("new %s head for %s", head, listed((*emotions, *dimensions)))
            else:
                model, new = _with_its_class(source, config, emotions, dimensions, head, weighted_layer_sum)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"model: the weights of {checkpoint!r} cannot be loaded: {error}") from error
    if head == "linear":
        start_linear_head(model)
        new = {name for name in new if not name.startswith(HEAD)}
        new |= {name for name in model.state_dict() if name.startswith(HEAD)}
    if head == "batchnorm":
        model.classifier = BatchNormClassifier(model.classifier, model.config.final_dropout)
        new = {key.replace("classifier.", "classifier.out_proj.") for key in new}
        new |= {f"classifier.batch_norm.{name}" for name in model.classifier.batch_norm.state_dict()}
    return Loaded(ready(model), extractor, tuple(sorted(new)))


def _with_its_class(
    source: str,
    config: PretrainedConfig,
    emotions: Sequence[str],
    dimensions: Sequence[str],
    head: str,
    weighted_layer_sum: bool,
) -> tuple[PreTrainedModel, set[str]]:
    """The checkpoint in the class that its configuration names, with as much of its head as fits; the new weights' names."""
    outputs = [*emotions, *dimensions]
    trained_for = [
        canonical(name) for name in (*map(config.id2label.get, range(len(config.id2label))), *beside(config))
    ]
    same = sorted(trained_for) == sorted(outputs)
    if not same:
        set_outputs(config, emotions, dimensions)
    # Layers left out at random fail with distributed training and with gradient checkpointing.
    encoder_config(config).layerdrop = 0.0
    if head == "linear":
        config.use_weighted_layer_sum, config.classifier_proj_size = True, len(outputs)
    config.use_weighted_layer_sum = config.use_weighted_layer_sum or weighted_layer_sum
    model, missing, mismatched = from_checkpoint(source, config)
    new = missing | mismatched
    require_encoder(source, (name for name in new if not name.startswith(HEAD)))
    if "layer_weights" in new:  # transformers leaves WavLM's and UniSpeech's uninitialised
        torch.nn.init.constant_(model.layer_weights, 1 / len(model.layer_weights))
    replaced = "classifier.weight" in new
    if not replaced and trained_for != outputs:
        # An adapter must have them: below it there would be the base's own rows.
        new |= {"classifier.weight", "classifier.bias"}
        if same:
            order = [trained_for.index(name) for name in outputs]
            with torch.no_grad():
                for parameter in model.classifier.parameters():
                    parameter.copy_(parameter[order])
        else:
            # Not by the model's own _init_weights, which leaves the weights of a checkpoint as they are.
            torch.nn.init.normal_(model.classifier.weight, std=config.initializer_range)
            torch.nn.init.zeros_(model.classifier.bias)
        replaced = not same
    set_outputs(model.config, emotions, dimensions)
    if replaced:
        start_dimensions(model)
        random = sorted({key.split(".")[0] for key in missing if key.startswith(HEAD)} | {"classifier"})
        former = f"; the checkpoint's own head was for {', '.join(trained_for)}"
        logger.info(
            "new %s head for %s%s%s",
            head,
            listed(outputs),
            "" if head == "linear" else f" (randomly initialised: {', '.join(random)})",  # a probe will fill it
            former if "classifier.weight" not in missing else "",
        )
    return model, new


def ready(model: PreTrainedModel) -> PreTrainedModel:
    """Makes the output of a model independent of padding, and WavLM's projections trainable by a LoRA, in place."""
    if not isinstance(model, SERForAudioClassification):  # which does so itself
        ignore_padding(model.base_model)
    return use_lora_compatible_attention(model)


def open_on_base(base: str, config: PretrainedConfig) -> tuple[PreTrainedModel, set[str]]:
    """
    The model under an adapter: the base model in a folder, with or without a head, with the head of the adapter's `config`.

    Returns:
        The model, and the names of the weights that the base lacks. They are random, and the adapter should have them.

    Raises:
        OSError: if the base cannot be read.
        ValueError: if the base lacks a weight of the encoder.
    """
    own_class = SERModelConfig.model_type
    if config.model_type == own_class and AutoConfig.from_pretrained(base, **NO_CODE).model_type != own_class:
        model, new = SERForAudioClassification.from_encoder(base, config)
        return ready(model), set(new)
    model, missing, mismatched = from_checkpoint(base, config)
    return ready(model), missing | mismatched


def from_checkpoint(source: str, config: PretrainedConfig, **hub: Any) -> tuple[PreTrainedModel, set[str], set[str]]:
    """
    A model for audio classification in float32, built to `config` and filled from a checkpoint.

    Args:
        source (`str`): A folder or a name on the Hub.
        config (`PretrainedConfig`): What to build.
        **hub: For `from_pretrained`: `revision`, `token` and the like.

    Returns:
        The model, the names of the weights that the checkpoint lacks, and of those that have another shape in it. Both are random
        in the model.

    Raises:
        OSError: if the checkpoint cannot be read.
    """
    kind: Any = AutoModelForAudioClassification
    if apart := beside(config):
        kind = with_dimensions(kind._model_mapping[type(config)])
    model, missing, mismatched = load_in_float32(kind, source, config, **hub)
    if apart:
        model.__class__ = kind.__base__
    return join_outputs(model), missing, mismatched


@contextmanager
def untrusted(source: str) -> Iterator[None]:
    """
    For opening a checkpoint of unknown origin, with `NO_CODE`.

    Raises:
        ValueError, OSError: if it needs code of its own, its pickle has more than tensors, or an index names other files than
            weights beside it.
        MemoryError: if its weights do not fit into memory.
    """
    # The largest file alone: there may be several versions of the weights.
    largest = max((path.stat().st_size for path in Path(source).glob("*model*.*")), default=0)
    require_memory(largest, f"{source}: its weights")
    for index in Path(source).glob("*.index.json"):
        shards, suffix = records.read(index).get("weight_map"), Path(index.name.removesuffix(".index.json")).suffix
        for name in shards.values() if isinstance(shards, dict) else [shards]:
            if not isinstance(name, str) or Path(name).name != name or not name.endswith(suffix):
                raise ValueError(f"{index}: found {name!r}, expected a weight_map to {suffix} files beside it")
    try:
        yield
    except UnpicklingError as error:
        raise OSError(f"{source}: its pickle has more than tensors; convert it to safetensors") from error
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(f"{source!r} brings code of its own, which is not executed; expected a known model") from error


def load_config(source: str) -> PretrainedConfig:
    """
    A checkpoint's configuration.

    Raises:
        ValueError: if there is none at `source`, or it is of another family.
    """
    try:
        with untrusted(source):
            config = AutoConfig.from_pretrained(source, **NO_CODE)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"model={source!r}: expected a folder with a config.json, or the name of a model on the Hub that can be reached: "
            f"{error}"
        ) from error
    try:
        family_of(config)
    except ValueError as error:
        raise ValueError(f"model={source!r}: {error}") from error
    return config


def load_feature_extractor(
    checkpoint: str, config: PretrainedConfig, do_normalize: bool | None = None
) -> SequenceFeatureExtractor:
    """
    The checkpoint's feature extractor, as it is saved with a model. It always returns the attention mask, without which padding
    counts as speech; many checkpoints leave it out of `preprocessor_config.json`. Whisper's pads to the longest clip of a batch
    and not to 30 s.

    Args:
        checkpoint (`str`): A folder or a name on the Hub.
        config (`PretrainedConfig`): The model's configuration.
        do_normalize (`bool`, *optional*): Whether each waveform is scaled to zero mean and unit variance, by default as the
            checkpoint's feature extractor does.

    Raises:
        ValueError: if the checkpoint's sampling rate is not 16 kHz, or `do_normalize` is given and the feature extractor
            computes spectrograms.
    """
    extractor = family_of(config).feature_extractor.from_pretrained(checkpoint)
    if extractor.sampling_rate != SAMPLING_RATE:
        raise ValueError(
            f"{checkpoint}: found a feature extractor for {extractor.sampling_rate} Hz, expected {SAMPLING_RATE} Hz"
        )
    extractor.return_attention_mask = True
    if do_normalize is not None:
        if not isinstance(extractor, Wav2Vec2FeatureExtractor):
            raise ValueError(
                f"do_normalize={do_normalize}: {checkpoint} takes spectrograms ({type(extractor).__name__}), and only waveforms "
                "can be normalised; leave it out"
            )
        extractor.do_normalize = do_normalize
    return extractor
