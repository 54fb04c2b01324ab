"""
Measures what a clip costs in corpora of several sizes, from its file to the batches of a training: time and memory.

    python benchmarks/scale.py 1000 10000 100000

The clips are noise of 0.05 to 0.15 s, 80 of each speaker. Each size runs in a process of its own, after a small corpus that is
not measured. Times are in microseconds for each clip. Memory is in MB, what no file backs, in excess of the process before the
corpus was read (on Linux): `held` after a stage, `peak` at most during it. Another process decodes; its memory is not counted.
"""

import argparse
import ctypes
import gc
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import soundfile
import torch
from torch.utils.data import DataLoader
from transformers import Wav2Vec2FeatureExtractor

from hf_ser import train_test_split
from hf_ser.audio import SAMPLING_RATE, cut, prepare
from hf_ser.clips import labelled, seconds_of
from hf_ser.corpora import read_corpora
from hf_ser.emotions import EmotionSelection
from hf_ser.memory import process_memory
from hf_ser.splits import save_splits
from hf_ser.training.dataset import SpeechCollator, SpeechDataset
from hf_ser.training.frozen import FrozenFeatures
from hf_ser.training.frozen.parts import segment_keys
from hf_ser.training.frozen.store import FeatureStore, Segment, in_use
from hf_ser.training.sampling import StepSampler

WARM_UP, BATCH, BATCHES = 400, 16, 50
#: In place of an encoder's outputs: as large as those of HuBERT Base's convolutions for 0.1 s.
FRAMES = torch.zeros(5, 512)
#: The shortest clip that a HuBERT takes, in samples.
MINIMUM = 400


def write(folder: Path, clips: int) -> str:
    """Writes a corpus of noise, and returns it as `manifest=PATH`."""
    rng = np.random.default_rng(0)
    rows = []
    for i, length in enumerate(rng.integers(SAMPLING_RATE // 20, SAMPLING_RATE * 3 // 20, clips)):
        path = folder / f"s{i // 80:05d}" / f"{i % 80:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.integers(-(2**15), 2**15, length, np.int16), SAMPLING_RATE)
        emotion = ("angry", "happy", "neutral", "sad")[rng.integers(4)]
        rows.append({"path": str(path.relative_to(folder)), "emotion": emotion, "speaker": path.parent.name})
    pd.DataFrame(rows).to_csv(folder / "clips.csv", index=False)
    return f"manifest={folder / 'clips.csv'}"


def memory() -> float:
    """The memory of this process that no file backs, in bytes; NaN where the system does not tell."""
    try:
        return process_memory("RssAnon")
    except OSError:
        return float("nan")


def settled_memory() -> float:
    """The same after everything that is free was given back to the system."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    if hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
    return memory()


def measure(work: Path, clips: int) -> dict[str, dict[str, float]]:
    """Takes a corpus through all stages in the empty folder `work`: of each `µs` for a clip, and `peak` and `held` in MB."""
    corpora = [write(work / "clips", clips)]
    before, stages = settled_memory(), dict[str, dict[str, float]]()

    @contextmanager
    def stage(name: str, number: int = clips) -> Iterator[None]:
        highest, done = [memory()], threading.Event()

        def look() -> None:
            while not done.wait(0.005):
                highest[0] = max(highest[0], memory())

        thread = threading.Thread(target=look)
        thread.start()
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        done.set()
        thread.join()
        held = settled_memory() - before
        stages[name] = {"µs": 1e6 * seconds / number, "peak": max(highest[0] - before, held) / 1e6, "held": held / 1e6}

    with stage("read the manifest"):
        undecoded = read_corpora(corpora)
    with stage("decode and store"):
        prepare(undecoded, cache=work / "prepared", workers=1)
    del undecoded
    with stage("open again"):
        rows = prepare(read_corpora(corpora), cache=work / "prepared", workers=1)
    with stage("check, label and split"):
        parts = train_test_split(labelled(rows, EmotionSelection.parse([])))
    del rows
    with stage("save the split"):
        save_splits(parts, work / "splits.json")
    with stage("cut into segments"):
        segments = cut(np.rint(seconds_of(parts["train"]) * SAMPLING_RATE).astype(np.int64), 0.1, 0.0)
    dataset = SpeechDataset(parts["train"], segments)
    sampler = StepSampler(dataset, BATCH, 0)
    with stage("order an epoch", len(segments)):
        for _ in sampler:
            pass
    collator = SpeechCollator(Wav2Vec2FeatureExtractor(do_normalize=True), MINIMUM)
    batches = iter(DataLoader(dataset, BATCH, sampler=sampler, collate_fn=collator))
    with stage("the first batch", BATCH):
        next(batches)
    with stage("further batches", min(BATCH * BATCHES, len(segments) - BATCH)):
        for _ in islice(batches, BATCHES):
            pass
    with stage("cache frozen layers", len(segments)):
        keys = segment_keys(dataset)
        samples = segments.samples.tolist()
        wanted = {key: Segment(dataset, i, samples[i]) for i, key in enumerate(keys)}
        with in_use(folder := work / "frozen/part"):
            store = FeatureStore(folder, math.inf, wanted)
            store.fill(lambda some: ((key, FRAMES) for key in some), quiet=True)
            FrozenFeatures(dataset, store, [keys], 1, "input_values")
    return stages


def measure_warm(clips: int) -> pd.DataFrame:
    """The same after a small corpus that is not measured."""
    with TemporaryDirectory(prefix="hf_ser-scale-") as work:
        measure(Path(work) / "warm-up", WARM_UP)
        return pd.DataFrame(measure(Path(work) / "measured", clips)).T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=int, help=f"sizes of the corpora, at least {WARM_UP}")
    sizes = parser.parse_args().clips
    if min(sizes) < WARM_UP:
        parser.error(f"clips: expected at least {WARM_UP}, found {min(sizes)}")
    found = {}
    for clips in sorted(sizes):
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            found[f"{clips:,} clips"] = pool.submit(measure_warm, clips).result()
    print(pd.concat(found, axis=1).to_string(float_format="{:,.1f}".format))


if __name__ == "__main__":
    main()
