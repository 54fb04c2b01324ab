"""
A training step keeps a GPU busy: it asks it for nothing, and so waits for none. Tensors on the device `meta` stand for those of a
GPU: they have no values that could be asked for.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from hf_ser.training import SERConfig, SERTrainer, micro_batches
from hf_ser.training.averaging import WeightAverage

GPU = torch.device("meta")
INDEXING = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)


def is_on(device: str, *values: Any) -> bool:
    """Whether one of these is a tensor there."""
    return any(isinstance(value, torch.Tensor) and value.device.type == device for value in values)


class NoValues(TorchDispatchMode):
    """Fails where an operation needs values of tensors on the GPU, or copies between it and the CPU."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        waits = False
        if function is torch.ops.aten._to_copy.default:
            waits = is_on("meta", *args) != (torch.device(kwargs.get("device") or args[0].device) == GPU)
        elif function is torch.ops.aten.copy_.default:
            waits = is_on("meta", *args) and is_on("cpu", *args)
        elif function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            waits = is_on("meta", *args)
        elif function in INDEXING and is_on("meta", args[0]):
            # With a single value a mask is filled, and no index is made of it.
            filled = function is INDEXING[1] and args[2].numel() == 1
            masks = [index for index in args[1] if index is not None and index.dtype == torch.bool and not filled]
            waits = is_on("cpu", *args[1]) or bool(masks)
        assert not waits, f"{function} waits for the GPU"
        return function(*args, **kwargs)


class NoCopiedLists(TorchFunctionMode):
    """Fails where numbers of Python become a tensor on the GPU, which is a copy."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = function in (torch.tensor, torch.as_tensor) and kwargs.get("device") == GPU
        copied = made or (function is torch.Tensor.new_tensor and is_on("meta", args[0]))
        assert not copied, f"{function} waits for the GPU"
        return function(*args, **kwargs)


@contextmanager
def without_waiting() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(NoValues())
        stack.enter_context(NoCopiedLists())
        yield


@pytest.fixture
def on_gpu(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., tuple[SERTrainer, dict[str, Any]]]:
    """A trainer on the GPU, and a batch of twelve clips that accelerate has moved there."""

    def build(*words: str, encoder: str = "tiny_hubert") -> tuple[SERTrainer, dict[str, Any]]:
        monkeypatch.setattr(SERConfig, "device", GPU)
        trainer, _ = make(*words, checkpoint=request.getfixturevalue(encoder))
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(12)])
        trainer.model.to(GPU)
        inputs = {name: value.to(GPU) for name, value in batch.items() if isinstance(value, torch.Tensor)}
        order, lengths = batch["by_length"]
        return trainer, {**inputs, "by_length": (order.to(GPU), lengths)}

    return build


def step(trainer: SERTrainer, batch: dict[str, Any]) -> None:
    samples, items = trainer.get_batch_samples(iter([batch]), 1, GPU)
    trainer.current_gradient_accumulation_steps = 1
    for each in samples:
        trainer.training_step(trainer.model, each, items)


class TestMemory:
    """The first step is small, and shows how many seconds fit."""

    #: Bytes that the first micro-batch of a step takes, and those that the model has.
    TAKEN, MODEL = 500, 1000

    @pytest.fixture
    def measured(
        self, on_gpu: Callable[..., tuple[SERTrainer, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
    ) -> Callable[..., list[list[float]]]:
        """The seconds of each micro-batch of two steps on a GPU with so many free bytes, with a model like HuBERT Base."""

        def run(free: float, *words: str, scale: float = 1.0) -> list[list[float]]:
            monkeypatch.setattr(micro_batches, "batch_scale", lambda model: scale)
            monkeypatch.setitem(micro_batches.BATCH_SECONDS, "gpu", 16.0)
            trainer, batch = on_gpu(*words)
            monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
            for name, value in {"reset_peak_memory_stats": None, "memory_allocated": self.MODEL, "memory_reserved": self.MODEL,
                                "max_memory_allocated": self.MODEL + self.TAKEN, "mem_get_info": (free, 2 * free)}.items():  # fmt: skip
                monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
            steps: list[list[float]] = []

            def note(module: Any, args: Any, kwargs: Any) -> None:
                steps[-1].append(kwargs["input_values"].numel() / 16_000)

            trainer.model.register_forward_pre_hook(note, with_kwargs=True)
            for _ in range(2):
                steps.append([])
                step(trainer, batch)
            return steps

        return run

    def test_what_the_first_step_took_decides_how_much_the_next_ones_take(
        self, measured: Callable[..., Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        first, second = measured(free=1e6)
        assert len(first) > 1
        assert max(first) <= 4  # a quarter of the usual seconds
        assert len(second) == 1
        fits = 0.7 * 1e6 / (self.TAKEN / max(first))
        assert f"micro-batches have up to {fits:.3g} s of speech" in caplog.text

    def test_the_process_with_the_least_memory_decides(
        self, measured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(micro_batches, "gather_object", lambda found: [*found, 6.0])
        first, second = measured(free=1e6)
        assert max(first) <= 4 < max(second) <= 6

    @pytest.mark.parametrize(("free", "words"), [(10, ()), (1e6, ("--micro_batch_seconds", "4"))])
    def test_what_went_through_or_is_given_stays(
        self, measured: Callable[..., Any], free: float, words: tuple[str, ...]
    ) -> None:
        first, second = measured(free, *words)
        assert first == second

    def test_a_larger_encoder_begins_with_less(self, measured: Callable[..., Any]) -> None:
        assert max(measured(free=10, scale=0.5)[0]) <= 2


@pytest.mark.parametrize(
    ("words", "encoder"),
    [
        (("--head", "linear"), "tiny_hubert"),
        (("--head", "stock"), "tiny_hubert"),
        (("--head", "conv"), "tiny_hubert"),
        (("--targets", "emotion", "arousal", "valence=0.5"), "group_norm_hubert"),
        (("--targets", "arousal", "--dimension_loss", "mse"), "tiny_hubert"),
        (("--balance", "weights", "--label_smoothing_factor", "0.1"), "tiny_hubert"),
        (("--balance", "none", "--focal_gamma", "2"), "tiny_whisper"),
        (("--method", "adalora"), "tiny_hubert"),
    ],
    ids=["default", "stock", "conv", "dimensions", "mse", "weights", "focal", "adalora"],
)
def test_a_step_waits_for_nothing(
    on_gpu: Callable[..., tuple[SERTrainer, dict[str, Any]]], words: tuple[str, ...], encoder: str
) -> None:
    trainer, batch = on_gpu("--micro_batch_seconds", "3", *words, encoder=encoder)
    passes: list[int] = []
    trainer.model.register_forward_hook(lambda *_: passes.append(1))
    with without_waiting():
        step(trainer, batch)
    assert len(passes) > 2
    assert any(p.grad is not None for p in trainer.model.parameters())


def test_the_weights_of_a_step_are_averaged_at_once() -> None:
    model = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(3)))
    average, called = WeightAverage(1.0), []

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            called.append(function.overloadpacket.__name__)
            return function(*args, **(kwargs or {}))

    average.on_train_begin(None, SimpleNamespace(global_step=0, max_steps=2), None, model)
    weights = []
    for n in (1, 2):
        for parameter in model.parameters():
            parameter.data.add_(n)
        weights.append([parameter.detach().clone() for parameter in model.parameters()])
        with Names():
            average.on_step_end(None, SimpleNamespace(global_step=n, max_steps=2), None, model)
    assert [name for name in called if "lerp" in name] == ["_foreach_lerp_"] * 2
    average.on_train_end(None, None, None, model)
    for parameter, first, second in zip(model.parameters(), *weights, strict=True):
        torch.testing.assert_close(parameter.detach(), (first + second) / 2)
