"""Errors of the scripts without a test file of their own."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate.commands import launch
from accelerate.commands.launch import simple_launcher

from hf_ser.cli import main


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
    name: str, arguments: list[str], message: str, run_script: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_model.safetensors").touch()
    done = run_script(name, *(word.format(folder=tmp_path) for word in arguments))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert message.format(folder=tmp_path) in done.stderr


def test_of_a_process_that_fails_the_launcher_prints_nothing_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trap: accelerate's traceback of 20 lines followed the line that says what is wrong."""

    def fails(arguments: Any) -> None:
        simple_launcher(SimpleNamespace(quiet=arguments.quiet))

    command = [sys.executable, "-c", "raise SystemExit(3)"]
    monkeypatch.setattr(launch, "prepare_simple_launcher_cmd_env", lambda arguments: (command, None))
    monkeypatch.setattr("hf_ser.cli.launch_command", fails)
    monkeypatch.setattr(sys, "argv", ["hf-ser", "finetune", "--output_dir", "run"])
    assert main() == 3
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ("logs", "interrupted; there is no checkpoint yet to go on from"),
        ("checkpoint-3", "interrupted; with --resume_from_checkpoint True it goes on from the last checkpoint"),
    ],
)
def test_a_training_that_is_interrupted_says_how_it_goes_on(
    left: str, message: str, run_script: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        (tmp_path / "run" / left).mkdir(parents=True)
        (tmp_path / "run" / left / "trainer_state.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr("hf_ser.cli.finetune.finetune", interrupted)
    monkeypatch.setattr("hf_ser.cli.finetune.keep_freed_memory", lambda: None)
    done = run_script("finetune", "--output_dir", tmp_path / "run")
    assert done.returncode == 130
    assert done.stderr.endswith(f"\n{message}\n")


def test_a_value_of_a_sweep_that_cannot_be_is_refused_before_anything_is_trained(
    run_script: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["cross_validate", "--split", "kfold", "--output_dir", tmp_path / "cv", "--plan", "--sweep"]
    with pytest.raises(SystemExit):
        run_script(*words, "method=frozen,magic")
    assert "method='magic': expected one of" in capsys.readouterr().err
    done = run_script(*words, "method=frozen,adapter", "learning-rate=1e-3,1e-4")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2 * 2 * 5
