"""Predictions, timelines and segments as files for tables, programs, Audacity and Praat. Times are in seconds."""

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from praatio import textgrid

from hf_ser.inference.clips import DATASET, Prediction, printable
from hf_ser.inference.timelines import EmotionSegment, Timeline

#: Suffixes of tables, and of labels on a recording.
TABLES = (".csv", ".jsonl", ".json")
LABELS = (".txt", ".TextGrid")

Row = dict[str, Any]


def save(
    result: Timeline | Sequence[EmotionSegment] | Sequence[Prediction], path: str | Path, *, overwrite: bool = False
) -> None:
    """
    Writes a file of the kind that its suffix names, whole or not at all.

    | | `.csv`, `.jsonl`, `.json` | `.txt` (Audacity), `.TextGrid` (Praat) |
    |---|---|---|
    | predictions | a row for each clip: name, duration, emotion, the probabilities, the dimensions, problem | no |
    | a timeline | a row for each window: start, stop, the smoothed probabilities and dimensions | a label for each segment |
    | its `segments` | a row for each segment: start, stop, emotion, probability | a label for each segment |

    Probabilities of silence are empty (CSV) or null.

    Args:
        result: What [`SERPipeline.timeline`] or [`SERPipeline.predict`] returned, or the `segments` of a timeline.
        path (`str` or `Path`): The file.
        overwrite (`bool`, defaults to `False`): Whether to replace an existing file.

    Raises:
        ValueError: if there are no predictions or segments; and see [`check_path`].
    """
    path = Path(path)
    rows, segments = _rows_of(result), result.segments if isinstance(result, Timeline) else result
    if not rows:
        raise ValueError(f"{str(path)!r}: expected predictions or segments, found none")
    check_path(path, TABLES if isinstance(segments[0], Prediction) else (*TABLES, *LABELS), overwrite)
    with _written_whole(path) as file:
        if path.suffix in LABELS:
            _save_labels(segments, file)
        elif path.suffix == ".json":
            file.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8", "backslashreplace")
        else:
            _append_rows(file, rows)


@contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """A hidden file to write, which replaces `path` at the end."""
    unfinished = path.with_stem(f".{path.stem}-unfinished")
    unfinished.unlink(missing_ok=True)
    yield unfinished
    unfinished.replace(path)


def _rows_of(result: Timeline | Sequence[Any]) -> list[Row]:
    if isinstance(result, Timeline):
        names = ("start", "stop", *result.emotions, *result.dimensions)
        windows = np.column_stack([result.start, result.stop, result.smoothed, result.smoothed_values])
        return [dict(zip(names, map(_number, window), strict=True)) for window in windows]
    if result and isinstance(result[0], Prediction):
        outputs = next(((*each.probabilities, *each.dimensions) for each in result if each.problem is None), ())
        return [prediction_row(prediction, outputs) for prediction in result]
    return [
        {name: value if isinstance(value, str) else _number(value) for name, value in vars(segment).items()}
        for segment in result
    ]


def check_path(path: Path, suffixes: Sequence[str], overwrite: bool) -> None:
    """
    Checks that a result can be written to `path`, before any work is done.

    Raises:
        FileExistsError: if the file exists and `overwrite` is not set.
        FileNotFoundError: if its folder does not exist.
        PermissionError: if it cannot be written.
        ValueError: if its suffix is none of `suffixes`.
    """
    if path.suffix not in suffixes:
        raise ValueError(f"{str(path)!r}: its suffix must be one of {', '.join(suffixes)}, found {path.suffix!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{str(path)!r}: there is no folder {str(path.parent)!r}; make it first")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{str(path)!r} exists; choose another name, or overwrite it")
    if not overwrite and (parts := parts_of(path)):
        raise FileExistsError(f"{str(parts[0])!r} exists, of a table that is not finished; resume or overwrite it")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PermissionError(f"{str(path)!r} cannot be written")


def prediction_row(prediction: Prediction, outputs: Sequence[str], model: str | None = None) -> Row:
    """A prediction as a row of a table. Bytes of a file's name that are not UTF-8 are written as `\\udcff`."""
    found = {**prediction.probabilities, **prediction.dimensions}
    return {
        "name": printable(prediction.name),
        "duration": round(prediction.duration, 4),
        "emotion": prediction.emotion,
        **{name: _number(found.get(name, math.nan)) for name in outputs},
        "problem": prediction.problem,
        **({"model": model} if model else {}),
    }


class PredictionFile:
    """
    A table of predictions, `.csv` or `.jsonl`, to which each row is written immediately. A file that is replaced stays until the
    first prediction.

    Args:
        path (`Path`): The file.
        outputs (`Sequence[str]`): The model's emotions and dimensions.
        model (`str`): The model's name: a table can only be continued with the same model.
        resume (`bool`, defaults to `False`): Whether to continue an existing file. `name in file` is whether it has a clip, by
            any path to it.

    Raises:
        ValueError: if the file to continue does not have predictions of this model.
    """

    def __init__(self, path: Path, outputs: Sequence[str], model: str, *, resume: bool = False) -> None:
        self.path, self.outputs, self.model = path, tuple(outputs), model
        self.begun = resume and path.exists()
        self.written = frozenset(_absolute_name(row["name"]) for row in self.rows())

    def __contains__(self, name: str) -> bool:
        return _absolute_name(name) in self.written

    def write(self, prediction: Prediction) -> None:
        """Adds a prediction."""
        if not self.begun:
            self.path.write_text("", encoding="utf-8")
            self.begun = True
        _append_rows(self.path, [prediction_row(prediction, self.outputs, self.model)])

    def rows(self) -> list[Row]:
        """The rows of a file that is continued. Removes an unfinished last row."""
        if not self.begun:
            return []
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        while self.path.suffix == ".csv" and content.count(b'"', 0, end) % 2:  # the line break is within a quoted name
            end = content.rfind(b"\n", 0, end - 1) + 1
        expected = list(prediction_row(Prediction("", 0.0, {}), self.outputs, self.model))
        try:
            lines = io.StringIO(content[:end].decode("utf-8"), newline="")
            if self.path.suffix == ".csv":
                table = csv.DictReader(lines)
                rows: list[Row] = list(table)
                columns = [list(table.fieldnames or expected), *map(list, rows)]
            else:
                rows = [json.loads(line) for line in lines]
                columns = list(map(list, rows))
            if others := [found for found in columns if found != expected]:
                raise ValueError(f"expected the columns {', '.join(expected)}, found {', '.join(others[0])}")
            if models := {row["model"] for row in rows} - {self.model}:
                raise ValueError(f"it is of the model {models.pop()}, this is {self.model}")
        except (ValueError, TypeError) as error:
            raise ValueError(f"{str(self.path)!r} cannot be continued: {error}") from error
        os.truncate(self.path, end)
        return rows


def parts_of(path: Path) -> list[Path]:
    """The existing parts of a table, see [`~hf_ser.inference.processes.SharedTable`]."""
    return sorted(path.parent.glob(f"{escape(path.stem)}.part-*-of-*{path.suffix}"))


def merge_parts(path: Path, names: Sequence[str], outputs: Sequence[str], model: str) -> None:
    """Moves the rows of a table's parts into it, in the order of the clips' `names`."""
    if not (parts := [PredictionFile(part, outputs, model, resume=True) for part in parts_of(path)]):
        return
    table = PredictionFile(path, outputs, model, resume=True)
    # A row is in both if a merge ended before it removed the parts.
    rows = table.rows() + [row for part in parts for row in part.rows() if row["name"] not in table]
    if not rows:
        return
    order = {_absolute_name(name): number for number, name in enumerate(names)}
    rows.sort(key=lambda row: order.get(_absolute_name(row["name"]), -1))
    with _written_whole(path) as merged:
        _append_rows(merged, rows)
    for part in parts:
        part.path.unlink()


def _append_rows(path: Path, rows: Sequence[Row]) -> None:
    with path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file:
        if path.suffix == ".csv":
            table = csv.DictWriter(file, list(rows[0]))
            if not file.tell():
                table.writeheader()
            table.writerows(rows)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _absolute_name(name: str) -> str:
    """A clip's name with an absolute path, so that all paths to a file are equal."""
    kind = DATASET if name.startswith(DATASET) else ""
    return kind + os.path.abspath(printable(name).removeprefix(kind))


def _save_labels(segments: Sequence[Any], path: Path) -> None:
    entries = [(segment.start, segment.stop, segment.emotion) for segment in segments]
    if path.suffix == ".txt":
        lines = (f"{start:.6f}\t{stop:.6f}\t{emotion}\n" for start, stop, emotion in entries)
        path.write_text("".join(lines), encoding="utf-8")
        return
    grid = textgrid.Textgrid()
    grid.addTier(textgrid.IntervalTier("emotion", entries, entries[0][0], entries[-1][1]))
    grid.save(str(path), format="long_textgrid", includeBlankSpaces=True)


def _number(value: float) -> float | None:
    """Rounded to a microsecond, or a millionth of a probability; JSON has no NaN."""
    return None if math.isnan(value) else round(float(value), 6)
