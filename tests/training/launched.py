"""Several runs, one after the other, in each of the processes that a launcher starts: `launched.py PLAN.json`."""

import json
import shutil
import sys
from pathlib import Path

import torch

from hf_ser.training import SERConfig, finetune, parse_arguments
from hf_ser.training.dropout import WordDropout


def forget_all_but_first_checkpoint(run: Path, copy: Path, training: SERConfig) -> None:
    """`copy` is what `run` had left, had it stopped behind its first checkpoint."""
    with training.main_process_first():
        if training.process_index == 0:
            shutil.copytree(run, copy)
            (copy / "results.json").unlink()
            for checkpoint in sorted(copy.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))[1:]:
                shutil.rmtree(checkpoint)


def main() -> None:
    # Two processes would drop out other features than one.
    for dropout in (torch.nn.Dropout, WordDropout):
        dropout.forward = lambda self, hidden: hidden  # type: ignore[method-assign, assignment]
    for step in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        arguments = parse_arguments(step["argv"])
        if "resumed" in step:
            forget_all_but_first_checkpoint(
                Path(step["resumed"]), Path(arguments.training.output_dir or ""), arguments.training
            )
        finetune(arguments)


if __name__ == "__main__":
    main()
