"""What this machine is, and what of it this process has."""

import ctypes
import os
import platform
import resource
import sys

import torch

#: glibc's numbers for `mallopt`, from its malloc.h, and the values.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
KEEP = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**28}


def processor_name() -> str:
    """What the processor is called."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """The name of a GPU, or `CPU (the processor's name)`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({processor_name()})"


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of_this_process() -> int:
    """This process' share of the processors, if a launcher started several on this machine."""
    return max(processors() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def has_bfloat16(cpu: bool) -> bool:
    """Whether the GPU, or the processor if there is none or `cpu` says so, multiplies bfloat16 matrices in hardware."""
    if torch.cuda.is_available() and not cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def peak_memory() -> dict[str, int]:
    """The most memory that this process has held, in bytes, and the most that it has held on the GPU."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.max_memory_allocated()
    return found


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
