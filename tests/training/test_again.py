"""What a Trainer has done before, or does in between, changes no training and no prediction."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import DatasetDict
from trainings import losses, without_dropout
from transformers import TrainerCallback

from hf_ser.training import SERConfig, SERTrainer

Make = Callable[..., tuple[SERTrainer, DatasetDict]]
LOGGED = ("--logging_strategy", "steps", "--logging_steps", "1", "--per_device_train_batch_size", "6")
BF16 = ("--bf16", "True", "--eval_strategy", "no", "--save_strategy", "no", *LOGGED)


class Do(TrainerCallback):
    """Calls `action` once, after a step."""

    def __init__(self, action: Callable[[], object], step: int) -> None:
        self.action = action
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            self.step = -1
            self.action()


def weights(trainer: SERTrainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


class Types:
    """The types that the last layer of a model computes in, in training and in predictions."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.training: set[torch.dtype] = set()
        self.predictions: set[torch.dtype] = set()
        *_, last = (module for module in model.modules() if isinstance(module, torch.nn.Linear))
        last.register_forward_hook(self.note)

    def note(self, module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        (self.training if torch.is_grad_enabled() else self.predictions).add(output.dtype)


class TestArguments:
    @pytest.mark.parametrize("schedule", ["linear", "reduce_lr_on_plateau"])
    def test_serve_several_trainers(
        self, schedule: str, small_parts: DatasetDict, tiny_hubert: Path, tmp_path: Path
    ) -> None:
        """Trap: a trainer wrote what it had resolved into them."""
        args = SERConfig(str(tmp_path / "own"), bf16=False, lr_scheduler_type=schedule, disable_tqdm=True)
        before = args.to_dict()
        validation = None if schedule == "linear" else small_parts["validation"]
        first = SERTrainer(tiny_hubert, args, small_parts["train"], validation, "lora_qkv")
        assert first.args.learning_rate == 5e-4
        second = SERTrainer(tiny_hubert, args, small_parts["train"], small_parts["validation"])
        assert second.args.learning_rate == 5e-5
        assert second.args.eval_strategy == "epoch"
        assert schedule == "linear" or second.args.lr_scheduler_kwargs["min_lr"] == 5e-6
        assert args.to_dict() == before


class TestPredictions:
    @pytest.mark.parametrize(
        "options",
        [
            ["--method", "lora_qkv", "--frozen_cache_gb", "0"],
            ["--method", "lora_qkv", "--bf16", "True"],
            ["--method", "frozen", "--head", "conv"],
        ],
        ids=["no cache", "convolutions cached", "encoder cached"],
    )
    def test_leave_the_training_as_it_was(self, make: Make, options: list[str]) -> None:
        """Trap: what followed an evaluation was in float32, or a TypeError."""
        found = []
        for evaluates in (False, True):
            trainer, clips = make("--max_steps", "2", *BF16, *options)
            without_dropout(trainer.model)
            types = Types(trainer.model)

            def evaluate(trainer: SERTrainer = trainer, clips: DatasetDict = clips) -> None:
                trainer.evaluate(clips["test"])

            if evaluates:
                trainer.add_callback(Do(evaluate, step=1))
            trainer.train()
            assert not trainer.metrics  # they were those of another model
            history = losses(trainer)
            if evaluates:
                evaluate()
            trainer.train()
            found.append([*history, *losses(trainer)])
            assert types.training == {torch.bfloat16}
        assert types.predictions == {torch.float32}
        assert found[0] == found[1]

    def test_are_in_float32_before_and_after_a_training_in_bfloat16(self, make: Make) -> None:
        """Trap: without a dataset, evaluate() gave other metrics than with the same clips."""
        trainer, clips = make("--method", "lora_qkv", "--max_steps", "2", *BF16)
        types = Types(trainer.model)
        for train in (False, True):
            if train:
                trainer.train()
            plain = trainer.evaluate()
            given = trainer.evaluate(clips["validation"])
            assert plain == given
            assert math.isfinite(plain["eval_loss"])
            assert plain["eval_clips"] == len(clips["validation"])
        assert types.predictions == {torch.float32}

    def test_of_an_epoch_are_in_the_precision_of_the_training(self, make: Make) -> None:
        trainer, _ = make("--method", "lora_qkv", "--num_train_epochs", "1", *BF16, "--eval_strategy", "epoch")
        types = Types(trainer.model)
        trainer.train()
        assert types.predictions == {torch.bfloat16}


class TestTrainings:
    @pytest.mark.parametrize(
        ("share", "same"),
        [("0.9", False), ("0.9", True), ("0.5", True)],
        ids=["in the averaging", "in the averaging, by the same trainer", "before the averaging, by the same trainer"],
    )
    def test_resumed_ones_keep_the_weights_of_one_that_never_stopped(
        self, make: Make, steady_hubert: Path, share: str, same: bool
    ) -> None:
        """Traps: the interpolation started at half-trained weights; the mean had steps of the part that was lost."""

        def made() -> SERTrainer:
            return make(*options, checkpoint=steady_hubert)[0]

        options = ("--head", "linear", "--method", "full", "--max_steps", "5", "--per_device_train_batch_size", "6",
                   "--save_strategy", "steps", "--save_steps", "2", "--eval_strategy", "no", "--average_share", share,
                   "--overwrite_output_dir", "True")  # fmt: skip
        whole = made()
        whole.train()

        stopped = made()

        def interrupt() -> None:
            raise KeyboardInterrupt

        stopped.add_callback(Do(interrupt, step=3))
        before = list(logging.root.handlers)
        with pytest.raises(KeyboardInterrupt):
            stopped.train()
        assert logging.root.handlers == before  # not those that write above a progress bar
        resumed = stopped if same else made()
        resumed.train(resume_from_checkpoint=True)
        assert resumed.record.resumed_from == "checkpoint-2"
        assert resumed.average.steps == whole.average.steps
        assert resumed.kept_between == whole.kept_between
        torch.testing.assert_close(weights(resumed), weights(whole), atol=1e-6, rtol=1e-5)

    def test_a_second_one_goes_on_from_the_weights_of_the_first(self, make: Make) -> None:
        """Trap: it put the head of the frozen encoder's probe on the tuned encoder."""
        trainer, _ = make("--head", "linear", "--method", "full", "--num_train_epochs", "1", "--interpolation", "False",
                          "--average_share", "0.5", "--save_strategy", "no")  # fmt: skip
        trainer.train()
        steps, before = trainer.average.steps, weights(trainer)
        begins_with = {}

        class Begin(TrainerCallback):
            def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
                begins_with.update(weights(trainer))

        trainer.add_callback(Begin())
        trainer.train()
        torch.testing.assert_close(begins_with, before, atol=0, rtol=0)
        assert trainer.average.steps == steps
