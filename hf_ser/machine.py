"""This machine's hardware, and the share of it that this process has."""

import os
import platform
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


def processor_name() -> str:
    """The name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """The name of a GPU, or `CPU (the processor's name)`; `MPS (...)` for the GPU of an Apple processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type.upper()} ({processor_name()})"


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of_this_process() -> int:
    """This process' share of the processors, if a launcher started several on this machine."""
    return max(processors() // int(os.environ.get("LOCAL_WORLD_SIZE") or 1), 1)


def equal_shares(work: npt.NDArray[Any], processes: int) -> npt.NDArray[np.int64]:
    """
    Shares clips among processes: equally many for each, and nearly the same work, because all wait for the last one. In each
    round each process gets one clip, the longest clips first; the process with the least work so far gets the longest of them.

    Args:
        work (`array` of shape `(clips,)`): The cost of each clip; their number is a multiple of `processes`.
        processes (`int`): The number of processes.

    Returns:
        The clips of each process, `(processes, clips / processes)`, the longest first.
    """
    rounds = np.argsort(-work, kind="stable").reshape(-1, processes)
    loads = np.zeros(processes)
    for clips in rounds:
        clips[np.argsort(loads, kind="stable")] = clips.copy()
        loads += work[clips]
    return rounds.T


def loading_processes(gpu: bool, cores: int | None = None) -> int:
    """
    How many processes load the batches of one that trains by default: on a CPU none, which would take its cores from the model,
    and with a `gpu` one less than it has `cores`, by default its share of the machine's.
    """
    return min(max((cores or threads_of_this_process()) - 1, 1), 8) if gpu else 0


def has_bfloat16(cpu: bool) -> bool:
    """Whether the hardware multiplies bfloat16 matrices: the GPU; without one, or with `cpu`, the processor."""
    if torch.cuda.is_available() and not cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def half_precision(cpu: bool) -> str | None:
    """
    The 16-bit type to train in by default, as accelerate calls it: `bf16` where the hardware multiplies it, else `fp16` on GPUs
    with tensor cores (V100, T4), else `None`: without them, and on a processor, float16 is not faster than float32.
    """
    if has_bfloat16(cpu):
        return "bf16"
    tensor_cores = torch.cuda.is_available() and not cpu and torch.cuda.get_device_capability() >= (7, 0)
    return "fp16" if tensor_cores else None
