"""A checkpoint's name becomes a model that tells the run's emotions apart."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from filelock import FileLock
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    PretrainedConfig,
    PreTrainedModel,
    SequenceFeatureExtractor,
    Wav2Vec2FeatureExtractor,
)
from transformers.utils import logging as transformers_logging

from hf_ser.audio import SAMPLING_RATE
from hf_ser.cache import cache_folder
from hf_ser.emotions import canonical
from hf_ser.features import encoder_config
from hf_ser.models import tiny
from hf_ser.models.heads import HEADS, BatchNormClassifier, start_linear_head
from hf_ser.models.positions import use_fourier_positions
from hf_ser.models.remote import (
    SpeechClassifier,
    SpeechClassifierConfig,
    SpeechFeatureExtractor,
    call_projections,
    hear_valid_frames,
)

logger = logging.getLogger(__name__)

#: The families of encoders, by the `model_type` of their configuration; to add one that transformers has, add its name, if its
#: answers do not change with the padding of a batch (else `hf_ser.models.remote.hear_valid_frames` is the place to mend that).
FAMILIES = ("hubert", "wav2vec2", "wavlm", "whisper", "unispeech", "unispeech-sat", "data2vec-audio", "wav2vec2-bert")
#: Those that need the package's own model class, whatever the head.
OWN_CLASS = ("whisper",)
#: How the names of a head's weights begin.
HEAD = ("classifier.", "projector.", "hidden.", "layer_weights")
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
    mask_time_prob: float = 0.0,
    mask_feature_prob: float = 0.0,
    do_normalize: bool | None = None,
) -> Loaded:
    """
    Loads an encoder with a head for `emotions`, in float32 whatever type it was stored in. Every encoder takes an attention
    mask, and WavLM's attention calls its projections.

    A checkpoint that already tells the same emotions apart (under whatever order and synonyms) keeps its classifier,
    with its rows in the order of `emotions`, unless the head is `linear`; any other classifier is replaced, and the log says so.

    Args:
        checkpoint (`str`): A folder or a name on the Hub, of one of [`FAMILIES`], or fine-tuned with this package.
        emotions (`Sequence[str]`): The emotions, in the order of the labels.
        head (`str`, defaults to `"stock"`): `linear`, `stock`, `batchnorm` or `conv`, see [`HEADS`]. A `linear` one has
            zeros until its probe is solved, see `hf_ser.training.probe`.
        weighted_layer_sum (`bool`, defaults to `False`): The head sees a learned average of all layers, not the last.
        mask_time_prob, mask_feature_prob (`float`, defaults to 0): SpecAugment's shares of masked frames and features in
            training. 0 masks nothing, whatever the checkpoint's configuration says.
        do_normalize (`bool`, *optional*): See [`load_feature_extractor`].

    Raises:
        ValueError: if the checkpoint cannot be loaded, is of another family, `head` is unknown, or the feature extractor has
            no `do_normalize`.
    """
    if head not in HEADS:
        raise ValueError(f"--head: {head!r} is none of {', '.join(HEADS)}")
    source = resolve_checkpoint(checkpoint)
    config = load_config(source)
    feature_extractor = load_feature_extractor(source, config, do_normalize)
    _set_spec_augment(encoder_config(config), mask_time_prob, mask_feature_prob)
    if _needs_own_class(config, head):
        if head == "batchnorm":
            raise ValueError(f"--head batchnorm is not made for {config.model_type}; choose linear, stock or conv")
        return _with_own_head(source, encoder_config(config), feature_extractor, emotions, head, weighted_layer_sum)
    trained_for = [canonical(config.id2label[i]) for i in range(len(config.id2label))]
    config.id2label = dict(enumerate(emotions))
    config.label2id = {emotion: i for i, emotion in enumerate(emotions)}
    # Whole layers left out at random fail with distributed training and with gradient checkpointing.
    encoder_config(config).layerdrop = 0.0
    if head == "linear":
        config.use_weighted_layer_sum, config.classifier_proj_size = True, len(emotions)
    config.use_weighted_layer_sum = config.use_weighted_layer_sum or weighted_layer_sum
    try:
        model, missing, mismatched = from_checkpoint(source, config)
    except OSError as error:
        raise ValueError(f"--model: the weights of {checkpoint!r} cannot be loaded: {error}") from error
    new = missing | mismatched
    if "layer_weights" in new:  # transformers leaves WavLM's and UniSpeech's as they come from memory
        torch.nn.init.constant_(model.layer_weights, 1 / len(model.layer_weights))
    if head == "linear":
        new |= {name for name, _ in model.named_parameters() if name.startswith(HEAD)}
    replaced = any(key.startswith("classifier.") for key in new)
    if not replaced and trained_for != list(emotions):
        # The base's own rows would come back under an adapter that did not bring these along.
        new |= {"classifier.weight", "classifier.bias"}
        replaced = not _reorder(model, trained_for, emotions)
        if replaced:
            # Not by the model's own _init_weights: it leaves alone whatever a checkpoint has filled.
            torch.nn.init.normal_(model.classifier.weight, std=config.initializer_range)
            torch.nn.init.zeros_(model.classifier.bias)
    # The embedding of masked frames is for training alone: a checkpoint that never masked may lack it.
    if stray := sorted(key for key in new if not key.startswith(HEAD) and not key.endswith(".masked_spec_embed")):
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
    if head == "linear":
        start_linear_head(model)
        new = renamed_by_linear_head(new)
    if head == "batchnorm":
        model.classifier = BatchNormClassifier(model.classifier, config.final_dropout)
        new = {key.replace("classifier.", "classifier.out_proj.") for key in new}
        new |= {f"classifier.batch_norm.{name}" for name in model.classifier.batch_norm.state_dict()}
    return Loaded(ready(model), feature_extractor, tuple(sorted(new)))


def _needs_own_class(config: PretrainedConfig, head: str) -> bool:
    """Whether a checkpoint of `config` gets its `head` in the package's own model class, with nothing of its own head."""
    if config.model_type == SpeechClassifierConfig.model_type:
        return head == "linear"
    return head == "conv" or config.model_type in OWN_CLASS


def renamed_by_linear_head(names: Iterable[str]) -> set[str]:
    """The names of parameters, of those of the projection as they are in training."""
    changed = {name.replace("projector.", "projector.linear.") for name in names}
    return changed | {"projector.mean", "projector.scale"}


def _set_spec_augment(encoder: PretrainedConfig, time: float, feature: float) -> None:
    """SpecAugment as it is asked for: the checkpoint's own would act under some methods only."""
    encoder.apply_spec_augment = time > 0 or feature > 0
    if encoder.apply_spec_augment:
        encoder.update({"mask_time_prob": time, "mask_feature_prob": feature})
        logger.info("SpecAugment in training: mask_time_prob %g, mask_feature_prob %g", time, feature)
    else:
        logger.info("SpecAugment is off (--mask_time_prob and --mask_feature_prob are 0)")


def _with_own_head(
    source: str,
    encoder: PretrainedConfig,
    feature_extractor: SequenceFeatureExtractor,
    emotions: Sequence[str],
    head: str,
    weighted_layer_sum: bool,
) -> Loaded:
    """A bare encoder in the package's own model class."""
    config = SpeechClassifierConfig(
        encoder=encoder,
        head=head,
        use_weighted_layer_sum=weighted_layer_sum,
        id2label=dict(enumerate(emotions)),
        label2id={emotion: i for i, emotion in enumerate(emotions)},
    )
    try:
        model, new = SpeechClassifier.from_encoder(source, config)
    except OSError as error:
        raise ValueError(f"--model: the weights of {source!r} cannot be loaded: {error}") from error
    logger.info("%s: a new %s head for %d emotions", source, head, len(emotions))
    if head == "linear":
        start_linear_head(model)
        new = tuple(sorted(renamed_by_linear_head(new)))
    return Loaded(ready(model), feature_extractor, new)


def ready(model: PreTrainedModel) -> PreTrainedModel:
    """Lets the encoder hear clips and not their padding, quickly on a CPU, and a LoRA on WavLM's projections train."""
    if not isinstance(model, SpeechClassifier):  # its encoders do so from the beginning
        hear_valid_frames(model.base_model)
    use_fourier_positions(model)
    return call_projections(model)


def open_on_base(base: str, config: PretrainedConfig) -> tuple[PreTrainedModel, set[str]]:
    """
    What an adapter is put on: its base model with the head of `config`.

    Args:
        base (`str`): The base model's folder: a bare encoder, or one with any head.
        config (`PretrainedConfig`): The adapter's.

    Returns:
        The model, and the names of the weights that the base does not have: random, and to be in the adapter.

    Raises:
        OSError: if the base cannot be read.
        ValueError: if the base lacks a weight of the encoder.
    """
    own_class = SpeechClassifierConfig.model_type
    if config.model_type == own_class and AutoConfig.from_pretrained(base).model_type != own_class:
        model, new = SpeechClassifier.from_encoder(base, config)
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
    if encoder_config(config).model_type not in FAMILIES:
        raise ValueError(f"--model: {source!r} is a {config.model_type}; found support for {', '.join(FAMILIES)}")
    return config


def load_feature_extractor(
    checkpoint: str, config: PretrainedConfig, do_normalize: bool | None = None
) -> SequenceFeatureExtractor:
    """
    The checkpoint's feature extractor, as it is saved with a model. It always returns the attention mask, with which the model
    is trained and evaluated: without it, padding counts as speech. Many checkpoints leave it out of
    `preprocessor_config.json`.

    With Whisper it is a [`SpeechFeatureExtractor`], which pads to the longest clip of a batch and not to 30 s.

    Args:
        checkpoint (`str`): A folder or a name on the Hub.
        config (`PretrainedConfig`): The model's configuration.
        do_normalize (`bool`, *optional*): Whether each waveform is scaled to zero mean and unit variance, by default as the
            checkpoint's feature extractor does.

    Raises:
        ValueError: if the checkpoint's sampling rate is not 16 kHz, or `do_normalize` is given and the feature extractor
            computes spectrograms.
    """
    whisper = encoder_config(config).model_type == "whisper"
    extractor = (SpeechFeatureExtractor if whisper else AutoFeatureExtractor).from_pretrained(checkpoint)
    if extractor.sampling_rate != SAMPLING_RATE:
        raise ValueError(
            f"{checkpoint}: its feature extractor wants {extractor.sampling_rate} Hz; {SAMPLING_RATE} are used here"
        )
    extractor.return_attention_mask = True
    if do_normalize is not None:
        if not isinstance(extractor, Wav2Vec2FeatureExtractor):
            raise ValueError(
                f"--do_normalize: {checkpoint} takes spectrograms ({type(extractor).__name__}), and only waveforms can be "
                "normalised; leave --do_normalize out"
            )
        extractor.do_normalize = do_normalize
    return extractor


def padding_changes_answers(config: PretrainedConfig) -> bool:
    """
    Whether transformers' own class of a model gives slightly different probabilities for a clip in a padded batch than for the
    clip alone: group norm takes its statistics over the padding too, and so do data2vec's positional convolutions. This
    package's encoders do not, see [`~hf_ser.models.remote.hear_valid_frames`].
    """
    return config.model_type == "data2vec-audio" or config.to_dict().get("feat_extract_norm") == "group"


def hears_thirty_seconds(config: PretrainedConfig) -> bool:
    """Whether a model is transformers' own Whisper, which takes 30 s and nothing else; the package's own hears the clip."""
    return config.model_type == "whisper"


def _reorder(model: PreTrainedModel, trained_for: Sequence[str], emotions: Sequence[str]) -> bool:
    """Puts the classifier's rows in the order of `emotions`; `False` if it was trained for others."""
    if sorted(trained_for) != sorted(emotions):
        return False
    order = [trained_for.index(emotion) for emotion in emotions]
    with torch.no_grad():
        model.classifier.weight.copy_(model.classifier.weight[order].clone())
        model.classifier.bias.copy_(model.classifier.bias[order].clone())
    return True
