"""Adapters on disk: what PEFT saves, and what it leaves out though the adapter cannot be used without it."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

PREFIX = "base_model.model."


def adapter_weights(model: PeftModel, new: Iterable[str]) -> dict[str, torch.Tensor]:
    """
    The tensors of an adapter under PEFT's names: PEFT's own, and with them every parameter in `new` (newly initialised,
    or trained outside PEFT's reach). PEFT saves neither a random layer under a LoRA nor a lone parameter, but it loads
    both where it finds them.
    """
    state = model.state_dict()
    weights = get_peft_model_state_dict(model, state_dict=state, save_embedding_layers=False)
    wanted = set(new)
    for key, tensor in state.items():
        if key.removeprefix(PREFIX).replace(".base_layer.", ".") in wanted:
            weights.setdefault(key, tensor)
    return {key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}


def save_adapter(model: PeftModel, new: Iterable[str], folder: str | os.PathLike[str], base: str | None = None) -> None:
    """
    Writes `adapter_config.json` and `adapter_model.safetensors` into `folder`.

    Args:
        model (`PeftModel`): The model.
        new (`Iterable[str]`): See [`adapter_weights`].
        folder (`path`): Where to; made if missing.
        base (`str`, *optional*): The base model's name to write down, by default where it was loaded from.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    save_file(adapter_weights(model, new), path / "adapter_model.safetensors", metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict()
    config["inference_mode"] = True
    config["base_model_name_or_path"] = base or config["base_model_name_or_path"]
    for name in ("target_modules", "modules_to_save", "exclude_modules"):
        if isinstance(config.get(name), set):
            config[name] = sorted(config[name])
    (path / "adapter_config.json").write_text(
        json.dumps(config, indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8"
    )
