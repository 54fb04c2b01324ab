"""HuBERT-SER's three methods (section 2.2): everything, LoRA on q/k/v, LoRA on the classifier."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from hf_ser.models import BatchNormClassifier, Loaded
from hf_ser.tuning.modes import parameter_counts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tuning:
    """How a model is fine-tuned; the fields' help says what each does."""

    method: str = field(
        default="full",
        metadata={
            "help": "What trains. full: every weight. lora_qkv: LoRA on the attention's query, key and value projections, "
            "and the head. lora_classifier: LoRA on the classifier alone.",
            "choices": ["full", "lora_qkv", "lora_classifier"],
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
    config = model.config
    if not (config.apply_spec_augment and config.mask_time_prob > 0):
        # The embedding of masked frames: unused, it would count as trained and stop distributed training.
        model.base_model.masked_spec_embed.requires_grad_(False)
    if tuning.freeze_feature_encoder:
        model.freeze_feature_encoder()
    return model


def lora_qkv(loaded: Loaded, tuning: Tuning) -> PeftModel:
    """
    LoRA on the projections of query, key and value in every layer; the head trains as a whole (section 2.2.2).

    Raises:
        ValueError: for WavLM, whose attention reads the projections' weights past the LoRA, so that it would not train.
    """
    targets = tuning.lora_target_modules or ["q_proj", "k_proj", "v_proj"]
    if loaded.model.config.model_type == "wavlm" and {"q_proj", "k_proj", "v_proj"} & set(targets):
        raise ValueError(
            "lora_qkv: WavLM's attention reads the weights of q_proj, k_proj and v_proj directly, so that a LoRA on them "
            "trains nothing. Use --lora_target_modules intermediate_dense output_dense, or another --method."
        )
    return _with_lora(loaded, tuning, targets, head=["projector", "classifier"])


def lora_classifier(loaded: Loaded, tuning: Tuning) -> PeftModel:
    """LoRA on the classifier; all else stays as it was loaded, or as it was drawn (section 2.2.3)."""
    if isinstance(loaded.model.classifier, BatchNormClassifier):
        return _with_lora(loaded, tuning, tuning.lora_target_modules or ["classifier.out_proj"], head=["batch_norm"])
    return _with_lora(loaded, tuning, tuning.lora_target_modules or ["classifier"], head=[])


def _with_lora(loaded: Loaded, tuning: Tuning, targets: list[str], head: list[str]) -> PeftModel:
    # No task type: PEFT's own guess of what to save beside the LoRA would leave out the projector.
    config = LoraConfig(
        r=tuning.lora_r,
        lora_alpha=tuning.lora_alpha,
        lora_dropout=tuning.lora_dropout,
        target_modules=targets,
        modules_to_save=head or None,
    )
    model = get_peft_model(loaded.model, config)
    if loaded.model.config.use_weighted_layer_sum:
        loaded.model.layer_weights.requires_grad_(True)
    return model


METHODS: dict[str, Callable[[Loaded, Tuning], PreTrainedModel | PeftModel]] = {
    "full": full,
    "lora_qkv": lora_qkv,
    "lora_classifier": lora_classifier,
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
