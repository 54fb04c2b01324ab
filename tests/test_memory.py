"""A process that keeps what it has freed does not ask the system for every tensor anew."""

import json
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import json, resource, sys
import torch
from hf_ser.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.empty(16 * 2**20).fill_(1.0)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
taken = keep_freed_memory()
faults()
print(json.dumps({"taken": taken, "again": keep_freed_memory(), "before": before, "after": faults()}))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's allocator that gives memory back")
def test_a_tensor_takes_the_memory_that_another_has_freed() -> None:
    found = json.loads(subprocess.check_output([sys.executable, "-c", PROGRAM], text=True))
    assert found["taken"]
    assert found["again"]
    if found["before"] < 8 * 1000:  # else 16,384 pages for each tensor
        pytest.skip("this system gives memory in huge pages, and hardly any time is lost")
    assert found["after"] < found["before"] / 20
