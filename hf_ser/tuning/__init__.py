"""The methods of fine-tuning. To add one, copy the shape of a neighbour in `methods.py`."""

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from hf_ser.tuning.adapter_files import fold_head, name_without_adapters, save_adapter, trained_module
from hf_ser.tuning.bottleneck import BottleneckConfig, BottleneckModel
from hf_ser.tuning.combined import CombinedConfig, CombinedModel
from hf_ser.tuning.methods import METHODS, Tuned, Tuning, frozen_modules, merge, mergeable, parameter_counts, tune
from hf_ser.tuning.prompt import DeepPromptConfig, DeepPromptModel, start_at_frames

# PEFT's register_peft_method refuses names that its PeftType does not have; its mappings take any string.
for _name, _config, _model in (
    ("BOTTLENECK", BottleneckConfig, BottleneckModel),
    ("DEEP_PROMPT", DeepPromptConfig, DeepPromptModel),
    ("COMBINED", CombinedConfig, CombinedModel),
):
    PEFT_TYPE_TO_CONFIG_MAPPING[_name] = _config
    PEFT_TYPE_TO_TUNER_MAPPING[_name] = _model
    PEFT_TYPE_TO_PREFIX_MAPPING[_name] = _model.prefix

__all__ = [
    "METHODS",
    "BottleneckConfig",
    "CombinedConfig",
    "DeepPromptConfig",
    "Tuned",
    "Tuning",
    "fold_head",
    "frozen_modules",
    "merge",
    "mergeable",
    "name_without_adapters",
    "parameter_counts",
    "save_adapter",
    "start_at_frames",
    "trained_module",
    "tune",
]
