"""Several threads compute with one model, each with what its modules keep of a call for itself."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest
import torch
from torch import nn

from hf_ser.modeling.streams import Streams

CPU = torch.device("cpu")


class Keeps(nn.Linear):
    """Keeps its input for a while, as a parallel adapter does."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        self.kept = input
        time.sleep(0.002)
        return super().forward(self.kept)


@pytest.fixture
def streams() -> Iterator[Streams]:
    torch.set_num_threads(4)
    with closing(Streams(nn.Sequential(Keeps(3, 2), nn.ReLU()), CPU)) as found:
        yield found


def test_results_are_those_of_one_thread_in_order(streams: Streams) -> None:
    names = set()

    def compute(input: torch.Tensor, model: nn.Module) -> torch.Tensor:
        names.add((threading.current_thread().name, torch.get_num_threads()))
        return model(input)

    inputs = list(torch.randn(40, 5, 3))
    expected = [streams.model(input) for input in inputs]
    for found, wanted in zip(streams.map(compute, inputs), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert names == {(f"stream_{number}", 1) for number in range(4)}
    with torch.no_grad():
        streams.model[0].weight.zero_()  # the streams have the same weights
    assert all(torch.equal(found, found[:1].expand(5, -1)) for found in streams.map(compute, inputs))


@pytest.mark.parametrize(("number", "more"), [(1, False), (2, False), (3, False), (1, True)])
def test_the_only_batch_has_all_threads(number: int, more: bool) -> None:
    torch.set_num_threads(4)
    model = nn.Sequential(nn.Linear(3, 2))

    def compute(of: nn.Module) -> tuple[bool, int, bool]:
        return of is model, torch.get_num_threads(), threading.current_thread() is threading.main_thread()

    with closing(Streams(model, CPU)) as streams:
        jobs = [streams.submit(compute) for _ in range(number)]
        if more:
            streams.expect_more()
        alone = number == 1 and not more
        assert {job() for job in jobs} == {(True, 4, True) if alone else (False, 1, False)}
        assert streams.submit(compute)() == (False, 1, False)


def test_an_error_ends_all_threads(streams: Streams) -> None:
    def compute(number: int, model: nn.Module) -> int:
        if number == 3:
            raise KeyboardInterrupt
        return number

    found = streams.map(compute, range(100))
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyboardInterrupt):
        next(found)
    streams.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stream")]
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("reason", ["device", "threads", "forward"])
def test_there_is_one_stream_where_several_would_not_help_or_share_what_is_kept(reason: str) -> None:
    torch.set_num_threads(1 if reason == "threads" else 4)
    model = nn.Sequential(nn.Linear(3, 2))
    if reason == "forward":
        model[0].forward = partial(nn.Linear.forward, model[0])
    with closing(Streams(model, torch.device("meta" if reason == "device" else "cpu"))) as streams:
        assert (streams.count, streams.ahead) == (1, 0)
        here = threading.current_thread()
        assert list(streams.map(lambda item, of: (item, of is model, threading.current_thread()), [1, 2])) == [
            (1, True, here),
            (2, True, here),
        ]
