"""
Train on each corpus and test on each other one, on the emotions that all of them have: a table and a heat map of UAR.

    hf-ser cross-corpus --corpora ravdess=/data/RAVDESS emodb=/data/EmoDB --method probe --output_dir runs/cross
    hf-ser cross-corpus ... --leave_one_out    # trains on all corpora but one

It takes the arguments of hf-ser finetune, too. The same command resumes: finished runs are kept.
"""

from pathlib import Path

from hf_ser import records
from hf_ser.claims import sole_use
from hf_ser.cli.options import add_options, new_parser
from hf_ser.command_line import errors_in_one_line, log_to_terminal, path_argument
from hf_ser.corpora import read_corpora
from hf_ser.emotions import EMOTION, EmotionSelection, parse_targets
from hf_ser.evaluation import plots
from hf_ser.training import cross_corpus, parse_arguments
from hf_ser.training.arguments import read_recipe, recipe_words
from hf_ser.training.cross_validation import cross_validate, plan


@errors_in_one_line(interrupted="interrupted; the same command goes on")
def main() -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--config", type=path_argument, metavar="RECIPE.yaml", help="defaults for all arguments")
    parser.add_argument("--leave_one_out", action="store_true", help="train on all corpora but the one that is tested")
    add_options(parser, "--jobs")
    own, rest = parser.parse_known_args()
    log_to_terminal()
    argv = [*recipe_words(read_recipe(own.config) if own.config else {}), *rest, "--split", "cross_corpus"]
    script, *_, training = parse_arguments(argv)
    if EMOTION not in parse_targets(training.targets):
        raise ValueError(
            f"targets: found {' '.join(training.targets)}, expected emotion among them: the matrix is of UAR"
        )
    corpora = read_corpora(script.corpora)
    selection = EmotionSelection.parse(script.emotions)
    emotions = cross_corpus.shared_emotions(corpora, selection)
    argv += ["--emotions", *emotions, *(f"{word}={emotion}" for word, emotion in selection.merged.items())]
    trained = cross_corpus.settings([rows[0]["corpus"] for rows in corpora], leave_one_out=own.leave_one_out)
    arguments = parse_arguments(argv)
    runs = plan(argv, arguments, {"train_corpora": trained}, None)
    root = arguments.training.folder
    with sole_use(root):
        failed = cross_validate(runs, Path(__file__).with_name("finetune.py"), jobs=own.jobs)
    if table := cross_corpus.matrix(runs):
        records.write(root / cross_corpus.SUMMARY, table)
        columns = cross_corpus.tested(table)
        values = [[row["test"].get(corpus, {}).get("uar") for corpus in columns] for row in table]
        figure = plots.heat_map(values, ["+".join(row["train"]) for row in table], columns)
        plots.save_figure(figure, root / "cross_corpus.png")
        print(cross_corpus.as_markdown(table))
        print(
            f"\nUAR in % with its 95 % interval, over {', '.join(emotions)}; the corpus that trains is tested on speakers who "
            f"were not in training; all results in {root}"
        )
    return 1 if failed else 0
