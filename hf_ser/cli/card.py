"""Write model cards and their plots from results.json: hf-ser card runs/lora_qkv model_cards/*/"""

import argparse
from pathlib import Path
from typing import Any

from hf_ser import records
from hf_ser.command_line import path_argument, tell
from hf_ser.evaluation import plots
from hf_ser.hub.card import CARD, write_card
from hf_ser.records import RESULTS
from hf_ser.wording import per_cent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folders", nargs="+", type=path_argument, metavar="FOLDER", help="a run, or the results.json of one"
    )
    parser.add_argument(
        "--model_id", metavar="USER/NAME", help="the model's name on the Hub, which the card's code opens"
    )
    parser.add_argument("--license", help="such as cc-by-nc-sa-4.0; by default that of the corpora")
    parser.add_argument("--language", nargs="+", metavar="CODE", help="such as en; by default those of the corpora")
    parser.add_argument("--base_model", metavar="USER/NAME", help="the encoder's name on the Hub")
    given = vars(parser.parse_args())
    folders: list[Path] = given.pop("folders")
    if given["model_id"] and len(folders) > 1:
        parser.error("--model_id: a name belongs to one model; give one folder")
    for option in ("model_id", "base_model"):
        if (name := given[option]) and name.count("/") != 1:
            parser.error(f"--{option}: {name!r} is no name on the Hub; write it as user/name")
    failed = False
    for folder in folders:
        try:
            results = records.read_results(folder / RESULTS)
            draw(results, folder)
            write_card(results, folder, **given)
        except (OSError, ValueError) as error:
            tell(error)
            failed = True
        else:
            print(f"{folder / CARD} is written")
    return int(failed)


def draw(results: dict[str, Any], folder: Path) -> None:
    """Draws the confusion matrix and the training curves."""
    test = results["metrics"]["test"]
    title = f"test ({results['split']['name']} split): UAR {per_cent(test['uar']):.1f} %"
    plots.confusion_matrix(test["confusion_matrix"], results["emotions"], folder / "confusion_matrix.png", title)
    history = [{key: value for key, value in entry.items() if value is not None} for entry in results["history"]]
    plots.training_curves(history, results["kept"]["epoch"], folder / "training_curves.png")
