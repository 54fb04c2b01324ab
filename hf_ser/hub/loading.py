"""Opens a checkpoint or an adapter, from a folder or from the Hub."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.utils.sha import sha_fileobj
from peft import PeftConfig, PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoFeatureExtractor

from hf_ser.hub.errors import HubError, explained
from hf_ser.hub.reference import open_reference
from hf_ser.modeling.families import FAMILIES, encoder_config
from hf_ser.modeling.load import NO_CODE, from_checkpoint, open_on_base, ready, resolve_checkpoint, untrusted
from hf_ser.records import ADAPTER, CONFIG, MODEL, RESULTS, SPLITS, WEIGHTS
from hf_ser.tuning.adapter_files import FINGERPRINT, fingerprint, name_without_adapters

logger = logging.getLogger(__name__)

#: A repository may also have weights in another precision (`model.fp32-00001-of-00002.safetensors`), which are not opened.
DOWNLOADED = ("model.safetensors", "model-*.safetensors", *(name for name in MODEL if name != WEIGHTS))
#: Many older base models have no safetensors. Their pickles are only read as tensors.
PICKLED = (CONFIG, "pytorch_model.bin*", "pytorch_model-*.bin")
#: The files that describe a run.
RECORDS = (RESULTS, SPLITS, CONFIG)


def load(
    model: str | Path,
    *,
    base: str | None = None,
    revision: str | None = None,
    subfolder: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> tuple[Any, Any]:
    """
    Opens a checkpoint, or an adapter on its base model, such that predictions do not depend on the padding of a batch. Some
    reference models without a class in transformers open, too, see [`~hf_ser.hub.reference.open_reference`].
    [`hf_ser.pipeline`] opens it for use.

    Args:
        model (`str` or `Path`): A run's folder, or a name on the Hub (`user/name`).
        base (`str`, *optional*): An adapter's base model, if it is not where the adapter's configuration says.
        revision (`str`, *optional*): A branch, tag, commit or `refs/pr/N` of a repository on the Hub.
        subfolder (`str`, *optional*): The model's folder in it: `adapter`, for the adapter of a merged checkpoint.
        token (`str`, *optional*): A token with read access; by default that of `hf auth login` or `HF_TOKEN`.
        cache_dir (`str` or `Path`, *optional*): The folder for downloads, by default the Hub's cache.
        local_files_only (`bool`, defaults to `False`): Use only what is downloaded already, as with `HF_HUB_OFFLINE=1`.

    Returns:
        The `PreTrainedModel` or `PeftModel`, in float32 on the CPU, and its feature extractor.

    Raises:
        FileNotFoundError: if a folder holds no model, or only a pickle.
        HubError: if the Hub does not have the model, refuses it or cannot be reached.
        ValueError: if weights are damaged, missing (they would be random) or do not fit; or if `revision` or `base` is
            given for a model that has none.
    """
    if revision is not None and Path(model).expanduser().is_dir():
        raise ValueError(
            f"revision={revision!r}: {str(model)!r} is a local folder; only repositories on the Hub have revisions"
        )
    hub = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    path, name = _fetch(str(model), revision, hub, DOWNLOADED, subfolder)
    whole = _is_checkpoint(path, name)
    if whole and base is not None:
        raise ValueError(
            f"base={base!r}: {name!r} is a complete checkpoint, and not an adapter that needs a base model"
        )
    opened: Any
    try:
        with untrusted(str(path)):
            if reference := open_reference(path, name) if whole else None:
                opened, extractor = reference
            else:
                opened = _checkpoint(path, name) if whole else _with_adapter(path, name, base, hub)
                extractor = AutoFeatureExtractor.from_pretrained(path, **NO_CODE)
    except SafetensorError as error:
        raise ValueError(
            f"{name!r}: its weights are damaged or incomplete ({error}). Delete {path} and copy or download it again."
        ) from error
    if encoder_config(opened.config).model_type in FAMILIES:
        extractor.return_attention_mask = True
    if all(label.startswith("LABEL_") for label in opened.config.id2label.values()):
        logger.warning("%s does not name its emotions: its predictions are called LABEL_0, LABEL_1 and so on", name)
    return opened.eval(), extractor


def _is_checkpoint(path: Path, name: str) -> bool:
    """Whether a model's folder has a whole checkpoint; else it has an adapter."""
    if not (path / CONFIG).is_file():
        raise FileNotFoundError(f"{name!r} is not a model: it has no config.json")
    whole = any(path.glob(WEIGHTS))
    if not whole and not (path / ADAPTER).is_file():
        raise FileNotFoundError(
            f"{name!r} has neither model.safetensors nor {ADAPTER}. A pickle (pytorch_model.bin) is not opened: open it with "
            "transformers and save it again as safetensors, or look for a pull request on the Hub that has them (revision: "
            "refs/pr/N)."
        )
    return whole


def fetch_records(model: str | Path, *, revision: str | None = None) -> Path:
    """
    The folder with the `results.json` and `splits.json` of a model, if it has them; see [`load`].

    Raises:
        FileNotFoundError: if `model` is neither a folder nor a name on the Hub.
        HubError: if the Hub cannot be read.
    """
    return _fetch(str(model), revision, {}, RECORDS)[0]


def fetch_base(model: str, revision: str | None = None, **hub: Any) -> Path:
    """
    The folder of a base model, for fine-tuning or under an adapter, downloaded if necessary; with a pickle if there are no
    safetensors. See [`load`] for the arguments.

    Raises:
        FileNotFoundError, HubError: see [`fetch_records`]; if weights do not have the hash that the Hub states.
    """
    folder, _ = _fetch(model, revision, hub, DOWNLOADED)
    if not any(folder.glob(WEIGHTS)):
        folder, _ = _fetch(model, revision, hub, PICKLED)
    return folder


def _fetch(
    model: str, revision: str | None, hub: dict[str, Any], files: Sequence[str], subfolder: str | None = None
) -> tuple[Path, str]:
    """A model's folder, downloaded if need be, and its name for messages."""
    model = resolve_checkpoint(model)
    local = Path(model).expanduser()
    if local.is_dir():
        return local / (subfolder or ""), str(local / (subfolder or ""))
    if local.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        raise FileNotFoundError(
            f"{model!r} is neither an existing folder nor a name on the Hub, which has the form user/name"
        )
    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    with explained(model, revision):
        folder = Path(
            snapshot_download(model, revision=revision, allow_patterns=[prefix + name for name in files], **hub)
        )
        if not any((folder / prefix).glob("*model*.*")) and not hub.get("local_files_only"):
            # The client returns an incomplete cache where the Hub refuses: ask for the reason.
            HfApi(token=hub.get("token")).model_info(model, revision=revision)
    _require_hashes([path for name in files for path in (folder / prefix).glob(name)], model)
    return folder / prefix, f"{model}/{prefix}".rstrip("/") + (f" ({revision})" if revision else "")


def _require_hashes(files: Sequence[Path], name: str) -> None:
    """
    Compares weights in the Hub's cache with the SHA-256 that the Hub states: it is the name of the file that a link points to.
    The Hub's client compares only the sizes.
    """
    for path in files:
        expected = path.readlink().name if path.is_symlink() else ""
        if len(expected) != 64:  # a file without a SHA-256, or a disk without links
            continue
        with path.open("rb") as file:
            found = sha_fileobj(file).hex()
        if found != expected:
            raise HubError(
                f"{name}: the file '{path}' is not the one that the Hub has: its SHA-256 is {found}, expected {expected}. Delete "
                f"{path.resolve()} and try again; if that does not help, the Hub or the network sends another file."
            )


def _checkpoint(path: Path, name: str) -> Any:
    config = AutoConfig.from_pretrained(path, **NO_CODE)
    model, missing, mismatched = from_checkpoint(str(path), config, use_safetensors=True)
    if lacking := sorted(missing | mismatched):
        raise ValueError(
            f"{name!r} has no weights for {', '.join(lacking[:4])}, which would be random: it is an encoder without a trained "
            "head, or its config.json belongs to another model"
        )
    return ready(model) if encoder_config(model.config).model_type in FAMILIES else model


def _with_adapter(path: Path, name: str, base: str | None, hub: dict[str, Any]) -> PeftModel:
    adapter = PeftConfig.from_pretrained(str(path))
    source, revision = (base, None) if base else (adapter.base_model_name_or_path, adapter.revision)
    with safe_open(path / ADAPTER, framework="pt") as file:
        keys, trained_on = set(file.keys()), (file.metadata() or {}).get(FINGERPRINT)
    try:
        folder = fetch_base(source, revision, **hub)
        with untrusted(str(folder)):
            model, random = open_on_base(str(folder), AutoConfig.from_pretrained(path, **NO_CODE))
    except (OSError, SafetensorError) as error:
        kind = HubError if isinstance(error, HubError) else FileNotFoundError
        raise kind(
            f"{name!r} is an adapter for {source!r}, which cannot be loaded: {error}. Pass base=... if it is elsewhere."
        ) from error
    if lacking := random - {name_without_adapters(key) for key in keys}:
        raise ValueError(
            f"{name!r}: neither the adapter nor its base model {source!r} has {', '.join(sorted(lacking)[:4])}, which would be "
            "random. Is it the right base model?"
        )
    if trained_on and fingerprint(model) != trained_on:
        raise ValueError(
            f"{name!r} was trained on other weights than those of {source!r}, and would be wrong on them. Pass its own base "
            f"model, {adapter.base_model_name_or_path!r} in the version that it was trained on."
        )
    try:
        opened = PeftModel.from_pretrained(model, str(path))
    except RuntimeError as error:
        raise ValueError(f"{name!r} does not fit its config.json or its base model {source!r}: {error}") from error
    # PEFT ignores weights that have no place in the model, and initialises those that are missing.
    expected = get_peft_model_state_dict(opened, save_embedding_layers=False).keys()
    if wrong := sorted((expected - keys) | (keys - expected - opened.state_dict().keys())):
        raise ValueError(
            f"{name!r}: its adapter_config.json does not belong to its weights: {len(wrong)} are missing or have no place in the "
            f"model, for instance {wrong[0]}"
        )
    return opened
