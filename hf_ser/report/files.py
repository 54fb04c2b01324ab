"""The files of a report."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hf_ser import records
from hf_ser.clips import column, emotion_column, names_of
from hf_ser.records import PREDICTIONS, REPORT, REPORT_CLIPS, REPORT_FOLDER, REPORT_PAGE
from hf_ser.rendering import page
from hf_ser.rendering.tables import CAPTIONS
from hf_ser.report import plots
from hf_ser.report.build import BuiltReport
from hf_ser.report.model import KEPT


def check_folder(folder: Path, overwrite: bool) -> None:
    """
    Checks, before anything is computed, that a report can be written into `folder`, and creates it.

    Raises:
        FileExistsError: if it has a report and `overwrite` is false, or other files of the same names.
        OSError: if nothing can be written there.
    """
    name = f"output={str(folder)!r}"
    if (folder / REPORT).exists():
        if not _is_report(folder / REPORT):
            raise FileExistsError(f"{name}: holds a {REPORT} that is no report. Choose another folder.")
        if not overwrite:
            raise FileExistsError(f"{name}: holds a report. Choose another folder, or overwrite it.")
    elif not any((folder / PREDICTIONS).glob(f"{KEPT}*.npz")) and (  # with them it is an interrupted report
        there := [name for name in (REPORT_PAGE, REPORT_FOLDER) if (folder / name).exists()]
    ):
        raise FileExistsError(f"{name}: holds {' and '.join(there)}, but no report. Choose another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(f"{name}: cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{name}: cannot be written to")


def _is_report(path: Path) -> bool:
    try:
        return "quality" in records.read(path)
    except (OSError, ValueError):
        return False


def save(built: BuiltReport, folder: Path) -> None:
    """
    Writes `report.json`, `report.html` (one page with everything) and `report/` with the plots and the predictions, `clips.csv`.
    Deletes the predictions that were kept in case of an interruption. The files of an earlier report are replaced when the new
    ones are complete; other files stay.
    """
    report = built.report
    (folder / REPORT_FOLDER).mkdir(parents=True, exist_ok=True)
    (folder / PREDICTIONS).mkdir(exist_ok=True)
    with TemporaryDirectory(dir=folder / PREDICTIONS) as made:
        new = Path(made)
        pictures = plots.draw(report, new)
        (new / REPORT_PAGE).write_text(page(report, pictures), encoding="utf-8")
        records.write(new / REPORT, report)
        _save_predictions(new / REPORT_CLIPS, built)
        for name in CAPTIONS:
            (folder / REPORT_FOLDER / f"{name}.png").unlink(missing_ok=True)  # an earlier report's
        for path in (*pictures.values(), new / REPORT_CLIPS):
            path.replace(folder / REPORT_FOLDER / path.name)
        for name in (REPORT_PAGE, REPORT):
            (new / name).replace(folder / name)
    for kept in (folder / PREDICTIONS).glob(f"{KEPT}*.npz"):
        kept.unlink()
    if not any((folder / PREDICTIONS).iterdir()):
        (folder / PREDICTIONS).rmdir()


def _save_predictions(path: Path, built: BuiltReport) -> None:
    """
    Writes CSV: clip, corpus, speaker, gender; for a model of emotions emotion, predicted, and the probability of each emotion;
    the label of each dimension, as `arousal`, and its prediction, as `arousal_predicted`. The metrics of the report can be
    computed from it.
    """
    table, evaluated = built.table, built.evaluated
    columns: dict[str, Iterable[object]] = {"clip": names_of(table)}
    columns |= {name: column(table, name) for name in ("corpus", "speaker", "gender")}
    if emotions := evaluated.emotions:
        predicted = [emotions[k] for k in evaluated.probabilities.argmax(axis=1)]
        columns |= {"emotion": emotion_column(table), "predicted": predicted}
        columns |= {
            name: map("{:.6f}".format, of) for name, of in zip(emotions, evaluated.probabilities.T, strict=True)
        }
    for name, truth, values in zip(evaluated.dimensions, evaluated.truth.T, evaluated.values.T, strict=True):
        columns[name] = ["" if np.isnan(label) else f"{label:.6f}" for label in truth]
        columns[f"{name}_predicted"] = map("{:.6f}".format, values)
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(columns)
        lines.writerows(zip(*columns.values(), strict=True))
