"""What can be chosen about embedding prompts."""

from dataclasses import dataclass, field

from peft import PeftConfig


@dataclass
class PromptConfig(PeftConfig):
    """
    Embedding prompts (PEFT-SER, section II-C and equation 2): trainable embeddings in front of the frames, new ones before
    every layer of the encoder. With the defaults an encoder of 12 layers with 768 features gets the 0.05 M parameters of the
    paper's table IV.

    Args:
        prompt_length (`int`, *optional*, defaults to 5): Embeddings before each layer (section V-A).
        target_modules (`str` or `list[str]`, *optional*): The encoder layers: a regular expression for whole names, or ends
            of names. By default every one, for the families that are known.
        layers_to_transform (`int` or `list[int]`, *optional*): Only these layers, counted from 0. By default all. Not for
            WavLM, whose layers hand one position bias along: it fits all of them or none.
        exclude_modules (`str` or `list[str]`, *optional*): Layers to leave out, named like `target_modules`.
        modules_to_save (`list[str]`, *optional*): Modules that train as a whole and are saved with the prompts.

    Raises:
        ValueError: if a value is out of its range.
    """

    prompt_length: int = field(default=5, metadata={"help": "Embeddings before each layer."})
    target_modules: list[str] | str | None = field(
        default=None,
        metadata={"help": "The encoder layers: a regular expression, or ends of names. By default every one."},
    )
    layers_to_transform: list[int] | int | None = field(
        default=None, metadata={"help": "Only these layers, counted from 0."}
    )
    exclude_modules: list[str] | str | None = field(default=None, metadata={"help": "Layers to leave out."})
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Modules that train as a whole and are saved with the prompts."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "EMBEDDING_PROMPT"
        if self.prompt_length < 1:
            raise ValueError(f"prompt_length: {self.prompt_length} is less than 1")
