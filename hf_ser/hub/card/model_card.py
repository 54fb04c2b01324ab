"""
The model card of a run: `results.json` in the words of `model_cards/template.md`, with the metadata that the Hub reads.

The card holds what `results.json` says, and the run's `report.json` if there is one, and nothing else: what is not there
leaves its section out.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import starmap
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_ser.hub.card import report as report_text
from hf_ser.hub.card import text
from hf_ser.hub.card.corpora import abouts, corpus_link, corpus_name
from hf_ser.hub.card.figures import SHORT_METRICS
from hf_ser.hub.card.methods import method_words, methods, unmerged
from hf_ser.hub.card.split import shared_speakers
from hf_ser.hub.card.words import known
from hf_ser.records import SPLITS
from hf_ser.wording import counted, listed

CARD = "README.md"
TEMPLATE = "model_cards/template.md"
TASK = ("audio-classification", "Speech emotion recognition")
#: How the Hub calls the figures: type, arguments.
METRIC_TYPES: dict[str, tuple[str, dict[str, str] | None]] = {
    "uar": ("recall", {"average": "macro"}),
    "accuracy": ("accuracy", None),
    "f1_weighted": ("f1", {"average": "weighted"}),
    "f1_macro": ("f1", {"average": "macro"}),
    "eer": ("eer", None),
}
#: The name of the metadata's licence where the corpora have several, or one that the Hub does not know.
CORPORA_LICENCES = "licences-of-the-corpora"
#: Files of a run's folder that the card shows or names where they are there.
FILES = ("confusion_matrix.png", "training_curves.png", SPLITS, "set_aside.csv", *report_text.PICTURES)
#: The package's own encoder, see `hf_ser.models.tiny`.
TINY = "hubert-tiny-random"


@dataclass
class SERModelCardData(ModelCardData):
    """
    What a model card is made of. Make it with [`SERModelCardData.from_results`].

    Args:
        model_id (`str`, *optional*): The model's name on the Hub, `user/name`; the card's code opens it from there.
        revision (`str`, *optional*): The branch that it is on there, if that is not the main one.
        license (`str`, *optional*):
            The model's licence, as the Hub's metadata spell it. By default that of its corpus; of several corpora with
            different licences `other`; none where a corpus' licence is not known.
        language (`str` or `list[str]`, *optional*): ISO 639-1 codes. By default those of the corpora that are known.
        base_model (`str`, *optional*): The encoder's name on the Hub, where `results` does not have it.
        tags (`list[str]`, *optional*): Tags beside the card's own.
    """

    # Given by the user
    model_id: str | None = None
    revision: str | None = None
    license: str | None = None
    language: str | list[str] | None = None
    base_model: str | None = None
    tags: list[str] | None = None

    # Filled in by the run
    results: Mapping[str, Any] = field(default_factory=dict, repr=False)
    report: Mapping[str, Any] | None = field(default=None, repr=False)
    folder: str = "model"  # its name, by which the code opens a model that is not on the Hub
    adapter: bool = False  # the repository holds an adapter alone
    merged: bool = False  # it holds a checkpoint, and in `adapter/` the adapter that was merged into it
    files: tuple[str, ...] = FILES  # those of `FILES` that are beside the card

    # Computed once
    license_given: bool = field(init=False)
    license_name: str | None = field(default=None, init=False)
    license_link: str | None = field(default=None, init=False)
    base_model_name: str = field(init=False)
    library_name: str = field(init=False)
    pipeline_tag: str = field(default="audio-classification", init=False)
    datasets: list[str] | None = field(init=False)
    metrics: list[str] | None = field(init=False)
    model_name: str = field(init=False)
    eval_results: list[EvalResult] = field(init=False)

    def __post_init__(self) -> None:
        results = self.results
        self.license_given = self.license is not None
        if not self.license_given:
            self.license, self.license_name, self.license_link = licence_of_corpora(results)
        base = str(results.get("base_model") or "")
        if self.base_model is None and (base_on_hub := results.get("base_model_on_hub", is_hub_name(base))):
            self.base_model = base if base_on_hub and base else None
        self.base_model_name = Path(self.base_model or base or "a speech encoder").name
        self.library_name = "peft" if self.adapter else "transformers"
        corpora = results.get("corpora") or {}
        if self.language is None:
            languages = {about.language for about in abouts(results).values() if about and about.language}
            self.language = sorted(languages) or None
        self.datasets = sorted({entry["hub_dataset"] for entry in corpora.values() if entry.get("hub_dataset")}) or None
        there = {kind for key, (kind, _) in METRIC_TYPES.items() if known(results["metrics"]["test"].get(key))}
        self.metrics = [kind for kind in ("accuracy", "f1", "recall", "eer") if kind in there] or None
        lora = ["lora"] if "lora" in results["method"] else []
        own = ["speech-emotion-recognition", "emotion-recognition", "speech", "hf_ser", results.get("model_type")]
        tags = [*own, *methods(results), *lora, *corpora, *(self.tags or [])]
        self.tags = list(dict.fromkeys(tag for tag in tags if tag))
        self.model_name = (self.model_id or f"{self.base_model_name}-{'-'.join(methods(results))}").rpartition("/")[2]
        self.eval_results = evaluation_results(results)

    @classmethod
    def from_results(
        cls,
        results: Mapping[str, Any],
        *,
        report: Mapping[str, Any] | None = None,
        model_id: str | None = None,
        revision: str | None = None,
        license: str | None = None,
        language: str | list[str] | None = None,
        base_model: str | None = None,
        tags: list[str] | None = None,
        folder: str = "model",
        adapter: bool = False,
        merged: bool = False,
        files: tuple[str, ...] = FILES,
    ) -> "SERModelCardData":
        """
        The card of a run. Of `results` (what `results.json` holds) it needs `emotions`, `method`, `metrics.test` and `split`
        with `name` and `parts`; the rest may be missing. `report` is what the run's `report.json` holds, if there is one.

        Raises:
            ValueError: if one of these is missing.
        """
        missing = [key for key in ("emotions", "method", "metrics", "split") if not results.get(key)]
        missing += [f"metrics.{key}" for key in ("test",) if not (results.get("metrics") or {key: 1}).get(key)]
        missing += [f"split.{key}" for key in ("name", "parts") if not (results.get("split") or {key: 1}).get(key)]
        if missing:
            raise ValueError(f"these results are not those of a run: they lack {', '.join(missing)}")
        return cls(
            model_id=model_id,
            revision=revision,
            license=license,
            language=language,
            base_model=base_model,
            tags=tags,
            results=results,
            report=report,
            folder=folder,
            adapter=adapter,
            merged=merged,
            files=files,
        )

    def to_dict(self) -> dict[str, Any]:
        """The metadata alone, as the Hub reads them."""
        relation = "adapter" if self.adapter else "finetune"
        return ModelCardData(
            language=self.language,
            license=self.license,
            license_name=self.license_name,
            license_link=self.license_link,
            library_name=self.library_name,
            pipeline_tag=self.pipeline_tag,
            base_model=self.base_model,
            base_model_relation=relation if self.base_model else None,
            datasets=self.datasets,
            metrics=self.metrics,
            tags=self.tags,
            model_name=self.model_name,
            eval_results=self.eval_results,
        ).to_dict()


def is_hub_name(name: str) -> bool:
    """Whether a base model is called as on the Hub, `user/name`, and there is no such folder."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name)) and not Path(name).exists()


def licence_of_corpora(results: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    """The metadata's licence, its name and its link, as far as they follow from the corpora."""
    corpora = abouts(results).values()
    facts = [about for about in corpora if about]
    if not facts or len(facts) < len(corpora):
        return None, None, None
    identifiers = {about.licence_id for about in facts}
    if len(identifiers) == 1 and facts[0].licence_id:
        return facts[0].licence_id, None, None
    return "other", CORPORA_LICENCES, facts[0].homepage if len(facts) == 1 else None


def evaluation_results(results: Mapping[str, Any]) -> list[EvalResult]:
    """
    The test part's figures for the Hub's `model-index`, between 0 and 1. The data set is called by its split and by whether
    train and test share speakers, so that whoever sees the figure alone sees on what it was taken.
    """
    corpora = results.get("corpora") or {}
    split, test = results["split"], results["metrics"]["test"]
    shared = shared_speakers(results)
    told = {None: "", 0: ", no speaker in both train and test"}.get(
        shared, f", {counted(shared or 0, 'speaker')} in both train and test"
    )
    hub = [entry["hub_dataset"] for entry in corpora.values() if entry.get("hub_dataset")]
    return [
        EvalResult(
            task_type=TASK[0],
            task_name=TASK[1],
            dataset_type=hub[0] if len(hub) == len(corpora) == 1 else "+".join(corpora) or "speech",
            dataset_name=f"{' + '.join(starmap(corpus_name, corpora.items())) or 'speech'} ({split['name']} split{told})",
            dataset_config=split["name"],
            dataset_split="test",
            metric_type=kind,
            metric_name=f"Test {SHORT_METRICS[key]} ({split['name']} split)",
            metric_value=round(test[key], 4),
            metric_args=arguments,
        )
        for key, (kind, arguments) in METRIC_TYPES.items()
        if known(test.get(key))
    ]


def make_card(data: SERModelCardData) -> ModelCard:
    """Renders the card."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.ChainableUndefined)
    environment.globals = {"text": text, "measured": report_text}
    content = environment.from_string(template()).render(
        card=data, metadata=data.to_yaml(), results=data.results, **_opening(data), **_words(data)
    )
    content = re.sub(r"[ \t]+\n", "\n", content)
    return ModelCard(re.sub(r"\n{3,}", "\n\n", content).strip() + "\n")


def template() -> str:
    """The card's template: inside the installed package, or beside it in a clone."""
    inside, beside = files("hf_ser").joinpath(TEMPLATE), Path(__file__).parents[3] / TEMPLATE
    return (inside if inside.is_file() else beside).read_text(encoding="utf-8")


def _opening(data: SERModelCardData) -> dict[str, str]:
    """How the card's code opens the model, and its adapter."""
    place = json.dumps(data.model_id or data.folder, ensure_ascii=False)
    if data.model_id and data.revision:
        place += f", revision={json.dumps(data.revision, ensure_ascii=False)}"
    adapter = (
        f'{place}, subfolder="adapter"' if data.model_id else json.dumps(f"{data.folder}/adapter", ensure_ascii=False)
    )
    return {"place": place, "adapter_place": adapter if data.merged else ""}


def _words(data: SERModelCardData) -> dict[str, str]:
    """What several sections say: the base model, the corpora, the method."""
    results = data.results
    heading, words = method_words(results)
    corpora = [corpus_link(name, entry) for name, entry in (results.get("corpora") or {}).items()]
    if data.base_model:
        base = f"[`{data.base_model}`](https://huggingface.co/{data.base_model})"
    elif data.base_model_name == TINY:
        base = f"`{TINY}`, a small HuBERT that hf_ser makes with random weights"
    else:
        base = f"`{data.base_model_name}`" if results.get("base_model") else "a speech encoder"
    name = data.base_model_name if data.base_model or results.get("base_model") else "A speech encoder"
    return {
        "title": f"{name} for speech emotion recognition ({heading})",
        "base": base,
        "corpora": listed(corpora),
        "method_words": words,
    }


def write_card(results: Mapping[str, Any], folder: Path, **given: Any) -> None:
    """
    Writes `README.md` into a run's folder: its model card.

    Args:
        results (`dict`): What `results.json` holds.
        folder (`Path`):
            The run's folder. Whether it holds an adapter, a `report.json` of this run, and which pictures, decides what the
            card shows.
        given: `model_id`, `revision`, `license`, `language`, `base_model` and `tags`, see [`SERModelCardData`].

    Raises:
        ValueError: if `results` lacks what a card needs.
    """
    lora = "lora" in str(results.get("method"))
    save_format = ((results.get("training") or {}).get("arguments") or {}).get("save_format")
    model_here = (folder / "config.json").exists()
    adapter = (
        (folder / "adapter_config.json").exists()
        if model_here
        else unmerged(results) or (lora and save_format == "adapter")
    )
    data = SERModelCardData.from_results(
        results,
        report=report_text.read_report(folder, results) if (results.get("metrics") or {}).get("test") else None,
        folder=folder.resolve().name,
        adapter=adapter,
        merged=(folder / "adapter").is_dir() if model_here else lora and not adapter,
        files=tuple(name for name in FILES if (folder / name).exists()),
        **given,
    )
    (folder / CARD).write_text(str(make_card(data)), encoding="utf-8")
