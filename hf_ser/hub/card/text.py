"""The sentences of a model card; `template.md` calls them as `text.NAME`. An empty string leaves a sentence out."""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from hf_ser.corpora import ABOUT, About
from hf_ser.hub.card import bibtex
from hf_ser.rendering.blocks import METRICS, decimal, duration, interval, percent
from hf_ser.rendering.formats import markdown
from hf_ser.rendering.sections import metrics_table
from hf_ser.wording import counted, listed, per_cent

Results = Mapping[str, Any]

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
#: Arguments of a run that do not change what it learns, and that the card states elsewhere.
HIDDEN = re.compile(
    r"(use_cpu|disable_tqdm|report_to|debug|label_names|do_eval|do_train|do_predict|greater_is_better|log_level.*|logging_.*"
    r"|save_.*|push_to_hub.*|hub_.*|run_name|project|trackio_.*|cpu_threads|prepare_workers|dataloader_(pin|num|persist).*"
    r"|frozen_cache_gb|bf16|fp16|(activation|gradient)_checkpointing.*|remove_unused_columns|.*_dir|resume_from_checkpoint)"
)
#: Where the labels of corpora come from, by `About.labels`.
LABELS = {
    "computed": "**Synthetic speech.** {} is babble that a computer made. Metrics on it show that the code works, and say "
    "nothing about people.",
    "asked for": "**Acted emotions.** The speakers of {} were asked to show an emotion, which is the label. Whether the model "
    "recognises what somebody feels was not tested.",
    "perceived": "**Perceived emotions.** The labels of {} are the emotions that most raters perceived. Whether the model "
    "recognises what somebody feels was not tested.",
}
#: Conditions that corpora lack, and the word for them in the kinds of distortion that a report measures.
DISTORTIONS = {
    "noise": "noise", "telephones": "telephone", "music": "", "several people at once": "", "other microphones": ""
}  # fmt: skip


# The model


def methods(results: Results) -> tuple[str, ...]:
    """The methods that a run combined, most often one."""
    return tuple(results["method"].split("+"))


def method_text(results: Results) -> str:
    """The methods in words."""
    targets = results["training"]["arguments"].get("lora_target_modules")
    modules = listed([f"`{name}`" for name in ([targets] if isinstance(targets, str) else targets or [])])
    return listed(
        f"LoRA on {modules}" if modules and name.startswith("lora_") else METHODS.get(name, f"`{name}`")
        for name in methods(results)
    )


def unmerged(results: Results) -> bool:
    """Whether the run leaves an adapter that cannot be merged."""
    names = methods(results)
    return any(name in UNMERGED for name in names) or (
        len(names) > 1 and not all(name.startswith("lora_") for name in names)
    )


def probe_text(results: Results) -> str:
    """The probe, and what fine-tuning added to it."""
    probe = results.get("probe")
    if not probe:
        return ""
    if results["method"] == "probe":
        return (
            "The model is a probe: a logistic regression on statistics of the frozen encoder, without gradient steps (L2 penalty "
            f"of C={probe['C']:g}, by cross-validation over training speakers)."
        )
    points = per_cent(results["metrics"]["test"]["uar"]) - per_cent(probe["test"]["uar"])
    more = f"{abs(points):.1f} points {'more' if points > 0 else 'less'} UAR" if points else "the same UAR"
    text = (
        "The probe is a logistic regression on the frozen encoder, trained on the same clips: the baseline without fine-tuning. "
        f"The model has {more}."
    )
    if results["kept"].get("interpolation") == 0:
        text += " Training made the model worse on validation, so the probe was kept."
    return text


# The corpora


def about(entry: Results) -> About | None:
    """The facts about a corpus of `results.json`; none for a manifest or a data set."""
    return ABOUT.get(entry["read_as"])


def abouts(results: Results) -> list[About | None]:
    return [about(entry) for entry in results["corpora"].values()]


def corpus_name(corpus: str, entry: Results) -> str:
    """The name of a corpus: `RAVDESS` for `ravdess`."""
    facts = about(entry)
    return _name(facts) if facts else corpus


def _name(facts: About) -> str:
    return facts.name.partition(" (")[0]


def corpus_link(corpus: str, entry: Results) -> str:
    """The name of a corpus, linked to its page."""
    if dataset := entry.get("hub_dataset"):
        return f"[{dataset}](https://huggingface.co/datasets/{dataset})"
    facts = about(entry)
    return f"[{_name(facts)}]({facts.homepage})" if facts and facts.homepage else corpus_name(corpus, entry)


def corpora_list(results: Results) -> str:
    """Each corpus with its clips, speakers and licence, and what is said in it."""
    lines = []
    for corpus, entry in results["corpora"].items():
        facts, of = about(entry), f" of {speakers(entry)}" if entry["speakers"] else ""
        text = f"- {corpus_link(corpus, entry)}: {counted(entry['clips'], 'clip')}{of}, {entry['hours']:.2g} h."
        licence = "see its page" if entry.get("hub_dataset") else facts.licence if facts else "not known to hf_ser"
        said = f" {facts.speech[:1].upper()}{facts.speech[1:]}. Speakers: {facts.speakers}." if facts else ""
        lines.append(f"{text} Licence: {licence}.{said}")
    return "\n".join(lines)


def clips_text(results: Results) -> str:
    """Merged emotions, and the clips that were left out, with the reason."""
    names = {corpus: corpus_name(corpus, entry) for corpus, entry in results["corpora"].items()}
    merged = [f"*{source}* counts as *{target}*" for source, target in sorted(results["merged_emotions"].items())]
    others = [f"{count:,} of *{emotion}*" for emotion, count in sorted(results["left_out"].items()) if count]
    excluded = [
        f"{listed(f'{count:,} {reason}' for reason, count in reasons.items())} in {names.get(corpus, corpus)}"
        for corpus, reasons in results["excluded"].items()
    ]
    unused = [f"{count:,} of {names.get(corpus, corpus)}" for corpus, count in results["left_out_by_split"].items()]
    sentences = [
        f"{listed(merged)}." if merged else "",
        f"Clips of other emotions were left out: {listed(others)}." if others else "",
        f"Excluded clips: {'; '.join(excluded)}." if excluded else "",
        f"Clips in no part of the split: {listed(unused)}." if unused else "",
    ]
    return " ".join(filter(None, sentences))


# The evaluation


def shared_speakers(results: Results) -> int | None:
    """How many speakers train and test share, `None` where some speakers are unknown."""
    split = results["split"]
    unknown = any(part["clips_without_speaker"] for part in split["parts"].values())
    shared: int | None = split["speakers_shared_by_train_and_test"]
    return None if unknown and not shared else shared


def warnings(results: Results) -> list[str]:
    """The warnings of a run, speakers in several parts first."""
    found = list(results["warnings"])
    for part in ("validation", "test"):
        shared = results["split"][f"speakers_shared_by_train_and_{part}"]
        if shared and not any(f"both train and {part}" in warning for warning in found):
            found.insert(0, f"{counted(shared, 'speaker is', 'speakers are')} in both train and {part}: metrics on {part} say "
                            "nothing about a new speaker.")  # fmt: skip
    return found


def speakers(part: Results) -> str:
    """`4 speakers`, or `4 known speakers (and 20 clips of unknown ones)`; nothing where none is known."""
    number, unknown = part["speakers"], part["clips_without_speaker"]
    if not number:
        return ""
    if not unknown:
        return counted(number, "speaker")
    return f"{counted(number, 'known speaker')} (and {counted(unknown, 'clip')} of unknown ones)"


def tested_on(results: Results) -> str:
    """The clips and speakers of the test part, and how many of those were in training."""
    part, shared = results["split"]["parts"]["test"], shared_speakers(results)
    clips, of = counted(results["metrics"]["test"]["clips"], "clip"), speakers(part)
    if not of:
        return f"{clips} of unknown speakers"
    if shared:
        number = "all" if shared >= part["speakers"] else f"{shared:,}"
        return f"{clips} of {of}, {number} of whom it was trained on"
    new = " who are not in its training data" if shared == 0 else ""
    return f"{clips} of {of}{new}"


def chance(results: Results) -> str:
    """The UAR of random predictions, in words."""
    return f"chance is {percent(1 / len(results['emotions'])).text}"


def headline(results: Results) -> str:
    """The UAR with its interval, the test clips, and what chance reaches."""
    test = results["metrics"]["test"]
    unit = next((unit for unit in ("speakers", "clips") if test["intervals"][unit]), "")
    level = 100 * test["intervals"]["level"]
    drawn = f"; {level:g} % interval by {unit}: {interval(test['intervals'][unit]['uar']).text}" if unit else ""
    clips = [sum(row) for row in test["confusion_matrix"]]
    return (
        f"**{percent(test['uar']).text} UAR** (unweighted average recall{drawn}) on {tested_on(results)}. For comparison: "
        f"{chance(results)}, and the most frequent emotion is {percent(max(clips) / sum(clips)).text} of the clips."
    )


def results_table(results: Results) -> str:
    """Each metric on the test part with its interval, beside the probe's."""
    test, probe = results["metrics"]["test"], results.get("probe")
    baseline = _best_intervals(probe["test"]) if probe and results["method"] != "probe" else None
    return markdown(metrics_table("", test, _best_intervals(test)["intervals"], baseline))


def _best_intervals(metrics: Results) -> Results:
    """Metrics with their intervals by speakers alone, where there are any: they tell more about new speakers."""
    intervals = metrics.get("intervals")
    return {**metrics, "intervals": {**intervals, "clips": None}} if intervals and intervals["speakers"] else metrics


def recalls(results: Results) -> str:
    """The recall of each emotion."""
    matrix = results["metrics"]["test"]["confusion_matrix"]
    shares = [row[i] / sum(row) if sum(row) else None for i, row in enumerate(matrix)]
    found = zip(results["emotions"], shares, strict=True)
    return ", ".join(f"{name} {percent(share).text}" for name, share in found if share is not None)


def intervals_text(results: Results) -> str:
    """What the intervals mean, and why there is none by speakers."""
    intervals = results["metrics"]["test"]["intervals"]
    if not (intervals["clips"] or intervals["speakers"]):
        return ""
    text = f"Intervals: percentile bootstrap, {intervals['resamples']:,} resamples of"
    if intervals["speakers"]:
        also = ", who are in training, too" if shared_speakers(results) else ""
        return f"{text} speakers with all of their clips{also}."
    return f"{text} clips: too narrow for new speakers. There is none by speakers: {intervals['speakers_reason']}."


def split_kind(split: Results) -> str:
    """The kind of a split: of one that was read from a file, the kind that the file names."""
    return str(split["name"] if split["name"] != "file" else split.get("made_as") or "file")


def split_text(results: Results) -> str:
    """What the kind of the split means."""
    split, shared = results["split"], shared_speakers(results)
    random = (
        "whether train and test share speakers is unknown" if shared is None
        else "train and test share speakers, and the metrics say nothing about a new speaker" if shared
        else "here train and test share no speaker"
    )  # fmt: skip
    by = split.get("by", "speaker")
    kinds = {
        "speaker": "every speaker is in one part only (speaker-independent)",
        "random": f"clips are drawn at random, as in HuBERT-SER; {random}",
        "kfold": f"fold {split.get('fold', 0) + 1} of {split.get('folds')}, PEFT-SER's folds by {by}: no {by} is in two parts. "
        "Other folds give other metrics",
        "official": "the parts that the corpus defines",
        "file": "the parts of a file",
    }
    texts = [
        kinds.get(split_kind(split), ""),
        "read from the splits.json of an earlier run" if split["name"] == "file" else "",
    ]
    return "; ".join(filter(None, texts))


def parts_text(results: Results) -> str:
    """Clips and speakers of each part, and the speakers that they share."""
    split = results["split"]
    parts = [f"{name} has {counted(part['clips'], 'clip')} of {speakers(part) or 'unknown speakers'}"
             for name, part in split["parts"].items()]  # fmt: skip
    shared = [f"Speakers shared by train and {part}: {split[f'speakers_shared_by_train_and_{part}']}."
              for part in ("test", "validation") if split[f"speakers_shared_by_train_and_{part}"] is not None]  # fmt: skip
    unknown = sum(part["clips_without_speaker"] for part in split["parts"].values())
    if unknown:
        shared.append(
            f"The speakers of {counted(unknown, 'clip')} are unknown; whether train and test share them cannot be told."
        )
    text = listed(parts)
    return " ".join([f"{text[:1].upper()}{text[1:]}.", *shared])


def kept_text(results: Results) -> str:
    """Which weights were kept, and by which metric."""
    kept, epochs = results["kept"], results["training"]["epochs"]
    metric, _, part = kept["by"].partition(" on ")
    if results["method"] == "probe":
        return ""
    if part:
        metric = metric.removeprefix("eval_")
        name, form = METRICS.get(metric, (metric, decimal))
        text = f"the weights of epoch {kept['epoch']:g} of {epochs:g}, the best by {name} on {part} ({form(kept['value']).text})"
    elif steps := kept.get("averaged_steps"):
        text = f"the mean of the weights after each of the last {steps} steps of {epochs:g} epochs"
    else:
        text = f"the weights of the last of {epochs:g} epochs"
    text = f"Kept: {text}. The test part was not used for that."
    if kept.get("interpolation") is not None:
        text += (
            f" Between the probe and these weights, the point at {percent(kept['interpolation']).text} of the way was kept: half "
            "way, unless validation is clearly for another point"
        )
        tried = ", ".join(percent(value).text for value in kept["validation_uar"])
        text += f" (its UAR at equal distances from the probe on: {tried})." if tried else "."
    return text


def measured_text(results: Results) -> str:
    """The precision of the evaluation, and how clips were cut in it."""
    sentences = [f"The metrics are per clip, computed in {results['evaluated_in']}."]
    if seconds := results["training"]["arguments"].get("max_seconds"):
        sentences.append(
            f"The metrics were measured on the first {seconds:g} s of each clip; the published model receives whole clips."
        )
    segments = results["segments"]
    if segments["length"]:
        overlap = f" that overlap by {segments['overlap']:g} s" if segments["overlap"] else ""
        sentences.append(
            f"Longer clips were cut into segments of {segments['length']:g} s{overlap}; the probabilities of a clip are the mean "
            "over its segments."
        )
    return " ".join(sentences)


# Limitations


def limitations(results: Results, report: Results | None) -> list[str]:
    """The limits that follow from corpora, split and emotions. What the report has measured is not said to be untested."""
    facts = [each for each in abouts(results) if each]
    found = []
    for labels, limit in LABELS.items():
        if names := [_name(each) for each in facts if each.labels == labels]:
            found.append(limit.format(listed(names)))
    spoken = [each for each in facts if each.labels != "computed"]
    if len(spoken) == len(results["corpora"]) and {each.language for each in spoken} == {"en"}:
        free = any(each.text == "free" for each in spoken)
        found.append(
            f"**English.** Other languages were not tested{'' if free else ', nor free speech and conversations'}."
        )
    if varied := [_name(each) for each in spoken if each.text in ("read", "free")]:
        found.append(
            f"**Words.** In {listed(varied)} the words differ between emotions; the model may have learned words."
        )
    train, test = (speakers(results["split"]["parts"][part]) for part in ("train", "test"))
    if train:
        fair = report and report["fairness"]["equality_of_odds"] is not None
        found.append(
            f"**Speakers.** It was trained on {train}{f' and tested on {test}' if test else ''}. Other ages, accents and ways of "
            f"speaking were not tested{'' if fair else ', nor whether it treats women and men alike'}."
        )
    kinds = (
        " ".join(entry["kind"] for entry in report["robustness"]["conditions"])
        if report and report["robustness"]
        else ""
    )
    untested = [name for name, kind in DISTORTIONS.items() if not kind or kind not in kinds]
    number = len(results["emotions"])
    return [
        *found,
        f"**Recordings.** Not tested: {listed(untested)}.",
        f"**Always a prediction.** It predicts one of its {number} emotions for any input, silence included. Its probabilities "
        "are not calibrated.",
    ]


# Training


def training_text(results: Results) -> str:
    """The trained parameters, the steps, the hardware and the time."""
    training, parameters, device = results["training"], results["parameters"], results["environment"]["device"]
    share = f"{100 * parameters['trainable'] / parameters['total']:.3g}"
    if share == "100" and parameters["trainable"] < parameters["total"]:
        share = "over 99.9"
    head = (
        "; batch norm and dropout before the last layer, folded into it afterwards"
        if results["head"] == "batchnorm"
        else ""
    )
    processes = ""
    if training["processes"] > 1:
        machines = f" on {training['machines']} machines" if training["machines"] > 1 else ""
        processes = f", {training['processes']} processes{machines} ({training['parallelism']})"
    # The time of an earlier process is not known.
    since = f" since {training['resumed_from']}" if training["resumed_from"] else ""
    return (
        f"{parameters['trainable']:,} of {parameters['total']:,} parameters ({share} %){head}. {training['epochs']:g} epochs, "
        f"{counted(training['steps'], 'step')} of {counted(training['clips_per_step'], 'clip')}, in {training['precision']}, "
        f"took {duration(training['seconds'])}{since} on {device}{processes}"
    )


def hyperparameters(results: Results) -> str:
    """The hyperparameters that are not at their defaults."""
    return ", ".join(
        f"`{name}`: {_value(value)}"
        for name, value in results["training"]["arguments"].items()
        if not HIDDEN.fullmatch(name)
        and not (isinstance(value, str) and PurePath(value).is_absolute())
        and value not in ([], {})
    )


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " and ".join(f"{key} {_value(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " and ".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def command_line(results: Results) -> str:
    """The command, with the last part of every absolute path."""
    return re.sub(r"(?<![^\s='\":])~?/(?:[^\s'\"/]*/)*(?=[^\s'\"/])", "", results["command"])


def citations(results: Results) -> list[str]:
    """BibTeX of the corpora, the encoder and the methods, a line each."""
    of_hubert_ser = all(name in HUBERT_SER for name in methods(results))
    found = [facts.citation if facts else None for facts in abouts(results)]
    found += [bibtex.ENCODERS.get(results["model_type"]), bibtex.HUBERT_SER if of_hubert_ser else None]
    if not of_hubert_ser or split_kind(results["split"]) == "kfold":
        found.append(bibtex.PEFT_SER)
    if "lora" in results["method"]:
        found.append(bibtex.LORA)
    return list(dict.fromkeys(" ".join(citation.split()) for citation in found if citation))
