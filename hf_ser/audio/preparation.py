"""Decodes, resamples and checks a corpus once, and keeps it as Arrow files, from which clips are read without decoding."""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import soundfile
import torch
import xxhash
from datasets import Audio, Dataset, DatasetInfo, Features, Value, concatenate_datasets
from filelock import FileLock

from hf_ser.audio.decode import SAMPLING_RATE, AudioError, MemoryShortError, check, decode, encode, hash_of, resample
from hf_ser.cache import cache_folder, writing
from hf_ser.machine import processors

logger = logging.getLogger(__name__)

#: A part of the keys of prepared corpora. Raise it if the code below changes their content between releases.
VERSION = 1
#: Bytes of a batch that is written at once, and how many times larger than its file a decoded clip may be.
BATCH_BYTES, INFLATED = 1 << 28, 12
# datasets' own encoding of Audio wants torchcodec, and so an FFmpeg; a plain struct that is cast afterwards does not.
PREPARED = Features(
    {
        "audio": {"bytes": Value("binary"), "path": Value("string")},
        "duration": Value("float32"),
        "samples_hash": Value("string"),
        "problem": Value("string"),
        "detail": Value("string"),
    }
)


def prepare(corpora: Sequence[Dataset], cache: Path | None = None, workers: int | None = None) -> Dataset:
    """
    Gives every clip its 16 kHz mono audio, decoded and resampled at most once.

    The result is kept under `cache`. Its key contains the names, sizes and modification times of the files, a hash of audio that
    is no file, and the versions of the packages that decode and resample. It does not contain labels, so that another choice of
    emotions or split decodes nothing again. An unusable clip is kept without audio, with the reason in `problem`.

    Args:
        corpora (`Sequence[Dataset]`): Undecoded rows, see `hf_ser.corpora.read_corpora`.
        cache (`Path`, *optional*): The folder for prepared corpora, by default `hf_ser.cache.cache_folder()`.
        workers (`int`, *optional*): Processes that decode, by default one for each processor.

    Returns:
        All rows, with `audio` as `Audio(sampling_rate=16_000, decode=False)` (WAV bytes; clips that were 16-bit, 16 kHz
        and mono keep the same samples, others are 32-bit floats), `duration` in seconds, `samples_hash`, `problem` (empty for a
        usable clip) and `detail`.
    """
    cache = cache or cache_folder()
    return concatenate_datasets([_with_audio(rows, cache, workers or processors()) for rows in corpora])


def _with_audio(rows: Dataset, cache: Path, workers: int) -> Dataset:
    # The corpus of a manifest may have any name; the key distinguishes corpora with the same name.
    name = re.sub(r"[^\w.-]+", "_", rows[0]["corpus"]).strip(".")
    folder = cache / "corpora" / f"{name[:60]}-{_key(rows)}"
    with writing(cache):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # processes that start together prepare once
            if not (folder / "files.json").exists():
                _decode_all(rows, folder, workers)
    files = json.loads((folder / "files.json").read_text(encoding="utf-8"))
    # The features are declared, not cast: a cast would write all audio once more.
    info = DatasetInfo(features=Features({**PREPARED, "audio": Audio(sampling_rate=SAMPLING_RATE, decode=False)}))
    prepared = concatenate_datasets([Dataset.from_file(str(folder / name), info=info) for name in files])
    return concatenate_datasets([rows.remove_columns("audio"), prepared], axis=1)


def _key(rows: Dataset) -> str:
    versions = [f"{name} {version(name)}" for name in ("hf_ser", "torchaudio", "soundfile")]
    decoder = soundfile.__libsndfile_version__  # it may be the system's
    digest = hashlib.sha256(f"{VERSION} {SAMPLING_RATE} {versions} {decoder}".encode())
    for batch in rows.select_columns(["clip", "audio"]).with_format("arrow").iter(batch_size=1000):
        audio = batch["audio"].combine_chunks()
        for clip, path, content in zip(batch["clip"], audio.field("path"), audio.field("bytes"), strict=True):
            # There is no content where the audio is a file.
            found = xxhash.xxh3_128_hexdigest(content.as_buffer()) if content.is_valid else _status(path.as_py() or "")
            digest.update(f"{clip} {found}\n".encode())
    return digest.hexdigest()[:20]


def _status(path: str) -> str:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a null byte in the path is a ValueError
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


def _decode_all(rows: Dataset, folder: Path, workers: int) -> None:
    corpus = rows[0]["corpus"]
    logger.info("%s: decoding %d clips to 16 kHz, once, into %s", corpus, len(rows), folder)
    unfinished = folder.with_name(folder.name + ".unfinished")
    # It may have finished shards of an interrupted preparation, from which map continues.
    unfinished.mkdir(exist_ok=True)
    workers = min(workers, len(rows))
    try:
        prepared = rows.map(
            _decode_one,
            input_columns="audio",
            remove_columns=rows.column_names,
            features=PREPARED,
            num_proc=workers,
            cache_file_name=str(unfinished / "clips.arrow"),
            new_fingerprint=folder.name,
            writer_batch_size=_clips_in_batch(rows),
            desc=f"decoding {corpus}",
        )
    except RuntimeError as error:
        if "abruptly died" not in str(error):
            raise
        raise MemoryError(
            f"prepare_workers={workers}: a process that decodes {corpus} was killed, most likely as memory was short; use fewer"
        ) from error
    names = [Path(file["filename"]).name for file in prepared.cache_files]
    del prepared
    for left in unfinished.iterdir():
        if left.name not in names:  # by a process that was killed
            left.unlink()
    (unfinished / "files.json").write_text(json.dumps(names), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)  # complete or not at all


def _clips_in_batch(rows: Dataset) -> int:
    """
    The number of clips that are written together. They are in memory together, and must fit into Arrow's 2 GB: 32 recordings of
    15 minutes do. A process that opens the file needs a few kilobytes for each batch, so that a batch has more of shorter clips.
    """
    largest = 1
    for batch in rows.select_columns(["audio"]).with_format("arrow").iter(batch_size=1000):
        audio = batch["audio"].combine_chunks()
        inside = pc.max(pc.binary_length(audio.field("bytes"))).as_py() or 0
        paths = (path for path in audio.field("path").to_pylist() if path and os.path.isfile(path))
        outside = max(map(os.path.getsize, paths), default=0)
        largest = max(largest, inside, outside)
    return min(max(BATCH_BYTES // (INFLATED * largest), 32), 1000)


def _decode_one(audio: dict[str, Any]) -> dict[str, Any]:
    # A forked process hangs in OpenMP if its parent has used threads. One thread is enough for one clip.
    torch.set_num_threads(1)
    found = {"audio": {"bytes": None, "path": None}, "duration": 0.0, "samples_hash": "", "problem": "", "detail": ""}
    try:
        decoded = decode(audio)
        waveform = resample(decoded.mono, decoded.sampling_rate)
        check(waveform)
        untouched = decoded.subtype == "PCM_16" and decoded.sampling_rate == SAMPLING_RATE and decoded.channels == 1
        content = encode(waveform, "PCM_16" if untouched else "FLOAT")
    except MemoryShortError as error:  # not a fault of the clip: nothing is kept
        raise MemoryError(f"{audio['path'] or 'a clip'}: {error}, or decode fewer at once (prepare_workers)") from error
    except AudioError as error:
        return found | {"problem": error.reason, "detail": error.detail}
    samples = {"duration": len(waveform) / SAMPLING_RATE, "samples_hash": hash_of(waveform)}
    return found | {"audio": {"bytes": content, "path": None}} | samples
