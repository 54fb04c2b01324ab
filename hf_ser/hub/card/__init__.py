"""The model card of a run, with the metadata of the Hub: `template.md`, filled only from `results.json` and `report.json`."""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files as files_of
from itertools import starmap
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_ser import records
from hf_ser.hub.card import text
from hf_ser.hub.privacy import each_text, without_paths
from hf_ser.modeling.load import TINY
from hf_ser.records import ADAPTER_CONFIG, CARD, CONFIG, PLOTS, REPORT, REPORT_FOLDER, SPLITS
from hf_ser.rendering.blocks import METRICS, decimal, duration, interval, percent
from hf_ser.rendering.formats import markdown
from hf_ser.rendering.headline import answers, cautions, one_line
from hf_ser.rendering.tables import CAPTIONS, CARD_PICTURES, further
from hf_ser.results import RunResults
from hf_ser.tuning.methods import PLAIN
from hf_ser.wording import counted, listed, per_cent

logger = logging.getLogger(__name__)

#: The report's plots that the card shows, by name.
PICTURES = {name: f"{REPORT_FOLDER}/{name}.png" for name in CARD_PICTURES}
#: The largest difference between the UAR or CCC of report and run: the rounding depends on device and batches.
TOLERANCE = 1e-3
TEMPLATE = "template.md"
#: The metrics in the Hub's words: type, arguments.
METRIC_TYPES: dict[str, tuple[str, dict[str, str] | None]] = {
    "uar": ("recall", {"average": "macro"}),
    "accuracy": ("accuracy", None),
    "f1_weighted": ("f1", {"average": "weighted"}),
    "f1_macro": ("f1", {"average": "macro"}),
    "eer": ("eer", None),
}
#: The metadata's licence where the corpora have several, or one that the Hub does not know.
CORPORA_LICENCES = "licences-of-the-corpora"
#: Files that the card shows or names where they are there.
CARD_FILES = (*PLOTS, SPLITS, *PICTURES.values())
#: Matches Markdown code, whose content is shown unchanged, or `<`, which could begin HTML.
CODE_OR_HTML = re.compile(r"^```.*?^```$|(?<!`)(`+)(?!`)[^\n|]+?(?<!`)\1(?!`)|<", re.MULTILINE | re.DOTALL)


def make_card(
    results: RunResults,
    *,
    report: Mapping[str, Any] | None = None,
    model_id: str | None = None,
    revision: str | None = None,
    license: str | None = None,
    language: str | list[str] | None = None,
    base_model: str | None = None,
    tags: Sequence[str] = (),
    folder: str = "model",
    adapter: bool = False,
    merged: bool = False,
    files: Sequence[str] = CARD_FILES,
) -> ModelCard:
    """
    The card of a run.

    Args:
        results (`RunResults`): The results of the run.
        report (`dict`, *optional*): The content of the run's `report.json`.
        model_id (`str`, *optional*): The model's name on the Hub, `user/name`, for the code in the card.
        revision (`str`, *optional*): Its branch on the Hub, if it is not the main one.
        license (`str`, *optional*): The model's licence in the Hub's spelling. By default that of its corpus; of corpora with
            different licences `other`; none where a corpus' licence is unknown.
        language (`str` or `list[str]`, *optional*): ISO 639-1 codes, by default those of the corpora.
        base_model (`str`, *optional*): The encoder's name on the Hub, if `results` does not have it.
        tags (`Sequence[str]`): More tags.
        folder (`str`): The name of the model's folder, for the code in the card of a model that is not on the Hub.
        adapter (`bool`): Whether the model is an adapter without its encoder.
        merged (`bool`): Whether the adapter was merged into the checkpoint and is also saved in `adapter/`.
        files (`Sequence[str]`): Those of `CARD_FILES` that are beside the card.
    """
    # Each text in one line, so that no name is a heading or breaks a table.
    results, report = RunResults.from_dict(each_text(results.to_dict(), one_line)), each_text(report, one_line)
    on_hub = base_model or (results.base_model if results.base_model_on_hub else None)
    name = Path(on_hub or results.base_model).name
    place = json.dumps(model_id or folder, ensure_ascii=False)
    if model_id and revision:
        place += f", revision={json.dumps(revision, ensure_ascii=False)}"
    inside = f'{place}, subfolder="adapter"' if model_id else json.dumps(f"{folder}/adapter", ensure_ascii=False)
    licence = {"license": license} if license else licence_of_corpora(results)
    metadata = card_metadata(results, language=language, base_model=on_hub, tags=tags, adapter=adapter, licence=licence,
                             model_name=model_id or f"{name}-{'-'.join(results.methods)}")  # fmt: skip
    content = _template().render(
        metadata=metadata.to_yaml(),
        results=results,
        report=report,
        answers=answers(report) if report else [],
        alarms=[caution.text for caution in cautions(report) if caution.alarm] if report else [],
        pictures=[(CAPTIONS[key], path) for key, path in PICTURES.items() if path in files],
        base=f"[`{on_hub}`](https://huggingface.co/{on_hub})" if on_hub else f"`{name}`",
        base_name=name,
        base_is_local=on_hub is None and name != TINY,
        corpora=listed(starmap(text.corpus_link, results.corpora.items())),
        place=place,
        adapter=adapter,
        adapter_place=inside if merged else "",
        licence=None if license else metadata.license,
        given=license,
        files=files,
    )
    head, end, body = content.partition("\n---\n")
    body = CODE_OR_HTML.sub(lambda found: "&lt;" if found[0] == "<" else found[0], body)
    content = re.sub(r"[ \t]+\n", "\n", head + end + body)
    return ModelCard(re.sub(r"\n{3,}", "\n\n", content).strip() + "\n")


@cache
def _template() -> jinja2.Template:
    """The template of a card, which takes longer to compile than to fill."""
    # Markdown, in which HTML is escaped below.
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)  # noqa: S701
    environment.filters |= {
        "percent": lambda share: percent(share).text,
        "interval": lambda edges: interval(edges).text,
        "short_name": text.short_name,
    }
    environment.globals |= {"text": text, "METRICS": METRICS, "decimal": decimal, "duration": duration, "counted": counted,
                            "further": further, "listed": listed, "markdown": markdown, "per_cent": per_cent,
                            "vars": vars}  # fmt: skip
    return environment.from_string(files_of(__name__).joinpath(TEMPLATE).read_text(encoding="utf-8"))


def card_metadata(
    results: RunResults,
    *,
    model_name: str,
    licence: Mapping[str, Any],
    language: str | list[str] | None,
    base_model: str | None,
    tags: Sequence[str],
    adapter: bool,
) -> ModelCardData:
    """The metadata of a card, as the Hub reads them."""
    languages = sorted({about.language for about in text.abouts(results) if about and about.language})
    types = {kind for key, (kind, _) in METRIC_TYPES.items() if results.test.get(key) is not None}
    types |= {"ccc"} if results.dimensions else set()
    own = [
        "speech-emotion-recognition",
        "emotion-recognition",
        "speech",
        "hf_ser",
        results.model_type,
        *results.methods,
    ]
    lora = ["lora"] if "lora" in results.method else []
    return ModelCardData(
        language=language or languages or None,
        **licence,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="audio-classification",
        base_model=base_model,
        base_model_relation=("adapter" if adapter else "finetune") if base_model else None,
        datasets=sorted({corpus.hub_dataset for corpus in results.corpora.values() if corpus.hub_dataset}) or None,
        metrics=[kind for kind in ("accuracy", "f1", "recall", "eer", "ccc") if kind in types],
        tags=list(dict.fromkeys([*own, *lora, *results.corpora, *tags])),
        model_name=model_name.rpartition("/")[2],
        eval_results=evaluation_results(results),
    )


def licence_of_corpora(results: RunResults) -> dict[str, Any]:
    """The metadata's `license`, its name and link, if they follow from the corpora."""
    facts = [about for about in text.abouts(results) if about]
    if not facts or len(facts) < len(results.corpora):
        return {}
    if len({about.licence_id for about in facts}) == 1 and facts[0].licence_id:
        return {"license": facts[0].licence_id}
    link = facts[0].homepage if len(facts) == 1 else None
    return {"license": "other", "license_name": CORPORA_LICENCES, "license_link": link}


def evaluation_results(results: RunResults) -> list[EvalResult]:
    """
    The test metrics for the Hub's `model-index`. The name of the data set includes the split and the number of speakers that
    train and test share, so that the Hub shows them beside the metric.
    """
    corpora, split, shared = results.corpora, results.split["name"], results.shared_speakers()
    speakers = "no speaker" if shared == 0 else counted(shared or 0, "speaker")
    both = "" if shared is None else f", {speakers} in both train and test"
    hub = [corpus.hub_dataset for corpus in corpora.values() if corpus.hub_dataset]
    found = [
        (kind, METRICS[key][0], results.test[key], arguments)
        for key, (kind, arguments) in METRIC_TYPES.items()
        if results.test.get(key) is not None
    ]
    found += [
        ("ccc", f"CCC of {name}", of["ccc"], None)
        for name, of in results.test.get("dimensions", {}).items()
        if of["ccc"] is not None
    ]
    return [
        EvalResult(
            task_type="audio-classification",
            task_name="Speech emotion recognition",
            dataset_type=hub[0] if len(hub) == len(corpora) == 1 else "+".join(corpora),
            dataset_name=f"{' + '.join(text.corpus_names(results).values())} ({split} split{both})",
            dataset_config=split,
            dataset_split="test",
            metric_type=kind,
            metric_name=f"Test {name} ({split} split)",
            metric_value=round(value, 4),
            metric_args=arguments,
        )
        for kind, name, value, arguments in found
    ]


def write_card(results: RunResults, folder: Path, **given: Any) -> None:
    """
    Writes the model card of a run, `README.md`, into its folder. It depends on the files there (an adapter, a `report.json` of
    this run, plots) and on the arguments that are `given`, see [`make_card`].
    """
    if (folder / CONFIG).exists():
        adapter, merged = (folder / ADAPTER_CONFIG).exists(), (folder / "adapter").is_dir()
    else:  # the results alone
        adapts = results.method not in PLAIN
        adapter = text.unmerged(results) or (adapts and results.training.arguments.get("save_format") == "adapter")
        merged = adapts and not adapter
    files = [name for name in CARD_FILES if (folder / name).exists()]
    card = make_card(results, report=read_report(folder, results), folder=folder.resolve().name, adapter=adapter,
                     merged=merged, files=files, **given)  # fmt: skip
    (folder / CARD).write_text(str(card), encoding="utf-8")


def read_report(folder: Path, results: RunResults) -> dict[str, Any] | None:
    """
    The report in a run's folder, without paths of this machine. `None` if there is none; and, with a warning, if it is not
    one of this run's test part.
    """
    path = folder / REPORT
    if not path.is_file():
        return None
    try:
        report = records.read(path)
        reason = why_another(report, results)
    except (ValueError, LookupError, TypeError) as error:
        reason = f"it cannot be read ({type(error).__name__}: {error})"
    if reason:
        logger.warning("%s is left out: %s", path, reason)
        return None
    return dict(without_paths(report))


def why_another(report: Mapping[str, Any], results: RunResults) -> str | None:
    """The reason why a report is not one of this run's test part; `None` if it is."""
    if not report.get("clips") or not report.get("quality"):
        return "it is not a report of hf-ser evaluate"
    if (precision := report["model"]["precision"]) != "float32":
        return f"its metrics are of the model in {precision}"
    clips, test = report["clips"], results.test
    if clips["part"] != "test":
        return f"its clips are not the test part of the run's own split (part: {clips['part']})"
    if clips["number"] != test["clips"]:
        return f"it has {clips['number']} clips, and the run's test part {test['clips']}"
    main = results.main_metric
    form, ours = METRICS[main][1], test.get(main)
    theirs = report["quality"]["overall"].get(main)
    if (theirs is None) != (ours is None) or (ours is not None and abs(theirs - ours) > TOLERANCE):
        found = f"{form(theirs).text}, and the run's {form(ours).text}"
        return f"its {main.upper()} is {found}: it is of another model, or of other clips"
    return None
