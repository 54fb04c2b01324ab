"""The cost of a model: time, memory, parameters, operations, disk space."""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hf_ser.audio import SAMPLING_RATE
from hf_ser.audio.decode import Waveform
from hf_ser.corpora.synthetic import speech
from hf_ser.inference.clips import Clip
from hf_ser.inference.onnx import ENTRIES, ExportedModel, is_exported
from hf_ser.machine import device_name, processors
from hf_ser.memory import peak_memory, process_memory
from hf_ser.modeling.families import minimum_samples
from hf_ser.pipeline import SERPipeline
from hf_ser.records import ADAPTER, ADAPTER_CONFIG, CONFIGS, WEIGHTS, WEIGHTS_INDEX
from hf_ser.tuning import parameter_counts

#: The first runs of each length choose kernels and fill caches, and are not counted.
WARM_UP = 3
#: Throughput is measured on this many batches of speech, of at least this many seconds, repeated for this many seconds.
BATCHES, LEAST_SECONDS, LEAST_WALL = 4, 60.0, 1.0
#: Seconds of the clip whose operations are counted; those of attention grow with the square of the length.
FLOPS_SECONDS = 5.0
FLOPS_COUNTED = (
    "matrix products and convolutions of the network, a multiplication and an addition as two operations; without feature "
    "extraction, norms, activations and softmax"
)


def measure_cost(
    classifier: SERPipeline,
    *,
    folder: str | Path | None = None,
    seconds: Sequence[float] = (1, 3, 6, 10),
    runs: int = 20,
    batch_seconds: float | None = None,
) -> dict[str, Any]:
    """
    Measures a model on its device, with synthetic speech that is the same every time. On a GPU it resets PyTorch's memory
    statistics, on Linux the peak of the process' resident memory.

    Args:
        classifier (`SERPipeline`): The model, from `hf_ser.pipeline`.
        folder (`str` or `Path`, *optional*): The folder of its files; without it `size` is `None`.
        seconds (`Sequence[float]`, defaults to 1, 3, 6 and 10): The lengths of the clips, in seconds.
        runs (`int`, defaults to 20): The timed runs of each length, after 3 that are not counted.
        batch_seconds (`float`, *optional*): Seconds of sound in a batch, see [`~hf_ser.pipeline.SERPipeline.predict`].

    Returns:
        A dict that is ready for JSON:

        - `device`: `kind` (`cpu` or `cuda`), `name`, `threads`, `processors`, `load` (the load average of the minute before),
          `torch`, `dtype`;
        - `latency`: for each length `seconds`, `runs`, `median_ms` and `p95_ms`: one clip, from its waveform to its
          probabilities, feature extraction included;
        - `throughput`: `speech_per_second`, seconds of speech per second of wall time through `predict` on `clips` of mixed
          lengths (`shortest` to `longest`, `seconds` in all) whose waveforms are in memory; `passes` over them,
          `wall_seconds`, `batch_seconds`;
        - `memory`: `peak_bytes` during and `before_bytes` before the prediction of these clips, and `of`, the kind of memory;
        - `parameters`: `total`, and those of the `adapter` with its head, or `None`;
        - `flops`: `per_second` of speech and `total` for a clip of `seconds`, and the operations that are `counted`. `flops` and
          `parameters` are `None` for an exported model and in int8, for which PyTorch cannot count them;
        - `size`: `model_bytes` and `adapter_bytes` on the disk, `None` for files that are not in the folder.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    shortest = minimum_samples(classifier.model.config)
    size = None if folder is None else size_on_disk(Path(folder).expanduser())
    device = {
        "kind": classifier.device.type,
        "name": device_name(classifier.device),
        "threads": torch.get_num_threads(),
        "processors": processors(),
        "load": round(os.getloadavg()[0], 2),  # before anything is measured
        "torch": torch.__version__,
        "dtype": classifier.precision,
    }
    throughput, memory = measure_throughput(classifier, min(seconds), max(seconds), classifier.budget(batch_seconds))
    latency = [measure_latency(classifier, length, runs) for length in seconds]
    uncounted = isinstance(classifier.model, ExportedModel) or classifier.precision == "int8"
    return {
        "device": device,
        "latency": latency,
        "throughput": throughput,
        "memory": memory,
        "parameters": None if uncounted else count_parameters(classifier.model),
        "flops": None if uncounted else count_flops(classifier, max(FLOPS_SECONDS, shortest / SAMPLING_RATE)),
        "size": size,
    }


def measure_latency(classifier: SERPipeline, length: float, runs: int) -> dict[str, Any]:
    """The time from a waveform of `length` seconds to its probabilities in the memory of the CPU."""
    waveform = speech(length)
    times = []
    for _ in range(WARM_UP + runs):
        start = time.perf_counter()
        next(classifier.classify([waveform], length))
        times.append(1000 * (time.perf_counter() - start))
    median, p95 = np.percentile(times[WARM_UP:], [50, 95])
    return {"seconds": length, "runs": runs, "median_ms": float(median), "p95_ms": float(p95)}


def measure_throughput(
    classifier: SERPipeline, shortest: float, longest: float, batch_seconds: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`throughput` and `memory` of [`measure_cost`], on clips with uniformly distributed lengths, in seconds."""
    rng = np.random.default_rng(0)
    waveforms: list[Waveform] = []
    wanted = max(LEAST_SECONDS, BATCHES * batch_seconds)
    while (total := sum(map(len, waveforms)) / SAMPLING_RATE) < wanted:
        waveforms.append(speech(rng.uniform(shortest, longest), seed=len(waveforms)))
    clips = [Clip(str(place), partial(waveforms.__getitem__, place)) for place in range(len(waveforms))]

    def run() -> None:
        for prediction in classifier.predict(clips, batch_seconds=batch_seconds):
            if prediction.problem:
                raise RuntimeError(f"a clip of synthetic speech cannot be used: {prediction.problem}")

    memory = start_memory(classifier.device)
    run()  # warm-up
    passes, start = 0, time.perf_counter()
    while (wall := time.perf_counter() - start) < LEAST_WALL:
        run()
        passes += 1
    throughput = {
        "speech_per_second": passes * total / wall,
        "clips": len(clips),
        "shortest": float(shortest),
        "longest": float(longest),
        "seconds": total,
        "passes": passes,
        "wall_seconds": wall,
        "batch_seconds": batch_seconds,
    }
    return throughput, memory()


def start_memory(device: torch.device) -> Callable[[], dict[str, Any]]:
    """Starts to measure memory. Returns a function that returns the memory before and the peak since."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        of = "GPU memory of PyTorch's tensors, weights included; without the CUDA context and PyTorch's reserve"
        return lambda: {"peak_bytes": torch.cuda.max_memory_allocated(device), "before_bytes": before, "of": of}
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak from now on, not since the start
        before = process_memory("VmRSS")
        of = "resident memory of the process: Python, its libraries, the weights and the clips"
        # Linux counts the two separately and not exactly: the peak may be below `before`.
        return lambda: {"peak_bytes": max(before, process_memory("VmHWM")), "before_bytes": before, "of": of}
    except OSError:
        of = "resident memory of the process since it was started"
        return lambda: {"peak_bytes": peak_memory()["process"], "before_bytes": None, "of": of}


def count_parameters(model: torch.nn.Module) -> dict[str, int | None]:
    """All parameters, and those of the adapter with its head."""
    adapter = get_peft_model_state_dict(model, save_embedding_layers=False) if isinstance(model, PeftModel) else {}
    return {"total": parameter_counts(model)[1], "adapter": sum(map(torch.numel, adapter.values())) or None}


def operations(step: Callable[[], object]) -> int:
    """The floating-point operations of the matrix products and convolutions in a call of `step`."""
    # With attention in plain matrix products, because the counter does not know all fused kernels.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


@torch.no_grad()
def count_flops(classifier: SERPipeline, length: float) -> dict[str, Any]:
    """The floating-point operations for a clip of `length` seconds, and for a second of it."""
    inputs = classifier.preprocess([speech(length)])
    total = operations(lambda: classifier.model(**inputs.to(classifier.device)))
    return {"per_second": total / length, "total": total, "seconds": length, "counted": FLOPS_COUNTED}


def size_on_disk(folder: Path) -> dict[str, int | None]:
    """The bytes of the files that a model is opened from, and of its adapter, in the folder or in `adapter/` below it."""
    if not folder.is_dir():
        raise FileNotFoundError(f"folder={str(folder)!r}: there is no such folder")
    if is_exported(folder):
        return {"model_bytes": _bytes(folder, ENTRIES), "adapter_bytes": None}
    beside = folder / "adapter" if (folder / "adapter").is_dir() else folder
    return {
        "model_bytes": _bytes(folder, (WEIGHTS, WEIGHTS_INDEX, *CONFIGS, "*.py"))
        if any(folder.glob(WEIGHTS))
        else None,
        "adapter_bytes": _bytes(beside, (ADAPTER, ADAPTER_CONFIG)) if (beside / ADAPTER).is_file() else None,
    }


def _bytes(folder: Path, patterns: Sequence[str]) -> int:
    files = {path for pattern in patterns for path in folder.glob(pattern)}
    return sum(path.stat().st_size for path in files)
