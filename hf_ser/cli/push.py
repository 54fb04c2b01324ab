"""Publish a finished run on the Hugging Face Hub: hf-ser push RUN user/name"""

import argparse

from hf_ser.command_line import errors_in_one_line, log_to_terminal, path_argument
from hf_ser.hub import push


@errors_in_one_line()
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="One commit with weights, configurations, results, plots and a model card; without optimizer state, paths of this "
        "machine and clip names. A push that failed can be repeated: it uploads only what is missing.",
    )
    parser.add_argument("run", type=path_argument, help="the run's folder, written by hf-ser finetune")
    parser.add_argument("repo_id", help="the repository: user/name, or name under your own account")
    parser.add_argument("--dry_run", action="store_true", help="change nothing, show what would change")
    parser.add_argument("--private", action="store_true", default=None, help="create the repository as a private one")
    parser.add_argument("--revision", metavar="BRANCH", help="push to this branch, which is created if need be")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request instead")
    parser.add_argument("--overwrite", action="store_true", help="replace the model that the repository holds")
    parser.add_argument(
        "--adapter_only",
        action="store_true",
        help="publish only the adapter of a LoRA run (hf_ser.pipeline opens it, a plain pipeline does not)",
    )
    parser.add_argument(
        "--base_model", metavar="user/name", help="the base model on the Hub, if the run started from a folder"
    )
    parser.add_argument(
        "--license",
        help="the model's licence by its identifier on the Hub, such as cc-by-nc-sa-4.0; by default that of the corpus",
    )
    parser.add_argument(
        "--clip_names", action="store_true", help="publish the names of clips and speakers, which are otherwise hashed"
    )
    options = vars(parser.parse_args())
    log_to_terminal()
    plan = push(**options)
    print(plan)
    if options["dry_run"]:
        print("nothing was changed (--dry_run)")
    else:
        print(f"{'published' if plan.anything else 'unchanged'}: {plan.url}")
    return 0
