"""A model that computes several batches at once on a CPU."""

import copy
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from typing import Any, TypeVar

import torch
from torch import nn

Item = TypeVar("Item")
Result = TypeVar("Result")

#: More need more memory, and the last clips of a run would leave more of them idle.
MOST_STREAMS = 8


class Streams:
    """
    Computes batches with a model in several threads of a CPU: for a tenth of the time, the threads of one operation on a short
    clip wait for each other. PyTorch's threads are shared out among the streams. Each has a copy of the model with the same
    weights, because modules may keep something from one call to the next. On another device there is one stream, and no thread.

    Args:
        model (`nn.Module`): The model. There is one stream if it is exported, with threads of its own, or if the `forward` of
            one of its modules was replaced, which a copy would share.
        device (`torch.device`): Where the model is.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model = model
        self._threads = torch.get_num_threads()
        exported = next(model.parameters(), None) is None
        alone = device.type != "cpu" or exported or any("forward" in vars(module) for module in model.modules())
        self.count: int = 1 if alone else min(self._threads, MOST_STREAMS)
        #: So many batches are submitted before the first result is asked for.
        self.ahead: int = self.count if self.count > 1 else 0
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(self.count, "stream", self._begin)
        #: Starts the first computation, until it is known whether it is the only one.
        self._first: Callable[[], Future[Any]] | None = None
        self._began = False

    def close(self) -> None:
        """Ends the threads, once they have computed what they began."""
        self._pool.shutdown(cancel_futures=True)
        if self.count > 1:
            torch.set_num_threads(self._threads)  # what a thread has set also holds for later ones

    def submit(self, compute: Callable[[nn.Module], Result]) -> Callable[[], Result]:
        """
        Takes a computation with the model. Returns a function that waits for its result. If it is asked for before a second
        computation is submitted or expected, the first one has all threads.
        """
        if self.count == 1:
            return partial(compute, self.model)
        start = cache(partial(self._pool.submit, self._run, compute))
        if not self._began:
            self._began, self._first = True, start
            return lambda: compute(self.model) if self._first else start().result()
        self.expect_more()
        return start().result

    def expect_more(self) -> None:
        """
        Starts what waits for a second computation. With another number of threads the last digits may differ: to call this must
        not depend on time.
        """
        if self._first:
            self._first()
            self._first = None

    def map(self, compute: Callable[[Item, nn.Module], Result], items: Iterable[Item]) -> Iterator[Result]:
        """The results of `compute` for each of the `items`, in order."""
        coming: deque[Callable[[], Result]] = deque()
        for item in items:
            coming.append(self.submit(partial(compute, item)))
            if len(coming) > self.ahead:
                yield coming.popleft()()
        self.expect_more()
        for result in coming:
            yield result()

    def _begin(self) -> None:
        torch.set_num_threads(self._threads // self.count)
        self._own.model = _with_same_weights(self.model)

    def _run(self, compute: Callable[[nn.Module], Result]) -> Result:
        return compute(self._own.model)


def _with_same_weights(model: nn.Module) -> nn.Module:
    """A copy of a model that shares its tensors."""
    states = ({**module._parameters, **module._buffers, **vars(module)} for module in model.modules())
    tensors = (value for state in states for value in state.values() if isinstance(value, torch.Tensor))
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
