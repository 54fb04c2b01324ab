"""One training, from corpora on disk to a folder that can be published."""

import logging
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.trainer_utils import HubStrategy, get_last_checkpoint

from hf_ser import encoders, features, records, splits
from hf_ser.evaluation import bootstrap, per_clip, plots, score
from hf_ser.hub import PushOptions, checkpoints, push
from hf_ser.hub.card import write_card
from hf_ser.hub.pushing import check_repository, make_repository
from hf_ser.models import Loaded, fold_training_layers, load_model
from hf_ser.models.load import load_config, resolve_checkpoint
from hf_ser.records import REPORT, RESULTS, RUN, SPLITS
from hf_ser.splits import PARTS
from hf_ser.streaming import StreamedSpeech
from hf_ser.training import probe as probing
from hf_ser.training.arguments import (
    HEAD_LEARNING_RATE,
    Arguments,
    DataArguments,
    SERTrainingArguments,
    default_learning_rate,
)
from hf_ser.training.clips import RunClips, heard, load_clips, require_heard_whole, write_set_aside
from hf_ser.training.frozen import cached_frozen_part, cached_predictions
from hf_ser.training.identity import identity, require_same_run
from hf_ser.training.results import RunRecord
from hf_ser.training.sharding import require_shardable
from hf_ser.training.trainer import SERTrainer, inverse_frequencies
from hf_ser.tuning import Tuned, fold_head, merge, mergeable, parameter_counts, save_adapter, start_at_frames, tune
from hf_ser.wording import per_cent

logger = logging.getLogger(__name__)

WEIGHTS = ("model*.safetensors", "model.safetensors.index.json", "adapter_model.safetensors", "adapter_config.json",
           "adapter")  # fmt: skip
#: What a run writes into its folder, and may delete from it.
ENTRIES = (*WEIGHTS, RESULTS, SPLITS, RUN, "set_aside.csv", "config.json", "preprocessor_config.json",
           "confusion_matrix.png", "training_curves.png", "README.md", "checkpoint-[0-9]*",
           "runs/*/events.out.tfevents.*",
           REPORT, "report.html", "report/clips.csv", "report-answers",
           *(f"report/{name}.png" for name in ("confusion_matrix", "recall", "reliability", "speakers", "robustness",
                                               "latency")))  # fmt: skip
#: What an upload or a download has left that was killed.
INTERRUPTED = f"{checkpoints.STAGED}*"


def finetune(arguments: Arguments) -> dict[str, Any]:
    """
    Fine-tunes a model and leaves a run's folder: weights or adapter, `config.json`, `preprocessor_config.json`,
    `results.json`, `splits.json`, `set_aside.csv`, `confusion_matrix.png`, `training_curves.png` and `README.md`.

    Under `accelerate launch` every process calls it; one of them writes.

    Returns:
        What `results.json` holds.

    Raises:
        CorpusError, SplitError: see `hf_ser.training.clips.load_clips`.
        FileExistsError: if the folder holds an earlier run, and nothing was said about it.
        ValueError: if an argument does not fit, or is not what it was in the run that is resumed.
    """
    began = time.perf_counter()
    data, training = arguments.data, arguments.training
    folder = Path(training.output_dir or "")
    training.require_launcher()
    require_shardable(training, "adalora" in arguments.tuning.methods)
    require_compatible(arguments)
    if training.push_to_hub:
        check_hub(arguments, folder)
    given = identity(arguments)  # before defaults are resolved, which depend on the model
    checkpoint = checkpoint_to_resume(training, folder)
    if checkpoint:
        require_same_run(Path(checkpoint).parent, arguments)
    transformers.set_seed(training.seed)

    config = load_config(resolve_checkpoint(arguments.model.model))
    clips = load_clips(data, encoders.minimum_samples(config))
    require_heard_whole(clips, data, encoders.maximum_samples(config))
    _log_split(clips)
    if checkpoint and (began_with := Path(checkpoint).parent / SPLITS).exists():
        splits.require_same(began_with, clips.split, clips.table)
    loaded, solution, probe = load_with_probe(arguments, clips)
    set_learning_rates(training, arguments, parameter_counts(loaded.model)[1])
    tuned = tune(loaded, arguments.tuning)
    if not tuned.keeps_base and not (mergeable(tuned.model) and training.save_format == "merged"):
        raise ValueError(
            "--save_format: this method changes the encoder's own weights, so that its adapter is of no use alone: it needs "
            "--save_format merged"
        )
    trainer = make_trainer(arguments, clips, tuned, loaded.feature_extractor)
    begin_run(arguments, given, folder, clips, anew=not is_in(checkpoint, folder))
    if "prompt" in arguments.tuning.methods and arguments.tuning.prompt_start == "frames":
        start_at_frames(tuned.model, some_clips(trainer))
    if solution:
        trainer.start_from(solution.start)
    record = RunRecord(arguments, clips, loaded, tuned, checkpoint, probe)
    trainer.add_callback(record)
    if arguments.tuning.method == "probe":
        trainer.keep_whole()
    else:
        with cached_frozen_part(trainer, training.frozen_cache_gb, training.frozen_cache_views):
            trainer.train(resume_from_checkpoint=checkpoint)

    parts = {part: evaluate(trainer, clips, part, data) for part in PARTS[1:]}
    record.clips = clips = heard(clips, lambda tensor: trainer.accelerator.gather(tensor.to(training.device)))
    results = _finite(record.results(trainer, parts, time.perf_counter() - began))
    if trainer.is_world_process_zero():
        save_run(folder, trainer, tuned, arguments, clips, results)
    trainer.accelerator.wait_for_everyone()  # nobody waits for an upload, which may take longer than they would
    if trainer.is_world_process_zero() and training.push_to_hub and training.hub_model_id:
        _, address = push(folder, training.hub_model_id, push_options(arguments))
        logger.info("published: %s", address)
        if training.hub_strategy != HubStrategy.END:
            checkpoints.delete(training.hub_model_id, training.hub_revision, training.hub_token)
    return results


def load_with_probe(arguments: Arguments, clips: RunClips) -> tuple[Loaded, probing.Solution | None, dict[str, Any]]:
    """
    The model that a run starts with, and its probe: what logistic regression on the frozen encoder reaches on the same parts. A
    `linear` head starts from that.

    Returns:
        The model, the solution that a `linear` head starts from, and how the probe was solved, with its metrics on `validation`
        and `test`, each between 0 and 1.

    Raises:
        ValueError: see `hf_ser.models.load_model`.
    """
    model, data, training = arguments.model, arguments.data, arguments.training

    def load(head: str) -> Loaded:
        return load_model(
            model.model,
            clips.emotions,
            head=head,
            weighted_layer_sum=model.weighted_layer_sum and head != "linear",
            mask_time_prob=model.mask_time_prob,
            mask_feature_prob=model.mask_feature_prob,
            do_normalize=model.do_normalize,
        )

    loaded = load("linear")
    untouched = {name: p.requires_grad for name, p in loaded.model.named_parameters()}
    loaded.model.base_model.requires_grad_(False)
    trainer = make_trainer(arguments, clips, Tuned(loaded.model, loaded.new), loaded.feature_extractor)
    trainer.keep_whole()
    one_label = replace(arguments.augmentation, mixup_alpha=0.0)
    solving = clips.training_set(
        data.segment_length, data.segment_overlap, one_label, training.augmentation_seed, most=probing.CLIPS
    )
    solution, found = probing.solved(trainer, solving, clips.table.speakers, training.frozen_cache_views)
    for part in PARTS[1:]:
        metrics = evaluate(trainer, clips, part, data)
        found[part] = {name: metrics[name] for name in ("clips", "uar", "accuracy", "f1_weighted", "f1_macro", "eer")}
    if model.head != "linear":
        return load(model.head), None, found
    for name, parameter in loaded.model.named_parameters():
        parameter.requires_grad_(untouched[name])
    return loaded, solution, found


def set_learning_rates(training: SERTrainingArguments, arguments: Arguments, parameters: int) -> None:
    """Sets the learning rates that were not given: by the method, the head and the number of parameters."""
    if training.learning_rate is None:
        training.set_learning_rate(default_learning_rate(arguments.tuning.method, parameters))
    if training.head_learning_rate is None and arguments.model.head == "linear":
        training.head_learning_rate = HEAD_LEARNING_RATE


def require_compatible(arguments: Arguments) -> None:
    """
    Raises:
        ValueError: if arguments of different groups exclude each other.
    """
    if arguments.training.focal_gamma and arguments.augmentation.mixup_alpha:
        raise ValueError(
            "--focal_gamma: needs one true emotion for each clip, and --mixup_alpha gives it two; use one of them"
        )
    if arguments.training.balanced_sampling and arguments.data.streaming:
        raise ValueError(
            "--balanced_sampling: draws any clip at any time, and --streaming reads each once in an epoch; use --class_weights"
        )


def check_hub(arguments: Arguments, folder: Path) -> None:
    """
    Before anything is computed: whether the run can be published where it shall be.

    Raises:
        FileExistsError: if there is a model, or the checkpoints of another run, and nothing was said about them.
        HubError: if the token is none, or the Hub cannot be reached.
    """
    training = arguments.training
    with training.main_process_first(desc="asking the Hub"):
        if training.process_index == 0:
            training.hub_model_id = check_repository(
                training.hub_model_id or folder.resolve().name, push_options(arguments)
            )
            resuming = str(training.resume_from_checkpoint or False).lower() != "false"
            if training.hub_strategy == HubStrategy.END or resuming or arguments.hub.hub_overwrite:
                return
            branch = checkpoints.branch(training.hub_revision)
            if checkpoints.whose(training.hub_model_id, training.hub_revision, training.hub_token):
                raise FileExistsError(
                    f"--hub_strategy: {training.hub_model_id} has the checkpoints of an unfinished run on its branch {branch!r}. "
                    "Go on with it by --resume_from_checkpoint True, or delete them with --hub_overwrite True."
                )


def push_options(arguments: Arguments) -> PushOptions:
    """How the arguments want the run to be published."""
    training, hub = arguments.training, arguments.hub
    return PushOptions(
        private=training.hub_private_repo,
        revision=training.hub_revision,
        create_pr=hub.hub_create_pr,
        overwrite=hub.hub_overwrite,
        clip_names=hub.hub_clip_names,
        base_model=hub.hub_base_model,
        license=hub.hub_license,
        token=training.hub_token,
    )


def checkpoint_to_resume(training: SERTrainingArguments, folder: Path) -> str | None:
    """
    The checkpoint that a run goes on from, `None` if it begins anew. Makes sure that it may write into `folder`, if the
    checkpoint is not of the run there.

    Raises:
        FileExistsError: if there is an earlier run (or anything else) in it, and nothing was said about it.
        FileNotFoundError: if there is no checkpoint to resume from.
    """
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    resume = str(training.resume_from_checkpoint or False)  # on the command line True is a word
    if resume.lower() != "false":
        if resume.lower() == "true" and training.push_to_hub:
            with training.main_process_first(desc="looking for a checkpoint on the Hub"):
                if training.process_index == 0 and training.hub_model_id:
                    checkpoints.download(training.hub_model_id, training.hub_revision, folder, training.hub_token)
                last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
        checkpoint = last if resume.lower() == "true" else resume
        if checkpoint is None or not Path(checkpoint).is_dir():
            raise FileNotFoundError(
                f"--resume_from_checkpoint: there is no checkpoint in {str(checkpoint or folder)!r}"
                + (f", nor on the Hub, in {training.hub_model_id}" if training.push_to_hub else "")
            )
        if is_in(checkpoint, folder):
            return checkpoint
    else:
        checkpoint = None
    finished = (folder / RESULTS).exists()
    if folder.is_dir() and any(folder.iterdir()):
        if not training.overwrite_output_dir:
            kind = "a finished run" if finished else f"an unfinished run ({last})" if last else "other files"
            go_on = " --resume_from_checkpoint True to go on with it," if last and not finished else ""
            raise FileExistsError(
                f"--output_dir: {str(folder)!r} holds {kind}. Choose another folder,{go_on} or --overwrite_output_dir True to "
                "delete it and start anew."
            )
        if not (finished or last or (folder / SPLITS).exists()):
            raise FileExistsError(f"--overwrite_output_dir: {str(folder)!r} holds no run; it is left alone.")
    return checkpoint


def is_in(checkpoint: str | None, folder: Path) -> bool:
    """Whether a checkpoint is one of the run in `folder`: it is not if there is none, or it is another run's."""
    return checkpoint is not None and Path(checkpoint).resolve().parent == folder.resolve()


def begin_run(arguments: Arguments, given: dict[str, Any], folder: Path, clips: RunClips, *, anew: bool) -> None:
    """
    If it begins `anew`, deletes what an earlier run left in `folder`, only now that this one is ready. Writes its
    arguments and its split, with which those of a resumed run are compared. Makes its repository.
    """
    training = arguments.training
    with training.main_process_first(desc="beginning the run"):
        if training.process_index == 0:
            if training.push_to_hub and training.hub_model_id:
                make_repository(training.hub_model_id, push_options(arguments))
            delete_entries(folder, (*ENTRIES, INTERRUPTED) if anew else (INTERRUPTED,))
            folder.mkdir(parents=True, exist_ok=True)
            records.write(folder / RUN, given)
            clips.split.save(folder / SPLITS, clips.table)
            write_set_aside(clips.set_aside, folder / "set_aside.csv")


def delete_entries(folder: Path, patterns: Sequence[str]) -> None:
    """Deletes what a run has left in `folder`."""
    for entry in [path for pattern in patterns for path in folder.glob(pattern)]:
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def make_trainer(
    arguments: Arguments, clips: RunClips, tuned: Tuned, feature_extractor: transformers.SequenceFeatureExtractor
) -> SERTrainer:
    """The Trainer of a run: train with augmentation, validation longest clip first."""
    data, training = arguments.data, arguments.training
    cutting = (data.segment_length, data.segment_overlap)
    train = clips.training_set(*cutting, arguments.augmentation, training.augmentation_seed)
    labels = clips.clips["label"][:]
    weights = None
    if training.class_weights:
        weights = inverse_frequencies([labels[clip] for clip in train.segments.clip], len(clips.emotions))
    return SERTrainer(
        tuned,
        training,
        collator=features.SpeechCollator(feature_extractor, encoders.minimum_samples_in_training(tuned.model.config)),
        train_dataset=train,
        eval_dataset=clips.evaluation_set("validation", *cutting),
        weights=weights,
    )


def some_clips(trainer: SERTrainer, count: int = 16) -> Iterator[dict[str, torch.Tensor]]:
    """What the model takes of some clips of the training, one at a time: of all over a corpus, the first ones of a stream."""
    dataset = trainer.train_dataset
    device = next(trainer.model.parameters()).device
    step = 1 if isinstance(dataset, StreamedSpeech) else max(len(dataset) // count, 1)
    for segment in range(0, len(dataset), step)[:count]:
        clip = dataset[segment]
        if clip["label"] != features.IGNORED:
            batch = trainer.data_collator([clip])
            yield {
                name: value.to(device)
                for name, value in batch.items()
                if name not in ("clip", "labels", *features.MIXUP)
            }


def evaluate(trainer: SERTrainer, clips: RunClips, part: str, data: DataArguments) -> dict[str, Any]:
    """The kept model's metrics on a part, per clip, each between 0 and 1."""
    dataset = clips.evaluation_set(part, data.segment_length, data.segment_overlap)
    with cached_predictions(trainer, dataset, trainer.args.frozen_cache_gb) as dataset:
        prediction = trainer.predict_clips(dataset)
    labels, rows = prediction.label_ids
    rows, probabilities, labels = per_clip(prediction.predictions, labels, rows)
    figures = score(probabilities, labels)
    logger.info(
        "%s (%s split, %d clips): %s",
        part,
        clips.split.name,
        len(labels),
        ", ".join(f"{name} {100 * value:.2f} %" for name, value in figures.items() if isinstance(value, float)),
    )
    recalls = [row[k] / sum(row) if sum(row) else None for k, row in enumerate(figures["confusion_matrix"])]
    return {
        "clips": len(labels),
        **figures,
        "recall": dict(zip(clips.emotions, recalls, strict=True)),
        "intervals": bootstrap.intervals(probabilities, labels, [clips.table.speakers[row] for row in rows]),
    }


def save_run(
    folder: Path, trainer: SERTrainer, tuned: Tuned, arguments: Arguments, clips: RunClips, results: dict[str, Any]
) -> None:
    """Writes the run's folder: what goes to the Hub, beside the Trainer's checkpoints."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    extractor = trainer.processing_class
    write_set_aside(clips.set_aside, folder / "set_aside.csv")  # a stream knows them only now
    delete_entries(folder, WEIGHTS)  # those of another --save_format would belong to no figure
    if hasattr(model, "peft_config"):
        merged = mergeable(model) and arguments.training.save_format == "merged"
        adapter = folder / "adapter" if merged else folder
        # A folder is found again from wherever the adapter is opened.
        base = Path(arguments.model.model).expanduser()
        new = fold_head(model, tuned.new)
        if tuned.keeps_base:
            save_adapter(model, new, adapter, base=str(base.resolve()) if base.is_dir() else arguments.model.model)
            extractor.save_pretrained(adapter)
            model.config.save_pretrained(adapter)
        if merged:
            merge(model).save_pretrained(folder)
    else:
        fold_training_layers(model).save_pretrained(folder)
    extractor.save_pretrained(folder)
    test = results["metrics"]["test"]
    plots.confusion_matrix(
        test["confusion_matrix"],
        clips.emotions,
        folder / "confusion_matrix.png",
        f"test ({clips.split.name} split): UAR {per_cent(test['uar']):.1f} %",
    )
    plots.training_curves(trainer.state.log_history, results["kept"]["epoch"], folder / "training_curves.png")
    write_card(results, folder)
    records.write(folder / RESULTS, results)
    logger.info("the run is in %s", folder)


def _finite(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _log_split(clips: RunClips) -> None:
    split = clips.split.describe(clips.table)
    for part, figures in split["parts"].items():
        logger.info("%s: %d clips of %d speakers", part, figures["clips"], figures["speakers"])
    for part in ("test", "validation"):
        shared = split[f"speakers_shared_by_train_and_{part}"]
        logger.info("%s split: %d speakers are in both train and %s", split["name"], shared, part)
