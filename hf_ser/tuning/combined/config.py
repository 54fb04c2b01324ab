"""Which tuners are combined."""

from dataclasses import dataclass, field
from typing import Any

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from peft.utils.constants import DUMMY_TARGET_MODULES

#: What the combination says once, for all of its parts.
SHARED = (
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "modules_to_save",
    "peft_version",
    "revision",
    "task_type",
)
#: Bottlenecks go around what other tuners made of a feed-forward, and prompts around whole layers.
OUTSIDE = ("BOTTLENECK", "EMBEDDING_PROMPT")


@dataclass
class CombinedConfig(PeftConfig):
    """
    Several tuners that train together and are one adapter (PEFT-SER's own code has such a mode; HuBERT-SER's limitations name
    it as further work). PEFT's own mixed models are for inference and cannot be saved.

    The order of `parts` does not matter: bottlenecks go around what the others made of a feed-forward, prompts around whole
    layers, and what is left is sorted by its type.

    Args:
        parts (`list[PeftConfig]` or `list[dict]`): The tuners, each of another type. What they would train as a whole is said
            once, in `modules_to_save`.
        modules_to_save (`list[str]`, *optional*): Modules that train as a whole and are saved with the adapter.

    Raises:
        ValueError: if there are fewer than two parts, two of one type, or one that cannot be combined: prompt learning for
            text, and tuners that share something between layers (VeRA) or change as training goes on (AdaLoRA).
    """

    parts: list[Any] = field(default_factory=list, metadata={"help": "The tuners' configurations."})
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Modules that train as a whole and are saved with the adapter."}
    )
    #: PEFT wants to see some; the parts have their own.
    target_modules: str = field(default=DUMMY_TARGET_MODULES, metadata={"help": "Leave as it is."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "COMBINED"
        self.parts = sorted((_plain(part) for part in self.parts), key=lambda part: order(part["peft_type"]))
        kinds = [part["peft_type"] for part in self.parts]
        if len(kinds) < 2:
            raise ValueError(f"parts: {len(kinds)} tuners; a combination needs two or more")
        if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
            raise ValueError(f"parts: {', '.join(twice)} is in it twice; one layer holds one of a type")
        for kind in kinds:
            tuner = PEFT_TYPE_TO_TUNER_MAPPING.get(kind)
            if tuner is None or not issubclass(tuner, BaseTuner) or tuner.uses_shared_state or kind == "ADALORA":
                raise ValueError(f"parts: {kind} cannot be combined with others")

    def configurations(self) -> list[PeftConfig]:
        """The parts' configurations, innermost first."""
        return [PeftConfig.from_peft_type(**part, inference_mode=self.inference_mode) for part in self.parts]


def order(kind: str) -> tuple[int, str]:
    """By this a type of PEFT lies within others: the smallest next to the layer's own weights."""
    return (1 + OUTSIDE.index(kind) if kind in OUTSIDE else 0, kind)


def _plain(part: PeftConfig | dict[str, Any]) -> dict[str, Any]:
    """A configuration as JSON has it, without what is said once for all parts."""
    given = part.to_dict() if isinstance(part, PeftConfig) else dict(part)
    kind = str(getattr(given.get("peft_type"), "value", given.get("peft_type")))
    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise ValueError(f"parts: {given.get('peft_type')!r} is no type of PEFT")
    if given.get("modules_to_save"):
        raise ValueError(f"modules_to_save: give {given['modules_to_save']} to the combination, not to {kind}")
    if given.get("bias") not in ("none", None, False):
        raise ValueError(f"bias: {given['bias']!r} is not for combinations; leave it out of {kind}")
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in given.items()}
    return {**{key: value for key, value in plain.items() if key not in SHARED}, "peft_type": kind}
