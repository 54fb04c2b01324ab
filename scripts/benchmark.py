"""
Compare this package with plain transformers, on the same clips and weights: training, preparing and inference.

    python scripts/benchmark.py                                    # HuBERT Base with random weights, in minutes on a laptop
    python scripts/benchmark.py --shape whisper-tiny --check
    python scripts/benchmark.py --model facebook/hubert-large-ll60k --corpora ravdess=/data/RAVDESS crema_d=/data/CREMA-D
    python scripts/benchmark.py --scale 1000 10000 100000          # what a clip costs in corpora of these sizes, and no model

The baseline is transformers' example of audio classification; each variant adds one measure of this package to the one before.
It leaves benchmark.json and benchmark.png; with --scale, scale.json and scale.png.
"""

import argparse
import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers.utils import logging as transformers_logging

from hf_ser.benchmark import (
    METHODS,
    RESULTS,
    SCALE_RESULTS,
    SHAPES,
    VARIANTS,
    benchmark,
    default_settings,
    measure_scales,
    save,
    save_scales,
    scale_table,
    table,
)
from hf_ser.command_line import errors_in_one_line, path_argument


@errors_in_one_line(RuntimeError, interrupted="interrupted")
def main() -> int:
    arguments = vars(parse_arguments())
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("hf_ser.benchmark").setLevel(logging.INFO)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    output, overwrite, quick = (arguments.pop(name) for name in ("output", "overwrite", "quick"))
    shape, scale = arguments.pop("shape"), arguments.pop("scale")
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    given["model"] = given["model"] or shape
    if (output / (SCALE_RESULTS if scale else RESULTS)).exists() and not overwrite:
        raise ValueError(f"--output: {str(output)!r} holds a benchmark; choose another folder, or --overwrite")
    if scale:
        sizes = measure_scales(scale, seed=int(arguments["seed"] or 0))
        save_scales(sizes, output)
        print(scale_table(sizes))
        return 0
    with TemporaryDirectory(prefix="hf_ser-benchmark-") as work:
        report = benchmark(default_settings(Path(work), quick=quick, **given))
    save(report, output)
    print(table(report))
    print(f"\nthe benchmark is in {output}")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", help="an encoder's folder, or its name on the Hub")
    what.add_argument("--shape", choices=SHAPES, help="an encoder with random weights in its place (hubert-base)")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help=f"of {', '.join(METHODS)}")
    parser.add_argument(
        "--variants",
        nargs="+",
        metavar="VARIANT",
        help="; ".join(f"{variant.name}: {variant.adds}" for variant in VARIANTS) + ". By default all.",
    )
    parser.add_argument("--corpora", nargs="+", metavar="NAME=PATH", help="real corpora; by default clips are made up")
    parser.add_argument(
        "--scale",
        nargs="+",
        type=int,
        metavar="CLIPS",
        help="measure corpora of so many clips, up to the batches; nothing else",
    )
    parser.add_argument("--clips", type=int, help="clips to write and to predict (32; on a GPU 512)")
    parser.add_argument("--batch_size", type=int, help="clips in a batch of training (4; on a GPU 16)")
    parser.add_argument("--steps", type=int, help="steps of training to time (4; on a GPU 20)")
    parser.add_argument("--warm_up", type=int, help="steps before, which do not count (1; on a GPU 5)")
    parser.add_argument("--rounds", type=int, help="how often everything is measured, in turns (3)")
    parser.add_argument("--epochs", type=int, help="of the whole run that is extrapolated (50)")
    parser.add_argument("--threads", type=int, help="of a process on the CPU, by default one for each processor")
    parser.add_argument("--workers", type=int, help="processes that load the batches, on both sides (0; on a GPU 4)")
    parser.add_argument("--seed", type=int, help="of clips, weights and order (0)")
    parser.add_argument("--quick", action="store_true", help="as little as shows that all runs; no measurement")
    parser.add_argument(
        "--check",
        action="store_true",
        default=None,
        help="compare the losses of both sides in float32, too, and say by how much they differ",
    )
    parser.add_argument(
        "--output", type=path_argument, default=Path("benchmark"), metavar="FOLDER", help="where it goes (benchmark)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the benchmark that is there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
