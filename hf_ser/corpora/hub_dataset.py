"""
Data sets on the Hub, or saved on disk by `datasets`, with an audio and a label column. They are read as a whole, or streamed:
their tables at once, their audio row group by row group.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import (
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    DatasetInfo,
    Features,
    List,
    Value,
    concatenate_datasets,
    load_dataset,
    load_dataset_builder,
    load_from_disk,
)
from datasets.packaged_modules.parquet.parquet import Parquet
from huggingface_hub import HfFileSystem
from huggingface_hub.errors import HTTPError  # of whatever HTTP library the client uses

from hf_ser.corpora.manifest import COLUMN_NAMES, TARGET_COLUMNS, find_column
from hf_ser.corpora.rows import CorpusError, Row, counted_votes, gender, is_split, split, to_dataset
from hf_ser.emotions import DIMENSIONS, canonical
from hf_ser.wording import listed

NAME = "dataset"
#: The beginnings of the types of dimensions, and the types of votes: words for each rater, or counts as `angry:3 neutral:2`.
NUMBERS = ("flo", "int", "uin")
VOTES = (List(Value("string")), Value("string"))
#: The column of a table with a clip's length in seconds.
DURATION = "duration"
#: Files whose tables are read at a time.
THREADS = 8
#: What reading a damaged or missing Parquet file raises.
UNREADABLE = (OSError, HTTPError, pa.ArrowException)


def read(source: str) -> list[Dataset]:
    """
    The clips of a data set as rows (see `hf_ser.corpora.rows`), its audio undecoded: one `Dataset`, or, where its parts are
    corpora (CAMEO: `cafe`, `crema_d`, ...), one for each.

    Args:
        source (`str`):
            A folder that `save_to_disk` wrote or that `load_dataset` takes (of Parquet files, for instance), or a name on the
            Hub (`user/name`, or `user/name:configuration`). The emotion is the column `emotion` or `label`, a class label or
            text. Columns with speaker, gender, session, split, arousal, valence, dominance (numbers) and votes are read if they
            exist. Without a column the split is that of the data set's own parts. Parts whose names are not those of a split
            (`train`, `dev`, `test1`, ...) are corpora.

    Raises:
        CorpusError: if the data set cannot be loaded or lacks an audio or a label column, or a text of votes does not count them
            as `angry:3 neutral:2` does.
    """
    parts = load_parts(source)
    found: dict[str, list[Dataset]] = {}
    for name, (corpus, part_name) in corpora_of(source, list(parts)).items():
        found.setdefault(corpus, []).append(rows_of(parts[name], corpus, part_name, source))
    return [concatenate_datasets(rows) for rows in found.values()]


def is_on_disk(source: str) -> bool:
    """Whether `FOLDER` or `user/name:configuration` is a folder of this machine."""
    return Path(source.partition(":")[0]).expanduser().exists()


def is_saved(source: str) -> bool:
    """Whether it is a folder that `save_to_disk` wrote."""
    folder = Path(source).expanduser()
    return folder.is_dir() and any(path for pattern in ("*dict.json", "state.json") for path in folder.glob(pattern))


def corpora_of(source: str, parts: Sequence[str | None]) -> dict[str | None, tuple[str, str | None]]:
    """For each part of a data set the corpus that its clips belong to, and the name of the part within it."""
    if len(parts) > 1 and not any(map(is_split, parts)):
        return {part: (str(part).lower(), None) for part in parts}
    corpus = os.path.basename(os.path.abspath(source.partition(":")[0])).lower()  # the folder may be "."
    return {part: (corpus, part) for part in parts}


def load_parts(source: str) -> dict[str | None, Dataset]:
    """The parts of a data set by their names, `None` where it has one without a name; see [`read`] for `source` and errors."""
    source = str(Path(source).expanduser()) if source.startswith("~") else source
    name, _, configuration = source.partition(":")
    try:
        loaded = load_from_disk(source) if is_saved(source) else load_dataset(name, configuration or None)
    except Exception as error:  # the loader's errors are of many kinds
        advice = (
            "; audio files are read as manifest=metadata.csv, or as mine.yaml=FOLDER with a pattern for their names"
            if Path(name).is_dir()
            else ""
        )
        raise CorpusError(
            f"dataset: {source!r} cannot be loaded, from disk or from the Hub: {error.__cause__ or error}{advice}"
        ) from error
    return dict(loaded) if isinstance(loaded, DatasetDict) else {None: loaded}


def rows_of(part: Dataset, corpus: str, part_name: str | None, source: str) -> Dataset:
    """The clips of one data set, which errors call `source`, as rows, its audio undecoded; see [`labelled_audio_column`]."""
    audio = labelled_audio_column(part.features, source)
    sound = part.select_columns([audio]).rename_columns({audio: "audio"})
    rows = concatenate_datasets([text_rows(part.remove_columns(audio), corpus, part_name), sound], axis=1)
    # Not before: datasets loses the number of rows of a table whose first columns were removed.
    return rows.cast_column("audio", Audio(decode=False))


def audio_column(features: Features) -> str | None:
    """The first column of type Audio, if there is one."""
    return next((name for name, feature in features.items() if isinstance(feature, Audio)), None)


def labelled_audio_column(features: Features, source: str) -> str:
    """
    The column that holds the audio of a data set with labels.

    Raises:
        CorpusError: if there is none, or no column with the emotion.
    """
    audio = audio_column(features)
    others = [name for name in features if name != audio]
    if audio is None or not any(find_column(others, key) for key in TARGET_COLUMNS):
        raise CorpusError(
            f"dataset: {source!r} needs a column of type Audio and one called emotion or label; found "
            + listed((f"{name} ({type(feature).__name__})" for name, feature in features.items()), most=10)
        )
    return audio


def text_rows(part: Dataset, corpus: str, part_name: str | None) -> Dataset:
    """The clips of a part as rows without audio, from its columns other than audio."""

    def values(key: str, fits: Callable[[Any], bool]) -> list[Any]:
        column = find_column(part.column_names, key)
        # A column named act may have any content.
        return part[column][:] if column and fits(part.features[column]) else [None] * len(part)

    def words(key: str) -> list[str | None]:
        found = values(key, lambda kind: True)
        kind = part.features.get(find_column(part.column_names, key) or "")
        if isinstance(kind, ClassLabel):
            return [None if value is None or value < 0 else kind.int2str(value) for value in found]
        return [None if value is None else str(value) for value in found]

    prefix = f"{part_name}/" if part_name else ""
    keys = ("emotion", "speaker", "gender", "session", "split")
    dimensions = (
        values(name, lambda kind: isinstance(kind, Value) and kind.dtype[:3] in NUMBERS) for name in DIMENSIONS
    )
    votes = values("votes", lambda kind: kind in VOTES)
    lines = zip(*map(words, keys), zip(*dimensions, strict=True), votes, strict=True)
    rows = []
    for index, (emotion, speaker, sex, session, word, rated, voted) in enumerate(lines):
        name = f"{prefix}{index:07d}"
        rows.append(
            Row(
                path="",
                name=name,
                emotion=canonical(emotion or ""),
                speaker=speaker,
                gender=gender(sex),
                session=session,
                split=split(word) or split(part_name),
                dimensions={key: value for key, value in zip(DIMENSIONS, rated, strict=True) if value is not None},
                votes=[canonical(word) for word in voted if word]
                if isinstance(voted, list)
                else counted_votes(voted, f"{corpus}/{name}: votes"),
            )
        )
    return to_dataset(rows, corpus).remove_columns("audio")


class RowGroup(NamedTuple):
    """A row group of a Parquet file, the smallest part that can be fetched: file, number, rows and column of audio."""

    file: str
    number: int
    rows: int
    audio: str


class ParquetStream:
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

    def fetch(self, group: int, rows: npt.ArrayLike) -> list[dict[str, Any] | None]:
        """
        Reads the audio of a row group. Returns that of `rows` undecoded, as `bytes` and `path`, or none.

        Raises:
            CorpusError: if it cannot be fetched, after several tries.
        """
        file, number, _, column = self.groups[group]
        try:
            audio = _parquet(file).read_row_group(number, columns=[column])[column].combine_chunks()
        except UNREADABLE as error:
            raise CorpusError(
                f"{file!r} cannot be read: {error}. Continue with resume_from_checkpoint=True in "
                "training, with resume=True in prediction."
            ) from error
        return audio.take(pa.array(np.asarray(rows) - self.first[group])).to_pylist()


def open_audio(source: str) -> dict[str, ParquetStream]:
    """
    The audio of each part of a data set (see [`read`]) with any other columns; empty if it is not found, or is not stored as
    Parquet.
    """
    if is_saved(source):
        return {}
    try:
        features, parts = _parquet_files(source)
        audio = audio_column(features)
        return {part: ParquetStream(_read_files(files, audio)[1], {}) for part, files in parts.items()} if audio else {}
    except (CorpusError, *UNREADABLE):
        return {}


def open_streams(sources: Sequence[str]) -> tuple[Dataset, ParquetStream]:
    """
    Reads the tables of data sets (`dataset=FOLDER`, `dataset=user/name` or `dataset=user/name:configuration`, see [`read`]),
    without their audio.

    Returns:
        Rows as in [`~hf_ser.corpora.rows.to_dataset`] without audio, with the same names as by [`read`], and `duration` in
        seconds, none without such a column; and the stream of their audio.

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
        try:
            rows, found = _open_stream(name)
        except UNREADABLE as error:
            raise CorpusError(f"dataset: {name!r} cannot be read: {error}") from error
        names = rows.unique("corpus")
        if twice := [corpus for corpus in names if corpus in corpora]:
            raise CorpusError(f"corpora: {twice[0]} is there twice; stream one of them")
        corpora |= dict.fromkeys(names, source)
        tables.append(rows)
        groups += found
    return concatenate_datasets(tables), ParquetStream(groups, corpora)


def _open_stream(source: str) -> tuple[Dataset, list[RowGroup]]:
    features, parts = _parquet_files(source)
    audio = labelled_audio_column(features, source)
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
    if is_on_disk(source):
        name = str(Path(name).expanduser().resolve())
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
    features = builder.info.features or Features.from_arrow_schema(_parquet(first).schema_arrow)
    return features, {str(part): files for part, files in parts.items()}


def _read_files(files: Sequence[str], audio: str, columns: Sequence[str] = ()) -> tuple[pa.Table, list[RowGroup]]:
    """Some columns of files, and the row groups of their column `audio`."""

    def read(file: str) -> tuple[pa.Table, list[RowGroup]]:
        opened = _parquet(file)
        sizes = [opened.metadata.row_group(number).num_rows for number in range(opened.num_row_groups)]
        return opened.read(list(columns)), [RowGroup(file, number, rows, audio) for number, rows in enumerate(sizes)]

    with ThreadPoolExecutor(THREADS) as pool:
        tables, groups = zip(*pool.map(read, files), strict=True)
    return pa.concat_tables(tables), [group for of_file in groups for group in of_file]


def _parquet(file: str) -> pq.ParquetFile:
    """An open file. One on disk may be written again meanwhile: it is opened each time."""
    return _parquet_on_hub(file, os.getpid()) if file.startswith("hf://") else pq.ParquetFile(file)


@lru_cache(maxsize=16)  # each file holds a connection
def _parquet_on_hub(file: str, process: int) -> pq.ParquetFile:
    """An open file, of one process: a forked one cannot use its parent's connection."""
    # Without fsspec's cache, which fetches megabytes of audio around every column of a table. Arrow joins adjacent columns.
    return pq.ParquetFile(HfFileSystem().open(file, "rb", cache_type="none"), pre_buffer=True)
