"""Models whose weights are spread over the processes (FSDP): whole again for saving, and for the figures of a run."""

import copy
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict

LAYER = re.compile(r"(.*\.)?layers\.\d+")


class Shards:
    """
    Takes a model apart and puts it together again.

    Args:
        model (`PreTrainedModel` or `PeftModel`): The model before it is sharded.
        accelerator (`Accelerator`): What will shard it.

    Raises:
        ValueError: if the model cannot be sharded, or not in the way that the launcher says.
    """

    def __init__(self, model: Any, accelerator: Accelerator) -> None:
        plugin = accelerator.state.fsdp_plugin
        if plugin.fsdp_version != 2:
            raise ValueError(
                "FSDP: the launcher asks for version 1, which shards no model of which a part is frozen; write fsdp_version: 2 "
                "into its configuration, as in scripts/recipes/accelerate/fsdp.yaml"
            )
        if plugin.cpu_ram_efficient_loading:
            raise ValueError(
                "FSDP: the launcher asks for fsdp_cpu_ram_efficient_loading, which leaves the model empty but in one process; "
                "write false, as in scripts/recipes/accelerate/fsdp.yaml"
            )
        if hasattr(model, "peft_config") and model.peft_config["default"].peft_type == "ADALORA":
            raise ValueError(
                "--method adalora: it ranks single weights of the whole model, which FSDP spreads over the processes; launch "
                "without FSDP, or choose another method"
            )
        self._empty = _without_weights(model)

    def gather(self, sharded: nn.Module, *, everywhere: bool = False) -> Any:
        """
        A copy of the model with all weights, as it was before it was sharded. Every process must call this; the copy of the
        first has the weights, on the CPU, or with `everywhere` that of each, on its own device.
        """
        whole = _without_weights(self._empty)
        options = StateDictOptions(full_state_dict=True, cpu_offload=not everywhere)
        if state := get_model_state_dict(sharded, options=options):
            whole.load_state_dict(state, assign=True)
        return whole.eval()

    def scatter(self, sharded: nn.Module, whole: nn.Module) -> None:
        """Gives each process its part of the weights that `whole` has in the first one. Every process must call this."""
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        first = torch.distributed.get_rank() == 0
        set_model_state_dict(sharded, whole.state_dict() if first else {}, options=options)


def _without_weights(model: nn.Module) -> Any:
    """A copy of `model` whose parameters take no memory."""
    meta = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, meta)


def shard_on_cpu(accelerator: Accelerator, settings: dict[str, Any] | None) -> bool:
    """
    On processors accelerate goes on without FSDP, and without a word, though torch can do it. Lets it.

    Args:
        accelerator (`Accelerator`): The Trainer's.
        settings (`dict`, *optional*): What the training arguments say of FSDP; by default the launcher says it.

    Returns:
        Whether the model will be sharded.
    """
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if accelerator.distributed_type != DistributedType.MULTI_CPU or not asked:
        return False
    state = accelerator.state
    state.distributed_type = DistributedType.FSDP
    state.fsdp_plugin = FullyShardedDataParallelPlugin(**(settings or {}))
    if state.mixed_precision != "no":
        state.fsdp_plugin.set_mixed_precision(state.mixed_precision)
    return True


@contextmanager
def shown_to_accelerate(model: Any, plugin: FullyShardedDataParallelPlugin) -> Iterator[None]:
    """
    Within it accelerate can shard a model of speech, each layer of the encoder by itself unless the launcher says otherwise.

    It looks for embeddings of words, for which such a model raises; and for a last norm among the children of the base
    model, where it takes HuBERT's `EncoderStableLayerNorm` for one.
    """
    model.get_input_embeddings = lambda: None
    model.base_model_prefix = ""
    if plugin.transformer_cls_names_to_wrap is None:
        layers = {type(module).__name__ for name, module in model.named_modules() if LAYER.fullmatch(name)}
        plugin.transformer_cls_names_to_wrap = sorted(layers)
    try:
        yield
    finally:
        del model.get_input_embeddings, model.base_model_prefix
