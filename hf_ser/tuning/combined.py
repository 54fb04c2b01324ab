"""Several tuners as one adapter: LoRA with bottlenecks, prompts, or other tuners of PEFT, as a PEFT tuner."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import torch
from accelerate import init_empty_weights
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.constants import DUMMY_TARGET_MODULES
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from hf_ser.tuning.layer_tuner import LayerTuner

#: The fields that only the combination has, and not its parts.
SHARED = {"modules_to_save", *(each.name for each in fields(PeftConfig))} - {"peft_type"}
#: Bottlenecks are around a feed-forward with its other adapters, and prompts around whole layers.
OUTSIDE = ("BOTTLENECK", "DEEP_PROMPT")


@dataclass
class CombinedConfig(PeftConfig):
    """
    Several tuners that train together and are one adapter (PEFT-SER's own code has such a mode; HuBERT-SER's limitations name
    it as further work). PEFT's own mixed models are for inference and cannot be saved.

    The order of `parts` has no effect: the order of their layers depends only on their types.

    Args:
        parts (`list[PeftConfig]` or `list[dict]`): The tuners, each of another type, without `modules_to_save`.
        modules_to_save (`list[str]`, *optional*): Modules that train as a whole and are saved with the adapter.

    Raises:
        ValueError: if there are fewer than two parts, two of one type, or one that cannot be combined: prompt learning for
            text, and tuners that share something between layers (VeRA) or change during training (AdaLoRA).
    """

    parts: list[Any] = field(default_factory=list)
    modules_to_save: list[str] | None = None
    target_modules: str = DUMMY_TARGET_MODULES  # PEFT requires some; the parts have their own

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "COMBINED"
        self.parts = sorted((_plain(part) for part in self.parts), key=lambda part: order(part["peft_type"]))
        kinds = [part["peft_type"] for part in self.parts]
        if len(set(kinds)) < max(len(kinds), 2):
            raise ValueError(f"parts: found {', '.join(kinds) or 'none'}, expected two or more, each of another type")
        for kind in kinds:
            tuner = PEFT_TYPE_TO_TUNER_MAPPING.get(kind)
            if tuner is None or not issubclass(tuner, BaseTuner) or tuner.uses_shared_state or kind == "ADALORA":
                raise ValueError(f"parts: {kind} cannot be combined with others")


def order(kind: str) -> tuple[int, str]:
    """The key by which types of PEFT are sorted, from the one next to the layer's own weights to the outermost."""
    return (1 + OUTSIDE.index(kind) if kind in OUTSIDE else 0, kind)


def type_name(kind: Any) -> str:
    """The name of one of PEFT's types, which are an enumeration, or of the package's own, which are strings."""
    return str(getattr(kind, "value", kind))


def _plain(part: PeftConfig | dict[str, Any]) -> dict[str, Any]:
    """A configuration in JSON's types, without the fields of the combination."""
    given = part.to_dict() if isinstance(part, PeftConfig) else dict(part)
    kind = type_name(given.get("peft_type"))
    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise ValueError(f"parts: {kind!r} is no type of PEFT")
    if given.get("modules_to_save"):
        raise ValueError(f"modules_to_save: give {given['modules_to_save']} to the combination, not to {kind}")
    if given.get("bias") not in ("none", None, False):
        raise ValueError(f"bias={given['bias']!r}: combinations train no biases; leave it out of {kind}")
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in given.items()}
    return {**{key: value for key, value in plain.items() if key not in SHARED}, "peft_type": kind}


class CombinedModel(LayerTuner):
    """
    Puts several tuners into a model, which are one adapter: they are named, saved, loaded, switched on and off together.

    If several are around the same module, their order depends only on their types, so that an adapter computes the same with any
    others. The parts replace their own targets. [`~hf_ser.tuning.layer_tuner.LayerTuner`] has the arguments.

    Example:

    ```python
    >>> from peft import LoraConfig, get_peft_model
    >>> from transformers import AutoModelForAudioClassification

    >>> from hf_ser.tuning import BottleneckConfig, CombinedConfig, DeepPromptConfig

    >>> model = AutoModelForAudioClassification.from_pretrained("microsoft/wavlm-base-plus")
    >>> lora = LoraConfig(target_modules=["intermediate_dense", "output_dense"])
    >>> parts = [lora, BottleneckConfig(), DeepPromptConfig()]
    >>> model = get_peft_model(model, CombinedConfig(parts=parts, modules_to_save=["projector", "classifier"]))
    ```
    """

    prefix = "combined_"  # no parameter has it: PEFT finds the weights of the adapter by their layers
    tuner_layer_cls = BaseTunerLayer
    _unmergeable = "a combination of tuners is no single change of weights"

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,
        low_cpu_mem_usage: bool = False,
        state_dict: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """
        Raises:
            ValueError: if there is no place in the model for one of the tuners.
        """
        first = not any(isinstance(module, BaseTunerLayer) for module in model.modules())
        config: CombinedConfig = self.peft_config[adapter_name]
        parts = [PeftConfig.from_peft_type(**part, inference_mode=config.inference_mode) for part in config.parts]
        with init_empty_weights() if low_cpu_mem_usage else nullcontext():
            for part in parts:  # innermost first
                self._inject(part, model, adapter_name)
        if first:
            # The call below freezes nothing where there are adapters already.
            self._mark_only_adapters_as_trainable(model)
        super().inject_adapter(model, adapter_name, autocast_adapter_dtype, low_cpu_mem_usage, None)

    def _inject(self, part: PeftConfig, model: nn.Module, adapter_name: str) -> None:
        kind = type_name(part.peft_type)
        tuner_cls = PEFT_TYPE_TO_TUNER_MAPPING[kind]
        # Without its __init__, which walks over the model and skips modules within the layers of other tuners.
        tuner = tuner_cls.__new__(tuner_cls)
        nn.Module.__init__(tuner)
        tuner.peft_config = {adapter_name: part}
        tuner.active_adapter = self.active_adapter
        object.__setattr__(tuner, "model", model)
        tuner.targeted_module_names, tuner.targeted_parameter_names = [], []
        part = tuner._prepare_adapter_config(part, self.get_model_config(model))
        tuner._prepare_model(part, model)
        # All are found before the first is replaced.
        names = dict.fromkeys(place.name for place in places(model))
        found = [name for name in names if tuner._check_target_module_exists(part, name)]
        if not found:
            raise ValueError(f"target_modules={part.target_modules}: {kind} finds none of them in the model")
        for name in found:
            at = next(place for place in places(model) if place.name == name and _goes_around(kind, place.module))
            tuner._create_and_replace(part, adapter_name, at.module, at.child, at.parent, current_key=name)
        self.targeted_module_names += [name for name in found if name not in self.targeted_module_names]

    def _unload_and_optionally_merge(self, merge: bool = True, *args: Any, **kwargs: Any) -> Any:
        if merge:
            self._check_merge_allowed()
        # Each call removes the outermost layers.
        while any(isinstance(module, BaseTunerLayer) for module in self.model.modules()):
            super()._unload_and_optionally_merge(False, *args, **kwargs)
        return super()._unload_and_optionally_merge(False, *args, **kwargs)


class Place(NamedTuple):
    """A module, its name in the model without adapters, its parent, and its name there."""

    name: str
    parent: nn.Module
    child: str
    module: nn.Module


def places(module: nn.Module, name: str = "") -> Iterator[Place]:
    """
    The modules within a model. The layers of tuners around a module have its name, and come first, from the outermost one on.
    Other modules in such a layer are left out, and so are those in a module that PEFT trains as a whole.
    """
    around = isinstance(module, BaseTunerLayer)
    for child_name, child in module.named_children():
        if around and child_name != "base_layer":
            continue
        at = name if around else f"{name}.{child_name}".lstrip(".")
        yield Place(at, module, child_name, child)
        if not isinstance(child, AuxiliaryTrainingWrapper):
            yield from places(child, at)


def _goes_around(kind: str, module: nn.Module) -> bool:
    """Whether a tuner's layer goes around `module`, or `module` is its layer already and gets one more adapter."""
    if not isinstance(module, BaseTunerLayer):
        return True
    layers = {k: getattr(cls, "tuner_layer_cls", ()) for k, cls in PEFT_TYPE_TO_TUNER_MAPPING.items()}
    own = next(k for k, layer in layers.items() if isinstance(module, layer) and layer is not BaseTunerLayer)
    return order(type_name(own)) <= order(kind)
