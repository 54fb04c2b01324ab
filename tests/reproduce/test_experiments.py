"""Tables that are filled from finished runs."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from counts import PEFT_SER_CORPORA
from experiments import (
    CELLS,
    RECIPES,
    WAVLM,
    emobox,
    experiments_of,
    fill,
    hubert_ser,
    missing,
    peft_ser,
    read_runs,
)
from published import TABLES

from hf_ser.emotions import EMOTIONS
from hf_ser.training import parse_arguments
from hf_ser.training.arguments import read_recipe, recipe_words

Write = Callable[..., Path]
Filled = tuple[dict[str, Any], set[Path], dict[Path, list[str]]]
KFOLD = "kfold split, 5 by speaker"


@pytest.fixture
def filled(tmp_path: Path) -> Callable[..., Filled]:
    def fill_from_folder(table: str, **models: str) -> Filled:
        runs, wrong = read_runs(tmp_path / "runs")
        assert wrong == []
        return fill(table, runs, models)

    return fill_from_folder


def test_a_run_stands_in_its_row_with_its_split(write_run: Write, filled: Callable[..., Filled]) -> None:
    folder = write_run("a", hubert_ser("lora_qkv"))
    lines, used, refused = filled("hubert_ser/3")
    assert lines == {"random split": {(1, 0): "0.7500", (1, 1): "0.1250", (1, 2): "80.00"}}
    assert (used, refused) == ({folder}, {})
    text = TABLES["hubert_ser/3"].render(lines, "not run", [])
    assert "| Hubert (QKV)        | paper        |   0.6715 |  0.164 |   67.146 |" in text
    assert "|                     | random split |   0.7500 | 0.1250 |    80.00 |" in text
    confusion = filled("hubert_ser/5")[0]["random split"]
    assert len(confusion) == 64
    assert [confusion[2, k] for k in range(8)] == ["0.00", "0.00", "80.00", "20.00", *["0.00"] * 4]
    assert filled("hubert_ser/4")[0] == {}


def test_mean_and_standard_deviation_over_folds(
    write_run: Write, filled: Callable[..., Filled], tmp_path: Path
) -> None:
    experiment = peft_ser("openai/whisper-tiny", "prompt", "CREMA-D")
    uars = (0.5, 0.625, 0.55, 0.6, 0.58)
    for fold, uar in enumerate(uars):
        write_run(f"fold-{fold}", experiment, split={"fold": fold}, test={"uar": uar})
        text = f"{100 * statistics.mean(uars[: fold + 1]):.2f}"
        if fold:
            text += f" ± {100 * statistics.stdev(uars[: fold + 1]):.2f}"
        if fold < 4:
            text += f" ({fold + 1} of 5)"
        assert filled("peft_ser/V")[0] == {f"CREMA-D, {KFOLD}": {(3, 0): text}}
        assert missing(experiment, read_runs(tmp_path / "runs")[0], {}) == 4 - fold
    # A prompt of 5 is in Figure 4, too.
    assert filled("peft_ser/figure_4")[0] == {f"CREMA-D, {KFOLD}": {(0, 2): text}}


def test_seeds_of_a_fold_are_averaged_first(write_run: Write, filled: Callable[..., Filled]) -> None:
    experiment = peft_ser("openai/whisper-tiny", "frozen", "CREMA-D")
    for seed, uar in enumerate((0.4, 0.5, 0.6)):
        write_run(f"seed-{seed}", experiment, seed=seed, split={"fold": 0}, test={"uar": uar})
    write_run("fold-3", experiment, split={"fold": 3}, test={"uar": 0.7})
    deviation = 100 * statistics.stdev((0.5, 0.7))
    assert filled("peft_ser/V")[0] == {f"CREMA-D, {KFOLD}": {(0, 0): f"60.00 ± {deviation:.2f} (2 of 5)"}}


def test_the_mean_of_all_corpora_needs_all_of_them(write_run: Write, filled: Callable[..., Filled]) -> None:
    for k, label in enumerate(PEFT_SER_CORPORA):
        experiment = peft_ser(WAVLM, "lora_ff", label)
        assert "mean of all corpora" not in filled("peft_ser/V")[0]
        for n in range(experiment.runs + (label == "MSP-Podcast")):  # one seed more than the paper
            fold = {"fold": n} if "folds" in experiment.split else {}
            write_run(f"{label}/{n}", experiment, seed=n, split=fold, test={"uar": 0.4 + 0.1 * k})
    lines = filled("peft_ser/V")[0]
    assert lines["mean of all corpora"] == {(4, 4): "55.00 ± 12.91"}
    assert lines["MSP-Podcast, official split"] == {(4, 4): "70.00 ± 0.00"}


@pytest.mark.parametrize(
    ("identity", "label"),
    [
        ({"prompt_start": "frames"}, ", prompt_start frames in place of random"),
        ({"segment_overlap": 0.5}, ", segment_overlap 0.5 in place of 0.0"),
        ({"clips_per_step": 8}, ", clips_per_step 8 in place of 32"),
        ({"load_best_model_at_end": False}, ", load_best_model_at_end False in place of True"),
        ({"seed": 7, "fold": 1, "unknown": 3}, ""),
    ],
)
def test_other_arguments_stand_in_a_line_of_their_own(
    identity: dict[str, Any], label: str, write_run: Write, filled: Callable[..., Filled]
) -> None:
    write_run("a", peft_ser("openai/whisper-tiny", "prompt", "CREMA-D"), identity=identity, split={"fold": 0})
    assert list(filled("peft_ser/V")[0]) == [f"CREMA-D, {KFOLD}{label}"]


def test_another_split_stands_in_a_line_of_its_own(
    write_run: Write, filled: Callable[..., Filled], tmp_path: Path
) -> None:
    write_run("speaker", hubert_ser("full"), split={"name": "speaker", "seed": 42})
    assert list(filled("hubert_ser/3")[0]) == ["speaker split"]
    assert missing(hubert_ser("full"), read_runs(tmp_path / "runs")[0], {}) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"base_model": "hubert-mini"}, "model hubert-mini, expected superb/hubert-large-superb-er"),
        ({"base_model": "someone/hubert-large-superb-er"}, "model someone/hubert-large-superb-er, expected superb/"),
        ({"method": "frozen"}, "method frozen, expected lora_qkv"),
        ({"head": "conv"}, "head conv, expected stock"),
        ({"emotions": ["happy", "angry"]}, "emotions ['angry', 'happy'], expected ['angry', 'calm'"),
        ({"merged_emotions": {"calm": "neutral"}}, "merged emotions {'calm': 'neutral'}, expected {}"),
        ({"clips": {"ravdess": 1440}}, "corpora ['ravdess'], expected ['crema_d', 'ravdess', 'savee', 'tess']"),
        ({"clips": {"crema_d": 7442, "ravdess": 1079, "savee": 480, "tess": 2800}}, "1,079 clips of ravdess, expected 1,440"),
        ({"identity": {"lora_r": 16}}, "lora_r 16, expected 8"),
    ],
)  # fmt: skip
def test_a_run_that_does_not_fit_is_refused(
    changes: dict[str, Any], reason: str, write_run: Write, filled: Callable[..., Filled]
) -> None:
    folder = write_run("wrong", hubert_ser("lora_qkv"), **changes)
    lines, used, refused = filled("hubert_ser/5")
    assert (lines, used, list(refused)) == ({}, set(), [folder])
    assert len(refused[folder]) == 1
    assert reason in refused[folder][0]


def test_a_folder_stands_for_a_model(write_run: Write, filled: Callable[..., Filled]) -> None:
    write_run("a", hubert_ser("full"), base_model="my-copy")
    assert filled("hubert_ser/3")[0] == {}
    assert filled("hubert_ser/3", **{"superb/hubert-large-superb-er": "models/my-copy"})[0]


def test_fairness_comes_from_reports_of_the_test_part(write_run: Write, filled: Callable[..., Filled]) -> None:
    experiment = peft_ser(WAVLM, "adapter", "IEMOCAP")
    fairness = {"demographic_parity": 0.12, "equality_of_odds": None}
    reports = [{"fairness": fairness}, {"fairness": {**fairness, "demographic_parity": 0.1}}, None]
    reports.append({"fairness": {"demographic_parity": 0.9}, "clips": {"part": "all"}})
    for fold, report in enumerate(reports):
        write_run(str(fold), experiment, report, split={"fold": fold})
    assert filled("peft_ser/VI")[0] == {"kfold split, 5 by session": {(1, 0): "11.00 ± 1.41 (2 of 5)"}}


def test_emobox_takes_its_own_folds_alone(write_run: Write, filled: Callable[..., Filled]) -> None:
    experiment = emobox("facebook/hubert-base-ls960")
    for fold in range(6):
        write_run(str(fold), experiment, split={"fold": fold})
    folder = write_run("kfold", experiment, split={"name": "kfold", "by": "speaker", "folds": 6, "fold": 0})
    lines, _, refused = filled("emobox/ravdess")
    assert lines == {"emobox split": {(0, 0): "50.00 ± 0.00"}}
    assert refused == {folder: ["split kfold split, 6 by speaker, expected emobox split"]}


def test_a_broken_file_hides_no_other_run(write_run: Write, tmp_path: Path) -> None:
    write_run("good", hubert_ser("full"))
    for name, text in (("text", "{"), ("part", '{"base_model": "a"}')):
        (write_run(name, hubert_ser("full")) / "results.json").write_text(text)
    runs, wrong = read_runs(tmp_path / "runs")
    assert [run.folder.name for run in runs] == ["good"]
    for name, text in zip(("part", "text"), wrong, strict=True):
        assert str(tmp_path / "runs" / name / "results.json") in text


@pytest.mark.parametrize("table", CELLS)
def test_the_arguments_of_an_experiment_give_its_runs(table: str, tmp_path: Path) -> None:
    """Every cell has experiments, and their command lines have their model, method, head, emotions and settings."""
    places = [(cell.row, cell.column) for cell in CELLS[table]]
    width = len(TABLES[table].columns) - TABLES[table].labels
    assert sorted(places) == [(i, k) for i in range(len(TABLES[table].rows)) for k in range(width)]
    for experiment in list(experiments_of(table).values())[:4]:
        corpora = {name.removesuffix("_votes"): str(tmp_path) for name in experiment.clips}
        words = experiment.arguments(corpora, {}, tmp_path)[2:]
        recipe = read_recipe(RECIPES / experiment.recipe)
        recipe.pop("sweep", None)
        for option, values in (("--sweep", 1), ("--seeds", 3)):  # of scripts/cross_validate.py
            if option in words:
                place = words.index(option)
                del words[place : place + 1 + values]
        arguments = parse_arguments([*recipe_words(recipe), *words])
        assert [word.partition("=")[0] for word in arguments.script.corpora] == list(experiment.clips)
        assert (arguments.script.model_name_or_path, arguments.tuning.method) == (experiment.model, experiment.method)
        assert arguments.training.head == experiment.head
        assert sorted(arguments.script.emotions or EMOTIONS) == list(experiment.emotions)
        assert all(getattr(arguments.tuning, key) == value for key, value in experiment.settings.items())
        if experiment.split["name"] != "file":
            split = {"name": arguments.script.split, "by": arguments.script.fold_by}
            assert all(experiment.split.get(key, value) == value for key, value in split.items())


def test_the_trainings_of_peft_ser() -> None:
    """Section V-A: "19 unique trainings" of each approach."""
    assert sum(peft_ser(WAVLM, "frozen", label).runs for label in PEFT_SER_CORPORA) == 19
    assert sum(experiment.runs for experiment in experiments_of("peft_ser/V").values()) == 19 * 25
    assert experiments_of("peft_ser/VI").keys() < experiments_of("peft_ser/V").keys()
