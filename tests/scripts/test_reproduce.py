"""scripts/reproduce.py: what it prints, plans, runs and refuses."""

import json
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_ser.papers import CELLS, COMPUTED, load_figures
from hf_ser.papers.experiments import WAVLM, hubert_ser, peft_ser
from hf_ser.papers.runs import by_recipe, total_parameters

SCRIPT = Path(__file__).parents[2] / "scripts" / "reproduce.py"
Reproduce = Callable[..., int]


@pytest.fixture
def reproduce(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Reproduce:
    """Runs the script in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["reproduce.py", *map(str, arguments)])
        code: int = runpy.run_path(str(SCRIPT))["main"]()
        return code

    return run


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run, and are not."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        commands.append(command)
        return subprocess.CompletedProcess(command, int("openai/whisper-base" in command))

    monkeypatch.setattr(subprocess, "run", run)
    return commands


@pytest.fixture
def corpora(shared: Path) -> list[str]:
    lists = {"ravdess": "RAVDESS", "crema_d": "CREMA-D", "tess": "TESS", "savee": "SAVEE"}
    return [f"{name}={shared / 'data' / 'file-lists' / file}.txt" for name, file in lists.items()]


def finished_run(folder: Path) -> dict[str, Any]:
    """Writes a run of HuBERT-SER's full fine-tuning, by its recipe."""
    experiment = hubert_ser("full")
    results = {
        "base_model": experiment.model,
        "model_type": "hubert",
        "method": "full",
        "head": "stock",
        "emotions": list(experiment.emotions),
        "merged_emotions": {},
        "corpora": {name: {"clips": clips} for name, clips in experiment.clips.items()},
        "split": {"name": "random", "seed": 42},
        "metrics": {"test": {"accuracy": 0.8, "f1_weighted": 0.75, "eer": 0.125, "confusion_matrix": [[1] * 8] * 8}},
        "parameters": {"total": total_parameters(experiment)},
        "training": {
            "clips_per_step": 8,
            "arguments": dict(by_recipe(SCRIPT.parent / "recipes" / experiment.recipe, "full")),
        },
        "seeds": {"training": 42},
    }
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return results


def test_without_anything_it_prints_every_table(
    reproduce: Reproduce, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(COMPUTED) | set(CELLS) == set(load_figures())
    assert reproduce("--markdown", tmp_path / "tables.md") == 0
    printed = capsys.readouterr().out
    assert [line.split(":")[0] for line in printed.splitlines() if line.startswith("## ")] == [
        f"## {name}" for name in load_figures()
    ]
    assert (tmp_path / "tables.md").read_text(encoding="utf-8") == printed
    assert "315,703,201" in printed
    assert "- not run: needs --corpora crema_d=FOLDER ravdess=FOLDER savee=FOLDER tess=FOLDER" in printed
    assert "- not run: 475 of 475 trainings as in the paper are missing" in printed
    assert "None" not in printed


def test_finished_runs_are_put_in_and_others_listed(
    reproduce: Reproduce, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = finished_run(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "b").mkdir()
    (tmp_path / "runs" / "b" / "results.json").write_text(json.dumps({**results, "method": "lora_ff"}))
    assert reproduce("--table", "hubert_ser/3", "hubert_ser/4", "peft_ser/V", "--runs", tmp_path / "runs") == 0
    printed = capsys.readouterr().out
    assert "| ours, random split |   0.7500 |  0.1250 |    80.00 |" in printed
    assert "2 of 3 trainings as in the paper are missing" in printed
    assert "0 of 1 trainings" not in printed
    assert f"- {tmp_path}/runs/b: of hubert_ser/3 it is none: its method is lora_ff, not full" in printed
    assert "runs/a: of" not in printed


def test_a_plan_says_what_would_be_run(
    reproduce: Reproduce,
    started: list[list[str]],
    corpora: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    finished_run(tmp_path / "runs" / "anywhere")
    tables = ("hubert_ser/3", "hubert_ser/4", "peft_ser/V", "emobox/ravdess")
    runs = tmp_path / "runs"
    assert reproduce("--table", *tables, "--corpora", *corpora, "--runs", runs, "--plan") == 0
    printed = capsys.readouterr().out
    assert started == []
    assert list(runs.iterdir()) == [runs / "anywhere"]
    assert "hubert_ser/3: hubert_ser/full: 1 of 1 runs finished\n" in printed
    assert (
        "peft_ser/iemocap/whisper-tiny/head: 0 of 5 runs finished; not run: needs --corpora iemocap=FOLDER" in printed
    )
    commands = [shlex.split(line) for line in printed.splitlines() if "cross_validate.py" in line]
    assert len(commands) == 2 + 25 + 4
    assert commands[0][-2:] == ["--output_dir", str(runs / "hubert_ser" / "lora_qkv")]
    assert commands[-1][-1].startswith(f"splits={runs}/emobox/splits/fold_1.json,")


def test_it_trains_what_is_missing(
    reproduce: Reproduce, started: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--corpora", f"crema_d={tmp_path}", "--runs", tmp_path / "runs", "--run", "--", "--jobs", "2")
    assert reproduce("--table", "peft_ser/figure_6", *options) == 1  # as one failed
    assert len(started) == 15
    command = started[1]
    assert command[:2] == [sys.executable, str(SCRIPT.with_name("cross_validate.py"))]
    assert f"crema_d_votes={tmp_path}" in command
    assert command[command.index("--lora_r") + 1] == "16"
    assert command[-4:] == [
        "--output_dir",
        str(tmp_path / "runs/peft_ser/crema_d_votes/whisper-tiny/lora_ff-16"),
        "--jobs",
        "2",
    ]
    assert "## peft_ser/figure_6" in capsys.readouterr().out


def test_what_is_trained_otherwise_goes_elsewhere(
    reproduce: Reproduce, started: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else what is trained as in the paper would be taken for finished."""
    options = (
        "--table",
        "peft_ser/V",
        "--only",
        "whisper-tiny/",
        "lora",
        "--corpora",
        f"crema_d={tmp_path}",
        "--runs",
        tmp_path / "runs",
    )
    assert reproduce(*options, "--run", "--", "--num_train_epochs", "2", "--noise_snr=5", "--jobs", "2") == 0
    folder = "peft_ser/crema_d_votes/whisper-tiny/lora_ff-8"
    (command,) = started
    assert command[command.index("--output_dir") + 1] == str(
        tmp_path / "runs" / f"{folder}-num_train_epochs-2-noise_snr-5"
    )
    for words, part in (
        (("--per_device_train_batch_size", "4"), "-per_device_train_batch_size-4"),
        (("--no_load_best_model_at_end",), "-no_load_best_model_at_end"),
        (("--noise_snr", "5", "15", "--seeds", "1", "2"), "-noise_snr-5-15"),
        (("--lora_alpha=a/b",), "-lora_alpha-a_b"),
    ):
        started.clear()
        assert reproduce(*options, "--run", "--", *words) == 0
        assert started[0][started[0].index("--output_dir") + 1] == str(tmp_path / "runs" / f"{folder}{part}")
    assert "not as in the paper:\n" in capsys.readouterr().out
    assert reproduce(*options, "--plan", "--", "--sweep", "learning_rate=1,2") == 1
    assert "--sweep after --: the tables say which runs there are" in capsys.readouterr().err
    started.clear()
    assert reproduce(*options, "--run", "--", "--jobs", "2") == 0
    (command,) = started
    assert command[command.index("--output_dir") + 1] == str(tmp_path / "runs" / folder)
    assert reproduce(*options[:3], "nothing", "--plan") == 0
    assert "nothing of peft_ser/V is trained in a folder with nothing" in capsys.readouterr().out


def test_runs_that_stand_in_the_way_are_told(
    reproduce: Reproduce,
    started: list[list[str]],
    corpora: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """scripts/cross_validate.py takes them for finished, and a table does not."""
    folder = tmp_path / "runs/hubert_ser/full"
    results = finished_run(folder)
    results["training"]["arguments"]["learning_rate"] = 0.1
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    assert reproduce("--table", "hubert_ser/4", "--corpora", *corpora, "--runs", tmp_path / "runs", "--run") == 1
    assert (
        f"{folder} holds runs that were trained otherwise than by the recipe; move it away" in capsys.readouterr().out
    )


def test_reports_are_made_for_the_table_that_is_made_of_them(
    reproduce: Reproduce, started: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = peft_ser(WAVLM, "head", "CREMA-D")
    arguments = by_recipe(SCRIPT.parent / "recipes" / experiment.recipe, "head")
    for fold in range(5):
        folder = tmp_path / "runs" / experiment.folder / str(fold)
        results = finished_run(folder)
        results |= {
            "base_model": WAVLM,
            "model_type": "wavlm",
            "method": "head",
            "head": "conv",
            "emotions": list(experiment.emotions),
            "corpora": {"crema_d_votes": {"clips": experiment.clips["crema_d_votes"]}},
            "split": {**experiment.split, "fold": fold},
            "metrics": {"test": {"uar": 0.5, "confusion_matrix": [[1] * 4] * 4}},
            "parameters": {"total": total_parameters(experiment)},
            "training": {"clips_per_step": arguments["clips_per_step"], "arguments": arguments},
        }
        (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    options = ("--table", "peft_ser/VI", "--only", "/head", "--runs", tmp_path / "runs")
    assert reproduce(*options, "--plan") == 0
    assert "peft_ser/VI: 5 reports not made: needs --corpora crema_d=FOLDER" in capsys.readouterr().out
    assert reproduce(*options, "--corpora", f"crema_d={tmp_path}", "--run") == 0
    assert len(started) == 5
    broken = tmp_path / "runs" / experiment.folder / "4" / "report.json"
    broken.write_text("{")
    started_first = list(started)
    assert reproduce(*options, "--corpora", f"crema_d={tmp_path}", "--run") == 0
    assert len(started) == 5 + 4
    assert f"{broken} is none of this run's test part; move it away" in capsys.readouterr().out
    assert started_first[2] == [sys.executable, str(SCRIPT.with_name("evaluate.py")), str(tmp_path / "runs" / experiment.folder / "2"),
                          "--corpora", f"crema_d_votes={tmp_path}", "--no_robustness", "--no_cost"]  # fmt: skip


def test_hubert_ser_can_be_split_by_speaker(
    reproduce: Reproduce, started: list[list[str]], corpora: list[str], tmp_path: Path
) -> None:
    finished_run(tmp_path / "runs" / "random")
    options = ("--corpora", *corpora, "--runs", tmp_path / "runs", "--run", "--split", "speaker")
    assert reproduce("--table", "hubert_ser/4", *options) == 0
    assert started[0][-4:] == ["--split", "speaker", "--output_dir", str(tmp_path / "runs/hubert_ser/full-speaker")]


def test_emobox_folds(
    reproduce: Reproduce,
    started: list[list[str]],
    corpora: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert reproduce("--write_folds", tmp_path / "folds", "--corpora", corpora[0]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(
        f"{tmp_path}/folds/fold_1.json: test 240 clips of actors 1, 11, 20 and 21; validation 240"
    )
    assert printed[6] == "all 24 actors are there"

    assert reproduce("--table", "emobox/ravdess", "--corpora", corpora[0], "--run") == 0
    assert len(started) == 4
    assert len(list((tmp_path / "runs/reproduce/emobox/splits").iterdir())) == 6

    lines = Path(corpora[0].partition("=")[2]).read_text().splitlines()
    (tmp_path / "some.txt").write_text("\n".join(line for line in lines if int(line[6:8]) <= 18))
    started.clear()
    some = ("--corpora", f"ravdess={tmp_path / 'some.txt'}")
    assert reproduce("--table", "emobox/ravdess", *some, "--run") == 0
    assert started == []
    assert "not run: actors 19, 20, 21, 22, 23 and 24 of RAVDESS are missing" in capsys.readouterr().out

    assert reproduce("--table", "hubert_ser/1", "emobox/ravdess", "--corpora", "ravdess=/no/such", "--run") == 0
    printed = capsys.readouterr().out
    assert "not run: ravdess" in printed
    assert "## hubert_ser/1" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--corpora", "ravdes=/x"], "--corpora: 'ravdes=/x': write NAME=PATH with one of"),
        (["--corpora", "tess=/x", "tess=/y"], "--corpora: tess is there twice"),
        (["--model", "openai/whisper-tiny"], "--model: 'openai/whisper-tiny' is not of the form NAME=FOLDER"),
        (["--model", "whisper=/x"], "--model: 'whisper' is none of the papers' models: superb/hubert-large-superb-er"),
        (["--model", "openai/whisper-tiny=/no/such"], "--model openai/whisper-tiny: there is no folder '/no/such'"),
        (["--runs", "nowhere"], "--runs: there is no folder 'nowhere'"),
        (["--markdown", "nowhere/tables.md"], "--markdown: there is no folder 'nowhere'"),
        (["--write_folds", "folds"], "--write_folds needs --corpora ravdess=FOLDER"),
    ],
)
def test_what_does_not_fit_is_told(
    options: list[str], message: str, reproduce: Reproduce, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce("--table", "hubert_ser/3", *options) == 1
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_folder_must_hold_the_model(
    reproduce: Reproduce, tiny_hubert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce("--table", "hubert_ser/3", "--model", f"superb/hubert-large-superb-er={tiny_hubert}") == 1
    error = capsys.readouterr().err
    assert "holds a hubert of 2 layers of 32 where it has a hubert of 24 layers of 1024" in error
