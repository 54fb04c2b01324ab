"""The methods of fine-tuning in words."""

from collections.abc import Sequence

from hf_ser.hub.card.words import Results
from hf_ser.wording import listed

#: What each method trains: as a heading, and as what follows "fine-tuned".
METHODS = {
    "full": ("full fine-tuning", "by training all of its weights"),
    "lora_qkv": (
        "LoRA on query, key and value",
        "with LoRA on the attention's query, key and value projections; the head is trained as a whole",
    ),
    "lora_classifier": (
        "LoRA on the classifier",
        "with LoRA on the last layer alone; the encoder stays as it was, and the layers of the head under it stay as they "
        "were loaded or drawn",
    ),
    "head": ("the head alone", "by training the head alone; the encoder stays as it was"),
    "probe": (
        "probe",
        "by solving a logistic regression on statistics of all layers; the encoder stays as it was",
    ),
    "lora_ff": (
        "LoRA on the feed-forward",
        "with LoRA on both matrices of every layer's feed-forward; the head is trained as a whole",
    ),
    "adapter": (
        "adapters",
        "with a bottleneck adapter after the feed-forward of every layer; the head is trained as a whole",
    ),
    "parallel_adapter": (
        "parallel adapters",
        "with a bottleneck adapter beside the feed-forward of every layer; the head is trained as a whole",
    ),
    "prompt": ("embedding prompts", "with trained embeddings before every layer; the head is trained as a whole"),
}
#: Those that leave an adapter alone, which nothing merges into the encoder, and which peft knows through hf_ser alone.
UNMERGED = ("adapter", "parallel_adapter", "prompt")
#: Those of HuBERT-SER; the others are PEFT-SER's.
HUBERT_SER = ("full", "lora_qkv", "lora_classifier")


def methods(results: Results) -> tuple[str, ...]:
    """The methods that a run combined, most often one."""
    return tuple(str(results.get("method") or "").split("+"))


def unmerged(results: Results) -> bool:
    """Whether the run leaves an adapter alone: nothing merges it, and peft knows it through hf_ser alone."""
    names = methods(results)
    return any(name in UNMERGED for name in names) or (
        len(names) > 1 and not all(name.startswith("lora_") for name in names)
    )


def method_words(results: Results) -> tuple[str, str]:
    """A method as a heading, and as what follows "fine-tuned"."""
    method = results["method"]
    arguments = (results.get("training") or {}).get("arguments") or {}
    if len(names := methods(results)) > 1:
        return _combined_words(names)
    heading, words = METHODS.get(method, (f"`{method}`", f"by the method `{method}`"))
    batch_norm = results.get("head") == "batchnorm"
    if method == "full" and arguments.get("freeze_feature_encoder"):
        words = "by training all of its weights but those of the convolutional feature encoder"
    elif method == "lora_classifier" and batch_norm:
        words = (
            "with LoRA on the last layer, and by training the batch norm before it; the encoder stays as it was, and the "
            "other layers of the head stay as they were loaded or drawn"
        )
    if method in ("lora_qkv", "lora_ff", "lora_classifier") and (targets := arguments.get("lora_target_modules")):
        modules = listed([f"`{name}`" for name in (targets if isinstance(targets, list) else [str(targets)])])
        heading = f"LoRA on {modules}"
        rest = "the head is trained as a whole"
        if method == "lora_classifier":
            rest = "all else stays as it was loaded or drawn"
        if method == "lora_classifier" and batch_norm:
            rest += ", but for the batch norm before the last layer, which is trained, too"
        words = f"with LoRA on {modules}; {rest}"
    weighted = results.get("weighted_layer_sum", arguments.get("weighted_layer_sum"))
    if weighted and method != "lora_classifier":
        words += "; the weights of the sum over the encoder's layers that the head is given are trained, too"
    return heading, words


def _combined_words(names: Sequence[str]) -> tuple[str, str]:
    found = [METHODS.get(name, (f"`{name}`", f"by the method `{name}`")) for name in names]
    heading = listed([heading for heading, _ in found])
    whole = "; the head is trained as a whole"
    ways = listed(
        [words.removesuffix(whole) for name, (_, words) in zip(names, found, strict=True) if name != "lora_classifier"]
    )
    if "lora_classifier" in names:
        return (
            heading,
            f"{ways}, and with LoRA on the last layer; the layers of the head under it stay as they were loaded or drawn",
        )
    return heading, ways + whole
