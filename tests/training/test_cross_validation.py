"""Folds, seeds and sweeps: what is planned, what is trained, and what is made of it."""

import json
import re
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_ser.claims import sole_use
from hf_ser.evaluation import plots
from hf_ser.splits import SplitError
from hf_ser.training import parse_arguments
from hf_ser.training.cross_validation import Run, as_markdown, cross_validate, plan, read_seeds, read_sweep, summarise
from hf_ser.training.identity import identity

Python = Callable[..., "subprocess.CompletedProcess[str]"]
Plan = Callable[..., list[Run]]

EXAMPLE = Path(__file__).parents[2] / "model_cards/hubert-mini-ravdess-full/results.json"
#: Trains nothing: writes what a run leaves, or fails, or is interrupted after a checkpoint.
FAKE = """
import json, os, sys
from pathlib import Path

words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
folder = Path(words["--output_dir"])
if words.get("--method") == "lora_qkv":
    sys.exit("it diverged")
if words.get("--fold") == "1" and not (folder / "checkpoint-3").exists():
    (folder / "checkpoint-3").mkdir(parents=True)
    (folder / "checkpoint-3" / "trainer_state.json").write_text("{}")
    sys.exit("killed")
folder.mkdir(parents=True, exist_ok=True)
results = json.loads(Path("EXAMPLE").read_text())
(folder / "results.json").write_text(json.dumps(results | {
    "words": words, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
    "metrics": {"test": {"uar": 0.5 + 0.1 * int(words.get("--fold", 0)), "accuracy": 0.5, "f1_weighted": 0.4}},
    "probe": {"test": {"uar": 0.3 + 0.1 * int(words.get("--fold", 0))}},
    "parameters": {"trainable": 7, "total": 9},
    "split": results["split"] | {"name": "kfold"},
    "training": results["training"] | {"seconds": 10, "epochs": 5},
}))
""".replace("EXAMPLE", str(EXAMPLE))


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "fake.py").write_text(FAKE)
    return tmp_path / "fake.py"


@pytest.fixture
def planned(tmp_path: Path, speech: Path) -> Plan:
    """The runs with some arguments, a sweep and seeds."""

    def runs(*more: str, sweep: dict[str, list[str]] | None = None, seeds: list[int] | None = None) -> list[Run]:
        argv = ["--output_dir", str(tmp_path / "cv"), "--corpora", f"synthetic={speech}", "--split", "kfold", *more]
        return plan(argv, parse_arguments(argv), sweep or {}, seeds)

    return runs


def test_every_setting_meets_every_fold_and_seed(planned: Plan) -> None:
    runs = planned("--folds", "3", sweep={"method": ["full", "lora_qkv"], "lora_r": ["8", "16"]}, seeds=[1, 2])
    assert len(runs) == 2 * 2 * 3 * 2
    assert len({run.folder for run in runs}) == len(runs)
    parsed = parse_arguments(runs[-1].argv)
    assert (parsed.tuning.method, parsed.tuning.lora_r) == ("lora_qkv", 16)
    assert (parsed.script.fold, parsed.script.folds, parsed.training.seed) == (2, 3, 2)
    assert Path(parsed.training.output_dir) == runs[-1].folder


@pytest.mark.parametrize(
    ("options", "folds"),
    [(["--fold_by", "speaker"], 5), (["--folds", "2"], 2), (["--split", "speaker"], 1)],
)
def test_folds_of_the_paper(planned: Plan, options: list[str], folds: int) -> None:
    assert len(planned(*options)) == folds


def test_what_cannot_be_planned(planned: Plan) -> None:
    with pytest.raises(SplitError, match="the corpora have no sessions"):
        planned("--fold_by", "session")
    with pytest.raises(ValueError, match="sweep: seed is set by the folds and seeds"):
        planned(sweep={"seed": ["1"]})
    with pytest.raises(ValueError, match="two settings have the same values"):
        planned(sweep={"lora_r": ["8", "8"]})


def test_a_sweep_of_a_recipe_and_of_the_command_line() -> None:
    recipe = {"method": "frozen", "lora_r": [8, 16]}
    assert read_sweep(recipe, ["lora_r=4"]) == {"method": ["frozen"], "lora_r": ["4"]}
    assert read_sweep(None, ["method=frozen,adapter"]) == {"method": ["frozen", "adapter"]}
    assert read_sweep({"lora_r": [8, 16]}, ["lora-r=4"]) == {"lora_r": ["4"]}  # the same argument
    for wrong in ("method", ["method"], {"method": None}, {"method": []}, {"corpora": [{"a": 1}]}):
        with pytest.raises(ValueError, match="config: sweep must be lines of the form"):
            read_sweep(wrong, [])
    for word in ("method", "method=", "=head"):
        with pytest.raises(ValueError, match=f"sweep: '{word}' is not of the form"):
            read_sweep(None, [word])


def test_seeds_of_a_recipe() -> None:
    assert read_seeds(None) is None
    assert read_seeds(3) == [3]
    assert read_seeds([1, 2]) == [1, 2]
    for wrong in ("1 2", [], [1.5], [True], {"a": 1}):
        with pytest.raises(ValueError, match="config: seeds must be whole numbers"):
            read_seeds(wrong)


def test_it_goes_on_keeps_what_is_finished_and_logs_what_failed(
    script: Path, planned: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    runs = planned("--folds", "2", sweep={"method": ["full", "lora_qkv"]})
    failed = cross_validate(runs, script, jobs=2)
    assert {(run.setting["method"], run.fold) for run in failed} == {("full", 1), ("lora_qkv", 0), ("lora_qkv", 1)}
    assert "it diverged" in caplog.text
    (row,) = summarise(runs)
    assert (row["setting"], row["missing"], row["uar"]) == ({"method": "full"}, 1, [0.5])

    finished = runs[0].folder / "results.json"
    text = finished.read_text()
    finished.write_text(text[:9])
    with pytest.raises(ValueError, match=f"^{re.escape(str(finished))}: not as hf_ser writes it, but no JSON"):
        cross_validate(runs[:2], script, jobs=1)
    assert not (runs[1].folder / "results.json").exists()
    finished.write_text(text)

    before = finished.stat().st_mtime_ns
    failed = cross_validate(runs[:2], script, jobs=1)
    assert failed == []
    assert finished.stat().st_mtime_ns == before
    words = json.loads((runs[1].folder / "results.json").read_text())["words"]
    assert words["--resume_from_checkpoint"] == "True"
    (row,) = summarise(runs)
    assert row["mean"] == pytest.approx(0.55)
    assert row["standard_deviation"] == pytest.approx(statistics.stdev([0.5, 0.6]))
    assert row["seconds_per_epoch"] == 2
    assert "| full | 55.00 ± 7.07 | 35.00 ± 7.07 | 2 | 7 | 2.0 |" in as_markdown([row])


@pytest.mark.parametrize(
    ("visible", "count", "given"),
    [
        (None, 2, ["0", "1"]),
        ("2, 3", 2, ["2", "3"]),
        ("5,7,64,0", 2, ["5", "7"]),  # CUDA ignores what follows a device that is not there
        ("GPU-8f2d,GPU-19ab", 2, ["GPU-8f2d", "GPU-19ab"]),
        ("MIG-8f2d,MIG-19ab", 1, ["MIG-8f2d", "MIG-19ab"]),  # a process counts one MIG device, however many there are
        ("", 0, ["", ""]),
    ],
)
def test_each_run_gets_one_of_the_gpus_that_are_visible(
    visible: str | None, count: int, given: list[str], script: Path, planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    runs = planned("--split", "speaker", seeds=[1, 2])
    assert cross_validate(runs, script) == []
    assert sorted(json.loads((run.folder / "results.json").read_text())["gpus"] for run in runs) == sorted(given)


@pytest.mark.parametrize(
    ("first", "second", "other"),
    [
        (["--folds", "2"], ["--folds", "3"], "folds: found 2, given 3"),
        ([], ["--num_train_epochs", "9"], "num_train_epochs: found 3.0, given 9.0"),
        (["--max_seconds", "4"], [], "max_seconds: found 4.0, given None"),
    ],
)
def test_runs_of_another_experiment_are_not_taken_for_ones_own(
    first: list[str], second: list[str], other: str, script: Path, planned: Plan
) -> None:
    run = planned(*first)[0]
    assert cross_validate([run], script, jobs=1) == []
    # A true run writes it when it starts.
    (run.folder / "run.json").write_text(json.dumps(identity(parse_arguments(run.argv))))
    assert cross_validate(planned(*first, "--logging_steps", "3")[:1], script, jobs=1) == []
    for left in ("results.json", "nothing"):  # of a finished run, and of one that was interrupted
        with pytest.raises(ValueError, match=rf"{run.folder} holds a run with other arguments.*\n  {other}\n"):
            cross_validate(planned(*second)[:1], script, jobs=1)
        (run.folder / left).unlink(missing_ok=True)


def test_settings_with_other_main_metrics_are_in_one_table() -> None:
    """Trap: after all training the table ended in a KeyError."""
    rows = [
        {
            "setting": {"targets": target}, "metric": metric, "runs": [{}], "missing": 0, "mean": mean,
            "standard_deviation": None, f"probe_{metric}": {"mean": 0.25, "standard_deviation": None},
            "parameters": {"trainable": 7}, "seconds_per_epoch": None,
        }
        for target, metric, mean in (("emotion", "uar", 0.5), ("arousal", "ccc", 0.75))
    ]  # fmt: skip
    head, _, first, second = as_markdown(rows).splitlines()
    assert "UAR on test, % or CCC on test, times 100" in head
    assert (first, second) == ("| emotion | 50.00 | 25.00 | 1 | 7 | - |", "| arousal | 75.00 | 25.00 | 1 | 7 | - |")


@pytest.mark.parametrize(("second", "shown"), [(0.5, "50.00"), (None, "not defined")])
def test_a_metric_that_is_not_defined_is_in_no_mean(
    script: Path, planned: Plan, second: float | None, shown: str
) -> None:
    """Trap: after all training the table ended in a TypeError."""
    runs = planned("--split", "speaker", seeds=[1, 2])
    cross_validate(runs, script, jobs=1)
    for run, ccc in zip(runs, (None, second), strict=True):
        results = json.loads((run.folder / "results.json").read_text())
        for test in (results["metrics"]["test"], results["probe"]["test"]):
            del test["uar"]
            test["ccc"] = ccc
        (run.folder / "results.json").write_text(json.dumps(results))
    table = summarise(runs)
    assert f"| {shown} | {shown} |" in as_markdown(table)
    plots.sweep(table)


def test_a_run_without_an_epoch_has_no_seconds_of_one(script: Path, planned: Plan) -> None:
    script.write_text(FAKE.replace('"epochs": 5', '"epochs": 0'))
    runs = planned()[:1]
    cross_validate(runs, script, jobs=1)
    (row,) = summarise(runs)
    assert row["seconds_per_epoch"] is None
    assert as_markdown([row]).endswith("| - |")


def test_speakers_that_train_and_test_share_are_unknown_if_those_of_a_run_are(script: Path, planned: Plan) -> None:
    runs = planned("--split", "speaker", seeds=[1, 2])
    cross_validate(runs, script, jobs=1)

    def shared() -> int | None:
        (row,) = summarise(runs)
        found: int | None = row["speakers_shared_by_train_and_test"]
        return found

    assert shared() == 0
    results = json.loads((runs[0].folder / "results.json").read_text())
    results["split"]["parts"]["train"]["clips_without_speaker"] = 1
    (runs[0].folder / "results.json").write_text(json.dumps(results))
    assert shared() is None
    results["split"]["speakers_shared_by_train_and_test"] = 3
    (runs[1].folder / "results.json").write_text(json.dumps(results))
    assert shared() == 3


def test_a_sweep_is_drawn(tmp_path: Path) -> None:
    def row(**setting: str) -> dict[str, Any]:
        runs = {"metric": "uar", "uar": [0.5], "runs": [{}]}
        return {"setting": setting, **runs, "mean": 0.5, "standard_deviation": None, "split": "kfold"}

    for n, table in enumerate(
        (
            [row(lora_r="8", method="a"), row(lora_r="16", method="a"), row(lora_r="8", method="b")],
            [row(method="a"), row(method="b")],
            [row()],
        )
    ):
        plots.save_figure(plots.sweep(table), tmp_path / f"{n}.png")
        assert (tmp_path / f"{n}.png").stat().st_size > 5000


def test_a_folder_in_which_another_process_trains_is_left_alone(tmp_path: Path, run_script: Python) -> None:
    with sole_use(tmp_path / "cv"):
        done = run_script("cross_validate", "--output_dir", tmp_path / "cv")
        assert [path.name for path in (tmp_path / "cv").iterdir()] == [".lock"]
    assert done.returncode == 1
    assert f"error: output_dir: another process trains in '{tmp_path / 'cv'}'" in done.stderr
    assert not (tmp_path / "cv").exists()


@pytest.mark.usefixtures("train_here")
def test_from_the_command_line(tmp_path: Path, speech: Path, tiny_hubert: Path, run_script: Python) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"corpora: {{synthetic: {speech}}}\nmodel_name_or_path: {tiny_hubert}\nmethod: probe\nemotions: [happy, sad]\n"
        f"split: kfold\nfolds: 2\noutput_dir: {tmp_path / 'cv'}\nsweep: {{lora_r: [2]}}\n"
    )
    done = run_script("cross_validate", "--config", recipe)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (
        "| lora_r | UAR on test, % | probe's UAR on test, % | runs | trained parameters | s per epoch |" in done.stdout
    )
    (row,) = json.loads((tmp_path / "cv" / "cross_validation.json").read_text())
    assert len(row["uar"]) == 2
    assert row["speakers_shared_by_train_and_test"] == 0
    assert (tmp_path / "cv" / "sweep.png").exists()
    folds = [tmp_path / f"cv/2/fold-{fold}-seed-42/splits.json" for fold in (0, 1)]
    first, second = (set(json.loads(file.read_text())["parts"]["test"]) for file in folds)
    assert not first & second
    done = run_script("cross_validate", "--config", recipe, "--balance", "weights")
    assert done.returncode == 1
    assert "balance: found 'logits', given 'weights'\n" in done.stderr
