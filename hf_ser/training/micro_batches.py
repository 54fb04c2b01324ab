"""A step or a batch is cut into micro-batches of like length: the same training with less padding, in less memory."""

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import gather_object
from torch import nn
from transformers import Trainer

from hf_ser.memory import BATCH_SECONDS, GPU_SHARE, FittingParts, Result, free_gpu_memory, kind_of, until_it_fits
from hf_ser.training.dataset import SpeechCollator
from hf_ser.training.losses import TargetLoss
from hf_ser.training.sampling import micro_batches_of_like_length
from hf_ser.tuning import frozen_modules

logger = logging.getLogger(__name__)

#: Parameters of HuBERT Base, for which `BATCH_SECONDS` and `MICRO_BATCH_COST` hold.
HUBERT_BASE = 94.4e6
#: Entries of a batch that the model does not take.
NO_INPUTS = ("clip", "by_length")
#: The fixed cost of a micro-batch, in seconds of speech that take as long to compute.
MICRO_BATCH_COST = {"cpu": 0.3, "gpu": 20.0}
#: The share of `BATCH_SECONDS` in the first step on a CUDA device, which shows how many seconds fit.
FIRST_STEP = 0.25


def batch_scale(model: nn.Module) -> float:
    """
    How many seconds of speech a model processes in the time and the memory that HuBERT Base needs for one: by its number of
    parameters. The fixed cost of a micro-batch does not shrink with the model: cut finely, a step of Whisper tiny takes half as
    long again.
    """
    return HUBERT_BASE / sum(parameter.numel() for parameter in model.parameters())


class RandomState:
    """The state of the random generators that a forward pass draws from, to draw the same again."""

    def __init__(self) -> None:
        self.torch, self.numpy = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002 - SpecAugment draws from it
        self.cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None

    def restore(self) -> None:
        torch.set_rng_state(self.torch)
        np.random.set_state(self.numpy)  # noqa: NPY002
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)


class MicroBatchTrainer(Trainer):
    """
    A `Trainer` whose loss does not depend on how a step is cut into batches and micro-batches. Where the memory runs out, a step
    is repeated in smaller micro-batches, and a batch of an evaluation is cut. Frozen modules run in eval mode.
    """

    is_fsdp_enabled: bool
    is_deepspeed_enabled: bool

    def __init__(self, model: Any, loss: TargetLoss, **options: Any) -> None:
        super().__init__(model=model, **options)
        self._loss = loss
        #: The largest modules in which nothing trains.
        self._frozen = frozen_modules(model)
        #: The batches of the step, and the state of the random generators before it.
        self._samples: list[dict[str, Any]] = []
        self._state_before = RandomState()
        #: For each micro-batch of a step that is cut: the gradients of its outputs, its loss, and what it draws at random.
        self._coupled: deque[tuple[torch.Tensor, torch.Tensor, RandomState]] = deque()
        #: Seconds of speech that fit into the memory in a micro-batch, as far as known.
        self._seconds_that_fit = math.inf
        #: The bytes that a second took in the first step on a CUDA device, and the seconds in a micro-batch that follow from it.
        self._bytes_per_second, self._measured_seconds = 0.0, 0.0
        self._parts = FittingParts(self.args.device)
        self._kind = kind_of(self.args.device)
        self._batch_scale = batch_scale(model)
        if self._kind == "cpu":  # less at once is no faster there
            self._batch_scale = max(self._batch_scale, 1.0)
        # Batch norm takes the statistics of the whole batch.
        self._whole_batches = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())

    @property
    def shares_model(self) -> bool:
        """Whether each process holds only a part of the model (FSDP, DeepSpeed), so that all must run in step."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def in_fitting_parts(
        self, compute: Callable[[Mapping[str, torch.Tensor]], Result], inputs: Mapping[str, torch.Tensor]
    ) -> list[Result]:
        """The results of `compute` for the parts of a batch that fit into the memory; `inputs` has the model's input first."""
        values = next(iter(inputs.values()))  # (clips, ...)
        return self._parts(
            lambda part: compute({name: tensor[part] for name, tensor in inputs.items()}),
            len(values),
            values[0].numel(),
        )

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        self._keep_frozen(model)
        inputs = {k: v for k, v in inputs.items() if k not in NO_INPUTS}
        if "gradients" in inputs:
            inputs["labels"] = inputs["labels"], inputs.pop("gradients"), inputs.pop("value")
        return super().compute_loss(model, inputs, *args, **kwargs)

    def _keep_frozen(self, model: Any) -> None:
        if model.training:
            for module in self._frozen:
                module.eval()

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        if self._bytes_per_second and not self._measured_seconds:
            self._use_free_memory()
        self._samples, counts = super().get_batch_samples(*args, **kwargs)
        self._begin_from_here()
        return self._samples, counts

    def _load_rng_state(self, checkpoint: Any) -> None:
        super()._load_rng_state(checkpoint)
        if self._samples:  # in the middle of an epoch transformers loads it when the step has its batches
            self._begin_from_here()

    def _begin_from_here(self) -> None:
        """Begins the step with the random numbers that come next."""
        self._state_before = RandomState()
        until_it_fits(self._begin_step, self._halve_micro_batches)

    def _begin_step(self) -> None:
        """Prepares the step, or its repetition with the same random numbers."""
        self._state_before.restore()
        self._coupled.clear()
        if self._samples and self._loss.couples_clips:
            self._couple()

    @torch.no_grad()
    def _couple(self) -> None:
        """
        Prepares a step whose loss depends on all of its clips at once: a first pass over its micro-batches gives the outputs, and
        from these the gradients of the loss. A step that is not cut needs none.
        """
        parts = [part for batch in self._samples for part in self._micro_batches(batch)]
        if len(parts) == 1 and self.args.world_size == 1:
            return
        self.model_wrapped.train()
        self._keep_frozen(self.model_wrapped)
        states, outputs = [], []
        for part in parts:
            states.append(RandomState())
            inputs = {k: v for k, v in self._prepare_inputs(part).items() if k not in (*NO_INPUTS, "labels")}
            with self.compute_loss_context_manager():
                outputs.append(self.model_wrapped(**inputs)["logits"][:, self._loss.emotions :].float())
        sizes = list(map(len, outputs))
        truth = torch.cat([part["labels"][:, self._loss.emotions :] for part in parts]).to(self.args.device)
        # All processes have equally many clips in a step.
        values, wanted = (self.accelerator.gather(tensor) for tensor in (torch.cat(outputs), truth))
        loss, gradients = self._loss.concordance_gradients(values, wanted)
        first = self.args.process_index * (len(wanted) // self.args.world_size)
        mine = gradients[first : first + sum(sizes)].split(sizes)
        # The logged loss of a step is the sum of its micro-batches' and the mean of its processes'.
        values_of = [loss, *[torch.zeros_like(loss)] * (len(parts) - 1)]
        self._coupled.extend(zip(mine, [v / self.args.world_size for v in values_of], states, strict=True))

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | None:
        if not batch_samples:
            return None
        counts = torch.stack([self._loss.counts(batch["labels"]) for batch in batch_samples]).sum(0).to(device)
        return self.accelerator.gather(counts[None]).sum(0) if self.args.world_size > 1 else counts

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """
        Accumulates the gradients of a batch, and returns its loss. When memory runs out, it repeats the step so far in smaller
        micro-batches.
        """
        repeats = False

        def compute() -> torch.Tensor:
            if not repeats:
                return self._accumulate(model, inputs, num_items_in_batch)
            model.zero_grad()  # of the batches before, and of half a backward pass
            self._begin_step()
            for batch in self._samples:
                loss = self._accumulate(model, batch, num_items_in_batch)
                if batch is inputs:
                    break
            return loss

        def repeat_smaller(error: Exception) -> None:
            nonlocal repeats
            self._halve_micro_batches(error)
            repeats = True

        if self._bytes_per_second or not self._measures:
            return until_it_fits(compute, repeat_smaller)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss = until_it_fits(compute, repeat_smaller)
        self._bytes_per_second = (torch.cuda.max_memory_allocated() - before) / self._longest([inputs])[1]
        return loss

    @property
    def _measures(self) -> bool:
        """Whether the memory decides how many seconds a micro-batch has."""
        on_cuda = self._kind == "gpu" and torch.cuda.is_available()
        return on_cuda and self._cuts_batches and self.args.micro_batch_seconds is None

    def _use_free_memory(self) -> None:
        """Chooses the seconds in a micro-batch, once the first step has made the optimizer's state: those that fit everywhere."""
        free = free_gpu_memory()
        fits = gather_object([GPU_SHARE * free / self._bytes_per_second])
        self._measured_seconds = max(self._default_seconds, min(fits))
        logger.info(
            "micro-batches have up to %.3g s of speech, for which %.2g of %.2g GB of free memory are needed (micro_batch_seconds "
            "sets it)",
            self._measured_seconds,
            self._measured_seconds * self._bytes_per_second / 1e9,
            free / 1e9,
        )

    @property
    def _default_seconds(self) -> float:
        """Seconds in a micro-batch where none are given or measured."""
        return BATCH_SECONDS[self._kind] * self._batch_scale * (FIRST_STEP if self._measures else 1)

    def _longest(self, batches: list[dict[str, Any]]) -> tuple[int, float]:
        """The clips and the seconds, padding included, of the largest micro-batch."""
        least = self.data_collator.minimum
        sizes = [
            (clips.stop - clips.start, max(int(lengths[clips.start]), least))
            for _, lengths in (batch["by_length"] for batch in batches)
            for clips in self._slices(lengths)
        ]
        clips, places = max(sizes, key=math.prod)
        return clips, clips * places / self.data_collator.per_second

    def _halve_micro_batches(self, error: Exception) -> None:
        if not self._cuts_batches:
            raise MemoryError(
                "the memory does not hold a batch, and batches are not cut into micro-batches with head='batchnorm', FSDP, "
                "DeepSpeed or cached outputs: lower per_device_train_batch_size, and raise gradient_accumulation_steps as much "
                f"({error})"
            ) from error
        clips, seconds = self._longest(self._samples)
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
        gradients, value, state = self._coupled.popleft()
        state.restore()
        return {**batch, "gradients": gradients, "value": value}

    @property
    def _cuts_batches(self) -> bool:
        # Behind a cache so little is left to compute that a micro-batch would cost more than its padding. Where the model is
        # shared, each micro-batch would fetch all weights, and every process would need equally many.
        return not self._whole_batches and not self.shares_model and isinstance(self.data_collator, SpeechCollator)

    def _micro_batches(self, inputs: dict[str, Any]) -> list[dict[str, Any]]:
        if not self._cuts_batches:
            return [inputs]
        return list(self.data_collator.cut(inputs, self._slices(inputs["by_length"][1])))

    def _slices(self, lengths: npt.NDArray[np.int64]) -> list[slice]:
        """The slices that a batch is cut into, by the lengths of its clips from the longest on."""
        seconds = self.args.micro_batch_seconds
        if seconds is None:
            seconds = self._measured_seconds or self._default_seconds
        seconds = min(seconds or math.inf, self._seconds_that_fit)
        if math.isinf(seconds):
            return [slice(0, len(lengths))]
        per_second = self.data_collator.per_second
        fixed = MICRO_BATCH_COST[self._kind] * self._batch_scale * per_second
        return micro_batches_of_like_length(lengths.clip(self.data_collator.minimum), seconds * per_second, fixed)

    @torch.no_grad()
    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[None, torch.Tensor, tuple[torch.Tensor, ...]]:
        """Logits and labels; the loss is that of all clips at once, see
        [`~hf_ser.training.base.BaseTrainer.evaluation_loop`]."""
        inputs = self._prepare_inputs(inputs)
        labels = tuple(inputs.pop(name) for name in self.label_names)
        del inputs["by_length"]

        def compute(some: Mapping[str, torch.Tensor]) -> torch.Tensor:
            return model(**some)["logits"].float()

        with self.compute_loss_context_manager():
            # Where the model is shared, all processes need equally many parts.
            logits = [compute(inputs)] if self.shares_model else self.in_fitting_parts(compute, inputs)
        return None, torch.cat(logits), labels
