"""What is measured, each in a process of its own: what one leaves in memory is not the next one's."""

import logging
import os
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from typing import Any

import torch
from datasets import disable_progress_bars
from transformers import AudioClassificationPipeline, set_seed
from transformers.utils import logging as transformers_logging

import hf_ser
from hf_ser.audio import prepare
from hf_ser.benchmark import clips as benchmark_clips
from hf_ser.benchmark import peak, peer, scale, shapes, training
from hf_ser.benchmark.settings import Settings
from hf_ser.benchmark.variants import METHODS
from hf_ser.corpora import read_corpora
from hf_ser.features import encoder_config
from hf_ser.memory import keep_freed_memory
from hf_ser.models import load_model
from hf_ser.models.load import load_config
from hf_ser.report.cost import start_memory

logger = logging.getLogger(__name__)

#: Folders below that of the work: a model with transformers' head, and the same as this package opens it.
STOCK, OWN = "stock", "own"
BATCH_SIZES = (1, 2, 4, 8, 16)
#: The ways of inference: transformers' pipeline, and this package in its precisions.
PEER, FLOAT32, BFLOAT16, INT8 = INFERENCE = ("pipeline", "hf_ser", "hf_ser, bfloat16", "hf_ser, int8")


def ways_of_inference() -> tuple[str, ...]:
    """Those of [`INFERENCE`] that this machine's device has: int8 is for a CPU."""
    return tuple(way for way in INFERENCE if way != INT8 or not torch.cuda.is_available())


def make_model(settings: Settings, shape: str, folder: str) -> dict[str, Any]:
    """Writes a model with random weights."""
    shapes.make(shape, settings.work / folder, settings.seed)
    return {}


def set_up(settings: Settings) -> dict[str, Any]:
    """Prepares the corpora for all that follows, and writes the models whose inference is measured. Says what the clips are."""
    clips = benchmark_clips.load(settings)
    set_seed(settings.seed)
    model: Any
    model, extractor = peer.load(settings.model, clips.emotions, METHODS["full"])
    model.save_pretrained(settings.work / STOCK)
    extractor.save_pretrained(settings.work / STOCK)
    if encoder_config(load_config(settings.model)).model_type == "whisper":
        loaded = load_model(settings.model, clips.emotions)
        loaded.model.save_pretrained(settings.work / OWN)
        loaded.feature_extractor.save_pretrained(settings.work / OWN)
    return benchmark_clips.describe(clips, settings)


def prepare_corpora(settings: Settings, cache: str) -> dict[str, Any]:
    """How long the corpora take to prepare, the first time and the second, and the baseline to read the same clips once."""
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        rows = prepare(read_corpora(settings.corpora), cache=settings.work / cache, workers=settings.threads)
        seconds.append(time.perf_counter() - began)
    files = benchmark_clips.load(settings).files
    peer.read_file(files[0]["audio"])  # warm-up
    began = time.perf_counter()
    for row in files:
        peer.read_file(row["audio"])
    baseline = len(files) / (time.perf_counter() - began)
    return {
        "clips": len(rows),
        "first_seconds": seconds[0],
        "second_seconds": seconds[1],
        "clips_per_second": len(rows) / seconds[0],
        "baseline_clips_per_second": baseline,
    }


def classify(settings: Settings, way: str, batch_sizes: Sequence[int]) -> dict[str, Any]:
    """
    Clips per second of predicting all clips from their files, in one of [`INFERENCE`]: with transformers' pipeline for each of
    `batch_sizes`, or with this package.
    """
    own = way != PEER
    clips = benchmark_clips.load(settings)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    folder = settings.work / (OWN if own and (settings.work / OWN).exists() else STOCK)
    classifier: AudioClassificationPipeline
    if own:
        keep_freed_memory()
        precision = {FLOAT32: "float32", BFLOAT16: "bfloat16", INT8: "int8"}[way]
        classifier = hf_ser.pipeline(folder, device=device, precision=precision)
    else:
        model = peer.AutoModelForAudioClassification.from_pretrained(folder, dtype=torch.float32)
        extractor = peer.AutoFeatureExtractor.from_pretrained(folder)
        model.eval()
        classifier = AudioClassificationPipeline(
            model=model, feature_extractor=extractor, task="audio-classification", device=device
        )
    paths = [audio["path"] for audio in clips.files["audio"] if audio["bytes"] is None]
    if own and len(paths) < len(clips.files):
        raise ValueError("--corpora: clips inside a data set are not predicted here; give a corpus of files")

    def run(batch_size: int, count: int) -> int:
        if own:
            return sum(prediction.problem is None for prediction in classifier.predict(paths[:count]))
        return peer.predict(classifier, clips.files.select(range(count)), batch_size)

    memory = start_memory(device)
    found = {}
    for batch_size in batch_sizes:
        run(batch_size, min(batch_size, settings.clips))  # warm-up
        began = time.perf_counter()
        answered = run(batch_size, settings.clips)
        wall = time.perf_counter() - began
        if answered != settings.clips:
            raise RuntimeError(f"{settings.clips - answered} of {settings.clips} clips were not classified")
        found[str(batch_size)] = {
            "clips_per_second": answered / wall,
            "speech_per_second": float(clips.seconds.sum()) / wall,
        }
    best = max(found, key=lambda size: found[size]["clips_per_second"])
    return {**found[best], "batch_size": int(best), "batch_sizes": found, "memory": memory()}


#: By name, what a process can be asked to measure.
TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "make_model": make_model,
    "set_up": set_up,
    "peak": peak.measure,
    "prepare": prepare_corpora,
    "train": training.measure,
    "check": training.check,
    "classify": classify,
    "scale": scale.measure,
}


class TaskError(RuntimeError):
    """A measurement has failed."""


def run(settings: Settings, task: str, **told: Any) -> dict[str, Any]:
    """
    Does a task in this process.

    Returns:
        What it found, and the machine's `load` before it: processors that were busy over the last minute.
    """
    load = os.getloadavg()[0]
    torch.set_num_threads(settings.threads)
    return {**TASKS[task](settings, **told), "load": round(load, 2)}


def run_apart(settings: Settings, task: str, **told: Any) -> dict[str, Any]:
    """
    Does a task in a process of its own.

    Raises:
        TaskError: if it fails, with the reason, or its process ends without an answer, as where memory is short.
    """
    # A server that has imported all and computed nothing: its children begin at once.
    forks = "forkserver" in get_all_start_methods()
    context: Any = get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload([__name__])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, settings, task, told))
    process.start()
    there.close()
    try:
        found, problem = here.recv()
    except EOFError:
        process.join()
        raise TaskError(f"its process ended with {process.exitcode}; if that is -9, memory is short") from None
    except BaseException:  # interrupted: nobody waits for the answer
        process.terminate()
        raise
    process.join()
    if problem:
        logger.debug("%s", problem)
        raise TaskError(problem.strip().splitlines()[-1])
    answer: dict[str, Any] = found
    return answer


def _answer(pipe: Connection, settings: Settings, task: str, told: dict[str, Any]) -> None:
    # One GPU: transformers' Trainer would share a batch out to all that it sees.
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    warnings.simplefilter("ignore")
    try:
        pipe.send((run(settings, task, **told), None))
    except Exception:  # whatever it is: the other measurements go on
        pipe.send((None, traceback.format_exc()))
