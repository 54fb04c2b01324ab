"""Files, folders, patterns, datasets and arrays become clips, which threads read ahead of a model."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from glob import glob, has_magic
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from datasets import Audio, Dataset, DatasetDict

from hf_ser.audio import SAMPLING_RATE, AudioError
from hf_ser.audio.decode import RATES, Waveform, check, decode, resample
from hf_ser.corpora import hub_dataset
from hf_ser.corpora.hub_dataset import ParquetStream, audio_column
from hf_ser.corpora.reading import inside
from hf_ser.corpora.rows import AUDIO_SUFFIXES, CorpusError, audio_files

DATASET = f"{hub_dataset.NAME}="
#: The most clips in a pool.
POOL_CLIPS = 512


@dataclass(frozen=True)
class Clip:
    """
    A clip that has not been read yet.

    Args:
        name (`str`): The file's path, `dataset=NAME/PART/ROW`, or the number of an array or a row among the sources.
        read (`Callable`): Returns its waveform `(samples,)`, float32, 16 kHz, mono; raises
            [`~hf_ser.audio.AudioError`] if it cannot be decoded.
    """

    name: str
    read: Callable[[], Waveform] = field(repr=False)


@dataclass(frozen=True)
class ReadClip:
    """A clip that has been read: its waveform `(samples,)` at 16 kHz, empty if it was not decoded, and why it cannot be used."""

    name: str
    waveform: Waveform
    problem: AudioError | None


@dataclass(frozen=True)
class Prediction:
    """
    The model's prediction for one clip.

    Args:
        name (`str`): The clip's name, see [`Clip`].
        duration (`float`): Its length in seconds; 0 if it could not be read.
        probabilities (`dict[str, float]`): Each emotion's probability; they add up to 1. Empty if there is a problem, or the
            model has dimensions alone.
        problem (`str`, *optional*): Why there is no prediction: a reason (see `hf_ser.audio.decode.REASONS`), a colon
            and the details.
        dimensions (`dict[str, float]`): The value of each dimension that the model has, about 0 to 1.
    """

    name: str
    duration: float
    probabilities: dict[str, float]
    problem: str | None = None
    dimensions: dict[str, float] = field(default_factory=dict)

    @property
    def emotion(self) -> str | None:
        """The most likely emotion, or `None` if there is none."""
        return max(self.probabilities, key=self.probabilities.__getitem__, default=None)


#: One source of clips, see [`find_clips`].
Source: TypeAlias = str | Path | bytes | dict[str, Any] | npt.NDArray[Any] | torch.Tensor | Dataset | Clip
SOURCES = (str, Path, bytes, dict, np.ndarray, torch.Tensor, Dataset, Clip)  # a DatasetDict is a dict


def printable(name: str) -> str:
    """A clip's name with bytes that are not UTF-8 as `\\udcff`, so that it can be printed and saved."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def is_one_clip(sources: Source | Iterable[Source]) -> bool:
    """Whether `sources` is a single clip: a file, samples, or the bytes of a file."""
    if isinstance(sources, str | Path):
        return Path(sources).expanduser().is_file()
    return isinstance(sources, SOURCES) and not isinstance(sources, Dataset | DatasetDict)


def find_clips(sources: Source | Iterable[Source]) -> list[Clip]:
    """
    The clips of one or several sources, in the order of the sources. Files of a folder or pattern are sorted by name.

    Args:
        sources: One source, or an iterable of them. A source is one of

            - a file with any name that soundfile decodes, of up to 6 hours, at 4 to 384 kHz, with any number of channels,
              or the `bytes` of such a file;
            - a folder: all audio files in it and below it;
            - a pattern (`recordings/**/*.wav`): all audio files that match it;
            - a `datasets.Dataset` or `DatasetDict` with a column of type Audio; `dataset=FOLDER` (Parquet files, or what
              `save_to_disk` wrote) opens one, and so does `dataset=user/name` or `dataset=user/name:configuration` on the Hub.
              Of Parquet files a clip is fetched when it is read; else all are downloaded before;
            - `{"array": ..., "sampling_rate": ...}`: samples `(samples,)` or `(samples, channels)`, floats from -1 to 1
              or integers of full scale, at 4,000 to 384,000 Hz; `path`, if given, is the clip's name. `raw` may stand for
              `array`. An array or tensor without a sampling rate is at 16 kHz;
            - `{"bytes": ..., "path": ...}`: a row of an Audio column that is not decoded;
            - a [`Clip`].

    Raises:
        FileNotFoundError: if a file does not exist, or a folder or pattern has no audio files.
        CorpusError: if a dataset cannot be loaded or has no audio.
        ValueError: if a source is none of these.
    """
    several = [sources] if isinstance(sources, SOURCES) else sources
    return [clip for place, source in enumerate(several) for clip in clips_of(source, place)]


def clips_of(source: Source, place: int) -> list[Clip]:
    """The clips of one source, which is the `place`-th (from 0); see [`find_clips`]."""
    if isinstance(source, str) and source.startswith(DATASET):
        name = source.removeprefix(DATASET)
        return _clips_of_parts(hub_dataset.open_audio(name) or hub_dataset.load_parts(name), f"{source}/", source)
    if isinstance(source, str | Path):
        return [Clip(str(path), partial(_waveform, {"bytes": None, "path": str(path)})) for path in _find_files(source)]
    if isinstance(source, Dataset):
        return _clips_of_parts({None: source}, "row ", f"source {place}")
    if isinstance(source, DatasetDict):
        return _clips_of_parts(source, "", f"source {place}")
    if isinstance(source, bytes):
        return [Clip(f"bytes {place}", partial(_waveform, {"bytes": source, "path": None}))]
    if isinstance(source, np.ndarray | torch.Tensor):
        source = {"array": source, "sampling_rate": SAMPLING_RATE}
    if isinstance(source, dict) and {"bytes", "path"} <= source.keys():
        return [Clip(source["path"] or f"bytes {place}", partial(_waveform, source))]
    if isinstance(source, dict):
        return [_clip_of_array(source, place)]
    if isinstance(source, Clip):
        return [source]
    raise ValueError(
        f"source {place}: expected a path, a pattern, a datasets.Dataset, an array or a dict with 'array' and "
        f"'sampling_rate'; found {type(source).__name__}"
    )


def _find_files(source: str | Path) -> list[Path]:
    path = Path(source).expanduser()
    suffixes = ", ".join(sorted(AUDIO_SUFFIXES))
    if path.is_dir():
        if files := audio_files(path, str(source)):
            return [path / file for file in files]
        raise FileNotFoundError(
            f"the folder {str(source)!r} has no audio files, also in its subfolders; expected {suffixes}, found {inside(path)}. "
            f"If save_to_disk wrote it, write {DATASET}{source}"
        )
    if path.exists():
        return [path]
    if has_magic(str(path)):
        matches = [Path(match) for match in sorted(glob(str(path), recursive=True))]
        if files := [match for match in matches if match.suffix.lower() in AUDIO_SUFFIXES and match.is_file()]:
            return files
        found = f"{len(matches)} others, such as {str(matches[0])!r}" if matches else "nothing"
        raise FileNotFoundError(
            f"the pattern {str(source)!r} matches no audio file ({suffixes}); it matches {found}. ** stands for folders of "
            "any depth"
        )
    raise FileNotFoundError(
        f"there is no file or folder {str(source)!r}. For a dataset on the Hub write {DATASET}user/name"
    )


def _waveform(audio: dict[str, Any] | None) -> Waveform:
    decoded = decode(audio)
    return resample(decoded.mono, decoded.sampling_rate)


def _clips_of_parts(parts: Mapping[Any, Dataset | ParquetStream], prefix: str, dataset: str) -> list[Clip]:
    """The clips of a dataset's parts, whose names begin with `prefix`; errors call it `dataset`."""
    clips: list[Clip] = []
    for name, rows in parts.items():
        place, called = (f"{prefix}{name}/", f"{dataset}, {name}") if name else (prefix, dataset)
        read: Callable[[int], Waveform] = (
            partial(_read_streamed, rows) if isinstance(rows, ParquetStream) else _reader_of(rows, called)
        )
        clips += [Clip(f"{place}{row}", partial(read, row)) for row in range(len(rows))]
    if not clips:
        raise CorpusError(f"{dataset}: the dataset has no rows")
    return clips


def _reader_of(rows: Dataset, dataset: str) -> Callable[[int], Waveform]:
    if (column := audio_column(rows.features)) is None:
        columns = ", ".join(f"{column} ({type(feature).__name__})" for column, feature in rows.features.items())
        raise CorpusError(f"{dataset}: the dataset has no column of type Audio; found {columns}")
    undecoded = rows.select_columns([column]).cast_column(column, Audio(decode=False))
    return lambda row: _waveform(undecoded[row][column])


def _read_streamed(stream: ParquetStream, row: int) -> Waveform:
    group = int(stream.group_of(row))
    with _fetching:  # else each of several threads would fetch the same rows
        rows = _row_group(stream, group)
    return _waveform(rows[row - int(stream.first[group])])


_fetching = Lock()


@lru_cache(maxsize=2)  # clips are read nearly in their order
def _row_group(stream: ParquetStream, group: int) -> list[dict[str, Any] | None]:
    return stream.fetch(group, np.arange(*stream.first[group : group + 2]))


def _clip_of_array(source: dict[str, Any], place: int) -> Clip:
    if "raw" in source:  # as transformers' pipeline calls it
        source = {"array": source["raw"], **source}
    if not {"array", "sampling_rate"} <= source.keys():
        raise ValueError(
            f"source {place}: a dict needs 'array' and 'sampling_rate'; found {', '.join(map(repr, source)) or 'nothing'}"
        )
    array, sampling_rate = np.asarray(source["array"]), source["sampling_rate"]
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] > max(array.shape[0], 1) or not array.shape[1]:
        raise ValueError(
            f"source {place}: expected an array of shape (samples,) or (samples, channels), found "
            f"{np.shape(source['array'])}; transpose it if its channels come first"
        )
    if array.dtype.kind not in "iuf":
        raise ValueError(f"source {place}: expected an array of floats or integers, found {array.dtype}")
    in_range = isinstance(sampling_rate, int | float | np.number) and RATES[0] <= sampling_rate <= RATES[1]
    if not in_range or int(sampling_rate) != sampling_rate:
        raise ValueError(
            f"source {place}: expected a sampling_rate of {RATES[0]} to {RATES[1]} Hz, a whole number; found {sampling_rate}"
        )
    return Clip(str(source.get("path") or f"array {place}"), partial(_read_array, array, int(sampling_rate)))


def _read_array(array: npt.NDArray[Any], sampling_rate: int) -> Waveform:
    if array.dtype.kind == "u":  # silence is in the middle, as in 8-bit WAV
        middle = np.iinfo(array.dtype).max // 2 + 1
        array = (array.astype(np.float64) - middle) / middle
    elif array.dtype.kind == "i":
        array = array / (np.iinfo(array.dtype).max + 1.0)
    return resample(array.mean(axis=1, dtype=np.float32), sampling_rate)


def read(clip: Clip, shortest: int) -> ReadClip:
    """Reads a clip for an encoder that needs the `shortest` samples."""
    waveform = np.zeros(0, np.float32)
    try:
        waveform = clip.read()
        check(waveform, shortest)
    except AudioError as error:
        return ReadClip(clip.name, waveform, error)
    return ReadClip(clip.name, waveform, None)


@contextmanager
def start_threads(count: int) -> Iterator[Executor]:
    """Starts threads. In each of several, PyTorch uses one thread, as in a worker of a DataLoader."""
    own = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, "reader", torch.set_num_threads, (1 if count > 1 else own,)) as threads:
            yield threads
    finally:
        if count > 1:
            torch.set_num_threads(own)  # the number also holds for later threads


def read_pools(
    clips: Iterator[Clip], shortest: int, samples: float, threads: Executor, at_once: int
) -> Generator[list[ReadClip] | None, None, None]:
    """
    Reads clips in pools of `POOL_CLIPS` clips or about `samples` samples, at least one, in order. While one is in use, `threads`
    read the next one: `at_once` clips at a time, fewer if they are long. Another thread takes the clips from the iterator.

    Yields:
        The pools; `None` before one that is still being read.
    """
    read_ahead = _read_all(clips, shortest, samples, threads, at_once)
    with ThreadPoolExecutor(1) as collector:
        coming = collector.submit(_collect, read_ahead, samples)
        while True:
            if not coming.done():
                yield None
            if not (pool := coming.result()):
                return
            coming = collector.submit(_collect, read_ahead, samples)
            yield pool


def _read_all(
    clips: Iterator[Clip], shortest: int, samples: float, threads: Executor, at_once: int
) -> Iterator[ReadClip]:
    coming: deque[Future[ReadClip]] = deque()
    ahead = 1
    while True:
        more = islice(clips, max(ahead - len(coming), 0))
        coming.extend(threads.submit(read, clip, shortest) for clip in more)
        if not coming:
            return
        clip = coming.popleft().result()
        ahead = min(at_once, 1 + int(samples / max(len(clip.waveform), 1)))  # if the next ones are as long
        yield clip


def _collect(clips: Iterator[ReadClip], most: float) -> list[ReadClip]:
    pool: list[ReadClip] = []
    samples = 0
    while len(pool) < POOL_CLIPS and samples < most and (clip := next(clips, None)):
        pool.append(clip)
        samples += len(clip.waveform)
    return pool
