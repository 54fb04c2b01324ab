"""Predictions, timelines and segments as files for tables, programs, Audacity and Praat. Times are in seconds."""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

from praatio import textgrid

from hf_ser.inference.predictions import Prediction
from hf_ser.inference.sources import DATASET, printable
from hf_ser.inference.timelines import EmotionSegment, Timeline

#: What the suffixes mean.
TABLES = (".csv", ".jsonl", ".json")
LABELS = (".txt", ".TextGrid")


def save(
    result: Timeline | Iterable[EmotionSegment] | Iterable[Prediction],
    path: str | Path,
    *,
    overwrite: bool = False,
    minimum: float = 0.0,
) -> None:
    """
    Writes a file of the kind that its suffix says.

    | | `.csv`, `.jsonl` | `.json` | `.txt` (Audacity), `.TextGrid` (Praat) |
    |---|---|---|---|
    | predictions | a line for each clip | a list of them | no |
    | segments | a line for each segment | a list of them | a label for each segment |
    | a timeline | a line for each window | windows and segments | a label for each segment |

    Probabilities of a timeline are the smoothed ones. Where there is silence, they are left empty (CSV) or null.

    Args:
        result: What [`predict`], [`timeline`] or [`Timeline.segments`] returned.
        path (`str` or `Path`): The file.
        overwrite (`bool`, defaults to `False`): Whether to replace a file that is there.
        minimum (`float`, defaults to 0): No segment of a timeline is shorter, in seconds; see [`Timeline.segments`].

    Raises:
        FileExistsError: if the file is there and `overwrite` is not set.
        ValueError: if the suffix is not for this kind of result, or there are no predictions or segments.
    """
    path = Path(path)
    if isinstance(result, Timeline):
        check_path(path, (*TABLES, *LABELS), overwrite)
        _save_timeline(result, path, minimum)
        return
    results = iter(result)
    if (first := next(results, None)) is None:
        raise ValueError(f"{str(path)!r}: there is nothing to write, neither a prediction nor a segment")
    if isinstance(first, EmotionSegment):
        check_path(path, (*TABLES, *LABELS), overwrite)
        _save_segments([first, *results], path)  # type: ignore[list-item]
    else:
        check_path(path, TABLES, overwrite)
        predictions: list[Prediction] = [first, *results]  # type: ignore[list-item]
        emotions = next((tuple(each.probabilities) for each in predictions if each.problem is None), ())
        with PredictionFile(path, emotions, overwrite=overwrite) as file:
            for prediction in predictions:
                file.write(prediction)


def check_path(path: Path, suffixes: Sequence[str], overwrite: bool) -> None:
    """
    Tells before any work is done whether a result can be written to `path`.

    Raises:
        FileExistsError: if the file is there and `overwrite` is not set.
        FileNotFoundError: if its folder is not there.
        ValueError: if its suffix is none of `suffixes`.
    """
    if path.suffix not in suffixes:
        raise ValueError(f"{str(path)!r}: its suffix must be one of {', '.join(suffixes)}, found {path.suffix!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{str(path)!r}: there is no folder {str(path.parent)!r}; make it first")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{str(path)!r} is there already; choose another name, or overwrite it")


class PredictionFile:
    """
    A file of predictions that is written as they come: `.csv` or `.jsonl`, whose lines are whole at any time, or `.json`,
    which is there when all of them are. To be used in a `with` statement.

    What is to be replaced stays until there is something to replace it with: a `.json` until its `with` ends without an error,
    a table until the first prediction.

    A line has the clip's `name`, its `duration` in seconds, its most likely `emotion`, the emotions' probabilities (in
    CSV a column for each, else `probabilities`), the `problem`, if there is one, and the `model`, where it is given. Bytes
    of a file's name that are no UTF-8 are written as `\\udcff`.

    Args:
        path (`Path`): The file.
        emotions (`Sequence[str]`): The model's emotions.
        model (`str`, *optional*): The model's name, by which a file is known that another model began.
        overwrite (`bool`, defaults to `False`): Whether to replace a file that is there.
        resume (`bool`, defaults to `False`): Whether to go on with a file that is there; `name in file` tells whether a clip is
            in it, by whichever path to it.

    Raises:
        FileExistsError: if the file is there and neither `overwrite` nor `resume` is set.
        ValueError: if the suffix is none of these, or the file to go on with is not of predictions of this model.
    """

    def __init__(
        self,
        path: Path,
        emotions: Sequence[str],
        *,
        model: str | None = None,
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        check_path(path, TABLES[:2] if resume else TABLES, overwrite or resume)
        self.path = path
        self.emotions = tuple(emotions)
        self.model = model
        self.columns = ["name", "duration", "emotion", *emotions, "problem", *(["model"] if model else [])]
        self.predictions: list[Prediction] = []
        self.names = self._go_on() if resume and path.exists() else frozenset()
        self.places = frozenset(map(_place, self.names))
        # Opened now, so that a place where nothing can be written is found out before the model runs.
        target = path.resolve()
        self.opened = target.with_name(f".{path.name}.{os.getpid()}") if path.suffix == ".json" else target
        self.file = self.opened.open("a", encoding="utf-8", errors="backslashreplace", newline="")
        self.begun = resume and self.file.tell() > 0
        if not self.file.tell():
            self._begin()

    def __enter__(self) -> "PredictionFile":
        return self

    def __contains__(self, name: str) -> bool:
        return _place(name) in self.places

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self.file:
                if error is None:
                    self._begin()
                    if self.path.suffix == ".json":
                        entries = [self._entry(prediction) for prediction in self.predictions]
                        json.dump(entries, self.file, indent=1, ensure_ascii=False)
                        self.file.write("\n")
            if error is None and self.path.suffix == ".json":
                self.opened.replace(self.path.resolve())
        finally:
            if self.path.suffix == ".json":
                self.opened.unlink(missing_ok=True)

    def _begin(self) -> None:
        """Empties the file, the first time."""
        if self.begun:
            return
        self.begun = True
        self.file.truncate(0)
        if self.path.suffix == ".csv":
            csv.writer(self.file).writerow(self.columns)

    def write(self, prediction: Prediction) -> None:
        """Adds a prediction, at once where the file has a line for each."""
        if self.path.suffix == ".json":
            self.predictions.append(prediction)
            return
        self._begin()
        if self.path.suffix == ".csv":
            entry = self._entry(prediction)
            shares = [entry["probabilities"].get(emotion) for emotion in self.emotions]
            line = [entry["name"], entry["duration"], entry["emotion"], *shares, entry["problem"]]
            csv.writer(self.file).writerow([*line, *([self.model] if self.model else [])])
        else:
            self.file.write(json.dumps(self._entry(prediction), ensure_ascii=False) + "\n")
        self.file.flush()

    def _entry(self, prediction: Prediction) -> dict[str, Any]:
        return {
            "name": printable(prediction.name),
            "duration": round(prediction.duration, 4),
            "emotion": prediction.emotion,
            "probabilities": {emotion: round(share, 6) for emotion, share in prediction.probabilities.items()},
            "problem": prediction.problem,
            **({"model": self.model} if self.model else {}),
        }

    def _go_on(self) -> frozenset[str]:
        """Cuts off a last line that was not finished, and returns the clips' names."""
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        while self.path.suffix == ".csv" and content.count(b'"', 0, end) % 2:  # that line break is within a quoted name
            end = content.rfind(b"\n", 0, end - 1) + 1
        try:
            lines = io.StringIO(content[:end].decode("utf-8"), newline="")
            if self.path.suffix == ".csv":
                header, *rows = [*csv.reader(lines)] or [self.columns]
                if header != self.columns:
                    raise _NotThese(f"its columns are {', '.join(header)}; expected {', '.join(self.columns)}")
                entries = [dict(zip(header, row, strict=True)) for row in rows]
            else:
                entries = [json.loads(line) for line in lines]
                known = {tuple(entry["probabilities"]) for entry in entries} - {(), self.emotions}
                if known:
                    raise _NotThese(
                        f"its emotions are {', '.join(known.pop())}; the model's are {', '.join(self.emotions)}"
                    )
            names = frozenset(entry["name"] for entry in entries)
            others = {entry.get("model") for entry in entries} - {self.model}
        except _NotThese as error:
            raise ValueError(f"{str(self.path)!r} cannot be gone on with: {error}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{str(self.path)!r} cannot be gone on with: it is no file of predictions") from error
        if others:
            raise ValueError(
                f"{str(self.path)!r} cannot be gone on with: it is of the model {others.pop() or '(not named)'}, this is "
                f"{self.model or '(not named)'}"
            )
        with self.path.open("r+b") as file:
            file.truncate(end)
        return names


class _NotThese(Exception):
    """A file of predictions, and not of these emotions."""


def _place(name: str) -> str:
    """The same for all ways to name a clip: relative to this folder, or from the root."""
    kind = DATASET if name.startswith(DATASET) else ""
    return kind + os.path.abspath(printable(name).removeprefix(kind))


def _save_timeline(timeline: Timeline, path: Path, minimum: float) -> None:
    if path.suffix in LABELS:
        _save_segments(timeline.segments(minimum), path)
        return
    columns = ["start", "stop", *timeline.emotions]
    rows = [
        [_number(start), _number(stop), *map(_number, shares)]
        for start, stop, shares in zip(timeline.start, timeline.stop, timeline.smoothed, strict=True)
    ]
    if path.suffix == ".json":
        content = {
            "duration": _number(timeline.duration),
            "smoothing": timeline.smoothing,
            "windows": [dict(zip(columns, row, strict=True)) for row in rows],
            "segments": [_segment(segment) for segment in timeline.segments(minimum)],
        }
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    else:
        _save_table(columns, rows, path)


def _save_segments(segments: Sequence[EmotionSegment], path: Path) -> None:
    if path.suffix == ".txt":
        lines = (f"{segment.start:.6f}\t{segment.stop:.6f}\t{segment.emotion}\n" for segment in segments)
        path.write_text("".join(lines), encoding="utf-8")
    elif path.suffix == ".TextGrid":
        entries = [(segment.start, segment.stop, segment.emotion) for segment in segments]
        grid = textgrid.Textgrid()
        grid.addTier(textgrid.IntervalTier("emotion", entries, segments[0].start, segments[-1].stop))
        grid.save(str(path), format="long_textgrid", includeBlankSpaces=True)
    elif path.suffix == ".json":
        content = [_segment(segment) for segment in segments]
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    else:
        rows = [list(_segment(segment).values()) for segment in segments]
        _save_table(["start", "stop", "emotion", "probability"], rows, path)


def _segment(segment: EmotionSegment) -> dict[str, Any]:
    return {
        "start": _number(segment.start),
        "stop": _number(segment.stop),
        "emotion": segment.emotion,
        "probability": _number(segment.probability),
    }


def _save_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            csv.writer(file).writerows(chain([columns], rows))
        else:
            file.writelines(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n" for row in rows)


def _number(value: float) -> float | None:
    """A microsecond, or a millionth of a probability, is enough; JSON has no NaN."""
    return None if math.isnan(value) else round(float(value), 6)
