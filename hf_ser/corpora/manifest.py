"""Any audio with a table of it: CSV, TSV, JSON lines or Parquet."""

import csv
import os
import warnings
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import pandas as pd

from hf_ser.corpora.rows import CorpusError, Row, counted_votes, gender, split, stem, to_number
from hf_ser.emotions import DIMENSIONS, canonical
from hf_ser.wording import listed

NAME = "manifest"

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": lambda path: _read_separated(path, ","),
    ".tsv": lambda path: _read_separated(path, "\t"),
    ".jsonl": lambda path: _read_json_lines(path),
    ".json": lambda path: _read_json_lines(path),
    ".parquet": pd.read_parquet,
}
#: The advice for a table whose lines have one field.
ONE_FIELD = (
    "Each line is one field: a .csv has a comma between its fields, a .tsv a tab, and no quotes around a whole line."
)
JSON_LINES = 'JSON lines are needed, one object on each line: {"path": "1.wav", "emotion": "sad"}'
#: The names that a column may have, in order of preference.
COLUMN_NAMES = {
    "path": ("path", "file", "audio", "file_name", "filename"),
    "emotion": ("emotion", "label"),
    "speaker": ("speaker", "speaker_id", "actor", "actor_id"),
    "gender": ("gender", "sex"),
    "session": ("session", "session_id"),
    "split": ("split", "subset", "partition"),
    "corpus": ("corpus",),
    "arousal": ("arousal", "activation", "act", "emoact"),
    "valence": ("valence", "val", "emoval"),
    "dominance": ("dominance", "dom", "emodom"),
    "votes": ("votes",),
}
#: The columns with labels, of which a table needs one.
TARGET_COLUMNS = ("emotion", *DIMENSIONS, "votes")


def read(root: Path) -> dict[str, list[Row]]:
    """
    The clips that a manifest lists, by corpus. Paths are relative to the manifest's folder, or absolute.

    A manifest has the columns path and emotion, and optionally speaker, gender, session, split, corpus (by default the name of
    the manifest's file), arousal, valence, dominance and votes (`angry:3 neutral:2`). Each may have one of the names in
    `COLUMN_NAMES`. A manifest with a dimension or votes may lack the emotion. A row without a path becomes a clip that cannot be
    read, named `row-` and its number, from 1.

    Raises:
        CorpusError: if the file is missing, of another kind, without such columns, or without lines, a dimension is no number, or
            votes have another form.
    """
    if not root.is_file():
        raise CorpusError(f"manifest: there is no file {str(root)!r}")
    if root.suffix.lower() not in READERS:
        raise CorpusError(f"manifest: {str(root)!r} is none of {', '.join(sorted(READERS))}")
    try:
        table = READERS[root.suffix.lower()](root)
    except (ValueError, OSError, csv.Error) as error:
        raise CorpusError(f"manifest: {str(root)!r} cannot be read as {root.suffix}: {error}") from error
    column = {key: name for key in COLUMN_NAMES if (name := find_column(list(table.columns), key))}
    if missing := [
        key for key, any_of in (("emotion", TARGET_COLUMNS), ("path", ("path",))) if not {*any_of} & {*column}
    ]:
        looked_for = "; ".join(" or ".join(COLUMN_NAMES[key]) for key in missing)
        one_field = len(table.columns) == 1 and any(sign in str(table.columns[0]) for sign in ",;\t|")
        raise CorpusError(
            f"manifest: {str(root)!r} has no column for {' and '.join(missing)}. Looked for {looked_for}; found "
            f"{listed(table.columns, most=10)}.{f' {ONE_FIELD}' if one_field else ''}"
        )
    if table.empty:
        raise CorpusError(f"manifest: {str(root)!r} lists no clip")

    texts = [map(_text, table[column[key]].tolist()) if key in column else repeat(None) for key in COLUMN_NAMES]
    folder = str(root.parent)
    rows: dict[str, list[Row]] = {}
    for row, line in enumerate(zip(*texts, strict=False), 1):
        value = dict(zip(COLUMN_NAMES, line, strict=True))
        where = f"manifest: {str(root)!r}, row {row}"
        numbers = {name: to_number(value[name], f"{where}: {name}") for name in DIMENSIONS}
        path = value["path"] or ""
        rows.setdefault(value["corpus"] or root.stem, []).append(
            Row(
                path=path and os.path.join(folder, path),
                name=_clip_name(path, row),
                emotion=canonical(value["emotion"] or ""),
                speaker=value["speaker"],
                gender=gender(value["gender"]),
                session=value["session"],
                split=split(value["split"]),
                dimensions={name: found for name, found in numbers.items() if found is not None},
                votes=counted_votes(value["votes"], f"{where}: votes"),
            )
        )
    return rows


def find_column(columns: list[str], key: str) -> str | None:
    """The column that holds `key` (one of `COLUMN_NAMES`), in any case and with any spaces around it, or `None`."""
    by_lower_name = {str(name).strip().lower(): name for name in columns}
    return next((by_lower_name[name] for name in COLUMN_NAMES[key] if name in by_lower_name), None)


def _read_separated(path: Path, separator: str) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # Without index_col=False the first fields of lines that are longer than the header become an index, and the other
            # fields move to the wrong columns.
            table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, index_col=False)
    except (pd.errors.ParserWarning, pd.errors.ParserError) as error:
        raise ValueError(_longer_line(path, separator) or str(error).strip()) from error
    first, others = table.iloc[:, 0], table.iloc[:, 1:]
    if len(table) and first.str.contains(separator, regex=False).all() and others.eq("").all(axis=None):
        raise ValueError(ONE_FIELD)
    return table


def _longer_line(path: Path, separator: str) -> str | None:
    """The error of the first line with more fields than the header, if there is one."""
    called = {",": "comma", "\t": "tab"}[separator]
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=separator)
        columns = len(next((fields for fields in lines if fields), []))
        for fields in lines:
            if len(fields) > columns:
                quote, end = f"quote what has a {called} in it", f"is there a {called} at the end of the lines?"
                why = quote if any(fields[columns:]) else end
                return f"line {lines.line_num} has {len(fields)} fields, and the header {columns}; {why}"
    return None


def _read_json_lines(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_json(path, lines=True, dtype=False, convert_dates=False)
    except ValueError as error:
        raise ValueError(f"{error}; {JSON_LINES}") from error
    if not all(isinstance(name, str) for name in table.columns):  # the places in an array
        raise ValueError(JSON_LINES)
    return table


def _clip_name(path: str, row: int) -> str:
    if not Path(path).name:  # empty, or a folder such as "." or "/"
        return f"row-{row}"
    return stem(Path(path)).lstrip("/").replace("\0", "\\0")


def _text(value: Any) -> str | None:
    if value is None or value != value or str(value).strip() == "":  # NaN is not equal to itself
        return None
    if isinstance(value, float) and value.is_integer():  # a numeric column with a gap
        value = int(value)
    return str(value).strip()
