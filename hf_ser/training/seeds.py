"""The same run with several seeds, one after the other in one process group."""

import sys
from collections.abc import Sequence
from typing import Any

from hf_ser import records
from hf_ser.training.arguments import Arguments, parse_arguments
from hf_ser.training.cross_validation import HEADINGS, Run, mean_and_deviation, summarise, table_in_markdown, unfinished
from hf_ser.training.run import alone_in_folder, finetune

SUMMARY = "seeds.json"


def finetune_seeds(argv: Sequence[str], arguments: Arguments, seeds: Sequence[int]) -> dict[str, Any]:
    """
    Trains a run with each seed, in `output_dir/seed-42` and so on, and writes `seeds.json`. Finished runs are kept, and
    interrupted ones go on, unless `overwrite_output_dir` is set.

    Under `accelerate launch` every process calls it. `argv` are the arguments of the run without a seed, and `arguments` the
    same, parsed.

    Returns:
        The metrics of each run, their means and standard deviations, see `hf_ser.training.cross_validation.summarise`.

    Raises:
        BlockingIOError: if another process trains in the folder.
        OSError: if the folder cannot be written.
        ValueError: if the arguments set a seed or push_to_hub, or a run is there already with other arguments.
    """
    if any(word.partition("=")[0] == "--seed" for word in argv):
        raise ValueError("seeds: seed is given, too; use one of them")
    if arguments.training.push_to_hub:
        raise ValueError(
            f"push_to_hub: one run is published, and seeds trains {len(seeds)}; leave it out, and publish one of them with "
            "scripts/push.py"
        )
    root, anew = arguments.training.folder, arguments.training.overwrite_output_dir
    runs = []
    for seed in dict.fromkeys(seeds):
        folder = root / f"seed-{seed}"
        own = ("--seed", str(seed), "--output_dir", str(folder))
        runs.append(Run({}, arguments.script.fold, seed, folder, (*argv, *own)))
    with alone_in_folder(arguments.training):
        # Read the state of all runs before the first one starts: meanwhile another process may write its files.
        waiting = [(run, () if anew else run.resumption) for run in (runs if anew else unfinished(runs))]
        for run, resumption in waiting:
            sys.argv[1:] = run.argv  # the card has the command that repeats this run alone
            finetune(parse_arguments([*run.argv, *resumption]))
        (summary,) = summarise(runs)
        if arguments.training.process_index == 0:
            records.write(root / SUMMARY, summary)
    return summary


def as_markdown(summary: dict[str, Any]) -> str:
    """The metrics on test of each seed in per cent, and their means and sample standard deviations."""
    metric = summary["metric"]
    others = {"accuracy": "accuracy, %", "f1_weighted": "weighted F1, %"} if metric == "uar" else {}
    head = ["seed", HEADINGS[metric], *others.values(), f"probe's {HEADINGS[metric]}"]
    names = (metric, *others, f"probe_{metric}")
    rows = [[str(run["seed"]), *(f"{100 * run[name]:.2f}" for name in names)] for run in summary["runs"]]
    means = [summary, *(summary[name] for name in names[1:])]
    rows.append(["mean ± standard deviation", *map(mean_and_deviation, means)])
    return table_in_markdown(head, rows)
