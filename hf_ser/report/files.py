"""What a report leaves on disk."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hf_ser import records
from hf_ser.records import REPORT
from hf_ser.report import plots
from hf_ser.report.answers import KEPT, Answered
from hf_ser.report.page import page
from hf_ser.report.page.pictures import PICTURES as PLACES

PAGE, PICTURES, ANSWERS = "report.html", "report", "report-answers"
#: What the model says of each clip; it has their names, and stays on this machine.
CLIPS = f"{PICTURES}/clips.csv"


def check_folder(folder: Path, overwrite: bool) -> None:
    """
    Before anything is computed: whether a report can be written into `folder`, which is made.

    Raises:
        FileExistsError: if there is one, and nothing was said about it.
        NotADirectoryError: if `folder` is a file.
        OSError: if nothing can be written there.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--output: {str(folder)!r} is a file; name a folder")
    if (folder / REPORT).exists():
        if not _is_report(folder / REPORT):
            raise FileExistsError(
                f"--output: {str(folder)!r} holds a {REPORT} that is none of this tool's. Choose another folder."
            )
        if not overwrite:
            raise FileExistsError(
                f"--output: {str(folder)!r} holds a report. Choose another folder, or --overwrite to replace it."
            )
    elif not any((folder / ANSWERS).glob(f"{KEPT}*.npz")) and (  # with them it is a report that was interrupted
        there := [name for name in (PAGE, PICTURES) if (folder / name).exists()]
    ):
        raise FileExistsError(
            f"--output: {str(folder)!r} holds {' and '.join(there)}, which no report has left there. Choose another folder."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(f"--output: {str(folder)!r} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"--output: nothing can be written into {str(folder)!r}")


def _is_report(path: Path) -> bool:
    try:
        return "quality" in records.read(path)
    except (OSError, ValueError):
        return False


def save(report: Mapping[str, Any], answered: Answered, folder: Path) -> None:
    """
    Writes `report.json`, `report.html` (one page with everything in it) and `report/` with the pictures and `clips.csv`, what
    the model says of each clip, and deletes the answers that were kept in case of an interruption. An earlier report's files
    are replaced when the new ones are there, and no file that is not a report's is touched.
    """
    (folder / PICTURES).mkdir(parents=True, exist_ok=True)
    (folder / ANSWERS).mkdir(exist_ok=True)
    with TemporaryDirectory(dir=folder / ANSWERS) as made:
        new = Path(made)
        pictures = plots.draw(report, new)
        (new / PAGE).write_text(page(dict(report), pictures), encoding="utf-8")
        (new / REPORT).write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        answered.write(new / Path(CLIPS).name)
        for name in PLACES:
            if name in pictures:
                pictures[name].replace(folder / PICTURES / pictures[name].name)
            else:
                (folder / PICTURES / f"{name}.png").unlink(missing_ok=True)  # an earlier report's
        (new / Path(CLIPS).name).replace(folder / CLIPS)
        (new / PAGE).replace(folder / PAGE)
        (new / REPORT).replace(folder / REPORT)
    for answers in (folder / ANSWERS).glob(f"{KEPT}*.npz"):
        answers.unlink()
    if not any((folder / ANSWERS).iterdir()):
        (folder / ANSWERS).rmdir()
