"""
Recognise the emotion of clips, or the emotions over the time of one long recording.

    hf-ser predict runs/lora_qkv recordings/ --output emotions.csv
    hf-ser predict user/name 'interviews/**/*.flac' dataset=user/clips
    hf-ser predict runs/lora_qkv interview.wav --timeline --minimum 2 --labels interview.TextGrid --plot interview.png

All GPUs of a machine share clips whose rows go to an --output (.csv, .jsonl). For several machines: accelerate launch
scripts/predict.py ...
"""

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hf_ser import pipeline
from hf_ser.audio import SAMPLING_RATE, AudioError
from hf_ser.cli.options import add_options, new_parser
from hf_ser.command_line import errors_in_one_line, log_to_terminal, path_argument
from hf_ser.inference.clips import Clip, Prediction, find_clips
from hf_ser.inference.files import LABELS, TABLES, check_path, save
from hf_ser.inference.onnx import is_exported
from hf_ser.inference.plots import plot_timeline
from hf_ser.inference.precision import PRECISIONS
from hf_ser.inference.processes import Processes, SharedTable
from hf_ser.memory import keep_freed_memory
from hf_ser.pipeline import SERPipeline
from hf_ser.wording import visible


@errors_in_one_line(interrupted="interrupted", closed_pipe=128 + signal.SIGPIPE)
def main() -> int:
    arguments = parse_arguments()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a file's name need not be UTF-8
    log_to_terminal()
    keep_freed_memory()
    processes = Processes.of_launcher()
    try:
        check_arguments(arguments, processes)
        clips = find_clips(arguments.source)
        if arguments.timeline and len(clips) != 1:
            raise ValueError(f"--timeline is for one recording, found {len(clips)}: {clips[0].name!r}, ...")
        recogniser = pipeline(
            arguments.model,
            precision=arguments.precision,
            base=arguments.base,
            revision=arguments.revision,
            device=arguments.device or processes.device(arguments.model),
        )
        processes.join()
        if arguments.timeline:
            show_timeline(recogniser, clips[0], arguments)
            return 0
        return show_predictions(recogniser, clips, arguments, processes)
    except KeyboardInterrupt:
        if processes.rank:
            return 130
        if writes_rows(arguments):
            raise KeyboardInterrupt("interrupted; --resume continues it") from None
        raise


def parse_arguments() -> argparse.Namespace:
    parser = new_parser(__doc__)
    add_options(parser, "model")
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="+",
        help="a file (WAV, FLAC, OGG, MP3; up to 6 hours, 4 to 384 kHz, any number of channels), a folder with files at any "
        "depth, a pattern in quotes, or dataset=NAME: a dataset on the Hub, or a folder of Parquet files or of save_to_disk",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=path_argument,
        help="write each clip's emotion and probabilities (with --timeline: each window's probabilities) as .csv, .jsonl or "
        ".json; by default a table is printed",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.add_argument(
        "--resume", action="store_true", help="continue an existing --output (.csv, .jsonl): skip the clips in it"
    )
    model = parser.add_argument_group("the model")
    add_options(model, "--revision", "--base", "--device", "--batch_seconds", "--precision")
    windows = parser.add_argument_group("the emotions over the time of one recording")
    windows.add_argument(
        "--timeline", action="store_true", help="cut the recording into windows and segments of one emotion"
    )
    windows.add_argument("--window", type=float, metavar="S", help="length of a window in seconds (default: 3)")
    windows.add_argument("--hop", type=float, metavar="S", help="seconds from one window to the next (default: 0.5)")
    windows.add_argument(
        "--smoothing", type=float, metavar="S", help="width of the moving average in seconds, 0 for none (default: 1)"
    )
    windows.add_argument(
        "--minimum", type=float, metavar="S", help="merge segments of fewer seconds into their neighbours (default: 0)"
    )
    windows.add_argument(
        "--labels",
        metavar="FILE",
        type=path_argument,
        help="write the segments as .csv, .jsonl, .json, .txt (Audacity: File, Import, Labels) or .TextGrid (Praat)",
    )
    windows.add_argument(
        "--plot",
        metavar="FILE",
        type=path_argument,
        help="draw waveform, probabilities and segments as .png, .svg or .pdf",
    )
    return parser.parse_args()


def shared(arguments: argparse.Namespace) -> bool:
    """Whether all GPUs of a machine share the clips."""
    return writes_rows(arguments) and not (arguments.device or is_exported(arguments.model))


def writes_rows(arguments: argparse.Namespace) -> bool:
    """Whether each prediction is written immediately, by its process."""
    return not arguments.timeline and arguments.output is not None and arguments.output.suffix != ".json"


def check_arguments(arguments: argparse.Namespace, processes: Processes) -> None:
    """Refuses arguments that do not fit together, and files that cannot be written, before a model is loaded."""
    for name in ("window", "hop", "smoothing", "minimum", "labels", "plot"):
        if getattr(arguments, name) is not None and not arguments.timeline:
            raise ValueError(f"--{name} is for the emotions over time: add --timeline")
    if arguments.resume and (arguments.timeline or arguments.overwrite or not arguments.output):
        raise ValueError("--resume continues an --output of clips: it goes with neither --timeline nor --overwrite")
    if processes.count > 1 and not writes_rows(arguments):
        raise ValueError(
            f"{processes.count} processes write a table: give --output as .csv or .jsonl, without --timeline"
        )
    files: dict[Path, str] = {}
    for name, suffixes in {
        "output": TABLES[:2] if arguments.resume else TABLES,
        "labels": (*TABLES, *LABELS),
        "plot": (".png", ".svg", ".pdf"),
    }.items():
        if (path := getattr(arguments, name)) is not None:
            check_path(path, suffixes, arguments.overwrite or arguments.resume)
            if (other := files.setdefault(path.resolve(), name)) != name:
                raise ValueError(f"--{other} and --{name} are one file, {str(path)!r}; give each its own")


def show_predictions(
    recogniser: SERPipeline, clips: Sequence[Clip], arguments: argparse.Namespace, processes: Processes
) -> int:
    """Prints or writes each clip's emotion, as they come, and a summary. Returns the exit status."""
    output, model = arguments.output, model_name(arguments)
    outputs = (*recogniser.emotions, *recogniser.dimensions)
    table = SharedTable(output, outputs, model, clips, processes, arguments.resume) if writes_rows(arguments) else None
    left, waiting = (table.own_clips, table.waiting) if table else (clips, len(clips))
    if (skipped := len(clips) - waiting) and not processes.rank:
        print(f"{skipped:,} clips are already in {output}", file=sys.stderr)
    width = max(map(len, recogniser.emotions), default=1)
    predictions: list[Prediction] = []  # of a .json, which is written as a whole
    problems: Counter[str] = Counter()
    seconds, began = 0.0, time.perf_counter()
    bar = not processes.rank and (bool(output) or not sys.stdout.isatty())  # else it would be within the table
    for prediction in recogniser.predict(left, batch_seconds=arguments.batch_seconds, progress=bar):
        if prediction.problem is None:
            seconds += prediction.duration
        else:
            problems[prediction.problem.partition(":")[0]] += 1
        if table:
            table.write(prediction)
        elif output:
            predictions.append(prediction)
        else:
            print(line(prediction, width), flush=True)
    if predictions:
        save(predictions, output, overwrite=arguments.overwrite)
    if table:
        if (sums := table.finish(seconds, problems)) is None:
            return 0
        seconds, problems = sums
    predicted = waiting - problems.total()
    print(f"{predicted:,} clips, {speed(seconds, began, output)}", file=sys.stderr)
    if problems:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in problems.most_common())
        print(f"{problems.total():,} excluded: {reasons}", file=sys.stderr)
    return 0 if predicted or not waiting else 1


def model_name(arguments: argparse.Namespace) -> str:
    """The model and its precision, the same for any path to it."""
    names = [arguments.model, *([arguments.base] if arguments.base else [])]
    folders = [Path(name).expanduser() for name in names]
    names = [str(folder.resolve()) if folder.is_dir() else name for name, folder in zip(names, folders, strict=True)]
    model = " on ".join([names[0] + (f"@{arguments.revision}" if arguments.revision else ""), *names[1:]])
    return model if arguments.precision == PRECISIONS[0] else f"{model} in {arguments.precision}"


def line(prediction: Prediction, width: int) -> str:
    """A line of the table: emotion, its probability, the dimensions, seconds, name, and the problem, if there is one."""
    name, problem = visible(prediction.name), prediction.problem
    share = "" if prediction.emotion is None else f"{100 * prediction.probabilities[prediction.emotion]:.1f}%"
    why = "" if problem is None else f"  ({visible(problem)})"
    values = "".join(f"  {dimension} {value:.2f}" for dimension, value in prediction.dimensions.items())
    return f"{prediction.emotion or '-':<{width}}  {share:>6}{values}  {prediction.duration:7.1f} s  {name}{why}"


def show_timeline(recogniser: SERPipeline, clip: Clip, arguments: argparse.Namespace) -> None:
    """Prints the segments of a recording, writes and draws them."""
    began = time.perf_counter()
    names = ("window", "hop", "smoothing", "minimum", "batch_seconds")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    try:
        waveform = clip.read()
        timeline = recogniser.timeline({"array": waveform, "sampling_rate": SAMPLING_RATE}, progress=True, **given)
    except AudioError as error:
        raise ValueError(f"{visible(clip.name)}: {error}") from error
    if arguments.output:
        save(timeline, arguments.output, overwrite=arguments.overwrite)
    if arguments.labels:
        save(timeline.segments, arguments.labels, overwrite=arguments.overwrite)
    if arguments.plot:
        plot_timeline(waveform, timeline).savefig(arguments.plot, dpi=120)
    print(f"{'start, s':>9}  {'stop, s':>9}  emotion")
    for segment in timeline:
        share = "" if segment.probability != segment.probability else f"  {100 * segment.probability:5.1f} %"
        print(f"{segment.start:9.2f}  {segment.stop:9.2f}  {segment.emotion:<10}{share}".rstrip())
    files = (arguments.output, arguments.labels, arguments.plot)
    print(f"{len(timeline):,} segments, {speed(timeline.duration, began, *files)}", file=sys.stderr)


def speed(seconds: float, began: float, *files: Path | None) -> str:
    """The seconds of speech, the time that they took, and the files with the results."""
    took = time.perf_counter() - began
    written = ", ".join(str(path) for path in files if path)
    where = f", in {written}" if written else ""
    return f"{seconds:,.0f} s of speech in {took:.1f} s ({seconds / took:.1f} s of speech per second){where}"


if __name__ == "__main__":  # accelerate launch starts it as a module
    sys.exit(main())
