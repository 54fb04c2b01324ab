"""What scripts/predict.py prints and writes, as a user starts it."""

import csv
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from hf_ser.inference.clips import Prediction
from hf_ser.models import load_model
from hf_ser.pipeline import SERPipeline

SCRIPT = Path(__file__).parents[2] / "scripts" / "predict.py"
Main = Callable[..., int]


@pytest.fixture(scope="module")
def model(tiny_hubert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    loaded = load_model(str(tiny_hubert), ("angry", "happy", "sad"))
    loaded.model.save_pretrained(folder)
    loaded.feature_extractor.save_pretrained(folder)
    return folder


@pytest.fixture
def clips(tmp_path: Path, write_clip: Callable[..., Path]) -> Path:
    for i in range(3):
        write_clip(tmp_path / "clips" / f"{i}.wav", seconds=0.3 + 0.1 * i)
    (tmp_path / "clips" / "broken.wav").write_bytes(b"no audio")
    return tmp_path / "clips"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return importlib.import_module("hf_ser.cli.predict")


@pytest.fixture
def main(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Main:
    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, arguments)])
        return script.main()

    return run


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_as_a_table_and_nothing_else_on_stdout(
    python: Callable[..., "subprocess.CompletedProcess[str]"],
    model: Path,
    clips: Path,
    write_clip: Callable[..., Path],
    rename_oddly: Callable[[Path], Path],
) -> None:
    rename_oddly(write_clip(clips / "odd.wav"))
    done = python(SCRIPT, model, clips)
    assert done.returncode == 0, done.stderr
    *good, odd, bad = done.stdout.splitlines()
    assert odd.endswith("/bad\\udcff.wav")
    assert [line.split()[-1] for line in good] == [str(clips / f"{i}.wav") for i in range(3)]
    assert {line.split()[0] for line in good} <= {"angry", "happy", "sad"}
    assert bad.startswith("-")
    assert f"{clips / 'broken.wav'}  (unreadable: " in bad
    closing, aside = done.stderr.splitlines()[-2:]
    assert closing.startswith("4 clips, 2 s of speech in ")
    assert closing.endswith(" s of speech per second)")
    assert aside == "1 excluded: 1 unreadable"


def test_an_interrupted_run_is_continued(
    main: Main, script: ModuleType, model: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "out.csv"
    whole = SERPipeline.predict

    def interrupted(*arguments: Any, **options: Any) -> Iterator[Prediction]:
        for i, prediction in enumerate(whole(*arguments, **options)):
            if i == 2:
                raise KeyboardInterrupt
            yield prediction

    monkeypatch.setattr(SERPipeline, "predict", interrupted)
    assert main(model, clips, "--output", output) == 130
    assert "--resume continues it" in capsys.readouterr().err
    assert [Path(row["name"]).name for row in table(output)] == ["0.wav", "1.wav"]
    monkeypatch.setattr(SERPipeline, "predict", whole)
    assert main(model, clips, "--output", output) == 1
    assert "exists; choose another name" in capsys.readouterr().err
    assert main(model, clips, "--output", output, "--resume") == 0
    assert "2 clips are already in" in capsys.readouterr().err
    assert main(model, clips, "--output", tmp_path / "whole.csv") == 0
    assert table(output) == table(tmp_path / "whole.csv")
    assert [row["problem"].partition(":")[0] for row in table(output)] == ["", "", "", "unreadable"]
    assert main(model, clips, "--output", output, "--resume") == 0, "there is nothing left to do"


def test_status_is_1_only_if_nothing_could_be_predicted(
    main: Main, model: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(model, clips / "broken.wav") == 1
    assert "0 clips" in capsys.readouterr().err
    assert main(model, clips / "broken.wav", clips / "0.wav") == 0


def test_a_timeline_with_all_its_files(
    main: Main, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = tmp_path / "interview.flac"
    soundfile.write(recording, 0.1 * np.random.default_rng(0).standard_normal((5 * 48_000, 2)), 48_000)
    options = ["--timeline", "--window", 1, "--hop", 0.25, "--smoothing", 0.5, "--minimum", 0.4]
    assert main(model, recording, *options) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["start,", "s", "stop,", "s", "emotion"]
    assert (printed[1].split()[0], printed[-1].split()[1]) == ("0.00", "5.00")
    files = {"--labels": "labels.TextGrid", "--plot": "plot.png", "--output": "windows.json"}
    written = [word for option, name in files.items() for word in (option, tmp_path / name)]
    assert main(model, recording, *options, *written) == 0
    assert main(model, recording, *options, "--labels", tmp_path / "segments.json") == 0
    content = json.loads((tmp_path / "windows.json").read_text())
    assert len(content) == 17
    segments = json.loads((tmp_path / "segments.json").read_text())
    assert [segment["emotion"] for segment in segments] == [line.split()[2] for line in printed[1:]]
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "labels.TextGrid").read_text().startswith("File type")
    assert capsys.readouterr().out.splitlines() == printed * 2
    assert main(model, recording, *options, *written) == 1
    assert main(model, recording, *options, *written, "--overwrite") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "there is no file or folder 'gone'"),
        (["{clips}", "--output", "out.xlsx"], "its suffix must be one of .csv, .jsonl, .json, found '.xlsx'"),
        (["{clips}", "--plot", "out.png"], "--plot is for the emotions over time: add --timeline"),
        (["{clips}", "--minimum", "0"], "--minimum is for the emotions over time: add --timeline"),
        (["{clips}", "--timeline"], "--timeline is for one recording, found 4: "),
        (["{clips}/0.wav", "--timeline", "--hop", "9"], "hop: must be more than 0 s and not more than the window"),
        (["{clips}/broken.wav", "--timeline"], "{clips}/broken.wav: unreadable: "),
        (
            ["{clips}/0.wav", "--timeline", "--output", "{clips}/a.csv", "--labels", "{clips}/../clips/a.csv"],
            "--output and --labels are one file, '{clips}/../clips/a.csv'",
        ),
        (["{clips}", "--resume"], "--resume continues an --output of clips"),
        (["{clips}", "--batch_seconds", "0"], "batch_seconds: must be more than 0 s and finite"),
    ],
)
def test_errors_are_one_line(
    main: Main, model: Path, clips: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(model, *(word.format(clips=clips) for word in arguments)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message.format(clips=clips) in error
    assert not (clips / "a.csv").exists()


def test_a_clip_is_a_line_whatever_its_name(
    main: Main, model: Path, tmp_path: Path, write_clip: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(tmp_path / "a.wav").rename(tmp_path / "two\nlines,\x1b[31m été.wav")
    (tmp_path / "z\rz.wav").write_bytes(b"no audio")
    assert main(model, tmp_path) == 0
    good, bad = capsys.readouterr().out.splitlines()
    assert good.endswith("/two\\nlines,\\x1b[31m été.wav")
    assert "/z\\rz.wav  (unreadable: " in bad


@pytest.mark.parametrize("timeline", [[], ["--timeline"]])
def test_a_reader_of_the_first_lines_alone_gets_no_error(model: Path, clips: Path, timeline: list[str]) -> None:
    source = clips / "0.wav" if timeline else clips
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), str(model), str(source), *timeline],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # before the first line: as `| head -0`
        error = process.stderr.read()
    assert process.returncode == 141
    assert "roken" not in error
    assert "error" not in error


def test_a_file_of_another_model_is_not_continued(
    main: Main, model: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    other = tmp_path / "other"
    shutil.copytree(model, other)
    output = tmp_path / "out.csv"
    assert main(model, clips, "--output", output) == 0
    assert main(other, clips, "--output", output, "--resume") == 1
    assert "cannot be continued: it is of the model" in capsys.readouterr().err
    monkeypatch.chdir(clips.parent)
    assert main(os.path.relpath(model), "clips", "--output", output, "--resume") == 0
    assert "4 clips are already in" in capsys.readouterr().err
    assert len(table(output)) == 4
