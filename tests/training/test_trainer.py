"""What is learned does not depend on how it is computed."""

import copy
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from accelerate.optimizer import AcceleratedOptimizer
from datasets import DatasetDict
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from trainings import checkpoints, without_dropout
from transformers import AutoFeatureExtractor, AutoModel, Trainer, TrainerCallback, TrainingArguments
from transformers.optimization import GreedyLR

import hf_ser
from hf_ser.audio import read_mono
from hf_ser.corpora import CorpusError
from hf_ser.modeling.families import minimum_samples
from hf_ser.results import RunResults
from hf_ser.training import SERConfig, SERTrainer, finetune, parse_arguments
from hf_ser.training.checkpoints import HEAD_WEIGHTS, load_head
from hf_ser.training.data import load_splits, segments_of
from hf_ser.training.dataset import SpeechDataset
from hf_ser.training.frozen import cached_frozen_part
from hf_ser.training.losses import inverse_frequencies

Make = Callable[..., tuple[SERTrainer, DatasetDict]]


def gradients(trainer: SERTrainer, batches: list[dict[str, torch.Tensor]]) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and the gradients of one step that is cut into `batches`, as the Trainer takes it."""
    samples, items = trainer.get_batch_samples(iter(batches), len(batches), trainer.args.device)
    trainer.current_gradient_accumulation_steps = len(samples)
    loss = sum(float(trainer.training_step(trainer.model, dict(batch), items)) for batch in samples)
    found = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    return loss, found


def batch_of(trainer: SERTrainer, clips: int = 8) -> dict[str, torch.Tensor]:
    """The first training clips."""
    return trainer.data_collator([trainer.train_dataset[i] for i in range(clips)])


def distances_from_orthogonal(model: torch.nn.Module) -> list[float]:
    """How far the columns of P and the rows of Q are from orthonormal ones, for each matrix of AdaLoRA."""
    p = [weight.T for name, weight in model.named_parameters() if ".lora_B." in name]
    q = [weight for name, weight in model.named_parameters() if ".lora_A." in name]
    return [(rows @ rows.T - torch.eye(len(rows))).norm().item() for rows in (*p, *q)]


class TestLoss:
    @pytest.mark.parametrize(
        "options",
        [
            ["--method", "full"],
            ["--balance", "weights"],
            ["--label_smoothing_factor", "0.1"],
            ["--focal_gamma", "2", "--balance", "weights"],
            ["--mixup_alpha", "0.5", "--balance", "weights"],
            ["--targets", "arousal", "valence"],
        ],
        ids=["plain", "weighted", "smoothed", "focal", "mixup", "dimensions"],
    )
    def test_eight_clips_at_once_or_in_four_accumulated_batches(self, make: Make, options: list[str]) -> None:
        """Trap: accumulation multiplies the loss, since the model takes any keyword. CCC is of all clips of a step."""
        trainer, _ = make("--method", "lora_qkv", "--lora_dropout", "0", *options)
        without_dropout(trainer.model)
        items = [trainer.train_dataset[i] for i in range(8)]
        at_once, expected = gradients(trainer, [trainer.data_collator(items)])
        cut, found = gradients(trainer, [trainer.data_collator(items[i : i + 2]) for i in range(0, 8, 2)])
        assert cut == pytest.approx(at_once, rel=1e-4)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)

    def test_the_regulariser_of_adalora_counts_once_in_a_step(self, make: Make) -> None:
        """However the step is cut, and not in an evaluation, whose loss chooses the model."""
        found = {}
        for weight in (0, 100):
            trainer, _ = make("--method", "adalora", "--peft_arguments", f'{{"orth_reg_weight": {weight}}}')
            without_dropout(trainer.model)
            items = [trainer.train_dataset[i] for i in range(8)]
            batches = [[items], [items[:3], items[3:]]]
            found[weight] = [gradients(trainer, [*map(trainer.data_collator, batch)]) for batch in batches]
            found[weight].append((trainer.evaluate()["eval_loss"], {}))
        distances = distances_from_orthogonal(trainer.model)
        (whole, expected), (cut, gradient), _ = found[100]
        assert whole - found[0][0][0] == pytest.approx(100 * np.mean(distances), rel=1e-4)
        assert cut == pytest.approx(whole, rel=1e-5)
        torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-3)
        assert found[100][2] == found[0][2]

    @pytest.mark.parametrize(
        ("method", "encoder", "target"),
        [
            ("full", "tiny_hubert", "emotion"),
            ("full", "group_norm_hubert", "emotion"),
            ("lora_ff", "tiny_whisper", "emotion"),
            ("frozen", "tiny_hubert", "emotion"),
            ("full", "tiny_hubert", "valence"),
        ],
    )
    def test_a_batch_as_a_whole_or_in_micro_batches_of_like_length(
        self, make: Make, method: str, encoder: str, target: str, request: pytest.FixtureRequest
    ) -> None:
        options = ("--method", method, "--lora_dropout", "0", "--head", "conv", "--targets", target)
        trainer, _ = make(*options, checkpoint=request.getfixturevalue(encoder))
        without_dropout(trainer.model)
        batch = batch_of(trainer)
        trainer.args.micro_batch_seconds = 0.0
        whole, expected = gradients(trainer, [batch])
        trainer.args.micro_batch_seconds = 3.0
        assert len(trainer._micro_batches(batch)) > 2
        assert (
            sorted(torch.cat([part["clip"] for part in trainer._micro_batches(batch)]).tolist())
            == batch["clip"].sort().values.tolist()
        )
        cut, found = gradients(trainer, [batch])
        assert cut == pytest.approx(whole, rel=1e-5)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            # As a whole: rounding turns a ReLU here and there.
            assert (found[name] - gradient).norm() < 3e-3 * gradient.norm() + 1e-5, name

    def test_a_batch_stays_whole_behind_a_cache_before_a_batch_norm_and_where_the_model_is_shared(
        self, make: Make
    ) -> None:
        """A shared model's weights are fetched for each micro-batch; processes with more of them would wait for ever."""
        trainer, _ = make("--method", "frozen", "--head", "conv", "--micro_batch_seconds", "0.5")
        assert len(trainer._micro_batches(batch_of(trainer))) > 1
        with cached_frozen_part(trainer):
            assert len(trainer._micro_batches(trainer.train_dataset.__getitems__(range(8)))) == 1
        trainer.is_fsdp_enabled = True
        assert len(trainer._micro_batches(batch_of(trainer))) == 1
        trainer, _ = make("--head", "batchnorm", "--micro_batch_seconds", "0.5")
        assert len(trainer._micro_batches(batch_of(trainer))) == 1

    def test_a_mixed_batch_learns_both_labels(self, make: Make) -> None:
        trainer, _ = make("--method", "frozen", "--mixup_alpha", "1")
        batch = batch_of(trainer)
        assert ((batch["labels"] > 0).sum(dim=1) == 2).any()
        trainer.model.eval()
        with torch.no_grad():
            logits = trainer.model(batch["input_values"], attention_mask=batch["attention_mask"]).logits
            found = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor([8]))
        wanted = batch["labels"]
        both = -(wanted * logits.log_softmax(dim=1)).sum(1) + torch.special.xlogy(wanted, wanted).sum(1)
        torch.testing.assert_close(found, both.mean())

    def test_weights_give_every_emotion_the_same_share(self) -> None:
        labels = [0] * 6 + [1] * 3 + [2]
        weights = inverse_frequencies(labels, 3)
        assert weights[labels].mean() == pytest.approx(1)
        shares = torch.tensor([weights[i] * labels.count(i) for i in range(3)])
        torch.testing.assert_close(shares, shares[:1].expand(3))


def test_a_training_is_that_of_transformers_trainer(make: Make) -> None:
    words = "--max_steps 5 --per_device_train_batch_size 6 --micro_batch_seconds 3 --weight_decay 1 --logging_strategy steps "
    words += "--logging_steps 1 --save_strategy no --eval_strategy no --average_share 0 --balance none"
    own, _ = make(*words.split())
    without_dropout(own.model)
    own.model.config.layerdrop = 0.0
    own.model.classifier.weight.data *= 30  # else the loss hardly moves

    def collate(items: list[Any]) -> dict[str, torch.Tensor]:
        batch = own.data_collator(items)
        inputs = {name: batch[name] for name in ("input_values", "attention_mask")}
        return {**inputs, "labels": batch["labels"].argmax(dim=1)}

    names = ("output_dir", "max_steps", "per_device_train_batch_size", "weight_decay", "learning_rate", "lr_scheduler_type",
             "warmup_steps", "logging_steps", "save_strategy", "use_cpu", "remove_unused_columns", "disable_tqdm")  # fmt: skip
    args = TrainingArguments(**{name: getattr(own.args, name) for name in names})
    found = []
    for trainer in (own, Trainer(copy.deepcopy(own.model), args, collate, own.train_dataset)):
        trainer._get_train_sampler = lambda *_: range(len(own.train_dataset))
        trainer.train()
        found.append([[entry[name] for name in ("loss", "grad_norm")] for entry in trainer.state.log_history[:5]])
    np.testing.assert_allclose(*found, rtol=1e-4)
    assert np.ptp(found[0], axis=0).min() > 1e-2  # the weights have changed


class TestEvaluation:
    def test_all_processes_judge_the_model_that_the_first_one_saves(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Trap: the batch norms of each process have counted that process' clips."""
        trainer, _ = make("--head", "batchnorm")
        monkeypatch.setattr(SERConfig, "world_size", 2)
        monkeypatch.setattr(torch.distributed, "broadcast", lambda tensor, source: tensor.fill_(5 + source))
        trainer.evaluate()
        (norm,) = (module for module in trainer.model.modules() if isinstance(module, torch.nn.BatchNorm1d))
        for buffer in (norm.running_mean, norm.running_var, norm.num_batches_tracked):
            assert (buffer == 5).all()

    def test_a_cut_clip_counts_once(self, make: Make) -> None:
        """Segments are averaged per clip; a clip's segments are all in its part."""
        trainer, clips = make("--segment_length", "0.4", "--segment_overlap", "0.1")
        segments = trainer.eval_dataset.segments
        assert len(segments) > len(clips["validation"])
        assert set(segments.clip) == set(range(len(clips["validation"])))
        matrix = trainer.evaluate()["eval_confusion_matrix"]
        assert np.sum(matrix) == len(clips["validation"])

    def test_the_order_and_the_batches_do_not_matter(self, make: Make) -> None:
        trainer, clips = make("--balance", "weights")
        segments = segments_of(clips["test"], trainer.args)
        backwards = segments.take(np.arange(len(segments))[::-1])
        found = []
        for some, size in ((segments, 1), (segments, 4), (backwards, 5)):
            trainer.args.per_device_eval_batch_size = size
            prediction = trainer.predict_clips(SpeechDataset(clips["test"], some))
            order = np.argsort(prediction.label_ids[1])
            found.append([*prediction.predictions[order].ravel(), prediction.metrics["_loss"]])
        np.testing.assert_allclose(found[1:], [found[0]] * 2, atol=1e-4)

    @pytest.mark.parametrize("method", ["full", "frozen"])
    def test_predictions_are_in_float32_after_a_training_in_bfloat16(self, make: Make, method: str) -> None:
        """Trap: the outputs of all layers, which the head takes, would be among the predictions."""
        trainer, _ = make("--bf16", "True", "--method", method, "--max_steps", "1", "--weighted_layer_sum", "True",
                          "--eval_strategy", "no", "--save_strategy", "no")  # fmt: skip
        trainer.train()
        dataset = trainer.eval_dataset
        prediction = trainer.predict_clips(dataset)
        assert prediction.predictions.shape == (len(dataset), 3)
        batch = trainer.data_collator([dataset[0]])
        with torch.no_grad():
            plain = trainer.accelerator.unwrap_model(trainer.model).eval()(
                batch["input_values"], attention_mask=batch["attention_mask"]
            )
        np.testing.assert_allclose(prediction.predictions[0], plain.logits[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("encoder", ["tiny_hubert", "tiny_whisper"])
def test_short_training_batches_are_padded_for_spec_augment(
    make: Make, encoder: str, request: pytest.FixtureRequest
) -> None:
    short = ("--segment_length", "0.05", "--max_steps", "1", "--eval_strategy", "no", "--save_strategy", "no",
             "--frozen_cache_gb", "0")  # fmt: skip
    folder = request.getfixturevalue(encoder)
    plain, _ = make(*short, checkpoint=folder)
    assert plain.data_collator.minimum_samples == minimum_samples(plain.model.config)
    trainer, _ = make(*short, "--mask_time_prob", "0.3", checkpoint=folder)
    assert trainer.data_collator.minimum_samples == minimum_samples(trainer.model.config, 11)
    trainer.train()


@pytest.mark.parametrize(
    "options",
    [
        "--speed_probability 0.5 --distort_probability 0.8 --mixup_alpha 0.4 --prompt_start frames --method prompt",
        "--mixup_alpha 0.4 --frozen_cache_views 2 --method frozen --balance sampling",
    ],
    ids=["augmented", "cached"],
)
def test_a_run_with_an_option_is_repeated(make: Make, options: str) -> None:
    def history() -> list[Any]:
        trainer, _ = make("--method", "lora_classifier", "--num_train_epochs", "1", "--per_device_train_batch_size", "6",
                          "--save_strategy", "no", "--logging_strategy", "steps", "--logging_steps", "1", *options.split())  # fmt: skip
        trainer.train()
        return _loss_history(trainer)

    assert history() == history()


def test_options_that_exclude_each_other_are_refused(make: Make) -> None:
    with pytest.raises(ValueError, match=r"focal_gamma: .* mixup_alpha gives it two"):
        make("--mixup_alpha", "1", "--focal_gamma", "2")


def _loss_history(trainer: SERTrainer) -> list[Any]:
    return [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(
    ("method", "strategy", "more"),
    [("full", "steps", ()), ("lora_qkv", "epoch", ()), ("adalora", "steps", ()), ("randlora", "epoch", ()),
     # Trap: the first step of a resumed run drew other dropout in its two passes than it had.
     ("lora_qkv", "steps", ("--targets", "emotion", "arousal", "--lora_dropout", "0.5", "--micro_batch_seconds", "1"))],
)  # fmt: skip
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(
    make: Make, method: str, strategy: str, more: tuple[str, ...]
) -> None:
    """At the end of an epoch, and in the middle of one."""
    options = ["--method", method, "--num_train_epochs", "2", "--logging_strategy", "steps", "--logging_steps", "1",
               "--noise_probability", "0.5", "--lora_dropout", "0", "--save_total_limit", "9", "--save_strategy", strategy,
               "--eval_strategy", strategy, "--save_steps", "3", "--eval_steps", "3",
               "--per_device_train_batch_size", "6", *more]  # fmt: skip
    trainer, _ = make(*options)
    trainer.train()
    expected = _loss_history(trainer)
    folders = checkpoints(Path(trainer.args.output_dir))
    assert not any((path / "training_args.bin").exists() for path in folders)
    again, _ = make(*options)
    again.train(resume_from_checkpoint=str(folders[0]))
    assert again.state.global_step == trainer.state.global_step
    np.testing.assert_allclose(_loss_history(again), expected, rtol=1e-4)


def test_gradient_checkpointing_changes_nothing(make: Make) -> None:
    losses = []
    for checkpointing in ("False", "True"):
        trainer, _ = make("--method", "lora_qkv", "--gradient_checkpointing", checkpointing, "--max_steps", "2",
                          "--save_strategy", "no", "--load_best_model_at_end", "False", "--logging_strategy", "steps",
                          "--logging_steps", "1")  # fmt: skip
        trainer.train()
        losses.append(_loss_history(trainer))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_it_stops_early_and_writes_for_tensorboard(make: Make) -> None:
    trainer, _ = make("--early_stopping_patience", "1", "--learning_rate", "0", "--num_train_epochs", "9", "--report_to",
                      "tensorboard", "--method", "lora_classifier", "--load_best_model_at_end", "True")  # fmt: skip
    trainer.train()
    assert trainer.state.epoch == 2
    assert list(Path(trainer.args.output_dir).rglob("events.out.tfevents.*"))


@pytest.mark.parametrize("skipped", [0, 5], ids=["in-the-middle", "where-ranks-are-final"])
def test_adalora_chooses_ranks_though_fp16_has_skipped_a_step(
    make: Make, monkeypatch: pytest.MonkeyPatch, skipped: int
) -> None:
    def step(self: AcceleratedOptimizer, closure: Any = None) -> None:
        self._is_overflow = trainer.state.global_step == skipped
        if not self._is_overflow:
            self.optimizer.step(closure)
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad.fill_(math.inf)

    monkeypatch.setattr(AcceleratedOptimizer, "step", step)
    ranks = '{"init_r": 4, "target_r": 2, "tfinal": 3, "deltaT": 99}'
    trainer, _ = make("--method", "adalora", "--peft_arguments", ranks, "--max_steps", "8", "--save_strategy", "no")
    trainer.train()
    kept = trainer.model.peft_config["default"].rank_pattern
    assert sum(map(sum, kept.values())) == 2 * len(kept)


@pytest.mark.parametrize("method", ["full", "adalora"])
def test_the_kept_model_is_the_best_one(make: Make, method: str) -> None:
    trainer, _ = make(
        "--method", method, "--num_train_epochs", "3", "--metric_for_best_model", "loss", "--learning_rate", "0.02",
        "--load_best_model_at_end", "True",
    )  # fmt: skip
    trainer.train()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(losses), rel=1e-4)


def test_a_frozen_encoder_is_in_no_checkpoint(make: Make, tmp_path: Path) -> None:
    """It would be written again at every epoch. What a checkpoint lacks is what was loaded."""
    options = ["--method", "frozen", "--head", "batchnorm", "--num_train_epochs", "2", "--metric_for_best_model", "loss",
               "--load_best_model_at_end", "True", "--learning_rate", "0.05", "--logging_strategy", "steps", "--logging_steps", "1",
               "--per_device_train_batch_size", "6"]  # fmt: skip
    trainer, _ = make(*options)
    trainer.train()
    expected = _loss_history(trainer)
    kept = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    folders = checkpoints(Path(trainer.args.output_dir))
    assert not any(list(checkpoint.glob("*model*")) for checkpoint in folders)
    # The best one was loaded, with all that its batch norm has counted.
    best = load_file(Path(str(trainer.state.best_model_checkpoint)) / HEAD_WEIGHTS)
    assert best.keys() == {name for name in kept if not name.startswith("hubert.")}
    assert any("running_mean" in name for name in best)
    assert all(torch.equal(kept[name], tensor) for name, tensor in best.items())

    again, _ = make(*options)
    with torch.no_grad():
        for name in best.keys() & dict(again.model.named_parameters()).keys():
            again.model.get_parameter(name).add_(1.0)  # as another seed's head would be
    again.train(resume_from_checkpoint=str(folders[0]))
    np.testing.assert_allclose(_loss_history(again), expected, rtol=1e-4)
    del best["classifier.out_proj.bias"]
    save_file({**best, "unknown": torch.ones(1)}, tmp_path / HEAD_WEIGHTS)
    with pytest.raises(
        RuntimeError, match=r"to another head: it lacks \['classifier.*bias'\] and has \['unknown'\]. Resume"
    ):
        load_head(again.model, tmp_path)
    again.save_model(str(tmp_path / "whole"))
    whole = load_file(tmp_path / "whole" / "model.safetensors")  # the batch norm is folded into the last layer
    assert whole.keys() >= {name for name in kept if name.startswith("hubert.")} | {"classifier.weight"}


def test_a_plateau_is_one_of_the_loss_whatever_chooses_the_model(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: transformers steps the schedule on metric_for_best_model, and lowers the rate while UAR rises."""
    trainer, _ = make("--lr_scheduler_type", "reduce_lr_on_plateau", "--num_train_epochs", "9", "--learning_rate", "1e-3",
                      "--method", "lora_classifier", "--warmup_steps", "0")  # fmt: skip
    losses = iter([1.0, 0.9, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95])
    uars = iter([0.1 * n for n in range(9)])
    found = []

    def evaluate(self: SERTrainer, **kwargs: Any) -> dict[str, float]:
        found.append(self.optimizer.param_groups[0]["lr"])
        return {"eval_loss": next(losses), "eval_uar": next(uars)}

    monkeypatch.setattr(SERTrainer, "evaluate", evaluate)
    trainer.train()
    assert found == pytest.approx([1e-3] * 8 + [5e-4])
    assert trainer.lr_scheduler.min_lrs == pytest.approx([1e-4] * len(trainer.optimizer.param_groups))


def test_a_greedy_schedule_is_one_of_the_loss(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: it never changed the rate."""
    trainer, _ = make("--lr_scheduler_type", "greedy", "--num_train_epochs", "2", "--method", "lora_classifier")
    found = []
    monkeypatch.setattr(GreedyLR, "step", lambda self, metrics=None, *_: found.append(metrics))
    monkeypatch.setattr(SERTrainer, "evaluate", lambda self, **_: {"eval_loss": 0.5, "eval_uar": 0.9})
    trainer.train()
    assert found == [0.5] * 2


def test_adam_has_its_weight_decay_in_the_gradient(make: Make) -> None:
    trainer, _ = make("--adam", "True", "--adam_beta2", "0.98", "--weight_decay", "1e-4", "--method", "lora_classifier")
    trainer.create_optimizer()
    assert type(trainer.optimizer) is torch.optim.Adam
    group = trainer.optimizer.param_groups[0]
    assert (group["betas"], group["weight_decay"], group["lr"]) == ((0.9, 0.98), 1e-4, 1e-3)
    biased, _ = make("--adam", "True", "--weight_decay", "1e-4", "--method", "frozen")
    biased.create_optimizer()
    (group,) = biased.optimizer.param_groups  # biases decay, too
    assert (group["weight_decay"], len(group["params"])) == (1e-4, 4)


def test_of_longer_clips_only_the_beginning_is_used(make: Make) -> None:
    whole, _ = make()
    cut, _ = make("--max_seconds", "0.3")
    for before, after in ((whole.train_dataset, cut.train_dataset), (whole.eval_dataset, cut.eval_dataset)):
        lengths = dict(zip(before.segments.clip, before.segments.samples, strict=True))
        assert max(lengths.values()) > 4800
        for clip, samples, start in zip(after.segments.clip, after.segments.samples, after.segments.start, strict=True):
            assert (samples, start) == (min(lengths[clip], 4800), 0)
    with pytest.raises(ValueError, match=r"max_seconds=0\.01: the encoder needs 0\.025 s at least"):
        make("--max_seconds", "0.01")


def test_clips_that_are_too_long_for_the_encoder_are_refused_before_the_training(
    tiny_whisper: Path, speech: Path, tmp_path: Path
) -> None:
    """Whisper takes 30 s: one longer clip among thousands would end the run in its middle."""
    rows = ["path,emotion,speaker"]
    for path in sorted(speech.rglob("*.wav")):
        emotion = next((name for name in ("angry", "happy", "sad") if name in path.stem), None)
        if emotion:
            rows.append(f"{path},{emotion},{path.stem.split('_')[0]}")
    samples, rate = soundfile.read(rows[5].split(",")[0])
    soundfile.write(tmp_path / "long.wav", np.tile(samples, 200)[: 31 * rate], rate)
    rows.append(f"{tmp_path / 'long.wav'},sad,somebody")
    (tmp_path / "clips.csv").write_text("\n".join(rows) + "\n")
    words = ["--corpora", f"manifest={tmp_path / 'clips.csv'}", "--model_name_or_path", str(tiny_whisper), "--method", "frozen", "--bf16", "False",
             "--output_dir", str(tmp_path / "run"), "--num_train_epochs", "1", "--disable_tqdm", "True"]  # fmt: skip
    with pytest.raises(CorpusError, match=r"takes 30 s at most, and 1 of \d+ clips .*long with 31\.0 s.*max_seconds"):
        finetune(parse_arguments(words))
    assert not (tmp_path / "run/results.json").exists()
    with pytest.raises(CorpusError, match="1 of .* clips are longer"):
        finetune(parse_arguments([*words, "--segment_length", "30.5"]))
    arguments = parse_arguments([*words, "--segment_length", "30", "--segment_overlap", "2"])
    trainer = SERTrainer(tiny_whisper, arguments.training, load_splits(arguments.script, 320)["train"])
    assert trainer.train_dataset.segments.samples.max() <= 30 * 16_000


@pytest.mark.parametrize("method", ["lora_qkv", "probe"])
def test_clips_that_validate_are_optional_and_a_card_needs_tested_clips(
    small_parts: DatasetDict, tiny_hubert: Path, tmp_path: Path, method: str
) -> None:
    args = SERConfig(output_dir=str(tmp_path / "alone"), max_steps=1, disable_tqdm=True, bf16=False)
    trainer = SERTrainer(tiny_hubert, args, small_parts["train"], peft_config=method)
    trainer.evaluate(small_parts["test"])
    assert trainer.train().global_step == (method != "probe")
    with pytest.raises(ValueError, match="call evaluate"):  # the metrics were of the model before it was trained
        trainer.create_model_card()
    metrics = trainer.evaluate(small_parts["test"])
    trainer.save_model()
    trainer.create_model_card(license="cc-by-4.0")
    results = RunResults.read(tmp_path / "alone")
    assert results.test["uar"] == metrics["eval_uar"]
    assert results.split["speakers_shared_by_train_and_test"] == 0
    assert results.split["speakers_shared_by_train_and_validation"] is None
    card = (tmp_path / "alone" / "README.md").read_text(encoding="utf-8")
    assert "audio-classification" in card
    assert "license: cc-by-4.0" in card


def test_a_callback_of_the_user_is_there_from_the_start(
    small_parts: DatasetDict, tiny_hubert: Path, tmp_path: Path
) -> None:
    """Trap: those that begin in `on_init_end` (CodeCarbon's) did nothing."""

    class Counted(TrainerCallback):
        began = 0

        def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.began += 1

    counted = Counted()
    SERTrainer(tiny_hubert, SERConfig(str(tmp_path), bf16=False), small_parts["train"], callbacks=[counted])
    assert counted.began == 1


def test_a_model_and_any_peft_configuration_go_in(small_parts: DatasetDict, tiny_hubert: Path, tmp_path: Path) -> None:
    args = SERConfig(output_dir=str(tmp_path / "own"), max_steps=1, disable_tqdm=True, bf16=False)
    model = AutoModel.from_pretrained(tiny_hubert)
    extractor = AutoFeatureExtractor.from_pretrained(tiny_hubert)
    trainer = SERTrainer(
        model,
        args,
        small_parts["train"],
        small_parts["validation"],
        LoraConfig(r=2, target_modules=["k_proj"]),
        processing_class=extractor,
    )
    trainable = {name for name, p in trainer.model.named_parameters() if p.requires_grad and "lora" in name}
    assert trainable
    assert all("k_proj" in name for name in trainable)
    trainer.train()
    before = trainer.evaluate(small_parts["test"])["eval_confusion_matrix"]
    trainer.save_model()
    assert trainer.evaluate(small_parts["test"])["eval_confusion_matrix"] == before  # saving leaves the model as it was
    trainer.evaluate(small_parts["validation"])
    assert trainer.metrics["validation"]["clips"] == len(small_parts["validation"])
    assert trainer.metrics["test"]["confusion_matrix"] == before
    opened = hf_ser.pipeline(tmp_path / "own")
    found = [
        opened({"array": read_mono(clip["audio"]), "sampling_rate": 16_000})[0]["label"] for clip in small_parts["test"]
    ]
    matrix = np.zeros((3, 3), dtype=int)
    for clip, label in zip(small_parts["test"], found, strict=True):
        matrix[clip["label"], trainer.emotions.index(label)] += 1
    assert matrix.tolist() == before


@pytest.mark.parametrize(("head", "encoder"), [("stock", "tiny_hubert"), ("conv", "tiny_whisper")])
def test_a_feature_extractor_takes_the_place_of_the_models_own_and_leaves_its_head(
    head: str, encoder: str, make: Make, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Traps: the head was lost; a model of the package's own class, and its small one, could not be opened."""
    first, clips = make("--head", head, "--method", "frozen", checkpoint=request.getfixturevalue(encoder))
    first.save_model(str(tmp_path / "first"))
    own = first.processing_class
    given = type(own)(**{**own.to_dict(), "padding_value": 0.5})

    def made(model: str | Path, head: str) -> SERTrainer:
        args = SERConfig(str(tmp_path / "next"), head=head, bf16=False)
        return SERTrainer(model, args, clips["train"], None, "frozen", processing_class=given)

    again = made(tmp_path / "first", head)
    assert torch.equal(again.model.classifier.weight, first.model.classifier.weight)
    assert again.processing_class.padding_value == 0.5
    assert again.starting_model.base == str((tmp_path / "first").resolve())
    if encoder == "tiny_hubert":
        assert made("hubert-tiny-random", head).processing_class.padding_value == 0.5


def test_what_it_does_not_take_is_refused_before_anything_is_loaded(
    small_parts: DatasetDict, tiny_hubert: Path, tmp_path: Path
) -> None:
    args = SERConfig(str(tmp_path / "own"), bf16=False)
    tuned = get_peft_model(AutoModel.from_pretrained(tiny_hubert), LoraConfig(target_modules=["k_proj"]))
    with pytest.raises(
        ValueError, match="found a PeftModel, expected a name, a folder or a PreTrainedModel; peft_config"
    ):
        SERTrainer(tuned, args, small_parts["train"])
    with pytest.raises(CorpusError, match=r"found a dict, expected a datasets\.Dataset"):
        SERTrainer(tiny_hubert, args, small_parts["train"], {"validation": small_parts["validation"]})
    args = SERConfig(str(tmp_path / "own"), bf16=False, load_best_model_at_end=True)
    with pytest.raises(ValueError, match="load_best_model_at_end: .* needs an eval_dataset, found none"):
        SERTrainer(tiny_hubert, args, small_parts["train"])
    args = SERConfig(str(tmp_path / "own"), bf16=False, lr_scheduler_type="reduce_lr_on_plateau")
    with pytest.raises(ValueError, match="lr_scheduler_type=reduce_lr_on_plateau: .* an eval_dataset, found none"):
        SERTrainer(tiny_hubert, args, small_parts["train"])


class TestLoading:
    def test_batches_do_not_depend_on_the_number_of_workers(self, make: Make) -> None:
        """Whether they are kept between the epochs or not."""
        found = []
        for workers, kept in ((0, False), (2, False), (2, True)):
            trainer, _ = make("--dataloader_num_workers", str(workers), "--dataloader_persistent_workers", str(kept),
                              "--speed_probability", "0.5", "--noise_probability", "0.5", "--mixup_alpha", "0.3")  # fmt: skip
            loader = trainer.get_train_dataloader()
            batches = []
            for epoch in range(2):
                trainer.callback_handler.on_epoch_begin(trainer.args, trainer.state, trainer.control)
                batches += list(loader)
                trainer.state.epoch = epoch + 1
            found.append([*batches, *trainer.get_eval_dataloader()])
            assert loader.persistent_workers == kept
            assert not trainer.get_eval_dataloader().persistent_workers
            del loader
            trainer.accelerator.free_memory()  # as a training does at its end; left to the collector, workers end after 5 s each
        assert not torch.equal(found[0][0]["input_values"], found[0][len(found[0]) // 2]["input_values"])
        for others in found[1:]:
            for batch, other in zip(found[0], others, strict=True):
                assert all(torch.equal(batch[name], other[name]) for name in batch if name != "by_length")

    def test_an_evaluation_never_reads_another_dataset(self, make: Make) -> None:
        """Trap: transformers keeps the workers of the first dataset that it evaluates."""
        trainer, _ = make("--dataloader_num_workers", "1", "--dataloader_persistent_workers", "True")
        sizes = [
            sum(len(batch["labels"]) for batch in trainer.get_eval_dataloader(dataset))
            for dataset in (None, trainer.train_dataset)
        ]
        assert sizes == [len(trainer.eval_dataset), len(trainer.train_dataset)]


def out_of_memory(model: torch.nn.Module, elements: int) -> list[int]:
    """Lets the memory of a model run out where its input has more elements, in the middle of the backward pass if there is one."""
    failed: list[int] = []

    def fail(size: int) -> None:
        failed.append(size)
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def watch(module: Any, args: Any, kwargs: Any) -> None:
        size = kwargs["input_values"].numel()
        if size > elements:
            if not torch.is_grad_enabled():
                fail(size)
            hooked = module.get_parameter("hubert.encoder.layers.0.attention.k_proj.weight")
            hook = hooked.register_hook(lambda gradient: (hook.remove(), fail(size)))

    model.register_forward_pre_hook(watch, with_kwargs=True)
    return failed


class TestMemory:
    OPTIONS = ("--max_steps", "3", "--gradient_accumulation_steps", "2", "--per_device_train_batch_size", "6",
               "--save_strategy", "no", "--logging_strategy", "steps", "--logging_steps", "1", "--average_share", "0")  # fmt: skip

    @pytest.mark.parametrize(
        ("options", "elements"),
        [
            ((), 30_000),
            (("--targets", "emotion", "arousal"), 30_000),
            (("--frozen_cache_gb", "1"), 1500),  # outputs of the convolutions
        ],
    )
    def test_where_it_runs_out_the_step_is_repeated_in_smaller_micro_batches(
        self, make: Make, caplog: pytest.LogCaptureFixture, options: tuple[str, ...], elements: int
    ) -> None:
        found = []
        for most in (None, elements):
            trainer, _ = make(*self.OPTIONS, "--frozen_cache_gb", "0", *options)
            without_dropout(trainer.model)
            failed = out_of_memory(trainer.model, most) if most else []
            trainer.train()
            found.append(_loss_history(trainer))
        assert len(found[0]) == 3
        assert 1 < len(failed) < 8
        assert "is repeated with at most" in caplog.text
        (losses, norms), (expected_losses, expected_norms) = (np.transpose(one) for one in reversed(found))
        np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
        np.testing.assert_allclose(norms, expected_norms, rtol=1e-3)

    def test_evaluations_cut_what_does_not_fit(self, make: Make) -> None:
        trainer, _ = make()
        expected = trainer.evaluate()
        failed = out_of_memory(trainer.model, 40_000)
        found = trainer.evaluate()
        assert failed
        assert found["eval_loss"] == pytest.approx(expected["eval_loss"], abs=1e-5)
        assert found["eval_confusion_matrix"] == expected["eval_confusion_matrix"]

    @pytest.mark.parametrize(
        ("options", "processes", "message"),
        [
            ((), 1, r"does not hold a clip of .* s: lower segment_length"),
            ((), 2, r"one of several processes cannot repeat a step alone: set micro_batch_seconds="),
            (("--head", "batchnorm"), 1, "lower per_device_train_batch_size"),
        ],
    )
    def test_what_cannot_be_cut_is_an_error_with_advice(
        self, make: Make, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], processes: int, message: str
    ) -> None:
        trainer, _ = make(*self.OPTIONS, *options)
        batches = [batch_of(trainer, 4)]
        samples, items = trainer.get_batch_samples(iter(batches), 1, trainer.args.device)
        out_of_memory(trainer.model, 0)
        monkeypatch.setattr(SERConfig, "world_size", processes)
        with pytest.raises(MemoryError, match=message):
            trainer.training_step(trainer.model, samples[0], items)


def test_checkpoints_go_by_their_steps_though_the_clock_is_set_back(make: Make) -> None:
    class ClockSetBack(TrainerCallback):
        """Each checkpoint is older than the one before."""

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            for checkpoint in checkpoints(Path(trainer.args.output_dir)):
                os.utime(checkpoint, (2e9 - state.global_step, 2e9 - state.global_step))

    trainer, _ = make("--num_train_epochs", "3", "--save_total_limit", "1", "--frozen_cache_gb", "0")
    trainer.add_callback(ClockSetBack())
    trainer.train()
    assert checkpoints(Path(trainer.args.output_dir))[-1].name == f"checkpoint-{trainer.state.global_step}"
