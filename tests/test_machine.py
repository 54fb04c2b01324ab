"""What is chosen for the hardware at hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_ser.machine import device_name, equal_shares, half_precision, loading_processes


@pytest.mark.parametrize(
    ("cores", "processes_of_the_run", "expected"), [(2, 1, 1), (1, 1, 1), (8, 1, 7), (64, 1, 8), (64, 8, 7), (16, 8, 1)]
)
def test_a_gpu_is_fed_by_the_cores_that_its_process_has(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes_of_the_run: int, expected: int
) -> None:
    monkeypatch.setattr("hf_ser.machine.processors", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes_of_the_run))
    assert loading_processes(gpu=True) == expected
    assert loading_processes(gpu=True, cores=4) == 3  # of a cross-validation with several runs at a time
    assert loading_processes(gpu=False) == 0


@pytest.mark.parametrize(
    ("capability", "bfloat16", "expected"),
    [
        ((9, 0), True, "bf16"),
        ((8, 0), True, "bf16"),
        ((7, 5), False, "fp16"),
        ((7, 0), False, "fp16"),
        ((6, 1), False, None),
    ],
)
def test_a_gpu_trains_in_the_16_bits_that_its_tensor_cores_have(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], bfloat16: bool, expected: str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert half_precision(cpu=False) == expected


def test_the_gpu_of_a_processor_is_not_called_its_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_ser.machine.processor_name", lambda: "Apple M2")
    assert [device_name(torch.device(kind)) for kind in ("cpu", "mps")] == ["CPU (Apple M2)", "MPS (Apple M2)"]


def test_a_processor_never_trains_in_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert half_precision(cpu=False) in ("bf16", None)


@given(work=st.lists(st.floats(1, 100), min_size=1, max_size=60), processes=st.integers(1, 8))
def test_of_equal_shares_none_is_larger_than_another_by_more_than_a_clip(work: list[float], processes: int) -> None:
    costs = np.array(work * processes)[: len(work) // processes * processes or processes]
    shares = equal_shares(costs, processes)
    assert shares.shape == (processes, len(costs) // processes)
    assert sorted(shares.ravel()) == list(range(len(costs)))
    loads = costs[shares].sum(axis=1)
    rounds = -np.sort(-costs).reshape(-1, processes)
    assert loads.max() - loads.min() <= (rounds[:, 0] - rounds[:, -1]).max() + 1e-6
