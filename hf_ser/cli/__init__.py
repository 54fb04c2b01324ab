"""`hf-ser COMMAND ...`: what the files in scripts/ do, as one command."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from subprocess import CalledProcessError

import torch
from accelerate.commands.launch import launch_command, launch_command_parser
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

#: The commands, each a module here with a `main()`, and what it does.
COMMANDS = {
    "finetune": "train a model on corpora, and evaluate it on the test part",
    "cross-validate": "train every fold and seed, and every setting of a sweep",
    "cross-corpus": "train on each corpus and test on each other one",
    "search": "search for hyperparameters over folds of the training speakers",
    "evaluate": "report on a model: quality, fairness, robustness, cost, leakage",
    "predict": "recognise the emotion in recordings",
    "push": "publish a run on the Hub",
    "export": "write an ONNX model for a CPU",
    "demo": "open a page in the browser to try a model",
    "corpora": "list corpora, and count what is in a folder",
    "card": "rewrite a model card from results.json",
}
USAGE = "usage: hf-ser COMMAND ...\n\n" + "\n".join(f"  {name:<16}{about}" for name, about in COMMANDS.items())


def main() -> int:
    """The console command."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(f"{USAGE}\n\nhf-ser COMMAND --help explains a command.")
        return 0
    name, argv = sys.argv[1].replace("_", "-"), sys.argv[2:]
    if name not in COMMANDS:
        print(f"{USAGE}\n\nerror: found no command {sys.argv[1]!r}", file=sys.stderr)
        return 2
    if name == "finetune" and not {"-h", "--help", "--help_all", "--help-all"} & set(argv):
        return launch(name, *for_launcher(argv))
    module = import_module(f"hf_ser.cli.{name.replace('-', '_')}")
    sys.argv = [f"hf-ser {name}", *argv]
    several = torch.cuda.device_count() > 1 and "LOCAL_RANK" not in os.environ
    if several and name in ("predict", "evaluate") and module.shared(module.parse_arguments()):
        return launch(name, [], argv)
    return int(module.main())


def for_launcher(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a training's command line that are for `accelerate launch`, and the others."""
    from hf_ser.training.arguments import option_names  # other commands do not wait for its imports

    options = {
        option for action in launch_command_parser()._actions for option in action.option_strings
    } - option_names()
    words: tuple[list[str], list[str]] = ([], [])
    to_launcher = False
    for word in argv:
        if word.startswith("--"):
            to_launcher = word.partition("=")[0] in options
        words[not to_launcher].append(word)
    return words


def launch(name: str, launcher: Sequence[str], words: Sequence[str]) -> int:
    """Starts a command as `accelerate launch` does: one process for each GPU, unless words for the `launcher` say otherwise."""
    if not launcher:
        processes = max(torch.cuda.device_count(), 1)
        launcher = ["--num_processes", str(processes), "--num_machines", "1", "--mixed_precision", "no"]
        launcher += ["--dynamo_backend", "no", *(["--multi_gpu"] if processes > 1 else [])]
    try:
        launch_command(launch_command_parser().parse_args([*launcher, "--module", f"hf_ser.cli.{name}", *words]))
    except CalledProcessError as error:  # the process has said why; so below
        return error.returncode
    except (ChildFailedError, SignalException):
        return 1
    return 0
