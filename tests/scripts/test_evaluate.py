"""scripts/evaluate.py, as a user calls it."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hf_ser.audio.distort import CONDITIONS
from hf_ser.cli import evaluate
from hf_ser.emotions import EMOTIONS
from hf_ser.hub import push
from hf_ser.pipeline import SERPipeline
from hf_ser.report import ReportOptions
from hf_ser.training import finetune, parse_arguments

Run = Callable[..., Any]
QUICK = ["--no_robustness", "--no_cost", "--resamples", "20"]


@pytest.fixture(scope="module")
def run(run_words: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    finetune(parse_arguments(run_words(folder, "--method", "frozen", "--emotions", *EMOTIONS)))
    return folder


def test_a_run_gets_its_report_which_is_not_overwritten_unasked(
    run: Path, speech: Path, run_script: Run, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    words = [copy, "--corpora", f"synthetic={speech}", *QUICK]
    done = run_script("evaluate", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((copy / "report.json").read_text())
    results = json.loads((copy / "results.json").read_text())
    assert report["quality"]["overall"]["uar"] == pytest.approx(results["metrics"]["test"]["uar"], abs=1e-6)
    assert f"{100 * report['quality']['overall']['uar']:.1f} %" in done.stdout
    assert report["leakage"]["speakers"] == []
    assert str(tmp_path) not in json.dumps(report)
    assert (copy / "report.html").exists()
    again = run_script("evaluate", *words)
    assert again.returncode == 1
    assert "holds a report" in again.stderr
    assert run_script("evaluate", *words, "--overwrite").returncode == 0


def test_a_model_on_the_hub(run: Path, speech: Path, run_script: Run, hub: Any, tmp_path: Path) -> None:
    push(run, "lab/emotions")
    words = ["evaluate", "lab/emotions", "--corpora", f"synthetic={speech}", *QUICK]
    done = run_script(*words)
    assert done.returncode == 1
    assert "output: name a folder for the report" in done.stderr
    done = run_script(*words, "--output", tmp_path / "report", "--compare", run)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (report["model"]["name"], report["clips"]["part"]) == ("lab/emotions", "test")
    assert report["comparison"]["mcnemar"]["p"] == 1
    assert "McNemar's exact test, p: 1.0000" in done.stdout


def test_two_models_of_one_name_get_different_names(run: Path, speech: Path, run_script: Run, tmp_path: Path) -> None:
    for name in "ab":
        shutil.copytree(run, tmp_path / name / "run")
    words = ["--corpora", f"synthetic={speech}", *QUICK, "--compare", tmp_path / "b" / "run"]
    done = run_script("evaluate", tmp_path / "a" / "run", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "a" / "run" / "report.json").read_text())
    assert (report["model"]["name"], report["comparison"]["other"]) == ("a/run", "b/run")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--label_map", "glad=happy"], "label_map=.*: no model has a label 'glad'"),
        (["--label_map", "glad"], "label_map='glad': expected FROM=TO"),
        (["--part", "all", "--emotions", "calm=sad"], "No clip is of calm"),
        (["--device", "nonsense"], "device='nonsense': the model cannot run there"),
        (["--revision", "main"], "revision='main': .* is a local folder"),
        (["--max_excluded", "-1"], "max_excluded=-1.0: expected a share from 0 to 1"),
    ],
)
def test_what_does_not_fit(
    run: Path, speech: Path, run_script: Run, tmp_path: Path, words: list[str], message: str
) -> None:
    done = run_script("evaluate", run, "--corpora", f"synthetic={speech}", "--output", tmp_path, *QUICK, *words)
    assert re.search(message, done.stderr + " ".join(done.stdout.split()))


def test_two_processes_share_the_predictions_of_one_report(
    run: Path, speech: Path, processes: Callable[..., list[int | None]], run_script: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    words = [run, "--corpora", f"synthetic={speech}", "--no_cost", "--no_leakage", "--resamples", "5", "--robustness_clips", "4",
             "--compare", run]  # fmt: skip
    predict, log = SERPipeline.predict, tmp_path / "log"

    def noting(self: SERPipeline, sources: Any, **options: Any) -> Any:
        clips = list(sources)
        with log.open("a") as file:
            file.write(f"{len(clips)}\n")
        return predict(self, iter(clips), **options)

    monkeypatch.setattr(SERPipeline, "predict", noting)
    monkeypatch.setattr(evaluate, "ReportOptions", partial(ReportOptions, conditions=CONDITIONS[:2]))
    assert processes("evaluate", 2, *words, "--output", tmp_path / "two") == [0, 0]
    shared = list(map(int, log.read_text().split()))
    log.unlink()
    assert run_script("evaluate", *words, "--output", tmp_path / "one").returncode == 0
    alone = list(map(int, log.read_text().split()))
    assert sum(shared) == sum(alone)
    assert max(shared) == -(-max(alone) // 2)
    one, two = (
        json.loads((tmp_path / name / "report.json").read_text(), parse_float=lambda digits: round(float(digits), 3))
        for name in ("one", "two")
    )
    for part in ("clips", "quality", "fairness", "comparison", "robustness", "notes"):
        assert json.dumps(two[part]).replace("-0.0", "0.0") == json.dumps(one[part]).replace("-0.0", "0.0"), part
    assert not (tmp_path / "two" / "report-predictions").exists()


def test_when_one_of_two_processes_is_killed_what_was_predicted_under_other_conditions_is_kept(
    run: Path, speech: Path, processes: Callable[..., list[int | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = [run, "--corpora", f"synthetic={speech}", "--no_cost", "--no_leakage", "--resamples", "5", "--robustness_clips", "4",
             "--output", tmp_path / "report"]  # fmt: skip
    predict, log = SERPipeline.predict, tmp_path / "log"

    def noting(self: SERPipeline, sources: Any, **options: Any) -> Any:
        if os.environ["RANK"] == "1":
            with log.open("a") as file:
                file.write("predicted\n")
            if len(log.read_text().split()) == 3:  # the second distortion
                os.kill(os.getpid(), signal.SIGKILL)
        return predict(self, sources, **options)

    monkeypatch.setattr(SERPipeline, "predict", noting)
    monkeypatch.setattr(evaluate, "ReportOptions", partial(ReportOptions, conditions=CONDITIONS[:4]))
    assert CONDITIONS[0].name == "clean"
    assert processes("evaluate", 2, *words) == [1, -signal.SIGKILL]
    assert "one of 2 processes ended early" in capfd.readouterr().err
    assert len(list((tmp_path / "report" / "report-predictions").iterdir())) == 2
    assert not (tmp_path / "report" / "report.json").exists()
    assert processes("evaluate", 2, *words) == [0, 0]
    assert len(log.read_text().split()) == 3 + 2, "the condition that was lost, and the one after it"
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [one["name"] for one in report["robustness"]["conditions"]] == [one.name for one in CONDITIONS[:4]]
