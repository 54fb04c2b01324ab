"""What can be chosen about bottleneck adapters."""

from dataclasses import dataclass, field

from peft import PeftConfig
from transformers.activations import ACT2FN

PLACEMENTS = ("sequential", "parallel")


@dataclass
class BottleneckConfig(PeftConfig):
    """
    Bottleneck adapters (PEFT-SER, section II-C): a projection down, a non-linearity, a projection up, in every layer of the
    encoder. With the defaults an encoder of 12 layers with 768 features gets the 2.37 M parameters of the paper's table IV.

    Args:
        bottleneck_size (`int`, *optional*, defaults to 128): Features between the two projections (section V-A).
        placement (`str`, *optional*, defaults to `"sequential"`): `sequential`: on the output of the feed-forward, the
            paper's "Adapter". `parallel`: beside the feed-forward and the layer norm in front of it, its "Parallel Adapter".
            [`BottleneckLayer`] says what each computes.
        scale (`float`, *optional*, defaults to 0.1): What the adapter's output is multiplied by.
        dropout (`float`, *optional*, defaults to 0.1): Dropout after the non-linearity, in training.
        non_linearity (`str`, *optional*, defaults to `"relu"`): A name of transformers' `ACT2FN`.
        target_modules (`str` or `list[str]`, *optional*): The feed-forwards, or their last linear layers: a regular expression
            for whole names, or ends of names. By default those of every encoder layer, for the families that are known.
        layer_norm (`str`, *optional*): With `parallel`: the name that the layer norm in front of the feed-forward has in
            the module that holds both. By default by family.
        layers_to_transform (`int` or `list[int]`, *optional*): Only these layers, counted from 0. By default all.
        exclude_modules (`str` or `list[str]`, *optional*): Modules to leave out, named like `target_modules`.
        modules_to_save (`list[str]`, *optional*): Modules that train as a whole and are saved with the adapter.

    Raises:
        ValueError: if a value is out of its range.
    """

    bottleneck_size: int = field(default=128, metadata={"help": "Features between the two projections."})
    placement: str = field(
        default="sequential",
        metadata={
            "help": "sequential: on the feed-forward's output. parallel: beside the feed-forward and its layer norm."
        },
    )
    scale: float = field(default=0.1, metadata={"help": "What the adapter's output is multiplied by."})
    dropout: float = field(default=0.1, metadata={"help": "Dropout after the non-linearity, in training."})
    non_linearity: str = field(default="relu", metadata={"help": "A name of transformers' ACT2FN."})
    target_modules: list[str] | str | None = field(
        default=None,
        metadata={"help": "The feed-forwards: a regular expression, or ends of names. By default by family."},
    )
    layer_norm: str | None = field(
        default=None,
        metadata={"help": "With parallel: the layer norm in front of the feed-forward. By default by family."},
    )
    layers_to_transform: list[int] | int | None = field(
        default=None, metadata={"help": "Only these layers, counted from 0."}
    )
    exclude_modules: list[str] | str | None = field(default=None, metadata={"help": "Modules to leave out."})
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Modules that train as a whole and are saved with the adapter."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "BOTTLENECK"
        if self.bottleneck_size < 1:
            raise ValueError(f"bottleneck_size: {self.bottleneck_size} is less than 1")
        if self.placement not in PLACEMENTS:
            raise ValueError(f"placement: {self.placement!r} is none of {', '.join(PLACEMENTS)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: {self.dropout} is not in [0, 1)")
        if self.non_linearity not in ACT2FN:
            raise ValueError(f"non_linearity: {self.non_linearity!r} is none of {', '.join(ACT2FN)}")
