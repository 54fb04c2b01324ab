"""How commands report errors, and their exit status."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from other_processes import into_closed_pipe

from hf_ser.command_line import errors_in_one_line, path_argument
from hf_ser.training import SERConfig
from hf_ser.tuning import Tuning


def raising(error: BaseException):
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    "error", [ValueError("--seed: no"), FileNotFoundError("--seed: no"), ImportError("--seed: no")]
)
def test_a_known_error_is_one_line_and_status_1(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert errors_in_one_line()(raising(error))() == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "error: --seed: no\n(HF_SER_DEBUG=1 shows where)\n")


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError):
        errors_in_one_line()(raising(RuntimeError()))()
    with pytest.raises(SystemExit):
        errors_in_one_line()(raising(SystemExit(2)))()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    ],
)
def test_a_gpu_without_memory_is_one_line_that_says_what_takes_less(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where a model moves to it, or the optimizer makes its state: nothing can be cut there."""
    assert errors_in_one_line()(raising(error))() == 1
    said, *_ = capsys.readouterr().err.splitlines()
    assert said.startswith("error: the memory of the GPU, or of the machine, ran out: end other programs there")
    assert "(method)" in said
    assert str(error).splitlines()[0] in said


def test_a_traceback_that_is_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_SER_DEBUG", "1")
    with pytest.raises(ValueError, match="no") as raised:
        errors_in_one_line()(raising(ValueError("no")))()
    assert raised.traceback[-1].name == "command"
    assert capsys.readouterr().err == ""


def test_one_of_several_processes_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    assert errors_in_one_line(quiet=True)(raising(ValueError("no")))() == 1
    assert capsys.readouterr().err == ""


def test_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    reported = errors_in_one_line(interrupted="interrupted; nothing was left")
    assert reported(raising(KeyboardInterrupt()))() == 130
    assert capsys.readouterr().err == "\ninterrupted; nothing was left\n"
    assert reported(raising(KeyboardInterrupt("interrupted; it goes on")))() == 130
    assert capsys.readouterr().err == "\ninterrupted; it goes on\n"
    assert errors_in_one_line(interrupted="interrupted", quiet=True)(raising(KeyboardInterrupt()))() == 130
    assert capsys.readouterr().err == ""
    with pytest.raises(KeyboardInterrupt):
        errors_in_one_line()(raising(KeyboardInterrupt()))()


def test_a_command_that_goes_well() -> None:
    assert errors_in_one_line()(lambda: 3)() == 3


@pytest.mark.parametrize("text", ["", " "])
def test_an_unset_variable_of_the_shell_is_no_folder(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=path_argument)
    with pytest.raises(SystemExit):
        parser.parse_args(["--output", text])
    assert "argument --output: no path is given" in capsys.readouterr().err
    assert parser.parse_args(["--output", "a b"]).output == Path("a b")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Tuning(prompt_start="zero"), "prompt_start: expected frames or random, found 'zero'"),
        (lambda: SERConfig("run", save_format="onnx"), "save_format: expected merged or adapter, found 'onnx'"),
        (lambda: SERConfig("run", normalise_by="age"), "normalise_by: expected speaker or corpus, found 'age'"),
        (lambda: SERConfig("run", dimension_loss="l1"), "dimension_loss: expected ccc or mse, found 'l1'"),
    ],
)
def test_a_word_that_is_no_choice_is_refused_in_python_too(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_a_pipe_whose_reader_has_ended(capfd: pytest.CaptureFixture[str]) -> None:
    assert into_closed_pipe(errors_in_one_line()(lambda: print("line") or 0)) == 0
    assert capfd.readouterr().err == ""
