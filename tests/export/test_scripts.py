"""scripts/export.py, and scripts/predict.py with what it leaves."""

import importlib.util
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
