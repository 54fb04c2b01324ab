"""The trainings behind each table of results: which cell they fill, how they are trained, and which finished runs they are."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from counts import HUBERT_SER_CORPORA, PEFT_SER_CORPORA, Corpora, path_of
from published import TABLES, Cells, number

from hf_ser.emotions import EMOTIONS
from hf_ser.hub.card import read_report
from hf_ser.records import RESULTS
from hf_ser.results import RunResults
from hf_ser.training import parse_arguments
from hf_ser.training.arguments import read_recipe, recipe_words
from hf_ser.training.identity import identity

RECIPES = Path(__file__).resolve().parents[1] / "scripts" / "recipes"
HUBERT_SER_MODEL, WAVLM = "superb/hubert-large-superb-er", "microsoft/wavlm-base-plus"
#: The encoders of PEFT-SER and of EmoBox, in the order of the tables.
PEFT_SER_MODELS = (
    "openai/whisper-tiny",
    "openai/whisper-base",
    "openai/whisper-small",
    "facebook/wav2vec2-base",
    WAVLM,
)
EMOBOX_MODELS = (
    "facebook/hubert-base-ls960",
    "facebook/hubert-large-ll60k",
    "microsoft/wavlm-large",
    "openai/whisper-large-v3",
)
MODELS = (HUBERT_SER_MODEL, *PEFT_SER_MODELS, *EMOBOX_MODELS)
#: The splits of PEFT-SER's corpora (section V-A), the number of trainings, and the arguments that ask for them.
PEFT_SER_SPLITS: dict[str, tuple[dict[str, Any], int, list[str]]] = {
    "iemocap": ({"name": "kfold", "by": "session", "folds": 5}, 5, ["--fold_by", "session"]),
    "crema_d_votes": ({"name": "kfold", "by": "speaker", "folds": 5}, 5, []),
    "msp_improv": ({"name": "kfold", "by": "session", "folds": 6}, 6, ["--fold_by", "session"]),
    "msp_podcast_known_speakers": ({"name": "official"}, 3, ["--split", "official", "--seeds", "42", "43", "44"]),
}
#: The setting of each method of PEFT-SER (section V-A).
PEFT_SER_METHODS: dict[str, dict[str, int]] = {
    "frozen": {},
    "adapter": {"bottleneck_size": 128},
    "parallel_adapter": {"bottleneck_size": 128},
    "prompt": {"prompt_length": 5},
    "lora_ff": {"lora_r": 8},
}
#: Arguments that distinguish the experiments of a recipe, and their folds and seeds.
COMPARED = {
    "model",
    "corpora",
    "emotions",
    "split",
    "splits",
    "fold",
    "folds",
    "fold_by",
    "split_seed",
    "seed",
    "data_seed",
}
COMPARED |= {key for settings in PEFT_SER_METHODS.values() for key in settings}
#: The share of a paper's clips that may be missing (broken, silent, copies) before it counts as another corpus.
CLIPS_EXCLUDED = 0.02


@dataclass(frozen=True)
class Experiment:
    """
    A setting with all its folds and seeds.

    Args:
        recipe (`str`): Its recipe in `scripts/recipes`.
        model, method, head (`str`): The model's name on the Hub, the method and the head.
        emotions (`tuple[str, ...]`): The emotions, sorted.
        clips (`dict[str, int]`): The paper's number of clips of each corpus.
        split (`dict[str, Any]`): The paper's split, as `results.json` has it.
        runs (`int`): The number of folds and seeds.
        folder (`str`): Where its runs go, below the folder of all runs.
        settings (`dict[str, int]`): The method's setting, such as the rank of LoRA.
        options (`list[str]`): More arguments.
    """

    recipe: str
    model: str
    method: str
    head: str
    emotions: tuple[str, ...]
    clips: Mapping[str, int]
    split: Mapping[str, Any]
    runs: int
    folder: str
    settings: Mapping[str, int] = field(default_factory=dict)
    options: Sequence[str] = ()

    def lacking(self, corpora: Corpora) -> list[str]:
        """The corpora that are not given, as `NAME=FOLDER`."""
        return [f"{name.removesuffix('_votes')}=FOLDER" for name in self.clips if path_of(corpora, name) is None]

    def corpora(self, corpora: Corpora) -> list[str]:
        """Its corpora, as `NAME=PATH`."""
        return [f"{name}={path_of(corpora, name)}" for name in self.clips]

    def arguments(self, corpora: Corpora, models: Mapping[str, str], runs: Path) -> list[str]:
        """
        The arguments of scripts/cross_validate.py that train it.

        Args:
            corpora (`dict[str, str]`): The paths of corpora, by name.
            models (`dict[str, str]`): The folders of models, by their names on the Hub.
            runs (`Path`): The folder of all runs.
        """
        words = ["--config", str(RECIPES / self.recipe), "--corpora", *self.corpora(corpora)]
        words += ["--model_name_or_path", models.get(self.model, self.model), "--method", self.method]
        words += [word for key, value in self.settings.items() for word in (f"--{key}", str(value))]
        if self.split["name"] == "file":
            folds = [str(runs / "emobox" / "splits" / f"fold_{fold + 1}.json") for fold in range(self.runs)]
            words += ["--sweep", f"splits={','.join(folds)}"]
        return [*words, *self.options, "--output_dir", str(runs / self.folder)]


def hubert_ser(method: str) -> Experiment:
    """HuBERT-SER's experiment with one of its three methods (section 3)."""
    clips = dict.fromkeys(HUBERT_SER_CORPORA.values(), 0)
    for _, source, n in TABLES["hubert_ser/2"].rows:
        clips[HUBERT_SER_CORPORA[str(source)]] += int(number(n))
    settings = {"lora_r": 8} if method.startswith("lora") else {}
    place = f"hubert_ser/{method}"
    return Experiment(
        f"{place}.yaml", HUBERT_SER_MODEL, method, "stock", EMOTIONS, clips, {"name": "random"}, 1, place, settings
    )


def peft_ser(model: str, method: str, label: str, setting: str | None = None) -> Experiment:
    """
    PEFT-SER's experiment (section V-A).

    Args:
        model, method (`str`): The model's name on the Hub, and the method.
        label (`str`): The corpus, as Table III calls it.
        setting (`str`, *optional*): Another length of the prompt, bottleneck or rank than the paper's.
    """
    name, table = PEFT_SER_CORPORA[label], TABLES["peft_ser/III"]
    split, runs, options = PEFT_SER_SPLITS[name]
    settings = {key: int(setting or value) for key, value in PEFT_SER_METHODS[method].items()}
    clips = {name: int(sum(map(number, table.rows[table.row(label)][1:5])))}
    place = f"peft_ser/{name}/{model.split('/')[1]}/{'-'.join([method, *map(str, settings.values())])}"
    emotions = ("angry", "happy", "neutral", "sad")
    recipe = "peft_ser/peft_ser.yaml"
    return Experiment(recipe, model, method, "conv", emotions, clips, split, runs, place, settings, options)


def emobox(model: str) -> Experiment:
    """EmoBox's six folds of RAVDESS with a frozen encoder."""
    split = {"name": "file", "made_as": "emobox", "folds": 6}
    place = f"emobox/{model.split('/')[1]}"
    return Experiment("emobox/ravdess.yaml", model, "frozen", "stock", EMOTIONS, {"ravdess": 1440}, split, 6, place)


@dataclass(frozen=True)
class Cell:
    """
    A cell of a table of results.

    Args:
        row, column (`int`): Its place, both from 0, the column among those that hold values.
        metric (`str`): The place of the metric in `results.json`, or after `report/` in `report.json`; or
            `confusion/true/predicted`.
        experiments (`dict[str, Experiment]`): The experiments that it is a mean of, by corpus.
    """

    row: int
    column: int
    metric: str
    experiments: Mapping[str, Experiment]


def all_corpora(model: str, method: str, setting: str | None = None) -> dict[str, Experiment]:
    return {label: peft_ser(model, method, label, setting) for label in PEFT_SER_CORPORA}


HUBERT_SER_METHODS = ("full", "lora_qkv", "lora_classifier")
UAR = "metrics/test/uar"
#: The cells of the tables that are made of runs.
CELLS: dict[str, list[Cell]] = {
    "hubert_ser/3": [
        Cell(row, column, f"metrics/test/{metric}", {"": hubert_ser(method)})
        for row, method in enumerate(HUBERT_SER_METHODS)
        for column, metric in enumerate(("f1_weighted", "eer", "accuracy"))
    ],
    **{
        f"hubert_ser/{4 + k}": [
            Cell(row, column, f"confusion/{true}/{predicted}", {"": hubert_ser(method)})
            for row, true in enumerate(EMOTIONS)
            for column, predicted in enumerate(EMOTIONS)
        ]
        for k, method in enumerate(HUBERT_SER_METHODS)
    },
    "peft_ser/V": [
        Cell(row, column, UAR, all_corpora(model, method))
        for row, method in enumerate(PEFT_SER_METHODS)
        for column, model in enumerate(PEFT_SER_MODELS)
    ],
    "peft_ser/VI": [
        Cell(row, 2 * k + n, f"report/fairness/{measure}", {"": peft_ser(WAVLM, method, label)})
        for row, method in enumerate(("frozen", "adapter", "prompt", "lora_ff"))
        for k, label in enumerate(PEFT_SER_CORPORA)
        for n, measure in enumerate(("demographic_parity", "equality_of_odds"))
    ],
    **{
        name: [
            Cell(row, column, UAR, all_corpora(model, method, setting))
            for row, model in enumerate(PEFT_SER_MODELS)
            for column, setting in enumerate(TABLES[name].columns[1:])
        ]
        for name, method in (
            ("peft_ser/figure_4", "prompt"),
            ("peft_ser/figure_5", "adapter"),
            ("peft_ser/figure_6", "lora_ff"),
        )
    },
    "emobox/ravdess": [Cell(row, 0, UAR, {"": emobox(model)}) for row, model in enumerate(EMOBOX_MODELS)],
}


def experiments_of(table: str) -> dict[str, Experiment]:
    """The experiments of a table by folder: two with the same folder are the same."""
    return {e.folder: e for cell in CELLS.get(table, []) for e in cell.experiments.values()}


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its results, and the `report.json` of its test part."""

    folder: Path
    results: RunResults
    report: Mapping[str, Any] | None

    @property
    def fold(self) -> Any:
        """What a metric is averaged over: the fold, or of a split without folds the seeds."""
        split = self.results.split
        seeds = split.get("seed"), self.results.seeds.training
        return seeds if split.get("folds") is None else split.get("fold")

    def differences(self, experiment: Experiment, models: Mapping[str, str]) -> list[str]:
        """Why the run is not one of an experiment; empty if it is one. `models`: see [`Experiment.arguments`]."""
        results, folder = self.results, models.get(experiment.model, experiment.model)
        model = results.base_model
        # Runs on another split stand in a line of their own; EmoBox defines its folds.
        split = experiment.split if experiment.split["name"] == "file" else results.split
        compared: list[tuple[str, Any, Any]] = [
            ("model", experiment.model if model == Path(folder).name else model, experiment.model),
            ("method", results.method, experiment.method),
            ("head", results.head, experiment.head),
            ("emotions", sorted(results.emotions), list(experiment.emotions)),
            ("merged emotions", results.merged_emotions, {}),
            ("corpora", sorted(results.corpora), sorted(experiment.clips)),
            ("split", split_label(results.split), split_label(split)),
            *((name, (results.identity or {}).get(name), value) for name, value in experiment.settings.items()),
        ]
        reasons = [f"{name} {found}, expected {wanted}" for name, found, wanted in compared if found != wanted]
        for name, expected in experiment.clips.items():
            clips = results.corpora[name].clips if name in results.corpora else expected
            if abs(clips - expected) > CLIPS_EXCLUDED * expected:
                reasons.append(f"{clips:,} clips of {name}, expected {expected:,}")
        return reasons

    def label(self, experiment: Experiment) -> str:
        """The run's split, and each argument that differs from the recipe's."""
        changed = [
            f"{name} {found} in place of {value}"
            for name, (found, value) in self.results.differences(
                by_recipe(experiment.recipe, experiment.method)
            ).items()
            if name not in COMPARED
        ]
        return ", ".join([split_label(self.results.split), *changed])


@cache
def by_recipe(recipe: str, method: str) -> dict[str, Any]:
    """The identity of the runs that a recipe gives with a method."""
    given = {name: value for name, value in read_recipe(RECIPES / recipe).items() if name not in ("sweep", "seeds")}
    return identity(
        parse_arguments([*recipe_words(given), "--method", method, "--corpora", "ravdess=.", "--output_dir", "."])
    )


def split_label(split: Mapping[str, Any]) -> str:
    """A split in a few words, the same for all its folds and seeds: `kfold split, 5 by session`."""
    name = split.get("made_as", split["name"]) if split["name"] == "file" else split["name"]
    return f"{name} split" + (f", {split['folds']} by {split['by']}" if name == "kfold" else "")


def read_runs(root: Path) -> tuple[list[Run], list[str]]:
    """The finished runs below a folder, and what is wrong with each file that cannot be read."""
    runs, wrong = [], []
    for path in sorted(root.rglob(RESULTS)):
        try:
            results = RunResults.read(path)
            if results.identity is None:
                raise ValueError(f"{path}: there is no run.json beside it, which has the arguments of the run")
            runs.append(Run(path.parent, results, read_report(path.parent, results)))
        except (OSError, ValueError) as error:
            wrong.append(str(error))
    return runs, wrong


def as_in_paper(experiment: Experiment, runs: Iterable[Run], models: Mapping[str, str]) -> list[Run]:
    """The runs of an experiment on the paper's split and by the recipe; `models`: see [`Experiment.arguments`]."""
    fitting = [run for run in runs if not run.differences(experiment, models)]
    return [run for run in fitting if run.label(experiment) == split_label(experiment.split)]


def missing(experiment: Experiment, runs: Iterable[Run], models: Mapping[str, str]) -> int:
    """The number of folds and seeds of an experiment that have no finished run as in the paper."""
    return max(experiment.runs - len({run.fold for run in as_in_paper(experiment, runs, models)}), 0)


def fill(
    table: str, runs: Sequence[Run], models: Mapping[str, str]
) -> tuple[dict[str, Cells], set[Path], dict[Path, list[str]]]:
    """
    Fills a table of results.

    Returns:
        The cells by the corpus, split and deviations from the recipe of their runs; the folders of all runs in the table; the
        folders of all others, with their differences to the nearest experiment.
    """
    lines: dict[str, Cells] = {}
    refused: dict[Path, list[str]] = {}
    groups: dict[str, dict[str, list[Run]]] = {}
    for place, experiment in experiments_of(table).items():
        groups[place] = {}
        for run in runs:
            if reasons := run.differences(experiment, models):
                refused[run.folder] = min(refused.get(run.folder, reasons), reasons, key=len)
            else:
                groups[place].setdefault(run.label(experiment), []).append(run)
    for cell in CELLS[table]:
        means = []
        for name, experiment in cell.experiments.items():
            for label, members in groups[experiment.folder].items():
                values = by_fold(members, cell.metric)
                expected = members[0].results.split.get("folds") or experiment.runs
                if not values:
                    continue
                line = ", ".join(filter(None, [name, label]))
                text = shown(cell, values) + ("" if len(values) >= expected else f" ({len(values)} of {expected})")
                lines.setdefault(line, {})[cell.row, cell.column] = text
                if label == split_label(experiment.split) and len(values) >= expected:
                    means.append(statistics.mean(values))
        if len(means) == len(cell.experiments) > 1:
            lines.setdefault("mean of all corpora", {})[cell.row, cell.column] = shown(cell, means)
    used = {run.folder for labels in groups.values() for members in labels.values() for run in members}
    return lines, used, {folder: reasons for folder, reasons in refused.items() if folder not in used}


def by_fold(runs: Iterable[Run], metric: str) -> list[float]:
    """A metric of each fold, from 0 to 1: the mean over its seeds. Runs without it are left out."""
    found: dict[Any, list[float]] = {}
    for run in runs:
        if (value := value_of(run, metric)) is not None:
            found.setdefault(run.fold, []).append(value)
    return [statistics.mean(values) for values in found.values()]


def value_of(run: Run, metric: str) -> float | None:
    first, *keys = metric.split("/")
    if first == "confusion":
        emotions = run.results.emotions
        true, predicted = map(emotions.index, keys)
        row = run.results.test["confusion_matrix"][true]
        return row[predicted] / sum(row) if sum(row) else None
    found: Any = (run.report or {}) if first == "report" else getattr(run.results, first)
    for key in keys:
        found = (found or {}).get(key)
    return found


def shown(cell: Cell, values: Sequence[float]) -> str:
    """Mean and sample standard deviation: in per cent, but F1 and EER as the paper has them."""
    scale, digits = (1, 4) if cell.metric.endswith(("f1_weighted", "eer")) else (100, 2)
    text = f"{scale * statistics.mean(values):.{digits}f}"
    return text + (f" ± {scale * statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")
