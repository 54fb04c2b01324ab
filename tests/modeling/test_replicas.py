"""Several threads compute with one model, each with what its modules keep of a call for itself."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest
import torch
from torch import nn

from hf_ser.modeling.replicas import Replicas

CPU = torch.device("cpu")


class Keeps(nn.Linear):
    """Keeps its input for a while, as a parallel adapter does."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        self.kept = input
        time.sleep(0.002)
        return super().forward(self.kept)


@pytest.fixture
def replicas() -> Iterator[Replicas]:
    torch.set_num_threads(4)
    with closing(Replicas(nn.Sequential(Keeps(3, 2), nn.ReLU()), CPU)) as found:
        yield found


def test_results_are_those_of_one_thread_in_order(replicas: Replicas) -> None:
    names = set()

    def compute(input: torch.Tensor, model: nn.Module) -> torch.Tensor:
        names.add((threading.current_thread().name, torch.get_num_threads()))
        return model(input)

    inputs = list(torch.randn(40, 5, 3))
    expected = [replicas.model(input) for input in inputs]
    for found, wanted in zip(replicas.map(compute, inputs), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert names == {(f"replica_{number}", 2) for number in range(2)}
    with torch.no_grad():
        replicas.model[0].weight.zero_()  # the replicas have the same weights
    assert all(torch.equal(found, found[:1].expand(5, -1)) for found in replicas.map(compute, inputs))


def test_an_error_ends_all_threads(replicas: Replicas) -> None:
    def compute(number: int, model: nn.Module) -> int:
        if number == 3:
            raise KeyboardInterrupt
        return number

    found = replicas.map(compute, range(100))
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyboardInterrupt):
        next(found)
    replicas.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("replica")]
    assert torch.get_num_threads() == 4


class NotCopied(nn.Linear):
    """A module with something that cannot be copied, such as the session of an exported model."""

    def __init__(self) -> None:
        super().__init__(3, 2)
        self.lock = threading.Lock()


@pytest.mark.parametrize("reason", ["device", "threads", "forward", "batches", "copy"])
def test_the_model_itself_computes_where_replicas_are_of_no_use_or_cannot_be_made(reason: str) -> None:
    torch.set_num_threads(1 if reason == "threads" else 4)
    model = nn.Sequential(NotCopied() if reason == "copy" else nn.Linear(3, 2))
    if reason == "forward":
        model[0].forward = partial(nn.Linear.forward, model[0])
    device, batches = torch.device("meta" if reason == "device" else "cpu"), 1 if reason == "batches" else None
    with closing(Replicas(model, device, batches)) as replicas:
        assert (replicas.count, replicas.ahead) == (1, 0)
        here = threading.current_thread()
        assert list(replicas.map(lambda item, of: (item, of is model, threading.current_thread()), [1, 2])) == [
            (1, True, here),
            (2, True, here),
        ]
