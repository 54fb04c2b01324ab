"""
Report what a model can do, for whom, under what conditions and at what cost.

    python scripts/evaluate.py runs/lora_qkv --corpora ravdess=/data/RAVDESS
    python scripts/evaluate.py user/name --corpora crema_d=/data/CREMA-D --output reports/name --compare runs/lora_qkv
    python scripts/evaluate.py superb/hubert-large-superb-er --corpora iemocap=/data/IEMOCAP --part all --output reports/superb
    python scripts/evaluate.py exported/int8 --run runs/lora_qkv --corpora ravdess=/data/RAVDESS --compare runs/lora_qkv

It leaves report.json, report.html (one page, to be read offline) and report/ with the pictures and clips.csv, what the model
says of each clip. Called again after an
interruption, it goes on.
"""

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

from transformers.utils import logging as transformers_logging

from hf_ser import pipeline
from hf_ser.command_line import errors_in_one_line, path_argument
from hf_ser.corpora import LABEL_SOURCES, labelled_by
from hf_ser.emotions import canonical
from hf_ser.hub import fetch_records
from hf_ser.inference.precision import PRECISIONS
from hf_ser.memory import keep_freed_memory
from hf_ser.records import RESULTS
from hf_ser.report import PARTS, Model, ReportOptions, build, check_folder, load_clips, open_model, save
from hf_ser.report.files import ANSWERS
from hf_ser.report.page import summary


@errors_in_one_line(interrupted="interrupted; the same command goes on")
def main() -> int:
    arguments = parse_arguments()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("hf_ser").setLevel(logging.INFO)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    keep_freed_memory()
    folder = output_folder(arguments)
    check_folder(folder, arguments.overwrite)
    options = ReportOptions(
        robustness=not arguments.no_robustness,
        robustness_clips=arguments.robustness_clips,
        cost=not arguments.no_cost,
        leakage=not arguments.no_leakage,
        resamples=arguments.resamples,
        seed=arguments.seed,
        max_seconds=arguments.max_seconds,
        batch_seconds=arguments.batch_seconds,
        keep=folder / ANSWERS,
    )
    label_map = pairs(arguments.label_map, "--label_map")
    merges = pairs(arguments.emotions, "--emotions")
    model = opened(arguments.model, arguments, label_map)
    model.require_heard(options.max_seconds)
    other = opened(arguments.compare, arguments, label_map, other=True) if arguments.compare else None
    if other and other.name == model.name:
        model, other = (replace(one, name=_with_parent(one.name, path)) for one, path in
                        ((model, arguments.model), (other, arguments.compare)))  # fmt: skip
    if other and (unknown := set(label_map) - outputs_of(model) - outputs_of(other)):
        raise ValueError(f"--label_map: neither model has a label {sorted(unknown)[0]!r}")
    clips = load_clips(
        labelled_by(arguments.corpora, arguments.label_source),
        model.emotions,
        model.records,
        merges={canonical(a): canonical(b) for a, b in merges.items()} or None,
        part=arguments.part,
        max_set_aside=arguments.max_set_aside,
        minimum_seconds=model.shortest,
    )
    report, answered = build(model, clips, options, other=other, argv=sys.argv)
    save(report, answered, folder)
    print(summary(report))
    print(f"\nthe report is in {folder}")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a run's, adapter's or exported model's folder, or a name on the Hub"
    )
    parser.add_argument(
        "--corpora",
        nargs="+",
        required=True,
        metavar="NAME=PATH",
        help="what to test it on, as scripts/finetune.py takes it",
    )
    parser.add_argument(
        "--part",
        choices=PARTS,
        default="auto",
        help="which clips: test or validation of the model's own split; all of them; by default (auto) the test part if the "
        "model's split has clips of these corpora, else all",
    )
    parser.add_argument(
        "--output",
        type=path_argument,
        metavar="FOLDER",
        help="where the report goes; by default the model's folder, if it is one",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the report that is there")
    parser.add_argument("--compare", metavar="MODEL", help="another model, to compare with on the same clips")
    parser.add_argument(
        "--label_map",
        nargs="+",
        default=[],
        metavar="LABEL=EMOTION",
        help="what the model's labels mean, if they do not say",
    )
    parser.add_argument(
        "--emotions", nargs="+", default=[], metavar="FROM=TO", help="emotions of the corpora that count as another"
    )
    parser.add_argument("--label_source", choices=LABEL_SOURCES, default="intended", help="CREMA-D's labels")
    parser.add_argument("--base", help="an adapter's base model, if it is not where the adapter says")
    parser.add_argument("--revision", help="a branch, tag or commit of the model on the Hub")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="what the model (not the one of --compare) computes in; an exported model has its own",
    )
    parser.add_argument(
        "--run",
        type=path_argument,
        metavar="FOLDER",
        help="the model's run, with the splits.json that says what it has learned from, if that is not beside an exported model",
    )
    parser.add_argument("--device", help="where it runs, by default on a GPU if there is one")
    parser.add_argument(
        "--max_seconds", type=float, help="hear the beginning of longer clips; by default as in training"
    )
    parser.add_argument("--batch_seconds", type=float, help="seconds of speech in a batch")
    parser.add_argument("--max_set_aside", type=float, default=0.05, help="stop if more of a corpus cannot be used")
    parser.add_argument("--resamples", type=int, default=1000, help="of every interval (1000)")
    parser.add_argument("--seed", type=int, default=0, help="of intervals and noise (0)")
    parser.add_argument(
        "--robustness_clips", type=int, default=300, help="measure robustness on so many clips at most (300)"
    )
    parser.add_argument("--no_robustness", action="store_true", help="do not distort the clips")
    parser.add_argument("--no_cost", action="store_true", help="do not measure latency and memory")
    parser.add_argument("--no_leakage", action="store_true", help="do not compare with the clips that were learned")
    return parser.parse_args()


def output_folder(arguments: argparse.Namespace) -> Path:
    if arguments.output:
        return Path(arguments.output)
    if Path(arguments.model).expanduser().is_dir():
        return Path(arguments.model).expanduser()
    raise ValueError("--output: say where the report goes; the model is not a folder here")


def pairs(words: list[str], argument: str) -> dict[str, str]:
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (equals and key.strip() and value.strip()):
            raise ValueError(f"{argument}: {word!r} is not of the form FROM=TO")
        found[key.strip()] = value.strip()
    return found


def opened(name: str, arguments: argparse.Namespace, label_map: dict[str, str], *, other: bool = False) -> Model:
    """The model, or the other one to compare it with, of which little is said on the command line."""
    first, folder = not other, Path(name).expanduser()
    if first and arguments.run and not (arguments.run / RESULTS).is_file():
        raise FileNotFoundError(f"--run: {str(arguments.run)!r} holds no run: it has no results.json")
    if first and arguments.revision and folder.is_dir():
        raise ValueError(f"--revision: {name!r} is a folder here; a revision is of a model on the Hub")
    precision = arguments.precision if first else PRECISIONS[0]
    classifier = pipeline(
        name,
        precision=precision,
        base=arguments.base if first else None,
        revision=arguments.revision if first else None,
        device=arguments.device,
    )
    records = fetch_records(name, revision=arguments.revision if first else None)
    labels = set(classifier.model.config.id2label.values())
    given = {k: v for k, v in label_map.items() if k in labels} if arguments.compare else label_map
    called = folder.resolve().name if folder.is_dir() else name
    called += f" ({precision})" if precision != PRECISIONS[0] else ""
    return open_model(classifier, called, records, given, run=arguments.run if first else None, precision=precision)


def _with_parent(name: str, path: str) -> str:
    """What tells two models of one name apart, such as the adapters of two runs: the folder above."""
    folder = Path(path).expanduser()
    return f"{folder.resolve().parent.name}/{name}" if folder.is_dir() else name


def outputs_of(model: Model) -> set[str]:
    return set(model.classifier.model.config.id2label.values())


if __name__ == "__main__":
    sys.exit(main())
