"""Opens whatever can be used: checkpoints and adapters in any precision, and exported models."""

from pathlib import Path

from transformers import AudioClassificationPipeline

from hf_ser.export.exported import is_exported, load_exported
from hf_ser.hub import load
from hf_ser.inference import in_precision


def open_classifier(
    model: str | Path,
    *,
    precision: str = "float32",
    base: str | None = None,
    revision: str | None = None,
    device: str | None = None,
) -> AudioClassificationPipeline:
    """
    Opens a model for use.

    Args:
        model (`str` or `Path`): A run's, adapter's or exported model's folder, or a name on the Hub.
        precision (`str`, defaults to `"float32"`): See [`~hf_ser.inference.in_precision`]; an exported model has its own.
        base, revision, device (*optional*): See [`~hf_ser.hub.load`]; an exported model is complete, here, and runs on the CPU.

    Raises:
        ValueError: if an exported model is asked for what it cannot do.
        FileNotFoundError, HubError, ValueError: see [`~hf_ser.hub.load`] and [`load_exported`].
    """
    if not is_exported(model):
        return in_precision(load(model, base=base, revision=revision, device=device), precision)
    if precision != "float32":
        raise ValueError(f"--precision: {str(model)!r} is an exported model; its precision was chosen at its export")
    asked = {"base": base, "revision": revision, "device": None if device == "cpu" else device}
    if given := [name for name, value in asked.items() if value is not None]:
        raise ValueError(f"--{given[0]}: {str(model)!r} is an exported model, which is complete and runs on the CPU")
    return load_exported(model)
