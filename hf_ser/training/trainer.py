"""The trainer: from datasets of clips and a model's name to a model that can be published."""

import copy
import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from peft import PeftConfig
from transformers import PreTrainedModel, SequenceFeatureExtractor, TrainerCallback
from transformers.trainer_utils import HubStrategy, IntervalStrategy, PredictionOutput, SchedulerType, TrainOutput

from hf_ser import splits
from hf_ser.audio import Augmentation
from hf_ser.clips import as_clips, column, excluded_of, names_of, numbered_as, write_excluded
from hf_ser.emotions import EMOTION
from hf_ser.evaluation import normalised, per_clip
from hf_ser.evaluation.measures import Evaluated
from hf_ser.evaluation.metrics import EMOTION_METRICS, confusion
from hf_ser.evaluation.plots import draw_run
from hf_ser.hub import checkpoints, fetch_base
from hf_ser.hub.card import write_card
from hf_ser.hub.pushing import Plan, push
from hf_ser.modeling import Loaded, families, fold_training_layers, load_model, split_outputs
from hf_ser.records import EXCLUDED, SPLITS
from hf_ser.results import RunResults
from hf_ser.targets import Targets
from hf_ser.training.averaging import Weights, trained_weights
from hf_ser.training.base import BaseTrainer
from hf_ser.training.checkpoints import CheckpointingTrainer, head_weights
from hf_ser.training.config import SERConfig
from hf_ser.training.data import require_compatible, require_length, segments_of, speech_of
from hf_ser.training.dataset import SpeechCollator, SpeechDataset
from hf_ser.training.folder import (
    ENTRIES,
    INTERRUPTED,
    SAVED,
    UNSAVED,
    checkpoint_to_resume,
    delete_entries,
    holds_run,
    require_free,
)
from hf_ser.training.frozen import cached_frozen_part, cached_predictions
from hf_ser.training.identity import require_same_run, training_identity, write_identity
from hf_ser.training.losses import frequencies
from hf_ser.training.probe import Solution, most_clips, solve_probe
from hf_ser.training.run_record import RunRecord
from hf_ser.training.sampling import longest_first
from hf_ser.training.sharding import require_shardable
from hf_ser.training.streaming import StreamedSpeech
from hf_ser.tuning import (
    Tuned,
    Tuning,
    fold_head,
    merge,
    mergeable,
    parameter_counts,
    save_adapter,
    start_at_frames,
    tune,
)

logger = logging.getLogger(__name__)

#: Metrics in `report.json` but not in `results.json`.
IN_REPORTS_ALONE = ("ece", "log_loss", "eer_by_emotion")
#: The metrics of the probe that stand beside the model's.
PROBE_METRICS = ("clips", *EMOTION_METRICS, "ccc")


class SERTrainer(CheckpointingTrainer):
    """
    Fine-tunes a pretrained speech encoder to recognise emotion.

    With the default head, training starts from a solved probe (a logistic regression on the frozen encoder), and the metrics of
    that probe stand beside the model's in results and card. Weights, results, card and plots go to `args.output_dir` with
    [`save_model`] and [`create_model_card`], and to the Hub with [`push_to_hub`].

    Args:
        model (`str`, `Path` or `PreTrainedModel`):
            A name on the Hub, a folder, or a model; of Whisper the encoder is used. A head that recognises other emotions is
            replaced.
        args (`SERConfig`): The arguments of training.
        train_dataset (`datasets.Dataset`):
            Clips with `audio` and `label`, from [`hf_ser.load_corpora`] or anywhere else; see [`hf_ser.clips.as_clips`].
        eval_dataset (`datasets.Dataset`, *optional*): Validation clips: for metrics after each epoch, and to choose the weights
            that are kept.
        peft_config (`str`, `PeftConfig` or `Tuning`, *optional*):
            What trains: a method's name (`lora_qkv`, `frozen`, `adapter+lora_ff` ...), any configuration of PEFT, or none for
            full fine-tuning.
        processing_class (`SequenceFeatureExtractor`, *optional*): By default the model's own.
        augmentation (`Augmentation`, *optional*): How training clips are changed; by default as
            [`~hf_ser.audio.Augmentation`] does.
        callbacks (`list[TrainerCallback]`, *optional*): More callbacks.

    Raises:
        ValueError: if an argument does not fit the model or the method.
        CorpusError: if a dataset lacks a column, or the encoder does not take clips of their length.
    """

    args: SERConfig

    def __init__(
        self,
        model: str | Path | PreTrainedModel,
        args: SERConfig,
        train_dataset: Dataset,
        eval_dataset: Dataset | None = None,
        peft_config: "str | PeftConfig | Tuning | None" = None,
        processing_class: SequenceFeatureExtractor | None = None,
        *,
        augmentation: Augmentation | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        self.tuning = Tuning.of(peft_config)
        self.args = args = copy.copy(args)  # what depends on model and data is resolved in it
        require_trainable(args, self.tuning)
        transformers.set_seed(args.seed)
        if eval_dataset is None:
            if args.load_best_model_at_end:
                raise ValueError(
                    "load_best_model_at_end: the best model on validation needs an eval_dataset, found none"
                )
            if (schedule := SchedulerType(args.lr_scheduler_type).value) in ("reduce_lr_on_plateau", "greedy"):
                raise ValueError(
                    f"lr_scheduler_type={schedule}: the rate follows the loss on an eval_dataset, found none"
                )
            args.eval_strategy = IntervalStrategy.NO
        self.augmentation = augmentation or Augmentation()
        self.starting_model = StartingModel(model, processing_class)
        #: The clips of each part, by `train`, `validation` and `test`.
        self.clips: dict[str, Dataset] = {"train": as_clips(train_dataset)}
        require_compatible(args, self.augmentation, self.clips["train"])
        self.targets = Targets.of(self.clips["train"], args.targets)
        self.emotions = self.targets.emotions
        #: What another run must have in common with this one to go on with it, see `hf_ser.training.identity`.
        self.identity = {"labels": list(self.emotions)} | training_identity(
            self.starting_model.name,
            self.tuning,
            self.augmentation,
            args,
            streaming=bool(self.clips["train"].info.stream),
        )
        if eval_dataset is not None:
            self.clips["validation"] = self._clips_of(eval_dataset)
        self.metrics: dict[str, dict[str, Any]] = {}
        self.probe: dict[str, Any] | None = None
        self._probe_head: dict[str, torch.Tensor] = {}

        loaded = self._load(args.head)
        for clips in self.clips.values():
            require_length(clips, args, loaded.model.config)
        tuned = tune(loaded, self.tuning)
        self.keeps_base = tuned.keeps_base
        if not tuned.keeps_base and not (mergeable(tuned.model) and args.save_format == "merged"):
            raise ValueError(
                f"save_format={args.save_format!r}: this method changes the encoder's own weights, so that its adapter is of no "
                "use alone; expected 'merged', and a method that can be merged"
            )
        args.resolve_learning_rates(self.tuning.method, parameter_counts(loaded.model)[1])
        train = self._training_set()
        super().__init__(
            tuned,
            args,
            collator=SpeechCollator(loaded.feature_extractor, families.minimum_samples_in_training(tuned.model.config)),
            train_dataset=train,
            eval_dataset=self._evaluation_set(self.clips["validation"]) if "validation" in self.clips else None,
            callbacks=callbacks or (),
        )
        self.record = RunRecord(self, loaded)
        self.add_callback(self.record)

    def _load(self, head: str) -> Loaded:
        args = self.args
        return load_model(
            self.starting_model.path,
            self.emotions,
            self.targets.dimensions,
            head=head,
            weighted_layer_sum=args.weighted_layer_sum and head != "linear",
            mask_time_prob=args.mask_time_prob,
            mask_feature_prob=args.mask_feature_prob,
            do_normalize=args.do_normalize,
            feature_extractor=self.starting_model.feature_extractor,
        )

    def _training_set(self, augmentation: Augmentation | None = None, most: int | None = None) -> SpeechDataset:
        """The segments that train; if there are more than `most`, so many of them, drawn at random."""
        clips = self.clips["train"]
        segments = segments_of(clips, self.args)
        seed = 0 if self.args.frozen_cache_views else self.args.seed  # runs with other seeds take the same kept views
        if most is not None and len(segments) > most:
            segments = segments.take(np.sort(np.random.default_rng(seed).choice(len(segments), most, replace=False)))
        augmentation = augmentation or self.augmentation
        return speech_of(clips, segments, augmentation=augmentation, seed=seed, targets=self.targets)

    def _evaluation_set(self, clips: Dataset) -> SpeechDataset:
        """The segments of clips for an evaluation: the longest first, or as they come from the Hub."""
        segments = segments_of(clips, self.args)
        return speech_of(clips, segments if clips.info.stream else longest_first(segments), targets=self.targets)

    def _clips_of(self, dataset: Dataset) -> Dataset:
        """The clips of a dataset, with the model's labels."""
        clips = as_clips(dataset)
        return numbered_as(clips, self.emotions) if self.emotions else clips

    def train(self, resume_from_checkpoint: str | Path | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """
        Trains. It solves the probe first, and starts a `linear` head from it. A second call goes on from the weights of the
        first one. The method `probe` takes no steps after that.

        Args:
            resume_from_checkpoint (`str`, `Path` or `bool`, *optional*): A checkpoint, or `True` for the last one in
                `output_dir`.

        Raises:
            FileExistsError: if `output_dir` holds an earlier run, and neither `resume_from_checkpoint` nor
                `overwrite_output_dir` is set.
            FileNotFoundError: if there is no checkpoint to resume from.
            ValueError: if the run that is resumed was started with other arguments or clips.
        """
        checkpoint = checkpoint_to_resume(resume_from_checkpoint, self.args.folder)
        self._begin(checkpoint)
        if self.interpolation_start is None:  # a second training goes on from the first one
            self.interpolation_start = self._start()
        self.record.began = time.perf_counter()  # what is computed once for all epochs counts
        output = TrainOutput(0, 0.0, {})
        if self.tuning.method == "probe":
            self.end_training()
        else:
            with cached_frozen_part(self):
                output = super().train(checkpoint and str(checkpoint), *args, **kwargs)
        self.metrics.clear()  # of the model as it was before the end
        return output

    def _begin(self, checkpoint: Path | None) -> None:
        """
        Writes the run's identity and its split, with which those of a resumed run are compared. If the run begins anew, deletes
        what an earlier one left in the folder, only now that this one is ready.
        """
        args, folder = self.args, self.args.folder
        began = {}
        if checkpoint:
            began = require_same_run(checkpoint.parent, self.identity)
            if (path := checkpoint.parent / SPLITS).exists():
                splits.require_same_splits(path, self.clips)
            self.record.resume(checkpoint.name, began.get("hf_ser"))
        here = checkpoint is not None and checkpoint.parent.resolve() == folder.resolve()
        again = self.interpolation_start is not None
        if earlier := not (here or again) and holds_run(args):
            require_free(args)
        with args.main_process_first(desc="beginning the run"):
            if args.process_index == 0:
                delete_entries(folder, (*ENTRIES, *INTERRUPTED) if earlier else INTERRUPTED)
                folder.mkdir(parents=True, exist_ok=True)
                write_identity(folder, self.identity, began)
                self.save_splits(folder)

    def _start(self) -> Weights:
        """Solves the probe, and puts the model where its training starts. Returns the start of the interpolation, if any."""
        solution = self._solve_probe()
        if "prompt" in self.tuning.methods and self.tuning.prompt_start == "frames":
            start_at_frames(self.model, some_clips(self))
        if self.args.head != "linear":
            return {}
        self.set_head(self._probe_head)
        start = trained_weights(self.model) if self.args.interpolation else {}
        if not self._head_alone:  # the encoder trains, too
            self.set_projection(solution.start)
        return start

    def _probe_trainer(self) -> BaseTrainer:
        """A Trainer that predicts with the probe: the frozen encoder, with its head if it is solved already."""
        loaded = self._load("linear")
        loaded.model.base_model.requires_grad_(False)
        args = copy.copy(self.args)
        args.push_to_hub = False  # the repository is there already
        trainer = BaseTrainer(
            Tuned(loaded.model, loaded.new),
            args,
            collator=SpeechCollator(loaded.feature_extractor, families.minimum_samples(loaded.model.config)),
            train_dataset=self.train_dataset,
            eval_dataset=self.eval_dataset,
        )
        trainer.end_training()
        if self._probe_head:
            trainer.set_head(self._probe_head)
        return trainer

    def _solve_probe(self) -> Solution:
        trainer = self._probe_trainer()
        dataset = self._training_set(replace(self.augmentation, mixup_alpha=0.0), most=most_clips(trainer))
        speakers = column(self.clips["train"], "speaker")
        solution, self.probe = solve_probe(trainer, dataset, speakers)
        self._probe_head = head_weights(trainer.model)
        if self.tuning.method != "probe":
            # The clips that are known already: the encoder need not be loaded again for them.
            for part, clips in self.clips.items():
                if part != "train":
                    self._note_probe(part, self._measured(trainer, clips)[1])
        return solution

    def _note_probe(self, part: str, metrics: Mapping[str, Any]) -> None:
        assert self.probe is not None
        self.probe[part] = {name: metrics[name] for name in PROBE_METRICS if name in metrics}

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, Any]:
        """
        Metrics over clips, in float32 whatever the precision of training. UAR, accuracy, F1 and EER are between 0 and 1.

        Args:
            eval_dataset (`datasets.Dataset`, *optional*): Clips; by default the validation clips. (transformers calls it so after
                each epoch, too: then with fewer metrics, and in the precision of training.)
            metric_key_prefix (`str`, defaults to `"eval"`): The start of the metrics' names. It is also the name of the part in
                results and card, such as `validation`, `test` or `test2`. With `"eval"` the part is the one that has the same
                clips, else `test`. Metrics of the training clips are returned, and not stored.

        Returns:
            `eval_clips`, `eval_loss`. Of emotions `eval_uar`, `eval_accuracy`, `eval_f1_weighted`, `eval_f1_macro`, `eval_eer`,
            `eval_recall` by emotion, `eval_confusion_matrix`, `eval_intervals` (95 %, by clip and by speaker). Of distributions
            `eval_distribution`, and of dimensions `eval_ccc`, the mean, and `eval_dimensions`; see
            `hf_ser.evaluation.dimensions`.
        """
        if eval_dataset is None and not self.is_in_train:
            eval_dataset = self.clips.get("validation")
        if not isinstance(eval_dataset, Dataset):  # of an epoch
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        clips = self._clips_of(eval_dataset)
        part = metric_key_prefix
        if part == "eval":
            names = names_of(clips)
            part = next((name for name, known in self.clips.items() if names_of(known) == names), "test")
        _, found = self._measured(self, clips)
        if part != "train":
            before = self.clips.get(part)
            self.clips[part] = clips
            self.metrics[part] = {name: value for name, value in found.items() if name != "loss"}
            if self.probe is not None and not (part in self.probe and clips is before):
                of_probe = self.tuning.method == "probe"
                self._note_probe(part, found if of_probe else self._measured(self._probe_trainer(), clips)[1])
        return {f"{metric_key_prefix}_{name}": value for name, value in found.items()}

    def predict(
        self, test_dataset: Any, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """
        Predictions for clips with labels, in float32; for clips without, see [`hf_ser.pipeline`]. They are not in the results.

        Args:
            test_dataset (`datasets.Dataset`): Clips.
            metric_key_prefix (`str`, defaults to `"test"`): The start of the metrics' names.

        Returns:
            `predictions` `(clips, outputs)`: the probabilities of the emotions, then the values of the dimensions. `label_ids`:
            the true emotions `(clips,)`, or for a model of dimensions alone their true values `(clips, dimensions)`. `metrics`:
            those of [`evaluate`]. Clips that cannot be used, or that have no label, have no row.
        """
        if isinstance(test_dataset, SpeechDataset):  # of `predict_clips`
            return super().predict(test_dataset, ignore_keys, metric_key_prefix)
        clips = self._clips_of(test_dataset)
        evaluated, metrics = self._measured(self, clips)
        return PredictionOutput(
            np.concatenate([evaluated.probabilities, evaluated.values], axis=1),
            evaluated.labels if self.emotions else evaluated.truth,
            {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()},
        )

    def _measured(self, trainer: BaseTrainer, clips: Dataset) -> tuple[Evaluated, dict[str, Any]]:
        """The predictions of a Trainer for clips, and their metrics."""
        require_length(clips, self.args, self.model.config)
        dataset = self._evaluation_set(clips)
        with cached_predictions(trainer, dataset) as dataset:
            prediction = trainer.predict_clips(dataset)
        labels, segments = prediction.label_ids
        rows, outputs, _ = per_clip(prediction.predictions, labels, segments, len(self.emotions))
        probabilities, values = np.split(outputs, [len(self.emotions)], axis=1)
        evaluated = Evaluated.of(
            clips.select(rows), self.emotions, self.targets.dimensions, probabilities, values,
            by_votes=EMOTION not in self.targets.weights,
        )  # fmt: skip
        found = {name: value for name, value in evaluated.metrics(seed=0).items() if name not in IN_REPORTS_ALONE}
        found["loss"] = prediction.metrics["_loss"]
        for name, of in found.get("dimensions", {}).items():
            if of["ccc"] is None:
                logger.warning("%s: CCC is undefined on %d clips, whose labels are all the same", name, of["clips"])
        if not (labelled := evaluated.labelled):
            return evaluated, found
        found["intervals"] = evaluated.measures[EMOTION].intervals()
        if by := self.args.normalise_by:
            prior = np.full(len(self.emotions), 1 / len(self.emotions))
            if self.args.balance == "none":
                prior = frequencies(self.train_dataset.emotions, len(prior)).double().numpy()
            groups = list(column(clips, by).take(rows))
            adapted = replace(evaluated, probabilities=normalised(probabilities, groups, prior))
            matrix = confusion(adapted.probabilities[labelled], adapted.labels[labelled])
            found["normalised"] = {"by": by, **adapted.measures[EMOTION].metrics(seed=0), "confusion_matrix": matrix}
        return evaluated, found

    def results(self) -> RunResults:
        """What `results.json` holds: metrics with their split and intervals, parameters, times, versions, arguments."""
        if "validation" in self.clips and "validation" not in self.metrics:
            self.evaluate(self.clips["validation"], metric_key_prefix="validation")
        if stream := self.clips["train"].info.stream:  # each process has decoded clips of its own
            for found, unknown in ((stream.seconds, math.nan), (stream.reason, 0)):
                most = self.accelerator.gather(found.nan_to_num(0)[None].to(self.args.device)).amax(dim=0)
                found.copy_(torch.where(most > 0, most, unknown))
        return self.record.results()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """
        Saves the model. A checkpoint, with an adapter merged in that is also in `adapter/`, opens in transformers' pipeline.
        With `save_format="adapter"`, and of methods that cannot be merged, the adapter alone is saved, which opens in
        [`hf_ser.pipeline`].
        """
        if _internal_call:
            super().save_model(output_dir, _internal_call)
        elif self.is_world_process_zero():
            folder = Path(output_dir or self.args.folder)
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=UNSAVED, dir=folder) as unsaved:  # on a full disk an earlier model stays
                self._save_whole(Path(unsaved))
                delete_entries(folder, SAVED)  # a model of another format would be opened in place of this one
                for path in Path(unsaved).iterdir():
                    path.rename(folder / path.name)

    def _save_whole(self, folder: Path) -> None:
        # A copy: folding the head and merging the adapter would end the training of the model itself.
        model = copy.deepcopy(self.accelerator.unwrap_model(self.model)).cpu()
        extractor: Any = self.processing_class
        if hasattr(model, "peft_config"):
            merged = mergeable(model) and self.args.save_format == "merged"
            adapter = folder / "adapter" if merged else folder
            new = fold_head(model, self._new)
            if self.keeps_base:
                save_adapter(model, new, adapter, base=self.starting_model.base)
                extractor.save_pretrained(adapter)
                model.config.save_pretrained(adapter)
            if merged:
                split_outputs(merge(model)).save_pretrained(folder)
        else:
            split_outputs(fold_training_layers(model)).save_pretrained(folder)
        extractor.save_pretrained(folder)

    def create_model_card(self, output_dir: str | None = None, **given: Any) -> RunResults:
        """
        Writes `README.md`, the model card, and what it is made of: `results.json`, `splits.json`, `excluded.csv`,
        `confusion_matrix.png` and `training_curves.png`.

        Args:
            output_dir (`str`, *optional*): The folder, by default the run's.
            **given: See [`~hf_ser.hub.card.make_card`]: `license`, `language`, `tags` ...

        Returns:
            What `results.json` holds.

        Raises:
            ValueError: if no clips were tested: a card states metrics.
        """
        if "test" not in self.metrics:
            raise ValueError(
                "a model card states metrics on clips that were not in training: call evaluate(test_dataset) first"
            )
        results = self.results()
        if not self.is_world_process_zero():
            return results
        folder = Path(output_dir or self.args.folder)
        self.save_splits(folder)
        draw_run(results, folder)
        write_card(results, folder, **given)
        results.write(folder)
        self.keep_best_checkpoint()
        return results

    def save_splits(self, folder: Path) -> None:
        """Writes `splits.json` and `excluded.csv`."""
        folder.mkdir(parents=True, exist_ok=True)
        splits.save_splits(self.clips, folder / SPLITS)
        write_excluded(excluded_of(self.clips), folder / EXCLUDED)

    def push_to_hub(self, repo_id: str | None = None, **options: Any) -> Plan | None:
        """
        Saves the model and its card, and publishes them in one commit.

        Args:
            repo_id (`str`, *optional*): The repository, `user/name`; by default `args.hub_model_id`.
            options: See [`hf_ser.hub.push`]: `private`, `revision`, `create_pr`, `overwrite`, `license`, `token` ...

        Returns:
            What was changed, with the commit's `url`; `None` on other processes than the first.

        Raises:
            FileExistsError: if the push would change or delete files of the repository and `overwrite` is not set.
        """
        self.save_model()
        self.create_model_card()
        return self.publish(repo_id, **options)

    def publish(self, repo_id: str | None = None, **options: Any) -> Plan | None:
        """Publishes the run's folder as it is; see [`push_to_hub`]."""
        if not self.is_world_process_zero():
            return None
        args, folder = self.args, self.args.folder
        given = {
            "private": args.hub_private_repo,
            "revision": args.hub_revision,
            "token": args.hub_token,
            "create_pr": args.hub_create_pr,
            "overwrite": args.hub_overwrite,
            "clip_names": args.hub_clip_names,
            "base_model": args.hub_base_model,
            "license": args.hub_license,
            **options,
        }
        published = push(folder, repo_id or args.hub_model_id or folder.resolve().name, **given)
        logger.info("published: %s", published.url)
        if args.push_to_hub and args.hub_strategy != HubStrategy.END:
            checkpoints.delete(args.hub_model_id, args.hub_revision, args.hub_token)
        return published


def require_trainable(args: SERConfig, tuning: Tuning) -> None:
    """
    Checks arguments that need no data. [`finetune`] calls it before it reads corpora, [`SERTrainer`] for users with datasets.

    Raises:
        ValueError: if one process sees several GPUs, the method does not fit the head, or the model cannot be sharded.
    """
    # transformers would split each batch among the GPUs, and the loss, a sum, would be wrong. SERConfig does not check it:
    # commands that give each run a GPU of its own see all of them.
    if args.n_gpu > 1:
        raise ValueError(
            f"one process sees {args.n_gpu} GPUs: start one process for each with accelerate launch or torchrun, or set "
            "CUDA_VISIBLE_DEVICES=0"
        )
    if tuning.method == "probe" and args.head != "linear":
        raise ValueError(f"method='probe': expected head='linear', found head={args.head!r}; use method='frozen'")
    require_shardable(args, "adalora" in tuning.methods)


class StartingModel:
    """
    The name and the path of the pretrained model that a run starts from.

    Args:
        model (`str`, `Path` or `PreTrainedModel`): A model is written to a temporary folder, from which it is opened again.
        processing_class (`SequenceFeatureExtractor`, *optional*): Takes the place of the model's own.

    Raises:
        ValueError: if it is something else.
    """

    def __init__(
        self, model: str | Path | PreTrainedModel, processing_class: SequenceFeatureExtractor | None = None
    ) -> None:
        if not isinstance(model, str | Path | PreTrainedModel):
            raise ValueError(
                f"model: found a {type(model).__name__}, expected a name, a folder or a PreTrainedModel; peft_config adds an "
                "adapter"
            )
        self.name = model.config._name_or_path if isinstance(model, PreTrainedModel) else str(model)
        self.path = self.name if isinstance(model, PreTrainedModel) else str(fetch_base(self.name))
        self.feature_extractor: str | None = None
        if isinstance(model, PreTrainedModel) or processing_class is not None:
            self._folder = TemporaryDirectory(prefix="hf_ser-")
        if isinstance(model, PreTrainedModel):
            self.path, self.feature_extractor = self._folder.name, self.name
            model.save_pretrained(self.path)
        if processing_class is not None:
            self.feature_extractor = self._folder.name
            processing_class.save_pretrained(self.feature_extractor)

    @property
    def base(self) -> str:
        """The name by which an adapter finds its base again, from wherever it is opened."""
        folder = Path(self.name).expanduser()
        return str(folder.resolve()) if folder.is_dir() else self.name


def some_clips(trainer: SERTrainer) -> Iterator[dict[str, torch.Tensor]]:
    """Inputs of the model for up to 16 training clips, one at a time: spread over all clips, or the first ones of a stream."""
    count = 16
    dataset = trainer.train_dataset
    device = next(trainer.model.parameters()).device
    step = 1 if isinstance(dataset, StreamedSpeech) else max(len(dataset) // count, 1)
    for segment in range(0, len(dataset), step)[:count]:
        clip = dataset[segment]
        if np.isfinite(clip["labels"]).any():
            batch = trainer.data_collator([clip])
            yield {name: batch[name].to(device) for name in (trainer.model.main_input_name, "attention_mask")}
