"""Where a tuner of the package's own goes in an encoder."""

import copy
import re
from collections.abc import Collection
from typing import Any

from peft.tuners.tuners_utils import check_target_module_exists
from torch import nn
from transformers import PreTrainedModel


def family_config(model: nn.Module, model_config: dict[str, Any], families: Collection[str]) -> dict[str, Any]:
    """The configuration of the first encoder in `model` that is of one of `families`, or else `model_config`."""
    if model_config.get("model_type") in families:
        return model_config
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module.config.model_type in families:
            return module.config.to_dict()
    return {"model_type": None, **model_config}


def is_targeted(config: Any, key: str) -> Any:
    """
    Whether the module named `key` is one of the `target_modules`, and in one of the `layers_to_transform`. PEFT's own reading
    of the latter passes over regular expressions, and over modules that end in their number.
    """
    every = copy.copy(config)
    every.layers_to_transform = None
    found = check_target_module_exists(every, key)
    wanted = config.layers_to_transform
    if not found or wanted is None:
        return found
    numbers = re.findall(r"(?:^|\.)(\d+)(?=\.|$)", key)
    return bool(numbers) and int(numbers[-1]) in ([wanted] if isinstance(wanted, int) else wanted)
