"""
A search for hyperparameters with Optuna.

A trial trains once for each inner fold of the training speakers. Its objective is the mean UAR on the speakers that a fold
leaves out, or their mean CCC if the model has dimensions alone. The validation and the test part of the arguments' own split
are in no fold. transformers' `hyperparameter_search` trains one Trainer on one split in each trial; so Optuna's study is used
directly, and each training is a whole run ([`finetune`]) with a `splits.json` of its own.
"""

import statistics
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from datasets import Dataset, DatasetDict
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState
from sklearn.model_selection import StratifiedGroupKFold
from tqdm import tqdm

from hf_ser import records, splits
from hf_ser.clips import column, emotion_column
from hf_ser.evaluation import DivergedError
from hf_ser.records import RUN
from hf_ser.rendering.blocks import METRICS
from hf_ser.rendering.formats import table_in_markdown
from hf_ser.splits import SplitError
from hf_ser.training.arguments import Arguments, given_arguments, parse_arguments, recipe_words
from hf_ser.training.config import HEAD_LEARNING_RATE, HEAD_METHODS, default_rates
from hf_ser.training.data import load_parts
from hf_ser.training.identity import identity, require_same_run
from hf_ser.training.run import finetune
from hf_ser.training.trainer import require_trainable

STUDY = "study.db"
BEST = "best.yaml"

Space = dict[str, BaseDistribution]


def default_space(arguments: Arguments) -> Space:
    """What is searched by default: what the method has, around the default values."""
    methods = arguments.tuning.methods
    space: Space = {}
    if not HEAD_METHODS.issuperset(methods):
        rates = [rate for method in methods for rate in default_rates(method).values()]
        space["learning_rate"] = FloatDistribution(min(rates) / 5, max(rates) * 5, log=True)
    solved = arguments.training.head == "linear" and "lora_classifier" not in methods
    low, high = (HEAD_LEARNING_RATE / 10, HEAD_LEARNING_RATE * 10) if solved else (1e-4, 3e-2)
    space["head_learning_rate"] = FloatDistribution(low, high, log=True)
    space["num_train_epochs"] = IntDistribution(2, 15)
    if not arguments.training.focal_gamma:
        space["label_smoothing_factor"] = FloatDistribution(0.0, 0.2)
    if "full" in methods:
        space["layer_decay"] = FloatDistribution(0.6, 1.0)
    if any(method.startswith("lora_") for method in methods):
        space["lora_r"] = CategoricalDistribution(("4", "8", "16", "32"))
    space["weight_decay"] = FloatDistribution(0.0, 0.1)
    return space


def read_space(words: Sequence[str]) -> Space:
    """
    A space from `NAME=LOW:HIGH`, `NAME=LOW:HIGH:log` or `NAME=VALUE,VALUE`. A range between whole numbers has whole numbers.

    Raises:
        ValueError: if a word has another form.
    """
    space: Space = {}
    for word in words:
        name, equals, given = word.partition("=")
        low, colon, rest = given.partition(":")
        high, also, scale = rest.partition(":")
        try:
            if not (name and equals and given) or (also and scale != "log"):
                raise ValueError
            if not colon:
                space[name] = CategoricalDistribution(given.split(","))
            elif low.isdigit() and high.isdigit():
                space[name] = IntDistribution(int(low), int(high), log=bool(also))
            else:
                space[name] = FloatDistribution(float(low), float(high), log=bool(also))
        except ValueError as error:
            reason = f": {error}" if str(error) else ""
            raise ValueError(
                f"space: expected NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=VALUE,VALUE, found {word!r}{reason}"
            ) from None
    return space


def inner_folds(clips: Dataset, folds: int) -> list[DatasetDict]:
    """
    Folds of a run's training clips by speaker, with emotions, genders and corpora shared out evenly. A fold's speakers are its
    test part, and about a fifth of the others its validation part.

    Raises:
        SplitError: if a clip has no speaker, or there are too few speakers.
    """
    speakers = column(clips, "speaker")
    number = len(speakers.counts())
    if speakers.unknown or folds < 2 or number < max(folds, 3):
        raise SplitError(
            f"inner_folds={folds}: expected a speaker for every training clip, and at least {max(folds, 3)} speakers and 2 "
            f"folds; found {number} speakers, and {speakers.unknown} clips without one"
        )
    columns = (emotion_column(clips), column(clips, "gender"), column(clips, "corpus"))
    traits = np.array([str(values) for values in zip(*columns, strict=True)])

    def cut(among: splits.Indices, count: int) -> list[splits.Indices]:
        cutter = StratifiedGroupKFold(count, shuffle=True, random_state=0)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class")
            return [among[part] for _, part in cutter.split(among, traits[among], speakers.codes[among])]

    every = np.arange(len(clips))
    found = []
    for fold, test in enumerate(cut(every, folds)):
        others = np.setdiff1d(every, test)
        validation = cut(others, min(5, len(set(speakers.codes[others]))))[0]
        rows = {"train": np.setdiff1d(others, validation), "validation": validation, "test": test}
        found.append(splits.parts_of(clips, "inner", {"fold": fold, "folds": folds}, rows))
    return found


def search(argv: Sequence[str], arguments: Arguments, space: Space, *, trials: int, folds: int) -> optuna.Study:
    """
    Continues the search in `output_dir` up to a number of trials, and writes the best arguments as a recipe, `best.yaml`.
    Weights are deleted after each training.

    Args:
        argv, arguments: See [`~hf_ser.training.cross_validation.plan`].
        space (`dict[str, BaseDistribution]`): The arguments that are searched.
        trials (`int`): Trials in all, those of earlier calls included.
        folds (`int`): Inner folds.

    Raises:
        ValueError: if the arguments do not fit a search, or differ from those that the search was started with.
    """
    training, root = arguments.training, arguments.training.folder
    require_trainable(training, arguments.tuning)
    if training.world_size > 1:
        raise ValueError(f"a search runs in one process, found {training.world_size}; start it with python")
    if training.push_to_hub:
        raise ValueError("push_to_hub: a search publishes nothing; leave it out")
    if arguments.tuning.method == "probe":
        raise ValueError("method probe: trains nothing by gradient steps; choose another method")
    if (root / RUN).exists() and not (root / STUDY).exists():
        raise FileExistsError(f"output_dir: {str(root)!r} holds a run; choose another folder")
    given = identity(arguments)
    require_same_run(root, given)

    files = _write_folds(root, inner_folds(load_parts(arguments)["train"], folds))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{(root / STUDY).resolve()}",
        study_name="search",
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
    )
    # With the same seed, a search that goes on would draw the same values again.
    study.sampler = optuna.samplers.TPESampler(seed=training.seed + len(study.trials))
    records.write(root / RUN, given)

    done = len(study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)))
    with tqdm(total=trials, initial=min(done, trials), unit=" trials") as bar:
        for _ in range(done, trials):
            trial = study.ask(space)
            try:
                study.tell(trial, _mean_metric(argv, arguments, trial, files))
            except (optuna.TrialPruned, DivergedError):
                study.tell(trial, state=TrialState.PRUNED)
            if finished := ranking(study):
                bar.set_postfix_str(f"best {objective(study)} {metric_of(study, finished[0])}")
            bar.update()
    if not (finished := ranking(study)):
        raise ValueError("every training diverged; search lower learning rates with space learning_rate=LOW:HIGH:log")
    about = f"{objective(study)} {metric_of(study, finished[0])}, mean over {len(files)} folds of the training speakers"
    _write_recipe(root / BEST, argv, finished[0], about)
    return study


def _write_folds(root: Path, folds: Sequence[DatasetDict]) -> list[Path]:
    """Writes the folds, or makes sure that they are those that the search was started with."""
    root.mkdir(parents=True, exist_ok=True)
    files = [root / f"inner-{fold}.json" for fold in range(len(folds))]
    for file, parts in zip(files, folds, strict=True):
        if not file.exists():
            splits.save_splits(parts, file)
        try:
            splits.require_same_splits(file, parts)
        except SplitError as error:
            raise SplitError(
                f"output_dir: {str(root)!r} holds a search on other clips or another number of folds ({file.name})"
            ) from error
    return files


def _mean_metric(argv: Sequence[str], arguments: Arguments, trial: Trial, files: Sequence[Path]) -> float:
    words = [*argv, *recipe_words(trial.params), "--disable_tqdm", "True", "--overwrite_output_dir", "False"]
    if not arguments.training.load_best_model_at_end:
        words += ["--save_strategy", "no"]
    found: list[float] = []
    for fold, file in enumerate(files):
        with tempfile.TemporaryDirectory(prefix="trial-", dir=file.parent) as folder:
            results = finetune(parse_arguments([*words, "--splits", str(file), "--output_dir", folder]))
        trial.study.set_user_attr("metric", results.main_metric)
        found.append(results.test[results.main_metric])
        trial.report(statistics.mean(found), fold)
        if fold + 1 < len(files) and trial.should_prune():
            raise optuna.TrialPruned
    return statistics.mean(found)


def require_space(space: Space, argv: Sequence[str]) -> None:
    """
    Makes sure that the arguments take the ends of each range, and each choice.

    Raises:
        SystemExit: after a message, if one of them does not.
    """
    for name, values in space.items():
        ends = values.choices if isinstance(values, CategoricalDistribution) else (values.low, values.high)  # type: ignore[attr-defined]
        for value in ends:
            parse_arguments([*argv, *recipe_words({name: value})])


def ranking(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that trained on all folds, the best first."""
    return sorted(study.get_trials(states=(TrialState.COMPLETE,)), key=lambda trial: -trial.values[0])


def objective(study: optuna.Study) -> str:
    """The name of the metric that is searched for."""
    return METRICS[study.user_attrs["metric"]][0]


def metric_of(study: optuna.Study, trial: FrozenTrial) -> str:
    """The mean metric of a trial over the inner folds."""
    return METRICS[study.user_attrs["metric"]][1](trial.values[0]).text


def _write_recipe(path: Path, argv: Sequence[str], best: FrozenTrial, about: str) -> None:
    given = given_arguments([*argv, *recipe_words(best.params)])
    recipe = {name: value for name, value in given.items() if name not in ("output_dir", "overwrite_output_dir")}
    lines = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
    path.write_text(f"# Trial {best.number}: {about}.\n{lines}", encoding="utf-8")


def as_markdown(study: optuna.Study) -> str:
    """The ten best trials: the mean metric over the inner folds, and the arguments."""
    best = ranking(study)[:10]
    names = list(dict.fromkeys(name for trial in best for name in trial.params))

    def short(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    rows = [
        [str(trial.number), metric_of(study, trial), *(short(trial.params.get(name, "-")) for name in names)]
        for trial in best
    ]
    return table_in_markdown(["trial", objective(study), *names], rows)
