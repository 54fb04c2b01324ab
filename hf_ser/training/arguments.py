"""The arguments of a run, from a YAML recipe and the command line."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from transformers import HfArgumentParser

from hf_ser.audio import Augmentation
from hf_ser.command_line import option, require_choices, require_share
from hf_ser.corpora import LABEL_SOURCES, labelled_by
from hf_ser.emotions import require_range
from hf_ser.training.config import SERConfig
from hf_ser.tuning import Tuning


@dataclass
class ScriptArguments:
    """The model to start from, the corpora, and how they are split."""

    model_name_or_path: str = option(
        "superb/hubert-large-superb-er",
        help="A pretrained HuBERT, Wav2Vec2, WavLM or Whisper (its encoder is used): a folder or a name on the Hub; "
        "hubert-tiny-random is the package's own, for trying things out.",
    )
    corpora: list[str] = option(
        ["synthetic"],
        help="Corpora as NAME=PATH: a name of hf-ser corpora --list with its folder; FILE.yaml, which describes a corpus, with a "
        "folder; manifest with a CSV, TSV, JSON lines or Parquet file (path, emotion, and optionally speaker, gender, "
        "session, split, corpus, arousal, valence, dominance, votes); dataset with a folder of save_to_disk or a name on "
        "the Hub; emobox with EmoBox/data/CORPUS; or synthetic, which the package makes itself.",
    )
    emotions: list[str] = option(
        [],
        help="Emotions to classify, and merges: neutral happy sad angry calm=neutral (calm counts as neutral). By default the "
        "eight of HuBERT-SER.",
    )
    minimum_raters: int = option(
        1, help="A clip has an emotion_distribution if so many raters named one of the emotions (--targets)."
    )
    vote_smoothing: float = option(
        0.0, help="Added to the votes for each emotion before they become shares (emotion_distribution)."
    )
    dimension_range: list[float] = option(
        [],
        help="The lowest and highest arousal, valence and dominance in manifests and data sets: 1 7. By default 0 1. Corpora "
        "have their own scales.",
    )
    label_source: str = option(
        "intended",
        help="CREMA-D's labels. intended: the emotion that the actor was asked for. multimodal_vote: the one that most viewers "
        "perceived; the corpus then has the name crema_d_votes.",
        choices=LABEL_SOURCES,
    )
    split: str = option(
        "speaker",
        help="speaker: no speaker is in two parts. random: clips are shuffled, as in HuBERT-SER; speakers are in all parts, and "
        "metrics say nothing about a new speaker. kfold: PEFT-SER's folds. official: the corpus' own parts, or its own "
        "folds (emobox). cross_corpus: some corpora train, and each other one is a test part.",
        choices=["cross_corpus", "kfold", "official", "random", "speaker"],
    )
    splits: str | None = option(None, help="A splits.json to read the split from, in place of --split.")
    train_corpora: list[str] = option([], help="Training corpora (cross_corpus).")
    test_size: float = option(0.2, help="Share of the clips for the test part (random, speaker, cross_corpus).")
    validation_size: float = option(0.1, help="Share of all clips for validation (random, speaker, cross_corpus).")
    fold: int = option(0, help="Which fold is the test part, from 0 (kfold, official).")
    folds: int | None = option(None, help="Folds: 5 by speaker, as many as sessions by session (kfold).")
    fold_by: str = option(
        "speaker",
        help="The unit that is never divided between folds (kfold).",
        choices=["speaker", "session"],
    )
    split_seed: int = option(42, help="Seed of the split, apart from the training's.")
    max_excluded: float = option(
        0.05, help="Stop if a larger share of a corpus' clips cannot be used; copies do not count."
    )
    streaming: bool = option(
        False,
        help="Read the clips while the model trains, and keep none of them on the disk: for dataset=user/name on the Hub, or "
        "dataset=FOLDER, that is stored as Parquet. Broken clips are excluded as they come, duplicates are not found.",
    )
    shuffle_buffer: int = option(1000, help="Size of the shuffle buffer in clips (--streaming).")
    prepare_workers: int | None = option(
        None, help="Processes that decode a corpus; by default one for each processor."
    )

    def __post_init__(self) -> None:
        require_choices(self)
        if self.shuffle_buffer < 1:
            raise ValueError(f"shuffle_buffer: must be at least 1 clip, found {self.shuffle_buffer}")
        require_share("max_excluded", self.max_excluded)
        if self.minimum_raters < 1 or not 0 <= self.vote_smoothing < math.inf:
            raise ValueError(
                "minimum_raters and vote_smoothing: expected at least 1 and not below 0, found "
                f"{self.minimum_raters} and {self.vote_smoothing:g}"
            )
        require_range(self.dimension_range)
        for name, splits in (("folds", ("kfold",)), ("fold", ("kfold", "official"))):
            if (value := getattr(self, name)) and self.split not in splits:
                raise ValueError(f"{name}={value}: split={self.split} has no folds; set split={' or '.join(splits)}")
        self.corpora = labelled_by(self.corpora, self.label_source)


class Arguments(NamedTuple):
    """All arguments of a run."""

    script: ScriptArguments
    tuning: Tuning
    augmentation: Augmentation
    training: SERConfig


#: The arguments by kind, in the order of the help, each with a heading.
GROUPS: dict[Any, str] = {
    ScriptArguments: "model, corpora and split",
    Tuning: "what trains",
    Augmentation: "augmentation of training clips",
    SERConfig: "training (transformers' other arguments: --help_all)",
}


def parse_arguments(argv: Sequence[str], description: str | None = None) -> Arguments:
    """
    Parses a command line. `--config recipe.yaml` gives defaults, the rest of the line overrides them:
    `--config recipe.yaml --learning_rate 1e-4`.

    Raises:
        SystemExit: after a message, if an argument is unknown or of the wrong kind.
    """
    parser = _parser(description, everything="--help_all" in argv or "--help-all" in argv)
    try:
        parsed = parser.parse_args_into_dataclasses(_with_recipe(argv), look_for_args_file=False)
    except ValueError as error:
        parser.error(str(error))
    return Arguments(*parsed[: len(Arguments._fields)])


def given_arguments(argv: Sequence[str]) -> dict[str, Any]:
    """The arguments that a command line and its recipe set, by name, as one recipe."""
    names = [field.name for group in GROUPS for field in fields(group) if field.init]
    # argparse gives no default to a name that the namespace has.
    parsed = _parser().parse_args(_with_recipe(argv), argparse.Namespace(**dict.fromkeys(names)))
    return {name: value for name, value in vars(parsed).items() if value is not None}


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Default values, and the lines of a description as they are."""


def _parser(description: str | None = None, *, everything: bool = False) -> HfArgumentParser:
    """The parser of a run's arguments. Its help has transformers' own arguments only with `everything`."""
    for kind, title in GROUPS.items():
        kind._argument_group_name = title
    parser = HfArgumentParser(
        list(GROUPS), description=description, allow_abbrev=False, add_help=False, formatter_class=_HelpFormatter
    )
    parser.usage = "%(prog)s [--config RECIPE.yaml] [--argument value ...]"  # the list of all is in the help
    parser.add_argument("--config", metavar="RECIPE.yaml", help="Defaults for all arguments, from a YAML file.")
    parser.add_argument("-h", "--help", action="help", help="Print this package's arguments.")
    parser.add_argument("--help_all", "--help-all", action="help", help="Print transformers' arguments, too.")
    of_transformers = {field.name for field in fields(SERConfig)} - SERConfig.__annotations__.keys()
    for action in parser._actions:
        # HfArgumentParser gives --no_NAME the help of --NAME.
        if (action.dest in of_transformers and not everything) or action.option_strings[0].startswith("--no_"):
            action.help = argparse.SUPPRESS
    return parser


def option_names() -> set[str]:
    """The options of a training's command line."""
    return {option for action in _parser()._actions for option in action.option_strings} | {"--seeds"}


def _with_recipe(argv: Sequence[str]) -> list[str]:
    """A command line with the lines of its recipe, if it has one, in front."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", type=Path)
    known, rest = first.parse_known_args(argv)
    return [*(recipe_words(read_recipe(known.config)) if known.config else []), *rest]


def read_recipe(path: Path) -> dict[str, Any]:
    """
    A YAML recipe. `extends: other.yaml` takes over the lines of a recipe beside it that it does not have itself.

    Raises:
        ValueError: if a file cannot be read or is no mapping, or a recipe extends itself.
    """
    recipe: dict[str, Any] = {}
    read: list[Path] = []
    while True:
        if path.resolve() in read:
            raise ValueError(f"config: {str(path)!r} extends itself")
        read.append(path.resolve())
        lines = _read_lines(path)
        parent = lines.pop("extends", None)
        recipe = {**lines, **recipe}
        if parent is None:
            return recipe
        path = path.parent / str(parent)


def _read_lines(path: Path) -> dict[str, Any]:
    try:
        lines = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"config: {str(path)!r} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        raise ValueError(f"config: {str(path)!r} is no YAML{f' (line {place.line + 1})' if place else ''}") from error
    if not isinstance(lines, dict):
        raise ValueError(f"config: {str(path)!r} must hold lines of the form argument: value")
    return lines


def recipe_words(recipe: dict[str, Any]) -> list[str]:
    """A recipe as command-line arguments: lists become several values, mappings `key=value` (`corpora: {ravdess: PATH}`)."""
    argv: list[str] = []
    for key, value in recipe.items():
        if isinstance(value, dict):
            value = [name if item is None else f"{name}={item}" for name, item in value.items()]
        if value is not None:
            argv += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
    return argv
