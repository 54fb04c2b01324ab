"""Bottleneck adapters in a model."""

from typing import Any

from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from hf_ser.tuning.bottleneck.config import BottleneckConfig
from hf_ser.tuning.bottleneck.layer import BottleneckLayer
from hf_ser.tuning.targets import family_config, is_targeted

FEED_FORWARD = r"(.*\.)?encoder\.layers\.\d+\.feed_forward"
#: The feed-forwards of every encoder layer, by the encoder's family.
TARGET_MODULES = {
    **dict.fromkeys(
        ("data2vec-audio", "hubert", "unispeech", "unispeech-sat", "wav2vec2", "wavlm"),
        FEED_FORWARD,
    ),
    # A conformer has a half of a feed-forward at either end; the one that ends the layer.
    "wav2vec2-bert": r"(.*\.)?encoder\.layers\.\d+\.ffn2",
    # Its feed-forward is two linear layers within the encoder layer; the decoder's are of the same name.
    "whisper": r"(?!(.*\.)?decoder\.)(.*\.)?layers\.\d+\.fc2",
}
#: The layer norm in front of the feed-forward, within the encoder layer, where the family has one alone.
LAYER_NORMS = {"data2vec-audio": "layer_norm", "wav2vec2-bert": "ffn2_layer_norm", "whisper": "final_layer_norm"}


class BottleneckModel(BaseTuner):
    """
    Puts bottleneck adapters into a model (PEFT-SER, section II-C).

    Args:
        model (`nn.Module`): The model, changed in place. It may hold the encoder anywhere within it.
        config (`BottleneckConfig`): What the adapters are like, and where they go.
        adapter_name (`str`): Their name.
        low_cpu_mem_usage (`bool`, *optional*, defaults to `False`): Make the weights on the meta device.

    Example:

    ```python
    >>> from peft import get_peft_model
    >>> from transformers import AutoModelForAudioClassification

    >>> from hf_ser.tuning.bottleneck import BottleneckConfig

    >>> model = AutoModelForAudioClassification.from_pretrained("microsoft/wavlm-base-plus")
    >>> model = get_peft_model(model, BottleneckConfig(modules_to_save=["projector", "classifier"]))
    ```
    """

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping = TARGET_MODULES

    def _prepare_adapter_config(self, peft_config: BottleneckConfig, model_config: dict[str, Any]) -> BottleneckConfig:
        family = family_config(self.model, model_config, TARGET_MODULES)
        if peft_config.target_modules is None and family["model_type"] not in TARGET_MODULES:
            raise ValueError(
                f"no bottleneck adapters are known for the model type {family['model_type']!r}, only for "
                f"{', '.join(TARGET_MODULES)}: give `target_modules`"
            )
        if peft_config.placement == "parallel" and peft_config.layer_norm is None:
            if family["model_type"] not in TARGET_MODULES:
                raise ValueError(
                    f"a parallel adapter needs to know the layer norm in front of the feed-forward, and for the model type "
                    f"{family['model_type']!r} it does not: give `layer_norm`"
                )
            stable = "final_layer_norm" if family.get("do_stable_layer_norm") else "layer_norm"
            peft_config.layer_norm = LAYER_NORMS.get(family["model_type"], stable)
        return super()._prepare_adapter_config(peft_config, family)

    @staticmethod
    def _check_target_module_exists(peft_config: BottleneckConfig, key: str) -> Any:
        return is_targeted(peft_config, key)

    def _create_and_replace(
        self,
        peft_config: BottleneckConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **kwargs: Any,
    ) -> None:
        layer_norm = None
        if peft_config.placement == "parallel":
            assert peft_config.layer_norm is not None
            layer_norm = parent.get_submodule(peft_config.layer_norm)
        if isinstance(target, BottleneckLayer):
            target.update_layer(adapter_name, peft_config, layer_norm)
            return
        layer = BottleneckLayer(target, adapter_name, peft_config, layer_norm)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        # PEFT's own takes the weight of what it replaces, which a whole feed-forward does not have.
        setattr(parent, child_name, new_module)

    def _check_merge_allowed(self) -> None:
        raise ValueError(
            "a bottleneck adapter is not linear and cannot be merged into the weights of its base: save it as an adapter, or "
            "use `unload()` to have the base back without it"
        )
