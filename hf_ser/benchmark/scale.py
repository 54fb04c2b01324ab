"""How time and memory for a clip change with the size of a corpus, from its files to the batches of a training."""

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import Wav2Vec2FeatureExtractor

from hf_ser.audio import SAMPLING_RATE, prepare
from hf_ser.audio.decode import encode
from hf_ser.benchmark.settings import Settings
from hf_ser.corpora import read_corpora
from hf_ser.features import SpeechCollator, SpeechDataset, StepSampler
from hf_ser.records import SPLITS
from hf_ser.training.arguments import DataArguments
from hf_ser.training.clips import make_split, select_clips

#: What is measured, in this order.
STAGES = {
    "read": "a manifest becomes rows",
    "prepare": "clips are decoded and stored, in one process",
    "open": "the same corpus is read and opened again",
    "select": "broken clips and duplicates are found, labels made, speakers split",
    "split": "speakers are split, which is a part of select",
    "save": "splits.json is written",
    "cut": "clips are cut into segments",
    "epoch": "the order of one epoch is drawn",
    "first batch": "the first batch is read",
    "batches": "further batches are read",
}
#: Clips of each speaker, and seconds of a clip: as short as an encoder takes, so that 100,000 fit.
CLIPS_PER_SPEAKER, SHORTEST, LONGEST = 80, 0.05, 0.15
SEGMENT_SECONDS = 0.1
#: Every so many clips one is a copy of another, or has no bytes.
COPIES, BROKEN = 100, 200
EMOTIONS = ("angry", "happy", "neutral", "sad")
BATCH, BATCHES = 16, 50
#: Clips of the first pass, which imports and compiles, and does not count.
WARM_UP = 400
#: Seconds between two looks at the memory.
LOOK = 0.005


def write(folder: Path, clips: int, seed: int = 0) -> Path:
    """
    Writes noise of 0.05 to 0.15 s, 80 clips a speaker, and their manifest. One in 100 is a copy, one in 200 is empty.

    Returns:
        The manifest.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(round(SHORTEST * SAMPLING_RATE), round(LONGEST * SAMPLING_RATE), clips)
    folder.mkdir(parents=True)
    paths = []
    content = b""
    header = encode(np.zeros(0, np.float32), "PCM_16")
    for i, length in enumerate(lengths):
        speaker, nth = divmod(i, CLIPS_PER_SPEAKER)
        path = folder / f"s{speaker:05d}" / f"{nth:02d}.wav"
        if not nth:
            path.parent.mkdir()
        if i % COPIES != COPIES - 1:  # else the one before once more
            samples = rng.bytes(2 * length)
            content = header[:-4] + len(samples).to_bytes(4, "little") + samples
        path.write_bytes(b"" if i % BROKEN == 0 else content)
        paths.append(f"{path.parent.name}/{path.name}")
    index = np.arange(clips)
    speakers = index // CLIPS_PER_SPEAKER
    columns = {
        "path": paths,
        "emotion": np.array(EMOTIONS)[rng.integers(0, len(EMOTIONS), clips)],
        "speaker": [f"s{speaker:05d}" for speaker in speakers],
        "gender": np.where(speakers % 2, "female", "male"),
        "session": [f"{session}" for session in speakers // 2],
    }
    manifest = folder / "clips.csv"
    pd.DataFrame(columns).to_csv(manifest, index=False)
    return manifest


def measure(settings: Settings, corpus: int) -> dict[str, Any]:
    """
    Makes a corpus of `corpus` clips and takes it through all stages in this process.

    Returns:
        For each of `STAGES` its `seconds`, `microseconds` for a clip, and in bytes `peak` and `held`: the memory of the process
        in excess of what it had before the corpus was read, at most during the stage and after it. Memory is what no file
        on the disk backs; `None` where the system does not say. `disk` is the size of what was prepared.
    """
    _pass(settings.work / "warm-up", WARM_UP, settings.seed)
    return _pass(settings.work / "measured", corpus, settings.seed)


def _pass(work: Path, clips: int, seed: int) -> dict[str, Any]:
    corpora = [f"manifest={write(work / 'clips', clips, seed)}"]
    cache = work / "prepared"
    watch = Watch(clips)

    def opened() -> Dataset:
        return prepare(read_corpora(corpora), cache=cache, workers=1)

    with watch("read"):
        undecoded = read_corpora(corpora)
    with watch("prepare"):
        prepare(undecoded, cache=cache, workers=1)
    del undecoded
    with watch("open"):
        rows = opened()
    arguments = DataArguments(corpora=corpora)
    with watch("select"):
        run = select_clips(rows, arguments, 400)
    del rows
    with watch("split"):
        make_split(run.table, arguments)
    with watch("save"):
        run.split.save(work / SPLITS, run.table)
    with watch("cut"):
        segments = run.segments("train", SEGMENT_SECONDS, 0.0)
    dataset = SpeechDataset(run.clips, segments)
    sampler = StepSampler(dataset, BATCH, seed)
    with watch("epoch", len(segments)):
        for _ in sampler:
            pass
    loader = DataLoader(
        dataset, BATCH, sampler=sampler, collate_fn=SpeechCollator(Wav2Vec2FeatureExtractor(do_normalize=True), 400)
    )
    batches = iter(loader)
    with watch("first batch", 1):
        next(batches)
    with watch("batches", min(BATCH * BATCHES, len(segments) - BATCH)):
        for _ in islice(batches, BATCHES):
            pass
    disk = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    return {"clips": clips, "segments": len(segments), "disk": disk, "stages": watch.stages}


class Watch:
    """
    Measures stages by the clock, and their memory by looking at it again and again.

    Args:
        clips (`int`): Clips in the corpus, which a stage's time is divided by.
    """

    def __init__(self, clips: int) -> None:
        self.clips = clips
        self.before = _settled()
        self.stages: dict[str, dict[str, float | None]] = {}

    @contextmanager
    def __call__(self, stage: str, clips: int | None = None) -> Iterator[None]:
        """Measures what is done within; `clips` if it goes through fewer, or through segments."""
        with _highest(anonymous_memory) as peak:
            began = time.perf_counter()
            yield
            seconds = time.perf_counter() - began
        held = _settled()
        self.stages[stage] = {
            "seconds": seconds,
            "microseconds": 1e6 * seconds / (clips or self.clips),
            "peak": None if self.before is None else max(peak[0], held or 0) - self.before,
            "held": None if self.before is None or held is None else held - self.before,
        }


def anonymous_memory() -> int | None:
    """Bytes of this process' memory that no file backs, as Linux counts them; `None` elsewhere."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon:"))
    except (OSError, StopIteration):
        return None


def _settled() -> int | None:
    """The memory once what is free was given back to the system."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
    return anonymous_memory()


@contextmanager
def _highest(look: Callable[[], int | None]) -> Iterator[list[int]]:
    """The highest of what `look` finds while the block runs, in a list that goes on to hold it."""
    highest, done = [look() or 0], threading.Event()

    def watch() -> None:
        while not done.wait(LOOK):
            highest[0] = max(highest[0], look() or 0)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield highest
    finally:
        done.set()
        thread.join()
