"""Prompts that start out as frames are."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from peft import PeftModel
from torch import nn

from hf_ser.tuning.prompt.layer import PromptLayer

#: How far prompts start from the mean frame, in standard deviations of the frames: apart, so that each may learn something else.
SPREAD = 0.2


def start_at_frames(
    model: PeftModel, clips: Iterable[Mapping[str, torch.Tensor]], adapter_name: str = "default"
) -> None:
    """
    Puts the prompts of every layer beside the mean of the frames in front of that layer: each feature is drawn from a normal
    distribution around its mean, with `SPREAD` of the standard deviation that it has over the frames.

    As PEFT-SER draws them, of small numbers of any direction, they are unlike anything an encoder has ever heard, and what
    attends to them is changed before anything was learned: five of them move what Whisper tiny's layers say by a third and
    more, where prompts that are like frames move it by some hundredths. An encoder with layer norm before its attention gives
    all prompts the same size, so that smaller ones would not help.

    Args:
        model (`PeftModel`): With prompts, alone or combined with other adapters; changed in place.
        clips (`Iterable`): What the model takes, `(1, ...)`, a clip at a time: nothing may be padded. A few are enough.
        adapter_name (`str`): Whose prompts.

    Raises:
        ValueError: if there are no prompts of this name, or no clips.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, PromptLayer) and adapter_name in module.prompt_embeddings
    ]
    if not layers:
        raise ValueError(f"adapter_name: the model has no prompts called {adapter_name!r}")
    heard: dict[nn.Module, list[torch.Tensor]] = {layer: [] for layer in layers}

    def hear(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        frames = args[0] if args else kwargs["hidden_states"]  # (1, frames, hidden)
        heard[layer].append(frames.float().flatten(0, -2))

    hooks = [layer.register_forward_pre_hook(hear, with_kwargs=True) for layer in layers]
    training = model.training
    try:
        with model.disable_adapter(), torch.no_grad():
            model.eval()
            for clip in clips:
                model(**clip)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    for layer, frames in heard.items():
        if not frames:
            raise ValueError("clips: there are none")
        deviation, mean = torch.std_mean(torch.cat(frames), dim=0)
        prompts = layer.prompt_embeddings[adapter_name]  # type: ignore[index]
        prompts.data.copy_(mean + SPREAD * deviation * torch.randn_like(prompts))
