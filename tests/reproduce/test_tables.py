"""reproduce/tables.py: what it prints, plans and runs."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tables
from counts import COUNTED
from experiments import CELLS, RECIPES, WAVLM, hubert_ser, peft_ser
from published import TABLES

Script = Callable[..., str]
Write = Callable[..., Path]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Script:
    """Runs the script in this process in an empty folder, and returns what it prints; `status` is what it must return."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["tables.py", *map(str, arguments)])
        assert tables.main() == status
        printed = capsys.readouterr()
        return printed.err if status and not printed.out else printed.out

    return run


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have been run; those with Whisper Base fail."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        commands.append(command)
        return subprocess.CompletedProcess(command, int("openai/whisper-base" in command))

    monkeypatch.setattr(subprocess, "run", run)
    return commands


@pytest.fixture
def corpora(lists: dict[str, str]) -> list[str]:
    return [f"{name}={path}" for name, path in lists.items()]


def test_without_arguments_it_prints_every_table(script: Script) -> None:
    assert COUNTED.keys() | CELLS.keys() == TABLES.keys()
    printed = script()
    assert [line.split(":")[0] for line in printed.splitlines() if line.startswith("## ")] == [
        f"## {name}" for name in TABLES
    ]
    assert "315,703,201" in printed
    assert "- not run: 475 of 475 trainings; --plan prints the commands" in printed
    assert "None" not in printed


def test_finished_runs_are_put_in_and_others_listed(script: Script, write_run: Write, tmp_path: Path) -> None:
    write_run("a", hubert_ser("full"))
    write_run("b", hubert_ser("full"), method="lora_ff")
    printed = script("--tables", "hubert_ser/3", "hubert_ser/4", "peft_ser/V", "--runs", tmp_path / "runs")
    assert "| random split |   0.7500 | 0.1250 |    80.00 |" in printed
    assert "- not run: 2 of 3 trainings" in printed
    assert f"- {tmp_path}/runs/b: not in hubert_ser/3: method lora_ff, expected full" in printed
    assert "runs/a" not in printed


def test_a_plan_prints_the_commands(
    script: Script, started: list[list[str]], corpora: list[str], write_run: Write, tmp_path: Path
) -> None:
    write_run("anywhere", hubert_ser("full"))
    names = ("hubert_ser/3", "hubert_ser/4", "peft_ser/V", "emobox/ravdess")
    runs = tmp_path / "runs"
    printed = script("--tables", *names, "--corpora", *corpora, "--runs", runs, "--plan")
    assert started == []
    assert list(runs.iterdir()) == [runs / "anywhere"]
    assert "hubert_ser/full: 1 of 1 runs finished\n" in printed
    assert "peft_ser/iemocap/whisper-tiny/frozen: 0 of 5 runs finished; needs --corpora iemocap=FOLDER" in printed
    commands = [shlex.split(line) for line in printed.splitlines() if "cross_validate.py" in line]
    assert len(commands) == 2 + 25 + 4
    assert commands[0][-2:] == ["--output_dir", str(runs / "hubert_ser" / "lora_qkv")]
    assert any(word.startswith(f"splits={runs}/emobox/splits/fold_1.json,") for word in commands[-1])


def test_it_trains_what_is_missing(
    script: Script, started: list[list[str]], corpora: list[str], tmp_path: Path
) -> None:
    options = ("--corpora", f"crema_d={tmp_path}", "--run", "--", "--jobs", "2")
    assert "## peft_ser/figure_6" in script("--tables", "peft_ser/figure_6", *options, status=1)  # as one failed
    assert len(started) == 15
    command = started[1]
    assert command[:2] == [sys.executable, str(RECIPES.parent / "cross_validate.py")]
    assert f"crema_d_votes={tmp_path}" in command
    assert command[command.index("--lora_r") + 1] == "16"
    output = "runs/reproduce/peft_ser/crema_d_votes/whisper-tiny/lora_ff-16"
    assert command[-4:] == ["--output_dir", output, "--jobs", "2"]
    started.clear()
    script("--tables", "peft_ser/V", "--only", "whisper-tiny", "lora", *options)
    assert [Path(command[-3]).name for command in started] == ["lora_ff-8"]
    started.clear()
    script("--tables", "emobox/ravdess", "--corpora", corpora[0], "--run")
    assert len(started) == 4
    assert len(list((tmp_path / "runs/reproduce/emobox/splits").iterdir())) == 6


def test_it_makes_the_missing_reports(
    script: Script, started: list[list[str]], write_run: Write, tmp_path: Path
) -> None:
    experiment = peft_ser(WAVLM, "frozen", "CREMA-D")
    for fold in range(5):
        write_run(f"{fold}", experiment, split={"fold": fold})
    options = ("--tables", "peft_ser/VI", "--only", "/frozen", "--runs", tmp_path / "runs")
    assert "some finished runs have no report.json" in script(*options)
    script(*options, "--corpora", f"crema_d={tmp_path}", "--run")
    assert started == [
        [sys.executable, str(RECIPES.parent / "evaluate.py"), str(tmp_path / "runs" / str(fold)), "--corpora",
         f"crema_d_votes={tmp_path}", "--no_robustness", "--no_cost"]
        for fold in range(5)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--corpora", "ravdes=/x"], "corpora='ravdes=/x': expected NAME=PATH with one of"),
        (["--models", "openai/whisper-tiny"], "models='openai/whisper-tiny': expected NAME=PATH with one of superb/"),
        (["--only", "nothing", "--plan"], "only=['nothing']: no experiment of hubert_ser/3 has these words"),
    ],
)
def test_arguments_that_do_not_fit(options: list[str], message: str, script: Script) -> None:
    assert script("--tables", "hubert_ser/3", *options, status=1).startswith(f"error: {message}")
