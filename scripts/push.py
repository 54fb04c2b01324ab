"""Publish a finished run on the Hugging Face Hub: python scripts/push.py RUN user/name"""

import argparse
import logging
import sys

from hf_ser.command_line import errors_in_one_line, path_argument
from hf_ser.hub import PushOptions, push


@errors_in_one_line()
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="One commit holds the weights, configurations, results, plots and a model card. No optimizer state, no paths of "
        "this machine and no clip names go up. A push that fails can be repeated: what is there is not uploaded again.",
    )
    parser.add_argument("run", type=path_argument, help="the run's folder, as scripts/finetune.py leaves it")
    parser.add_argument("repo_id", help="the repository: user/name, or name under your own account")
    parser.add_argument("--dry_run", action="store_true", help="change nothing, show what would change")
    parser.add_argument(
        "--private", action="store_true", default=None, help="if the repository is made, make it private"
    )
    parser.add_argument("--revision", metavar="BRANCH", help="push to this branch, made if there is none")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request instead")
    parser.add_argument("--overwrite", action="store_true", help="replace the model that is there")
    parser.add_argument(
        "--adapter_only",
        action="store_true",
        help="of a LoRA run, the adapter alone (it opens with hf_ser.load, not in a plain pipeline)",
    )
    parser.add_argument(
        "--base_model", metavar="user/name", help="the base model on the Hub, if the run began with a folder"
    )
    parser.add_argument(
        "--license", help="the model's licence, as the Hub calls it (cc-by-nc-sa-4.0); by default the corpus'"
    )
    parser.add_argument(
        "--clip_names", action="store_true", help="publish the clips' names, too, where splits.json would have hashes"
    )
    options = vars(parser.parse_args())
    run, repo_id, dry_run = (options.pop(name) for name in ("run", "repo_id", "dry_run"))
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    plan, address = push(run, repo_id, PushOptions(**options), dry_run=dry_run)
    print(plan)
    if dry_run:
        print("nothing was changed (--dry_run)")
    else:
        print(f"{'published' if plan.anything else 'all of it is there already'}: {address}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
