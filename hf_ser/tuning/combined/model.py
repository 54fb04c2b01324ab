"""Several tuners in a model, as one adapter."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from accelerate import init_empty_weights
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from hf_ser.tuning.combined.config import CombinedConfig, order


class CombinedModel(BaseTuner):
    """
    Puts several tuners into a model, which are one adapter: they are named, saved, loaded, switched on and off together.

    Where several meet, they lie within each other in an order that depends on their types alone (see [`CombinedConfig`]), so
    that an adapter computes the same whichever others are beside it.

    Args:
        model (`nn.Module`): The model, changed in place. It may hold the encoder anywhere within it.
        config (`CombinedConfig`): The tuners.
        adapter_name (`str`): Their name.
        low_cpu_mem_usage (`bool`, *optional*, defaults to `False`): Make the weights on the meta device.

    Example:

    ```python
    >>> from peft import LoraConfig, get_peft_model
    >>> from transformers import AutoModelForAudioClassification

    >>> from hf_ser.tuning import BottleneckConfig, CombinedConfig, PromptConfig

    >>> model = AutoModelForAudioClassification.from_pretrained("microsoft/wavlm-base-plus")
    >>> lora = LoraConfig(target_modules=["intermediate_dense", "output_dense"])
    >>> parts = [lora, BottleneckConfig(), PromptConfig()]
    >>> model = get_peft_model(model, CombinedConfig(parts=parts, modules_to_save=["projector", "classifier"]))
    ```
    """

    prefix = "combined_"  # nothing is named so: PEFT finds an adapter's weights by the layers that they are in
    tuner_layer_cls = BaseTunerLayer

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
        with init_empty_weights() if low_cpu_mem_usage else nullcontext():
            for part in config.configurations():
                self._inject(part, model, adapter_name)
        if first:
            self._mark_only_adapters_as_trainable(
                model
            )  # below PEFT leaves alone what there is beside earlier adapters
        super().inject_adapter(model, adapter_name, autocast_adapter_dtype, low_cpu_mem_usage, None)

    def _inject(self, part: PeftConfig, model: nn.Module, adapter_name: str) -> None:
        kind = str(getattr(part.peft_type, "value", part.peft_type))
        tuner_cls = PEFT_TYPE_TO_TUNER_MAPPING[kind]
        # The tuner as it would be if it were alone, but without its own walk over the model: that passes over what lies
        # within other tuners' layers.
        tuner = tuner_cls.__new__(tuner_cls)
        nn.Module.__init__(tuner)
        tuner.peft_config = {adapter_name: part}
        tuner.active_adapter = self.active_adapter
        object.__setattr__(tuner, "model", model)
        tuner.targeted_module_names, tuner.targeted_parameter_names = [], []
        part = tuner._prepare_adapter_config(part, self.get_model_config(model))
        tuner._prepare_model(part, model)
        # All are looked for before the first is replaced.
        names = dict.fromkeys(place.name for place in places(model))
        found = [name for name in names if tuner._check_target_module_exists(part, name)]
        if not found:
            raise ValueError(f"{kind}: no module of the model is one of its target_modules, {part.target_modules}")
        for name in found:
            at = next(place for place in places(model) if place.name == name and _goes_around(kind, place.module))
            tuner._create_and_replace(part, adapter_name, at.module, at.child, at.parent, current_key=name)
        self.targeted_module_names += [name for name in found if name not in self.targeted_module_names]

    def _prepare_adapter_config(self, peft_config: CombinedConfig, model_config: dict[str, Any]) -> CombinedConfig:
        return peft_config

    def _create_and_replace(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("the parts replace their own targets")

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        setattr(parent, child_name, new_module)

    def _check_merge_allowed(self) -> None:
        raise ValueError(
            "a combination of tuners cannot be merged into the weights of its base: save it as an adapter, or use `unload()` "
            "to have the base back without it"
        )

    def _unload_and_optionally_merge(self, merge: bool = True, *args: Any, **kwargs: Any) -> Any:
        if merge:
            self._check_merge_allowed()
        # PEFT takes off the outermost layers; what was within them is then the outermost.
        while any(isinstance(module, BaseTunerLayer) for module in self.model.modules()):
            super()._unload_and_optionally_merge(False, *args, **kwargs)
        return super()._unload_and_optionally_merge(False, *args, **kwargs)


class Place(NamedTuple):
    """Where a module is: its name in the model without adapters, its parent, and its name there."""

    name: str
    parent: nn.Module
    child: str
    module: nn.Module


def places(module: nn.Module, name: str = "") -> Iterator[Place]:
    """
    The modules within a model. Where tuners lie around a module all have its name, the outermost first; what else is in a
    tuner's layer is left out, and so is what is in a module that PEFT trains as a whole.
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
    """Whether a tuner's layer is put around `module`, or `module` is its layer already and takes one more adapter."""
    if not isinstance(module, BaseTunerLayer):
        return True
    layers = {k: getattr(cls, "tuner_layer_cls", ()) for k, cls in PEFT_TYPE_TO_TUNER_MAPPING.items()}
    own = next(k for k, layer in layers.items() if isinstance(module, layer) and layer is not BaseTunerLayer)
    return order(str(getattr(own, "value", own))) <= order(kind)
