"""A Trainer with what emotion recognition changes in transformers' own: loss, optimizer, sharding, evaluation."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PretrainedConfig,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
)
from transformers.integrations import unset_hf_deepspeed_config
from transformers.optimization import GreedyLR
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput

from hf_ser.evaluation import DivergedError, emotion_metrics, mean_scorer, per_clip
from hf_ser.memory import require_memory
from hf_ser.modeling import StandardisedLinear
from hf_ser.modeling.families import layer_numbers
from hf_ser.modeling.kernels import (
    attention,
    frozen_weights_in_bfloat16,
    use_own_attention,
    use_windowed_convolutions,
    use_word_dropout,
)
from hf_ser.modeling.load import HEAD
from hf_ser.training.adalora import RankAllocation, is_adalora, regularised
from hf_ser.training.attributes import temporarily
from hf_ser.training.averaging import WeightAverage, Weights, interpolate
from hf_ser.training.config import SERConfig
from hf_ser.training.dataset import SpeechCollator, SpeechDataset
from hf_ser.training.losses import TargetLoss, frequencies, inverse_frequencies
from hf_ser.training.micro_batches import MicroBatchTrainer
from hf_ser.training.progress import Progress
from hf_ser.training.sampling import StepSampler
from hf_ser.training.sharding import FSDPShards, ZeroShards, shard_on_cpu, shardable_by_accelerate
from hf_ser.training.streaming import StreamedSpeech, StreamSampler
from hf_ser.tuning import Tuned, frozen_modules, name_without_adapters


def clip_metrics(prediction: EvalPrediction, emotions: int) -> dict[str, Any]:
    """The metrics per clip of an evaluation, of a model whose first `emotions` outputs are emotions; see `hf_ser.evaluation`."""
    labels, clips = prediction.label_ids
    _, outputs, labels = per_clip(prediction.predictions, labels, clips, emotions)
    found = emotion_metrics(outputs[:, :emotions], labels[:, :emotions]) if emotions else {}
    if outputs.shape[1] > emotions:
        once = np.ones((len(outputs), 1))
        found["ccc"] = float(mean_scorer(outputs[:, emotions:], labels[:, emotions:])(once)["ccc"][0])
    return found


#: Matches the names of parameters that are in the head.
IN_HEAD = re.compile(rf"(?:^|\.)(?:{'|'.join(map(re.escape, HEAD))})")


def learning_rates(names: Sequence[str], args: SERConfig, config: PretrainedConfig) -> dict[str, float]:
    """
    The highest learning rate of each parameter of a model, by its name with or without PEFT's wrappers: the head's own, and in
    the encoder less from layer to layer towards its input (`layer_decay`).
    """
    rate = args.learning_rate
    assert rate is not None
    head = rate if args.head_learning_rate is None else args.head_learning_rate
    depths = layer_numbers(names, config)
    layers = max(depths.values(), default=0) + 1
    return {
        name: head if IN_HEAD.search(name) else rate * args.layer_decay ** (layers - 1 - depths.get(name, -1))
        for name in names
    }


class _Epochs(TrainerCallback):
    """Gives the sampler the number of each epoch, whatever has wrapped it, in a resumed training, too."""

    def __init__(self, sampler: StepSampler | StreamSampler) -> None:
        self.sampler = sampler

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.sampler.set_epoch(int(state.epoch or 0))


class BaseTrainer(MicroBatchTrainer):
    """A [`~hf_ser.training.micro_batches.MicroBatchTrainer`] of segments of clips, whose metrics are per clip."""

    def __init__(
        self,
        tuned: Tuned,
        args: SERConfig,
        *,
        collator: SpeechCollator,
        train_dataset: SpeechDataset,
        eval_dataset: SpeechDataset | None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        targets = train_dataset.targets
        emotions = len(targets.emotions)

        def shares(compute: Callable[..., torch.Tensor]) -> torch.Tensor:
            return compute(train_dataset.emotions, emotions).to(args.device)

        loss = TargetLoss(
            emotions=emotions,
            dimension_weights=tuple(targets.weights[name] for name in targets.dimensions),
            class_weights=shares(inverse_frequencies) if args.balance == "weights" else None,
            frequencies=shares(frequencies) if args.balance == "logits" else None,
            label_smoothing=args.label_smoothing_factor,
            focal_gamma=args.focal_gamma,
            dimension_loss=args.dimension_loss,
        )
        stopping = args.early_stopping_patience
        betas = (args.adam_beta1, args.adam_beta2)
        adam = {"lr": args.learning_rate, "betas": betas, "eps": args.adam_epsilon, "weight_decay": args.weight_decay}
        adalora = is_adalora(tuned.model)
        super().__init__(
            model=tuned.model,
            loss=loss,
            args=args,
            data_collator=collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=collator.feature_extractor,
            compute_loss_func=regularised(loss, tuned.model) if adalora else loss,
            compute_metrics=partial(clip_metrics, emotions=emotions),
            callbacks=[*callbacks, *([EarlyStoppingCallback(stopping)] if stopping else [])],
            optimizer_cls_and_kwargs=(torch.optim.Adam, adam) if args.adam else None,
        )
        # One bar and a line for each epoch, in place of a bar for each evaluation and dictionaries of raw metrics.
        self.pop_callback(ProgressCallback)
        self.pop_callback(PrinterCallback)
        self._progress = Progress()
        self.add_callback(self._progress)
        # The model takes any keyword, but it does nothing with the number of clips in a step: the loss above does.
        self.model_accepts_loss_kwargs = False
        if adalora:
            self.add_callback(RankAllocation())
        #: The mean of the last weights, unless the best epoch is kept or the model is spread over the processes.
        self.average: WeightAverage | None = None
        if args.average_share and not (args.load_best_model_at_end or self.shares_model):
            self.average = WeightAverage(args.average_share)
            self.add_callback(self.average)
        #: What was kept between the start and the end of the training, see `hf_ser.training.averaging.interpolate`.
        self.kept_between: dict[str, Any] | None = None
        #: The trainable weights with the solved probe, where that interpolation starts: empty if there is none, `None` before
        #: the first training.
        self.interpolation_start: Weights | None = None
        self._modes: list[tuple[Callable[[], AbstractContextManager[None]], ExitStack]] = []
        #: Parameters that an adapter must save beside PEFT's own, see `hf_ser.tuning.Tuned`.
        self._new = tuned.new
        #: Whether the whole encoder is frozen, so that checkpoints hold only the head.
        self._head_alone = any(module is tuned.model.base_model for module in self._frozen)
        if args.device.type == "cpu":
            use_word_dropout(tuned.model)
            if not self.shares_model:  # ZeRO-3 gathers the weights of a module for its own forward pass alone
                use_windowed_convolutions(tuned.model)
        if args.attn_implementation is None:
            use_own_attention(tuned.model)
        with attention(tuned.model, args.attn_implementation):
            pass  # what the encoder does not support is an error now, and not after the probe

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        # torch.optim.Adam decays all parameters, and so does PEFT-SER.
        if self.args.adam:
            return [name for name, _ in model.named_parameters()]
        return super().get_decay_parameter_names(model)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(model)
        named = {id(p): name for name, p in (self.model if model is None else model).named_parameters()}
        rates = learning_rates(list(named.values()), self.args, self.model.config)
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
        # ZeRO-3 would shard the probe's model, which is loaded later. And accelerate, which keeps the plugin, takes it only once.
        unset_hf_deepspeed_config()
        self.args.deepspeed_plugin = None
        self.is_fsdp_enabled = self.is_fsdp_enabled or shard_on_cpu(self.accelerator, self.args.fsdp_plugin_args)
        #: Gathers the weights of a sharded model.
        self._shards: FSDPShards | ZeroShards | None = None
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

    def set_head(self, weights: dict[str, torch.Tensor]) -> None:
        """Replaces the head by `weights`, which have the names of the untuned model; PEFT may have wrapped it."""
        names = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        with torch.no_grad():
            for name, tensor in names.items():
                untuned = re.sub(r"\.(original_module|modules_to_save\.\w+)(?=\.)", "", name_without_adapters(name))
                if (found := weights.get(untuned)) is not None:
                    tensor.copy_(found)

    def set_projection(self, state: dict[str, torch.Tensor]) -> None:
        """Replaces `weight` and `bias` of a `linear` head's projection, if it trains."""
        for module in self.model.modules():
            if isinstance(module, StandardisedLinear) and module.linear.weight.requires_grad:
                module.linear.load_state_dict(state)

    @contextmanager
    def mode(self, make: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
        """Within it the context `make()` is open, except within [`out_of_modes`]."""
        with ExitStack() as entered:
            entered.enter_context(make())
            self._modes.append((make, entered))
            try:
                yield
            finally:
                self._modes.pop()

    @contextmanager
    def out_of_modes(self) -> Iterator[None]:
        """Within it the contexts of [`mode`] are closed: the model is as it will be saved, in the middle of a training, too."""
        modes, self._modes = self._modes, []
        for _, entered in reversed(modes):
            entered.close()
        try:
            yield
        finally:
            for make, entered in modes:
                entered.enter_context(make())
            self._modes = modes

    def train(self, *args: Any, **kwargs: Any) -> Any:
        if self.args.device.type == "cpu" and not self.shares_model:
            adam = self.args.adam or self.args.optim.startswith("adamw_torch")  # keeps two values for each gradient
            trained = sum(p.nbytes for p in self.model.parameters() if p.requires_grad)
            require_memory((3 if adam else 1) * trained, "training: the gradients and the state of the optimizer")
        with ExitStack() as stack:
            stack.callback(setattr, self, "is_in_train", False)  # after an interruption, too
            stack.callback(self._progress.close)
            stack.enter_context(self.mode(partial(attention, self.model, self.args.attn_implementation)))
            if self.args.bf16 and hasattr(self.model, "peft_config") and not self.shares_model:
                stack.enter_context(self.mode(partial(frozen_weights_in_bfloat16, self.model.get_base_model())))
            output = super().train(*args, **kwargs)
        self.accelerator._dataloaders.clear()  # ends the workers that it keeps
        self.callback_handler.train_dataloader = None
        if self._shards:
            self.end_training(self._shards.gather(self.model, everywhere=True))
        if start := self.interpolation_start:
            validate = self._validate if self.eval_dataset else None
            self.kept_between = interpolate(self.accelerator.unwrap_model(self.model), start, validate)
        return output

    def _validate(self) -> tuple[float, int]:
        """
        UAR (of dimensions alone CCC) on validation, and the number of clips with such a label; `evaluate` would log them as
        those of an epoch.
        """
        labelled = np.isfinite(self.eval_dataset.labels[:, : self._loss.emotions or None]).any(axis=1)
        clips = len(set(self.eval_dataset.segments.clip.tolist()) & set(np.flatnonzero(labelled).tolist()))
        try:
            output = self.evaluation_loop(self.get_eval_dataloader(), "interpolation", metric_key_prefix="eval")
        except DivergedError:
            return math.nan, clips
        return output.metrics.get("eval_uar" if self._loss.emotions else "eval_ccc", math.nan), clips

    def end_training(self, model: Any = None) -> None:
        """
        Frees optimizer, wrappers and shards. Predictions are then computed with all weights of the whole `model` in float32 on
        every process.
        """
        model = (self.model if model is None else model).to(self.args.device)
        self.accelerator.free_memory()
        self.accelerator._models = [model]
        for keeper in (self, self.callback_handler):
            keeper.model, keeper.optimizer, keeper.lr_scheduler = model, None, None
        self.model_wrapped, self.deepspeed = model, None
        self._frozen = frozen_modules(model)
        self.is_fsdp_enabled, self.is_deepspeed_enabled, self._shards = False, False, None

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        # transformers would watch what chooses the model, and lower the learning rate while UAR rises.
        metrics: dict[str, float] = super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler=True)
        if isinstance(self.lr_scheduler, ReduceLROnPlateau | GreedyLR) and not skip_scheduler:
            self.lr_scheduler.step(metrics["eval_loss"])
        return metrics

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        if self._whole_batches and self.args.world_size > 1:
            # Each process has batch norm statistics of its own clips. The model of the first one is saved.
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, 0)
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        # Not the mean of the batches' means: that changes with their size and with the number of processes.
        logits, labels = (
            torch.from_numpy(each).to(self.args.device) for each in (output.predictions, output.label_ids[0])
        )
        output.metrics[f"{metric_key_prefix}_loss"] = self.compute_loss_func({"logits": logits}, labels).item()
        return output

    def _get_dataloader(self, *args: Any, is_training: bool = False, **kwargs: Any) -> Any:
        # Persistent workers of an evaluation would stay beside those of the training, and give their clips for any dataset.
        persistent = self.args.dataloader_persistent_workers and is_training
        with temporarily(self.args, dataloader_persistent_workers=persistent):
            return super()._get_dataloader(*args, is_training=is_training, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> StepSampler | StreamSampler:
        dataset = train_dataset or self.train_dataset
        batch, processes = self.args.train_batch_size, self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        accumulated = self.args.gradient_accumulation_steps
        sampler: StepSampler | StreamSampler
        if isinstance(dataset, StreamedSpeech):
            sampler = StreamSampler(dataset, batch, seed, processes, self.args.dataloader_num_workers)
        else:
            balanced = self.args.balance == "sampling"
            sampler = StepSampler(dataset, batch * processes, seed, accumulated, processes, balanced)
        self.add_callback(_Epochs(sampler))
        return sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        if not isinstance(eval_dataset, StreamedSpeech):
            return super()._get_eval_sampler(eval_dataset)
        args = self.args
        return StreamSampler(eval_dataset, args.eval_batch_size, None, args.world_size, args.dataloader_num_workers)

    def log(self, logs: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            self._tr_loss.zero_()  # transformers subtracts it from itself, which is NaN where it is not finite
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
        # transformers prepares a model that is not prepared yet: for the training's precision.
        with self.without_autocast() as model, temporarily(self.accelerator, _models=[model]):
            return self.predict(dataset, metric_key_prefix="")

    @contextmanager
    def without_autocast(self) -> Iterator[Any]:
        """Within it, the model has its own `forward`, and not the one that accelerate has put around it for the training."""
        model = self.accelerator.unwrap_model(self.model)
        autocast = vars(model).pop("forward", None)
        try:
            yield model
        finally:
            if autocast:
                model.forward = autocast
