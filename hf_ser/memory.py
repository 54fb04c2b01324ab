"""The memory of this process and of its GPU: how much is free, and what to do when it runs out."""

import ctypes
import logging
import math
import re
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

#: glibc's numbers for `mallopt`, from its malloc.h, and the values.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
KEEP = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**28}

#: Seconds of audio in a batch, padding included; in training with HuBERT Base. On a CPU more are no faster,
#: on a GPU fewer leave it idle.
BATCH_SECONDS = {"cpu": 8.0, "gpu": 120.0}
#: The share of a GPU's free memory that training may take: clips of other lengths take a little more for each second.
GPU_SHARE = 0.7


def kind_of(device: torch.device) -> str:
    """The key of a device in [`BATCH_SECONDS`] and tables like it."""
    return "cpu" if device.type == "cpu" else "gpu"


def keep_freed_memory() -> bool:
    """
    Lets the allocator keep what is freed for the next tensor. glibc gives each tensor of some megabytes back to the system,
    which clears it and hands it out again page by page: about a tenth of a training step on a CPU. The process becomes no
    larger than its largest moment was; it does not shrink after it.

    It holds for the whole process, so it is for programs to call and not for a library. Does nothing where the allocator is
    another.

    Returns:
        Whether the allocator took it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or none that can be asked
        return False
    return all(mallopt(number, value) == 1 for number, value in KEEP.items())


def peak_memory() -> dict[str, int]:
    """The most memory that this process has held, in bytes, and the most that it has held on the GPU."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.max_memory_allocated()
    return found


def process_memory(field: str) -> int:
    """
    A field of Linux' `/proc/self/status`, in bytes.

    Raises:
        OSError: if the system has no such file.
    """
    return 1024 * _number(f"{field}:\\s+", Path("/proc/self/status"))


def free_gpu_memory() -> int:
    """The bytes that tensors can still take on this process' CUDA device: what is free there, and what it holds unused."""
    return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


def free_memory() -> float:
    """
    The bytes that this process can still take before the system ends it: what the machine has, and what is left of the limit of
    a container. Infinite where neither is known.
    """
    found = [math.inf]
    with suppress(OSError):
        found += [1024 * _number("MemAvailable: +", Path("/proc/meminfo"))]
    root = Path("/sys/fs/cgroup")
    for limit, used in (  # of version 2, and of version 1
        (root / "memory.max", root / "memory.current"),
        (root / "memory/memory.limit_in_bytes", root / "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # without a limit it is the word max
            kinds = (r"\binactive_file ", r"\bactive_file ")  # are given up on demand
            cached = sum(_number(kind, limit.with_name("memory.stat")) for kind in kinds)
            found.append(int(limit.read_text()) - int(used.read_text()) + cached)
    return min(found)


def require_memory(needed: float, what: str) -> None:
    """
    Raises:
        MemoryError: if this process cannot take the bytes that `what` needs: the system would end it without a word.
    """
    if needed > (free := free_memory()):
        raise MemoryError(
            f"{what} need {needed / 1e9:.2f} GB of memory, of which {free / 1e9:.2f} GB are free: end other programs, raise the "
            "limit of the container, or choose a smaller model or a method that trains less of it"
        )


def _number(name: str, file: Path) -> int:
    line = re.search(rf"{name}(\d+)", file.read_text(encoding="ascii", errors="replace"))
    return int(line[1]) if line else 0


#: Phrases in out-of-memory errors of GPU libraries that accelerate does not know.
OUT_OF_MEMORY = (
    "CUDA error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "GET was unable to find an engine to execute this computation",
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that the memory of the machine or of a GPU is short."""
    known = isinstance(error, MemoryError) or should_reduce_batch_size(error)
    return known or (isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY))


def until_it_fits(compute: Callable[[], Result], reduce: Callable[[Exception], None]) -> Result:
    """
    The result of `compute`. Where the memory runs out, `reduce` gets the error and makes sure that `compute` takes less at once,
    and `compute` is called again.
    """
    while True:
        try:
            return compute()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            failed = error.with_traceback(None)  # which keeps the tensors of what has failed
        torch.cuda.empty_cache()
        reduce(failed)


class FittingParts:
    """
    Computes a batch in parts that fit into the memory of a device. Where it runs out, the part is halved and computed again; what
    did not fit is not tried another time.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        #: Values of the input that may go through the model at once.
        self.most: float = math.inf

    def __call__(self, compute: Callable[[slice], Result], clips: int, width: int) -> list[Result]:
        """
        Args:
            compute (`Callable`): Takes a part of the batch, as a slice of its clips.
            clips (`int`): The clips of the batch.
            width (`int`): The values of the input for each of them.

        Returns:
            The results, one for each part, in the order of the clips.

        Raises:
            MemoryError: if one clip alone does not fit.
        """
        found: list[Result] = []
        first = size = 0

        def next_part() -> Result:
            nonlocal size
            size = min(clips - first, max(int(min(self.most, clips * width) // width), 1))
            return compute(slice(first, first + size))

        def halve(error: Exception) -> None:
            if size == 1:
                raise MemoryError(
                    f"the memory of {self.device} does not hold the model and one clip: cut clips into shorter segments "
                    f"(segment_length in training, longest in predictions), or end other programs ({error})"
                ) from error
            self.most = size * width // 2
            logger.warning("the memory ran out with %d clips at once: from now on at most %d", size, size // 2)

        while first < clips:
            found.append(until_it_fits(next_part, halve))
            first += size
        return found
