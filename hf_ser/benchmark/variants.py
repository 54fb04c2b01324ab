"""What is compared: the variants, each with one measure more than the one before, and the methods that train."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Setup:
    """
    How a variant trains. As it stands it is transformers' example of audio classification: files decoded and resampled at
    every access, float32, `Trainer`, transformers' model.

    Args:
        prepared (`bool`): Clips come from the prepared corpus, at 16 kHz.
        bf16 (`bool`, *optional*): bfloat16; `None` where the GPU or processor has it in hardware, as in a run.
        own (`bool`): The package's model, batches and Trainer: what is frozen is in eval mode, and has no graph.
        plain_attention (`bool`): Attention as plain matrix products where that is faster, on a CPU.
        fourier_positions (`bool`): Positional convolutions by Fourier transforms, on a CPU.
        keep_memory (`bool`): The allocator keeps what is freed.
        cache_gb (`float`): Disk for what the frozen part of the model computes of each clip, in GB.
        arguments (`dict`): More for the training arguments.
    """

    prepared: bool = False
    bf16: bool | None = False
    own: bool = False
    plain_attention: bool = False
    fourier_positions: bool = False
    keep_memory: bool = False
    cache_gb: float = 0.0
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """
    One step on the way from the baseline to a run of this package.

    Args:
        name (`str`): What it is called.
        adds (`str`): What it has that the one before does not.
        changes (`dict`): Of which fields of [`Setup`].
    """

    name: str
    adds: str
    changes: Mapping[str, Any] = field(default_factory=dict)


BASELINE = "baseline"
#: Each has the changes of all before it, too. To add a measure, add a line.
VARIANTS = (
    Variant(BASELINE, "Trainer as in transformers' example; files decoded at every access, float32"),
    Variant("prepared", "clips from the corpus that was decoded once", {"prepared": True}),
    Variant("bfloat16", "bfloat16 where the hardware has it", {"bf16": None}),
    Variant(
        "frozen",
        "this package's model and Trainer: what is frozen is in eval mode without a graph",
        {"own": True, "arguments": {"micro_batch_seconds": 0}},
    ),
    Variant(
        "attention",
        "attention as plain matrix products in bfloat16 or with dropout, on a CPU",
        {"plain_attention": True},
    ),
    Variant("positions", "positional convolutions by Fourier transforms, on a CPU", {"fourier_positions": True}),
    Variant(
        "pieces", "a batch in pieces of like length, with less padding", {"arguments": {"micro_batch_seconds": None}}
    ),
    Variant("memory", "the allocator keeps what is freed, on a CPU", {"keep_memory": True}),
    Variant("cache", "what the frozen front computes of a clip is kept between epochs", {"cache_gb": 64.0}),
)


def setups() -> dict[str, Setup]:
    """Each variant's setup, by its name, in order."""
    found, setup = {}, Setup()
    for variant in VARIANTS:
        arguments = {**setup.arguments, **variant.changes.get("arguments", {})}
        setup = replace(setup, **{**variant.changes, "arguments": arguments})
        found[variant.name] = setup
    return found


@dataclass(frozen=True)
class Method:
    """
    What trains, in this package's words and in transformers' and PEFT's.

    Args:
        tuning (`dict`): Fields of `hf_ser.tuning.Tuning`.
        head (`str`): This package's head.
        targets (`tuple`): The modules that PEFT's LoRA goes to in the baseline, of any encoder; empty without LoRA.
        whole_head (`bool`): Whether the head trains as a whole.
        whole_encoder (`bool`): Whether the encoder does.
        weighted (`bool`): Whether the baseline's head sees a learned average of all layers, as the `conv` head does.
        note (`str`): What a reader of the figures must know.
    """

    tuning: Mapping[str, Any]
    head: str = "stock"
    targets: tuple[str, ...] = ()
    whole_head: bool = True
    whole_encoder: bool = False
    weighted: bool = False
    note: str = ""


METHODS = {
    "full": Method({"method": "full", "freeze_feature_encoder": False}, whole_encoder=True),
    "full_frozen_convolutions": Method({"method": "full", "freeze_feature_encoder": True}, whole_encoder=True),
    "lora_qkv": Method({"method": "lora_qkv"}, targets=("q_proj", "k_proj", "v_proj")),
    "lora_ff": Method({"method": "lora_ff"}, targets=("fc1", "fc2", "intermediate_dense", "output_dense")),
    "lora_classifier": Method({"method": "lora_classifier"}, targets=("classifier",), whole_head=False),
    "head": Method(
        {"method": "head"},
        head="conv",
        weighted=True,
        note="this package's conv head against transformers' own, both on a learned average of all layers",
    ),
}
#: What is compared if nothing is asked for.
DEFAULT_METHODS = {"whisper": ("lora_ff", "head"), "": ("full", "lora_qkv", "lora_classifier", "head")}
