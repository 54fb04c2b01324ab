"""Models whose weights are spread over the processes (FSDP, DeepSpeed): whole again for saving, and for the figures of a run."""

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
from transformers import TrainingArguments

LAYER = re.compile(r"(.*\.)?layers\.\d+")


def require_shardable(training: TrainingArguments, adalora: bool) -> None:
    """
    Makes sure that the model can be spread over the processes, if the launcher or the arguments ask for that.

    Args:
        training (`TrainingArguments`): What the run was told.
        adalora (`bool`): Whether it trains by AdaLoRA.

    Raises:
        ValueError: if it cannot.
    """
    fsdp = training.fsdp_plugin_args is not None or _launched_with("FSDP")
    if fsdp:
        _require_fsdp_2(training)
    if adalora and (fsdp or training.deepspeed or _launched_with("DEEPSPEED")):
        raise ValueError(
            "--method adalora: it ranks the single weights of the whole model, which FSDP and DeepSpeed spread over the "
            "processes; launch without them, or choose another method"
        )


def _launched_with(what: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{what}", "false").lower() == "true"


def _require_fsdp_2(training: TrainingArguments) -> None:
    recipe = "as in scripts/recipes/accelerate/fsdp.yaml"
    plugin = FullyShardedDataParallelPlugin(**(training.fsdp_plugin_args or {}))
    if plugin.fsdp_version != 2:
        raise ValueError(
            "FSDP: the launcher asks for version 1, which shards no model of which a part is frozen; write fsdp_version: 2 "
            f"into its configuration, {recipe}"
        )
    if plugin.cpu_ram_efficient_loading:
        raise ValueError(
            "FSDP: the launcher asks for fsdp_cpu_ram_efficient_loading, which leaves the model empty but in one process; "
            f"write false, {recipe}"
        )
    if training.save_on_each_node:
        raise ValueError(
            "--save_on_each_node: with FSDP one process has the whole model to save, and each machine would find a part of the "
            "optimizer's state alone; let all machines see the same --output_dir, and leave it out"
        )


class Shards:
    """
    Puts a model together again whose weights are spread over the processes.

    Args:
        model (`PreTrainedModel` or `PeftModel`): The model before they are.
    """

    def __init__(self, model: Any) -> None:
        self._empty = _without_weights(model)

    def gather(self, shared: Any, *, everywhere: bool = False) -> Any:
        """
        A copy of the model with all weights, in float32, as it was before they were spread. Every process must call this; the
        copy of the first has the weights, and with `everywhere` those of all have.
        """
        raise NotImplementedError


class FSDPShards(Shards):
    """
    Those of torch's FSDP2, which has a part of each weight in each process.

    Args:
        model (`PreTrainedModel` or `PeftModel`): The model before it is sharded.
    """

    def gather(self, shared: Any, *, everywhere: bool = False) -> Any:
        whole = _without_weights(self._empty)
        options = StateDictOptions(full_state_dict=True, cpu_offload=not everywhere)
        if state := get_model_state_dict(shared, options=options):
            whole.load_state_dict(state, assign=True)
        return whole.eval()

    def scatter(self, sharded: nn.Module, whole: nn.Module) -> None:
        """Gives each process its part of the weights that `whole` has in the first one. Every process must call this."""
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        first = torch.distributed.get_rank() == 0
        set_model_state_dict(sharded, whole.state_dict() if first else {}, options=options)


class ZeroShards(Shards):
    """
    Those of DeepSpeed's ZeRO, which has the optimizer's float32 weights in parts, and in stage 3 those of the model, too.

    It changes frozen weights to the training's precision; here they stay as they were, in memory.

    Args:
        model (`PreTrainedModel` or `PeftModel`): The model before it is sharded.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._frozen = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}

    def gather(self, shared: Any, *, everywhere: bool = False) -> Any:
        from deepspeed.utils import safe_get_full_fp32_param

        whole = _without_weights(self._empty)
        inner = getattr(shared, "module", shared)
        trained = {
            name: safe_get_full_fp32_param(p).detach().cpu() for name, p in inner.named_parameters() if p.requires_grad
        }
        # What is counted stays a whole number, what is measured is float32 as the weights are.
        buffers = {
            name: buffer.cpu().float() if buffer.is_floating_point() else buffer.cpu()
            for name, buffer in inner.named_buffers()
        }
        known = {**self._frozen, **trained, **buffers}
        whole.load_state_dict({name: known[name].clone() for name in whole.state_dict()}, assign=True)
        return whole.eval()


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
    if accelerator.distributed_type != DistributedType.MULTI_CPU or not _launched_with("FSDP"):
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
