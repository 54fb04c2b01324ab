"""What scripts/predict.py prints and writes, as a user starts it."""

import csv
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset, Features, Value
from huggingface_hub import HfApi
from other_processes import into_closed_pipe
from small_files import rename_oddly, write_clip

from hf_ser.cli import main as hf_ser_command
from hf_ser.cli import predict
from hf_ser.corpora.hub_dataset import ParquetStream
from hf_ser.inference.clips import Prediction
from hf_ser.inference.files import PredictionFile
from hf_ser.pipeline import SERPipeline

Main = Callable[..., int]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for i in range(3):
        write_clip(tmp_path / "clips" / f"{i}.wav", seconds=0.3 + 0.1 * i)
    (tmp_path / "clips" / "broken.wav").write_bytes(b"no audio")
    return tmp_path / "clips"


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Main:
    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, arguments)])
        return predict.main()

    return run


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_as_a_table_and_nothing_else_on_stdout(
    model: Path, clips: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the console command."""
    rename_oddly(write_clip(clips / "odd.wav"))
    monkeypatch.setattr(sys, "argv", ["hf-ser", "predict", str(model), str(clips)])
    assert hf_ser_command() == 0
    printed = capfd.readouterr()
    *good, odd, bad = printed.out.splitlines()
    assert odd.endswith("/bad\\udcff.wav")
    assert [line.split()[-1] for line in good] == [str(clips / f"{i}.wav") for i in range(3)]
    assert {line.split()[0] for line in good} <= {"angry", "happy", "sad"}
    assert bad.startswith("-")
    assert f"{clips / 'broken.wav'}  (unreadable: " in bad
    closing, aside = printed.err.splitlines()[-2:]
    assert closing.startswith("4 clips, 2 s of speech in ")
    assert closing.endswith(" s of speech per second)")
    assert aside == "1 excluded: 1 unreadable"


def test_an_interrupted_run_is_continued(
    main: Main, model: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
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


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for i in range(20):
        write_clip(tmp_path / "many" / f"{i:02}.wav", seconds=0.1 + 0.02 * (i % 7))
    (tmp_path / "many" / "05.wav").write_bytes(b"no audio")
    return tmp_path / "many"


def same(one: list[dict[str, str]], other: list[dict[str, str]]) -> bool:
    """Whether two tables have the same rows in the same order, but for rounding."""
    numbers = ("angry", "happy", "sad")
    values = [[[float(row[name] or "nan") for name in numbers] for row in rows] for rows in (one, other)]
    texts = [[{**row, **dict.fromkeys(numbers)} for row in rows] for rows in (one, other)]
    return texts[0] == texts[1] and np.allclose(*values, rtol=0, atol=1e-5, equal_nan=True)


def test_two_processes_are_continued_when_one_was_killed(
    main: Main, processes: Callable[..., list[int | None]], model: Path, many: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output, alone = tmp_path / "out.csv", tmp_path / "alone.csv"
    words = [model, many, "--output", output, "--batch_seconds", "0.05"]  # pools of a few clips
    write, written = PredictionFile.write, []

    def write_or_die(self: PredictionFile, prediction: Prediction) -> None:
        if os.environ["RANK"] == "1" and len(written) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        written.append(prediction)
        write(self, prediction)

    with monkeypatch.context() as patch:
        patch.setattr(PredictionFile, "write", write_or_die)
        first, second = processes("predict", 2, *words)
    assert (first, second) == (1, -signal.SIGKILL)
    assert not output.exists()
    written_by_first = len(table(tmp_path / "out.part-0-of-2.csv"))
    assert len(table(tmp_path / "out.part-1-of-2.csv")) == 3
    capfd.readouterr()

    assert main(*words) == 1
    assert (
        "out.part-0-of-2.csv' exists, of a table that is not finished; resume or overwrite it" in capfd.readouterr().err
    )
    with (tmp_path / "out.part-1-of-2.csv").open("a") as part:
        part.write('"half of a')
    assert processes("predict", 3, *words, "--resume") == [0, 0, 0]
    error = capfd.readouterr().err
    assert f"{written_by_first + 3} clips are already in" in error
    assert error.count("s of speech per second") == 1
    assert main(model, many, "--output", alone, "--batch_seconds", "0.05") == 0
    assert same(table(output), table(alone))
    assert len(table(alone)) == 20
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == ["alone.csv", "out.csv"]


def test_processes_end_with_the_one_that_fails_and_keep_their_rows(
    main: Main, processes: Callable[..., list[int | None]], model: Path, many: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "out.jsonl"
    write = PredictionFile.write

    def full(self: PredictionFile, prediction: Prediction) -> None:
        if os.environ.get("RANK") == "1" and "07" in prediction.name:
            raise OSError("No space left on device")
        write(self, prediction)

    monkeypatch.setattr(PredictionFile, "write", full)
    assert processes("predict", 2, model, many, "--output", output) == [1, 1]
    error = capfd.readouterr().err
    assert error.count("error: No space left on device") == 1
    assert error.count("error: one of 2 processes ended early, see its message (") == 1
    assert "continue a table with resume=True" in error
    assert not output.exists()
    monkeypatch.setattr(PredictionFile, "write", write)
    assert main(model, many, "--output", output, "--resume") == 0
    assert [Path(json.loads(line)["name"]).stem for line in output.read_text().splitlines()] == [
        f"{i:02}" for i in range(20)
    ]
    assert not list(tmp_path.glob("*part*"))
    assert processes("predict", 2, model, many, "--output", output) == [1, 1]
    assert "exists; choose another name, or overwrite it" in capfd.readouterr().err
    assert processes("predict", 2, model, many, "--output", output, "--overwrite") == [0, 0]
    assert len(output.read_text().splitlines()) == 20
    assert processes("predict", 2, model, many) == [1, 1]
    assert "2 processes write a table: give --output as .csv or .jsonl" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "gpus", "environment", "launched"),
    [
        ("predict MODEL clips --output out.csv", 2, {}, True),
        ("predict MODEL clips --output out.jsonl --resume", 2, {}, True),
        ("evaluate MODEL --corpora ravdess=clips", 2, {}, True),
        ("predict MODEL clips --output out.csv", 1, {}, False),
        ("predict MODEL clips --output out.csv", 2, {"LOCAL_RANK": "0"}, False),
        ("predict MODEL clips --output out.csv --device cuda:1", 2, {}, False),
        ("predict MODEL clips --output out.json", 2, {}, False),
        ("predict MODEL clips --output out.csv --timeline", 2, {}, False),
        ("predict MODEL clips", 2, {}, False),
        ("evaluate MODEL --corpora ravdess=clips --device cpu", 2, {}, False),
        ("export MODEL", 2, {}, False),
    ],
)
def test_a_command_starts_a_process_for_each_gpu(
    words: str, gpus: int, environment: dict[str, str], launched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    command, *argv = words.split()
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr(
        "hf_ser.cli.launch_command",
        lambda a: started.append([a.num_processes, a.training_script, a.training_script_args, a.multi_gpu, a.module]),
    )
    monkeypatch.setattr(f"hf_ser.cli.{command}.main", lambda: 3)
    monkeypatch.setattr(sys, "argv", ["hf-ser", command, *argv])
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert hf_ser_command() == (0 if launched else 3)
    assert started == ([[2, f"hf_ser.cli.{command}", argv, True, True]] if launched else [])


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
    main: Main, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(tmp_path / "a.wav").rename(tmp_path / "two\nlines,\x1b[31m été.wav")
    (tmp_path / "z\rz.wav").write_bytes(b"no audio")
    assert main(model, tmp_path) == 0
    good, bad = capsys.readouterr().out.splitlines()
    assert good.endswith("/two\\nlines,\\x1b[31m été.wav")
    assert "/z\\rz.wav  (unreadable: " in bad


@pytest.mark.parametrize("timeline", [[], ["--timeline"]])
def test_a_reader_of_the_first_lines_alone_gets_no_error(
    main: Main, model: Path, clips: Path, timeline: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    source = clips / "0.wav" if timeline else clips
    assert into_closed_pipe(lambda: main(model, source, *timeline)) == 141
    error = capfd.readouterr().err
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


def test_two_processes_stream_a_data_set_from_the_hub(
    hub: Any, main: Main, processes: Callable[..., list[int | None]], model: Path, many: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    clips = Dataset.from_dict({"sound": [{"bytes": path.read_bytes(), "path": path.name} for path in sorted(many.iterdir())]},
                              features=Features({"sound": {"bytes": Value("binary"), "path": Value("string")}}))  # fmt: skip
    clips = clips.cast_column("sound", Audio(decode=False))
    clips.push_to_hub("lab/clips")
    clips.to_parquet(file := BytesIO(), batch_size=5)  # small row groups, as a large data set has many
    path = "data/train-00000-of-00001.parquet"
    HfApi().upload_file(path_or_fileobj=file.getvalue(), path_in_repo=path, repo_id="lab/clips", repo_type="dataset")
    fetch, log = ParquetStream.fetch, tmp_path / "log"

    def noting(self: ParquetStream, group: int, rows: Any) -> Any:
        with log.open("a") as lines:
            lines.write(f"{group}\n")
        return fetch(self, group, rows)

    monkeypatch.setattr(ParquetStream, "fetch", noting)
    output, words = tmp_path / "out.csv", [model, "dataset=lab/clips", "--output", tmp_path / "out.csv"]
    assert processes("predict", 2, *words) == [0, 0]
    assert sorted(log.read_text().split()) == ["0", "1", "2", "3"], "each process fetches its own row groups"
    assert [row["name"] for row in table(output)] == [f"dataset=lab/clips/train/{row}" for row in range(20)]
    assert not list(tmp_path.rglob("*.arrow"))
    assert main(model, many, "--output", tmp_path / "files.csv") == 0

    def rows(path: Path) -> list[dict[str, str]]:
        """A file and a row of a data set have other names, and another word for what is broken."""
        return [{**row, "name": "", "problem": row["problem"].partition(":")[0]} for row in table(path)]

    assert same(rows(output), rows(tmp_path / "files.csv"))
    output.write_text("".join(output.read_text().splitlines(keepends=True)[:12]))  # eleven rows
    log.unlink()
    assert main(*words, "--resume") == 0
    assert log.read_text().split() == ["2", "3"]
    assert same(rows(output), rows(tmp_path / "files.csv"))
