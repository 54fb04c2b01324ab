"""Models whose weights are sharded over the processes (FSDP, DeepSpeed): gathered for saving and for the final evaluation."""

import copy
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from transformers import TrainingArguments

from hf_ser.training.attributes import temporarily
from hf_ser.training.config import SERConfig

LAYER = re.compile(r"(.*\.)?layers\.\d+")


def require_shardable(training: SERConfig, adalora: bool) -> None:
    """
    Checks that the model can be sharded, if the launcher or the arguments request it.

    Raises:
        ValueError: if it cannot be sharded.
    """
    fsdp = training.fsdp_plugin_args is not None or _launched_with("FSDP")
    if fsdp:
        _require_fsdp_2(training)
    sharded = fsdp or training.deepspeed or _launched_with("DEEPSPEED")
    if adalora and sharded:
        raise ValueError(
            "method=adalora: it ranks single weights of the whole model, which FSDP and DeepSpeed shard over the processes; "
            "launch without them, or choose another method"
        )


def _launched_with(what: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{what}", "false").lower() == "true"


def _require_fsdp_2(training: TrainingArguments) -> None:
    recipe = "as in scripts/recipes/accelerate/fsdp.yaml"
    plugin = FullyShardedDataParallelPlugin(**(training.fsdp_plugin_args or {}))
    if plugin.fsdp_version != 2:
        raise ValueError(
            "fsdp_version=1: cannot shard a model with frozen parts; set fsdp_version: 2 in the launcher's configuration, "
            f"{recipe}"
        )
    if plugin.cpu_ram_efficient_loading:
        raise ValueError(
            "fsdp_cpu_ram_efficient_loading=true: leaves the model empty in all processes but one; set false in the launcher's "
            f"configuration, {recipe}"
        )
    if training.save_on_each_node:
        raise ValueError(
            "save_on_each_node=True: with FSDP one process saves the whole model, and each machine would have only a part of the "
            "optimizer's state; use an output_dir that all machines share, without save_on_each_node"
        )


class FSDPShards:
    """Gathers a model, given before torch's FSDP2 shards it: from then on each process holds a part of each weight."""

    def __init__(self, model: Any) -> None:
        self._empty = _without_weights(model)

    def gather(self, shared: Any, *, everywhere: bool = False) -> Any:
        """
        A copy of the model with all weights in float32. Every process must call this; the copy of the first process has the
        weights, with `everywhere` all copies have.
        """
        whole = _without_weights(self._empty)
        options = StateDictOptions(full_state_dict=True, cpu_offload=not everywhere)
        if state := get_model_state_dict(shared, options=options):
            whole.load_state_dict(state, assign=True)
        return whole.eval()

    def scatter(self, sharded: nn.Module, whole: nn.Module) -> None:
        """Gives each process its part of the weights of `whole` in the first process. Every process must call this."""
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        first = torch.distributed.get_rank() == 0
        set_model_state_dict(sharded, whole.state_dict() if first else {}, options=options)


class ZeroShards:
    """
    Gathers a model, given before it is sharded, under DeepSpeed's ZeRO, which shards the optimizer's float32 weights, and in
    stage 3 those of the model, too.

    ZeRO converts frozen weights and buffers to the training's precision; the original ones stay in memory here.
    """

    def __init__(self, model: Any) -> None:
        self._empty = _without_weights(model)
        self._frozen = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
        self._buffers = dict(model.named_buffers())

    def gather(self, shared: Any, *, everywhere: bool = False) -> Any:
        """A copy of the model with all weights in float32, in every process. Every process must call this."""
        from deepspeed.utils import safe_get_full_fp32_param

        whole = _without_weights(self._empty)
        inner = getattr(shared, "module", shared)
        trained = {
            name: safe_get_full_fp32_param(p).detach().cpu() for name, p in inner.named_parameters() if p.requires_grad
        }
        known = {**self._frozen, **trained}
        for name, buffer in inner.named_buffers():
            original, now = self._buffers[name].cpu(), buffer.cpu()
            # What training has changed (the statistics of a batch norm) has no original.
            known[name] = original if torch.equal(original.to(now.dtype), now) else now.to(original.dtype)
        whole.load_state_dict({name: known[name].clone() for name in whole.state_dict()}, assign=True)
        return whole.eval()


def _without_weights(model: nn.Module) -> Any:
    """A copy of `model` with parameters on the meta device."""
    meta = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, meta)


def shard_on_cpu(accelerator: Accelerator, settings: dict[str, Any] | None) -> bool:
    """
    Enables FSDP on CPUs, where accelerate silently ignores it though torch supports it, with the `settings` of the training
    arguments or those of the launcher.

    Returns:
        Whether the model will be sharded.
    """
    if accelerator.distributed_type != DistributedType.MULTI_CPU or not _launched_with("FSDP"):
        return False
    state = accelerator.state
    # In both states: the next Accelerator, of the probe's Trainer, copies that of the process.
    PartialState().distributed_type = state.distributed_type = DistributedType.FSDP
    state.fsdp_plugin = FullyShardedDataParallelPlugin(**(settings or {}))
    if state.mixed_precision != "no":
        state.fsdp_plugin.set_mixed_precision(state.mixed_precision)
    return True


@contextmanager
def shardable_by_accelerate(model: Any, plugin: FullyShardedDataParallelPlugin) -> Iterator[None]:
    """
    Lets accelerate shard a speech model inside the block, each encoder layer by itself unless the launcher sets other classes.

    Accelerate asks for token embeddings, for which a speech model raises; and it takes HuBERT's `EncoderStableLayerNorm`, a child
    of the base model, for a final norm.
    """
    if plugin.transformer_cls_names_to_wrap is None:
        layers = {type(module).__name__ for name, module in model.named_modules() if LAYER.fullmatch(name)}
        plugin.transformer_cls_names_to_wrap = sorted(layers)
    with temporarily(model, get_input_embeddings=lambda: None, base_model_prefix=""):
        yield
