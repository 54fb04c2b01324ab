"""The sentences of a model card; `template.md` calls them as `text.NAME`. An empty string leaves a sentence out."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from hf_ser.corpora import ABOUT, About
from hf_ser.emotions import DISTRIBUTION
from hf_ser.rendering.blocks import decimal, percent
from hf_ser.rendering.formats import markdown
from hf_ser.rendering.tables import by_part, metrics_table
from hf_ser.results import WITHOUT_EFFECT, Corpus, RunResults
from hf_ser.wording import counted, listed

#: The methods in words.
METHODS = {
    "full": "full fine-tuning",
    "lora_qkv": "LoRA on query, key and value",
    "lora_classifier": "LoRA on the last layer of the head",
    "frozen": "the head alone, on the frozen encoder",
    "probe": "logistic regression on the frozen encoder",
    "lora_ff": "LoRA on the feed-forward layers",
    "adapter": "adapters after the feed-forward layers",
    "parallel_adapter": "adapters beside the feed-forward layers",
    "prompt": "embedding prompts before every layer",
}
#: Those whose adapter cannot be merged into the encoder, and opens with hf_ser alone.
UNMERGED = ("adapter", "parallel_adapter", "prompt")
#: Those of HuBERT-SER; the others are PEFT-SER's.
HUBERT_SER = ("full", "lora_qkv", "lora_classifier")
#: BibTeX of the papers that a card cites beside those of its corpora, and the keys of the encoders by `model_type`. HuBERT-SER is
#: an anonymous submission, without authors or a year.
PAPERS = files("hf_ser.hub.card").joinpath("papers.bib").read_text(encoding="utf-8")
ENCODER_PAPERS = {"hubert": "hsu2021hubert", "wav2vec2": "baevski2020wav2vec2", "wavlm": "chen2022wavlm"}
#: Arguments whose values follow from others.
FOLLOWING = ("greater_is_better", "label_names", "remove_unused_columns")
#: Conditions that corpora lack, and the words for them in the kinds of distortions of a report.
DISTORTIONS = {
    "noise": "noise", "telephones": "telephone", "music": "", "several people at once": "", "other microphones": ""
}  # fmt: skip


# The model


def method_text(results: RunResults) -> str:
    """The methods of a run in words."""
    targets = results.training.arguments.get("lora_target_modules")
    modules = listed(f"`{name}`" for name in ([targets] if isinstance(targets, str) else targets or []))
    return listed(
        f"LoRA on {modules}" if modules and name.startswith("lora_") else METHODS.get(name, f"`{name}`")
        for name in results.methods
    )


def unmerged(results: RunResults) -> bool:
    """Whether the run leaves an adapter that cannot be merged."""
    names = results.methods
    return any(name in UNMERGED or (len(names) > 1 and not name.startswith("lora_")) for name in names)


# The corpora


def about(corpus: Corpus) -> About | None:
    """The facts about a corpus; none for a manifest or a data set."""
    return ABOUT.get(corpus.read_as)


def abouts(results: RunResults) -> list[About | None]:
    return [about(corpus) for corpus in results.corpora.values()]


def short_name(facts: About) -> str:
    return facts.name.partition(" (")[0]


def corpus_names(results: RunResults) -> dict[str, str]:
    """The name of each corpus: `RAVDESS` for `ravdess`."""
    found = zip(results.corpora, abouts(results), strict=True)
    return {corpus: short_name(facts) if facts else corpus for corpus, facts in found}


def corpus_link(name: str, corpus: Corpus) -> str:
    """The name of a corpus, linked to its page."""
    if dataset := corpus.hub_dataset:
        return f"[{dataset}](https://huggingface.co/datasets/{dataset})"
    facts = about(corpus)
    page = facts and facts.homepage
    return f"[{short_name(facts)}]({page})" if facts and page else short_name(facts) if facts else name


def clips_text(results: RunResults) -> str:
    """Merged emotions, and the clips that were left out, with the reason."""
    names = corpus_names(results)
    merged = [f"*{source}* counts as *{target}*" for source, target in sorted(results.merged_emotions.items())]
    others = [f"{count:,} of *{emotion}*" for emotion, count in sorted(results.left_out.items()) if count]
    excluded = [
        f"{listed(f'{count:,} {reason}' for reason, count in reasons.items())} in {names.get(corpus, corpus)}"
        for corpus, reasons in results.excluded.items()
    ]
    unused = [f"{count:,} of {names.get(corpus, corpus)}" for corpus, count in results.left_out_by_split.items()]
    sentences = {
        "": listed(merged),
        "Clips of other emotions were left out: ": listed(others),
        "Excluded clips: ": "; ".join(excluded),
        "Clips in no part of the split: ": listed(unused),
    }
    return " ".join(f"{start}{text}." for start, text in sentences.items() if text)


# The evaluation


def speakers(part: Mapping[str, Any]) -> str:
    """`4 speakers`, or `4 known speakers (and 20 clips of unknown ones)`; empty if none is known."""
    number, unknown = part["speakers"], part["clips_without_speaker"]
    if number and unknown:
        return f"{counted(number, 'known speaker')} (and {counted(unknown, 'clip')} of unknown ones)"
    return counted(number, "speaker") if number else ""


def predicted(results: RunResults) -> str:
    """The model's predictions: `the emotion of a speech recording, one of 3: angry, happy or sad`."""
    dimensions = f"{listed(results.dimensions)}, each from 0 to 1" if results.dimensions else ""
    if not results.emotions:
        return f"{dimensions}, of a speech recording"
    emotions = f"the emotion of a speech recording, one of {len(results.emotions)}: {listed(results.emotions, 'or')}"
    shares = (
        "; its probabilities were trained to be the shares of the raters' votes"
        if DISTRIBUTION in results.targets
        else ""
    )
    return f"{emotions}{shares}{f'; and its {dimensions}' if dimensions else ''}"


def intervals(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The intervals of the metrics of emotions, or else of a dimension or the distributions."""
    others = (*metrics.get("dimensions", {}).values(), metrics.get("distribution"))
    found: dict[str, Any] = next((of["intervals"] for of in (metrics, *others) if of and "intervals" in of), {})
    return {"clips": None, "speakers": None, "speakers_reason": "no clip has a label", **found}


def scales(results: RunResults) -> str:
    """The corpora's own scales of the dimensions."""
    names = corpus_names(results)
    found = []
    for corpus, of in (results.ranges or {}).items():
        by_edges: dict[tuple[float, ...], list[str]] = {}
        for name in filter(of.__contains__, results.dimensions):
            by_edges.setdefault(tuple(of[name]), []).append(name)
        found += [
            f"{listed(dimensions)} in {names.get(corpus, corpus)} from {low:g} to {high:g}"
            for (low, high), dimensions in by_edges.items()
        ]
    return f"Labels were scaled from the corpora's own scales: {listed(found)}." if found else ""


def raters(results: RunResults) -> str:
    """Alpha of each corpus and target."""
    names = corpus_names(results)
    found = [
        f"{names.get(corpus, corpus)}: "
        + ", ".join(f"{name} {decimal(each['alpha'], 2).text}" for name, each in of.items())
        for corpus, of in (results.agreement or {}).items()
    ]
    return f"{'; '.join(found)}."


def probe_kind(results: RunResults) -> str:
    """`logistic regression`, `ridge regression`, or both."""
    kinds = {"logistic regression": results.emotions, "ridge regression": results.dimensions}
    return listed(kind for kind, targets in kinds.items() if targets)


def penalty(results: RunResults) -> str:
    """The probe's penalties."""
    found = (results.probe or {}).items()
    chosen = {name: value for name, value in found if name == "C" or name.startswith("penalty of ")}
    return listed(f"{name.removeprefix('penalty of ')}={value:g}" for name, value in chosen.items())


def results_table(results: RunResults) -> str:
    """Each metric on the test part with its interval, by speakers if there are any, beside the probe's."""
    baseline = results.probe["test"] if results.probe and results.method != "probe" else None
    return markdown(metrics_table("", results.test, results.test.get("intervals"), baseline, best_alone=True))


def other_results(results: RunResults) -> str:
    """The metrics of further test parts, and of predictions that are normalised by speaker or corpus; empty without any."""
    rows = {part: found for part, found in results.metrics.items() if part.startswith("test")}
    several = len(rows) > 1 or any("normalised" in found for found in rows.values())
    return "\n\n".join(map(markdown, by_part(rows, results.probe or {}))) if several else ""


def recalls(results: RunResults) -> str:
    """The recall of each emotion."""
    found = zip(results.emotions, results.test["confusion_matrix"], strict=True)
    return ", ".join(f"{name} {percent(row[i] / sum(row)).text}" for i, (name, row) in enumerate(found) if sum(row))


def split_kind(split: Mapping[str, Any]) -> str:
    """The kind of a split; if it was read from a file, the kind in the file."""
    return str(split["name"] if split["name"] != "file" else split.get("made_as") or "file")


def untested(report: Mapping[str, Any] | None) -> list[str]:
    """Conditions of recordings that the report has not measured."""
    robust = report and report["robustness"]
    kinds = " ".join(entry["kind"] for entry in robust["conditions"]) if robust else ""
    return [name for name, kind in DISTORTIONS.items() if not kind or kind not in kinds]


# Training


def hyperparameters(results: RunResults) -> str:
    """The arguments that differ from their defaults, or have none, and have an effect on the trained model."""
    return ", ".join(
        f"`{name}`: {_value(value)}"
        for name, value in results.training.arguments.items()
        if value not in ([], {}) and name not in FOLLOWING and not WITHOUT_EFFECT.fullmatch(name)
    )


def balanced(results: RunResults) -> bool:
    """Whether the emotions were balanced in training."""
    arguments = {**results.training.defaults, **results.training.arguments}
    return arguments.get("balance", "none") != "none" and DISTRIBUTION not in results.targets


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " and ".join(f"{key} {_value(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " and ".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def citations(results: RunResults) -> list[str]:
    """BibTeX of the corpora, the encoder and the methods, one line for each."""
    of_hubert_ser = all(name in HUBERT_SER for name in results.methods)
    found = [facts.citation if facts else None for facts in abouts(results)]
    papers = {
        ENCODER_PAPERS.get(results.model_type): True,
        "hubertser": of_hubert_ser,
        "feng2023peftser": not of_hubert_ser or split_kind(results.split) == "kfold",
        "hu2021lora": "lora" in results.method,
    }
    for key in [key for key, cited in papers.items() if cited]:
        found += [entry for entry in PAPERS.split("\n\n") if f"{{{key}," in entry]
    return list(dict.fromkeys(" ".join(citation.split()) for citation in found if citation))
