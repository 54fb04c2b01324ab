"""A checkpoint's name becomes a model that tells the run's emotions apart."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from filelock import FileLock
from transformers import (
    AutoConfig,
    AutoModelForAudioClassification,
    PretrainedConfig,
    PreTrainedModel,
    SequenceFeatureExtractor,
)
from transformers.utils import logging as transformers_logging

from hf_ser.cache import cache_folder
from hf_ser.emotions import canonical
from hf_ser.features import load_feature_extractor
from hf_ser.models import tiny
from hf_ser.models.heads import HEADS, BatchNormClassifier
from hf_ser.models.padding import hear_valid_frames

logger = logging.getLogger(__name__)

#: The families whose encoders take waveforms through the same convolutions.
FAMILIES = ("hubert", "wav2vec2", "wavlm")
#: The name of the package's own small HuBERT with random weights, see `hf_ser.models.tiny`.
TINY = "hubert-tiny-random"


@dataclass(frozen=True)
class Loaded:
    """
    A model that is ready to be tuned.

    Args:
        model (`PreTrainedModel`): In float32, with the run's emotions in its configuration.
        feature_extractor (`SequenceFeatureExtractor`): What it hears with.
        new (`tuple[str, ...]`): The names of the parameters that the checkpoint does not have, or not in this order: drawn at
            random or reordered, and so to be saved.
    """

    model: PreTrainedModel
    feature_extractor: SequenceFeatureExtractor
    new: tuple[str, ...]


def resolve_checkpoint(name: str) -> str:
    """The folder or name on the Hub that `name` stands for: `hubert-tiny-random` is made when it is first asked for."""
    if name != TINY:
        return name
    folder = cache_folder() / "models" / TINY
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # processes that start together make one
            if not folder.exists():
                tiny.make(folder)
    return str(folder)


def load_model(
    checkpoint: str,
    emotions: Sequence[str],
    *,
    head: str = "stock",
    weighted_layer_sum: bool = False,
    mask_time_prob: float | None = None,
    mask_feature_prob: float | None = None,
) -> Loaded:
    """
    Loads an encoder with a head for `emotions`, in float32 whatever type it was stored in.

    A checkpoint that already tells the same emotions apart (under whatever order and synonyms) keeps its classifier,
    with its rows in the order of `emotions`; any other classifier is replaced, and the log says so.

    Args:
        checkpoint (`str`): A folder or a name on the Hub, of HuBERT, Wav2Vec2 or WavLM.
        emotions (`Sequence[str]`): The emotions, in the order of the labels.
        head (`str`, defaults to `"stock"`): `stock` or `batchnorm`, see [`HEADS`].
        weighted_layer_sum (`bool`, defaults to `False`): The head sees a learned average of all layers, not the last.
        mask_time_prob, mask_feature_prob (`float`, *optional*): SpecAugment's shares of masked frames and features in
            training, in place of the checkpoint's own.

    Raises:
        ValueError: if the checkpoint cannot be loaded, is of another family, or `head` is unknown.
    """
    if head not in HEADS:
        raise ValueError(f"--head: {head!r} is none of {', '.join(HEADS)}")
    source = resolve_checkpoint(checkpoint)
    config = load_config(source)
    trained_for = [canonical(config.id2label[i]) for i in range(len(config.id2label))]
    config.id2label = dict(enumerate(emotions))
    config.label2id = {emotion: i for i, emotion in enumerate(emotions)}
    # Whole layers left out at random fail with distributed training and with gradient checkpointing.
    config.layerdrop = 0.0
    masks = {"mask_time_prob": mask_time_prob, "mask_feature_prob": mask_feature_prob}
    if asked := {name: share for name, share in masks.items() if share is not None}:
        own = {name: getattr(config, name) if config.apply_spec_augment else 0.0 for name in masks}
        config.update({**own, **asked, "apply_spec_augment": any({**own, **asked}.values())})
    config.use_weighted_layer_sum = config.use_weighted_layer_sum or weighted_layer_sum
    try:
        model, missing, mismatched = from_checkpoint(source, config)
    except OSError as error:
        raise ValueError(f"--model: the weights of {checkpoint!r} cannot be loaded: {error}") from error
    new = missing | mismatched
    replaced = any(key.startswith("classifier.") for key in new)
    if not replaced and trained_for != list(emotions):
        # The base's own rows would come back under an adapter that did not bring these along.
        new |= {"classifier.weight", "classifier.bias"}
        replaced = not _reorder(model, trained_for, emotions)
        if replaced:
            # Not by the model's own _init_weights: it leaves alone whatever a checkpoint has filled.
            torch.nn.init.normal_(model.classifier.weight, std=config.initializer_range)
            torch.nn.init.zeros_(model.classifier.bias)
    if stray := sorted(key for key in new if not key.startswith(("classifier.", "projector.", "layer_weights"))):
        raise ValueError(
            f"{checkpoint}: {len(stray)} weights of the encoder are not in the checkpoint, for instance {stray[0]}; "
            "it would hear with random ones"
        )
    if replaced:
        kept = ", ".join(sorted({key.split(".")[0] for key in missing} - {"classifier"}))
        logger.info(
            "%s: new classifier for %d emotions%s; the checkpoint's own told apart %s",
            checkpoint,
            len(emotions),
            f" (new, too: {kept})" if kept else "",
            ", ".join(trained_for) if "classifier.weight" not in missing else "nothing",
        )
    if head == "batchnorm":
        model.classifier = BatchNormClassifier(model.classifier, config.final_dropout)
        new = {key.replace("classifier.", "classifier.out_proj.") for key in new}
        new |= {f"classifier.batch_norm.{name}" for name in model.classifier.batch_norm.state_dict()}
    return Loaded(hear_valid_frames(model), load_feature_extractor(source, config), tuple(sorted(new)))


def from_checkpoint(source: str, config: PretrainedConfig, **hub: Any) -> tuple[PreTrainedModel, set[str], set[str]]:
    """
    A model for audio classification in float32, built to `config` and filled from a checkpoint.

    Args:
        source (`str`): A folder or a name on the Hub.
        config (`PretrainedConfig`): What to build.
        **hub: For `from_pretrained`: `revision`, `token` and the like.

    Returns:
        The model, the names of the weights that the checkpoint lacks, and of those that it has in another shape: both are
        random in the model.

    Raises:
        OSError: if the checkpoint cannot be read.
    """
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # who calls this says what is random, or fills it
    try:
        model, info = AutoModelForAudioClassification.from_pretrained(
            source, config=config, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True, **hub
        )
    finally:
        transformers_logging.set_verbosity(verbosity)
    return model, set(info["missing_keys"]), {key for key, *_ in info["mismatched_keys"]}


def load_config(source: str) -> PretrainedConfig:
    """
    A checkpoint's configuration.

    Raises:
        ValueError: if there is none at `source`, or it is of another family.
    """
    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--model: {source!r} is neither a folder with a config.json nor a model on the Hub that can be reached: {error}"
        ) from error
    if config.model_type not in FAMILIES:
        raise ValueError(f"--model: {source!r} is a {config.model_type}; found support for {', '.join(FAMILIES)}")
    return config


def _reorder(model: PreTrainedModel, trained_for: Sequence[str], emotions: Sequence[str]) -> bool:
    """Puts the classifier's rows in the order of `emotions`; `False` if it was trained for others."""
    if sorted(trained_for) != sorted(emotions):
        return False
    order = [trained_for.index(emotion) for emotion in emotions]
    with torch.no_grad():
        model.classifier.weight.copy_(model.classifier.weight[order].clone())
        model.classifier.bias.copy_(model.classifier.bias[order].clone())
    return True
