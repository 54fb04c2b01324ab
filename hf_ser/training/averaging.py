"""What is kept at the end of a training: the mean of the last weights, and a point between the probe and them."""

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback

logger = logging.getLogger(__name__)

AVERAGE = "average.safetensors"
#: How far to go from the probe (0) to the trained weights (1).
STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)

Weights = dict[str, torch.Tensor]


def trained_weights(model: nn.Module) -> Weights:
    """Copies of the parameters that train, by name, on the CPU."""
    return {name: p.detach().to("cpu", copy=True) for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def put(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Replaces parameters by name."""
    parameters = dict(model.named_parameters())
    for name, tensor in weights.items():
        parameters[name].copy_(tensor)


class WeightAverage(TrainerCallback):
    """
    Averages what trains over the last steps of a training, a `share` of all, and leaves the model with the mean (Izmailov et al.
    2018, arXiv:1803.05407).
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.steps = 0
        self.mean: Weights = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Forgets an earlier training, and allocates the mean now: a lack of memory shows at the start and not near the end."""
        if not self._reached(state):
            self.steps, self.mean = 0, {}
        self.mean = {
            name: self.mean.get(name, parameter.detach()).to(parameter.device, torch.float32, copy=True)
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if not self._reached(state):
            return
        self.steps += 1
        weights = [p.detach().float() for p in model.parameters() if p.requires_grad]
        # In one call, as in torch.optim.swa_utils: a kernel for each weight would take longer to start than to run.
        torch._foreach_lerp_(list(self.mean.values()), weights, 1 / self.steps)

    def _reached(self, state: Any) -> bool:
        return bool(state.global_step > (1 - self.share) * state.max_steps)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if self.steps:
            put(model, self.mean)

    def save(self, checkpoint: Path) -> None:
        """Writes the mean so far into a checkpoint."""
        if self.steps:
            found = {name: tensor.cpu().contiguous() for name, tensor in self.mean.items()}
            save_file({**found, "steps": torch.tensor(self.steps)}, checkpoint / AVERAGE, metadata={"format": "pt"})

    def load(self, checkpoint: Path) -> None:
        """Goes on from a checkpoint."""
        if (checkpoint / AVERAGE).exists():
            self.mean = load_file(checkpoint / AVERAGE)
            self.steps = int(self.mean.pop("steps"))


def interpolate(model: nn.Module, start: Weights, validate: Callable[[], tuple[float, int]] | None) -> dict[str, Any]:
    """
    Leaves a trained model at a point between its probe and where training ended (Wortsman et al. 2022, arXiv:2109.01903).

    Half way is kept, unless another point is better on validation by more than the standard error of its score: on the few
    speakers of a validation part, smaller differences are chance. Of several such points the one nearest to the middle is kept.
    Where training has diverged, the probe is kept.

    Args:
        start (`dict[str, torch.Tensor]`): The parameters that train, with the solved probe; see [`trained_weights`].
        validate (`Callable`, *optional*): The model's score on validation (UAR, or CCC of dimensions alone), at most 1, NaN where
            its outputs are not finite; and the number of clips.

    Returns:
        `interpolation`, the share of the way from the probe (0) to the end of training (1), and `validation_scores` at each share
        that was tried.
    """
    end = trained_weights(model)
    if not all(bool(tensor.isfinite().all()) for tensor in end.values()):
        put(model, start)
        logger.warning("the trained weights are not finite: training has diverged, and the probe is kept")
        return {"interpolation": 0.0, "validation_scores": []}
    found: dict[float, float] = {}
    kept = 0.5
    if validate is not None:
        for step in STEPS:
            put(model, {name: torch.lerp(start[name], tensor, step) for name, tensor in end.items()})
            score, clips = validate()
            found[step] = score if math.isfinite(score) else -1.0
        best = max(found.values())
        near = [step for step in STEPS if found[step] >= best - math.sqrt(max(best * (1 - best), 0) / max(clips, 1))]
        kept = min(near, key=lambda step: (abs(step - 0.5), -found[step]))
    put(model, {name: torch.lerp(start[name], tensor, kept) for name, tensor in end.items()})
    logger.info(
        "between the probe (0) and the end of training (1), the score on validation is %s; %g is kept",
        ", ".join(f"{score:.3f} at {step:g}" for step, score in found.items()) or "unknown",
        kept,
    )
    return {"interpolation": kept, "validation_scores": list(found.values())}
