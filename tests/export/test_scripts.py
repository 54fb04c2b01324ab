"""scripts/export.py, and scripts/predict.py with what it leaves."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def main(name: str, *arguments: object) -> int:
        spec = importlib.util.spec_from_file_location(f"{name}_script", SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        return module.main()

    return main


def test_export_and_predict(
    script: Callable[..., int], hubert: Path, traced: None, write_clip: Callable[..., Path], tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert script("export", hubert, "--output", tmp_path / "exported") == 0
    printed = capfd.readouterr().out
    assert "a probability differs by at most" in printed
    assert f"the exported model is in {tmp_path / 'exported'}" in printed

    clip = write_clip(tmp_path / "clip.wav", seconds=1.5)
    assert script("predict", tmp_path / "exported", clip) == 0
    from_exported = capfd.readouterr().out
    assert str(clip) in from_exported
    assert script("predict", hubert, clip, "--device", "cpu") == 0
    assert capfd.readouterr().out == from_exported


def test_errors_are_one_line(
    script: Callable[..., int], hubert: Path, exported: Path, write_clip: Callable[..., Path], tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert script("export", hubert, "--output", exported) == 1
    assert "error: --output:" in capfd.readouterr().err
    clip = write_clip(tmp_path / "clip.wav")
    assert script("predict", exported, clip, "--device", "cuda:0") == 1
    assert "error: --device:" in capfd.readouterr().err


def test_evaluate_an_exported_model(
    script: Callable[..., int],
    hubert: Path,
    exported: Path,
    speech: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """With the figures of the model that it was made of, and what its run has learned from."""
    words = ("--corpora", f"synthetic={speech}", "--no_robustness", "--no_leakage", "--resamples", "20")
    assert script("evaluate", exported, *words, "--output", tmp_path / "report", "--compare", hubert) == 0
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
    capfd.readouterr()
    assert script("evaluate", exported, *words, "--output", tmp_path / "again", "--run", run) == 1
    assert "error: --run:" in capfd.readouterr().err
    (run / "results.json").write_text("{}")
    assert script("evaluate", exported, *words, "--output", tmp_path / "again", "--run", run) == 0
    assert json.loads((tmp_path / "again" / "report.json").read_text())["clips"]["number"] == 8
    capfd.readouterr()
    assert script("evaluate", exported, *words, "--output", tmp_path / "int8", "--precision", "int8") == 1
    assert "its precision was chosen at its export" in capfd.readouterr().err


def test_evaluate_in_fewer_bits(script: Callable[..., int], hubert: Path, speech: Path, tmp_path: Path) -> None:
    words = (
        "--corpora",
        f"synthetic={speech}",
        "--no_robustness",
        "--no_cost",
        "--resamples",
        "20",
        "--compare",
        hubert,
    )
    assert script("evaluate", hubert, *words, "--output", tmp_path, "--precision", "int8") == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["model"]["precision"] == "int8"
    assert report["model"]["name"] == f"{hubert.name} (int8)"
    assert [note for note in report["notes"] if "computes in" in note] == [
        f"{hubert.name} (int8) computes in int8: in float32 figures may differ a little."
    ]
    assert report["comparison"]["other"] == hubert.name
    assert script("evaluate", hubert, *words[:-2], "--output", tmp_path / "float32") == 0
    exact = json.loads((tmp_path / "float32" / "report.json").read_text())
    assert report["quality"]["overall"]["log_loss"] != exact["quality"]["overall"]["log_loss"], "nothing was rounded"
    assert abs(report["comparison"]["difference"]["eer"]) < 0.1
