"""
Prints the tables of the two papers, and EmoBox's results on RAVDESS, beside the results of this package.

    python reproduce/tables.py                                      # what can be computed anywhere
    python reproduce/tables.py --tables hubert_ser/2 --corpora ravdess=/data/RAVDESS crema_d=/data/CREMA-D ...
    python reproduce/tables.py --tables peft_ser/V --corpora crema_d=/data/CREMA-D --plan
    python reproduce/tables.py --tables peft_ser/V --corpora crema_d=/data/CREMA-D --run -- --jobs 2

Runs are trained with the recipes of scripts/recipes, and found again by their model, method, emotions and corpora, wherever they
lie below --runs. A run with another split or other arguments stands in a line of its own that says so. A run that is in no table
is listed with the reason. Arguments after -- go to scripts/cross_validate.py.
"""

import argparse
import logging
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from counts import COUNTED
from emobox import write_folds
from experiments import CELLS, MODELS, RECIPES, Experiment, as_in_paper, experiments_of, fill, missing, read_runs
from published import TABLES

from hf_ser.cli.options import new_parser
from hf_ser.command_line import errors_in_one_line
from hf_ser.corpora import NAMES


@errors_in_one_line(interrupted="interrupted; the same command goes on")
def main() -> int:
    argv = sys.argv[1:]
    own, more = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    options = parse(own)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("hf_ser.corpora").setLevel(logging.ERROR)  # speakers without a gender do not matter here
    corpora, models = named("corpora", options.corpora, NAMES), named("models", options.models, MODELS)
    failed = False
    if options.run or options.plan:
        failed = train(options, corpora, models, more)
        if options.plan:
            return 0
    runs, wrong = read_runs(options.runs)
    used: set[Path] = set()
    left: dict[Path, list[str]] = {}
    for name in options.tables:
        if name in COUNTED:
            cells, notes = COUNTED[name](corpora)
            print(TABLES[name].render({"this package": cells}, "not counted", notes), end="\n\n")
            continue
        lines, fitting, refused = fill(name, runs, models)
        experiments = experiments_of(name).values()
        n, total = (sum(ns) for ns in zip(*((missing(e, runs, models), e.runs) for e in experiments), strict=True))
        notes = [f"not run: {n} of {total} trainings; --plan prints the commands, --run trains them."] if n else []
        if from_reports(name) and any(run.report is None for run in runs if run.folder in fitting):
            notes.append("not run: some finished runs have no report.json; --run makes it.")
        print(TABLES[name].render(lines, "not run", notes), end="\n\n")
        used |= fitting
        for folder, reasons in refused.items():  # those of the nearest table
            left[folder] = min(left.get(folder, [name, *reasons]), [name, *reasons], key=len)
    texts = [
        f"{folder}: not in {left[folder][0]}: {'; '.join(left[folder][1:])}" for folder in sorted(left.keys() - used)
    ]
    if texts + wrong:
        print("## Runs that are in none of these tables\n", *(f"- {text}" for text in texts + wrong), sep="\n")
    return int(failed)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="TABLE", help=f"of {', '.join(TABLES)}")
    add(
        "--corpora",
        nargs="+",
        default=[],
        metavar="NAME=PATH",
        help="corpora; to count clips, PATH may be a list of files",
    )
    add("--models", nargs="+", default=[], metavar="NAME=FOLDER", help=f"local folders of {', '.join(MODELS)}")
    add(
        "--runs",
        type=Path,
        default=Path("runs/reproduce"),
        help="the folder of all runs, at any depth (runs/reproduce)",
    )
    add(
        "--run",
        action="store_true",
        help="train what the tables need and is not finished, and make the missing reports",
    )
    add("--plan", action="store_true", help="print the commands of --run")
    add("--only", nargs="+", default=[], metavar="WORD", help="with --run and --plan: folders with all of these words")
    return parser.parse_args(argv)


def named(argument: str, words: list[str], known: Sequence[str]) -> dict[str, str]:
    """
    `NAME=PATH` as a dictionary.

    Raises:
        ValueError: if a word has another form, or its name is unknown.
    """
    for word in words:
        if "=" not in word or word.partition("=")[0] not in known:
            raise ValueError(f"{argument}={word!r}: expected NAME=PATH with one of {', '.join(known)}")
    return dict(word.split("=", 1) for word in words)


def from_reports(table: str) -> bool:
    """Whether a table is made of `report.json`."""
    return any(cell.metric.startswith("report/") for cell in CELLS.get(table, []))


def train(options: argparse.Namespace, corpora: dict[str, str], models: dict[str, str], more: list[str]) -> bool:
    """Runs, or with `--plan` prints, the commands that the tables need. Returns whether one failed."""

    def chosen(tables: Iterable[str]) -> dict[str, Experiment]:
        found = {place: e for name in tables for place, e in experiments_of(name).items()}
        return {place: e for place, e in found.items() if all(word in place for word in options.only)}

    if not chosen(options.tables):
        raise ValueError(
            f"only={options.only}: no experiment of {', '.join(options.tables)} has these words in its folder"
        )
    failed = False
    runs, _ = read_runs(options.runs)
    for place, experiment in chosen(options.tables).items():
        n = missing(experiment, runs, models)
        state = f"{place}: {experiment.runs - n} of {experiment.runs} runs finished"
        if not n:
            print(state)
        elif lacking := experiment.lacking(corpora):
            print(f"{state}; needs --corpora {' '.join(lacking)}")
        else:
            if experiment.split["name"] == "file" and options.run:
                write_folds(f"ravdess={corpora['ravdess']}", options.runs / "emobox" / "splits")
            words = [*experiment.arguments(corpora, models, options.runs), *more]
            failed |= not call("cross_validate.py", words, state, options)
    runs, _ = read_runs(options.runs)
    for experiment in chosen(filter(from_reports, options.tables)).values():
        for run in as_in_paper(experiment, runs, models):
            if run.report is None and not experiment.lacking(corpora):
                words = [str(run.folder), "--corpora", *experiment.corpora(corpora), "--no_robustness", "--no_cost"]
                failed |= not call("evaluate.py", words, f"{run.folder} has no report", options)
    return failed


def call(script: str, words: list[str], state: str, options: argparse.Namespace) -> bool:
    """Prints a command, and runs it unless it is only planned. Returns whether it succeeded."""
    command = [sys.executable, str(RECIPES.parent / script), *words]
    print(f"{state}:\n  {shlex.join(command)}", flush=True)
    return options.plan or subprocess.run(command).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
