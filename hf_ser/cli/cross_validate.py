"""
Every fold and seed of an experiment, and mean and standard deviation of its UAR; with --sweep, of several settings.

    hf-ser cross-validate --config RECIPE.yaml --corpora crema_d=/data/CREMA-D --split kfold --output_dir runs/cv
    hf-ser cross-validate ... --sweep method=frozen,adapter,prompt lora_r=8,16 --seeds 1 2 3

It takes the arguments of hf-ser finetune, too. The same command resumes: finished runs are kept.
"""

from dataclasses import fields
from pathlib import Path

from hf_ser import records
from hf_ser.claims import sole_use
from hf_ser.cli.options import add_options, new_parser
from hf_ser.command_line import errors_in_one_line, log_to_terminal, path_argument
from hf_ser.evaluation import plots
from hf_ser.training import cross_validation, parse_arguments
from hf_ser.training.arguments import GROUPS, read_recipe, recipe_words
from hf_ser.wording import listed


@errors_in_one_line(interrupted="interrupted; the same command goes on")
def main() -> int:
    parser = new_parser(__doc__)
    parser.add_argument(
        "--config",
        type=path_argument,
        metavar="RECIPE.yaml",
        help="defaults for all arguments; may have sweep and seeds",
    )
    parser.add_argument(
        "--sweep",
        nargs="+",
        metavar="ARGUMENT=VALUE,VALUE",
        help="values of an argument; every combination is trained on every fold",
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds of the training; by default one")
    add_options(parser, "--jobs")
    parser.add_argument("--plan", action="store_true", help="print the planned runs and train nothing")
    own, rest = parser.parse_known_args()
    log_to_terminal()
    recipe = read_recipe(own.config) if own.config else {}
    sweep = cross_validation.read_sweep(recipe.pop("sweep", None), own.sweep or [])
    known = {field.name for group in GROUPS for field in fields(group)} | {"config"}
    if unknown := [name for name in sweep if name not in known]:
        raise ValueError(f"--sweep: hf-ser finetune has no argument {listed(map(repr, unknown), 'or')}; see its --help")
    given = recipe.pop("seeds", None)
    seeds = own.seeds or cross_validation.read_seeds(given)
    argv = [*recipe_words(recipe), *rest]
    arguments = parse_arguments(argv)
    runs = cross_validation.plan(argv, arguments, sweep, seeds)
    for one_of_its_runs in {tuple(run.setting.items()): run for run in runs}.values():
        parse_arguments(one_of_its_runs.argv)  # a value that cannot be would end it only when its turn comes
    if own.plan:
        for run in runs:
            print(run.folder, *(f"{key}={value}" for key, value in run.setting.items()))
        return 0
    root = arguments.training.folder
    with sole_use(root):
        failed = cross_validation.cross_validate(runs, Path(__file__).with_name("finetune.py"), jobs=own.jobs)
    table = cross_validation.summarise(runs)
    if table:
        records.write(root / cross_validation.SUMMARY, table)
        plots.save_figure(plots.sweep(table), root / "sweep.png")
        print(cross_validation.as_markdown(table))
        print(
            f"\nmean ± sample standard deviation over folds and seeds; {table[0]['split']} split; all results in {root}"
        )
    return 1 if failed else 0
