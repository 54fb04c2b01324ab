"""The options of a command, and how it reports an error: in one line, and with its traceback on request."""

import argparse
import errno
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import field, fields
from functools import wraps
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from hf_ser.memory import is_out_of_memory
from hf_ser.wording import listed, visible

#: The environment variable that asks for the whole traceback.
DEBUG = "HF_SER_DEBUG"

#: The message if the memory runs out and the command cannot reduce anything by itself.
OUT_OF_MEMORY = (
    "the memory of the GPU, or of the machine, ran out: end other programs there, or take a smaller model; a training takes less "
    "with fewer parameters that train (method), and with average_share=0 ({})"
)

Command = Callable[[], int]


def errors_in_one_line(
    *, interrupted: str | None = None, quiet: bool = False, closed_pipe: int = 0
) -> Callable[[Command], Command]:
    """
    A decorator for a command that returns its exit status. Errors that the user can correct, packages that are not installed, and
    a lack of memory are printed on stderr, and the status is 1. Other errors are faults of the program and keep their traceback.

    Args:
        interrupted (`str`, *optional*):
            The message after Ctrl-C, unless the `KeyboardInterrupt` has its own; the status is 130. Without it, an interruption
            ends the command as it ends any Python program.
        quiet (`bool`, defaults to `False`): Print nothing, because another process of the same command does.
        closed_pipe (`int`, defaults to 0): The status if the reader of a pipe has ended.
    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def reported() -> int:
            # PEFT uses a function of transformers that is deprecated.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            try:
                status = command()
                sys.stdout.flush()
                return status
            except BrokenPipeError:  # the reader of a pipe has ended, as `head` does
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else flushing at exit fails again
                return closed_pipe
            except (ValueError, OSError, ImportError, MemoryError) as error:
                tell(error, quiet=quiet)
                return 1
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                tell(MemoryError(OUT_OF_MEMORY.format(str(error).partition("\n")[0])), quiet=quiet)
                return 1
            except KeyboardInterrupt as interruption:
                if interrupted is None:
                    raise
                if not quiet:
                    print(f"\n{interruption.args[0] if interruption.args else interrupted}", file=sys.stderr)
                return 130

        return reported

    return decorate


@contextmanager
def importing(package: str, what: str, extra: str) -> Iterator[None]:
    """Within it, an import of a `package` that is not installed says `what` needs it, and which `extra` of this one brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != package.lower():
            raise
        raise ModuleNotFoundError(f"{what} needs {package}; install it with pip install 'hf_ser[{extra}]'") from error


def path_argument(text: str) -> Path:
    """
    A path on the command line, for argparse. An empty word, from an unset variable of the shell, is an error: `Path` would take
    it for the current folder.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("no path is given")
    return Path(text)


def option(default: Any, *, help: str, choices: Collection[str] = ()) -> Any:
    """A field of a dataclass of options. Its value is one of `choices`, or a list of some; see [`require_choices`]."""
    metadata = {"help": help, "choices": list(choices)} if choices else {"help": help}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def require_choices(options: Any) -> None:
    """
    Raises:
        ValueError: if an option of a dataclass has a value that is none of its choices.
    """
    for each in fields(options):
        choices, value = each.metadata.get("choices"), getattr(options, each.name)
        words = value if isinstance(value, list) else [] if value is None else [value]
        if choices and any(word not in choices for word in words):
            raise ValueError(f"{each.name}: expected {listed(choices, 'or')}, found {value!r}")


def require_share(option: str, value: float | None) -> None:
    """
    Raises:
        ValueError: if the value of an option is not between 0 and 1.
    """
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"{option}: a share from 0 to 1 is needed, found {value}")


class _Visible(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record), kept="\n\t")


def log_to_terminal(level: int = logging.WARNING, *, instead: Path | None = None) -> None:
    """
    Shows warnings on stderr, or writes them to the file `instead`, without control characters, and the messages of this package
    from `level` on. Of transformers only errors are shown, and no progress bar while weights are loaded.
    """
    handler: logging.Handler = logging.StreamHandler()
    if instead:
        handler = logging.FileHandler(instead, encoding="utf-8", delay=True)
    handler.setFormatter(_Visible("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("hf_ser").setLevel(level)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def tell(error: Exception, *, quiet: bool = False) -> None:
    """Prints an error on stderr, unless `quiet`; raises it instead where `HF_SER_DEBUG` is set."""
    if os.environ.get(DEBUG):
        raise error
    if not quiet:
        text = visible(str(error), kept="\n\t")
        if isinstance(error, OSError) and error.strerror == os.strerror(errno.ENOSPC) and not error.filename:
            text += f": free space where the command writes, and in {tempfile.gettempdir()}"
        print(f"error: {text}\n({DEBUG}=1 shows where)", file=sys.stderr)
