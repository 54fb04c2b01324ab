"""What a report leaves on disk."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_ser.report import plots
from hf_ser.report.page import page

REPORT, PAGE, PICTURES, ANSWERS = "report.json", "report.html", "report", "report-answers"


def check_folder(folder: Path, overwrite: bool) -> None:
    """
    Before anything is computed: whether a report can be written into `folder`.

    Raises:
        FileExistsError: if there is one, and nothing was said about it.
        NotADirectoryError: if `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--output: {str(folder)!r} is a file; name a folder")
    if (folder / REPORT).exists() and not overwrite:
        raise FileExistsError(
            f"--output: {str(folder)!r} holds a report. Choose another folder, or --overwrite to replace it."
        )


def save(report: Mapping[str, Any], folder: Path) -> None:
    """
    Writes `report.json`, `report.html` (one page with everything in it) and `report/` with the pictures, and deletes the
    answers that were kept in case of an interruption.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / PICTURES, ignore_errors=True)
    (folder / PICTURES).mkdir()
    pictures = plots.draw(report, folder / PICTURES)
    (folder / PAGE).write_text(page(dict(report), pictures), encoding="utf-8")
    (folder / REPORT).write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    shutil.rmtree(folder / ANSWERS, ignore_errors=True)
