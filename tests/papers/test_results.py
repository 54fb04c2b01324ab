"""Tables that are filled from finished runs."""

import copy
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_ser.emotions import EMOTIONS
from hf_ser.papers import CELLS, Filled, fill, load_figures, read_runs, render
from hf_ser.papers.experiments import (
    PEFT_SER_CORPORA,
    WAVLM,
    Experiment,
    emobox,
    experiments_of,
    hubert_ser,
    on_split,
    peft_ser,
    words,
)
from hf_ser.papers.runs import MODELS, total_parameters
from hf_ser.training import parse_arguments
from hf_ser.training.arguments import recipe_words
from hf_ser.training.identity import identity
from hf_ser.training.results import non_default

RECIPES = Path(__file__).parents[2] / "scripts" / "recipes"
Fill = Callable[..., Filled]
Write = Callable[..., Path]


def results_of(experiment: Experiment, **split: Any) -> dict[str, Any]:
    """The results of a run that was trained by its recipe, on the paper's split."""
    recipe = yaml.safe_load((RECIPES / experiment.recipe).read_text(encoding="utf-8"))
    argv = recipe_words({name: value for name, value in recipe.items() if name not in ("sweep", "seeds")})
    arguments = parse_arguments([*argv, "--method", experiment.method, "--corpora", "tess=.", "--output_dir", "."])
    emotions = list(experiment.emotions)
    confusion = [[8 if i == j else 2 if j == (i + 1) % len(emotions) else 0 for j in range(len(emotions))]
                 for i in range(len(emotions))]  # fmt: skip
    return {
        "base_model": experiment.model,
        "model_type": MODELS[experiment.model].model_type,
        "method": experiment.method,
        "head": experiment.head,
        "emotions": emotions,
        "merged_emotions": {},
        "corpora": {name: {"clips": clips - 1} for name, clips in experiment.clips.items()},
        "split": {**experiment.split, **split},
        "metrics": {
            "test": {"uar": 0.5, "accuracy": 0.8, "f1_weighted": 0.75, "eer": 0.125, "confusion_matrix": confusion}
        },
        "parameters": {"trainable": 1, "total": total_parameters(experiment) + 1024},
        "training": {
            "clips_per_step": identity(arguments)["clips_per_step"],
            "arguments": non_default(arguments) | dict(experiment.settings),
        },
        "seeds": {"training": 42, "split": 42},
    }


@pytest.fixture
def write_run(tmp_path: Path) -> Write:
    """Writes a run below `tmp_path / "runs"`: `write_run(name, results, report=None)`."""

    def write(name: str, results: Any, report: Any = None) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
        if report is not None:
            uar = results["metrics"]["test"]["uar"]
            report = {"clips": {"part": "test"}, "quality": {"overall": {"uar": uar}}, **report}
            (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def filled(tmp_path: Path) -> Fill:
    def fill_from_folder(table: str, **models: str) -> Filled:
        runs, wrong = read_runs(tmp_path / "runs")
        assert wrong == []
        return fill(table, runs, RECIPES, models)

    return fill_from_folder


def test_a_report_on_other_clips_is_not_the_runs(write_run: Write, tmp_path: Path) -> None:
    report = {"clips": {"part": "all"}, "fairness": {"demographic_parity": 0.1, "equality_of_odds": 0.2}}
    write_run("a", results_of(hubert_ser("lora_qkv"), seed=42), report)
    [run], [reason] = read_runs(tmp_path / "runs")
    assert run.report is None
    assert "its clips are not the test part" in reason


def test_a_run_that_fits_stands_in_its_row_with_its_split(write_run: Write, filled: Fill) -> None:
    folder = write_run("a", results_of(hubert_ser("lora_qkv"), seed=42))
    found = filled("hubert_ser/3")
    assert found.ours.lines == {"ours, random split": {(1, 0): "0.7500", (1, 1): "0.1250", (1, 2): "80.00"}}
    assert found.used == {folder}
    assert found.refused == {}
    text = render(load_figures()["hubert_ser/3"], found.ours)
    assert "| Hubert (QKV)        | paper              |   0.6715 |   0.164 |   67.146 |" in text
    assert "|                     | ours, random split |   0.7500 |  0.1250 |    80.00 |" in text
    assert "|                     | ours, random split |  not run | not run |  not run |" in text

    confusion = filled("hubert_ser/5").ours.lines["ours, random split"]
    assert len(confusion) == 64
    assert [confusion[2, k] for k in range(8)] == ["0.00", "0.00", "80.00", "20.00", *["0.00"] * 4]
    assert filled("hubert_ser/4").ours.lines == {}


def test_mean_and_standard_deviation_over_folds(write_run: Write, filled: Fill) -> None:
    experiment = peft_ser("openai/whisper-tiny", "prompt", "CREMA-D")
    uars = (0.5, 0.625, 0.55, 0.6, 0.58)
    for fold, uar in enumerate(uars):
        results = results_of(experiment, fold=fold)
        results["metrics"]["test"]["uar"] = uar
        write_run(f"fold-{fold}", results)
        found = filled("peft_ser/V")
        label = "ours, CREMA-D, kfold split, 5 by speaker"
        text = f"{100 * statistics.mean(uars[: fold + 1]):.2f}"
        if fold:
            text += f" ± {100 * statistics.stdev(uars[: fold + 1]):.2f}"
        if fold < 4:
            text += f" ({fold + 1} of 5)"
        assert found.ours.lines == {label: {(3, 0): text}}
    # A prompt of 5 is in Figure 4, too.
    assert filled("peft_ser/figure_4").ours.lines == {label: {(0, 2): text}}
    assert filled("peft_ser/figure_4").finished[experiment.folder] == {"kfold split, 5 by speaker": 5}


def test_a_fold_counts_once(write_run: Write, filled: Fill) -> None:
    for name in ("a", "b"):
        write_run(name, results_of(peft_ser(WAVLM, "head", "CREMA-D"), fold=0))
    found = filled("peft_ser/V")
    assert list(found.ours.lines.values()) == [{(0, 4): "50.00 (1 of 5)"}]
    assert "is the same fold and seed as" in found.ours.notes[0]


def test_the_mean_of_all_corpora_needs_all_of_them(write_run: Write, filled: Fill) -> None:
    for k, label in enumerate(PEFT_SER_CORPORA):
        experiment = peft_ser(WAVLM, "lora_ff", label)
        assert not any(line.startswith("ours, mean of all") for line in filled("peft_ser/V").ours.lines)
        for n in range(experiment.runs):
            results = results_of(experiment, **({"fold": n} if "by" in experiment.split else {}))
            results["seeds"]["training"] = 42 if "by" in experiment.split else n
            results["metrics"]["test"]["uar"] = 0.4 + 0.1 * k
            write_run(f"{label}/{n}", results)
    lines = filled("peft_ser/V").ours.lines
    assert len(lines) == 5
    name, cells = next(iter(lines.items()))
    assert name == "ours, mean of all, each on its paper's split"
    assert cells == {(4, 4): "55.00 ± 12.91"}
    assert lines["ours, MSP-Podcast, official split"] == {(4, 4): "70.00 ± 0.00"}


def test_another_split_or_training_stands_in_its_own_line(write_run: Write, filled: Fill) -> None:
    results = results_of(hubert_ser("full"))
    write_run("as in the paper", results)
    speaker = copy.deepcopy(results)
    speaker["split"] = {"name": "speaker", "seed": 42}
    write_run("speaker", speaker)
    fast = copy.deepcopy(speaker)
    fast["training"]["arguments"]["learning_rate"] = 1e-3
    fast["training"]["clips_per_step"] = 32
    fast["metrics"]["test"]["accuracy"] = 0.9
    write_run("fast", fast)
    found = filled("hubert_ser/3")
    assert {line: cells[0, 2] for line, cells in found.ours.lines.items()} == {
        "ours, random split": "80.00",
        "ours, speaker split": "80.00",
        "ours, speaker split, learning_rate 0.001 in place of 1e-05, clips_per_step 32 in place of 8": "90.00",
    }
    assert found.finished["hubert_ser/full"]["random split"] == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prompt_start": "frames"}, "prompt_start frames in place of random"),
        ({"lr_scheduler_kwargs": {"mode": "min", "factor": 0.1, "patience": 1, "min_lr": 5e-5}}, "'factor': 0.1"),
        ({"segment_overlap": 0.5}, "segment_overlap 0.5 in place of 0.0"),
        ({"frozen_cache_views": 1}, "frozen_cache_views 1 in place of"),
        ({"load_best_model_at_end": False}, "load_best_model_at_end False in place of True"),
    ],
)
def test_whatever_changes_what_is_learned_is_said(
    wrong: dict[str, Any], said: str, write_run: Write, filled: Fill
) -> None:
    results = results_of(peft_ser("openai/whisper-tiny", "prompt", "CREMA-D"), fold=0)
    results["training"]["arguments"].update(wrong)
    write_run("otherwise", results)
    (line,) = filled("peft_ser/V").ours.lines
    assert line.startswith("ours, CREMA-D, kfold split, 5 by speaker, ")
    assert said in line


def test_what_cannot_change_what_is_learned_is_not_said(write_run: Write, filled: Fill) -> None:
    """Nor what the method has no use for, nor which fold and seed it is."""
    results = results_of(peft_ser("openai/whisper-tiny", "prompt", "CREMA-D"), fold=0)
    results["training"]["arguments"] |= {"bf16": True, "fsdp": "full_shard", "seed": 7, "fold": 1, "lora_alpha": 3}
    write_run("elsewhere", results)
    assert list(filled("peft_ser/V").ours.lines) == ["ours, CREMA-D, kfold split, 5 by speaker"]


def test_shares_of_a_random_split_are_part_of_it(write_run: Write, filled: Fill) -> None:
    results = results_of(hubert_ser("full"))
    results["training"]["arguments"]["test_share"] = 0.02
    write_run("few", results)
    found = filled("hubert_ser/3")
    assert list(found.ours.lines) == ["ours, random split, test_share 0.02 in place of 0.2"]
    assert found.finished["hubert_ser/full"].get("random split", 0) == 0


def test_seeds_of_one_fold_are_one_fold(write_run: Write, filled: Fill) -> None:
    experiment = peft_ser("openai/whisper-tiny", "head", "CREMA-D")
    for seed, uar in enumerate((0.4, 0.5, 0.6)):
        results = results_of(experiment, fold=0)
        results["seeds"]["training"] = seed
        results["metrics"]["test"]["uar"] = uar
        write_run(f"seed-{seed}", results)
    results = results_of(experiment, fold=3)
    results["metrics"]["test"]["uar"] = 0.7
    write_run("fold-3", results)
    found = filled("peft_ser/V")
    deviation = 100 * statistics.stdev((0.5, 0.7))
    assert found.ours.lines == {
        "ours, CREMA-D, kfold split, 5 by speaker": {(0, 0): f"60.00 ± {deviation:.2f} (2 of 5)"}
    }
    assert found.finished[experiment.folder] == {"kfold split, 5 by speaker": 2}


def test_more_seeds_than_the_papers_are_no_fewer(write_run: Write, filled: Fill) -> None:
    for label in PEFT_SER_CORPORA:
        experiment = peft_ser(WAVLM, "head", label)
        for n in range(experiment.runs + (label == "MSP-Podcast")):
            results = results_of(experiment, **({"fold": n} if "folds" in experiment.split else {}))
            if label == "MSP-Podcast":
                results["seeds"]["training"] = n
            write_run(f"{label}-{n}", results)
    assert "ours, mean of all, each on its paper's split" in filled("peft_ser/V").ours.lines


def change(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda results: results.update(changes)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (change(base_model="hubert-mini"), "its model is hubert-mini, not superb/hubert-large-superb-er"),
        (change(base_model="someone/hubert-large-superb-er"), "its model is someone/hubert-large-superb-er, not superb"),
        (change(method="head"), "its method is head, not"),
        (change(head="conv"), "its head is conv, not stock"),
        (
            lambda results: (
                results.update(emotions=["angry", "happy"]),
                results["metrics"]["test"].update(confusion_matrix=[[2, 0], [1, 1]]),
            ),
            "its emotions are angry, happy, not angry, calm",
        ),
        (change(merged_emotions={"calm": "neutral"}), "calm as neutral"),
        (change(corpora={"ravdess": {"clips": 1440}}), "its corpora are ravdess, not"),
        (
            lambda results: results["corpora"]["ravdess"].update(clips=1079),
            "it has 1,079 clips of ravdess, where the paper has 1,440",
        ),
        (lambda results: results["training"]["arguments"].update(lora_r=16), "its lora_r is 16, not 8"),
        (change(parameters={"total": 95_000_000}), "it is a hubert of 95,000,000 parameters"),
        (change(model_type="wavlm"), "it is a wavlm of"),
    ],
)  # fmt: skip
def test_a_run_that_does_not_fit_is_refused(
    wrong: Callable[[dict[str, Any]], None], why: str, write_run: Write, filled: Fill
) -> None:
    results = results_of(hubert_ser("lora_qkv"))
    wrong(results)
    folder = write_run("wrong", results)
    found = filled("hubert_ser/5")
    assert found.ours.lines == {}
    assert found.used == set()
    assert len(found.refused[folder]) == 1
    assert why in found.refused[folder][0]


def test_a_folder_stands_for_a_model(write_run: Write, filled: Fill, tmp_path: Path) -> None:
    results = results_of(hubert_ser("full"))
    results["base_model"] = "my-copy"
    write_run("a", results)
    assert filled("hubert_ser/3").ours.lines == {}
    assert filled("hubert_ser/3", **{"superb/hubert-large-superb-er": f"{tmp_path}/my-copy"}).ours.lines


def test_fairness_comes_from_reports(write_run: Write, filled: Fill) -> None:
    experiment = peft_ser(WAVLM, "adapter", "IEMOCAP")
    fairness = {"demographic_parity": 0.12, "equality_of_odds": None}
    write_run("0", results_of(experiment, fold=0), {"fairness": fairness})
    write_run("1", results_of(experiment, fold=1), {"fairness": {**fairness, "demographic_parity": 0.1}})
    write_run("2", results_of(experiment, fold=2))
    found = filled("peft_ser/VI").ours
    assert found.lines == {"ours, kfold split, 5 by session": {(1, 0): "11.00 ± 1.41 (2 of 5)"}}
    assert found.missing[0].startswith("1 of the runs have no report.json")


def test_emobox_takes_its_own_folds_alone(write_run: Write, filled: Fill) -> None:
    experiment = emobox("facebook/hubert-base-ls960")
    for fold in range(6):
        write_run(str(fold), results_of(experiment, fold=fold))
    other = results_of(experiment)
    other["split"] = {"name": "kfold", "by": "speaker", "folds": 6, "fold": 0}
    folder = write_run("kfold", other)
    found = filled("emobox/ravdess")
    assert found.ours.lines == {"ours, EmoBox's folds": {(0, 0): "50.00 ± 0.00"}}
    assert found.refused == {folder: ["its split is kfold split, 6 by speaker, not the paper's"]}


def test_files_that_are_no_runs_are_told(write_run: Write, tmp_path: Path) -> None:
    write_run("list", [])
    write_run("part", {"base_model": "a"})
    (write_run("text", {}) / "results.json").write_text("{")
    good = results_of(hubert_ser("full"))
    write_run("good", good)
    runs, wrong = read_runs(tmp_path / "runs")
    assert [run.folder.name for run in runs] == ["good"]
    assert len(wrong) == 3
    assert "not as hf_ser writes it" in wrong[1]


def cut_off(*place: str) -> Callable[[dict[str, Any]], None]:
    def run(results: dict[str, Any]) -> None:
        for key in place[:-1]:
            results = results[key]
        results[place[-1]] = None

    return run


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        *((cut_off(*place), "/".join(place)) for place in
          [("base_model",), ("emotions",), ("merged_emotions",), ("corpora",), ("corpora", "ravdess"), ("split", "name"),
           ("metrics", "test"), ("training", "arguments"), ("training", "clips_per_step"), ("parameters", "total")]),
        (lambda results: results["metrics"]["test"].update(accuracy="oops"), "metrics/test/accuracy is 'oops'"),
        (lambda results: results["metrics"]["test"].update(eer=float("nan")), "metrics/test/eer is nan"),
        (lambda results: results["metrics"]["test"].update(confusion_matrix=None), "metrics/test/confusion_matrix has not 8"),
        (lambda results: results["metrics"]["test"].update(confusion_matrix=[[1]]), "metrics/test/confusion_matrix has not 8"),
        (lambda results: results["split"].update(name="kfold"), "split has no by and folds"),
        (lambda results: results["split"].update(fold=[0]), "split/fold is [0]"),
        (lambda results: results["seeds"].update(training=[1]), "seeds/training is [1]"),
    ],
)  # fmt: skip
def test_a_run_that_is_not_whole_is_told_and_hides_no_other(
    wrong: Callable[[dict[str, Any]], None], said: str, write_run: Write, tmp_path: Path
) -> None:
    results = results_of(hubert_ser("full"))
    wrong(results)
    write_run("broken", results)
    write_run("good", results_of(hubert_ser("full")))
    runs, [told] = read_runs(tmp_path / "runs")
    assert [run.folder.name for run in runs] == ["good"]
    assert told.startswith(f"{tmp_path}/runs/broken/results.json: not as hf_ser writes it: {said}")


def test_a_run_counts_without_its_report_if_that_cannot_be_read(write_run: Write, tmp_path: Path) -> None:
    folder = write_run("run", results_of(hubert_ser("full")))
    for text in ("{", "[]", '{"clips": 3}'):
        (folder / "report.json").write_text(text)
        [run], [told] = read_runs(tmp_path / "runs")
        assert run.report is None
        assert told.startswith(f"{folder}/report.json is left out")


@pytest.mark.parametrize("table", CELLS)
def test_every_cell_of_a_table_has_its_experiments(table: str) -> None:
    paper = load_figures()[table]
    places = [(cell.row, cell.column) for cell in CELLS[table]]
    assert sorted(places) == [(i, k) for i in range(len(paper.rows)) for k in range(paper.figures)]


def test_the_trainings_of_peft_ser() -> None:
    """Section V-A: "19 unique trainings" of each approach."""
    assert sum(peft_ser(WAVLM, "head", label).runs for label in PEFT_SER_CORPORA) == 19
    assert sum(e.runs for e in experiments_of("peft_ser/V")) == 19 * 25
    assert {e.folder for e in experiments_of("peft_ser/VI")} < {e.folder for e in experiments_of("peft_ser/V")}


@pytest.mark.parametrize("table", CELLS)
def test_what_is_run_is_what_fits(table: str, tmp_path: Path) -> None:
    """The command line of an experiment says its model, method, head, emotions and settings."""
    for experiment in experiments_of(table)[:4]:
        corpora = [f"{name.removesuffix('_votes')}={tmp_path}" for name in experiment.clips]
        told = words(experiment, RECIPES, tmp_path, corpora, {})
        recipe = yaml.safe_load((RECIPES / experiment.recipe).read_text(encoding="utf-8"))
        recipe.pop("sweep", None)
        own = told[2 : told.index("--sweep")] if "--sweep" in told else told[2:]
        if "--seeds" in own:
            own = own[: own.index("--seeds")] + own[own.index("--seeds") + 4 :]
        arguments = parse_arguments([*recipe_words(recipe), *own])
        assert [word.partition("=")[0] for word in arguments.data.corpora] == list(experiment.clips)
        assert (arguments.model.model, arguments.tuning.method) == (experiment.model, experiment.method)
        assert arguments.model.head == experiment.head
        assert sorted(arguments.data.emotions or EMOTIONS) == list(experiment.emotions)
        assert all(getattr(arguments.tuning, key) == value for key, value in experiment.settings.items())
        split = {"name": arguments.data.split, "by": arguments.data.fold_by}
        if experiment.split["name"] != "file":
            assert all(experiment.split.get(key, value) == value for key, value in split.items())


def test_hubert_ser_by_speaker() -> None:
    experiment = on_split(hubert_ser("full"), "speaker")
    assert experiment.split == {"name": "speaker"}
    assert experiment.folder == "hubert_ser/full-speaker"
    assert on_split(hubert_ser("full"), "random") == hubert_ser("full")
    fold = peft_ser(WAVLM, "head", "IEMOCAP")
    assert on_split(fold, "speaker") == fold
