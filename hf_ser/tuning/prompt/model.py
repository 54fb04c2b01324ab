"""Embedding prompts in a model."""

from typing import Any

from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from hf_ser.tuning.prompt.config import PromptConfig
from hf_ser.tuning.prompt.layer import PromptLayer
from hf_ser.tuning.targets import family_config, is_targeted

LAYERS = r"(.*\.)?encoder\.layers\.\d+"
#: Every encoder layer, by the encoder's family.
TARGET_MODULES = {
    **dict.fromkeys(("data2vec-audio", "hubert", "unispeech", "unispeech-sat", "wav2vec2", "wavlm"), LAYERS),
    "wav2vec2-bert": LAYERS,
    # Not the decoder's layers.
    "whisper": r"(?!(.*\.)?decoder\.)(.*\.)?layers\.\d+",
}


class PromptModel(BaseTuner):
    """
    Puts embedding prompts into a model (PEFT-SER, section II-C).

    Args:
        model (`nn.Module`): The model, changed in place. It may hold the encoder anywhere within it.
        config (`PromptConfig`): What the prompts are like, and where they go.
        adapter_name (`str`): Their name.
        low_cpu_mem_usage (`bool`, *optional*, defaults to `False`): Make the weights on the meta device.

    Example:

    ```python
    >>> from peft import get_peft_model
    >>> from transformers import AutoModelForAudioClassification

    >>> from hf_ser.tuning.prompt import PromptConfig

    >>> model = AutoModelForAudioClassification.from_pretrained("microsoft/wavlm-base-plus")
    >>> model = get_peft_model(model, PromptConfig(modules_to_save=["projector", "classifier"]))
    ```
    """

    prefix = "prompt_"
    tuner_layer_cls = PromptLayer
    target_module_mapping = TARGET_MODULES

    def _prepare_adapter_config(self, peft_config: PromptConfig, model_config: dict[str, Any]) -> PromptConfig:
        family = family_config(self.model, model_config, TARGET_MODULES)
        if peft_config.target_modules is None and family["model_type"] not in TARGET_MODULES:
            raise ValueError(
                f"no embedding prompts are known for the model type {family['model_type']!r}, only for "
                f"{', '.join(TARGET_MODULES)}: give `target_modules`"
            )
        if family["model_type"] == "wavlm" and peft_config.layers_to_transform is not None:
            raise ValueError(
                f"layers_to_transform: {peft_config.layers_to_transform}, but WavLM's layers hand one position bias along, "
                "which fits prompts before every layer or before none: leave it out"
            )
        return super()._prepare_adapter_config(peft_config, family)

    @staticmethod
    def _check_target_module_exists(peft_config: PromptConfig, key: str) -> Any:
        return is_targeted(peft_config, key)

    def _create_and_replace(
        self,
        peft_config: PromptConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **kwargs: Any,
    ) -> None:
        if isinstance(target, PromptLayer):
            target.update_layer(adapter_name, peft_config)
            return
        layer = PromptLayer(target, adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        # PEFT's own takes the weight of what it replaces, which a whole layer does not have.
        setattr(parent, child_name, new_module)

    def _check_merge_allowed(self) -> None:
        raise ValueError(
            "embedding prompts are inputs, not weights, and cannot be merged into the weights of their base: save them as an "
            "adapter, or use `unload()` to have the base back without them"
        )
