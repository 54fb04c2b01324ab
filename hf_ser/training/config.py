"""The configuration of a training, `SERConfig`: transformers' `TrainingArguments` with defaults for emotion recognition."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations import unset_hf_deepspeed_config
from transformers.trainer_utils import HubStrategy

from hf_ser.audio import cut
from hf_ser.command_line import option, require_choices, require_share
from hf_ser.emotions import DISTRIBUTION, EMOTION, parse_targets
from hf_ser.evaluation.metrics import EMOTION_METRICS
from hf_ser.machine import half_precision, loading_processes, threads_of_this_process
from hf_ser.memory import BATCH_SECONDS, GPU_SHARE
from hf_ser.modeling import HEADS
from hf_ser.training.losses import BALANCES, DIMENSION_LOSSES
from hf_ser.wording import listed

#: A learning rate for each method, by the parameters of the largest model that it is for. `full` up to 50 M was chosen on
#: training actors of RAVDESS (docs/methods.md); from there on it has the rate of SpeechBrain's IEMOCAP recipe and of the
#: MSP-Podcast challenge's baseline (Interspeech 2025). That of `lora_classifier` is a guess. What is added to a frozen encoder
#: has PEFT-SER's rate (section V.A).
LEARNING_RATES: dict[str, dict[float, float]] = {
    "full": {50e6: 5e-5, math.inf: 1e-5},
    "lora_classifier": {math.inf: 1e-2},
}
ADDED_LEARNING_RATE = 5e-4


def default_rates(method: str) -> Mapping[float, float]:
    """The default learning rates of a method, by the parameters of the largest model that each is for."""
    return LEARNING_RATES.get(method, {math.inf: ADDED_LEARNING_RATE})


def _rates(rates: Mapping[float, float]) -> str:
    *sized, (_, largest) = rates.items()
    found = [f"{rate:g} up to {size / 1e6:g} M parameters" for size, rate in sized]
    return ", ".join([*found, f"{largest:g} above" if sized else f"{largest:g}"])


#: The learning rate of a `linear` head, which starts at its solution. Other heads have the encoder's, as in the papers.
HEAD_LEARNING_RATE = 1e-4
#: The methods that train nothing outside the head: `learning_rate` is the head's.
HEAD_METHODS = frozenset({"frozen", "lora_classifier"})


#: What can choose the best model, by its name in an evaluation without `eval_`.
CHOOSING_METRICS = (*EMOTION_METRICS, "ccc", "loss")

#: Numbers that must be finite and not below 0.
NOT_NEGATIVE = ("num_train_epochs", "learning_rate", "head_learning_rate", "micro_batch_seconds", "frozen_cache_gb",
                "frozen_cache_views", "focal_gamma")  # fmt: skip
#: Numbers from 0 to 1.
SHARES = ("label_smoothing_factor", "average_share", "layer_decay", "mask_time_prob", "mask_feature_prob")
_AT_ONCE = "metrics are of all clips at once"
#: transformers' options that would end a run in a traceback, or hang, after it has begun, or change its loss: the one value each
#: can have, and why.
UNUSABLE: dict[str, tuple[Any, str]] = {
    "remove_unused_columns": (False, "clips come as lists of segments, and their audio would be removed"),
    "bf16_full_eval": (False, "evaluations run in the model's own precision; use bf16, which holds for them, too"),
    "fp16_full_eval": (False, "evaluations run in the model's own precision; use bf16, which holds for them, too"),
    "average_tokens_across_devices": (True, "the loss of a step is the mean over the clips of all processes"),
    "eval_do_concat_batches": (True, _AT_ONCE),
    "batch_eval_metrics": (False, _AT_ONCE),
    "neftune_noise_alpha": (None, "it adds noise to the embeddings of tokens, and speech has none"),
    "dataloader_drop_last": (False, "metrics are of all clips; the loss does not depend on the size of the last batch"),
    "train_sampling_strategy": (
        "random",
        "clips are drawn at random, and clips of like length go through the model together already; see micro_batch_seconds",
    ),
}


@dataclass
class SERConfig(TrainingArguments):
    """transformers' `TrainingArguments` with defaults for emotion recognition, and what it lacks."""

    output_dir: str | None = option(None, help="The run's folder. Required.")
    overwrite_output_dir: bool = option(
        False, help="Start anew in the folder of an earlier run, and delete what that run left there."
    )
    targets: list[str] = option(
        ["emotion"],
        help="What the model predicts: emotion, emotion_distribution (the shares of the raters' votes), arousal, valence, "
        "dominance; several with their weights in the loss: emotion arousal=0.5. A clip without one of the labels counts "
        "for the others.",
    )
    dimension_loss: str = option(
        "ccc",
        help="The loss of arousal, valence and dominance: ccc (1 - CCC over the clips of a step) or mse.",
        choices=DIMENSION_LOSSES,
    )
    head: str = option(
        "linear",
        help="linear: one linear layer on statistics of all layers, which starts as a solved probe (a logistic regression on the "
        "frozen encoder); saved as a stock one. stock: transformers' own. batchnorm: batch norm and dropout before the last "
        "layer; saved as a stock one. conv: PEFT-SER's, on a learned average of all layers; it and Whisper open in "
        "transformers with trust_remote_code=True.",
        choices=HEADS,
    )
    weighted_layer_sum: bool = option(
        False, help="Give the head a learned average of all layers instead of the last one."
    )
    mask_time_prob: float = option(
        0.0,
        help="SpecAugment in training: share of the frames that are masked. 0, the default, masks none, whatever the "
        "checkpoint's configuration says, so that methods can be compared. A frozen encoder masks nothing: above 0 is an "
        "error there.",
    )
    mask_feature_prob: float = option(
        0.0, help="SpecAugment in training: share of the features that are masked; as --mask_time_prob."
    )
    do_normalize: bool | None = option(
        None,
        help="Scale each waveform to zero mean and unit variance, in training and wherever the model is used. By default as the "
        "checkpoint's preprocessor_config.json says. Not for Whisper and Wav2Vec2-BERT.",
    )
    normalise_by: str | None = option(
        None,
        help="Also report metrics of predictions that are normalised by the mean over all clips of the same speaker or corpus. "
        "It uses no labels, but all clips at once: another protocol, and named as such in results and card.",
        choices=["speaker", "corpus"],
    )
    max_seconds: float | None = option(None, help="Use the first N seconds of longer clips, in training and test.")
    segment_length: float | None = option(
        None, help="Cut longer clips into segments of N seconds; metrics stay per clip."
    )
    segment_overlap: float = option(0.0, help="Seconds that a segment shares with the next one.")
    save_format: str = option(
        "merged",
        help="What is saved of a LoRA run. merged: a checkpoint that opens anywhere, and the adapter in adapter/. adapter: the "
        "adapter alone.",
        choices=["merged", "adapter"],
    )
    frozen_cache_gb: float = option(
        20.0,
        help="Disk in GB for what the frozen part of the model computes, once for all epochs and all later runs on the same "
        "clips; least recently used models are deleted first. 0: no cache.",
    )
    frozen_cache_views: int = option(
        3,
        help="Where clips are augmented and layers are frozen: keep so many views of each clip, those of the first epochs, and "
        "train with them in turn. Faster than a new view in every epoch, and less varied. 0: a new view in every epoch, and "
        "nothing is kept; the probe is then solved on clips that are not augmented.",
    )
    micro_batch_seconds: float | None = option(
        None,
        help="Seconds of speech, padding included, that go through the model at once in training. A batch is cut into "
        f"micro-batches of like length, which is the same training with less padding. By default {BATCH_SECONDS['cpu']:g} on "
        f"a CPU and {BATCH_SECONDS['gpu']:g} on a GPU with HuBERT Base, more with a smaller model; with CUDA as many as fit into "
        f"{GPU_SHARE:g} of the memory that is free after the first step. 0: whole batches. Where the memory runs out, it is "
        "halved, in one process and without cached outputs.",
    )
    ddp_timeout: int = option(
        14400,
        help="Seconds that a process waits for the others, which may still compute outputs of frozen layers.",
    )
    hub_strategy: str = option(
        "end",
        help="What --push_to_hub uploads. end: the finished run, in one commit. checkpoint (every_save, all_checkpoints): each "
        "checkpoint, too, with the optimizer's state, on the branch 'checkpoints'. --resume_from_checkpoint True resumes "
        "from it on another machine; the branch is deleted at the end.",
        choices=[strategy.value for strategy in HubStrategy],
    )
    hub_create_pr: bool = option(False, help="Open a pull request instead of committing to the branch.")
    hub_overwrite: bool = option(
        False, help="Replace the model that hub_model_id holds already; else the run does not begin."
    )
    hub_license: str | None = option(
        None, help="The model's licence, by its identifier on the Hub; by default the corpus' own."
    )
    hub_base_model: str | None = option(
        None, help="The base model's name on the Hub, if --model_name_or_path is a folder."
    )
    hub_clip_names: bool = option(
        False, help="Publish the clips' names; by default splits.json has hashes in their place."
    )
    cpu_threads: int | None = option(
        None,
        help="Cores for each process: threads on a CPU, processes that load batches with a GPU. By default the machine's, shared "
        "out between its processes.",
    )
    balance: str | None = option(
        None,
        help="How rare emotions count in training; in UAR, the mean recall, they count as much as others. logits: the "
        "logarithm of each emotion's frequency in train is added to its logit in training, and not in predictions, which are "
        "then for equally frequent emotions. weights: each clip's loss is weighed by the inverse frequency of its emotion. "
        "sampling: emotions are sampled equally often; the length of an epoch does not change. none: as often as they are "
        "there, for accuracy. By default logits; none with emotion_distribution and for dimensions alone.",
        choices=BALANCES,
    )
    focal_gamma: float = option(
        0.0,
        help="Focal loss: weigh each clip's loss by (1 - p)^gamma, p the probability of its emotion; 2 is usual. 0: off.",
    )
    early_stopping_patience: int | None = option(
        None, help="Stop after so many evaluations without a better metric_for_best_model."
    )
    learning_rate: float | None = option(
        None,
        help="Peak learning rate of encoder parameters, and with frozen and lora_classifier of the head, which trains alone. By "
        "default "
        + "; ".join(f"{name}: {_rates(rates)}" for name, rates in LEARNING_RATES.items())
        + f"; others: {ADDED_LEARNING_RATE:g}; of a linear head that trains alone {HEAD_LEARNING_RATE:g}.",
    )
    head_learning_rate: float | None = option(
        None,
        help=f"Peak learning rate of the head. By default {HEAD_LEARNING_RATE:g} for a linear head, which starts "
        "at its solution, and learning_rate for the others and where the head trains alone.",
    )
    layer_decay: float = option(
        1.0,
        help="Factor from the learning rate of each layer of the encoder to that of the layer below (layer-wise decay). 1: the "
        "same for all.",
    )
    average_share: float = option(
        0.2,
        help="Keep the mean of the weights over this share of the steps, at the end of training. 0: the last weights. Not with "
        "load_best_model_at_end, FSDP or DeepSpeed.",
    )
    interpolation: bool = option(
        True,
        help="With a linear head: keep a point between the solved probe and the trained weights, half way unless another is "
        "better on validation by more than the standard error of its UAR. Where that is the probe itself, log, results and "
        "card say so.",
    )
    num_train_epochs: float = option(3.0, help="Epochs.")
    per_device_train_batch_size: int = option(16, help="Clips in a batch, on each device.")
    per_device_eval_batch_size: int = option(16, help="Clips in a batch of an evaluation.")
    lr_scheduler_type: str = option(
        "linear",
        help="How the learning rate falls. reduce_lr_on_plateau watches the loss on validation, whatever chooses the model; by "
        "default it halves after 5 epochs without a lower loss, and not below a tenth, as in PEFT-SER.",
    )
    lr_scheduler_kwargs: dict[str, Any] | str | None = option(None, help="Arguments of the scheduler, as JSON.")
    adam: bool = option(False, help="torch.optim.Adam, with L2 in the gradient, as in PEFT-SER, in place of --optim.")
    warmup_steps: float = option(0.1, help="Warm-up steps; below 1: share of all steps.")
    eval_strategy: str = option("epoch", help="When validation is evaluated: no, steps or epoch.")
    save_strategy: str = option("epoch", help="When a checkpoint is saved: no, steps, epoch or best.")
    logging_strategy: str = option("epoch", help="When the training loss is logged: no, steps, epoch.")
    logging_nan_inf_filter: bool = option(
        False,
        help="Log the mean of the losses before in place of one that is not finite: a training that diverges looks well.",
    )
    save_total_limit: int | None = option(1, help="Checkpoints to keep beside the best one.")
    load_best_model_at_end: bool = option(
        False,
        help="Take the epoch with the best metric_for_best_model in place of the mean of the last weights. On the few "
        "speakers of a validation part that is mostly noise. With a linear head see interpolation, too.",
    )
    metric_for_best_model: str | None = option(
        None,
        help=f"What best means, on validation: {listed(CHOOSING_METRICS, 'or')}. By default uar, or ccc (the mean of the "
        "dimensions) where no emotions are among the targets.",
    )
    greater_is_better: bool | None = option(
        None, help="Whether a higher metric_for_best_model is better; by default as it is defined."
    )
    gradient_checkpointing_kwargs: dict[str, Any] | str | None = option(
        None, help='For torch.utils.checkpoint, as JSON with "use_reentrant": false, which is the default.'
    )
    dataloader_num_workers: int | None = option(
        None,
        help="Processes that decode, augment and batch clips for each process that trains; batches do not depend on their "
        "number. By default 0 on a CPU, and with a GPU one less than there are cores, at most 8.",
    )
    dataloader_persistent_workers: bool | None = option(
        None, help="Keep these processes between the epochs of a training; by default on a GPU."
    )
    remove_unused_columns: bool = option(False, help="Must be False: the audio would be removed.")
    ddp_find_unused_parameters: bool | None = option(
        False,
        help="With several processes: look in each step for parameters that it does not use. A method of this package has none; "
        "another configuration of PEFT may.",
    )
    bf16: bool | None = option(
        None,
        help="Train in bfloat16; by default where the GPU or processor has it in hardware. On GPUs with tensor cores and without "
        "it (V100, T4) the default is --fp16 True. --bf16 False trains in float32.",
    )
    fp16: bool = option(False, help="Train in float16, with a scaled loss; see bf16.")
    attn_implementation: str | None = option(
        None,
        help="How attention is computed in training, as in transformers' from_pretrained; flash_attention_2 needs the package "
        "flash-attn. By default sdpa, on a CPU with faster code of this package where it has some.",
        choices=["sdpa", "flash_attention_2", "eager"],  # others are downloaded code
    )

    def __post_init__(self) -> None:
        weights = parse_targets(self.targets)
        self._resolve_defaults(weights)
        self._check(weights)
        # The clip that a segment is cut from travels with its label to the metrics.
        self.label_names = ["labels", "clip"]
        super().__post_init__()
        given = self.gradient_checkpointing_kwargs  # transformers has read its JSON
        if given is not None and not (isinstance(given, dict) and given.get("use_reentrant") is False):
            raise ValueError(
                f'gradient_checkpointing_kwargs: found {given}, expected "use_reentrant": false in it: the re-entrant kind loses '
                "the gradient of convolutions and behind frozen layers"
            )
        # ZeRO-3 spreads the model once it is loaded: as it is loaded, a weight norm could not be computed.
        unset_hf_deepspeed_config()
        if self.device.type == "cpu":
            # accelerate launch leaves each process a single thread.
            torch.set_num_threads(self.threads)

    def _resolve_defaults(self, targets: Mapping[str, float]) -> None:
        """Sets what depends on the machine or on other arguments."""
        resume: Any = vars(self)["resume_from_checkpoint"]  # on the command line True is a word
        self.resume_from_checkpoint = {"true": True, "false": None}.get(str(resume).lower(), resume)
        if self.metric_for_best_model is None:
            self.metric_for_best_model = "uar" if {EMOTION, DISTRIBUTION} & targets.keys() else "ccc"
        if self.greater_is_better is None:
            # transformers maximises everything but the loss.
            self.greater_is_better = self.metric_for_best_model.removeprefix("eval_") not in ("loss", "eer")
        if not (torch.cuda.is_available() or torch.backends.mps.is_available()):
            self.use_cpu = True  # else transformers takes bfloat16 for a GPU's
        if self.balance is None:
            # The shares of the raters' votes are to be predicted as they are.
            self.balance = "none" if EMOTION not in targets or DISTRIBUTION in targets else "logits"
        if self.bf16 is None:
            default = half_precision(self.use_cpu)
            self.bf16 = not self.fp16 and default == "bf16"
            self.fp16 = self.fp16 or default == "fp16"
        if self.dataloader_num_workers is None:
            self.dataloader_num_workers = loading_processes(not self.use_cpu, self.cpu_threads)
        if self.dataloader_persistent_workers is None:
            # Not on a CPU: kept workers draw no seed in later epochs, so that dropout would draw other numbers than without them.
            self.dataloader_persistent_workers = bool(self.dataloader_num_workers) and not self.use_cpu
        given: Any = vars(self)["accelerator_config"]
        if given is None or isinstance(given, dict):
            # Else each copy of a batch to a GPU waits until the GPU has nothing left to do.
            pinned = self.dataloader_pin_memory and torch.cuda.is_available() and not self.use_cpu
            self.accelerator_config = {"non_blocking": pinned, **(given or {})}
        if self.lr_scheduler_type == "reduce_lr_on_plateau" and not self.lr_scheduler_kwargs:
            self.lr_scheduler_kwargs = {"mode": "min", "factor": 0.5, "patience": 5}
        if self.gradient_checkpointing and self.gradient_checkpointing_kwargs is None:
            # The re-entrant kind loses the gradient behind a frozen layer.
            self.gradient_checkpointing_kwargs = {"use_reentrant": False}

    def _check(self, targets: Mapping[str, float]) -> None:
        """
        Raises:
            ValueError: if an argument is out of range, or does not fit another one.
        """
        if not self.output_dir:
            raise ValueError("output_dir: name the run's folder")
        for name, (value, why) in UNUSABLE.items():
            if (found := getattr(self, name)) != value:
                raise ValueError(f"{name}: {why}; found {found}")
        require_choices(self)
        for name in NOT_NEGATIVE:
            number = getattr(self, name)
            if number is not None and not 0 <= number < math.inf:  # NaN is not, either
                raise ValueError(f"{name}: must be finite and not below 0, found {number}")
        for name in SHARES:
            require_share(name, getattr(self, name))
        metric = str(self.metric_for_best_model)
        if metric.removeprefix("eval_") not in CHOOSING_METRICS:
            raise ValueError(f"metric_for_best_model: {metric!r} is none of {', '.join(CHOOSING_METRICS)}")
        if self.balance != "none" and not {EMOTION, DISTRIBUTION} & targets.keys():
            raise ValueError(
                f"balance={self.balance!r}: is of use with emotions alone, and targets are {listed(targets)}"
            )
        if self.balance == "logits" and DISTRIBUTION in targets:
            raise ValueError(
                "balance='logits': needs one emotion for each clip, and targets have emotion_distribution; choose weights or none"
            )
        one = "focal_gamma: needs one true emotion for each clip, and"
        flash = self.attn_implementation == "flash_attention_2"
        for wrong, message in (
            (
                self.segment_overlap and self.segment_length is None,
                f"segment_overlap: is of use with segment_length alone, found {self.segment_overlap} without it",
            ),
            (
                self.focal_gamma and self.label_smoothing_factor,
                f"{one} label_smoothing_factor is {self.label_smoothing_factor}; use one of them",
            ),
            (self.focal_gamma and DISTRIBUTION in targets, f"{one} a target is emotion_distribution"),
            (
                flash and not (self.bf16 or self.fp16),
                "attn_implementation='flash_attention_2': computes in 16 bits alone; set bf16=True or fp16=True",
            ),
            (
                self.early_stopping_patience is not None and not self.load_best_model_at_end,
                "early_stopping_patience: the epoch at which it stops is of use with load_best_model_at_end True alone",
            ),
        ):
            if wrong:
                raise ValueError(message)
        cut((), self.segment_length, self.segment_overlap)

    @property
    def folder(self) -> Path:
        """The run's folder, `output_dir`."""
        return Path(str(self.output_dir))

    @property
    def clips_per_step(self) -> int:
        """The clips of a step of the optimizer, in all processes and in the batches that are accumulated."""
        return self.per_device_train_batch_size * self.world_size * self.gradient_accumulation_steps

    @property
    def threads(self) -> int:
        """The threads that this process may compute with on a processor."""
        return self.cpu_threads or threads_of_this_process()

    def resolve_learning_rates(self, method: str, parameters: int) -> None:
        """
        Sets the learning rates that are not given, for a model with so many parameters, and the tenth that a plateau does not go
        below. Of combined methods the one with the smallest rate counts.
        """
        methods = method.split("+")
        solved = self.head == "linear" and HEAD_METHODS.issuperset(methods)  # all that trains starts at its solution
        if self.learning_rate is None:
            rates = map(default_rates, methods)
            smallest = min(next(rate for size, rate in of.items() if parameters <= size) for of in rates)
            self.learning_rate = HEAD_LEARNING_RATE if solved else smallest
        if self.head_learning_rate is None and self.head == "linear":
            self.head_learning_rate = self.learning_rate if solved else HEAD_LEARNING_RATE
        if self.lr_scheduler_type == "reduce_lr_on_plateau" and isinstance(self.lr_scheduler_kwargs, dict):
            self.lr_scheduler_kwargs = {"min_lr": self.learning_rate / 10, **self.lr_scheduler_kwargs}
