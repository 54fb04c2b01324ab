"""What a user names (files, folders, patterns, data sets, arrays) becomes clips that are read one at a time."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Audio, Dataset

from hf_ser.audio.decode import RATES, Waveform, decode, resample
from hf_ser.corpora import hub_dataset
from hf_ser.corpora.rows import AUDIO_SUFFIXES, CorpusError, audio_files

DATASET = f"{hub_dataset.NAME}="
#: What breaks a line of a table, or changes the terminal that it is printed on.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Clip:
    """
    A clip that has not been read yet.

    Args:
        name (`str`): The file's path, or `dataset=NAME/PART/ROW`, or the place of an array among the sources.
        read (`Callable`): Gives its waveform `(samples,)`, float32, 16 kHz, mono; raises
            [`~hf_ser.audio.AudioError`] if it cannot be decoded.
    """

    name: str
    read: Callable[[], Waveform] = field(repr=False)


#: One thing a user names.
Source = str | Path | dict[str, Any] | Clip


def printable(name: str) -> str:
    """A clip's name as it can be printed and saved: bytes of a file's name that are no UTF-8 as `\\udcff`."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def in_one_line(text: str) -> str:
    """A name, or what is wrong with a clip, as a table can show it: line breaks and other control characters as `\\n`."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def find_clips(sources: Source | Iterable[Source]) -> list[Clip]:
    """
    The clips that are meant, in the order of the sources; files of a folder or pattern in alphabetical order.

    Args:
        sources (`str`, `Path`, `dict`, `Clip`, or several of them): Each is one of

            - a file of any name that soundfile decodes, of up to 6 hours, at 4 to 384 kHz, with any number of channels;
            - a folder: all audio files in it and below it;
            - a pattern (`recordings/**/*.wav`): all audio files that it matches;
            - `dataset=user/name`, `dataset=user/name:configuration` or `dataset=FOLDER` of `save_to_disk`: all parts of
              a data set with a column of type Audio, whatever else it has;
            - `{"array": ..., "sampling_rate": ...}`: samples `(samples,)` or `(samples, channels)`, floats from -1 to 1
              or integers of full scale, at 4,000 to 384,000 Hz; `path`, if it is there, is the clip's name;
            - a [`Clip`].

    Raises:
        FileNotFoundError: if a file is not there, a folder holds no audio or a pattern matches none.
        CorpusError: if a data set cannot be loaded or has no audio.
        ValueError: if an array is not of one of these shapes.
    """
    several = [sources] if isinstance(sources, str | Path | dict | Clip) else sources
    return [clip for place, source in enumerate(several) for clip in clips_of(source, place)]


def clips_of(source: Source, place: int) -> list[Clip]:
    """The clips of one source, which is the `place`-th (from 0); see [`find_clips`]."""
    if isinstance(source, Clip):
        return [source]
    if isinstance(source, dict):
        return [_from_array(source, place)]
    if isinstance(source, str | Path):
        if str(source).startswith(DATASET):
            return _from_dataset(str(source))
        return [Clip(str(path), partial(_read_file, str(path))) for path in _files(source)]
    raise ValueError(
        f"source {place}: expected a path, a pattern, dataset=NAME or a dict with 'array' and 'sampling_rate', found "
        f"{type(source).__name__}"
    )


def _files(source: str | Path) -> list[Path]:
    path = Path(source).expanduser()
    if path.is_dir():
        if files := audio_files(path, str(source)):
            return [path / file for file in files]
        inside = ", ".join(sorted(child.name for child in path.iterdir())[:5]) or "nothing"
        raise FileNotFoundError(
            f"the folder {str(source)!r} holds no audio file, nor does a folder in it; looked for "
            f"{', '.join(sorted(AUDIO_SUFFIXES))}, found {inside}. If it is a data set of save_to_disk, write "
            f"{DATASET}{source}"
        )
    if path.exists():
        return [path]
    if has_magic(str(path)):
        matches = [Path(match) for match in sorted(glob(str(path), recursive=True))]
        if files := [match for match in matches if match.suffix.lower() in AUDIO_SUFFIXES and match.is_file()]:
            return files
        found = f"{len(matches)} others, such as {str(matches[0])!r}" if matches else "nothing"
        raise FileNotFoundError(
            f"the pattern {str(source)!r} matches no audio file ({', '.join(sorted(AUDIO_SUFFIXES))}); it matches {found}. "
            "** stands for folders of any depth"
        )
    raise FileNotFoundError(
        f"there is no file or folder {str(source)!r}. For a data set on the Hub write {DATASET}user/name"
    )


def _read_file(path: str) -> Waveform:
    decoded = decode({"bytes": None, "path": path})
    return resample(decoded.mono, decoded.sampling_rate)


def _from_dataset(source: str) -> list[Clip]:
    name = source.removeprefix(DATASET)
    clips: list[Clip] = []
    for part_name, part in hub_dataset.load_parts(name).items():
        column = next((column for column, feature in part.features.items() if isinstance(feature, Audio)), None)
        if column is None:
            raise CorpusError(
                f"{source}: it needs a column of type Audio; found "
                + ", ".join(f"{column} ({type(feature).__name__})" for column, feature in part.features.items())
            )
        undecoded = part.select_columns([column]).cast_column(column, Audio(decode=False))
        prefix = f"{source}/{part_name}" if part_name else source
        clips += [Clip(f"{prefix}/{row}", partial(_read_row, undecoded, column, row)) for row in range(len(part))]
    if not clips:
        raise CorpusError(f"{source}: the data set has no rows")
    return clips


def _read_row(dataset: Dataset, column: str, row: int) -> Waveform:
    decoded = decode(dataset[row][column])
    return resample(decoded.mono, decoded.sampling_rate)


def _from_array(source: dict[str, Any], place: int) -> Clip:
    if not {"array", "sampling_rate"} <= source.keys():
        raise ValueError(
            f"source {place}: a dict needs 'array' and 'sampling_rate'; found {', '.join(map(repr, source)) or 'nothing'}"
        )
    array, sampling_rate = np.asarray(source["array"]), source["sampling_rate"]
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] > max(array.shape[0], 1) or not array.shape[1]:
        raise ValueError(
            f"source {place}: 'array' must be of shape (samples,) or (samples, channels), found "
            f"{np.shape(source['array'])}; transpose it if its channels come first"
        )
    if array.dtype.kind not in "iuf":
        raise ValueError(f"source {place}: 'array' must hold floats or integers, found {array.dtype}")
    if int(sampling_rate) != sampling_rate or not RATES[0] <= sampling_rate <= RATES[1]:
        raise ValueError(
            f"source {place}: 'sampling_rate' must be a whole number of Hz from {RATES[0]} to {RATES[1]}, found {sampling_rate}"
        )
    return Clip(str(source.get("path") or f"array {place}"), partial(_read_array, array, int(sampling_rate)))


def _read_array(array: npt.NDArray[Any], sampling_rate: int) -> Waveform:
    if array.dtype.kind == "u":  # silence is in the middle, as in 8-bit WAV
        middle = np.iinfo(array.dtype).max // 2 + 1
        array = (array.astype(np.float64) - middle) / middle
    elif array.dtype.kind == "i":
        array = array / (np.iinfo(array.dtype).max + 1.0)
    return resample(array.mean(axis=1, dtype=np.float32), sampling_rate)
