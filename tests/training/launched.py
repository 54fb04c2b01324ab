"""Several runs, one after the other, in each of the processes that a launcher starts: `launched.py PLAN.json`."""

import json
import os
import shutil
import sys
from pathlib import Path

import torch

from hf_ser.cli.finetune import main as finetune
from hf_ser.modeling.kernels import WordDropout
from hf_ser.training import parse_arguments


def forget_all_but_first_checkpoint(run: Path, argv: list[str]) -> None:
    """The run of `argv` is what `run` had left, had it stopped behind its first checkpoint."""
    training = parse_arguments(argv).training
    with training.main_process_first():
        if training.process_index == 0:
            copy = Path(shutil.copytree(run, str(training.output_dir)))
            (copy / "results.json").unlink()
            for checkpoint in sorted(copy.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))[1:]:
                shutil.rmtree(checkpoint)


def main() -> None:
    # Two processes would drop out other features than one.
    for dropout in (torch.nn.Dropout, WordDropout):
        dropout.forward = lambda self, hidden: hidden  # type: ignore[method-assign, assignment]
    for step in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        os.environ.update(step.get("environment", {}))
        if "resumed" in step:
            forget_all_but_first_checkpoint(Path(step["resumed"]), step["argv"])
        sys.argv[:] = ["scripts/finetune.py", *step["argv"]]
        assert finetune() == 0


if __name__ == "__main__":
    main()
