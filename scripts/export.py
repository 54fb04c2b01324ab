"""
Export a model for inference on a CPU, as one ONNX file that onnxruntime runs.

    python scripts/export.py runs/lora_qkv --output exported/lora_qkv
    python scripts/export.py user/name --output exported/name --int8 --benchmark
    python scripts/export.py runs/lora_qkv --output exported/int8 --int8 --corpora ravdess=/data/RAVDESS

Both models answer for made-up clips, and for your own, each by itself and in padded batches; the exported one is kept only
if no probability differs by more than the tolerance. What is found goes into export.json.

The folder opens with hf_ser.export.load_exported, and with scripts/predict.py FOLDER recordings/.
"""

import argparse
import logging
import sys
from typing import Any

from transformers.utils import logging as transformers_logging

from hf_ser.command_line import errors_in_one_line, path_argument
from hf_ser.export import ExportSettings, export, summary


@errors_in_one_line(ImportError, interrupted="interrupted; nothing was left")
def main() -> int:
    arguments: dict[str, Any] = vars(parse_arguments())
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("hf_ser.export").setLevel(logging.INFO)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    model, output = arguments.pop("model"), arguments.pop("output")
    for name in ("clips", "corpora"):
        arguments[name] = tuple(arguments[name])
    record = export(model, output, ExportSettings(**arguments))
    print(summary(record))
    print(f"\nthe exported model is in {output}")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a run's folder, an adapter's folder, or a model's name on the Hub. Adapters that can be merged are merged; the "
        "others are exported as they are",
    )
    parser.add_argument("--output", type=path_argument, metavar="FOLDER", required=True, help="where it goes")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="the weights of linear layers in int8: a smaller file, and faster; answers differ a little. Meant for processors "
        "with VNNI (since about 2019): on older ones sums may overflow, and answers differ more than here",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="P",
        help="by how much a probability may differ (default: 1e-4, with --int8 0.05); what differs more is not kept",
    )
    parser.add_argument(
        "--clips", nargs="+", default=[], metavar="SOURCE", help="files, folders or patterns of clips to compare, too"
    )
    parser.add_argument(
        "--corpora", nargs="+", default=[], metavar="NAME=PATH", help="corpora of clips to compare, too"
    )
    parser.add_argument(
        "--most", type=int, default=64, metavar="N", help="how many of these clips, at most (default: 64)"
    )
    parser.add_argument(
        "--benchmark", action="store_true", help="measure the speed of PyTorch and of the exported model"
    )
    parser.add_argument(
        "--base", metavar="MODEL", help="where an adapter's base model is, if not where the adapter says"
    )
    parser.add_argument("--revision", help="a branch, tag or commit of a model on the Hub")
    parser.add_argument("--overwrite", action="store_true", help="replace the exported model that is there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
