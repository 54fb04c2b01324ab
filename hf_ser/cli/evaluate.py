"""
Report the quality, fairness, robustness, cost and leakage of a model.

    hf-ser evaluate runs/lora_qkv --corpora ravdess=/data/RAVDESS
    hf-ser evaluate user/name --corpora crema_d=/data/CREMA-D --output reports/name --compare runs/lora_qkv
    hf-ser evaluate superb/hubert-large-superb-er --corpora iemocap=/data/IEMOCAP --part all --output reports/superb
    hf-ser evaluate exported/int8 --run runs/lora_qkv --corpora ravdess=/data/RAVDESS --compare runs/lora_qkv

All GPUs of a machine share the predictions. For several machines: accelerate launch scripts/evaluate.py ...

It writes report.json, report.html (one page that needs no network) and report/ with the plots and clips.csv, the prediction for
each clip. The same command resumes an interrupted report.
"""

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_ser import pipeline
from hf_ser.cli.options import add_options, new_parser
from hf_ser.command_line import errors_in_one_line, log_to_terminal, path_argument
from hf_ser.corpora import labelled_by
from hf_ser.emotions import canonical
from hf_ser.hub import fetch_records
from hf_ser.inference.onnx import is_exported
from hf_ser.inference.precision import PRECISIONS
from hf_ser.inference.processes import Processes
from hf_ser.memory import keep_freed_memory
from hf_ser.pipeline import SERPipeline
from hf_ser.records import PREDICTIONS, RESULTS
from hf_ser.rendering import console
from hf_ser.report import Model, ReportOptions, build, check_folder, load_clips, open_model, save


@errors_in_one_line(interrupted="interrupted; the same command goes on")
def main() -> int:
    arguments = parse_arguments()
    processes = Processes.of_launcher()
    log_to_terminal(logging.ERROR if processes.rank else logging.INFO)
    keep_freed_memory()
    folder: Path = arguments.output or Path(arguments.model).expanduser()
    if not (arguments.output or folder.is_dir()):
        raise ValueError("output: name a folder for the report; the model is not a folder here")
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
        keep=folder / PREDICTIONS,
        processes=processes,
    )
    if processes.rank:  # predicts its share, and makes no report
        options = replace(options, cost=False, leakage=False, resamples=1, progress=False)
    label_map, merges = pairs("label_map", arguments.label_map), pairs("emotions", arguments.emotions)
    model, other = open_models(arguments, label_map, processes)
    processes.join()
    clips = load_clips(
        labelled_by(arguments.corpora, arguments.label_source),
        model,
        dimension_range=arguments.dimension_range,
        merges={canonical(one): canonical(another) for one, another in merges.items()} or None,
        part=arguments.part,
        max_excluded=arguments.max_excluded,
    )
    built = build(model, clips, options, other=other, argv=sys.argv)
    if processes.rank:
        return 0
    save(built, folder)
    print(console(built.report))
    print(f"\nthe report is in {folder}")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add_options(parser, "model", "--base", "--revision", "--device", "--batch_seconds", "--precision", "--label_source")
    add("--corpora", nargs="+", required=True, metavar="NAME=PATH", help="the corpora, as in hf-ser finetune")
    add("--part", default="auto", help="the clips: test, validation or a further test part (test2) of the model's own split, or "
        "all; auto (default) is test if the model's split has clips of these corpora, else all")  # fmt: skip
    add("--output", type=path_argument, metavar="FOLDER", help="the report's folder, by default that of the model")
    add("--overwrite", action="store_true", help="replace an existing report")
    add("--compare", metavar="MODEL", help="another model, to compare with on the same clips, in float32")
    add("--label_map", nargs="+", default=[], metavar="LABEL=EMOTION", help="emotions of the model's labels")
    add("--emotions", nargs="+", default=[], metavar="FROM=TO", help="emotions of the corpora that count as another")
    add("--dimension_range", nargs=2, type=float, metavar=("LOW", "HIGH"), help="the scale of arousal, valence and dominance in "
        "manifests and data sets; by default as in training, else 0 to 1")  # fmt: skip
    add("--run", type=path_argument, metavar="FOLDER", help="the model's run, whose splits.json names the clips that it was "
        "trained on, if it is not beside the model")  # fmt: skip
    add("--max_seconds", type=float, help="cut longer clips to so many seconds; by default as in training")
    add("--max_excluded", type=float, default=0.05, help="fail if a larger share of a corpus cannot be used (0.05)")
    add("--resamples", type=int, default=1000, help="bootstrap resamples of every interval (1000)")
    add("--seed", type=int, default=0, help="seed of intervals and noise (0)")
    add("--robustness_clips", type=int, default=300, help="clips for robustness at most (300)")
    add("--no_robustness", action="store_true", help="do not measure robustness")
    add("--no_cost", action="store_true", help="do not measure latency, throughput and memory")
    add("--no_leakage", action="store_true", help="skip the leakage check")
    return parser.parse_args()


def shared(arguments: argparse.Namespace) -> bool:
    """Whether all GPUs of a machine share the clips."""
    return not (arguments.device or is_exported(arguments.model))


def pairs(argument: str, words: list[str]) -> dict[str, str]:
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (equals and key.strip() and value.strip()):
            raise ValueError(f"{argument}={word!r}: expected FROM=TO")
        found[key.strip()] = value.strip()
    return found


def open_models(
    arguments: argparse.Namespace, label_map: dict[str, str], processes: Processes
) -> tuple[Model, Model | None]:
    """
    The model, and the one to compare with, on this process' GPU if no device is given. Two of the same name are called by the
    folders above them, too.
    """
    if arguments.run and not (arguments.run / RESULTS).is_file():
        raise FileNotFoundError(f"run={str(arguments.run)!r}: holds no {RESULTS}")
    options = {"base": arguments.base, "revision": arguments.revision, "precision": arguments.precision}

    def opened(model: str, **options: Any) -> SERPipeline:
        return pipeline(model, device=arguments.device or processes.device(model), **options)

    classifiers = [opened(arguments.model, **options)]
    if arguments.compare:
        classifiers.append(opened(arguments.compare))
    outputs = [classifier.emotions for classifier in classifiers]
    if unknown := set(label_map).difference(*outputs):
        raise ValueError(f"label_map={label_map}: no model has a label {sorted(unknown)[0]!r}")
    maps = [{label: label_map[label] for label in label_map if label in labels} for labels in outputs]
    model = open_model(
        classifiers[0],
        name_of(arguments.model),
        fetch_records(arguments.model, revision=arguments.revision),
        maps[0],
        run=arguments.run,
    )
    if arguments.precision != PRECISIONS[0]:
        model = replace(model, name=f"{model.name} ({arguments.precision})")
    if not arguments.compare:
        return model, None
    other = open_model(classifiers[1], name_of(arguments.compare), fetch_records(arguments.compare), maps[1])
    if other.name == model.name:
        model, other = (replace(one, name=name_of(path, parent=True)) for one, path in
                        ((model, arguments.model), (other, arguments.compare)))  # fmt: skip
    return model, other


def name_of(model: str, parent: bool = False) -> str:
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return model
    return f"{folder.resolve().parent.name}/{folder.resolve().name}" if parent else folder.resolve().name


if __name__ == "__main__":  # accelerate launch starts it as a module
    sys.exit(main())
