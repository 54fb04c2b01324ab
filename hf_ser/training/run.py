"""A training from corpora on disk to a folder that can be published, and the same with several seeds."""

import gc
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers.trainer_utils import HubStrategy

from hf_ser import records, splits
from hf_ser.hub import checkpoints
from hf_ser.hub.pushing import check_repository
from hf_ser.records import RESULTS, SPLITS
from hf_ser.rendering.formats import table_in_markdown, text_table
from hf_ser.rendering.tables import by_part
from hf_ser.results import RunResults
from hf_ser.splits import SplitError
from hf_ser.training.arguments import Arguments, parse_arguments
from hf_ser.training.config import SERConfig
from hf_ser.training.cross_validation import HEADINGS, Run, in_per_cent, mean_and_deviation, summarise, unfinished
from hf_ser.training.data import load_parts
from hf_ser.training.folder import alone_in_folder, checkpoint_to_resume, delete_entries, require_free
from hf_ser.training.identity import identity, require_same_run
from hf_ser.training.launch import command, launcher
from hf_ser.training.trainer import SERTrainer, require_trainable

logger = logging.getLogger(__name__)

#: The summary of runs with several seeds, in the folder above theirs.
SEEDS = "seeds.json"


def finetune(arguments: Arguments) -> RunResults:
    """
    Fine-tunes a model and leaves a run's folder: weights or adapter, `config.json`, `preprocessor_config.json`,
    `results.json`, `splits.json`, `excluded.csv`, `confusion_matrix.png`, `training_curves.png` and `README.md`.

    Under `accelerate launch` every process calls it; one of them writes.

    Returns:
        What `results.json` holds.

    Raises:
        CorpusError, SplitError: see `hf_ser.training.data.load_splits`.
        BlockingIOError: if another process trains in the folder.
        FileExistsError: if the folder holds an earlier run, and is neither to be resumed nor to be overwritten.
        OSError: if the folder cannot be written.
        ValueError: if an argument does not fit, or is not what it was in the run that is resumed.
    """
    gc.collect()  # the model of a run before: it and its Trainer refer to each other, and would stay in the GPU's memory
    require_trainable(arguments.training, arguments.tuning)
    with alone_in_folder(arguments.training):
        return _finetune(arguments)


def _finetune(arguments: Arguments) -> RunResults:
    args = arguments.training
    given = identity(arguments)  # before defaults are resolved, which depend on the model
    if args.push_to_hub:
        check_hub(args, given)
    checkpoint = find_checkpoint(args, given)
    if checkpoint is None or checkpoint.parent.resolve() != args.folder.resolve():  # it may be another run's
        require_free(args)
    if checkpoint:
        require_same_run(checkpoint.parent, given)

    parts = load_parts(arguments)
    trainer = SERTrainer(
        arguments.script.model_name_or_path,
        args,
        parts["train"],
        parts["validation"],
        arguments.tuning,
        augmentation=arguments.augmentation,
    )
    tests = [part for part in parts if part not in ("train", "validation")]
    trainer.clips |= {part: parts[part] for part in tests}
    trainer.record.command = command(sys.argv, launcher(args))
    trainer.identity |= given
    if trainer.is_world_process_zero():
        for part, entry in splits.describe(parts)["parts"].items():
            logger.info("%s: %d clips of %d speakers", part, entry["clips"], entry["speakers"])
        for warning in splits.check(parts):
            logger.warning("%s", warning)
    trainer.train(checkpoint)
    for part in ("validation", *tests):
        trainer.evaluate(parts[part], metric_key_prefix=part)
    if trainer.is_world_process_zero():
        delete_entries(args.folder, (RESULTS,))  # else the folder would look finished before the new model is in it
    trainer.save_model()
    results = trainer.create_model_card()
    tables = ("\n".join(text_table(found)) for found in by_part(trainer.metrics, trainer.probe or {}))
    logger.info("%s\nthe run is in %s", "\n\n".join(tables), args.folder)
    trainer.accelerator.wait_for_everyone()  # nobody waits for an upload, which may take longer than they would
    if args.push_to_hub:
        trainer.publish()
    return results


def finetune_seeds(argv: Sequence[str], arguments: Arguments, seeds: Sequence[int]) -> dict[str, Any]:
    """
    Trains a run with each seed, in `output_dir/seed-42` and so on, and writes `seeds.json`. Finished runs are kept, and
    interrupted ones go on, unless `overwrite_output_dir` is set.

    Under `accelerate launch` every process calls it. `argv` are the arguments of the run without a seed, and `arguments` the
    same, parsed.

    Returns:
        The metrics of each run, their means and standard deviations, see `hf_ser.training.cross_validation.summarise`.

    Raises:
        BlockingIOError, OSError: see [`finetune`].
        ValueError: if the arguments set a seed or push_to_hub, or a run is there already with other arguments.
    """
    if any(word.partition("=")[0] == "--seed" for word in argv):
        raise ValueError("seeds: seed is given, too; use one of them")
    if arguments.training.push_to_hub:
        raise ValueError(
            f"push_to_hub: one run is published, and seeds trains {len(seeds)}; leave it out, and publish one of them with "
            "scripts/push.py"
        )
    root, anew = arguments.training.folder, arguments.training.overwrite_output_dir
    runs = []
    for seed in dict.fromkeys(seeds):
        folder = root / f"seed-{seed}"
        own = ("--seed", str(seed), "--output_dir", str(folder))
        runs.append(Run({}, arguments.script.fold, seed, folder, (*argv, *own)))
    with alone_in_folder(arguments.training):
        # Read the state of all runs before the first one starts: meanwhile another process may write its files.
        waiting = [(run, () if anew else run.resumption) for run in (runs if anew else unfinished(runs))]
        for run, resumption in waiting:
            sys.argv[1:] = run.argv  # the card has the command that repeats this run alone
            finetune(parse_arguments([*run.argv, *resumption]))
        (summary,) = summarise(runs)
        if arguments.training.process_index == 0:
            records.write(root / SEEDS, summary)
    return summary


def seeds_as_markdown(summary: dict[str, Any]) -> str:
    """The metrics on test of each seed in per cent, and their means and sample standard deviations."""
    metric = summary["metric"]
    others = {"accuracy": "accuracy, %", "f1_weighted": "weighted F1, %"} if metric == "uar" else {}
    head = ["seed", HEADINGS[metric], *others.values(), f"probe's {HEADINGS[metric]}"]
    names = (metric, *others, f"probe_{metric}")
    rows = [[str(run["seed"]), *(in_per_cent(run[name]) for name in names)] for run in summary["runs"]]
    means = [summary, *(summary[name] for name in names[1:])]
    rows.append(["mean ± standard deviation", *map(mean_and_deviation, means)])
    return table_in_markdown(head, rows)


def check_hub(training: SERConfig, given: Mapping[str, Any]) -> None:
    """
    Before anything is computed, makes sure that the run can be published in its repository.

    Raises:
        FileExistsError: if there is a model, or the checkpoints of an unfinished run, neither resumed nor overwritten.
        HubError: if the token is none, or the Hub cannot be reached.
        ValueError: if the checkpoints there are not of the run that is resumed.
    """
    with training.main_process_first(desc="asking the Hub"):
        if training.process_index == 0:
            training.hub_model_id = check_repository(
                training.hub_model_id or training.folder.resolve().name,
                revision=training.hub_revision,
                overwrite=training.hub_overwrite or training.hub_create_pr,
                license=training.hub_license,
                token=training.hub_token,
            )
            resumed = training.resume_from_checkpoint
            if not resumed and (training.hub_strategy == HubStrategy.END or training.hub_overwrite):
                return
            if there := checkpoints.unfinished_run(training.hub_model_id, training.hub_revision, training.hub_token):
                require_resumed(there, training, given)


def require_resumed(there: Path, training: SERConfig, given: Mapping[str, Any]) -> None:
    """
    Makes sure that the unfinished run on the Hub, whose `run.json` and `splits.json` are in `there`, is the one that is resumed:
    its checkpoints replace those here, or are replaced by them.

    Raises:
        FileExistsError: if none is resumed.
        ValueError: if another one is.
    """
    named = f"{training.hub_model_id}, branch {checkpoints.branch(training.hub_revision)!r},"
    resumed: str | bool | None = training.resume_from_checkpoint
    if not resumed:
        raise FileExistsError(
            f"hub_model_id: {named} has the checkpoints of an unfinished run. Resume it (resume_from_checkpoint), or delete them "
            "(hub_overwrite)."
        )
    instead = "another hub_model_id or hub_revision, or go on without push_to_hub"
    require_same_run(there, given, named, instead)
    here = training.folder if resumed is True else Path(str(resumed)).parent
    if (here / SPLITS).exists():
        saved = (splits.SavedSplit.read(run / SPLITS).content for run in (here, there))
        if different := splits.differences(*saved):
            raise SplitError(
                f"{named} holds a run with other clips than the one in {str(here)!r} ({different} differ). To go on with that "
                f"one choose {instead}; to go on with the one on the Hub, another output_dir."
            )


def find_checkpoint(training: SERConfig, given: Mapping[str, Any]) -> Path | None:
    """
    The checkpoint that a run goes on from, `None` if it begins anew. The last one may come from the Hub.

    Raises:
        FileNotFoundError: if there is no checkpoint to resume from.
        ValueError: if the run in the folder is another one, and the Hub has checkpoints.
    """
    resume: str | bool | None = training.resume_from_checkpoint
    folder = training.folder
    if resume is not True or not training.push_to_hub:
        return checkpoint_to_resume(resume, folder)
    with training.main_process_first(desc="looking for a checkpoint on the Hub"):
        if training.process_index == 0 and training.hub_model_id:
            require_same_run(folder, given)  # before anything in it is replaced
            checkpoints.download(training.hub_model_id, training.hub_revision, folder, training.hub_token)
        return checkpoint_to_resume(resume, folder, nor=f", nor on the Hub, in {training.hub_model_id}")
