"""The files of a run: their names, and how the records beside the model are written and read."""

import json
import os
from pathlib import Path
from typing import Any

#: Metrics and metadata of a run. It is written last: a run with it is finished.
RESULTS = "results.json"
#: The arguments of a run that can change what it learns. It is written when the run starts.
RUN = "run.json"
#: Which clips trained, chose and tested the model.
SPLITS = "splits.json"
#: The clips that cannot be used, each with the reason.
EXCLUDED = "excluded.csv"
#: What hf-ser evaluate measured, and the same as a page.
REPORT, REPORT_PAGE = "report.json", "report.html"
#: The folder of a report's plots, and of the predictions of all clips, which has their names and is not published.
REPORT_FOLDER, REPORT_CLIPS = "report", "clips.csv"
#: What stands in a report's note before an example, which may name a clip and is not published.
EXAMPLE = ", for instance: "
#: The predictions of a report that is not complete.
PREDICTIONS = "report-predictions"
#: The model card, and the plots that it shows.
CARD, PLOTS = "README.md", ("confusion_matrix.png", "training_curves.png")
#: The model: a checkpoint, or an adapter.
WEIGHTS, WEIGHTS_INDEX = "model*.safetensors", "model.safetensors.index.json"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
CONFIG, CONFIGS = "config.json", ("config.json", "preprocessor_config.json")
MODEL = (WEIGHTS, WEIGHTS_INDEX, ADAPTER, ADAPTER_CONFIG, *CONFIGS)


def run_of(model: Path) -> Path | None:
    """The folder of the run that has left a model: its own, or of an `adapter/` the one above; `None` if there is none."""
    places = [model, model.parent] if model.name == "adapter" else [model]
    return next((place for place in places if (place / RESULTS).is_file()), None)


def write(path: Path, content: dict[str, Any] | list[Any]) -> None:
    """Writes one of these files, whole or not at all, so that a reader never finds half a file."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:  # a full disk's names no file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """
    Reads one of these files.

    Raises:
        OSError: if it is not there or cannot be read.
        ValueError: if it is no JSON, or no object; names the file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not as hf_ser writes it, but no JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: not as hf_ser writes it: expected an object, found {type(found).__name__}")
    return found
