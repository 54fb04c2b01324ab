"""Write model cards and their plots from results.json: hf-ser card runs/lora_qkv model_cards/*/"""

from pathlib import Path

from hf_ser.cli.options import new_parser
from hf_ser.command_line import path_argument, tell
from hf_ser.evaluation.plots import draw_run
from hf_ser.hub.card import write_card
from hf_ser.records import CARD
from hf_ser.results import RunResults


def main() -> int:
    parser = new_parser(__doc__)
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
    paths: list[Path] = given.pop("folders")
    if given["model_id"] and len(paths) > 1:
        parser.error("--model_id: a name belongs to one model; give one folder")
    for option in ("model_id", "base_model"):
        if (name := given[option]) and name.count("/") != 1:
            parser.error(f"--{option}: {name!r} is no name on the Hub; write it as user/name")
    failed = False
    for path in paths:
        folder = path if path.is_dir() else path.parent
        try:
            results = RunResults.read(path)
            draw_run(results, folder)
            write_card(results, folder, **given)
        except (OSError, ValueError) as error:
            tell(error)
            failed = True
        else:
            print(f"{folder / CARD} is written")
    return int(failed)
