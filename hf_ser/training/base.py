"""transformers' Trainer, where emotion recognition needs it to be different."""

import logging
import math
import re
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from transformers import EarlyStoppingCallback, EvalPrediction, PrinterCallback, ProgressCallback, TrainerCallback
from transformers.integrations import unset_hf_deepspeed_config
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput

from hf_ser.evaluation import emotion_metrics, mean_scorer, per_clip
from hf_ser.features import SpeechCollator, SpeechDataset, StepSampler, micro_batches_of_like_length
from hf_ser.memory import FittingParts, is_out_of_memory
from hf_ser.modeling import StandardisedLinear
from hf_ser.modeling.load import HEAD
from hf_ser.streaming import StreamedSpeech, StreamSampler
from hf_ser.training.adalora import RankAllocation, is_adalora, regularised
from hf_ser.training.arguments import SERConfig
from hf_ser.training.attention import attention, use_plain_attention
from hf_ser.training.averaging import WeightAverage, Weights, interpolate, trained_weights
from hf_ser.training.base_model import base_model_in_bfloat16
from hf_ser.training.checkpoints import CheckpointingTrainer
from hf_ser.training.dropout import use_word_dropout
from hf_ser.training.losses import RandomState, TargetLoss
from hf_ser.training.progress import Progress
from hf_ser.training.sharding import (
    FSDPShards,
    ZeroShards,
    require_shardable,
    shard_on_cpu,
    shardable_by_accelerate,
)
from hf_ser.tuning import Tuned, frozen_modules

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

#: Parameters of HuBERT Base, for which the next two hold.
HUBERT_BASE = 94.4e6
#: Seconds of speech that go through the model at once: on a CPU more are no faster, on a GPU fewer leave it idle.
MICRO_BATCH_SECONDS = {"cpu": 8.0, "gpu": 120.0}
#: What a micro-batch costs however small it is, in seconds of speech that take as long.
MICRO_BATCH_COST = {"cpu": 0.3, "gpu": 20.0}


def batch_scale(model: nn.Module) -> float:
    """
    How many seconds of speech a model processes in the time that HuBERT Base needs for one, at least 1: by its number of
    parameters. The fixed cost of a micro-batch does not shrink with the model: cut finely, a step of Whisper tiny takes half as
    long again.
    """
    return max(HUBERT_BASE / sum(parameter.numel() for parameter in model.parameters()), 1.0)


def clip_metrics(prediction: EvalPrediction, emotions: int) -> dict[str, Any]:
    """The metrics of an evaluation, per clip, of a model whose first outputs are `emotions`; see `hf_ser.evaluation`."""
    labels, clips = prediction.label_ids
    _, outputs, labels = per_clip(prediction.predictions, labels, clips, emotions)
    found = emotion_metrics(outputs[:, :emotions], labels[:, :emotions]) if emotions else {}
    if outputs.shape[1] > emotions:
        once = np.ones((len(outputs), 1))
        found["ccc"] = float(mean_scorer(outputs[:, emotions:], labels[:, emotions:])(once)["ccc"][0])
    return found


#: The layer of an encoder that a parameter is in, and what in a name says that it is in the head.
LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
IN_HEAD = re.compile(r"(?:^|\.)(?:classifier|projector|hidden|layer_weights)(?:\.|$)")


def learning_rates(names: Sequence[str], args: SERConfig) -> dict[str, float]:
    """
    The highest learning rate of each parameter: the head's own, and in the encoder less from layer to layer towards its input
    (`layer_decay`).

    Args:
        names (`Sequence[str]`): The names of a model's parameters, with or without PEFT's wrappers.
        args (`SERConfig`): With `learning_rate` resolved.
    """
    rate = args.learning_rate
    assert rate is not None
    head = rate if args.head_learning_rate is None else args.head_learning_rate
    depths = {name: int(found[1]) for name in names if (found := LAYER.search(name))}
    layers = max(depths.values(), default=0) + 1
    return {
        name: head if IN_HEAD.search(name) else rate * args.layer_decay ** (layers - 1 - depths.get(name, -1))
        for name in names
    }


def untuned_name(name: str) -> str:
    """The name that a parameter has in the model before PEFT wrapped it."""
    return re.sub(
        r"\.(base_layer|original_module|modules_to_save\.\w+)(?=\.)", "", name.removeprefix("base_model.model.")
    )


class _Epochs(TrainerCallback):
    """Tells the sampler which epoch begins, in whatever wrappers it went, and after a resumption, too."""

    def __init__(self, sampler: StepSampler | StreamSampler) -> None:
        self.sampler = sampler

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.sampler.set_epoch(int(state.epoch or 0))


class BaseTrainer(CheckpointingTrainer):
    """
    A `Trainer` whose loss does not depend on how a step is cut into batches, whose metrics are per clip, whose frozen
    modules run in eval mode, and whose adapters are saved whole.

    Args:
        tuned (`Tuned`): The model.
        args (`SERConfig`): The arguments.
        collator (`SpeechCollator`): Makes the batches.
        train_dataset (`SpeechDataset`): What trains.
        eval_dataset (`SpeechDataset`, *optional*): What validates.
        weights (`torch.Tensor` of shape `(emotions,)`, *optional*): See [`~hf_ser.training.losses.inverse_frequencies`].
    """

    is_fsdp_enabled: bool
    is_deepspeed_enabled: bool

    def __init__(
        self,
        tuned: Tuned,
        args: SERConfig,
        *,
        collator: SpeechCollator,
        train_dataset: SpeechDataset,
        eval_dataset: SpeechDataset | None,
        weights: torch.Tensor | None = None,
    ) -> None:
        targets = train_dataset.targets
        self._loss = TargetLoss(
            emotions=len(targets.emotions),
            dimension_weights=tuple(targets.weights[name] for name in targets.dimensions),
            class_weights=weights,
            label_smoothing=args.label_smoothing_factor,
            focal_gamma=args.focal_gamma,
            dimension_loss=args.dimension_loss,
        )
        stopping = args.early_stopping_patience
        betas = (args.adam_beta1, args.adam_beta2)
        adam = {"lr": args.learning_rate, "betas": betas, "eps": args.adam_epsilon, "weight_decay": args.weight_decay}
        adalora = is_adalora(tuned.model)
        args.require_launcher()
        require_shardable(args, adalora)
        super().__init__(
            model=tuned.model,
            args=args,
            data_collator=collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=collator.feature_extractor,
            compute_loss_func=regularised(self._loss, tuned.model) if adalora else self._loss,
            compute_metrics=partial(clip_metrics, emotions=len(targets.emotions)),
            callbacks=[EarlyStoppingCallback(stopping)] if stopping else None,
            optimizer_cls_and_kwargs=(torch.optim.Adam, adam) if args.adam else None,
        )
        # One bar and a line for each epoch, in place of a bar for each evaluation and dictionaries of raw metrics.
        self.pop_callback(ProgressCallback)
        self.pop_callback(PrinterCallback)
        self.add_callback(Progress())
        # The model takes any keyword, but it does nothing with the number of clips in a step: the loss above does.
        self.model_accepts_loss_kwargs = False
        if adalora:
            self.add_callback(RankAllocation())
        #: The mean of the last weights, unless the best epoch is kept or the model is spread over the processes.
        self.average = None
        if args.average_share and not (args.load_best_model_at_end or self.shares_model):
            self.average = WeightAverage(args.average_share)
            self.add_callback(self.average)
        #: What was kept between the start and the end of the training, see `hf_ser.training.averaging.interpolate`.
        self.kept_between: dict[str, Any] | None = None
        self._probe: Weights = {}
        #: For each micro-batch of a step that is cut: the gradients of its outputs, its loss, and what it draws at random.
        self._coupled: deque[tuple[torch.Tensor, torch.Tensor, RandomState]] = deque()
        #: The batches of the step, and what the random generators had drawn before it.
        self._samples: list[dict[str, Any]] = []
        self._drawn = RandomState()
        #: Seconds of speech that fit into the memory in a micro-batch, as far as known.
        self._seconds_that_fit = math.inf
        #: Cuts the batches of evaluations where the memory runs out.
        self.fits = FittingParts()
        self._new = tuned.new
        self._frozen = frozen_modules(tuned.model)
        self._head_alone = any(module is tuned.model.base_model for module in self._frozen)
        if args.device.type == "cpu":
            use_word_dropout(tuned.model)
            if args.attn_implementation is None:
                use_plain_attention(tuned.model)
        with attention(tuned.model, args.attn_implementation):
            pass  # what the encoder does not support is an error now, and not after the probe
        self._batch_scale = batch_scale(tuned.model)
        # Batch norm takes the statistics of the whole batch.
        self._whole_batches = any(
            isinstance(module, nn.modules.batchnorm._BatchNorm) for module in tuned.model.modules()
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(model)
        named = {id(p): name for name, p in (self.model if model is None else model).named_parameters()}
        rates = learning_rates(list(named.values()), self.args)
        groups: dict[tuple[int, float], dict[str, Any]] = {}
        for i, group in enumerate(optimizer.param_groups):
            for parameter in group["params"]:
                rate = rates[named[id(parameter)]]
                mine = groups.setdefault((i, rate), {**group, "params": [], "lr": rate})
                mine["params"].append(parameter)
        # The encoder's highest rate first, which is the one that is logged.
        in_order = sorted(groups.items(), key=lambda item: (item[0][1] != self.args.learning_rate, item[0]))
        optimizer.param_groups[:] = [group for _, group in in_order]
        return optimizer

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        # The probe's model and Trainer come after this one: ZeRO-3 would spread that model as it is loaded, and accelerate, which
        # keeps the plugin, takes it once.
        unset_hf_deepspeed_config()
        self.args.deepspeed_plugin = None
        self.is_fsdp_enabled = self.is_fsdp_enabled or shard_on_cpu(self.accelerator, self.args.fsdp_plugin_args)
        self._shards = None
        #: How several processes share the training; `None` for one.
        self.parallelism = "DDP" if self.args.world_size > 1 else None
        if self.is_fsdp_enabled:
            self._shards = FSDPShards(self.model)
            self.parallelism = "FSDP 2"
        elif self.is_deepspeed_enabled:
            self._shards = ZeroShards(self.model)
            self.parallelism = f"DeepSpeed ZeRO-{self.accelerator.state.deepspeed_plugin.zero_stage}"

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        if not self.is_fsdp_enabled:
            return super()._prepare_for_training(*args, **kwargs)
        with shardable_by_accelerate(self.model, self.accelerator.state.fsdp_plugin):
            return super()._prepare_for_training(*args, **kwargs)

    @property
    def shares_model(self) -> bool:
        """Whether each process holds a part of the model alone (FSDP, DeepSpeed), and all must work on it in step."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def head_weights(self) -> dict[str, torch.Tensor]:
        """The weights and buffers of a `linear` head, by their names in the untuned model."""
        state = self.accelerator.unwrap_model(self.model).state_dict()
        return {name: value.detach().cpu().clone() for name, value in state.items() if name.startswith(HEAD)}

    def set_head(self, weights: dict[str, torch.Tensor]) -> None:
        """Replaces the `linear` head by what [`head_weights`] returned, in whatever PEFT has wrapped around it."""
        names = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        with torch.no_grad():
            for name, tensor in names.items():
                if (found := weights.get(untuned_name(name))) is not None:
                    tensor.copy_(found)

    def start_from(self, head: dict[str, torch.Tensor]) -> None:
        """
        Lets the training of a model with a solved `linear` head start from another solution, if its encoder trains, too; and
        lets it end between the probe and the trained weights, see `hf_ser.training.averaging.interpolate`.

        Args:
            head (`dict[str, torch.Tensor]`): `weight` and `bias` of the projection.
        """
        if self.args.interpolation:
            self._probe = trained_weights(self.model)
        for module in self.model.modules():
            if isinstance(module, StandardisedLinear) and module.linear.weight.requires_grad and not self._head_alone:
                module.linear.load_state_dict(head)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            stack.enter_context(attention(self.model, self.args.attn_implementation))
            if self.args.base_model_dtype == "bfloat16":
                stack.enter_context(base_model_in_bfloat16(self.model))
            output = super().train(*args, **kwargs)
        self.accelerator._dataloaders.clear()  # ends the workers that it keeps
        self.callback_handler.train_dataloader = None
        if self._shards:
            self.keep_whole(self._shards.gather(self.model, everywhere=True))
        if self._probe:
            validate = self._validate if self.eval_dataset else None
            self.kept_between = interpolate(self.accelerator.unwrap_model(self.model), self._probe, validate)
        return output

    def _validate(self) -> tuple[float, int]:
        """UAR (of dimensions alone CCC) and the number of clips on validation; `evaluate` would log them as those of an epoch."""
        output = self.evaluation_loop(self.get_eval_dataloader(), "interpolation", metric_key_prefix="eval")
        finite = math.isfinite(output.metrics["eval_loss"])
        found = output.metrics.get("eval_uar" if self._loss.emotions else "eval_ccc", math.nan)
        return float(found) if finite else math.nan, len(set(output.label_ids[1].tolist()))

    def keep_whole(self, model: Any = None) -> None:
        """
        Ends training: predictions are computed with all weights in float32 on every process, and nothing else stays in memory.

        Args:
            model (`PreTrainedModel` or `PeftModel`, *optional*): The whole model, by default the one that the Trainer has.
        """
        model = (self.model if model is None else model).to(self.args.device)
        self.accelerator.free_memory()
        self.accelerator._models = [model]
        for keeper in (self, self.callback_handler):
            keeper.model, keeper.optimizer, keeper.lr_scheduler = model, None, None
        self.model_wrapped, self.deepspeed = model, None
        self._frozen = frozen_modules(model)
        self.is_fsdp_enabled, self.is_deepspeed_enabled, self._shards = False, False, None

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        self._keep_frozen(model)
        inputs = {k: v for k, v in inputs.items() if k != "clip"}
        if "gradients" in inputs:
            inputs["labels"] = inputs["labels"], inputs.pop("gradients"), inputs.pop("value")
        return super().compute_loss(model, inputs, *args, **kwargs)

    def _keep_frozen(self, model: Any) -> None:
        if model.training:
            for module in self._frozen:
                module.eval()

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        self._samples, counts = super().get_batch_samples(*args, **kwargs)
        self._drawn = RandomState()
        if self._samples and self._loss.couples_clips:
            self._fitting(lambda: self._couple(self._samples))
        return self._samples, counts

    def _fitting(self, compute: Callable[[], Result], again: Callable[[], Result] | None = None) -> Result:
        """
        The result of `compute`. Where the memory runs out, micro-batches become half as large, and `again` repeats the
        step, drawing at random what it has drawn.
        """
        while True:
            try:
                return compute()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve_micro_batches(error)
            # Behind the handler: the traceback keeps the tensors of what has failed.
            torch.cuda.empty_cache()
            self._drawn.restore()
            compute = again or compute

    def _halve_micro_batches(self, error: Exception) -> None:
        if not self._cuts_batches:
            raise MemoryError(
                "the memory does not hold a batch, and batches are not cut into micro-batches with head='batchnorm', FSDP, "
                "DeepSpeed or cached outputs: lower per_device_train_batch_size, and raise gradient_accumulation_steps as much "
                f"({error})"
            ) from error
        cut = [piece["attention_mask"] for batch in self._samples for piece in self._micro_batches(batch)]
        clips, places = max((mask.shape for mask in cut), key=math.prod)
        seconds = clips * places / self.data_collator.per_second
        if clips == 1:
            raise MemoryError(
                f"the memory does not hold a clip of {seconds:.1f} s: lower segment_length or max_seconds, set "
                f"gradient_checkpointing=True, or train fewer parameters (method) ({error})"
            ) from error
        if self.args.world_size > 1:
            raise MemoryError(
                f"the memory does not hold a micro-batch of {seconds:.0f} s of speech, and one of several processes cannot "
                f"repeat a step alone: set micro_batch_seconds={seconds / 2:.3g}, which is the same training ({error})"
            ) from error
        self._seconds_that_fit = seconds / 2
        logger.warning(
            "the memory ran out with a micro-batch of %.3g s of speech: the step is repeated with at most %.3g s, which "
            "is the same training (micro_batch_seconds=%.3g starts so)",
            seconds,
            seconds / 2,
            seconds / 2,
        )

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | None:
        if not batch_samples:
            return None
        counts = torch.stack([self._loss.counts(batch["labels"]) for batch in batch_samples]).sum(0).to(device)
        return self.accelerator.gather(counts[None]).sum(0) if self.args.world_size > 1 else counts

    @torch.no_grad()
    def _couple(self, samples: Sequence[dict[str, Any]]) -> None:
        """
        Prepares a step whose loss depends on all of its clips at once: a first pass over its micro-batches gives the outputs, and
        from these the gradients of the loss. A step that is not cut needs none.
        """
        pieces = [piece for batch in samples for piece in self._micro_batches(batch)]
        if len(pieces) == 1 and self.args.world_size == 1:
            return
        self.model_wrapped.train()
        self._keep_frozen(self.model_wrapped)
        drawn, outputs = [], []
        for piece in pieces:
            drawn.append(RandomState())
            inputs = {k: v for k, v in self._prepare_inputs(piece).items() if k not in ("clip", "labels")}
            with self.compute_loss_context_manager():
                outputs.append(self.model_wrapped(**inputs)["logits"][:, self._loss.emotions :].float())
        sizes = list(map(len, outputs))
        truth = torch.cat([piece["labels"][:, self._loss.emotions :] for piece in pieces]).to(self.args.device)
        values, wanted = (
            self.accelerator.gather(self.accelerator.pad_across_processes(tensor, pad_index=math.nan))
            for tensor in (torch.cat(outputs), truth)
        )
        loss, gradients = self._loss.concordance_gradients(values.nan_to_num(), wanted)
        first = self.args.process_index * (len(wanted) // self.args.world_size)
        mine = gradients[first : first + sum(sizes)].split(sizes)
        # The logged loss of a step is the sum of its micro-batches' and the mean of its processes'.
        values_of = [loss, *[torch.zeros_like(loss)] * (len(pieces) - 1)]
        self._coupled.extend(zip(mine, [v / self.args.world_size for v in values_of], drawn, strict=True))

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """The gradients of a batch; where the memory runs out, those of the step up to it in smaller micro-batches."""

        def repeat() -> torch.Tensor:
            model.zero_grad()  # of the batches before, and of half a backward pass
            self._coupled.clear()
            if self._loss.couples_clips:
                self._couple(self._samples)
            for batch in self._samples:
                loss = self._accumulate(model, batch, num_items_in_batch)
                if batch is inputs:
                    break
            return loss

        return self._fitting(lambda: self._accumulate(model, inputs, num_items_in_batch), repeat)

    def _accumulate(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        """Adds a batch, one micro-batch of like lengths after the other: the loss is a sum over the clips of the step."""
        *others, last = self._micro_batches(inputs)
        loss = torch.zeros((), device=self.args.device)
        for batch in others:
            with self.accelerator.no_sync(model):
                loss = loss + super().training_step(model, self._with_gradients(batch), num_items_in_batch)
        return loss + super().training_step(model, self._with_gradients(last), num_items_in_batch)

    def _with_gradients(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The next micro-batch of a coupled step, about to draw at random what it drew in the first pass."""
        if not self._coupled:
            return batch
        gradients, value, drawn = self._coupled.popleft()
        drawn.restore()
        return {**batch, "gradients": gradients, "value": value}

    @property
    def _cuts_batches(self) -> bool:
        # What is left to do behind a cache is so little that a micro-batch would cost more than its padding; where the model is
        # shared, each micro-batch would fetch all weights, and every process would need equally many.
        return not self._whole_batches and not self.shares_model and isinstance(self.data_collator, SpeechCollator)

    def _micro_batches(self, inputs: dict[str, Any]) -> list[dict[str, Any]]:
        device = "cpu" if self.args.device.type == "cpu" else "gpu"
        seconds = self.args.micro_batch_seconds
        if seconds is None:
            seconds = MICRO_BATCH_SECONDS[device] * self._batch_scale
        seconds = min(seconds or math.inf, self._seconds_that_fit)
        if math.isinf(seconds) or not self._cuts_batches:
            return [inputs]
        collator = self.data_collator
        lengths = inputs["attention_mask"].sum(dim=1).clamp(min=collator.minimum).cpu().numpy()
        fixed = MICRO_BATCH_COST[device] * self._batch_scale * collator.per_second
        return [
            collator.cut(inputs, rows, int(lengths[rows[0]]))
            for rows in micro_batches_of_like_length(lengths, seconds * collator.per_second, fixed)
        ]

    @torch.no_grad()
    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[None, torch.Tensor, tuple[torch.Tensor, ...]]:
        """Logits and labels; the loss is that of all clips at once, see [`evaluation_loop`]."""
        inputs = self._prepare_inputs(inputs)
        labels = tuple(inputs.pop(name) for name in self.label_names)

        def compute(some: dict[str, torch.Tensor]) -> torch.Tensor:
            return model(**some)["logits"].float()

        with self.compute_loss_context_manager():
            # Where the model is shared, all processes need equally many parts.
            logits = [compute(inputs)] if self.shares_model else self.fits(compute, inputs)
        return None, torch.cat(logits), labels

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        # transformers would watch what chooses the model, and lower the learning rate while UAR rises.
        metrics: dict[str, float] = super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler=True)
        if isinstance(self.lr_scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau) and not skip_scheduler:
            self.lr_scheduler.step(metrics["eval_loss"])
        return metrics

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        if self._whole_batches and self.args.world_size > 1:
            # The batch norms of each process have counted its own clips; what is saved is the first one's model.
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, 0)
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        # Not the mean of the batches' means: that changes with their size and with the number of processes.
        labels, _ = output.label_ids
        logits = torch.from_numpy(output.predictions)
        output.metrics[f"{metric_key_prefix}_loss"] = self.compute_loss_func(
            {"logits": logits}, torch.from_numpy(labels)
        ).item()
        return output

    def _get_dataloader(self, *args: Any, is_training: bool = False, **kwargs: Any) -> Any:
        # Kept for an evaluation, workers would stay beside those of the training, and their clips be given for any other dataset.
        persistent = self.args.dataloader_persistent_workers
        self.args.dataloader_persistent_workers = persistent and is_training
        try:
            return super()._get_dataloader(*args, is_training=is_training, **kwargs)
        finally:
            self.args.dataloader_persistent_workers = persistent

    def _get_train_sampler(self, train_dataset: Any = None) -> StepSampler | StreamSampler:
        dataset = train_dataset or self.train_dataset
        batch, processes = self.args.train_batch_size, self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        accumulated = self.args.gradient_accumulation_steps
        sampler: StepSampler | StreamSampler
        if isinstance(dataset, StreamedSpeech):
            sampler = StreamSampler(dataset, batch, seed, processes, self.args.dataloader_num_workers)
        else:
            balanced = self.args.balanced_sampling
            sampler = StepSampler(dataset, batch * processes, seed, accumulated, processes, balanced)
        self.add_callback(_Epochs(sampler))
        return sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        if not isinstance(eval_dataset, StreamedSpeech):
            return super()._get_eval_sampler(eval_dataset)
        args = self.args
        return StreamSampler(eval_dataset, args.eval_batch_size, None, args.world_size, args.dataloader_num_workers)

    def log(self, logs: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        # A matrix is kept in the history, but is no number for a progress bar or TensorBoard.
        matrices = {key: value for key, value in logs.items() if key.endswith("confusion_matrix")}
        super().log({key: value for key, value in logs.items() if key not in matrices}, *args, **kwargs)
        if matrices:
            self.state.log_history[-1].update(matrices)

    def predict_clips(self, dataset: SpeechDataset) -> PredictionOutput:
        """
        Predicts every segment of `dataset` in float32, whatever the training's precision: what is reported is what others
        will see.
        """
        original = vars(self.model).get("_original_forward")
        model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)  # takes autocast off the model
        if original is not None:
            model.forward = (
                original  # and, with it, transformers' own decorators: without them all layers would come out
            )
        return self.predict(dataset, metric_key_prefix="")
