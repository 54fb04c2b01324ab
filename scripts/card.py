"""Make model cards and their plots anew from results.json: python scripts/card.py runs/lora_qkv model_cards/*/"""

import argparse
import sys
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from hf_ser import records
from hf_ser.command_line import path_argument, tell
from hf_ser.evaluation import plots
from hf_ser.hub.card import CARD, write_card
from hf_ser.records import RESULTS
from hf_ser.wording import per_cent


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="What is not given on the command line follows from results.json."
    )
    parser.add_argument(
        "folders",
        nargs="+",
        type=path_argument,
        metavar="FOLDER",
        help=f"a run's folder, or one that holds a run's {RESULTS} alone; {CARD}, confusion_matrix.png and "
        "training_curves.png in it are written anew",
    )
    parser.add_argument(
        "--model_id", metavar="USER/NAME", help="the model's name on the Hub, from where the card's code opens it"
    )
    parser.add_argument(
        "--license", help="the model's licence as the Hub spells it, such as cc-by-nc-sa-4.0; by default the corpora's"
    )
    parser.add_argument(
        "--language", nargs="+", metavar="CODE", help="the languages spoken, such as en; by default the corpora's"
    )
    parser.add_argument("--base_model", metavar="USER/NAME", help="the encoder's name on the Hub")
    arguments = parser.parse_args()
    if arguments.model_id and len(arguments.folders) > 1:
        parser.error("--model_id: a name belongs to one model; give one folder")
    for option in ("model_id", "base_model"):
        if (name := getattr(arguments, option)) and name.count("/") != 1:
            parser.error(f"--{option}: {name!r} is no name on the Hub; write it as user/name")
    given = {key: getattr(arguments, key) for key in ("model_id", "license", "language", "base_model")}
    failed = False
    for folder in arguments.folders:
        try:
            make(folder, given)
        except (OSError, ValueError) as error:
            tell(error)
            failed = True
        else:
            print(f"{folder / CARD} is written")
    return int(failed)


def make(folder: Path, given: dict[str, Any]) -> None:
    """
    Writes the card and the plots of the run in `folder`.

    Raises:
        FileNotFoundError: if there is no `results.json`.
        ValueError: if it is no JSON, or not a run's.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: there is no {RESULTS}; give the folder of a finished run")
    results = records.read(path)
    try:
        draw(results, folder)
        write_card(results, folder, **given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, TemplateError) as error:
        raise ValueError(f"{path}: not as hf_ser writes it ({type(error).__name__}: {error})") from error


def draw(results: dict[str, Any], folder: Path) -> None:
    """Draws the confusion matrix and the training curves, as far as `results` have them."""
    test, split = (results.get("metrics") or {}).get("test") or {}, results.get("split") or {}
    if test.get("confusion_matrix") and test.get("uar") is not None:
        title = f"test ({split.get('name')} split): UAR {per_cent(test['uar']):.1f} %"
        plots.confusion_matrix(test["confusion_matrix"], results["emotions"], folder / "confusion_matrix.png", title)
    if results.get("history"):
        history = [{key: value for key, value in entry.items() if value is not None} for entry in results["history"]]
        kept = (results.get("kept") or {}).get("epoch")
        plots.training_curves(history, kept, folder / "training_curves.png")


if __name__ == "__main__":
    sys.exit(main())
