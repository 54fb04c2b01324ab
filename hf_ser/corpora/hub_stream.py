"""Parquet data sets, on the Hub or on disk, that are read on demand: their tables at once, their audio row group by row group."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Audio, Dataset, DatasetInfo, Features, concatenate_datasets, load_dataset_builder
from datasets.packaged_modules.parquet.parquet import Parquet
from huggingface_hub import HfFileSystem
from huggingface_hub.errors import HTTPError  # of whatever HTTP library the client uses

from hf_ser.corpora.hub_dataset import NAME, audio_column, corpora_of, text_rows
from hf_ser.corpora.manifest import COLUMN_NAMES, find_column
from hf_ser.corpora.rows import CorpusError

#: The column of a table with a clip's length in seconds.
DURATION = "duration"
#: Files whose tables are read at a time.
THREADS = 8


class RowGroup(NamedTuple):
    """A row group of a Parquet file, the least that can be fetched: file, number, rows and column of audio."""

    file: str
    number: int
    rows: int
    audio: str


class HubStream:
    """
    The audio of data sets, by row. Nothing of it is stored on the disk.

    Args:
        groups (`Sequence[RowGroup]`): The row groups, in the order of the rows.
        sources (`dict[str, str]`): For each corpus the `dataset=NAME` that it comes from.
    """

    def __init__(self, groups: Sequence[RowGroup], sources: Mapping[str, str]) -> None:
        self.groups = list(groups)
        self.sources = dict(sources)
        self.first = np.cumsum([0, *(group.rows for group in groups)])

    def __len__(self) -> int:
        return int(self.first[-1])

    def group_of(self, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The row group of each row."""
        return np.searchsorted(self.first, np.asarray(rows), side="right") - 1

    def fetch(self, group: int, rows: npt.ArrayLike) -> list[dict[str, Any]]:
        """
        Reads the audio of a row group, and gives that of `rows` undecoded, as `bytes` and `path`.

        Raises:
            CorpusError: if it cannot be fetched, after several tries.
        """
        file, number, _, column = self.groups[group]
        try:
            audio = _parquet(file, os.getpid()).read_row_group(number, columns=[column])[column].combine_chunks()
        except (OSError, HTTPError, pa.ArrowException) as error:
            raise CorpusError(
                f"{file!r} cannot be read: {error}. Continue with resume_from_checkpoint=True in "
                "training, with resume=True in prediction."
            ) from error
        wanted: list[dict[str, Any] | None] = audio.take(pa.array(np.asarray(rows) - self.first[group])).to_pylist()
        return [clip or {"bytes": None, "path": None} for clip in wanted]


def open_audio(source: str) -> dict[str, HubStream]:
    """
    The audio of each part of a data set, whatever its other columns are; none where it is not found, or is not stored as Parquet.

    Args:
        source (`str`): A folder, or a name on the Hub (`user/name`, or `user/name:configuration`).
    """
    try:
        features, parts = _parquet_files(source)
        audio = next(name for name, feature in features.items() if isinstance(feature, Audio))
        return {part: HubStream(_read_files(files, audio)[1], {}) for part, files in parts.items()}
    except (CorpusError, StopIteration, OSError, HTTPError):
        return {}


def open_streams(sources: Sequence[str]) -> tuple[Dataset, HubStream]:
    """
    Reads the tables of data sets, without their audio.

    Args:
        sources (`Sequence[str]`): `dataset=FOLDER`, `dataset=user/name` or `dataset=user/name:configuration`, see
            `hf_ser.corpora.hub_dataset`.

    Returns:
        Rows as of [`~hf_ser.corpora.rows.to_dataset`] without audio, named as without streaming, and `duration` in seconds,
        none where there is no such column; and the stream of their audio.

    Raises:
        CorpusError: if a data set is not found, is not stored as Parquet, or lacks an audio or a label column.
    """
    tables: list[Dataset] = []
    groups: list[RowGroup] = []
    corpora: dict[str, str] = {}
    for source in sources:
        kind, _, name = source.partition("=")
        if kind != NAME or not name:
            raise CorpusError(f"streaming: {source!r} is no data set; expected {NAME}=user/name or {NAME}=FOLDER")
        rows, found = _open_stream(name)
        names = rows.unique("corpus")
        if twice := [corpus for corpus in names if corpus in corpora]:
            raise CorpusError(f"corpora: {twice[0]} is there twice; stream one of them")
        corpora |= dict.fromkeys(names, source)
        tables.append(rows)
        groups += found
    return concatenate_datasets(tables), HubStream(groups, corpora)


def _open_stream(source: str) -> tuple[Dataset, list[RowGroup]]:
    features, parts = _parquet_files(source)
    audio = audio_column(features, source)
    texts = [column for column in features if column != audio]
    columns = {column for key in COLUMN_NAMES if (column := find_column(texts, key))} | {DURATION} & {*texts}
    kept = Features({column: features[column] for column in texts if column in columns})
    tables, groups = [], []
    named = corpora_of(source, list(parts))
    for part, files in parts.items():
        table, found = _read_files(files, audio, list(kept))
        groups += found
        table = table.cast(kept.arrow_schema)
        rows = text_rows(Dataset(table, info=DatasetInfo(features=kept)), *named[part])
        seconds = table[DURATION] if DURATION in kept else pa.nulls(len(table))
        tables.append(concatenate_datasets([rows, Dataset(pa.table({DURATION: seconds.cast(pa.float32())}))], axis=1))
    rows = concatenate_datasets(tables)
    if not len(rows):
        raise CorpusError(f"dataset: {source!r} has no clips")
    return rows, groups


def _parquet_files(source: str) -> tuple[Features, dict[str, list[str]]]:
    """The columns of a data set, and the files of each of its parts."""
    name, _, configuration = source.partition(":")
    name = str(Path(name).expanduser()) if name.startswith("~") else name
    try:
        builder = load_dataset_builder(name, configuration or None)
    except Exception as error:  # the loader's errors are of many kinds
        raise CorpusError(f"dataset: {source!r} cannot be found, on disk or on the Hub: {error}") from error
    parts = builder.config.data_files
    if not isinstance(builder, Parquet) or not parts:
        stored = type(builder).__module__.rpartition(".")[2]
        raise CorpusError(
            f"streaming: {source!r} is stored as {stored}, whose labels cannot be read without its audio. Give a data set that "
            "is stored as Parquet (push_to_hub creates one), or leave streaming out."
        )
    first = next(files[0] for files in parts.values())
    return builder.info.features or Features.from_arrow_schema(_parquet(first, os.getpid()).schema_arrow), dict(parts)


def _read_files(files: Sequence[str], audio: str, columns: Sequence[str] = ()) -> tuple[pa.Table, list[RowGroup]]:
    """Some columns of files, and the row groups of their column `audio`."""

    def read(file: str) -> tuple[pa.Table, list[RowGroup]]:
        opened = _parquet(file, os.getpid())
        sizes = [opened.metadata.row_group(number).num_rows for number in range(opened.num_row_groups)]
        return opened.read(list(columns)), [RowGroup(file, number, rows, audio) for number, rows in enumerate(sizes)]

    with ThreadPoolExecutor(THREADS) as pool:
        tables, groups = zip(*pool.map(read, files), strict=True)
    return pa.concat_tables(tables), [group for of_file in groups for group in of_file]


@lru_cache(maxsize=16)  # each file holds a connection
def _parquet(file: str, process: int) -> pq.ParquetFile:
    """An open file, of one process: a forked one cannot use its parent's connection."""
    if not file.startswith("hf://"):
        return pq.ParquetFile(file)
    # Without fsspec's cache, which fetches megabytes of audio around every column of a table. Arrow joins what is adjacent.
    return pq.ParquetFile(HfFileSystem().open(file, "rb", cache_type="none"), pre_buffer=True)
