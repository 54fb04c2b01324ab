"""
AdaLoRA, whose ranks become fewer as it trains: when they are shared out, and what a checkpoint holds of it.

An adapter on disk has the ranks that are left alone, and does not fit the model in training, which has them all: those that are
out are zero, and may come back as long as the importance of each is followed.
"""

from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

RANKS = "adalora.safetensors"
#: What PEFT's allocator follows of each weight, as it calls it.
IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")
WEIGHT, KEPT = "weight", "kept"


def is_adalora(model: Any) -> bool:
    """Whether a model trains by AdaLoRA."""
    return hasattr(model, "peft_config") and model.peft_config["default"].peft_type == "ADALORA"


class RankAllocation(TrainerCallback):
    """Lets AdaLoRA share out its ranks as training goes on; nobody else does."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        model.base_model.rankallocator.set_total_step(state.max_steps)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        model.base_model.update_and_allocate(state.global_step)


def save_ranks(model: Any, folder: Path) -> None:
    """
    Writes all ranks, which of them are kept and how important each is into `folder`, a checkpoint.

    Args:
        model (`PeftModel`): The model.
        folder (`Path`): Where to.
    """
    allocator = model.base_model.rankallocator
    found: dict[str, torch.Tensor] = {f"{WEIGHT}.{name}": p for name, p in _ranks(model).items()}
    for kind in IMPORTANCE:
        found |= {f"{kind}.{name}": tensor for name, tensor in getattr(allocator, kind).items()}
    kept = model.peft_config["default"].rank_pattern or {}
    found |= {f"{KEPT}.{name}": torch.tensor(mask) for name, mask in kept.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}
    save_file(tensors, folder / RANKS, metadata={"format": "pt"})


@torch.no_grad()
def load_ranks(model: Any, folder: Path) -> None:
    """
    Makes a model in training what it was at a checkpoint: what [`save_ranks`] has written, and the head beside it.

    Raises:
        RuntimeError: if the ranks are those of another model or other arguments.
    """
    found = load_file(folder / RANKS)
    kinds: dict[str, dict[str, torch.Tensor]] = {kind: {} for kind in (WEIGHT, KEPT, *IMPORTANCE)}
    for key, tensor in found.items():
        kind, _, name = key.partition(".")
        kinds[kind][name] = tensor
    ranks = _ranks(model)
    if {name: p.shape for name, p in ranks.items()} != {name: t.shape for name, t in kinds[WEIGHT].items()}:
        raise RuntimeError(
            f"{folder / RANKS} has other ranks than this model. Go on with the arguments that the run began with."
        )
    config = model.peft_config["default"]
    config.rank_pattern = None  # else PEFT would cut the model down to it
    others = load_file(folder / "adapter_model.safetensors")
    set_peft_model_state_dict(model, {key: tensor for key, tensor in others.items() if ".lora_" not in key})
    for name, p in ranks.items():
        p.copy_(kinds[WEIGHT][name])
    for kind in IMPORTANCE:
        setattr(
            model.base_model.rankallocator, kind, {name: t.to(ranks[name].device) for name, t in kinds[kind].items()}
        )
    config.rank_pattern = {name: mask.tolist() for name, mask in kinds[KEPT].items()} or None


def _ranks(model: Any) -> dict[str, torch.nn.Parameter]:
    """The low-rank weights of the whole model, by the names that PEFT's allocator has for them."""
    return {name: p for name, p in model.base_model.model.named_parameters() if ".lora_" in name}
