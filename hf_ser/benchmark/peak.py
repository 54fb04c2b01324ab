"""How many operations a second the device can do at best: a matrix product, and nothing else."""

import math
import time
from typing import Any

import numpy as np
import torch

from hf_ser.benchmark.settings import Settings
from hf_ser.benchmark.training import synchronize
from hf_ser.encoders import encoder_config
from hf_ser.models.load import load_config

#: Squares of matrices, by the device.
SIDES = {"cpu": (1024, 2048), "cuda": (2048, 4096, 8192)}
#: Frames in a second of speech, of HuBERT and Whisper alike.
FRAMES = 50
LEAST, SECONDS = 5, 0.5
#: Seconds of a product, after which no larger one is tried, nor the same again.
LONGEST = 1.0


def measure(settings: Settings) -> dict[str, Any]:
    """
    The best rate of any shape, for `float32` and `bfloat16` each `flops_per_second` and the `shape` `(m, k, n)` that had it.
    Among the shapes are those of the model's own feed-forward, on a batch of clips of 3 s; none is tried after one that took
    more than a second.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = encoder_config(load_config(settings.model))
    width = config.hidden_size
    inner = config.encoder_ffn_dim if config.model_type == "whisper" else config.intermediate_size
    rows = 3 * FRAMES * settings.batch_size
    shapes = [*((side, side, side) for side in SIDES[device.type]), (rows, width, inner), (rows, inner, width)]
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        rates: dict[tuple[int, int, int], float] = {}
        for shape in sorted(shapes, key=math.prod):
            rates[shape] = rate(shape, dtype, device)
            if 2 * math.prod(shape) / rates[shape] > LONGEST:  # a processor may be that slow at bfloat16
                break
        best = max(rates, key=rates.__getitem__)
        found[str(dtype).removeprefix("torch.")] = {"flops_per_second": rates[best], "shape": list(best)}
    return found


@torch.inference_mode()
def rate(shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> float:
    """Operations in a second of the product of `(m, k)` and `(k, n)`, by the median of several."""
    m, k, n = shape
    left, right = torch.ones(m, k, dtype=dtype, device=device), torch.ones(k, n, dtype=dtype, device=device)
    torch.mm(left, right)  # warm-up
    synchronize(device)
    times: list[float] = []
    while len(times) < LEAST or (sum(times) < SECONDS and len(times) < 100):
        if times and times[0] > LONGEST:
            break
        began = time.perf_counter()
        torch.mm(left, right)
        synchronize(device)
        times.append(time.perf_counter() - began)
    return 2.0 * m * k * n / float(np.median(times))
