"""Which runs a table of results is made of, cell by cell, and how they are trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import HubertConfig, PretrainedConfig, WavLMConfig, WhisperConfig

from hf_ser.emotions import EMOTIONS
from hf_ser.papers.computed import (
    HUBERT_LARGE_SUPERB,
    HUBERT_SER_CORPORA,
    PEFT_SER_CORPORA,
    asked_for,
    given,
)
from hf_ser.papers.figures import load_figures, number
from hf_ser.tuning.counts import PEFT_SER_ENCODERS

#: The models of the papers, by their names on the Hub and the values of their published configurations.
MODELS: dict[str, PretrainedConfig] = {
    "superb/hubert-large-superb-er": HUBERT_LARGE_SUPERB,
    "openai/whisper-tiny": PEFT_SER_ENCODERS["Whisper Tiny"],
    "openai/whisper-base": PEFT_SER_ENCODERS["Whisper Base"],
    "openai/whisper-small": PEFT_SER_ENCODERS["Whisper Small"],
    "facebook/wav2vec2-base": PEFT_SER_ENCODERS["W2V 2.0 Base"],
    "microsoft/wavlm-base-plus": PEFT_SER_ENCODERS["WavLM Base+"],
    "facebook/hubert-base-ls960": HubertConfig(),
    "facebook/hubert-large-ll60k": HUBERT_LARGE_SUPERB,
    "microsoft/wavlm-large": WavLMConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    ),
    "openai/whisper-large-v3": WhisperConfig(
        d_model=1280, encoder_layers=32, encoder_attention_heads=20, encoder_ffn_dim=5120, num_mel_bins=128
    ),
}
#: PEFT-SER's encoders in the order of its tables.
PEFT_SER_MODELS = tuple(MODELS)[1:6]
WAVLM = "microsoft/wavlm-base-plus"


@dataclass(frozen=True)
class Experiment:
    """
    A setting with all its folds and seeds.

    Args:
        recipe (`str`): Its recipe in `scripts/recipes`.
        model (`str`): The model's name on the Hub, one of `MODELS`.
        method (`str`): What trains.
        head (`str`): The head.
        emotions (`tuple[str, ...]`): The emotions, sorted.
        clips (`dict[str, int]`): The clips that the paper has of each corpus, by the corpora's names here.
        split (`dict[str, Any]`): The paper's split, as `results.json` has it.
        runs (`int`): How many folds and seeds there are.
        folder (`str`): Where its runs go, below the folder of all.
        settings (`dict[str, Any]`): What distinguishes it from others of the same method: the rank of LoRA and the like.
        options (`tuple[str, ...]`): More words for the command line.
        only_split (`bool`, defaults to `False`): Whether runs on another split are none of it.
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
    settings: Mapping[str, Any]
    options: tuple[str, ...] = ()
    only_split: bool = False


@dataclass(frozen=True)
class Cell:
    """
    A cell of a table of results.

    Args:
        row, column (`int`): Where it is, from 0, the column among those that hold figures.
        figure (`str`): Which figure, by its place in `results.json` (`metrics/test/uar`), or `report/...` in `report.json`; or
            `confusion/true/predicted`.
        experiments (`dict[str, Experiment]`): What it is made of, by what tells them apart: the corpora that it is a mean of.
        percent (`bool`, defaults to `True`): In per cent with two digits, else a share with four.
    """

    row: int
    column: int
    figure: str
    experiments: Mapping[str, Experiment]
    percent: bool = True


def hubert_ser(method: str) -> Experiment:
    """HuBERT-SER's experiment with one of its three methods (section 3)."""
    table = load_figures()["hubert_ser/2"]
    clips = {
        name: int(sum(number(str(count)) for _, source, count in table.rows if source == label))
        for label, name in HUBERT_SER_CORPORA.items()
    }
    return Experiment(
        recipe=f"hubert_ser/{method}.yaml",
        model="superb/hubert-large-superb-er",
        method=method,
        head="stock",
        emotions=EMOTIONS,
        clips=clips,
        split={"name": "random"},
        runs=1,
        folder=f"hubert_ser/{method}",
        settings={"lora_r": 8} if method.startswith("lora") else {},
    )


#: PEFT-SER's folds (section V-A), how many trainings they are, and how they are asked for.
PEFT_SER_SPLITS: dict[str, tuple[dict[str, Any], int, tuple[str, ...]]] = {
    "iemocap": ({"name": "kfold", "by": "session", "folds": 5}, 5, ("--fold_by", "session")),
    "crema_d_votes": ({"name": "kfold", "by": "speaker", "folds": 5}, 5, ()),
    "msp_improv": ({"name": "kfold", "by": "session", "folds": 6}, 6, ("--fold_by", "session")),
    "msp_podcast": ({"name": "official"}, 3, ("--split", "official", "--seeds", "42", "43", "44")),
}
#: What else a method of PEFT-SER is told (section V-A).
PEFT_SER_SETTINGS: dict[str, dict[str, int]] = {
    "head": {},
    "adapter": {"bottleneck_size": 128},
    "parallel_adapter": {"bottleneck_size": 128},
    "prompt": {"prompt_length": 5},
    "lora_ff": {"lora_r": 8},
}


def peft_ser(model: str, method: str, label: str, setting: int | None = None) -> Experiment:
    """
    PEFT-SER's experiment with a model and a method on a corpus (section V-A).

    Args:
        model (`str`): The model's name on the Hub.
        method (`str`): The method.
        label (`str`): The corpus, as its Table III calls it.
        setting (`int`, *optional*): The length of the prompt, the bottleneck or the rank, in place of the paper's own.
    """
    name = PEFT_SER_CORPORA[label]
    split, runs, options = PEFT_SER_SPLITS[name]
    table = load_figures()["peft_ser/III"]
    settings = {key: setting or value for key, value in PEFT_SER_SETTINGS[method].items()}
    last = "-".join([method, *map(str, settings.values())])
    return Experiment(
        recipe="peft_ser/peft_ser.yaml",
        model=model,
        method=method,
        head="conv",
        emotions=("angry", "happy", "neutral", "sad"),
        clips={name: int(sum(number(str(cell)) for cell in table.rows[table.row(label)][1:5]))},
        split=split,
        runs=runs,
        folder=f"peft_ser/{name}/{model.split('/')[1]}/{last}",
        settings=settings,
        options=options,
    )


def emobox(model: str) -> Experiment:
    """EmoBox's six folds of RAVDESS with a frozen encoder."""
    return Experiment(
        recipe="emobox/ravdess.yaml",
        model=model,
        method="head",
        head="stock",
        emotions=EMOTIONS,
        clips={"ravdess": 1440},
        split={"name": "file", "made_as": "emobox", "folds": 6},
        runs=6,
        folder=f"emobox/{model.split('/')[1]}",
        settings={},
        only_split=True,
    )


def _hubert_ser_3() -> list[Cell]:
    figures = (("metrics/test/f1_weighted", False), ("metrics/test/eer", False), ("metrics/test/accuracy", True))
    return [
        Cell(row, column, figure, {"": hubert_ser(method)}, percent)
        for row, method in enumerate(("full", "lora_qkv", "lora_classifier"))
        for column, (figure, percent) in enumerate(figures)
    ]


def _confusion(method: str) -> list[Cell]:
    experiments = {"": hubert_ser(method)}
    return [
        Cell(row, column, f"confusion/{true}/{predicted}", experiments)
        for row, true in enumerate(EMOTIONS)
        for column, predicted in enumerate(EMOTIONS)
    ]


def _all_corpora(model: str, method: str, setting: int | None = None) -> dict[str, Experiment]:
    return {label: peft_ser(model, method, label, setting) for label in PEFT_SER_CORPORA}


def _figure(name: str, method: str) -> list[Cell]:
    columns = load_figures()[name].columns[1:]
    return [
        Cell(row, column, "metrics/test/uar", _all_corpora(model, method, int(setting)))
        for row, model in enumerate(PEFT_SER_MODELS)
        for column, setting in enumerate(columns)
    ]


#: The cells of the tables that are made of runs.
CELLS: dict[str, list[Cell]] = {
    "hubert_ser/3": _hubert_ser_3(),
    "hubert_ser/4": _confusion("full"),
    "hubert_ser/5": _confusion("lora_qkv"),
    "hubert_ser/6": _confusion("lora_classifier"),
    "peft_ser/V": [
        Cell(row, column, "metrics/test/uar", _all_corpora(model, method))
        for row, method in enumerate(PEFT_SER_SETTINGS)
        for column, model in enumerate(PEFT_SER_MODELS)
    ],
    "peft_ser/VI": [
        Cell(row, 2 * k + n, f"report/fairness/{measure}", {"": peft_ser(WAVLM, method, label)})
        for row, method in enumerate(("head", "adapter", "prompt", "lora_ff"))
        for k, label in enumerate(PEFT_SER_CORPORA)
        for n, measure in enumerate(("demographic_parity", "equality_of_odds"))
    ],
    "peft_ser/figure_4": _figure("peft_ser/figure_4", "prompt"),
    "peft_ser/figure_5": _figure("peft_ser/figure_5", "adapter"),
    "peft_ser/figure_6": _figure("peft_ser/figure_6", "lora_ff"),
    "emobox/ravdess": [
        Cell(row, 0, "metrics/test/uar", {"": emobox(model)})
        for row, model in enumerate(
            (
                "facebook/hubert-base-ls960",
                "facebook/hubert-large-ll60k",
                "microsoft/wavlm-large",
                "openai/whisper-large-v3",
            )
        )
    ],
}


def experiments_of(table: str) -> list[Experiment]:
    """The experiments that a table is made of, each once: two with the same folder are the same."""
    found = {e.folder: e for cell in CELLS.get(table, []) for e in cell.experiments.values()}
    return list(found.values())


def missing_for(experiment: Experiment, corpora: Sequence[str]) -> list[str]:
    """What `--corpora` lacks for an experiment: `NAME=FOLDER` of those that are not given."""
    return [f"{asked_for(name)}=FOLDER" for name in experiment.clips if given(corpora, name) is None]


def corpora_of(experiment: Experiment, corpora: Sequence[str]) -> list[str]:
    """Of the corpora that are given those of an experiment, as `NAME=PATH`, where all are."""
    return [str(given(corpora, name)) for name in experiment.clips]


def of_reports(table: str) -> bool:
    """Whether a table is filled from `report.json`."""
    return any(cell.figure.startswith("report/") for cell in CELLS.get(table, []))


def words(
    experiment: Experiment, recipes: Path, runs: Path, corpora: Sequence[str], models: Mapping[str, str]
) -> list[str]:
    """
    What `scripts/cross_validate.py` is told to train an experiment.

    Args:
        experiment (`Experiment`): The experiment.
        recipes (`Path`): The folder of the recipes.
        runs (`Path`): The folder that all runs go to.
        corpora (`Sequence[str]`): The corpora that are given, as `NAME=PATH`.
        models (`dict[str, str]`): Folders of models by their names on the Hub, from where others come.
    """
    told = [
        *("--config", str(recipes / experiment.recipe)),
        *("--corpora", *corpora_of(experiment, corpora)),
        *("--model", models.get(experiment.model, experiment.model)),
        *("--method", experiment.method),
        *(word for key, value in experiment.settings.items() for word in (f"--{key}", str(value))),
        *experiment.options,
        *("--output_dir", str(runs / experiment.folder)),
    ]
    if experiment.split.get("made_as") == "emobox":
        folds = [str(fold_folder(runs) / f"fold_{fold + 1}.json") for fold in range(experiment.runs)]
        told += ["--sweep", f"splits={','.join(folds)}"]
    return told


def fold_folder(runs: Path) -> Path:
    """Where EmoBox's folds lie, below the folder of all runs."""
    return runs / "emobox" / "splits"


def on_split(experiment: Experiment, split: str | None) -> Experiment:
    """The same on another split, for what HuBERT-SER drew at random; what has folds keeps them."""
    if split in (None, experiment.split["name"]) or experiment.split["name"] != "random":
        return experiment
    return replace(
        experiment,
        split={"name": split},
        folder=f"{experiment.folder}-{split}",
        options=(*experiment.options, "--split", str(split)),
    )
