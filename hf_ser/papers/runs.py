"""Finished runs: what they are, whether they are what a cell of a table is made of, and in what they differ from its recipe."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from hf_ser import records
from hf_ser.encoders import encoder_config
from hf_ser.hub.card.report import why_another
from hf_ser.hub.card.split import split_kind
from hf_ser.modeling import SERForAudioClassification, SERModelConfig
from hf_ser.models import Loaded
from hf_ser.models.load import load_config
from hf_ser.papers.experiments import MODELS, Experiment
from hf_ser.records import REPORT, RESULTS
from hf_ser.training import parse_arguments
from hf_ser.training.arguments import Arguments, read_recipe, recipe_words
from hf_ser.training.identity import counted, identity
from hf_ser.tuning import Tuning, parameter_counts
from hf_ser.tuning.methods import apply

#: Of a paper's clips so many may be set aside (broken, silent, copies) before a corpus is another one.
CLIPS_SET_ASIDE = 0.02
#: The parameters of a checkpoint may differ so much from those of its configuration: an embedding more or less.
PARAMETERS_APART = 0.01
#: What [`misfits`], the label of a split and the number of clips in a step tell in other words.
TOLD_OTHERWISE = re.compile(
    r"corpora|emotions|label_source|split|splits|fold|folds|fold_by|split_seed|model|head|method|lora_r|bottleneck_size|prompt_length"
    r"|per_device_train_batch_size|gradient_accumulation_steps|(data_)?seed"
)
#: What `results.json` must hold of a run, and of what type.
HELD: dict[tuple[str, ...], type] = {
    **dict.fromkeys([("base_model",), ("model_type",), ("method",), ("head",), ("split", "name")], str),
    ("emotions",): list,
    **dict.fromkeys([("merged_emotions",), ("corpora",), ("metrics", "test"), ("training", "arguments")], dict),
    **dict.fromkeys([("training", "clips_per_step"), ("parameters", "total"), ("seeds", "training")], int),
}


@dataclass(frozen=True)
class Run:
    """
    A finished run.

    Args:
        folder (`Path`): Its folder.
        results (`dict[str, Any]`): What its `results.json` holds.
        report (`dict[str, Any]`, *optional*): What the `report.json` beside it holds.
    """

    folder: Path
    results: dict[str, Any]
    report: dict[str, Any] | None

    @property
    def place(self) -> tuple[Any, ...]:
        """Which fold, drawing of the split and seed it is: no two runs of a cell may be the same."""
        split = self.results["split"]
        return split.get("fold"), split.get("seed"), self.results["seeds"]["training"]

    @property
    def fold(self) -> Any:
        """What a figure is averaged over: the fold, of a split without folds the drawing and the seed."""
        return self.place if self.results["split"].get("folds") is None else self.place[0]


def read_runs(root: Path) -> tuple[list[Run], list[str]]:
    """
    The finished runs below a folder.

    Returns:
        The runs, by their folders, and for each file that cannot be read what is wrong with it.
    """
    runs, wrong = [], []
    for path in sorted(root.rglob(RESULTS)):
        try:
            results = records.read(path)
        except (OSError, ValueError) as error:
            wrong.append(str(error))
            continue
        if problem := next(problems(results), None):
            wrong.append(f"{path}: not as hf_ser writes it: {problem}")
            continue
        report = None
        if (beside := path.with_name(REPORT)).exists():
            try:
                report = records.read(beside)
                if reason := why_another(report, results):
                    wrong.append(f"{beside} is left out: {reason}")
                    report = None
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                wrong.append(f"{beside} is left out: not as a report is written ({error})")
                report = None
        runs.append(Run(path.parent, results, report))
    return runs, wrong


def problems(results: Mapping[str, Any]) -> Iterator[str]:
    """What is missing in a `results.json`, or not what it should be, for a table to be filled from it."""
    for place, kind in HELD.items():
        found: Any = results
        for key in place:
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, kind):
            yield f"{'/'.join(place)} is {found!r}"
            return
    split, emotions, test = results["split"], results["emotions"], results["metrics"]["test"]
    if split["name"] == "kfold" and not ("by" in split and isinstance(split.get("folds"), int)):
        yield "split has no by and folds"
    for name in ("fold", "seed"):
        if not isinstance(split.get(name), int | None):
            yield f"split/{name} is {split[name]!r}"
    for name, corpus in results["corpora"].items():
        if not (isinstance(corpus, dict) and isinstance(corpus.get("clips"), int)):
            yield f"corpora/{name} is {corpus!r}"
    for name, value in test.items():
        if isinstance(value, int | float | str) and not (isinstance(value, int | float) and math.isfinite(value)):
            yield f"metrics/test/{name} is {value!r}"
    matrix = test.get("confusion_matrix")
    rows = [row for row in matrix if isinstance(row, list)] if isinstance(matrix, list) else []
    if [len(row) for row in rows] != [len(emotions)] * len(emotions) or not all(
        isinstance(n, int) for row in rows for n in row
    ):
        yield f"metrics/test/confusion_matrix has not {len(emotions)} times {len(emotions)} numbers of clips"


def misfits(run: Run, experiment: Experiment, models: Mapping[str, str]) -> list[str]:
    """
    Why a run is not one of an experiment: another model, method, head, emotions, corpora or setting. None if it is one.

    Args:
        run (`Run`): The run.
        experiment (`Experiment`): The experiment.
        models (`dict[str, str]`): Folders of models by their names on the Hub, for which they stand.
    """
    results = run.results
    found = []
    if not _is_model(results["base_model"], experiment.model, models):
        found.append(f"its model is {results['base_model']}, not {experiment.model}")
    if results["method"] != experiment.method:
        found.append(f"its method is {results['method']}, not {experiment.method}")
    if results["head"] != experiment.head:
        found.append(f"its head is {results['head']}, not {experiment.head}")
    if sorted(results["emotions"]) != list(experiment.emotions) or results["merged_emotions"]:
        merged = "".join(f", {one} as {other}" for one, other in results["merged_emotions"].items())
        found.append(f"its emotions are {', '.join(results['emotions'])}{merged}, not {', '.join(experiment.emotions)}")
    if set(results["corpora"]) != set(experiment.clips):
        found.append(f"its corpora are {', '.join(results['corpora'])}, not {', '.join(experiment.clips)}")
    else:
        for name, wanted in experiment.clips.items():
            clips = results["corpora"][name]["clips"]
            if abs(clips - wanted) > CLIPS_SET_ASIDE * wanted:
                found.append(f"it has {clips:,} clips of {name}, where the paper has {wanted:,}")
    for key, value in experiment.settings.items():
        if (told := _recorded(results)[key]) != value:
            found.append(f"its {key} is {told}, not {value}")
    if experiment.only_split and not in_paper_split(run, experiment):
        found.append(f"its split is {split_label(results['split'])}, not the paper's")
    if not found:
        wanted = total_parameters(experiment)
        total = results["parameters"]["total"]
        if results["model_type"] != MODELS[experiment.model].model_type or abs(total / wanted - 1) > PARAMETERS_APART:
            found.append(
                f"it is a {results['model_type']} of {total:,} parameters; {experiment.model} makes one of {wanted:,}"
            )
    return found


def in_paper_split(run: Run, experiment: Experiment) -> bool:
    """Whether a run has the split of the paper."""
    split = run.results["split"]
    return all(split.get(key) == value for key, value in experiment.split.items())


def split_label(split: Mapping[str, Any]) -> str:
    """A split in a few words, the same for all of its folds and seeds: `kfold split, 5 by session`."""
    name = split_kind(split)
    if name == "kfold":
        return f"kfold split, {split['folds']} by {split['by']}"
    if name == "emobox":
        return "EmoBox's folds"
    return f"{name} split"


def deviations(run: Run, experiment: Experiment, recipes: Path) -> list[str]:
    """In what a run was trained otherwise than by the experiment's recipe: `learning_rate 0.001 in place of 1e-05`."""
    wanted, found = by_recipe(recipes / experiment.recipe, experiment.method), _recorded(run.results)
    return [
        f"{name} {value} in place of {recipe}"
        for name, value in counted(found).items()
        if not TOLD_OTHERWISE.fullmatch(name) and value != (recipe := wanted.get(name, _defaults().get(name)))
    ]


@cache
def by_recipe(recipe: Path, method: str) -> dict[str, Any]:
    """The identity of the runs that a recipe gives with a method."""
    words = recipe_words({name: value for name, value in read_recipe(recipe).items() if name not in ("sweep", "seeds")})
    return identity(parse_arguments([*words, "--corpora", "ravdess=.", "--method", method, "--output_dir", "."]))


@cache
def _defaults() -> dict[str, Any]:
    """Every argument's default."""
    return {
        field.name: field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        for part in Arguments.__annotations__.values()
        for field in dataclasses.fields(part)
    }


def _recorded(results: Mapping[str, Any]) -> dict[str, Any]:
    """A run's arguments; its results hold what differs from the defaults."""
    training = results["training"]
    own = {"method": results["method"], "split": results["split"]["name"], "clips_per_step": training["clips_per_step"]}
    return {**_defaults(), **training["arguments"], **own}


def _is_model(found: str, wanted: str, models: Mapping[str, str]) -> bool:
    """Whether a run's base model, a name on the Hub or the last part of a folder, is the one that is wanted."""
    if "/" in found:
        return found == wanted
    return found == wanted.split("/")[1] or (wanted in models and found == Path(models[wanted]).expanduser().name)


def total_parameters(experiment: Experiment) -> int:
    """The parameters of the experiment's model, with its head and what its method adds, from configurations alone."""
    settings = tuple(sorted(experiment.settings.items()))
    return _total_parameters(experiment.model, experiment.method, experiment.head, len(experiment.emotions), settings)


@cache
def _total_parameters(model: str, method: str, head: str, emotions: int, settings: tuple[tuple[str, Any], ...]) -> int:
    with torch.device("meta"):
        config = SERModelConfig(encoder=MODELS[model], head=head, num_labels=emotions)
        loaded = Loaded(SERForAudioClassification(config), None, ())
        return parameter_counts(apply(loaded, Tuning(method=method, **dict(settings))))[1]


def require_model(name: str, folder: str) -> None:
    """
    Makes sure that a folder can hold the model that it stands for.

    Raises:
        ValueError: if `name` is no model of the papers, or the folder holds none, or one of another size.
    """
    if name not in MODELS:
        raise ValueError(f"--model: {name!r} is none of the papers' models: {', '.join(MODELS)}")
    if not Path(folder).expanduser().is_dir():
        raise ValueError(f"--model {name}: there is no folder {folder!r}")
    found, wanted = encoder_config(load_config(str(Path(folder).expanduser()))), MODELS[name]
    sizes = [(c.model_type, c.num_hidden_layers, c.hidden_size) for c in (found, wanted)]
    if sizes[0] != sizes[1]:
        of = " where it has ".join("a {} of {} layers of {}".format(*size) for size in sizes)
        raise ValueError(f"--model {name}: {folder!r} holds {of}")
