"""Data sets on the Hub that are read as they are needed: their tables at once, their audio row group by row group."""

import os
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetInfo, Features, concatenate_datasets, load_dataset_builder
from datasets.packaged_modules.parquet.parquet import Parquet
from huggingface_hub import HfFileSystem
from huggingface_hub.errors import HTTPError  # of whatever HTTP library the client uses

from hf_ser.corpora.hub_dataset import NAME, audio_column, text_rows
from hf_ser.corpora.manifest import COLUMN_NAMES, find_column
from hf_ser.corpora.rows import CorpusError

#: What is read of a data set's tables beside what `COLUMN_NAMES` knows: a clip's length in seconds, where it is told.
DURATION = "duration"
#: Files whose tables are read at a time.
THREADS = 8
#: Files that are kept open: of each there is a connection, and the places of all that it holds.
OPEN_FILES = 16


class RowGroup(NamedTuple):
    """A piece of a Parquet file, the least that can be fetched: its file, its number there, its rows and its column of audio."""

    file: str
    number: int
    rows: int
    audio: str


class HubStream:
    """
    The audio of data sets on the Hub, by row, of which nothing is kept on the disk.

    Args:
        groups (`Sequence[RowGroup]`): The row groups, in the order of the rows.
    """

    def __init__(self, groups: Sequence[RowGroup]) -> None:
        self.groups = list(groups)
        self.first = np.cumsum([0, *(group.rows for group in groups)])
        self._files: OrderedDict[str, pq.ParquetFile] = OrderedDict()
        self._process = os.getpid()

    def __len__(self) -> int:
        return int(self.first[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_files": OrderedDict()}

    def group_of(self, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The row group that each row lies in."""
        return np.searchsorted(self.first, np.asarray(rows), side="right") - 1

    def fetch(self, group: int, rows: Sequence[int]) -> list[dict[str, Any]]:
        """
        Downloads a row group's audio, undecoded.

        Args:
            group (`int`): Its number.
            rows (`Sequence[int]`): Those of its rows that are wanted.

        Returns:
            For each of them `bytes` and `path`, as an undecoded `Audio` column has them.

        Raises:
            CorpusError: if it cannot be fetched, after several tries.
        """
        wanted = self.groups[group]
        try:
            table = self._open(wanted.file).read_row_group(wanted.number, columns=[wanted.audio])
        except (OSError, HTTPError, pa.ArrowException) as error:
            raise CorpusError(
                f"--streaming: {wanted.file!r} cannot be read from the Hub: {error}. Go on with --resume_from_checkpoint True."
            ) from error
        audio = table[wanted.audio].combine_chunks().take(pa.array(np.asarray(rows) - self.first[group]))
        inside: list[dict[str, Any]] = audio.to_pylist()
        return [clip or {"bytes": None, "path": None} for clip in inside]

    def _open(self, file: str) -> pq.ParquetFile:
        if self._process != os.getpid():  # a connection is of no use to a forked process
            self._files, self._process = OrderedDict(), os.getpid()
        if file not in self._files:
            self._files[file] = _parquet(file)
            if len(self._files) > OPEN_FILES:
                _, longest_unused = self._files.popitem(last=False)
                longest_unused.close(force=True)
        self._files.move_to_end(file)
        return self._files[file]


def open_streams(sources: Sequence[str]) -> tuple[Dataset, HubStream]:
    """
    Reads the tables of data sets on the Hub, all but their audio, of which nothing is downloaded.

    Args:
        sources (`Sequence[str]`): `dataset=user/name` or `dataset=user/name:configuration`, see `hf_ser.corpora.hub_dataset`.

    Returns:
        Rows with the columns of `hf_ser.corpora.rows.TEXT_COLUMNS`, named as if they were downloaded, and `duration`
        in seconds, none where no column says it; and the stream of their audio.

    Raises:
        CorpusError: if a data set is not on the Hub, is not stored as Parquet, or lacks an audio or a label column.
    """
    tables: list[Dataset] = []
    groups: list[RowGroup] = []
    for source in sources:
        kind, _, name = source.partition("=")
        if kind != NAME or not name or Path(name.partition(":")[0]).expanduser().exists():
            raise CorpusError(
                f"--streaming: {source!r} is no data set on the Hub; write {NAME}=user/name, or leave --streaming out"
            )
        rows, found = _open_stream(name)
        tables.append(rows)
        groups += found
    corpora = [rows[0]["corpus"] for rows in tables]
    if twice := sorted({corpus for corpus in corpora if corpora.count(corpus) > 1}):
        raise CorpusError(f"--corpora: {twice[0]} is there twice; stream one of them")
    return concatenate_datasets(tables), HubStream(groups)


def _open_stream(source: str) -> tuple[Dataset, list[RowGroup]]:
    name, _, configuration = source.partition(":")
    try:
        builder = load_dataset_builder(name, configuration or None)
    except Exception as error:  # the loader's errors are of many kinds; each ends the reading of this corpus
        raise CorpusError(f"dataset: {source!r} cannot be found on the Hub: {error}") from error
    parts = builder.config.data_files
    if not isinstance(builder, Parquet) or not parts:
        stored = type(builder).__module__.rpartition(".")[2]
        raise CorpusError(
            f"--streaming: {source!r} is stored as {stored}, which must be read with its audio to get at its "
            "labels. Give a data set that is stored as Parquet (push_to_hub makes one), or leave --streaming out."
        )
    tables, groups = [], []
    for part, files in parts.items():
        features = builder.info.features or Features.from_arrow_schema(_parquet(files[0]).schema_arrow)
        audio = audio_column(features, source)
        told = [column for key in COLUMN_NAMES if (column := find_column([c for c in features if c != audio], key))]
        columns = [*dict.fromkeys(told), *([DURATION] if DURATION in features else [])]
        with ThreadPoolExecutor(THREADS) as pool:
            read = list(pool.map(lambda file, columns=columns: _read_table(file, columns), files))
        groups += [
            RowGroup(file, number, rows, audio)
            for file, (_, sizes) in zip(files, read, strict=True)
            for number, rows in enumerate(sizes)
        ]
        kept = Features({column: features[column] for column in columns})
        table = pa.concat_tables([table for table, _ in read]).cast(kept.arrow_schema)
        texts = text_rows(Dataset(table, info=DatasetInfo(features=kept)), Path(name).name.lower(), str(part))
        seconds = table[DURATION] if DURATION in columns else pa.nulls(len(table))
        tables.append(concatenate_datasets([texts, Dataset(pa.table({DURATION: seconds.cast(pa.float32())}))], axis=1))
    rows = concatenate_datasets(tables)
    if not len(rows):
        raise CorpusError(f"dataset: {source!r} has no clips; give one that has some")
    return rows, groups


def _parquet(file: str) -> pq.ParquetFile:
    # Without a cache of its own: it would fetch megabytes of audio around every column of a table. Arrow joins what is adjacent.
    return pq.ParquetFile(HfFileSystem().open(file, "rb", cache_type="none"), pre_buffer=True)


def _read_table(file: str, columns: Sequence[str]) -> tuple[pa.Table, list[int]]:
    opened = _parquet(file)
    sizes = [opened.metadata.row_group(number).num_rows for number in range(opened.num_row_groups)]
    return opened.read(columns=list(columns)), sizes
