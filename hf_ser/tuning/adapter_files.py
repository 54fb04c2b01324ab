"""Adapters on disk: the files of PEFT, with the further weights that an adapter needs."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from peft.tuners.lora import Linear as LoraLinear
from peft.utils import ModulesToSaveWrapper, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from hf_ser.modeling import BatchNormClassifier, StandardisedLinear
from hf_ser.records import ADAPTER, ADAPTER_CONFIG

PREFIX = "base_model.model."
#: The key of the encoder's fingerprint in the header of an adapter's weights.
FINGERPRINT = "encoder_fingerprint"


def name_without_adapters(key: str) -> str:
    """The name of a parameter in the model without adapters, of which any number may be around it."""
    return re.sub(r"\.base_layer(?=\.)", "", key.removeprefix(PREFIX))


@torch.no_grad()
def fingerprint(model: PreTrainedModel) -> str:
    """
    A hash of some values of every parameter of an encoder, without its adapters. On another encoder of the same shape an adapter
    would give wrong predictions without an error.
    """
    digest = hashlib.sha256()
    added = {*PEFT_TYPE_TO_PREFIX_MAPPING.values(), "ranknum"}  # the last is AdaLoRA's
    parameters = {name_without_adapters(name): p for name, p in model.base_model.named_parameters()}
    for name in sorted(name for name in parameters if not any(prefix in name for prefix in added)):
        values = parameters[name].detach().flatten()
        # Rounded, so that an encoder stored in bfloat16 counts as the same.
        some = values[:: max(len(values) // 64, 1)].to("cpu", torch.bfloat16).view(torch.int16)
        digest.update(f"{name} {tuple(parameters[name].shape)}".encode() + some.numpy().tobytes())
    return digest.hexdigest()[:32]


def adapter_weights(model: PeftModel, new: Iterable[str]) -> dict[str, torch.Tensor]:
    """
    The tensors of an adapter under PEFT's names: PEFT's own, and every parameter in `new` (randomly initialised, or trained
    outside PEFT). PEFT saves neither a random layer under a LoRA nor a lone parameter, but it loads both.
    """
    state = model.state_dict()
    weights = get_peft_model_state_dict(model, state_dict=state, save_embedding_layers=False)
    wanted = set(new)
    for key, tensor in state.items():
        if name_without_adapters(key) in wanted:
            weights.setdefault(key, tensor)
    found = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}
    # Tuners that share a basis between layers (VeRA, RandLoRA) have it under many names, and safetensors takes a tensor only
    # once.
    there = Counter(tensor.untyped_storage().data_ptr() for tensor in found.values())
    return {key: t.clone() if there[t.untyped_storage().data_ptr()] > 1 else t for key, t in found.items()}


def save_adapter(model: PeftModel, new: Iterable[str], folder: Path, base: str | None = None) -> None:
    """
    Writes `adapter_config.json` and `adapter_model.safetensors` into `folder`.

    Args:
        model (`PeftModel`): The model.
        new (`Iterable[str]`): See [`adapter_weights`].
        folder (`Path`): The folder; created if missing.
        base (`str`, *optional*): The base model's name, by default where it was loaded from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"format": "pt", FINGERPRINT: fingerprint(model.get_base_model())}
    save_file(adapter_weights(model, new), folder / ADAPTER, metadata=metadata)
    config = model.peft_config["default"].to_dict()
    config["inference_mode"] = True
    config["base_model_name_or_path"] = base or config["base_model_name_or_path"]
    config = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
    (folder / ADAPTER_CONFIG).write_text(
        json.dumps(config, indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8"
    )


def fold_head(model: PeftModel, new: Iterable[str]) -> tuple[str, ...]:
    """
    Replaces the `batchnorm` or `linear` head of a trained adapter, if it has one, by plain layers with the same outputs, in
    place. Otherwise PEFT and transformers alone would open it with a random head.

    Returns:
        `new`, see [`adapter_weights`], with the names that the plain layers have.
    """
    inner = model.get_base_model()
    projector, head = trained_module(inner.projector), trained_module(inner.classifier)
    if isinstance(projector, StandardisedLinear):
        _replace(inner, "projector", projector.folded())
        renamed = {name.replace("projector.linear.", "projector.") for name in new}
        return tuple(sorted(renamed - {"projector.mean", "projector.scale"}))
    if not isinstance(head, BatchNormClassifier):
        return tuple(new)
    config = model.peft_config["default"]
    norm, linear = trained_module(head.batch_norm), head.out_proj
    if isinstance(linear, LoraLinear):
        # (W + B A) (s x + t) + b = (W s + B (A s)) x + (W + B A) t + b
        scale, shift = BatchNormClassifier.affine(norm)
        down = linear.lora_A["default"].weight
        with torch.no_grad():
            both = linear.base_layer.weight.double() + linear.get_delta_weight("default").double()
            linear.base_layer.bias.copy_(linear.base_layer.bias.double() + both @ shift)
            linear.base_layer.weight.copy_(linear.base_layer.weight.double() * scale)
            down.copy_(down.double() * scale)
        inner.classifier = linear
        config.target_modules = {*config.target_modules, "classifier"} - {"classifier.out_proj"}
    else:
        head.batch_norm = norm
        _replace(inner, "classifier", head.folded())
    config.modules_to_save = [name for name in config.modules_to_save or [] if name != "batch_norm"] or None
    kept = [name for name in new if not name.startswith("classifier.")]
    return (*kept, "classifier.weight", "classifier.bias")


def trained_module(module: nn.Module) -> Any:
    """The module itself, or the copy of it that PEFT trains as a whole."""
    return module.modules_to_save[module.active_adapters[0]] if isinstance(module, ModulesToSaveWrapper) else module


def _replace(parent: nn.Module, name: str, module: nn.Module) -> None:
    """Replaces the module that [`trained_module`] returns."""
    wrapper = getattr(parent, name)
    if isinstance(wrapper, ModulesToSaveWrapper):
        wrapper.modules_to_save["default"] = module
    else:
        setattr(parent, name, module)
