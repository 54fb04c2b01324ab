"""What an export leaves on disk."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

#: What says how the model was exported, and how far its answers are from those of the model that it was made of.
RECORD = "export.json"
#: The model itself, by its precision.
GRAPHS = {"float32": "model.onnx", "int8": "model_int8.onnx"}
#: All of it, and no more than this is ever replaced. Large weights lie beside their graph; the package's own model class
#: brings its code along.
ENTRIES = (
    RECORD,
    *(f"{graph}*" for graph in GRAPHS.values()),
    "config.json",
    "preprocessor_config.json",
    "*_ser.py",
)


def check_folder(folder: Path, overwrite: bool) -> None:
    """
    Before anything is computed: whether an export can be written to `folder`.

    Raises:
        FileExistsError: if there is an export, and nothing was said about it, or something else.
        NotADirectoryError: if `folder` is a file.
        ValueError: if `folder` has no name of its own.
    """
    if folder.name in ("", ".."):
        raise ValueError(f"--output: {str(folder)!r} cannot be replaced by a new folder; give it by its name")
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--output: {str(folder)!r} is a file; name a folder")
    there = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    exported = RECORD in there
    if others := [name for name in there if not (exported and any(fnmatch(name, entry) for entry in ENTRIES))]:
        raise FileExistsError(
            f"--output: {str(folder)!r} holds {', '.join(others[:3])}, which no export has left there. Choose another folder."
        )
    if exported and not overwrite:
        raise FileExistsError(
            f"--output: {str(folder)!r} holds an exported model. Choose another folder, or --overwrite to replace it."
        )


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder to work in; its `folder.name` takes the place of `folder` at the end, whole, or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-", ignore_cleanup_errors=True) as name:
        work = Path(name)
        (work / folder.name).mkdir()
        yield work
        if folder.exists():
            shutil.move(folder, work / f"{folder.name}.replaced")
        (work / folder.name).rename(folder)
