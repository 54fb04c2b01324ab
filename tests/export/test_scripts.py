"""scripts/export.py, and the other scripts with an exported model."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from small_files import write_clip

Run = Callable[..., "subprocess.CompletedProcess[str]"]
QUICK = ("--no_robustness", "--resamples", "20")


def test_export_and_predict(run_script: Run, hubert: Path, traced: None, tmp_path: Path) -> None:
    ran = run_script("export", hubert, "--output", tmp_path / "exported")
    assert ran.returncode == 0, ran.stderr
    printed = ran.stdout
    assert "a predicted value differs by at most" in printed
    assert f"the exported model is in {tmp_path / 'exported'}" in printed

    clip = write_clip(tmp_path / "clip.wav", seconds=1.5)
    from_exported = run_script("predict", tmp_path / "exported", clip).stdout
    assert str(clip) in from_exported
    assert run_script("predict", hubert, clip, "--device", "cpu").stdout == from_exported


def test_errors_are_one_line(run_script: Run, hubert: Path, exported: Path, tmp_path: Path) -> None:
    assert "error: output:" in run_script("export", hubert, "--output", exported).stderr
    clip = write_clip(tmp_path / "clip.wav")
    ran = run_script("predict", exported, clip, "--device", "cuda:0")
    assert (ran.returncode, ran.stderr.startswith("error: device:")) == (1, True)


def test_evaluate_an_exported_model(
    run_script: Run, hubert: Path, exported: Path, speech: Path, tmp_path: Path
) -> None:
    """With the metrics of the model that it was made of, and the training clips of its run."""
    words = ("--corpora", f"synthetic={speech}", "--no_leakage", *QUICK)
    assert (
        run_script("evaluate", exported, *words, "--output", tmp_path / "report", "--compare", hubert).returncode == 0
    )
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["model"]["precision"] == "float32"
    assert report["comparison"]["difference"]["uar"] == 0
    assert report["cost"]["parameters"] is report["cost"]["flops"] is None
    assert report["cost"]["size"]["model_bytes"] > (exported / "model.onnx").stat().st_size
    assert len(report["cost"]["latency"]) == 4
    assert "</html>" in (tmp_path / "report" / "report.html").read_text()

    run = tmp_path / "run"
    run.mkdir()
    emotions = ("angry", "happy", "neutral", "sad")
    names = sorted(f"synthetic/{path.relative_to(speech).with_suffix('')}" for path in speech.rglob("*.wav"))
    names = [name for name in names if any(emotion in name for emotion in emotions)]
    parts = {"train": names[16:], "validation": names[8:16], "test": names[:8]}
    (run / "splits.json").write_text(json.dumps({"name": "speaker", "settings": {}, "parts": parts}))
    words += ("--no_cost",)
    assert (
        "error: run=" in run_script("evaluate", exported, *words, "--output", tmp_path / "again", "--run", run).stderr
    )
    shutil.copy(Path(__file__).parents[2] / "model_cards/hubert-mini-ravdess-full/results.json", run)
    assert run_script("evaluate", exported, *words, "--output", tmp_path / "again", "--run", run).returncode == 0
    assert json.loads((tmp_path / "again" / "report.json").read_text())["clips"]["number"] == 8
    assert (
        "its precision was chosen at its export"
        in run_script("evaluate", exported, *words, "--output", tmp_path / "int8", "--precision", "int8").stderr
    )


def test_evaluate_in_fewer_bits(run_script: Run, hubert: Path, speech: Path, tmp_path: Path) -> None:
    words = ("--corpora", f"synthetic={speech}", "--no_cost", *QUICK, "--compare", hubert)
    assert run_script("evaluate", hubert, *words, "--output", tmp_path, "--precision", "int8").returncode == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["model"]["precision"] == "int8"
    assert report["model"]["name"] == f"{hubert.name} (int8)"
    assert [note for note in report["notes"] if "computes in" in note] == [
        f"{hubert.name} (int8) computes in int8: metrics in float32 may differ a little."
    ]
    assert report["comparison"]["other"] == hubert.name
    assert run_script("evaluate", hubert, *words[:-2], "--output", tmp_path / "float32").returncode == 0
    exact = json.loads((tmp_path / "float32" / "report.json").read_text())
    assert report["quality"]["overall"]["log_loss"] != exact["quality"]["overall"]["log_loss"], "nothing was rounded"
    assert abs(report["comparison"]["difference"]["eer"]) < 0.1
