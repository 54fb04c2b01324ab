"""Opens whatever the project saves."""

from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from safetensors import safe_open
from transformers import AudioClassificationPipeline, AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

from hf_ser.models import BatchNormClassifier, resolve_checkpoint
from hf_ser.tuning.adapter import PREFIX


def load(folder: str | Path, *, base: str | None = None) -> AudioClassificationPipeline:
    """
    Opens a run's folder: a checkpoint, or an adapter on its base model.

    Args:
        folder (`str` or `Path`): A folder with `config.json` and either `model.safetensors` or an adapter.
        base (`str`, *optional*): Where an adapter's base model is, if not where the adapter says.

    Returns:
        An `AudioClassificationPipeline` in float32; `.model` and `.feature_extractor` are its parts.

    Raises:
        FileNotFoundError: if the folder, or the adapter's base model, is not there.
        ValueError: if a weight is neither in the folder nor in the base model: it would be random.
    """
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{str(path)!r} is no model folder: it has no config.json")
    if (path / "model.safetensors").is_file() or (path / "model.safetensors.index.json").is_file():
        model, info = AutoModelForAudioClassification.from_pretrained(
            path, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
        if lacking := sorted(info["missing_keys"]):
            raise ValueError(
                f"{str(path)!r} has no weights for {', '.join(lacking[:4])}: it is an encoder without a trained head, and would "
                "answer at random"
            )
    elif (path / "adapter_model.safetensors").is_file():
        model = _with_adapter(path, base)
    else:
        raise FileNotFoundError(f"{str(path)!r} holds neither model.safetensors nor adapter_model.safetensors")
    return AudioClassificationPipeline(
        model=model.eval(), feature_extractor=AutoFeatureExtractor.from_pretrained(path), task="audio-classification"
    )


def _with_adapter(path: Path, base: str | None) -> PeftModel:
    config = AutoConfig.from_pretrained(path)
    name = base or PeftConfig.from_pretrained(str(path)).base_model_name_or_path
    try:
        model, info = AutoModelForAudioClassification.from_pretrained(
            resolve_checkpoint(name),
            config=config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except OSError as error:
        raise FileNotFoundError(
            f"{str(path)!r} is an adapter for {name!r}, which cannot be loaded: {error}. Pass base=... if it is elsewhere."
        ) from error
    with safe_open(path / "adapter_model.safetensors", framework="pt") as file:
        brought = {key.removeprefix(PREFIX).replace(".base_layer.", ".") for key in file.keys()}  # noqa: SIM118
    if any(key.startswith("classifier.batch_norm") for key in brought):
        model.classifier = BatchNormClassifier(model.classifier, config.final_dropout)
        brought = {key.replace("classifier.out_proj.", "classifier.") for key in brought}
    lacking = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])} - brought
    if lacking:
        raise ValueError(
            f"{str(path)!r}: neither the adapter nor its base model {name!r} has {', '.join(sorted(lacking))}: the model would "
            "answer at random. Is it the right base model?"
        )
    return PeftModel.from_pretrained(model, str(path))
