"""The memory of this process: what it keeps, what it can still take, and whether an error says that it is short."""

import ctypes
import math
import re
from contextlib import suppress
from pathlib import Path

from accelerate.utils.memory import should_reduce_batch_size

#: glibc's numbers for `mallopt`, from its malloc.h, and the values.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
KEEP = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**28}


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
            cached = _number("inactive_file ", limit.with_name("memory.stat"))  # is given up on demand
            found.append(int(limit.read_text()) - int(used.read_text()) + cached)
    return min(found)


def _number(name: str, file: Path) -> int:
    line = re.search(rf"{name}(\d+)", file.read_text(encoding="ascii"))
    return int(line[1]) if line else 0


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that the memory of the machine or of a GPU is short."""
    return isinstance(error, MemoryError) or should_reduce_batch_size(error)
