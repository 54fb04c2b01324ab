"""
Search for hyperparameters with Optuna: the best mean UAR over folds of the training speakers (CCC of dimensions alone).

    hf-ser search --config RECIPE.yaml --corpora crema_d=/data/CREMA-D --trials 30 --output_dir runs/search
    hf-ser search ... --space learning_rate=1e-5:1e-3:log num_train_epochs=3:12 lora_r=4,8,16
    hf-ser finetune --config runs/search/best.yaml --output_dir runs/best

It takes the arguments of hf-ser finetune, too; the validation and the test part of their split are not used. Called again, it
goes on. pip install -e '.[search]' installs what it needs.
"""

import contextlib
import logging

from hf_ser.claims import sole_use
from hf_ser.cli.options import new_parser
from hf_ser.command_line import errors_in_one_line, importing, log_to_terminal
from hf_ser.memory import keep_freed_memory
from hf_ser.training import parse_arguments


@errors_in_one_line(interrupted="interrupted; the same command goes on")
def main() -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--trials", type=int, default=30, help="trials in all, earlier ones included; by default 30")
    parser.add_argument("--inner_folds", type=int, default=3, help="folds of the training speakers; by default 3")
    parser.add_argument(
        "--space",
        nargs="+",
        metavar="NAME=LOW:HIGH[:log]",
        help="arguments to search, in place of the default ones; NAME=VALUE,VALUE for a choice. By default learning rates, "
        "epochs, label smoothing, weight decay, layer decay with full fine-tuning, and the rank of LoRA",
    )
    own, argv = parser.parse_known_args()
    with importing("Optuna", "the search", extra="search"):
        from hf_ser.training import search
    arguments = parse_arguments(argv)
    space = search.read_space(own.space) if own.space else search.default_space(arguments)
    search.require_space(space, argv)
    keep_freed_memory()
    root = arguments.training.folder
    with sole_use(root):
        log = root / "search.log"
        log_to_terminal(logging.INFO, instead=log)
        with log.open("a", encoding="utf-8") as file, contextlib.redirect_stdout(file):  # the Trainer prints its losses
            study = search.search(argv, arguments, space, trials=own.trials, folds=own.inner_folds)
    print(search.as_markdown(study))
    print(
        f"\n{search.objective(study)}: mean over {own.inner_folds} folds of the training speakers; "
        f"{len(study.trials)} trials; best arguments: {root / search.BEST}"
    )
    return 0
