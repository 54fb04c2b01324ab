"""Training from cached outputs of frozen layers is the same training."""

import logging
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from transformers import TrainerCallback

from hf_ser.training import SERTrainer
from hf_ser.training.base import BaseTrainer
from hf_ser.training.data import segments_of
from hf_ser.training.dataset import SpeechDataset
from hf_ser.training.frozen import FrozenFeatures, cache, cached_frozen_part, cached_predictions, parts
from hf_ser.training.frozen.parts import frozen_part
from hf_ser.training.frozen.store import DiskLimitError, FeatureStore, users

Make = Callable[..., tuple[SERTrainer, DatasetDict]]
STEPS = ("--logging_strategy", "steps", "--logging_steps", "1", "--save_strategy", "no", "--load_best_model_at_end", "False",
         "--per_device_train_batch_size", "6")  # fmt: skip


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a cache of its own."""
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of segments in each batch that went through a frozen part."""
    batches: list[int] = []
    compute = parts.compute
    monkeypatch.setattr(
        cache, "compute", lambda m, p, values, *more: batches.append(len(values)) or compute(m, p, values, *more)
    )
    return batches


@pytest.fixture
def computing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the threads in which batches went through a frozen part."""
    names: set[str] = set()
    compute = parts.compute
    monkeypatch.setattr(cache, "compute", lambda *given: names.add(threading.current_thread().name) or compute(*given))
    return names


def untuned(trainer: SERTrainer) -> torch.nn.Module:
    return trainer.model.get_base_model() if hasattr(trainer.model, "get_base_model") else trainer.model


def losses(trainer: SERTrainer, limit: float, views: int = 0, resume: str | None = None) -> list[float]:
    """The losses of each step, and of validation in each epoch."""
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):  # it would draw in another order
            module.p = 0.0
    trainer.args.frozen_cache_gb, trainer.args.frozen_cache_views = limit, views
    with cached_frozen_part(trainer):
        assert (type(trainer.train_dataset) is SpeechDataset) == (limit == 0)
        BaseTrainer.train(trainer, resume_from_checkpoint=resume)  # SERTrainer opens a cache of its own
    assert type(trainer.train_dataset) is SpeechDataset
    found = [entry.get("loss", entry.get("eval_loss")) for entry in trainer.state.log_history][:-1]
    assert None not in found
    return found


def segments(trainer: SERTrainer) -> int:
    return len(trainer.train_dataset) + len(trainer.eval_dataset)


@pytest.mark.parametrize(
    ("options", "part", "encoder"),
    [
        (["--method", "lora_classifier"], "pooled", "group_norm_hubert"),
        (["--method", "frozen", "--head", "linear"], "pooled_layers", "group_norm_hubert"),
        (["--method", "frozen", "--head", "linear"], "statistics", "tiny_whisper"),
        (["--method", "lora_classifier", "--lora_target_modules", "projector", "classifier"], "encoder", "tiny_whisper"),
        (["--method", "full", "--freeze_feature_encoder", "True"], "feature_encoder", "tiny_hubert"),
        (["--method", "lora_classifier", "--head", "conv"], "layers", "tiny_whisper"),
    ],
)  # fmt: skip
def test_losses_are_those_without_it_and_nothing_is_computed_twice(
    make: Make, computed: list[int], options: list[str], part: str, encoder: str, request: pytest.FixtureRequest
) -> None:  # fmt: skip
    def made() -> SERTrainer:
        trainer, _ = make(*options, "--num_train_epochs", "2", *STEPS, checkpoint=request.getfixturevalue(encoder))
        assert frozen_part(untuned(trainer)) == part
        return trainer

    plain, cold = losses(made(), 0), losses(made(), 1)
    assert len(cold) > 8
    np.testing.assert_allclose(cold, plain, rtol=1e-5)
    trainer = made()
    assert sum(computed) == segments(trainer)
    computed.clear()
    with cached_frozen_part(trainer):  # a later run
        assert not computed


def test_several_threads_compute_the_same(make: Make, group_norm_hubert: Path, computing: set[str]) -> None:
    plain = losses(make("--method", "lora_classifier", *STEPS, checkpoint=group_norm_hubert)[0], 0)
    torch.set_num_threads(3)
    np.testing.assert_allclose(
        losses(make("--method", "lora_classifier", *STEPS, checkpoint=group_norm_hubert)[0], 1), plain, rtol=1e-5
    )
    assert computing
    assert computing <= {"replica_0", "replica_1"}


def test_several_threads_compute_after_a_training_in_bfloat16_too(make: Make, computing: set[str]) -> None:
    """Trap: accelerate leaves a `forward` in the model, which copies would share."""
    torch.set_num_threads(2)
    trainer, splits = make("--method", "frozen", "--bf16", "True", "--max_steps", "1", *STEPS)
    trainer.train()
    computing.clear()
    trainer.evaluate(splits["test"])
    assert computing
    assert computing <= {"replica_0", "replica_1"}


def test_a_batch_has_so_many_seconds_of_speech(
    make: Make, tmp_path: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU; one clip at a time on a CPU."""
    options = ("--method", "lora_classifier", "--num_train_epochs", "1", *STEPS)
    expected = losses(make(*options)[0], 1)
    assert set(computed) == {1}
    computed.clear()
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "gpu")
    monkeypatch.setitem(cache.SECONDS, "cpu", 0.1)  # times what a model takes that is so much smaller than HuBERT Base
    trainer, _ = make(*options)
    np.testing.assert_allclose(losses(trainer, 1), expected, rtol=1e-5)
    assert sum(computed) == segments(trainer)
    assert max(computed) > 2


class TestViews:
    """Augmented clips."""

    OPTIONS = ("--method", "frozen", "--noise_probability", "0.7", "--stretch_probability", "0.5", *STEPS,
               "--learning_rate", "0.03")  # fmt: skip

    def test_the_first_epochs_are_those_without_it(self, make: Make, computed: list[int]) -> None:
        epochs = [*self.OPTIONS, "--num_train_epochs", "3"]
        plain = losses(make(*epochs)[0], 0)
        trainer, _ = make(*epochs)
        cold = losses(trainer, 1, views=2)
        steps = 1 + len(trainer.train_dataset) // 6
        np.testing.assert_allclose(cold[: 2 * steps], plain[: 2 * steps], rtol=1e-5)
        # The third epoch begins with the same weights and has the same order, but the views of the first.
        assert abs(cold[2 * steps] - plain[2 * steps]) > 1e-3 * plain[2 * steps]
        assert sum(computed) == 2 * len(trainer.train_dataset) + len(trainer.eval_dataset)
        computed.clear()
        with cached_frozen_part(make(*epochs, "--frozen_cache_views", "2")[0]):
            assert not computed

    def test_the_other_label_of_a_mixed_clip_comes_along(self, make: Make) -> None:
        options = ("--method", "frozen", "--mixup_alpha", "1", "--distort_probability", "0.5", "--balance", "weights",
                   "--num_train_epochs", "2", "--head", "conv", *STEPS)  # fmt: skip
        plain, kept = losses(make(*options)[0], 0), losses(make(*options)[0], 1, views=2)
        assert len(kept) > 6
        np.testing.assert_allclose(kept, plain, rtol=1e-5)

    def test_other_views_are_computed_and_the_same_are_found(self, make: Make, computed: list[int]) -> None:
        for changes, parts_computed in (
            ((), 2),
            (("--seed", "7"), 0),  # the views do not depend on it
            (("--noise_snr", "0", "5"), 1),  # validation is never augmented
            (("--seed", "7", "--frozen_cache_views", "0"), 1),
        ):
            trainer, _ = make(*self.OPTIONS, "--num_train_epochs", "1", *changes)
            computed.clear()
            trainer.args.frozen_cache_views = 50  # no more than epochs
            with cached_frozen_part(trainer):
                pass
            assert sum(computed) == [0, len(trainer.train_dataset), segments(trainer)][parts_computed]


def test_other_folds_seeds_and_heads_compute_what_is_new_to_them(make: Make, computed: list[int]) -> None:
    one = ("--num_train_epochs", "1", "--split", "kfold", "--folds", "3", *STEPS)
    found: list[int] = []
    trainer, clips = make("--method", "lora_classifier", *one)
    others = ["--head", "batchnorm", "--seed", "5"], ["--fold", "1"]
    for other in (trainer, *(make("--method", "frozen", *words, *one)[0] for words in others)):
        computed.clear()
        with cached_frozen_part(other):
            found.append(sum(computed))
    assert found == [segments(trainer), 0, len(clips["test"])]


def test_predictions_are_those_of_the_whole_model(make: Make, computed: list[int]) -> None:
    trainer, clips = make("--method", "frozen", "--head", "conv", "--bf16", "True", "--num_train_epochs", "1", *STEPS)
    losses(trainer, 1)
    dataset = SpeechDataset(clips["test"], segments_of(clips["test"], trainer.args))
    plain = trainer.predict_clips(dataset)
    for _ in range(2):
        with cached_predictions(trainer, dataset) as features:
            assert features is not dataset
            found = trainer.predict_clips(features)
        np.testing.assert_allclose(found.predictions, plain.predictions, atol=1e-5)
        assert all(np.array_equal(one, other) for one, other in zip(found.label_ids, plain.label_ids, strict=True))
    assert sum(computed) == segments(trainer) + len(dataset)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--method", "frozen", "--head", "conv"], torch.bfloat16),
        (["--method", "lora_qkv"], torch.bfloat16),
        (["--method", "lora_classifier"], torch.float32),  # a mean for each clip
    ],
)
def test_frames_take_the_bytes_of_the_training_type(make: Make, options: list[str], kept: torch.dtype) -> None:
    trainer, _ = make(*options, "--bf16", "True")
    with cached_frozen_part(trainer):
        assert trainer.train_dataset[0]["input_values"].dtype == kept


@pytest.mark.parametrize("part", ["feature_encoder", "encoder", "layers", "pooled", "pooled_layers"])
def test_a_batch_has_the_outputs_of_its_clips_and_none_of_its_padding(make: Make, part: str) -> None:
    trainer, _ = make("--method", "frozen", "--head", "linear")
    collator, model, name = trainer.data_collator, trainer.model.eval(), trainer.model.main_input_name
    items = [trainer.train_dataset[i] for i in range(4)]
    assert len({len(item["waveform"]) for item in items}) > 1

    def outputs(some: list[dict[str, Any]], *dtype: torch.dtype) -> list[torch.Tensor]:
        batch = collator(some)
        with torch.no_grad():
            return parts.compute(model, part, batch[name], batch["attention_mask"], *dtype)

    together, rounded = outputs(items), outputs(items, torch.bfloat16)
    for item, found, half in zip(items, together, rounded, strict=True):
        [alone] = outputs([item])
        assert (len(alone) == 1) == (part in parts.POOLED)
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)
        assert torch.equal(half, found if part in parts.POOLED else found.bfloat16())


def test_convolutions_are_not_cached_for_predictions(make: Make) -> None:
    trainer, _ = make("--method", "lora_qkv")
    with cached_predictions(trainer, trainer.eval_dataset) as features:
        assert features is trainer.eval_dataset


def test_short_clips_are_padded_for_spec_augment(make: Make) -> None:
    trainer, _ = make("--method", "lora_qkv", "--segment_length", "0.1", "--mask_time_prob", "0.5")
    with cached_frozen_part(trainer):
        batch = trainer.train_dataset.__getitems__([0, 1])
        assert batch["attention_mask"].tolist() == [[1] * 4 + [0] * 7] * 2
        trainer.model.train()
        logits = trainer.model(batch["input_values"], attention_mask=batch["attention_mask"]).logits
        assert torch.isfinite(logits).all()


def test_fillers_have_no_label(make: Make) -> None:
    trainer, _ = make("--method", "frozen")
    with cached_frozen_part(trainer):
        features = trainer.train_dataset
        assert isinstance(features, FrozenFeatures)
        batch = features.__getitems__([0, -1, len(features) + 1, -1 - (len(features) + 1)])
        assert batch["labels"].isnan().all(dim=1).tolist() == [False, True, False, True]
        assert torch.equal(batch["input_values"][::2], batch["input_values"][1::2])


@pytest.mark.parametrize(
    "options", [["--method", "lora_classifier"], ["--method", "lora_qkv"], ["--method", "frozen", "--head", "conv"]]
)
def test_the_model_is_whole_again_afterwards(make: Make, options: list[str]) -> None:
    trainer, _ = make(*options)
    batch = trainer.data_collator([trainer.train_dataset[0]])
    inputs = {name: batch[name] for name in ("input_values", "attention_mask")}
    keys = set(trainer.model.state_dict())
    parameters = len(list(trainer.model.parameters()))
    with torch.no_grad():
        before = trainer.model.eval()(**inputs).logits
        with cached_frozen_part(trainer):
            assert set(trainer.model.state_dict()) == keys
            trainer.model.train()
            assert not any(
                module.training for module in parts.front(untuned(trainer), frozen_part(untuned(trainer))).modules()
            )
        assert torch.equal(trainer.model.eval()(**inputs).logits, before)
    assert len(list(trainer.model.parameters())) == parameters
    trainer.model.train()
    assert all(module.training for module in trainer.model.modules())


def test_workers_read_large_features_and_not_small_ones(make: Make) -> None:
    for head, workers in (("stock", 0), ("conv", 2)):
        loading = ("--dataloader_num_workers", "2", "--dataloader_persistent_workers", "True")
        trainer, _ = make("--method", "frozen", "--head", head, *loading)
        with cached_frozen_part(trainer):
            loader = trainer.get_train_dataloader()
            assert loader.num_workers == workers
            assert sum(len(batch["labels"]) for batch in loader) == len(trainer.train_dataset)
            # A worker receives the place of the features, and reads the same ones.
            sent = pickle.loads(pickle.dumps(trainer.train_dataset)).__getitems__([1, 0])
            assert torch.equal(sent["input_values"], trainer.train_dataset.__getitems__([1, 0])["input_values"])
        assert trainer.args.dataloader_num_workers == 2
        del loader
        trainer.accelerator.free_memory()  # as a training does; left to the collector, workers end after 5 s each


def test_workers_are_started_once_for_all_segments(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: each of the 16 parts of a store had workers of its own."""
    trainer, _ = make("--method", "frozen", "--dataloader_num_workers", "2")
    get = SpeechDataset.__getitem__

    def watched(dataset: SpeechDataset, key: int) -> Any:
        (tmp_path / f"{os.getpid()}").touch()
        return get(dataset, key)

    monkeypatch.setattr(SpeechDataset, "__getitem__", watched)
    with cached_frozen_part(trainer):
        assert len({path.name for path in tmp_path.glob("[0-9]*")} - {str(os.getpid())}) == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("full --freeze_feature_encoder False", "no first part of the model is frozen"),
        ("lora_qkv --noise_probability 0.5 --frozen_cache_views 0", "clips are augmented and frozen_cache_views is 0"),
        ("frozen --frozen_cache_gb 0", "frozen_cache_gb is 0"),
        ("frozen --frozen_cache_gb 1e-7", "0.00 GB more are needed; frozen_cache_gb=1e-07 allows 1e-07 GB"),
    ],
)
def test_without_a_cache_the_log_says_why(
    make: Make, options: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer, _ = make("--method", *options.split())
    with caplog.at_level(logging.INFO, "hf_ser"), cached_frozen_part(trainer):
        assert type(trainer.train_dataset) is SpeechDataset
    assert f"no outputs of frozen layers are cached: {reason}" in caplog.text


def test_no_process_of_a_run_trains_from_features_that_another_cannot_write(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process is a thread here."""
    trainers = [make("--method", "frozen")[0] for _ in range(2)]
    all_here = threading.Barrier(len(trainers), timeout=300)
    gathered: list[Any] = [None] * len(trainers)

    def process(n: int) -> bool:
        def gather(tensor: torch.Tensor) -> torch.Tensor:
            gathered[n] = tensor
            all_here.wait()
            found = torch.cat(gathered)
            all_here.wait()
            return found

        trainers[n].accelerator.gather = gather
        trainers[n].is_local_process_zero = lambda: n == 0
        with cached_frozen_part(trainers[n]):
            all_here.wait()
            return isinstance(trainers[n].train_dataset, FrozenFeatures)

    def cached() -> list[bool]:
        with ThreadPoolExecutor(len(trainers)) as pool:
            return list(pool.map(process, range(len(trainers))))

    write, full = FeatureStore.write, threading.Event()

    def written(store: FeatureStore, features: Any) -> None:
        if not full.is_set():
            full.set()
            raise DiskLimitError("No space left on device")
        write(store, features)

    monkeypatch.setattr(FeatureStore, "write", written)
    assert cached() == [False, False]
    [store] = (tmp_path / "frozen").glob("hubert-pooled-*")
    assert users(store) == 0  # other runs may delete it while these train
    assert cached() == [True, True]


def test_a_resumed_run_finds_cached_features(make: Make, tmp_path: Path, computed: list[int]) -> None:
    options = ("--method", "lora_classifier", "--num_train_epochs", "3", *STEPS, "--save_strategy", "epoch")
    expected = losses(make(*options)[0], 1)

    class Killed(TrainerCallback):
        def on_save(self, *args: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

    options = (*options, "--output_dir", str(tmp_path / "cut"))
    trainer, _ = make(*options)
    trainer.add_callback(Killed())
    with pytest.raises(KeyboardInterrupt):
        losses(trainer, 1)
    computed.clear()
    [checkpoint] = (tmp_path / "cut").glob("checkpoint-*")
    found = losses(make(*options)[0], 1, resume=str(checkpoint))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert not computed
