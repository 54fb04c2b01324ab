"""What this process keeps of the memory that it has freed."""

import ctypes

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
