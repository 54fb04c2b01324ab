"""Errors of the scripts without a test file of their own."""

import importlib
import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def load(name: str) -> Any:
    """A command as a module."""
    if name != "try_model":
        return importlib.import_module(f"hf_ser.cli.{name}")
    spec = importlib.util.spec_from_file_location(f"{name}_script", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("try_model", ["{folder}"], "splits.json"),
        (
            "try_model",
            ["{folder}/adapter", "clip.wav"],
            "'{folder}/adapter' holds an adapter and no checkpoint; hf-ser predict opens it",
        ),
        ("corpora", ["ravdess={folder}/gone"], "ravdess: there is no folder '{folder}/gone'"),
        ("cross_validate", ["--config", "{folder}/gone"], "config: '{folder}/gone' cannot be read: No such file"),
        (
            "cross_validate",
            ["--sweep", "nonsense=1,2", "--plan"],
            "--sweep: hf-ser finetune has no argument 'nonsense'",
        ),
    ],
)
def test_it_is_printed_in_one_line(
    name: str, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_model.safetensors").touch()
    script = load(name)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *(word.format(folder=tmp_path) for word in arguments)])
    assert script.main() == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message.format(folder=tmp_path) in error


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ("logs", "interrupted; there is no checkpoint yet to go on from"),
        ("checkpoint-3", "interrupted; with --resume_from_checkpoint True it goes on from the last checkpoint"),
    ],
)
def test_a_training_that_is_interrupted_says_how_it_goes_on(
    left: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> None:
        (tmp_path / "run" / left).mkdir(parents=True)
        (tmp_path / "run" / left / "trainer_state.json").write_text("{}")
        raise KeyboardInterrupt

    script = load("finetune")
    monkeypatch.setattr(script, "finetune", interrupted)
    monkeypatch.setattr(script, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(sys, "argv", ["finetune.py", "--output_dir", str(tmp_path / "run")])
    logger = logging.getLogger("hf_ser")
    level = logger.level
    status = script.main()
    logger.setLevel(level)
    assert status == 130
    assert capsys.readouterr().err.endswith(f"\n{message}\n")


def test_a_value_of_a_sweep_that_cannot_be_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--split", "kfold", "--output_dir", str(tmp_path / "cv"), "--plan", "--sweep"]
    script = load("cross_validate")
    monkeypatch.setattr(sys, "argv", ["cross_validate.py", *words, "method=frozen,magic"])
    with pytest.raises(SystemExit):
        script.main()
    assert "method='magic': expected one of" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["cross_validate.py", *words, "method=frozen,adapter", "learning-rate=1e-3,1e-4"])
    assert script.main() == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 * 2 * 5
