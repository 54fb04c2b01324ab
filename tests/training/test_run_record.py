import logging
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from hf_ser.clips import ClipsInfo
from hf_ser.corpora import source_of
from hf_ser.training import SERConfig
from hf_ser.training.run_record import corpora_table, history, training_warning


def test_the_history_has_one_entry_an_epoch() -> None:
    log = [
        {"epoch": 1.0, "loss": 2.0, "grad_norm": 1.0, "learning_rate": 0.1, "step": 3},
        {"epoch": 1.0, "eval_loss": 1.9, "eval_uar": 0.2, "eval_confusion_matrix": [[1]], "step": 3},
        {"epoch": 2.0, "loss": 1.5, "learning_rate": 0.05, "step": 6},
        {"train_runtime": 3.0, "epoch": 2.0},
    ]
    assert history(log) == [
        {"epoch": 1.0, "loss": 2.0, "learning_rate": 0.1, "eval_loss": 1.9, "eval_uar": 0.2},
        {"epoch": 2.0, "loss": 1.5, "learning_rate": 0.05},
    ]


def test_a_training_names_its_steps_and_warns_of_few(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Trap: with several GPUs a step has several times as many clips, and an epoch few steps."""
    words = ("--num_train_epochs", "1", "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2")
    trainer, _ = make(*words, "--save_strategy", "no", "--eval_strategy", "no")
    with caplog.at_level(logging.INFO, "hf_ser"):
        trainer.train()
    assert trainer.state.max_steps == 3
    assert (
        "training: 3 steps of 8 clips (per_device_train_batch_size=4, processes: 1, gradient_accumulation_steps=2)"
        in caplog.text
    )
    assert "a training of 3 steps may change little" in caplog.text
    caplog.clear()
    trainer, _ = make("--max_steps", "1", "--save_strategy", "no", "--eval_strategy", "no")  # as asked for
    trainer.train()
    assert "may change little" not in caplog.text


def test_a_loss_that_is_not_finite_is_logged_as_it_is_and_warned_of(make: Callable[..., Any]) -> None:
    """Trap: transformers logs the mean of the losses before in its place."""
    trainer, parts = make(
        "--max_steps", "4", "--logging_strategy", "steps", "--logging_steps", "1", "--save_strategy", "no"
    )
    own = trainer.compute_loss_func

    def loss(outputs: Any, labels: Any, **options: Any) -> Any:
        return own(outputs, labels, **options) + (math.nan if trainer.state.global_step == 2 else 0)

    trainer.compute_loss_func = loss
    trainer.train()
    assert [math.isfinite(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry] == [
        True,
        True,
        False,
        True,
    ]
    trainer.evaluate(parts["test"])
    assert any("its loss is not finite" in warning for warning in trainer.results().warnings)


CHANCE = math.log(8)


@pytest.mark.parametrize(
    ("head", "start", "losses", "words"),
    [
        ("linear", 0.4 * CHANCE, [2.08, 2.07, 2.06], "did not fall: 0.832 at first, 2.06 in epoch 3. Lower"),
        ("linear", 1.0, [3.0], "did not fall: 1 at first, 3 in epoch 1. Lower"),
        ("linear", None, [1.0, 3.0], "did not fall: 1 at first"),
        ("linear", 0.9, [1.045, 1.02, 1.046], None),  # a step's loss is not the mean, and it starts at its solution
        ("linear", 0.01, [0.04, 0.05], None),
        ("stock", CHANCE, [1.5, 1.2, 1.0], None),
        ("stock", CHANCE, [2.08], None),  # of one step
        ("stock", CHANCE, [2.3, 2.2, 2.25], "did not fall"),
        ("stock", 1.0, [1.0, math.nan], "its loss is not finite"),
        ("stock", None, [], None),
    ],
)
def test_a_training_whose_loss_does_not_fall_is_warned_of(
    head: str, start: float | None, losses: list[float], words: str | None
) -> None:
    log = [{"loss": loss, "grad_norm": 2.0, "epoch": float(n)} for n, loss in enumerate(losses, 1)]
    if start is not None and log:
        log[0]["start_loss"] = start
    found = training_warning(log, SERConfig("run", head=head))
    assert words in found if words else found is None


@pytest.mark.parametrize(("norm", "clipped"), [(20.0, True), (2.0, False)])
def test_it_says_that_every_gradient_was_clipped(norm: float, clipped: bool) -> None:
    """Of a training that does not fall: the steps of AdamW do not depend on the scale of the gradients."""
    log = [{"loss": 1.0 + n, "grad_norm": norm, "epoch": float(n)} for n in (1, 2, 3)]
    found = training_warning(log, SERConfig("run", head="stock"))
    assert ("was clipped to less than a tenth of its length (20 or more, and max_grad_norm is 1)" in found) == clipped


def test_the_loss_of_the_last_epoch_is_a_mean_over_its_steps() -> None:
    losses = [1.0, 0.9, 0.2, 0.1, 0.2, 1.4]  # of single steps
    log = [{"loss": loss, "epoch": n / 3} for n, loss in enumerate(losses, 1)]
    assert training_warning(log, SERConfig("run", head="stock")) is None


def test_a_training_that_diverges_is_warned_of_while_it_goes_on_and_in_its_results(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Trap: the loss had risen within the first epoch, and did not rise any more; and it was said at the end."""
    trainer, parts = make("--head", "linear", "--method", "full", "--num_train_epochs", "2", "--save_strategy", "no",
                          "--per_device_train_batch_size", "4", "--learning_rate", "10", "--average_share", "0",
                          "--interpolation", "False")  # fmt: skip
    said = []

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            said.append("did not fall" in caplog.text)

    trainer.add_callback(Watch())
    trainer.train()
    assert (said[0], said[-1]) == (False, True)
    trainer.evaluate(parts["test"])
    assert [warning for warning in trainer.results().warnings if "did not fall: 0." in warning]


def test_a_run_on_a_processor_leaves_the_gpu_alone(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, parts = make("--use_cpu", "True", "--max_steps", "1", "--save_strategy", "no")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)  # an optimizer asks
    initialised = torch.cuda.is_initialized()
    trainer.train()
    trainer.evaluate(parts["test"])
    assert trainer.results().environment.device.startswith("CPU")
    assert torch.cuda.is_initialized() == initialised


def clips(corpora: list[str], speakers: list[str | None]) -> Dataset:
    """Clips of half an hour each, as far as the tables look at them."""
    return Dataset.from_dict({"corpus": corpora, "speaker": speakers, "duration": [1800.0] * len(corpora)})


def test_corpora_are_counted_over_all_parts_with_the_reader_that_they_came_from() -> None:
    train = Dataset(
        clips(["a", "ravdess"], ["a_1", None]).data, info=ClipsInfo(sources={"ravdess": {"read_as": "ravdess"}})
    )
    others = [
        Dataset(clips(["a"], [speaker]).data, info=ClipsInfo(sources=of))
        for speaker, of in ((None, {}), ("a_2", {"a": {"read_as": "tess"}}))
    ]
    parts = {"train": train, "validation": others[0], "test": others[1]}
    assert corpora_table(parts) == {
        "a": {"clips": 3, "speakers": 2, "clips_without_speaker": 1, "hours": 1.5, "read_as": "tess"},
        "ravdess": {"clips": 1, "speakers": 0, "clips_without_speaker": 1, "hours": 0.5, "read_as": "ravdess"},
    }


def test_sources_tell_a_reader_from_a_data_set_on_the_hub() -> None:
    on_hub = {"read_as": "dataset", "hub_dataset": "someone/tess"}
    for specification, source in {
        "ravdess=R": {"read_as": "ravdess"},
        "synthetic": {"read_as": "synthetic"},
        "dataset=someone/tess:all": on_hub,
        "emobox=EmoBox/data/cremad": {"read_as": "crema_d"},
        "emobox=EmoBox/data/oreau": {"read_as": "manifest"},
        "manifest=list.csv": {"read_as": "manifest"},
    }.items():
        assert source_of(specification) == source
