"""Checkpoints of a head that trains on a frozen encoder: the encoder is where it was loaded from, and is not written again."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

#: Not called as transformers calls weights: what opens a checkpoint would put a random encoder under them.
HEAD_WEIGHTS = "head.safetensors"


def save_head(model: Any, folder: Path) -> None:
    """
    Writes all weights and buffers outside the encoder into `folder`, which is made if need be.

    Args:
        model (`PreTrainedModel`): The model.
        folder (`Path`): A checkpoint.
    """
    encoder = f"{model.base_model_prefix}."
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if not name.startswith(encoder)
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / HEAD_WEIGHTS, metadata={"format": "pt"})


def load_head(model: Any, folder: Path) -> None:
    """
    Loads what [`save_head`] has written.

    Raises:
        RuntimeError: if it is of another head.
    """
    encoder = f"{model.base_model_prefix}."
    outcome = model.load_state_dict(load_file(folder / HEAD_WEIGHTS), strict=False)
    missing = [name for name in outcome.missing_keys if not name.startswith(encoder)]
    if missing or outcome.unexpected_keys:
        raise RuntimeError(
            f"{folder / HEAD_WEIGHTS} is of another head: it lacks {missing} and has {outcome.unexpected_keys}. Go on with the "
            "--head that the run began with."
        )
