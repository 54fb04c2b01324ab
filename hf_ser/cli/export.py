"""
Export a model for inference on a CPU, as one ONNX file that onnxruntime runs.

    hf-ser export runs/lora_qkv --output exported/lora_qkv
    hf-ser export user/name --output exported/name --int8
    hf-ser export runs/lora_qkv --output exported/int8 --int8 --corpora ravdess=/data/RAVDESS

Adapters that can be merged are merged; the others are exported as they are. Both models predict synthetic clips, and your own,
each by itself and in padded batches; the exported one is kept only if no probability, and no value of a dimension, differs by
more than the tolerance. export.json states the differences. The folder opens with hf_ser.pipeline(FOLDER), and with
hf-ser predict FOLDER recordings/.
"""

import argparse
import logging
from typing import Any

from hf_ser.cli.options import add_options, new_parser
from hf_ser.command_line import errors_in_one_line, log_to_terminal, path_argument
from hf_ser.export import export, summary


@errors_in_one_line(interrupted="interrupted; nothing was written")
def main() -> int:
    arguments: dict[str, Any] = vars(parse_arguments())
    log_to_terminal(logging.INFO)
    print(summary(export(**arguments)))
    print(f"\nthe exported model is in {arguments['output']}")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = new_parser(__doc__)
    add_options(parser, "model", "--base", "--revision")
    parser.add_argument("--output", type=path_argument, metavar="FOLDER", required=True, help="the new folder")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="the weights of linear layers in int8: a smaller file, and faster; probabilities differ a little. For processors "
        "with VNNI (since about 2019): on older ones sums may overflow, and probabilities differ more than here",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="P",
        help="by how much a probability, or the value of a dimension, may differ (default: 1e-4, with --int8 0.05)",
    )
    parser.add_argument(
        "--clips", nargs="+", default=[], metavar="SOURCE", help="files, folders or patterns of clips to compare, too"
    )
    parser.add_argument(
        "--corpora", nargs="+", default=[], metavar="NAME=PATH", help="corpora of clips to compare, too"
    )
    parser.add_argument("--most", type=int, default=64, metavar="N", help="at most N of these clips (default: 64)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing exported model")
    return parser.parse_args()
