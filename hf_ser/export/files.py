"""What an export leaves on disk."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

#: What says how the model was exported, and how far its answers are from those of the model that it was made of.
RECORD = "export.json"
#: The model itself, by its precision.
GRAPHS = {"float32": "model.onnx", "int8": "model_int8.onnx"}


def check_folder(folder: Path, overwrite: bool) -> None:
    """
    Before anything is computed: whether an export can be written to `folder`.

    Raises:
        FileExistsError: if there is an export, and nothing was said about it, or something else.
        NotADirectoryError: if `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--output: {str(folder)!r} is a file; name a folder")
    if (folder / RECORD).is_file():
        if not overwrite:
            raise FileExistsError(
                f"--output: {str(folder)!r} holds an exported model. Choose another folder, or --overwrite to replace it."
            )
    elif folder.is_dir() and (there := sorted(path.name for path in folder.iterdir())):
        raise FileExistsError(
            f"--output: {str(folder)!r} holds {', '.join(there[:3])}, which no export has left there. Choose another folder."
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
