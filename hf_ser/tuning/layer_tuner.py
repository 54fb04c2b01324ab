"""The base of the package's tuners of encoder layers, in PEFT's structure: configuration, layer, model."""

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from hf_ser.modeling.families import FAMILIES, EncoderFamily, family_of


@dataclass
class LayerTunerConfig(PeftConfig):
    """
    The modules that a tuner is added to, and those that train beside it.

    Args:
        target_modules (`str` or `list[str]`, *optional*): A regular expression for whole names, or ends of names. By default
            one module in every encoder layer, for the families that are known.
        exclude_modules (`str` or `list[str]`, *optional*): Modules to leave out, named like `target_modules`.
        modules_to_save (`list[str]`, *optional*): Modules that train as a whole and are saved with the adapter.
    """

    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None


class TunedLayer(nn.Module, BaseTunerLayer):
    """A module of an encoder with one or more adapters around it."""

    # Attributes of PEFT that mypy does not find because of nn.Module.
    active_adapters: Any
    adapter_layer_names: Any
    get_base_layer: Any
    set_adapter: Any
    _move_adapter_to_device_of_base_layer: Any

    def __init__(self, base_layer: nn.Module, adapter_name: str) -> None:
        super().__init__()
        self.base_layer = base_layer
        self._active_adapter = adapter_name

    def _get_base_layer_device_and_dtype(self, base_layer: nn.Module) -> tuple[torch.device, torch.dtype]:
        # PEFT looks for a weight, which a module of several layers does not have.
        parameter = next(base_layer.parameters())
        return parameter.device, parameter.dtype

    def active(self) -> list[str]:
        """The adapters that take part in a forward pass."""
        there = getattr(self, self.adapter_layer_names[0])
        return [] if self.disable_adapters else [name for name in self.active_adapters if name in there]


class LayerTuner(BaseTuner):
    """
    Puts a [`TunedLayer`] around each target module, by default those of the table of families. The names of its own attributes
    begin with an underscore, because the attributes of the model are accessed through it.

    Args:
        model (`nn.Module`): The model, changed in place. The encoder may be anywhere within it.
        config (`LayerTunerConfig`): The tuner's configuration.
        adapter_name (`str`): The adapters' name.
        low_cpu_mem_usage (`bool`, *optional*, defaults to `False`): Create the weights on the meta device.
    """

    tuner_layer_cls: Any
    #: The reason why its adapters cannot be merged.
    _unmergeable: str

    def _known_encoder(self) -> tuple[EncoderFamily, PretrainedConfig]:
        """
        The family of the encoder in the model, and its configuration.

        Raises:
            ValueError: if the model has no encoder of a known family.
        """
        known = (m for m in self.model.modules() if isinstance(m, PreTrainedModel) and m.config.model_type in FAMILIES)
        if (encoder := next(known, None)) is None:
            kind = self.get_model_config(self.model).get("model_type")
            raise ValueError(
                f"model: found model_type={kind!r}, which is no known family of encoders: give `target_modules`"
            )
        return family_of(encoder.config), encoder.config

    def _default_targets(self, family: EncoderFamily) -> str:
        """A regular expression for the names of the target modules."""
        raise NotImplementedError

    def _beside(self, parent: nn.Module, config: Any) -> tuple[Any, ...]:
        """Further arguments of an adapter in `parent`, beside its configuration."""
        return ()

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        if peft_config.target_modules is None:
            peft_config.target_modules = self._default_targets(self._known_encoder()[0])
        return peft_config

    def _create_and_replace(
        self, peft_config: Any, adapter_name: str, target: nn.Module, target_name: str, parent: nn.Module, **kwargs: Any
    ) -> None:
        if isinstance(target, self.tuner_layer_cls):
            target.update_layer(adapter_name, peft_config, *self._beside(parent, peft_config))
            return
        layer = self.tuner_layer_cls(target, adapter_name, peft_config, *self._beside(parent, peft_config))
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        # PEFT's own method uses the weight of the child, which a module of several layers does not have.
        setattr(parent, child_name, new_module)

    def _check_merge_allowed(self) -> None:
        raise ValueError(
            f"{self._unmergeable} and cannot be merged into the base model's weights: save the adapter, or use `unload()` "
            "to have the base model back"
        )
