"""The sentences and tables of a model card that depend on a run's results. What is not known gives an empty string."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from hf_ser.corpora import ABOUT, About
from hf_ser.hub import card_citations

Results = Mapping[str, Any]

#: The figures of a part, in the order of the card: key in `results.json`, name.
METRICS = {
    "uar": "UAR (unweighted average recall)",
    "accuracy": "Accuracy",
    "f1_weighted": "F1, weighted",
    "f1_macro": "F1, macro",
    "eer": "EER (equal error rate; lower is better)",
}
SHORT_METRICS = {
    "uar": "UAR",
    "accuracy": "accuracy",
    "f1_weighted": "weighted F1",
    "f1_macro": "macro F1",
    "eer": "EER",
}

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


def methods(results: Results) -> tuple[str, ...]:
    """The methods that a run combined, most often one."""
    return tuple(str(results.get("method") or "").split("+"))


def unmerged(results: Results) -> bool:
    """Whether the run leaves an adapter alone: nothing merges it, and peft knows it through hf_ser alone."""
    names = methods(results)
    return any(name in UNMERGED for name in names) or (
        len(names) > 1 and not all(name.startswith("lora_") for name in names)
    )


#: Those of HuBERT-SER; the others are PEFT-SER's.
HUBERT_SER = ("full", "lora_qkv", "lora_classifier")

#: The languages of the corpora.
LANGUAGES = {"en": "English"}

#: Arguments of a run that decide where it ran, how much memory it took and what it printed, not what it learned; and those
#: that the card tells in other words.
UNTOLD = re.compile(
    r"(use_cpu|disable_tqdm|report_to|debug|label_names|do_eval|do_train|do_predict|greater_is_better|log_level.*|logging_.*"
    r"|save_.*|push_to_hub.*|hub_.*|run_name|project|trackio_.*|cpu_threads|prepare_workers|dataloader_(pin|num|persist).*"
    r"|frozen_cache_gb|bf16|fp16|(activation|gradient)_checkpointing.*|remove_unused_columns|.*_dir|resume_from_checkpoint)"
)


def table(head: Sequence[str], rows: Sequence[Sequence[object]], left: Sequence[int] = (0,)) -> str:
    """
    A Markdown table; the columns in `left` lean to the left, the others to the right. A column that is empty in all rows
    is left out.
    """
    cells = [[_cell(cell) for cell in row] for row in rows]
    used = [i for i in range(len(head)) if any(row[i] for row in cells)]
    lines = [[_cell(head[i]) for i in used], ["---" if i in left else "---:" for i in used]]
    lines += [[row[i] for i in used] for row in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if cells else ""


def _cell(value: object) -> str:
    text = "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def known(value: Any) -> bool:
    """Whether there is something to tell: not `None`, not NaN, not empty."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is not None and value != "" and value != [] and value != {}


def percent(value: float | None) -> str:
    """A share as `58.4 %`."""
    return f"{100 * value:.1f} %" if value is not None and math.isfinite(value) else ""


def listed(words: Sequence[str], last: str = "and") -> str:
    """`a, b and c`."""
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 clip`, `1,079 clips`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """`45 s`, `10 min 26 s`, `3 h 20 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.3g} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def about(corpus: str, entry: Results | None) -> About | None:
    """
    The facts about a corpus, where it was read by its own reader: a data set or a manifest that is called as one of the known
    corpora is another. `entry` is what `results.json` has of it; older ones do not name the reader.
    """
    entry = entry or {}
    return ABOUT.get(entry.get("read_as") or ("dataset" if entry.get("hub_dataset") else corpus))


def abouts(results: Results) -> dict[str, About | None]:
    """The facts about each corpus, `None` where they are not known."""
    return {corpus: about(corpus, entry) for corpus, entry in (results.get("corpora") or {}).items()}


def corpus_name(corpus: str, entry: Results | None) -> str:
    """A corpus as people call it: `RAVDESS` for `ravdess`; one that is not known keeps its name."""
    facts = about(corpus, entry)
    return facts.name.partition(" (")[0] if facts else corpus


def corpus_link(corpus: str, entry: Results) -> str:
    """Its name, linked to where it is to be had."""
    if dataset := entry.get("hub_dataset"):
        return f"[{dataset}](https://huggingface.co/datasets/{dataset})"
    facts = about(corpus, entry)
    name = corpus_name(corpus, entry)
    return f"[{name}]({facts.homepage})" if facts and facts.homepage else name


def speakers(part: Results) -> str:
    """`4 speakers`, or `4 known speakers (and 20 clips of unknown ones)`; nothing where none is known."""
    number, unknown = part.get("speakers"), part.get("clips_without_speaker")
    if not number:
        return ""
    if not unknown:
        return counted(number, "speaker")
    return f"{counted(number, 'known speaker')} (and {counted(unknown, 'clip')} of unknown ones)"


# What was found


def intervals_head(results: Results) -> list[str]:
    """The heads of the columns for a metric's intervals."""
    intervals = results["metrics"]["test"].get("intervals") or {}
    level = f"{100 * intervals['level']:g} % interval" if "level" in intervals else ""
    return [f"{level}, by {unit}" for unit in ("clip", "speaker") if intervals.get(f"{unit}s")]


def interval(results: Results, unit: str, metric: str) -> str:
    """`52.3 to 64.4 %`, by `clips` or `speakers`."""
    edges = ((results["metrics"]["test"].get("intervals") or {}).get(unit) or {}).get(metric)
    return f"{100 * edges[0]:.1f} to {100 * edges[1]:.1f} %" if edges else ""


def figures_table(results: Results) -> str:
    """Each metric on the test part, with its intervals."""
    test = results["metrics"]["test"]
    units = [unit for unit in ("clips", "speakers") if (test.get("intervals") or {}).get(unit)]
    rows = [
        [name, percent(test[key]), *(interval(results, unit, key) or "-" for unit in units)]
        for key, name in METRICS.items()
        if test.get(key) is not None
    ]
    return table(["Metric", "Test", *intervals_head(results)], rows)


def intervals_note(results: Results) -> str:
    """How the intervals were made, and why there is none by speaker."""
    intervals = results["metrics"]["test"].get("intervals") or {}
    if not intervals.get("clips"):
        return ""
    note = f"Intervals: percentile bootstrap, {intervals['resamples']:,} resamples. Drawing clips, they say how the figures "
    note += "would move with other recordings of the same speakers"
    shared = shared_speakers(results)
    if intervals.get("speakers"):
        others = "other speakers of whom it learned, too" if shared else "other speakers"
        return f"{note}; drawing speakers, each with all of their clips, with {others}."
    reason = intervals.get("speakers_reason")
    note += ". With other speakers they would move more."
    return note + (f" There is no interval by speaker: {reason}." if reason else "")


def guessing(results: Results) -> str:
    """What a model that knows nothing reaches: each emotion is right in one of as many guesses as there are emotions."""
    number = len(results["emotions"])
    return f"guessing each of its {number} emotions equally often has {percent(1 / number)} UAR"


def chance(results: Results) -> str:
    """What guessing reaches, and what the most frequent emotion."""
    matrix = results["metrics"]["test"].get("confusion_matrix")
    if not matrix:
        return f"{_capital(guessing(results))}."
    clips = [sum(row) for row in matrix]
    return (
        f"{_capital(guessing(results))}; always answering the most frequent emotion would be right for "
        f"{percent(max(clips) / sum(clips))} of the clips."
    )


def tested_on(results: Results) -> str:
    """The clips of the test part, whose they are, and how many of those were in training."""
    part = results["split"]["parts"]["test"]
    clips = results["metrics"]["test"].get("clips") or part.get("clips")
    number, unknown, shared = part.get("speakers"), part.get("clips_without_speaker"), shared_speakers(results)
    if not number:
        return counted(clips, "clip") + (" of unknown speakers" if unknown else "")
    trained_on = ""
    if shared:
        which = "all" if shared >= number else "one" if shared == 1 else shared
        trained_on = f", {which} of whom it was trained on"
    if unknown:
        whose = f"{clips - unknown:,} of {counted(number, 'known speaker')}{trained_on}"
        return f"{counted(clips, 'clip')} ({whose}, {unknown:,} of unknown ones)"
    new = f" who {'is' if number == 1 else 'are'} not in its training data" if shared == 0 else ""
    return f"{counted(clips, 'clip')} of {counted(number, 'speaker')}{new}{trained_on}"


def headline_interval(results: Results) -> str:
    """The UAR's interval: by speaker, which says more of other people, or else by clip."""
    intervals = results["metrics"]["test"].get("intervals") or {}
    for unit in ("speakers", "clips"):
        if edges := interval(results, unit, "uar"):
            return f" ({100 * intervals['level']:g} % interval, by {unit[:-1]}: {edges})"
    return ""


def emotions_table(results: Results) -> str:
    """For each emotion its clips in train and test, its recall, and what it is mostly taken for."""
    test = results["metrics"]["test"]
    emotions, matrix, parts = results["emotions"], test.get("confusion_matrix"), results["split"]["parts"]
    recall = test.get("recall") or {}
    rows = []
    for i, emotion in enumerate(emotions):
        clips, found, mistaken = parts.get("test", {}).get("emotions", {}).get(emotion), recall.get(emotion), ""
        if matrix:
            clips = sum(matrix[i])
            found = matrix[i][i] / clips if clips else None
            most = max(count for j, count in enumerate(matrix[i]) if j != i)
            others = [emotions[j] for j, count in enumerate(matrix[i]) if j != i and count == most > 0]
            if others:
                mistaken = f"{listed(others[:3], 'or')} ({percent(most / clips)}{' each' if len(others) > 1 else ''})"
        learned = parts.get("train", {}).get("emotions", {}).get(emotion)
        rows.append([emotion, learned, clips, percent(found) or "-", mistaken])
    if not any(row[2] is not None for row in rows):
        return ""
    return table(["Emotion", "Clips in train", "Clips in test", "Recall", "Mostly mistaken for"], rows, left=(0, 4))


def confusion_table(results: Results) -> str:
    """Clips by true (row) and recognised (column) emotion."""
    matrix = results["metrics"]["test"].get("confusion_matrix")
    if not matrix:
        return ""
    rows = [[f"**{emotion}**", *map(int, row)] for emotion, row in zip(results["emotions"], matrix, strict=True)]
    return table(["true ↓, recognised →", *results["emotions"]], rows)


# How it was found


def shared_speakers(results: Results) -> int | None:
    """How many speakers train and test share, `None` where some are not known."""
    split = results["split"]
    unknown = any(part.get("clips_without_speaker") for part in split["parts"].values())
    shared: int | None = split.get("speakers_shared_by_train_and_test")
    return None if unknown and not shared else shared


def warnings(results: Results) -> list[str]:
    """What a reader must know before any figure."""
    found = [str(warning) for warning in results.get("warnings") or []]
    shared = shared_speakers(results)
    if shared and not any("both train and test" in warning for warning in found):
        found.insert(0, f"{counted(shared, 'speaker is', 'speakers are')} in both train and test: figures on test say nothing "
                        "about a new speaker.")  # fmt: skip
    return found


def split_in_words(results: Results) -> str:
    """What the split's name means."""
    split = results["split"]
    name = split["name"] if split["name"] != "file" else split.get("made_as") or "file"
    words = {
        "speaker": "whole speakers go into one part each, so that the test part has voices that the model has not learned from",
        "random": f"clips are drawn at random, whoever speaks, as HuBERT-SER does; {_random(results)}",
        "kfold": _fold(split),
        "official": "the parts that the corpus itself defines",
        "file": "the parts that a file names",
    }
    text = words.get(name, "")
    if split["name"] == "file":
        text += f"{'; ' if text else ''}read from the splits.json of an earlier run"
    return f": {text}." if text else "."


def _random(results: Results) -> str:
    shared = shared_speakers(results)
    if shared is None:
        return "whether the same voices are in train and test cannot be told"
    if shared:
        return "the same voices are in train and test, and the figures say nothing about a new speaker"
    return "here no speaker came into both train and test"


def _fold(split: Results) -> str:
    by, number, folds = split.get("by", "speaker"), split.get("fold"), split.get("folds")
    which = f"fold {number + 1} of {folds}, " if number is not None and folds else ""
    return (
        f"{which}PEFT-SER's folds by {by}: no {by} is in two parts. It is one fold of several; the others would give other "
        "figures"
    )


def parts_table(results: Results) -> str:
    """Clips and speakers of each part."""
    parts = results["split"]["parts"]
    rows = [
        [name, part.get("clips"), part.get("speakers"), part.get("clips_without_speaker") or None]
        for name, part in parts.items()
    ]
    known = "Known speakers" if any(row[3] for row in rows) else "Speakers"
    return table(["Part", "Clips", known, "Clips of unknown speakers"], rows)


def shared_note(results: Results) -> str:
    """How many speakers the parts share."""
    split = results["split"]
    sentences = [
        f"Speakers shared by train and {part}: {shared}."
        for part in ("test", "validation")
        if (shared := split.get(f"speakers_shared_by_train_and_{part}")) is not None
    ]
    return " ".join(sentences)


def unknown_note(results: Results) -> str:
    """How many clips have no known speaker."""
    unknown = sum(part.get("clips_without_speaker") or 0 for part in results["split"]["parts"].values())
    if not unknown:
        return ""
    have = "has" if unknown == 1 else "have"
    return f"{counted(unknown, 'clip')} {have} no known speaker; whether train and test share those cannot be told."


def kept_note(results: Results) -> str:
    """Which weights were kept, and by what."""
    kept = results.get("kept") or {}
    if not kept.get("by"):
        return ""
    epochs = (results.get("training") or {}).get("epochs")
    epoch = f"epoch {kept['epoch']:g}" if known(kept.get("epoch")) else "training"
    of = f" of {epochs:g}" if known(epochs) and known(kept.get("epoch")) else ""
    metric, _, part = str(kept["by"]).partition(" on ")
    if not part:
        return f"The weights of the last epoch ({epoch}{of}) were kept; no part was used to choose among epochs."
    metric = metric.removeprefix("eval_")
    value = kept.get("value")
    figure = ""
    if known(value):
        figure = f" ({percent(value)})" if metric in METRICS else f" ({value:.3g})"
    return (
        f"The weights of {epoch}{of} were kept, the best by {SHORT_METRICS.get(metric, metric)} on {part}{figure}. The test "
        "part had no say in that."
    )


def taken_note(results: Results) -> str:
    """In which precision and on what the figures were taken."""
    sentences = []
    if precision := results.get("evaluated_in"):
        sentences.append(f"Figures are per clip and taken in {precision}, whatever the model was trained in.")
    segments = results.get("segments") or {}
    if length := segments.get("length"):
        overlap = f", each {segments['overlap']:g} s into the next" if segments.get("overlap") else ""
        sentences.append(
            f"Longer clips were cut into segments of {length:g} s{overlap}; a clip's probabilities are the mean of its "
            "segments'."
        )
    return " ".join(sentences)


# What it learned from


def corpora_table(results: Results) -> str:
    """Each corpus with what was used of it, and its licence."""
    rows = [
        [
            corpus_link(corpus, entry),
            _licence(corpus, entry),
            entry.get("clips"),
            _known_speakers(entry),
            _hours(entry.get("hours")),
        ]
        for corpus, entry in (results.get("corpora") or {}).items()
    ]
    return table(["Corpus", "Licence", "Clips used", "Speakers", "Hours"], rows, left=(0, 1))


def _hours(hours: float | None) -> str:
    return "" if hours is None else f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"


def _known_speakers(entry: Results) -> str:
    number = entry.get("speakers")
    return f"{number:,}{' known' if entry.get('clips_without_speaker') else ''}" if number else ""


def _licence(corpus: str, entry: Results) -> str:
    if entry.get("hub_dataset"):
        return "see its page"
    facts = about(corpus, entry)
    return facts.licence if facts else "not known to hf_ser"


def corpora_list(results: Results) -> str:
    """What is said in each known corpus, and by whom."""
    return "\n".join(
        f"- **{facts.name.partition(' (')[0]}**: {facts.speech}. {_capital(facts.speakers)}."
        for facts in abouts(results).values()
        if facts
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def labels_note(results: Results) -> str:
    """Emotions that were merged, and those that were left out."""
    sentences = []
    if merged := results.get("merged_emotions"):
        pairs = [f"*{source}* counts as *{target}*" for source, target in sorted(merged.items())]
        sentences.append(f"{_capital(listed(pairs))}.")
    if left := {emotion: count for emotion, count in (results.get("left_out") or {}).items() if count}:
        clips = [f"{count:,} of *{emotion}*" for emotion, count in sorted(left.items())]
        sentences.append(f"Clips of other emotions were left out: {listed(clips)}.")
    return " ".join(sentences)


def set_aside_note(results: Results) -> str:
    """Clips that could not be used, and why."""
    reasons = results.get("set_aside")
    if not isinstance(reasons, Mapping):
        return ""
    parts = []
    for corpus, counts in reasons.items():
        told = [f"{count:,} {reason}" for reason, count in counts.items() if count]
        if told:
            parts.append(f"{listed(told)} in {_name(results, corpus)}")
    return f"Clips that were set aside before the split: {'; '.join(parts)}." if parts else ""


def left_out_note(results: Results) -> str:
    """Clips that no part of the split has."""
    left = [
        f"{count:,} of {_name(results, corpus)}" for corpus, count in (results.get("left_out_by_split") or {}).items()
    ]
    return f"Clips that are in no part of the split: {listed(left)}." if left else ""


def _name(results: Results, corpus: str) -> str:
    return corpus_name(corpus, (results.get("corpora") or {}).get(corpus))


# How it was trained


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
    if results.get("weighted_layer_sum", arguments.get("weighted_layer_sum")):
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


def parameters_note(results: Results) -> str:
    """How many parameters were trained of how many."""
    parameters = results.get("parameters") or {}
    if not (parameters.get("trainable") and parameters.get("total")):
        return ""
    share = f"{100 * parameters['trainable'] / parameters['total']:.3g}"
    if share == "100" and parameters["trainable"] < parameters["total"]:
        share = "over 99.9"
    return f"Trained: {parameters['trainable']:,} of {parameters['total']:,} parameters ({share} %){_head(results)}."


def _head(results: Results) -> str:
    if results.get("head") != "batchnorm":
        return ""
    return ", with batch norm and dropout before the last layer, folded into it afterwards"


def hyperparameters(results: Results) -> tuple[str, str]:
    """The hyperparameters that are not at their defaults, and those that are, each as a list."""
    training = results.get("training") or {}
    chosen = _told(training.get("arguments"))
    others = {name: value for name, value in _told(training.get("defaults")).items() if name not in chosen}
    return _hyperparameters(chosen), _hyperparameters(others)


def _told(arguments: Results | None) -> dict[str, Any]:
    return {
        name: value
        for name, value in (arguments or {}).items()
        if known(value) and not UNTOLD.fullmatch(name) and not _path(value)
    }


def _path(value: Any) -> bool:
    return isinstance(value, str) and PurePath(value).is_absolute()


def _hyperparameters(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- `{name}`: {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items() if known(item))
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def cost_list(results: Results) -> str:
    """On what it was trained and what that took: hardware, time, steps, seeds, memory, energy."""
    training, environment = results.get("training") or {}, results.get("environment") or {}
    lines = []
    # What another process has used before is not known.
    since = f"since it went on from {training['resumed_from']}" if training.get("resumed_from") else ""
    if device := environment.get("device"):
        threads = (
            f", {counted(environment['threads'], 'thread')}" if "CPU" in device and environment.get("threads") else ""
        )
        processes = training.get("processes") or 1
        lines.append(f"Hardware: {device}{threads}{f', {processes} processes' if processes > 1 else ''}")
    if known(training.get("seconds")):
        steps = []
        if known(training.get("epochs")):
            steps.append(f"{training['epochs']:g} epoch{'s' if training['epochs'] != 1 else ''}")
        if known(training.get("steps")):
            steps.append(counted(training["steps"], "step"))
        took = [duration(training["seconds"]), *steps]
        if since:
            in_all = f"; {', '.join(steps)} in all" if steps else ""
            lines.append(f"Time: {took[0]} {since}{in_all}")
        else:
            lines.append(f"Time: {' for '.join(took[:2])}{''.join(f', {step}' for step in took[2:])}")
    batch = training.get("clips_per_step")
    precision = training.get("precision")
    if how := [
        *([f"{counted(batch, 'clip')} in a step"] if batch else []),
        *([f"in {precision}"] if precision else []),
    ]:
        lines.append(f"Steps: {', '.join(how)}")
    if seeds := [f"{seed} ({name})" for name, seed in (results.get("seeds") or {}).items() if known(seed)]:
        lines.append(f"Seeds: {listed(seeds)}")
    memory = results.get("peak_memory_bytes") or {}
    amounts = [
        f"{memory[kind] / 1e9:.1f} GB {where}"
        for kind, where in (("process", "in the process"), ("gpu", "on the GPU"))
        if memory.get(kind)
    ]
    if amounts:
        lines.append(f"Peak memory{f', {since}' if since else ''}: {listed(amounts)}")
    if known(training.get("energy_kwh")):
        lines.append(f"Energy, measured{f' {since}' if since else ''}: {training['energy_kwh']:.3g} kWh")
    return "\n".join(f"- {line}" for line in lines)


def versions_note(results: Results) -> str:
    """Python and the packages."""
    environment = results.get("environment") or {}
    packages = dict(environment.get("packages") or {})
    versions = [f"Python {environment['python']}"] if environment.get("python") else []
    return ", ".join([*versions, *(f"{name} {version}" for name, version in packages.items() if version)])


def command_line(results: Results) -> str:
    """The command, in which a path from the root is its last part alone."""
    command = str(results.get("command") or "")
    return re.sub(r"(?<![^\s='\":])~?/(?:[^\s'\"/]*/)*(?=[^\s'\"/])", "", command)


def history_table(results: Results) -> str:
    """The losses and the validation figures of each epoch."""
    epochs: dict[float, dict[str, Any]] = {}
    for entry in results.get("history") or []:
        if known(entry.get("epoch")):
            epochs.setdefault(entry["epoch"], {}).update({k: v for k, v in entry.items() if known(v)})
    names = {"loss": "Loss, train", "eval_loss": "Loss, validation"}
    names |= {f"eval_{key}": f"{name[:1].upper()}{name[1:]}, validation" for key, name in SHORT_METRICS.items()}
    rows = [
        [
            f"{epoch:g}",
            f"{entry['learning_rate']:.2g}" if "learning_rate" in entry else "",
            *((f"{entry[key]:.4f}" if "loss" in key else percent(entry[key])) if key in entry else "" for key in names),
        ]
        for epoch, entry in sorted(epochs.items())
    ]
    return (
        table(["Epoch", "Learning rate", *names.values()], rows, left=()) if any(any(row[1:]) for row in rows) else ""
    )


# What it cannot do


def all_acted(results: Results) -> bool:
    """Whether everything that it learned from is acted, as far as is known."""
    facts = abouts(results).values()
    return bool(facts) and all(each is not None and each.acted for each in facts)


def limitations(results: Results) -> list[str]:
    """What holds for these corpora, this split and this size; each as a paragraph."""
    every = list(abouts(results).values())
    facts = [each for each in every if each]
    all_known = bool(facts) and len(facts) == len(every)
    people = [each for each in facts if each.labels != "computed"]
    found = []
    if len(people) < len(facts):
        found.append(
            f"**A made-up corpus.** What it learned from is{'' if not people and all_known else ', in part,'} babble that a "
            "computer made. Figures on that say that the code works, and nothing about people."
        )
    if people:
        found.append(_whose_labels(people))
    languages = {each.language for each in people}
    if all_known and len(people) == len(facts) and len(languages) == 1 and (language := languages.pop()) in LANGUAGES:
        texts = {each.text for each in people}
        kind = "" if "free" in texts else ", read sentences" if "read" in texts else ", fixed sentences"
        others = ", free speech and conversations" if kind else ""
        found.append(
            f"**{LANGUAGES[language]}{kind}.** It was fine-tuned on nothing else. Other languages{others} were not tested."
        )
    if varied := [each for each in people if each.text in ("read", "free")]:
        found.append(
            f"**Words.** In {listed(_names(varied))} the words are not the same in every emotion: part of what it learned may "
            "be words."
        )
    parts = results["split"]["parts"]
    train, test = parts.get("train", {}), parts.get("test", {})
    if learned := speakers(train):
        voices = counted(train["speakers"], "known voice" if train.get("clips_without_speaker") else "voice")
        text = f"**{_capital(voices)}.** It learned from {learned}"
        text += f" and was tested on {speakers(test)}." if speakers(test) else "."
        found.append(
            f"{text} How it does for other ages, accents and ways of speaking was not measured, nor whether it serves women and "
            "men alike."
        )
    if all_known and all(each.text != "free" for each in facts):
        others = "Noise, music, several people at once, telephones and other microphones"
    else:
        others = "Recordings other than those of its corpora"
    found.append(f"**The corpora's own recordings.** {others} were not tested.")
    found.append(
        f"**Always an answer.** It names one of its {len(results['emotions'])} emotions whatever it hears, silence too. The "
        "probabilities are those of a softmax; they were not calibrated."
    )
    return found


def _names(facts: Sequence[About]) -> list[str]:
    return [each.name.partition(" (")[0] for each in facts]


def _whose_labels(people: Sequence[About]) -> str:
    perceived_by = "say which emotion most of those perceived who listened or watched"
    asked = [each for each in people if each.labels == "asked for"]
    acted = [each for each in people if each.labels == "perceived" and each.acted]
    own = [each for each in people if each.labels == "perceived" and not each.acted]
    sentences = [f"**{'Acted' if asked or acted else 'Perceived'} emotions.**"]
    if asked:
        sentences.append(
            f"The speakers of {listed(_names(asked))} were asked to show an emotion, and the labels say which one was asked for."
        )
    if acted:
        sentences.append(f"The speakers of {listed(_names(acted))} acted; the labels {perceived_by}.")
    if own:
        sentences.append(f"The labels of {listed(_names(own))} {perceived_by}.")
    return " ".join([*sentences, "Whether the model tells what somebody feels was not tested."])


def citations(results: Results) -> list[str]:
    """BibTeX of the corpora, the encoder and the methods that the run used."""
    method = results["method"]
    found = [facts.citation if facts else None for facts in abouts(results).values()]
    found.append(card_citations.ENCODERS.get(str(results.get("model_type"))))
    of_hubert_ser = all(name in HUBERT_SER for name in methods(results))
    found.append(card_citations.HUBERT_SER if of_hubert_ser else card_citations.PEFT_SER)
    split = results["split"]
    if "kfold" in (split["name"], split.get("made_as")) and of_hubert_ser:
        found.append(card_citations.PEFT_SER)
    if "lora" in method:
        found.append(card_citations.LORA)
    return list(dict.fromkeys(citation for citation in found if citation))
