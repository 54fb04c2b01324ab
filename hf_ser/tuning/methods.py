"""
HuBERT-SER's three methods (its section 2.2): everything, LoRA on q/k/v, LoRA on the classifier; and PEFT-SER's (its section
II-C): the head alone, LoRA on the feed-forward, adapter, parallel adapter, prompt. Methods that are tuners of PEFT can be
combined.
"""

import copy
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedModel

from hf_ser.command_line import option, require_choices
from hf_ser.modeling import BatchNormClassifier, Loaded, SERForAudioClassification
from hf_ser.modeling.families import WAVEFORM, encoder_config, family_of, masks_frames
from hf_ser.tuning.adapter_files import fingerprint, trained_module
from hf_ser.tuning.bottleneck import BottleneckConfig
from hf_ser.tuning.combined import CombinedConfig, type_name
from hf_ser.tuning.layer_tuner import LayerTunerConfig
from hf_ser.tuning.prompt import DeepPromptConfig
from hf_ser.wording import listed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tuning:
    """How a model is fine-tuned. Each field has its help."""

    method: str = option(
        "full",
        help="What trains. full: every weight but the convolutions (see freeze_feature_encoder). frozen: the head alone. "
        "probe: nothing by gradient steps; the linear head is a solved logistic regression. lora_qkv: LoRA on the "
        "attention's query, key and value projections, and the head. lora_classifier: LoRA on the classifier alone. lora_ff: "
        "LoRA on the feed-forward, and the head. adapter, parallel_adapter: a bottleneck after or beside every feed-forward, "
        "and the head. prompt: embeddings before every layer, and the head. Or another tuner of PEFT by its name (ia3, "
        "adalora, vera, ln_tuning, oft ...), and the head. Methods joined by + train together: adapter+prompt+lora_ff.",
    )
    peft_arguments: dict[str, Any] | str | None = option(
        None,
        help="Further arguments of the method's PEFT configuration, as JSON: '{\"use_dora\": true}', '{\"use_rslora\": true}' or "
        '\'{"init_lora_weights": "pissa"}\' with the LoRA methods, \'{"r": 4}\' with oft. For combined methods, by their names: '
        '\'{"lora_ff": {"use_dora": true}}\'.',
    )
    freeze_feature_encoder: bool = option(True, help="With full: freeze the convolutional feature encoder.")
    lora_r: int = option(8, help="LoRA's rank.")
    lora_alpha: int = option(16, help="LoRA's scale: alpha / rank is the factor of its update.")
    lora_dropout: float = option(0.05, help="Dropout before LoRA's first matrix, in training.")
    lora_target_modules: list[str] | None = option(
        None, help="The modules that get a LoRA, by the ends of their names, instead of the method's own."
    )
    bottleneck_size: int = option(128, help="Features between the two projections of adapter and parallel_adapter.")
    prompt_length: int = option(5, help="Embeddings before each layer, of prompt.")
    prompt_start: str = option(
        "frames",
        help="Where prompts start. frames: beside the mean frame of some training clips, so that the encoder's output hardly "
        "changes. random: small random numbers, as in PEFT-SER, which change it much.",
        choices=["frames", "random"],
    )
    #: A configuration of PEFT in place of the method's own.
    config: PeftConfig | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        require_choices(self)
        for name in self.methods:
            if name not in METHODS and name.upper() not in PEFT_TYPE_TO_CONFIG_MAPPING:
                raise ValueError(
                    f"method={name!r}: expected one of {', '.join(METHODS)}, or a tuner of PEFT (ia3, adalora, vera, ln_tuning, "
                    "oft ...)"
                )
        given = self.peft_arguments
        if isinstance(given, str):
            try:
                given = json.loads(given)
            except ValueError as error:
                raise ValueError(f"peft_arguments={given!r}: expected JSON: {error}") from error
            object.__setattr__(self, "peft_arguments", given)
        if given is not None and not isinstance(given, dict):
            raise ValueError(f"peft_arguments={given!r}: expected a JSON object")
        if len(self.methods) > 1:
            self._check_combination(given or {})

    @classmethod
    def of(cls, method: "str | PeftConfig | Tuning | None") -> "Tuning":
        """From a method's name or any configuration of PEFT; `None` is full fine-tuning."""
        if isinstance(method, Tuning):
            return method
        if not isinstance(method, PeftConfig):
            return cls(method or "full")
        tuning = cls(type_name(method.peft_type).lower())
        object.__setattr__(tuning, "config", method)
        return tuning

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that train together; usually one."""
        return tuple(self.method.split("+"))

    def _check_combination(self, given: dict[str, Any]) -> None:
        names = self.methods
        if alone := [name for name in names if name in ALONE]:
            raise ValueError(f"method={self.method!r}: {alone[0]} cannot be combined with others")
        if len(set(names)) < len(names) or {"adapter", "parallel_adapter"} <= set(names):
            raise ValueError(f"method={self.method!r}: found two adapters of one kind for each layer, expected one")
        if self.lora_target_modules and sum(name.startswith("lora_") for name in names) > 1:
            raise ValueError(
                f"lora_target_modules with method={self.method!r}: expected one LoRA method, with all targets"
            )
        for name, own in given.items():
            if name not in names or not isinstance(own, dict):
                raise ValueError(
                    f"peft_arguments: found {name!r}, expected the arguments of combined methods by the methods' names, "
                    f'{{"{names[0]}": {{...}}}}'
                )

    def arguments(self, method: str) -> dict[str, Any]:
        """The `peft_arguments` of one of the methods."""
        given = self.peft_arguments or {}
        assert isinstance(given, dict)
        return given.get(method, {}) if len(self.methods) > 1 else given


@dataclass(frozen=True)
class Tuned:
    """
    A model with the method's parameters trainable and all others frozen.

    Args:
        model (`PreTrainedModel` or `PeftModel`): The model.
        new (`tuple[str, ...]`): The names of the parameters (within the untuned model) that no checkpoint contains. An adapter
            must contain them, trained or not.
        keeps_base (`bool`, defaults to `True`): Whether the encoder's own weights are still those of the checkpoint. PiSSA and
            similar methods subtract the adapter's first weights from them, so that the adapter does not fit the checkpoint.
    """

    model: PreTrainedModel | PeftModel
    new: tuple[str, ...]
    keeps_base: bool = True


def full(loaded: Loaded, tuning: Tuning) -> PreTrainedModel:
    """Every weight trains, except those that never get a gradient (section 2.2.1)."""
    model = loaded.model
    config = encoder_config(model.config)
    if not masks_frames(config):
        # The embedding of masked frames is unused: it would count as trained, and distributed training would fail.
        embedding = getattr(model.base_model, "masked_spec_embed", None)  # there is none where nothing is ever masked
        if embedding is not None:
            embedding.requires_grad_(False)
    averages = model.config.use_weighted_layer_sum and not isinstance(model, SERForAudioClassification)
    if averages and family_of(config).normalises_first(config):
        # transformers averages the layers without the norm after the last one.
        model.base_model.encoder.layer_norm.requires_grad_(False)
    if tuning.freeze_feature_encoder and family_of(config).front:
        model.freeze_feature_encoder()
    elif family_of(config).inputs is WAVEFORM:
        # transformers computes the gradient of the samples, too, which takes longer than that of the first convolution.
        model.base_model.feature_extractor._requires_grad = False
    return model


def frozen(loaded: Loaded, tuning: Tuning) -> PreTrainedModel:
    """The head trains, on a frozen encoder (PEFT-SER, its "downstream" model)."""
    loaded.model.base_model.requires_grad_(False)
    return loaded.model


#: A tuner of PEFT and its settings.
Part = tuple[type[PeftConfig], dict[str, Any]]


def lora_qkv(loaded: Loaded, tuning: Tuning) -> Part:
    """LoRA on the projections of query, key and value in every layer; the head trains as a whole (section 2.2.2)."""
    return _lora(tuning, family_of(loaded.model.config).attention[:3])


def lora_ff(loaded: Loaded, tuning: Tuning) -> Part:
    """
    LoRA on both matrices of the feed-forward in every layer, and the head (PEFT-SER, section II-C: "which applies to
    feed-forward layers"). That is 0.74 M of rank 8 on 12 layers of 768; its Table IV has the 0.37 M of one of the two.
    """
    return _lora(tuning, family_of(loaded.model.config).feed_forward)


def lora_classifier(loaded: Loaded, tuning: Tuning) -> Part:
    """LoRA on the classifier; all other weights are frozen, also random ones of the head (section 2.2.3)."""
    batch_norm = isinstance(loaded.model.classifier, BatchNormClassifier)
    return _lora(tuning, ["classifier.out_proj" if batch_norm else "classifier"])


def adapter(loaded: Loaded, tuning: Tuning) -> Part:
    """A bottleneck after the feed-forward of every layer, and the head (PEFT-SER, section II-C)."""
    return BottleneckConfig, {"bottleneck_size": tuning.bottleneck_size, "placement": "sequential"}


def parallel_adapter(loaded: Loaded, tuning: Tuning) -> Part:
    """A bottleneck beside the feed-forward of every layer, and the head (PEFT-SER, section II-C)."""
    return BottleneckConfig, {"bottleneck_size": tuning.bottleneck_size, "placement": "parallel"}


def prompt(loaded: Loaded, tuning: Tuning) -> Part:
    """Trainable embeddings before every layer, removed after it, and the head (PEFT-SER, equation 2)."""
    return DeepPromptConfig, {"prompt_length": tuning.prompt_length}


def head_modules(model: PreTrainedModel) -> list[str]:
    """The layers of the head that have weights, by their names in the model."""
    names: list[str] = []
    for name, module in model.named_children():
        if name in ("projector", "hidden", "classifier"):
            # The layers of a Sequential one by one: PEFT does not merge it as a whole.
            row = [f"{name}.{child}" for child, layer in module.named_children() if list(layer.parameters())]
            names += row if isinstance(module, nn.Sequential) else [name]
    return names


def require_layer_tuner(method: str, config: type[PeftConfig]) -> None:
    """
    Raises:
        ValueError: if a tuner of PEFT is made for text, and takes no modules of an encoder.
    """
    if not {"target_modules", "modules_to_save"} <= {each.name for each in fields(config)}:
        raise ValueError(
            f"method={method!r}: expected a tuner that fits an encoder of speech, as ia3, adalora, vera or oft"
        )


def named(loaded: Loaded, method: str) -> Part:
    """
    Another tuner of PEFT by its name, on every linear layer of the encoder unless `peft_arguments` say otherwise, and the head.
    The package's own have targets of their own.
    """
    kind = method.upper()
    config = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    require_layer_tuner(method, config)
    if issubclass(config, LayerTunerConfig | CombinedConfig):
        return config, {}
    family = family_of(loaded.model.config)
    settings: dict[str, Any] = {"target_modules": [*family.attention, *family.feed_forward]}
    if kind == "IA3":
        settings["feedforward_modules"] = list(family.feed_forward)
    if kind == "LN_TUNING":
        # Only those of the layers: in a group-norm encoder the norm of the first convolution is called layer_norm, too.
        settings["target_modules"] = rf"{family.layers}\.([a-z0-9_]+_)?layer_norm"
    if kind == "VERA":
        # It shares one pair of matrices, and therefore needs layers of one shape.
        settings["target_modules"] = list(family.attention)
    if kind == "ADALORA":
        settings["total_step"] = 1_000_000  # the Trainer sets the true number
    return config, settings


def _lora(tuning: Tuning, targets: Iterable[str]) -> Part:
    # No task type: with one, PEFT would not save the projector.
    return LoraConfig, {
        "r": tuning.lora_r,
        "lora_alpha": tuning.lora_alpha,
        "lora_dropout": tuning.lora_dropout,
        "target_modules": tuning.lora_target_modules or list(targets),
    }


def configuration(loaded: Loaded, tuning: Tuning) -> PeftConfig:
    """
    The methods as a configuration of PEFT: LoRA methods become one LoRA, other combinations a [`CombinedConfig`]. The head
    trains as a whole, unless it has a LoRA.

    Raises:
        ValueError: if the methods do not fit the model or each other, or PEFT refuses their arguments.
    """
    batch_norm = isinstance(loaded.model.classifier, BatchNormClassifier)
    if tuning.config is not None:
        config = copy.deepcopy(tuning.config)
        require_layer_tuner(tuning.method, type(config))
        config.modules_to_save = config.modules_to_save or head_modules(loaded.model)
        if config.target_modules is None and not isinstance(config, LayerTunerConfig):
            config.target_modules = list(family_of(loaded.model.config).attention[:3])
            logger.info("target_modules: not given, so %s", listed(config.target_modules))
        return config
    if tuning.peft_arguments and batch_norm:
        raise ValueError(
            "peft_arguments: head='batchnorm' needs plain LoRA; choose head='stock' or 'conv', or leave them out"
        )
    parts: dict[type[PeftConfig], dict[str, Any]] = {}
    for name in tuning.methods:
        config, settings = ADAPTERS[name](loaded, tuning) if name in ADAPTERS else named(loaded, name)
        settings |= tuning.arguments(name)
        if before := parts.get(config):
            targets = [given.pop("target_modules", None) for given in (before, settings)]
            if before != settings or not all(isinstance(target, list) for target in targets):
                raise ValueError(
                    f"peft_arguments: {tuning.method} is one {config.__name__}, and needs the same arguments for each method"
                )
            settings["target_modules"] = targets[0] + targets[1]
        parts[config] = settings
    if "lora_classifier" not in tuning.methods:
        whole = head_modules(loaded.model)
    elif batch_norm and len(parts) > 1:
        raise ValueError(f"head='batchnorm': expected stock or conv with method={tuning.method!r}")
    else:
        whole = ["batch_norm"] if batch_norm else []
    if len(parts) > 1:
        made = [config(**settings) for config, settings in parts.items()]
        return CombinedConfig(parts=made, modules_to_save=whole or None)
    [(config, settings)] = parts.items()
    return config(**{"modules_to_save": whole or None, **settings})


#: The tuners whose adapters can be merged into the encoder's weights, by PEFT's names; the others stay adapters.
MERGEABLE = frozenset({"ADALORA", "BOFT", "IA3", "LN_TUNING", "LOHA", "LOKR", "LORA", "OFT", "VERA"})


def mergeable(model: PeftModel) -> bool:
    """Whether an adapter can be merged into the encoder's weights."""
    return type_name(model.peft_config["default"].peft_type) in MERGEABLE


def merge(model: PeftModel) -> PreTrainedModel:
    """The model with its adapter merged into the encoder's weights, and nothing of PEFT around any module."""
    merged = model.merge_and_unload()
    for name, module in list(merged.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):  # some tuners leave them
            parent, _, last = name.rpartition(".")
            setattr(merged.get_submodule(parent), last, trained_module(module))
    return merged


#: The methods that add nothing to the model.
PLAIN: dict[str, Callable[[Loaded, Tuning], PreTrainedModel]] = {"full": full, "frozen": frozen, "probe": frozen}
#: Those that are tuners of PEFT.
ADAPTERS: dict[str, Callable[[Loaded, Tuning], Part]] = {
    "lora_qkv": lora_qkv,
    "lora_classifier": lora_classifier,
    "lora_ff": lora_ff,
    "adapter": adapter,
    "parallel_adapter": parallel_adapter,
    "prompt": prompt,
}
METHODS = (*PLAIN, *ADAPTERS)
#: Methods that cannot be combined: they add nothing, share something between layers, or change during training.
ALONE = (*PLAIN, "adalora", "vera", "combined")


def apply(loaded: Loaded, tuning: Tuning) -> PreTrainedModel | PeftModel:
    """
    The model with the parameters of `tuning.method` trainable and all others frozen.

    Raises:
        ValueError: see [`configuration`].
    """
    if plain := PLAIN.get(tuning.method):
        if tuning.peft_arguments:
            raise ValueError(f"peft_arguments with method={tuning.method!r}: expected a method of PEFT")
        return plain(loaded, tuning)
    try:
        model = get_peft_model(loaded.model, configuration(loaded, tuning))
    except (TypeError, ValueError) as error:
        raise ValueError(f"method={tuning.method!r}: {error}") from error
    if loaded.model.config.use_weighted_layer_sum and "lora_classifier" not in tuning.methods:
        loaded.model.layer_weights.requires_grad_(True)  # a part of the head, which PEFT has frozen
    return model


def tune(loaded: Loaded, tuning: Tuning) -> Tuned:
    """
    Makes the parameters of `tuning.method` trainable and all others frozen, and logs how many train of how many.

    Raises:
        ValueError: if the method is unknown or does not fit the model, or SpecAugment is on and the encoder is frozen.
    """
    before = fingerprint(loaded.model)
    model = apply(loaded, tuning)
    encoder = loaded.model.base_model
    if encoder.config.apply_spec_augment and not any(p.requires_grad for p in encoder.parameters()):
        raise ValueError(
            f"mask_time_prob, mask_feature_prob: found more than 0, expected 0: method={tuning.method!r} freezes the encoder, "
            "which then runs in eval mode and masks nothing"
        )
    trainable, total = parameter_counts(model)
    share = 100 * trainable / total
    logger.info("%s: %s of %s parameters train (%.3g %%)", tuning.method, f"{trainable:,}", f"{total:,}", share)
    weighted = loaded.model.config.use_weighted_layer_sum and loaded.model.layer_weights.requires_grad
    layer_weights = ("layer_weights",) if weighted else ()
    # An adapter with trained biases of the encoder (PEFT's `bias`) fits no other encoder.
    bias = getattr(getattr(model, "peft_config", {}).get("default"), "bias", None)
    keeps_base = fingerprint(loaded.model) == before and bias in ("none", None, False)
    return Tuned(model, (*loaded.new, *layer_weights), keeps_base)


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """The trainable and all parameters of a model, without the copies that PEFT keeps of the modules it trains whole."""
    parameters = [(name, p) for name, p in model.named_parameters() if ".original_module." not in name]
    return sum(p.numel() for _, p in parameters if p.requires_grad), sum(p.numel() for _, p in parameters)


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """
    The largest modules in which no parameter trains. They stay in eval mode during training, because they would apply dropout and
    masks. Modules without parameters (dropout, activations) belong to the module around them.
    """
    if not any(p.requires_grad for p in model.parameters()):
        return [model]
    children = [child for child in model.children() if any(True for _ in child.parameters())]
    return [frozen for child in children for frozen in frozen_modules(child)]
