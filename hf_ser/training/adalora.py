"""
AdaLoRA, which trains with fewer and fewer ranks: its regulariser, the allocation of ranks, and its checkpoints.

An adapter on disk has the remaining ranks only, and does not fit the model in training, which has all of them: pruned ranks are
zero, and may return by their importance.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from hf_ser.training.losses import TargetLoss

RANKS = "adalora.safetensors"
#: The statistics that PEFT's allocator has for each weight, by its attributes.
IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")
WEIGHT, KEPT = "weight", "kept"


def is_adalora(model: Any) -> bool:
    """Whether a model has an AdaLoRA."""
    return hasattr(model, "peft_config") and model.peft_config["default"].peft_type == "ADALORA"


def regularised(loss: TargetLoss, model: Any) -> Callable[..., torch.Tensor]:
    """
    Adds AdaLoRA's regulariser to a loss in training: PEFT adds it only where the model computes the loss itself.

    Returns:
        A loss that adds to each clip's an equal share of `orth_reg_weight` times [`orthogonality`]: over all micro-batches and
        processes of a step the shares add up to one.
    """
    weight = model.peft_config["default"].orth_reg_weight

    def regularised_loss(outputs: Any, targets: Any, num_items_in_batch: torch.Tensor | None = None) -> torch.Tensor:
        found = loss(outputs, targets, num_items_in_batch)
        if num_items_in_batch is None or not (weight and found.requires_grad):  # an evaluation
            return found
        mine = loss.counts(targets[0] if isinstance(targets, tuple) else targets)
        most = num_items_in_batch.argmax(dim=0, keepdim=True)  # an index without dimensions would be waited for
        return found + (mine[most] / num_items_in_batch[most].clamp(min=1) * weight * orthogonality(model)).sum()

    return regularised_loss


def orthogonality(model: Any) -> torch.Tensor:
    """
    How far AdaLoRA's matrices are from orthogonal ones (arXiv 2303.10512, equation 4; as PEFT computes it): the mean Frobenius
    norm of `PᵀP - I` (PEFT's `lora_B`) and `QQᵀ - I` (`lora_A`), without unit.
    """
    ranks = _ranks(model)
    rows = [p.T if ".lora_B." in name else p for name, p in ranks.items() if ".lora_A." in name or ".lora_B." in name]
    return torch.stack([(p @ p.T - torch.eye(len(p), device=p.device)).norm() for p in rows]).mean()


class RankAllocation(TrainerCallback):
    """Allocates AdaLoRA's ranks in training, which PEFT leaves to the training loop."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        model.base_model.rankallocator.set_total_step(state.max_steps)

    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        config = model.peft_config["default"]
        # A step that fp16 skips has gradients that are not finite: the running importance of ranks would never be finite again.
        # The last steps take no gradients.
        if not optimizer.step_was_skipped or state.global_step >= config.total_step - config.tfinal:
            model.base_model.update_and_allocate(state.global_step)


def save_ranks(model: Any, folder: Path) -> None:
    """Writes all ranks, which of them are kept, and the importance of each into a checkpoint's folder."""
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
    """Restores a model in training from a checkpoint: the ranks of [`save_ranks`], and the head beside them."""
    found = load_file(folder / RANKS)
    kinds: dict[str, dict[str, torch.Tensor]] = {kind: {} for kind in (WEIGHT, KEPT, *IMPORTANCE)}
    for key, tensor in found.items():
        kind, _, name = key.partition(".")
        kinds[kind][name] = tensor
    ranks = _ranks(model)
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
    """The low-rank weights of the model, by the names that PEFT's allocator has for them."""
    return {name: p for name, p in model.base_model.model.named_parameters() if ".lora_" in name}
