"""
The tables of the two papers, and EmoBox's figures on RAVDESS, with ours beside them.

    python scripts/reproduce.py                                      # what can be computed anywhere, and the papers' figures
    python scripts/reproduce.py --table hubert_ser/2 --corpora ravdess=/data/RAVDESS crema_d=/data/CREMA-D ...
    python scripts/reproduce.py --table peft_ser/V --corpora crema_d=/data/CREMA-D --runs runs/reproduce --plan
    python scripts/reproduce.py --table peft_ser/V --corpora crema_d=/data/CREMA-D --runs runs/reproduce --run
    python scripts/reproduce.py --write_folds runs/emobox/splits --corpora ravdess=/data/RAVDESS

Runs are trained with the recipes of scripts/recipes and found again by what they are, wherever they lie below --runs. A run whose
model, method, emotions or corpora are not those of a table is not put there, and is listed with the reason. One that was split or
trained in another way stands in a line of its own that says so. What comes after -- is for scripts/cross_validate.py; runs that
are told there to learn otherwise go into folders of their own. Table VI of PEFT-SER is of reports: --run makes those that are
missing with scripts/evaluate.py.
"""

import argparse
import logging
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hf_ser import papers
from hf_ser.command_line import errors_in_one_line, path_argument
from hf_ser.corpora import NAMES, CorpusError
from hf_ser.papers import emobox
from hf_ser.papers.experiments import Experiment, fold_folder
from hf_ser.papers.runs import split_label
from hf_ser.records import REPORT, RESULTS
from hf_ser.splits import SplitError
from hf_ser.training.identity import NOT_COUNTED
from hf_ser.wording import counted, listed

SCRIPTS = Path(__file__).resolve().parent
RECIPES = SCRIPTS / "recipes"
#: What would make other runs of those that a table is made of.
REFUSED = ("config", "sweep", "plan", "output_dir", "corpora", "model", "split")
#: What makes more runs of the same experiment, or trains more of them at a time.
SAME_EXPERIMENT = ("jobs", "seeds", "seed", "data_seed")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    tables = list(papers.load_figures())
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    made.add_argument(
        "--table",
        nargs="+",
        choices=tables,
        default=tables,
        metavar="TABLE",
        help=f"by default all: {', '.join(tables)}",
    )
    made.add_argument(
        "--corpora",
        nargs="+",
        default=[],
        metavar="NAME=PATH",
        help="the corpora, as for scripts/finetune.py; to count clips, a .txt file may list the names of a corpus' files. "
        "PEFT-SER's tables take CREMA-D's votes for its labels, from processedResults/ in its folder or beside the list",
    )
    made.add_argument(
        "--model",
        nargs="+",
        default=[],
        metavar="NAME=FOLDER",
        help=f"where a model lies; others come from the Hub: {', '.join(papers.MODELS)}",
    )
    made.add_argument(
        "--runs",
        type=path_argument,
        metavar="FOLDER",
        help="where finished runs lie, at any depth, and where new ones go; by default runs/reproduce",
    )
    made.add_argument("--run", action="store_true", help="train what the tables need and is not finished")
    made.add_argument("--plan", action="store_true", help="say what --run would train, and with which commands")
    made.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="WORD",
        help="of what --run or --plan would train, only that whose folder has all of these words: whisper-tiny lora_ff",
    )
    made.add_argument(
        "--split",
        choices=["random", "speaker"],
        help="how --run splits for HuBERT-SER's tables: as the paper at random, or by speaker",
    )
    made.add_argument("--markdown", type=path_argument, metavar="FILE", help="write what is printed into a file, too")
    made.add_argument(
        "--write_folds",
        type=path_argument,
        metavar="FOLDER",
        help="write EmoBox's folds of RAVDESS for --splits, fold_1.json to fold_6.json, and nothing else",
    )
    return made


@errors_in_one_line(interrupted="interrupted; the same command goes on")
def main() -> int:
    argv, more = sys.argv[1:], []
    if "--" in argv:
        argv, more = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    arguments = parser().parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("hf_ser.corpora").setLevel(logging.ERROR)  # whether a speaker's gender is known is no matter here
    runs = arguments.runs or Path("runs/reproduce")
    check_corpora(arguments.corpora)
    models = named_models(arguments.model)
    if arguments.write_folds:
        return write_folds(arguments.corpora, arguments.write_folds)
    if arguments.runs and not runs.is_dir() and not (arguments.run or arguments.plan):
        raise ValueError(f"--runs: there is no folder {str(runs)!r}")
    if arguments.markdown and not arguments.markdown.absolute().parent.is_dir():
        raise ValueError(f"--markdown: there is no folder {str(arguments.markdown.parent)!r}")
    failed = False
    if arguments.run or arguments.plan:
        wanted = Wanted(arguments.table, arguments.corpora, models, runs, arguments.split, arguments.only, more)
        failed = train(wanted, only_say=arguments.plan)
    if arguments.plan:
        return 0
    text = tables(arguments.table, arguments.corpora, models, runs)
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text + "\n", encoding="utf-8")
    return int(failed)


def check_corpora(corpora: Sequence[str]) -> None:
    """
    Raises:
        CorpusError: if one is not given as `NAME=PATH`, or by a name that is none, or two have the same.
    """
    names = [specification.partition("=")[0] for specification in corpora]
    for name, specification in zip(names, corpora, strict=True):
        if name not in NAMES or "=" not in specification:
            raise CorpusError(f"--corpora: {specification!r}: write NAME=PATH with one of {', '.join(NAMES)}")
        if names.count(name) > 1:
            raise CorpusError(f"--corpora: {name} is there twice")


def named_models(specifications: Sequence[str]) -> dict[str, str]:
    """
    The folders of models by their names.

    Raises:
        ValueError: if one is not given as `NAME=FOLDER`, or its folder does not hold that model.
    """
    models = {}
    for specification in specifications:
        name, equals, folder = specification.partition("=")
        if not equals:
            raise ValueError(f"--model: {specification!r} is not of the form NAME=FOLDER")
        papers.require_model(name, folder)
        models[name] = folder
    return models


def tables(names: Sequence[str], corpora: Sequence[str], models: Mapping[str, str], runs: Path) -> str:
    """The tables, and the runs that are in none of them."""
    found, wrong = papers.read_runs(runs)
    texts: list[str] = []
    used: set[Path] = set()
    refused: dict[Path, tuple[str, list[str]]] = {}
    for name in names:
        if name in papers.COMPUTED:
            ours = papers.COMPUTED[name](corpora)
        else:
            filled = papers.fill(name, found, RECIPES, models)
            ours = filled.ours
            ours.missing += missing(name, filled, corpora)
            used |= filled.used
            for folder, why in filled.refused.items():
                if folder not in refused or len(why) < len(refused[folder][1]):
                    refused[folder] = (name, why)
        texts.append(papers.render(papers.load_figures()[name], ours))
    left = [f"{folder}: of {name} it is none: {'; '.join(why)}" for folder, (name, why) in refused.items()
            if folder not in used]  # fmt: skip
    if left or wrong:
        lines = "\n".join(f"- {line}" for line in [*sorted(left), *wrong])
        texts.append(f"## Runs that are in none of these tables\n\n{lines}")
    return "\n\n".join(texts)


def missing(name: str, filled: papers.Filled, corpora: Sequence[str]) -> list[str]:
    """What the cells of a table need that are not there."""
    open_ones = [e for e in papers.experiments_of(name) if left(e, filled)]
    if not open_ones:
        return []
    needed = dict.fromkeys(word for e in open_ones for word in papers.missing_for(e, corpora))
    said = [f"needs --corpora {' '.join(needed)}"] if needed else []
    said.append(
        f"{sum(left(e, filled) for e in open_ones)} of {sum(e.runs for e in papers.experiments_of(name))} trainings as in the "
        "paper are missing; --plan says which, --run trains them"
    )
    return said


def left(experiment: Experiment, filled: papers.Filled) -> int:
    """How many runs of an experiment are not finished."""
    done = filled.finished.get(experiment.folder, {}).get(split_label(experiment.split), 0)
    return max(experiment.runs - done, 0)


@dataclass(frozen=True)
class Wanted:
    """What is to be trained: see the command line."""

    tables: Sequence[str]
    corpora: Sequence[str]
    models: Mapping[str, str]
    runs: Path
    split: str | None
    only: Sequence[str]
    more: Sequence[str]

    def takes(self, experiment: Experiment) -> bool:
        """Whether it is among what `only` leaves."""
        return all(word in experiment.folder for word in self.only)

    def lacks(self, experiment: Experiment) -> str | None:
        """Which corpora an experiment needs that are not given, in words."""
        lacking = papers.missing_for(experiment, self.corpora)
        return f"needs --corpora {' '.join(lacking)}" if lacking else None


def train(wanted: Wanted, *, only_say: bool) -> bool:
    """
    Trains what the tables need and is not finished, one experiment after the other, each by scripts/cross_validate.py, and makes
    the reports that a table needs by scripts/evaluate.py; or says what would be done.

    Returns:
        Whether something failed.
    """
    found, _ = papers.read_runs(wanted.runs)
    failed, seen = False, set()
    for name in wanted.tables:
        if name in papers.COMPUTED:
            continue
        filled = papers.fill(name, found, RECIPES, wanted.models)
        for standard in papers.experiments_of(name):
            experiment = papers.on_split(standard, wanted.split)
            if experiment.folder not in seen and wanted.takes(experiment):
                seen.add(experiment.folder)
                failed |= train_one(name, standard, experiment, filled, wanted, only_say=only_say)
        failed |= report(name, wanted, only_say=only_say)
    if not seen:
        print(
            f"nothing of {listed(wanted.tables)} is trained"
            + (f" in a folder with {listed(wanted.only)}" if wanted.only else "")
        )
    return failed


def train_one(
    name: str,
    standard: Experiment,
    experiment: Experiment,
    filled: papers.Filled,
    wanted: Wanted,
    *,
    only_say: bool,
) -> bool:
    """Trains what is missing of an experiment, `standard` on another split perhaps; `True` if that failed."""
    otherwise = told_otherwise(wanted.more)
    done = 0 if otherwise else filled.finished[standard.folder].get(split_label(experiment.split), 0)
    experiment = replace(experiment, folder="-".join([experiment.folder, *otherwise]))
    finished = f"{min(done, experiment.runs)} of {experiment.runs} runs finished"
    said = f"{name}: {experiment.folder}: {'not as in the paper' if otherwise else finished}"
    if done >= experiment.runs:
        print(said)
        return False
    problem = wanted.lacks(experiment)
    if problem is None and experiment.split.get("made_as") == emobox.NAME:
        problem = prepare_folds(wanted.corpora, fold_folder(wanted.runs), write=not only_say)
    if problem:
        print(f"{said}; not run: {problem}")
        return False
    words = [*papers.words(experiment, RECIPES, wanted.runs, wanted.corpora, wanted.models), *wanted.more]
    if not run([sys.executable, str(SCRIPTS / "cross_validate.py"), *words], said, only_say=only_say):
        return True
    folder = wanted.runs / experiment.folder
    if not only_say and not otherwise and any(folder.rglob(RESULTS)):
        again = papers.fill(name, papers.read_runs(wanted.runs)[0], RECIPES, wanted.models)
        if not again.finished[standard.folder].get(split_label(experiment.split), 0):
            print(
                f"{folder} holds runs that were trained otherwise than by the recipe; move it away to train as in the paper"
            )
            return True
    return False


def told_otherwise(more: Sequence[str]) -> list[str]:
    """
    What the words after -- change of what is learned, each as a part of a folder's name: `num_train_epochs-2`.

    Raises:
        ValueError: if they change which runs there are.
    """
    parts: list[list[str]] = []
    for word in more:
        if word.startswith("--"):
            argument, _, value = word[2:].partition("=")
            parts.append([argument.replace("-", "_"), *filter(None, [value])])
        elif parts:
            parts[-1].append(word)
    if refused := [part[0] for part in parts if part[0] in REFUSED]:
        raise ValueError(
            f"--{refused[0]} after --: the tables say which runs there are; scripts/cross_validate.py trains others"
        )
    return [
        re.sub(r"[^\w.+-]", "_", "-".join(part))
        for part in parts
        if not (part[0] in SAME_EXPERIMENT or NOT_COUNTED.fullmatch(part[0]))
    ]


def report(name: str, wanted: Wanted, *, only_say: bool) -> bool:
    """Makes the reports that a table is filled from and its runs lack; `True` if one failed."""
    if not papers.of_reports(name):
        return False
    filled = papers.fill(name, papers.read_runs(wanted.runs)[0], RECIPES, wanted.models)
    failed = False
    for experiment in papers.experiments_of(name):
        folders = filled.unreported[experiment.folder] if wanted.takes(experiment) else []
        if folders and (problem := wanted.lacks(experiment)):
            print(f"{name}: {counted(len(folders), 'report')} not made: {problem}")
            continue
        for folder in folders:
            if (folder / REPORT).exists():
                print(f"{name}: {folder / REPORT} is none of this run's test part; move it away to have one made")
                continue
            words = [
                str(folder),
                "--corpora",
                *papers.corpora_of(experiment, wanted.corpora),
                "--no_robustness",
                "--no_cost",
            ]
            command = [sys.executable, str(SCRIPTS / "evaluate.py"), *words]
            failed |= not run(command, f"{name}: {folder} has no report", only_say=only_say)
    return failed


def run(command: Sequence[str], said: str, *, only_say: bool) -> bool:
    """Says a command, and runs it; whether that went well."""
    print(f"{said}:\n  {shlex.join(command)}", flush=True)
    return only_say or subprocess.run(command).returncode == 0


def prepare_folds(corpora: Sequence[str], folder: Path, *, write: bool) -> str | None:
    """Writes EmoBox's folds, or says why they would not be EmoBox's."""
    try:
        clips = emobox.read_clips(next(c for c in corpora if c.startswith(f"{emobox.CORPUS}=")))
    except CorpusError as error:
        return str(error)
    if emobox.missing_actors(clips):
        return emobox.explain(clips)
    if write:
        emobox.write_splits(clips, folder)
    return None


def write_folds(corpora: Sequence[str], folder: Path) -> int:
    """Writes EmoBox's folds, and says what is in them."""
    specification = next((c for c in corpora if c.startswith(f"{emobox.CORPUS}=")), None)
    if specification is None:
        raise SplitError(f"--write_folds needs --corpora {emobox.CORPUS}=FOLDER")
    clips = emobox.read_clips(specification)
    for path, split in zip(emobox.write_splits(clips, folder), emobox.make_splits(clips), strict=True):
        parts = {
            part: f"{len(rows)} clips of actors {listed(sorted({int(str(clips.speakers[i])[-2:]) for i in rows}))}"
            for part, rows in split.parts.items()
        }
        print(f"{path}: test {parts['test']}; validation {parts['validation']}; train {parts['train']}")
    print(emobox.explain(clips))
    return 0


if __name__ == "__main__":
    sys.exit(main())
