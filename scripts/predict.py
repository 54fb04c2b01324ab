"""
Recognise the emotion of clips, or the emotions over the time of one long recording.

    python scripts/predict.py runs/lora_qkv recordings/ --output emotions.csv
    python scripts/predict.py user/name 'interviews/**/*.flac' dataset=user/clips
    python scripts/predict.py runs/lora_qkv interview.wav --timeline --minimum 2 --labels interview.TextGrid --plot interview.png
"""

import argparse
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from transformers import AudioClassificationPipeline
from transformers.utils import logging as transformers_logging

from hf_ser.audio import SAMPLING_RATE, AudioError
from hf_ser.command_line import errors_in_one_line, path_argument
from hf_ser.export import open_classifier
from hf_ser.inference import (
    LABELS,
    PRECISIONS,
    TABLES,
    Clip,
    EmotionSegment,
    Prediction,
    PredictionFile,
    check_path,
    emotions_of,
    find_clips,
    plot_timeline,
    predict,
    save,
    timeline,
)
from hf_ser.inference.sources import in_one_line
from hf_ser.memory import keep_freed_memory


@errors_in_one_line(ImportError, interrupted="interrupted")
def main() -> int:
    arguments = parse_arguments()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a file's name need not be UTF-8
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    keep_freed_memory()
    try:
        check_arguments(arguments)
        clips = find_clips(arguments.source)
        classifier = open_classifier(
            arguments.model,
            precision=arguments.precision,
            base=arguments.base,
            revision=arguments.revision,
            device=arguments.device,
        )
        status = (show_timeline if arguments.timeline else show_predictions)(classifier, clips, arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever reads the table has enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the end of Python would complain
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        if arguments.output and not arguments.timeline and arguments.output.suffix != ".json":
            raise KeyboardInterrupt("interrupted; --resume goes on with it") from None
        raise


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a run's folder, an adapter's folder, a folder of scripts/export.py, or a model's name on the Hub",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="+",
        help="a file (WAV, FLAC, OGG, MP3; any length, sampling rate and number of channels), a folder with files at any "
        "depth, a pattern in quotes, or dataset=NAME: a data set on the Hub or in a folder of save_to_disk",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=path_argument,
        help="write each clip's emotion and probabilities (with --timeline: each window's) as .csv, .jsonl or .json (with "
        "the segments, too); by default a table is printed",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with an --output that is there (.csv, .jsonl): skip the clips in it",
    )
    model = parser.add_argument_group("the model")
    model.add_argument("--revision", help="a branch, tag or commit of a model on the Hub")
    model.add_argument(
        "--base", metavar="MODEL", help="where an adapter's base model is, if not where the adapter says"
    )
    model.add_argument(
        "--device", help="where to compute, for instance cpu or cuda:1; by default a GPU if there is one"
    )
    model.add_argument(
        "--batch_seconds",
        type=float,
        metavar="S",
        help="seconds of sound in a batch (default: 120 on a GPU, 8 on a CPU); less needs less memory, and changes no answer",
    )
    model.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="what the model computes in (default: float32); bfloat16 is about twice as fast where the hardware has it, and "
        "moves probabilities by some thousandths, a few by hundredths; int8, for a CPU, is faster still, and moves them as much "
        "or more",
    )
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


def check_arguments(arguments: argparse.Namespace) -> None:
    """Tells what is wrong before a model is loaded."""
    for name in ("window", "hop", "smoothing", "minimum", "labels", "plot"):
        if getattr(arguments, name) is not None and not arguments.timeline:
            raise ValueError(f"--{name} is for the emotions over time: add --timeline")
    if arguments.resume and (arguments.timeline or arguments.overwrite or not arguments.output):
        raise ValueError("--resume goes on with an --output of clips: it goes with neither --timeline nor --overwrite")
    files: dict[Path, str] = {}
    for name in ("output", "labels", "plot"):
        if (path := getattr(arguments, name)) and (other := files.setdefault(path.resolve(), name)) != name:
            raise ValueError(f"--{other} and --{name} are one file, {str(path)!r}; give each its own")
    if arguments.output:
        check_path(arguments.output, TABLES, arguments.overwrite or arguments.resume)
    if arguments.labels:
        check_path(arguments.labels, (*TABLES, *LABELS), arguments.overwrite)
    if arguments.plot:
        check_path(arguments.plot, (".png", ".svg", ".pdf"), arguments.overwrite)


def show_predictions(
    classifier: AudioClassificationPipeline, clips: Sequence[Clip], arguments: argparse.Namespace
) -> int:
    """Prints or writes each clip's emotion, as they come, and at the end how it went."""
    emotions = emotions_of(classifier)
    file = None
    if arguments.output:
        given = {"overwrite": arguments.overwrite, "resume": arguments.resume}
        file = PredictionFile(arguments.output, emotions, model=model_name(arguments), **given)
    width = max(map(len, emotions))
    problems: Counter[str] = Counter()
    predicted, seconds, began = 0, 0.0, time.perf_counter()
    with file or nullcontext():
        left = [clip for clip in clips if not (file and clip.name in file)]
        if skipped := len(clips) - len(left):
            print(f"{skipped:,} clips are already in {arguments.output}", file=sys.stderr)
        bar = bool(file) or not sys.stdout.isatty()  # or it would run through the table
        for prediction in predict(classifier, left, batch_seconds=arguments.batch_seconds, progress=bar):
            if prediction.problem is None:
                predicted, seconds = predicted + 1, seconds + prediction.duration
            else:
                problems[prediction.problem.partition(":")[0]] += 1
            if file:
                file.write(prediction)
            else:
                print(line(prediction, width), flush=True)
    took = time.perf_counter() - began
    where = f", in {arguments.output}" if arguments.output else ""
    print(
        f"{predicted:,} clips, {seconds:,.0f} s of speech in {took:.1f} s ({seconds / took:.1f} s of speech per second){where}",
        file=sys.stderr,
    )
    if problems:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in problems.most_common())
        print(f"{problems.total():,} set aside: {reasons}", file=sys.stderr)
    return 0 if predicted or not left else 1


def model_name(arguments: argparse.Namespace) -> str:
    """The model that answers and its precision, the same by whichever path it is named."""
    names = [arguments.model, *([arguments.base] if arguments.base else [])]
    folders = [Path(name).expanduser() for name in names]
    names = [str(folder.resolve()) if folder.is_dir() else name for name, folder in zip(names, folders, strict=True)]
    model = " on ".join([names[0] + (f"@{arguments.revision}" if arguments.revision else ""), *names[1:]])
    return model if arguments.precision == PRECISIONS[0] else f"{model} in {arguments.precision}"


def line(prediction: Prediction, width: int) -> str:
    """A line of the table: emotion, its probability, seconds, name, and what is wrong with it."""
    name = in_one_line(prediction.name)
    if prediction.emotion is None:
        problem = in_one_line(prediction.problem or "")
        return f"{'-':<{width}}  {'':6}  {prediction.duration:7.1f} s  {name}  ({problem})"
    share = 100 * prediction.probabilities[prediction.emotion]
    return f"{prediction.emotion:<{width}}  {share:5.1f}%  {prediction.duration:7.1f} s  {name}"


def show_timeline(classifier: AudioClassificationPipeline, clips: Sequence[Clip], arguments: argparse.Namespace) -> int:
    """Prints the segments of a recording, writes and draws them."""
    if len(clips) != 1:
        raise ValueError(
            f"--timeline is for one recording, found {len(clips)}: {clips[0].name!r}, {clips[1].name!r}, ... Call it once "
            "for each, or leave --timeline out"
        )
    began = time.perf_counter()
    given = {name: getattr(arguments, name) for name in ("window", "hop", "smoothing")}
    try:
        waveform = clips[0].read()
        result = timeline(
            classifier,
            {"array": waveform, "sampling_rate": SAMPLING_RATE},
            **{name: value for name, value in given.items() if value is not None},
            batch_seconds=arguments.batch_seconds,
            progress=True,
        )
    except AudioError as error:
        raise ValueError(f"{in_one_line(clips[0].name)}: {error}") from error
    segments = result.segments(arguments.minimum or 0.0)
    if arguments.output:
        save(result, arguments.output, overwrite=arguments.overwrite, minimum=arguments.minimum or 0.0)
    if arguments.labels:
        save(segments, arguments.labels, overwrite=arguments.overwrite)
    if arguments.plot:
        plot_timeline(waveform, result, segments).savefig(arguments.plot, dpi=120)
    print_segments(segments)
    took = time.perf_counter() - began
    written = ", ".join(str(path) for path in (arguments.output, arguments.labels, arguments.plot) if path)
    print(
        f"{len(segments):,} segments, {result.duration:,.0f} s of speech in {took:.1f} s "
        f"({result.duration / took:.1f} s of speech per second){f', in {written}' if written else ''}",
        file=sys.stderr,
    )
    return 0


def print_segments(segments: Sequence[EmotionSegment]) -> None:
    """Prints where each segment begins and ends, its emotion and the emotion's mean probability."""
    print(f"{'start, s':>9}  {'stop, s':>9}  emotion")
    for segment in segments:
        share = "" if segment.probability != segment.probability else f"  {100 * segment.probability:5.1f} %"
        print(f"{segment.start:9.2f}  {segment.stop:9.2f}  {segment.emotion:<10}{share}".rstrip())


if __name__ == "__main__":
    sys.exit(main())
