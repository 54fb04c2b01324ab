"""Opens whatever the project makes: a checkpoint or an adapter, from a folder or from the Hub."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, snapshot_download
from peft import PeftConfig, PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from transformers import AudioClassificationPipeline, AutoConfig, AutoFeatureExtractor

from hf_ser.encoders import FAMILIES, encoder_config
from hf_ser.hub.errors import HubError, again, explained
from hf_ser.models import open_on_base, ready, resolve_checkpoint
from hf_ser.models.load import TINY, from_checkpoint
from hf_ser.records import RESULTS, SPLITS
from hf_ser.tuning.adapter import FINGERPRINT, fingerprint, name_without_adapters

logger = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
ADAPTER = "adapter_model.safetensors"
#: What is downloaded of a repository: what a model is opened from, and no pictures, logs or pickles.
OPENED = ("config.json", "preprocessor_config.json", "model*.safetensors", "model.safetensors.index.json",
          "adapter_config.json", ADAPTER)  # fmt: skip

#: What a run leaves beside its model.
RECORDS = (RESULTS, SPLITS)


def load(
    model: str | Path,
    *,
    base: str | None = None,
    revision: str | None = None,
    subfolder: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    device: str | torch.device | None = None,
) -> AudioClassificationPipeline:
    """
    Opens a model: a checkpoint (stock, or a LoRA merged into it), or an adapter on its base model.

    Every encoder takes an attention mask here, and a clip gets the same answer in a padded batch as alone.

    Args:
        model (`str` or `Path`): A run's folder, or a name on the Hub (`user/name`).
        base (`str`, *optional*): Where an adapter's base model is, if not where the adapter says.
        revision (`str`, *optional*): A branch, tag, commit or `refs/pr/N` of the Hub's repository.
        subfolder (`str`, *optional*): Where in it the model is: `adapter`, for the adapter beside a merged checkpoint.
        token (`str`, *optional*): A token that may read it; by default the one of `hf auth login` or `HF_TOKEN`.
        cache_dir (`str` or `Path`, *optional*): Where downloads are kept, by default the Hub's own cache.
        local_files_only (`bool`, defaults to `False`): Ask nothing of the network; `HF_HUB_OFFLINE=1` does the same.
        device (`str` or `torch.device`, *optional*): Where it runs, by default on a GPU if there is one.

    Returns:
        An `AudioClassificationPipeline` in float32; `.model` and `.feature_extractor` are its parts.

    Raises:
        FileNotFoundError: if a folder is there but no model in it, or no pickle-free one.
        HubError: if the Hub cannot give it: there is no such model, the token does not open it, no network.
        ValueError: if a file is damaged, a weight is neither in the model nor in its base (it would be random), there is no such
            device, or `revision` or `base` is given for a model that has none.
    """
    if revision is not None and Path(model).expanduser().is_dir():
        raise ValueError(f"--revision: {str(model)!r} is a folder here; a revision is of a model on the Hub")
    hub = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    path, name = _fetch(str(model), revision, subfolder, hub)
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{name!r} is no model: it has no config.json")
    if (path / WEIGHTS).is_file() or (path / f"{WEIGHTS}.index.json").is_file():
        if base is not None:
            raise ValueError(f"--base: {name!r} is a whole checkpoint, not an adapter; it has no base model")
        opened = _checkpoint(path, name)
    elif (path / ADAPTER).is_file():
        opened = _with_adapter(path, name, base, hub)
    else:
        raise FileNotFoundError(
            f"{name!r} holds neither {WEIGHTS} nor {ADAPTER}. A pickle (pytorch_model.bin) is not opened: if the model has no "
            "other, open it with transformers and save it anew, which writes safetensors; on the Hub a pull request may have it "
            "already (revision refs/pr/N, --revision)."
        )
    extractor = AutoFeatureExtractor.from_pretrained(path)
    if encoder_config(opened.config).model_type in FAMILIES:
        extractor.return_attention_mask = True
    if all(label.startswith("LABEL_") for label in opened.config.id2label.values()):
        logger.warning("%s does not name its emotions: its answers are called LABEL_0, LABEL_1 and so on", name)
    opened.eval()
    # The pipeline takes a PeftModel, but says that it does not: it is given what is inside.
    inside = opened.get_base_model() if isinstance(opened, PeftModel) else opened
    try:
        classifier = AudioClassificationPipeline(
            model=inside, feature_extractor=extractor, task="audio-classification", device=device
        )
    except (RuntimeError, AssertionError) as error:
        if device is None:
            raise
        raise ValueError(f"--device: the model cannot run on {str(device)!r}: {str(error).splitlines()[0]}") from error
    classifier.model = opened
    return classifier


def fetch_records(
    model: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    local_files_only: bool = False,
) -> Path:
    """
    The folder that holds what a run has left beside its model: `results.json` and `splits.json`, where it has them.

    Args:
        model (`str` or `Path`): A run's folder, or a name on the Hub.
        revision, token, local_files_only: See [`load`].

    Raises:
        FileNotFoundError: if it is neither.
        HubError: if the Hub cannot give it.
    """
    hub = {"token": token, "cache_dir": None, "local_files_only": local_files_only}
    path, _ = _fetch(str(model), revision, None, hub, (*RECORDS, "config.json"))
    return path


def _fetch(
    model: str, revision: str | None, subfolder: str | None, hub: dict[str, Any], files: Sequence[str] = OPENED
) -> tuple[Path, str]:
    """The folder with a model's files, downloaded if need be, and what to call it in messages."""
    model = resolve_checkpoint(model) if model == TINY else model
    local = Path(model).expanduser()
    if local.is_dir():
        return local / (subfolder or ""), str(local / (subfolder or ""))
    if local.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        raise FileNotFoundError(f"{model!r} is no folder, and no name on the Hub either, which has the form user/name")
    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    wanted = [prefix + name for name in files]
    with explained(model, revision):
        folder = Path(again(lambda: snapshot_download(model, revision=revision, allow_patterns=wanted, **hub), model))
        if not any((folder / prefix).glob("*model*.*")) and not hub["local_files_only"]:
            # Where the Hub gives nothing, the client is content with whatever part is in the cache: let it say why.
            HfApi(token=hub["token"]).model_info(model, revision=revision)
    return folder / prefix, f"{model}/{prefix}".rstrip("/") + (f" ({revision})" if revision else "")


def _checkpoint(path: Path, name: str) -> Any:
    try:
        model, missing, mismatched = from_checkpoint(str(path), AutoConfig.from_pretrained(path), use_safetensors=True)
    except SafetensorError as error:
        raise ValueError(_damaged(path, name, error)) from error
    if lacking := sorted(missing | mismatched):
        raise ValueError(
            f"{name!r} has no weights for {', '.join(lacking[:4])}: it is an encoder without a trained head, or its config.json "
            "belongs to another model; it would answer at random"
        )
    return ready(model) if encoder_config(model.config).model_type in FAMILIES else model


def _with_adapter(path: Path, name: str, base: str | None, hub: dict[str, Any]) -> PeftModel:
    config = AutoConfig.from_pretrained(path)
    says = PeftConfig.from_pretrained(str(path))
    source = base or says.base_model_name_or_path
    try:
        with safe_open(path / ADAPTER, framework="pt") as file:
            keys = set(file.keys())
            trained_on = (file.metadata() or {}).get(FINGERPRINT)
    except SafetensorError as error:
        raise ValueError(_damaged(path, name, error)) from error
    brought = {name_without_adapters(key) for key in keys}
    try:
        if not source:
            raise FileNotFoundError("it does not say for which")
        folder, _ = _fetch(source, None if base else says.revision, None, hub)
        if not any(folder.glob("model*.safetensors")):
            # Older checkpoints are pickles, which are read as plain tensors.
            folder, _ = _fetch(
                source, None if base else says.revision, None, hub, ("config.json", "pytorch_model*.bin*")
            )
        model, random = open_on_base(str(folder), config)
    except (OSError, SafetensorError) as error:
        kind = HubError if isinstance(error, HubError) else FileNotFoundError
        raise kind(
            f"{name!r} is an adapter for {source!r}, which cannot be loaded: {error}. Pass base=... (--base) if it is elsewhere."
        ) from error
    if lacking := random - brought:
        raise ValueError(
            f"{name!r}: neither the adapter nor its base model {source!r} has {', '.join(sorted(lacking)[:4])}: the model would "
            "answer at random. Is it the right base model?"
        )
    if trained_on and fingerprint(model) != trained_on:
        raise ValueError(
            f"{name!r} was trained on other weights than those of {source!r}, and would answer wrongly on them. Pass its own "
            f"base model, {says.base_model_name_or_path!r} in the version that it was trained on."
        )
    try:
        opened = PeftModel.from_pretrained(model, str(path))
    except RuntimeError as error:
        raise ValueError(f"{name!r} does not fit its config.json or its base model {source!r}: {error}") from error
    # What PEFT does not find a place for it leaves out without a word.
    wanted = get_peft_model_state_dict(opened, save_embedding_layers=False)
    taken = {*wanted, *opened.state_dict()}
    if absent := sorted(wanted.keys() - keys):
        raise ValueError(
            f"{name!r}: {len(absent)} weights of its adapter are not in {ADAPTER}, for instance {absent[0]}: it would "
            "answer with random ones"
        )
    if untaken := sorted(keys - taken):
        raise ValueError(
            f"{name!r}: {len(untaken)} of its weights have no place in the model, for instance {untaken[0]}: its "
            "adapter_config.json does not belong to them, and it would answer wrongly"
        )
    return opened


def _damaged(path: Path, name: str, error: Exception) -> str:
    again = f"Delete {path} and download it again" if "snapshots" in path.parts else "Copy it again"
    return f"{name!r}: its weights are damaged or incomplete ({error}). {again}."
