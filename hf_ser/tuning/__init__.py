"""The ways to fine-tune a model. To add one, copy the shape of a neighbour in `methods.py`."""

from hf_ser.tuning.adapter import adapter_weights, fold_head, name_without_adapters, save_adapter
from hf_ser.tuning.methods import METHODS, Tuned, Tuning, merge, mergeable, tune
from hf_ser.tuning.modes import frozen_modules, parameter_counts
from hf_ser.tuning.registration import BottleneckConfig, CombinedConfig, PromptConfig

__all__ = [
    "METHODS",
    "BottleneckConfig",
    "CombinedConfig",
    "PromptConfig",
    "Tuned",
    "Tuning",
    "adapter_weights",
    "fold_head",
    "frozen_modules",
    "merge",
    "mergeable",
    "name_without_adapters",
    "parameter_counts",
    "save_adapter",
    "tune",
]
