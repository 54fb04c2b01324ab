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
    if (folder / REPORT).exists():
        if not overwrite:
            raise FileExistsError(
                f"--output: {str(folder)!r} holds a report. Choose another folder, or --overwrite to replace it."
            )
    elif there := [name for name in (PAGE, PICTURES) if (folder / name).exists()]:
        raise FileExistsError(
            f"--output: {str(folder)!r} holds {' and '.join(there)}, which no report has left there. Choose another folder."
        )


def save(report: Mapping[str, Any], folder: Path) -> None:
    """
    Writes `report.json`, `report.html` (one page with everything in it) and `report/` with the pictures, and deletes the
    answers that were kept in case of an interruption.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PICTURES).mkdir(exist_ok=True)
    for picture in (folder / PICTURES).glob("*.png"):  # those of an earlier report
        picture.unlink()
    pictures = plots.draw(report, folder / PICTURES)
    (folder / PAGE).write_text(page(dict(report), pictures), encoding="utf-8")
    (folder / REPORT).write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    shutil.rmtree(folder / ANSWERS, ignore_errors=True)
