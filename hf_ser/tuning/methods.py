"""
HuBERT-SER's three methods (its section 2.2): everything, LoRA on q/k/v, LoRA on the classifier; and PEFT-SER's (its section
II-C): the head alone, LoRA on the feed-forward, adapter, parallel adapter, prompt.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from hf_ser.features import encoder_config
from hf_ser.models import BatchNormClassifier, Loaded
from hf_ser.tuning.modes import parameter_counts
from hf_ser.tuning.registration import BottleneckConfig, PromptConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tuning:
    """How a model is fine-tuned; the fields' help says what each does."""

    method: str = field(
        default="full",
        metadata={
            "help": "What trains. full: every weight. head: the head alone. lora_qkv: LoRA on the attention's query, key and "
            "value projections, and the head. lora_classifier: LoRA on the classifier alone. lora_ff: LoRA on the "
            "feed-forward, and the head. adapter, parallel_adapter: a bottleneck after or beside every feed-forward, and the "
            "head. prompt: embeddings before every layer, and the head.",
            "choices": [
                "full",
                "head",
                "lora_qkv",
                "lora_classifier",
                "lora_ff",
                "adapter",
                "parallel_adapter",
                "prompt",
            ],
        },
    )
    freeze_feature_encoder: bool = field(
        default=False, metadata={"help": "With full: leave the convolutional feature encoder as it is."}
    )
    lora_r: int = field(default=8, metadata={"help": "LoRA's rank."})
    lora_alpha: int = field(default=16, metadata={"help": "LoRA's scale: its update is multiplied by alpha / rank."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout before LoRA's first matrix, in training."})
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={"help": "The modules that get a LoRA, by the ends of their names, in place of the method's own."},
    )
    bottleneck_size: int = field(
        default=128, metadata={"help": "Features between the two projections of adapter and parallel_adapter."}
    )
    prompt_length: int = field(default=5, metadata={"help": "Embeddings before each layer, of prompt."})


@dataclass(frozen=True)
class Tuned:
    """
    A model of which the right parameters train.

    Args:
        model (`PreTrainedModel` or `PeftModel`): The model.
        new (`tuple[str, ...]`): Names of the parameters (within the untuned model) that no checkpoint supplies, and
            that an adapter must therefore bring along, trained or not.
    """

    model: PreTrainedModel | PeftModel
    new: tuple[str, ...]


def full(loaded: Loaded, tuning: Tuning) -> PreTrainedModel:
    """Every weight trains, but for those that no input can move (section 2.2.1)."""
    model = loaded.model
    config = encoder_config(model.config)
    if config.model_type != "whisper" and not (config.apply_spec_augment and config.mask_time_prob > 0):
        # The embedding of masked frames: unused, it would count as trained and stop distributed training.
        model.base_model.masked_spec_embed.requires_grad_(False)
    if tuning.freeze_feature_encoder:
        model.freeze_feature_encoder()
    return model


def head(loaded: Loaded, tuning: Tuning) -> PreTrainedModel:
    """The head trains, on an encoder that stays as it is (PEFT-SER, its "downstream" model)."""
    loaded.model.base_model.requires_grad_(False)
    return loaded.model


def lora_qkv(loaded: Loaded, tuning: Tuning) -> PeftModel:
    """LoRA on the projections of query, key and value in every layer; the head trains as a whole (section 2.2.2)."""
    return _with_lora(
        loaded, tuning, tuning.lora_target_modules or ["q_proj", "k_proj", "v_proj"], head_modules(loaded)
    )


def lora_ff(loaded: Loaded, tuning: Tuning) -> PeftModel:
    """
    LoRA on both matrices of the feed-forward in every layer, and the head (PEFT-SER, section II-C: "which applies to
    feed-forward layers"). That is 0.74 M of rank 8 on 12 layers of 768; its Table IV has the 0.37 M of one of the two.
    """
    return _with_lora(loaded, tuning, tuning.lora_target_modules or feed_forward(loaded), head_modules(loaded))


def lora_classifier(loaded: Loaded, tuning: Tuning) -> PeftModel:
    """LoRA on the classifier; all else stays as it was loaded, or as it was drawn (section 2.2.3)."""
    if isinstance(loaded.model.classifier, BatchNormClassifier):
        return _with_lora(loaded, tuning, tuning.lora_target_modules or ["classifier.out_proj"], ["batch_norm"])
    return _with_lora(loaded, tuning, tuning.lora_target_modules or ["classifier"], [])


def adapter(loaded: Loaded, tuning: Tuning) -> PeftModel:
    """A bottleneck after the feed-forward of every layer, and the head (PEFT-SER, section II-C)."""
    return _with_bottleneck(loaded, tuning, "sequential")


def parallel_adapter(loaded: Loaded, tuning: Tuning) -> PeftModel:
    """A bottleneck beside the feed-forward of every layer, and the head (PEFT-SER, section II-C)."""
    return _with_bottleneck(loaded, tuning, "parallel")


def prompt(loaded: Loaded, tuning: Tuning) -> PeftModel:
    """Trainable embeddings before every layer, taken off after it, and the head (PEFT-SER, equation 2)."""
    return _with_peft(loaded, PromptConfig(prompt_length=tuning.prompt_length, modules_to_save=head_modules(loaded)))


def head_modules(loaded: Loaded) -> list[str]:
    """The modules of the head, by their names in the model."""
    return [name for name, _ in loaded.model.named_children() if name in ("projector", "hidden", "classifier")]


def feed_forward(loaded: Loaded) -> list[str]:
    """The two matrices of a layer's feed-forward, by the ends of their names."""
    family = encoder_config(loaded.model.config).model_type
    return ["fc1", "fc2"] if family == "whisper" else ["intermediate_dense", "output_dense"]


def _with_lora(loaded: Loaded, tuning: Tuning, targets: list[str], head: list[str]) -> PeftModel:
    # No task type: PEFT's own guess of what to save beside the LoRA would leave out the projector.
    config = LoraConfig(
        r=tuning.lora_r,
        lora_alpha=tuning.lora_alpha,
        lora_dropout=tuning.lora_dropout,
        target_modules=targets,
        modules_to_save=head or None,
    )
    return _with_peft(loaded, config)


def _with_bottleneck(loaded: Loaded, tuning: Tuning, placement: str) -> PeftModel:
    config = BottleneckConfig(
        bottleneck_size=tuning.bottleneck_size, placement=placement, modules_to_save=head_modules(loaded)
    )
    return _with_peft(loaded, config)


def _with_peft(loaded: Loaded, config: PeftConfig) -> PeftModel:
    model = get_peft_model(loaded.model, config)
    if loaded.model.config.use_weighted_layer_sum:
        loaded.model.layer_weights.requires_grad_(True)
    return model


METHODS: dict[str, Callable[[Loaded, Tuning], PreTrainedModel | PeftModel]] = {
    "full": full,
    "head": head,
    "lora_qkv": lora_qkv,
    "lora_classifier": lora_classifier,
    "lora_ff": lora_ff,
    "adapter": adapter,
    "parallel_adapter": parallel_adapter,
    "prompt": prompt,
}


def tune(loaded: Loaded, tuning: Tuning) -> Tuned:
    """
    Makes the parameters of `tuning.method` trainable and all others frozen, and logs how many train of how many.

    Raises:
        ValueError: if the method is unknown or does not fit the model.
    """
    if tuning.method not in METHODS:
        raise ValueError(f"--method: {tuning.method!r} is none of {', '.join(METHODS)}")
    model = METHODS[tuning.method](loaded, tuning)
    trainable, total = parameter_counts(model)
    logger.info(
        "%s: %s of %s parameters train (%.3g %%)",
        tuning.method,
        f"{trainable:,}",
        f"{total:,}",
        100 * trainable / total,
    )
    layer_weights = ("layer_weights",) if loaded.model.config.use_weighted_layer_sum else ()
    return Tuned(model, (*loaded.new, *layer_weights))
