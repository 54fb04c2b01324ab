"""How long a clip takes, in PyTorch and exported."""

import time
from collections.abc import Mapping

import numpy as np
import torch
from transformers import AudioClassificationPipeline

from hf_ser.audio import SAMPLING_RATE
from hf_ser.inference.batches import extract


def measure(
    classifiers: Mapping[str, AudioClassificationPipeline], *, seconds: float = 3.0, rounds: int = 10
) -> dict[str, float]:
    """
    The time that each model needs for one clip, by itself, on one thread: the model alone, without features.

    Args:
        classifiers (`Mapping[str, AudioClassificationPipeline]`): The models; exported ones with one thread.
        seconds (`float`, defaults to 3): The clip's length.
        rounds (`int`, defaults to 10): How often each is measured, in turns, after one round that does not count.

    Returns:
        Of each the median, in seconds.
    """
    clip = np.random.default_rng(0).standard_normal(round(seconds * SAMPLING_RATE)).astype(np.float32)
    taken: dict[str, list[float]] = {name: [] for name in classifiers}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(rounds + 1):
                for name, classifier in classifiers.items():
                    inputs = extract(classifier, [clip])
                    began = time.perf_counter()
                    classifier.model(**inputs)
                    taken[name].append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return {name: float(np.median(times[1:])) for name, times in taken.items()}
