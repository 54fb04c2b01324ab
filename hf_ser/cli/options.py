"""Options that several commands share, with one meaning and one text."""

import argparse
from typing import Any

from hf_ser.corpora import LABEL_SOURCES
from hf_ser.inference.precision import PRECISIONS
from hf_ser.memory import BATCH_SECONDS

OPTIONS: dict[str, dict[str, Any]] = {
    "model": {
        "metavar": "MODEL",
        "help": "the folder of a run, an adapter or an exported model, or a model's name on the Hub",
    },
    "--base": {
        "metavar": "MODEL",
        "help": "where an adapter's base model is, if not where adapter_config.json has it",
    },
    "--revision": {"help": "a branch, tag or commit of a model on the Hub"},
    "--device": {"help": "where to compute, such as cpu or cuda:1; by default a GPU if there is one"},
    "--batch_seconds": {
        "type": float,
        "metavar": "S",
        "help": f"seconds of audio in a batch (default: {BATCH_SECONDS['gpu']:g} on a GPU, {BATCH_SECONDS['cpu']:g} on a CPU); "
        "less needs less memory, with the same results",
    },
    "--precision": {
        "choices": PRECISIONS,
        "default": PRECISIONS[0],
        "help": "the numbers that the model computes with (default: float32); bfloat16 is up to twice as fast where the hardware "
        "has it, and changes probabilities by usually under 0.01; int8 is for a CPU, up to three times as fast with AVX-512 "
        "VNNI, and changes them more; an exported model has its own",
    },
    "--jobs": {"type": int, "help": "runs at a time; by default one for each GPU"},
    "--label_source": {
        "choices": list(LABEL_SOURCES),
        "default": "intended",
        "help": "CREMA-D's labels: the emotion that the actor was asked for, or the one that most raters perceived",
    },
}


def new_parser(about: str | None) -> argparse.ArgumentParser:
    """The parser of a command; its help begins with `about` as it is written."""
    return argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


def add_options(parser: argparse._ActionsContainer, *names: str) -> None:
    """Adds some of the options to a parser or a group of it."""
    for name in names:
        parser.add_argument(name, **OPTIONS[name])
