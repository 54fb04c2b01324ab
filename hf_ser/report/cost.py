"""What a model costs: time, memory, parameters, arithmetic, room on the disk."""

import os
import resource
import sys
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
from transformers import AudioClassificationPipeline

from hf_ser.audio import SAMPLING_RATE
from hf_ser.audio.decode import Waveform
from hf_ser.corpora.synthetic import PROSODY, Speaker, babble
from hf_ser.export import ENTRIES, ExportedModel, is_exported
from hf_ser.features import minimum_samples
from hf_ser.inference.clips import Clip
from hf_ser.machine import processor_name, processors
from hf_ser.tuning import parameter_counts

SEED = 0
#: The first runs of each length choose kernels and fill caches: they are not counted.
WARM_UP = 3
#: Throughput is taken on so many batches' worth of speech, and so many seconds at least; again and again for so many seconds.
BATCHES, LEAST_SECONDS, LEAST_WALL = 4, 60.0, 1.0
#: Seconds of the clip whose operations are counted. Attention grows with the square of the length.
FLOPS_SECONDS = 5.0
FLOPS_COUNTED = (
    "matrix products and convolutions of the network, a multiplication and an addition as two operations; not the feature "
    "extraction, norms, activations and softmax"
)
#: What a model is opened from, beside its weights.
MODEL_FILES = ("config.json", "preprocessor_config.json", "model*.safetensors", "model.safetensors.index.json", "*.py")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def measure_cost(
    classifier: AudioClassificationPipeline,
    *,
    folder: str | Path | None = None,
    seconds: Sequence[float] = (1, 3, 6, 10),
    runs: int = 20,
    batch_seconds: float | None = None,
    precision: str = "float32",
) -> dict[str, Any]:
    """
    Measures a model on the device that it is on, with synthetic speech that is the same every time.

    On the GPU the figures of memory that PyTorch keeps are reset, on Linux the process' peak of resident memory.

    Args:
        classifier (`AudioClassificationPipeline`): What `hf_ser.load` returns.
        folder (`str` or `Path`, *optional*): Where the model's files are; without it `size` is `None`.
        seconds (`Sequence[float]`, defaults to 1, 3, 6 and 10): The lengths of the clips, in seconds.
        runs (`int`, defaults to 20): How often each length is timed, after 3 runs that are not counted.
        batch_seconds (`float`, *optional*): Seconds of sound in a batch, see [`~hf_ser.pipeline.SERPipeline.predict`].
        precision (`str`, defaults to `"float32"`): What it computes in, see [`~hf_ser.pipeline.pipeline`].

    Returns:
        A dict that is ready for JSON:

        - `device`: `kind` (`cpu` or `cuda`), `name`, `threads`, `processors`, `load` (of the machine over the minute before,
          in processors that were busy), `torch`, `dtype`;
        - `latency`: for each length `seconds`, `runs`, `median_ms` and `p95_ms`: a clip alone, from its waveform to its
          probabilities, feature extraction included;
        - `throughput`: `speech_per_second`, seconds of speech in a second of wall time through `predict` on clips of mixed
          lengths, whose waveforms are in memory; how many `clips`, the `shortest` and `longest` that there may be, their
          `seconds` together, the `passes` over them and the `wall_seconds` that these took, `batch_seconds`;
        - `memory`: `peak_bytes` and `before_bytes` while and before these clips are predicted, and `of`: of what;
        - `parameters`: `total`, and `adapter` with the head that belongs to it, or `None`;
        - `flops`: `per_second` of speech and `total` for a clip of `seconds`, and what is `counted`; this and the parameters are
          `None` of an exported model and in int8, where PyTorch knows neither;
        - `size`: `model_bytes` and `adapter_bytes` on the disk, `None` for what is not in the folder.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if `runs` is below 1, there is no length, or the encoder needs more than the shortest.
    """
    shortest = minimum_samples(classifier.model.config)
    if not seconds or any(round(length * SAMPLING_RATE) < shortest for length in seconds):
        needed = f"{shortest / SAMPLING_RATE:g} s, which the encoder needs"
        raise ValueError(f"seconds: expected lengths of at least {needed}; found {list(seconds)}")
    if runs < 1:
        raise ValueError(f"runs: must be at least 1, found {runs}")
    size = None if folder is None else size_on_disk(Path(folder).expanduser())
    batch = classifier.budget(batch_seconds)
    device = describe_device(classifier, precision)
    throughput, memory = measure_throughput(classifier, min(seconds), max(seconds), batch)
    latency = [measure_latency(classifier, length, runs) for length in seconds]
    uncounted = isinstance(classifier.model, ExportedModel) or precision == "int8"
    return {
        "device": device,
        "latency": latency,
        "throughput": throughput,
        "memory": memory,
        "parameters": None if uncounted else count_parameters(classifier.model),
        "flops": None if uncounted else count_flops(classifier, max(FLOPS_SECONDS, shortest / SAMPLING_RATE)),
        "size": size,
    }


def speech(length: float, seed: int = SEED) -> Waveform:
    """Babble of a made-up speaker, `(samples,)` at 16 kHz, `length` seconds of it; the same seed gives the same samples."""
    rng = np.random.default_rng(seed)
    speaker = Speaker.draw(seed, rng)
    pieces: list[Waveform] = []
    missing = samples = round(length * SAMPLING_RATE)
    while missing > 0:
        pieces.append(babble(speaker, PROSODY["neutral"], rng).astype(np.float32))
        missing -= len(pieces[-1])
    return np.concatenate(pieces)[:samples]


def describe_device(classifier: AudioClassificationPipeline, precision: str = "float32") -> dict[str, Any]:
    """What the model runs on, what it computes in, and how busy the machine was before."""
    device = classifier.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({processor_name()})"
    return {
        "kind": device.type,
        "name": name,
        "threads": torch.get_num_threads(),
        "processors": processors(),
        "load": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "dtype": precision,
    }


def measure_latency(classifier: AudioClassificationPipeline, length: float, runs: int) -> dict[str, Any]:
    """The time from a waveform of `length` seconds to its probabilities, which are on the CPU: a GPU has finished then."""
    waveform = speech(length)
    times = []
    for _ in range(WARM_UP + runs):
        start = time.perf_counter()
        next(classifier.classify([waveform], length))
        times.append(1000 * (time.perf_counter() - start))
    median, p95 = np.percentile(times[WARM_UP:], [50, 95])
    return {"seconds": length, "runs": runs, "median_ms": float(median), "p95_ms": float(p95)}


def measure_throughput(
    classifier: AudioClassificationPipeline, shortest: float, longest: float, batch_seconds: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`throughput` and `memory` of [`measure_cost`], on clips whose lengths lie evenly between two, in seconds."""
    rng = np.random.default_rng(SEED)
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
    """Begins to watch memory; what is returned says how much it was and has been at most."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        of = "GPU memory of PyTorch's tensors, the weights among them; without the CUDA context and what PyTorch keeps in reserve"
        return lambda: {"peak_bytes": torch.cuda.max_memory_allocated(device), "before_bytes": before, "of": of}
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak from now on, not since the start
        before = _status("VmRSS")
        of = (
            "resident memory of the process: Python, its libraries, the weights, and the clips being read and predicted"
        )
        # Linux counts the two apart, each within some pages: where little is added its peak may be below `before`.
        return lambda: {"peak_bytes": max(before, _status("VmHWM")), "before_bytes": before, "of": of}
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        of = "resident memory of the process since it was started, whatever it did before it was measured"
        return lambda: {
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
            "before_bytes": None,
            "of": of,
        }


def _status(field: str) -> int:
    """A field of Linux' account of this process, in bytes."""
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{field}:"))


def count_parameters(model: torch.nn.Module) -> dict[str, int | None]:
    """All parameters, and those of the adapter that is on the model, with the head that belongs to it."""
    adapter = None
    if isinstance(model, PeftModel):
        adapter = sum(
            weight.numel() for weight in get_peft_model_state_dict(model, save_embedding_layers=False).values()
        )
    return {"total": parameter_counts(model)[1], "adapter": adapter}


def operations(step: Callable[[], object]) -> int:
    """The floating-point operations of the matrix products and convolutions in what `step` does."""
    # Attention in plain matrix products: not every fused kernel is known to the counter.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    total: int = counter.get_total_flops()
    return total


@torch.no_grad()
def count_flops(classifier: AudioClassificationPipeline, length: float) -> dict[str, Any]:
    """The floating-point operations for a clip of `length` seconds, and for a second of it."""
    inputs = classifier.preprocess([speech(length)])
    total = operations(lambda: classifier.model(**inputs.to(classifier.device)))
    return {"per_second": total / length, "total": total, "seconds": length, "counted": FLOPS_COUNTED}


def size_on_disk(folder: Path) -> dict[str, int | None]:
    """
    The bytes of the files that a model is opened from, and of its adapter, in the folder or in `adapter/` below it.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"folder: there is no folder {str(folder)!r}, whose files were to be measured")
    if is_exported(folder):
        return {"model_bytes": _bytes(folder, ENTRIES), "adapter_bytes": None}
    beside = folder / "adapter" if (folder / "adapter").is_dir() else folder
    return {
        "model_bytes": _bytes(folder, MODEL_FILES) if any(folder.glob("model*.safetensors")) else None,
        "adapter_bytes": _bytes(beside, ADAPTER_FILES) if any(beside.glob("adapter_model.safetensors")) else None,
    }


def _bytes(folder: Path, patterns: Sequence[str]) -> int:
    files = {path for pattern in patterns for path in folder.glob(pattern)}
    return sum(path.stat().st_size for path in files)
