"""Makes the package's own tuners known to PEFT; importing this is enough."""

from typing import Any

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from hf_ser.tuning.bottleneck import BottleneckConfig, BottleneckModel
from hf_ser.tuning.combined import CombinedConfig, CombinedModel
from hf_ser.tuning.prompt import PromptConfig, PromptModel


def register(name: str, config_cls: Any, model_cls: Any) -> None:
    """
    What PEFT's `register_peft_method` does, but for names that its `PeftType` does not have: it refuses those, though its
    mappings take any string.

    Args:
        name (`str`): What `adapter_config.json` has under `peft_type`.
        config_cls (`type`): The tuner's `PeftConfig`.
        model_cls (`type`): The tuner's `BaseTuner`.
    """
    PEFT_TYPE_TO_CONFIG_MAPPING[name] = config_cls
    PEFT_TYPE_TO_TUNER_MAPPING[name] = model_cls
    PEFT_TYPE_TO_PREFIX_MAPPING[name] = model_cls.prefix


register("BOTTLENECK", BottleneckConfig, BottleneckModel)
register("EMBEDDING_PROMPT", PromptConfig, PromptModel)
register("COMBINED", CombinedConfig, CombinedModel)
