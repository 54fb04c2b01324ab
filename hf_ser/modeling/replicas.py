"""A model that computes several batches at once on a CPU."""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

import torch
from torch import nn

Item = TypeVar("Item")
Result = TypeVar("Result")

#: More were not measured, and each needs the memory of a batch.
MOST_REPLICAS = 2


class Replicas:
    """
    Copies of a model with the same weights, each of which computes batches in a thread of its own on a CPU: for a tenth of the
    time, the threads of one operation on a short clip wait for each other. PyTorch's threads are shared out among the replicas.
    Modules may store something between two calls; so one model cannot compute two batches at once. Elsewhere the model itself
    computes, in the calling thread: on another device, with one thread, where the `forward` of a module was replaced, which a
    copy would share, and where a module cannot be copied, as of an exported model.

    Args:
        model (`nn.Module`): The model.
        device (`torch.device`): Where it is.
        batches (`int`, *optional*): As many as there can be.
    """

    def __init__(self, model: nn.Module, device: torch.device, batches: int | None = None) -> None:
        self.model = model
        self._threads = torch.get_num_threads()
        self._free: SimpleQueue[nn.Module] = SimpleQueue()
        most = min(self._threads, MOST_REPLICAS, MOST_REPLICAS if batches is None else batches)
        copies: list[nn.Module] = []
        if most > 1 and device.type == "cpu" and not any("forward" in vars(module) for module in model.modules()):
            with suppress(TypeError, RuntimeError):
                copies = [_with_same_weights(model) for _ in range(most)]
        for replica in copies:
            self._free.put(replica)
        #: So many batches are submitted before the first result is asked for.
        self.ahead: int = len(copies)
        #: The batches that are computed at once.
        self.count: int = max(self.ahead, 1)
        self._pool = ThreadPoolExecutor(self.count, "replica", torch.set_num_threads, (self._threads // self.count,))

    def close(self) -> None:
        """Ends the threads, once they have computed what they began."""
        try:
            self._pool.shutdown(cancel_futures=True)
        finally:
            if self.count > 1:
                torch.set_num_threads(self._threads)  # what a thread has set also holds for later ones

    def submit(self, compute: Callable[[nn.Module], Result]) -> Callable[[], Result]:
        """Takes a computation with the model. Returns a function that waits for its result."""
        if self.count == 1:
            return partial(compute, self.model)
        return self._pool.submit(self._run, compute).result

    def map(self, compute: Callable[[Item, nn.Module], Result], items: Iterable[Item]) -> Iterator[Result]:
        """The results of `compute` for each of the `items`, in order."""
        coming: deque[Callable[[], Result]] = deque()
        for item in items:
            coming.append(self.submit(partial(compute, item)))
            if len(coming) > self.ahead:
                yield coming.popleft()()
        for result in coming:
            yield result()

    def _run(self, compute: Callable[[nn.Module], Result]) -> Result:
        model = self._free.get()
        try:
            return compute(model)
        finally:
            self._free.put(model)


def _with_same_weights(model: nn.Module) -> nn.Module:
    """A copy of a model that shares its tensors."""
    states = ({**module._parameters, **module._buffers, **vars(module)} for module in model.modules())
    tensors = (value for state in states for value in state.values() if isinstance(value, torch.Tensor))
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
