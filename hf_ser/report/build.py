"""The report of a model as one dict that is ready for JSON."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from tqdm import tqdm

from hf_ser.audio import fingerprints, near_duplicates
from hf_ser.audio.distort import UNITS
from hf_ser.clips import column, emotion_column, names_of, require_few_excluded
from hf_ser.corpora import Excluded
from hf_ser.emotions import DISTRIBUTION, EMOTION
from hf_ser.evaluation.bootstrap import mcnemar, paired
from hf_ser.evaluation.dimensions import joint_histogram
from hf_ser.evaluation.fairness import fairness, fairness_of_dimension
from hf_ser.evaluation.measures import MAIN, Evaluated, merged
from hf_ser.evaluation.metrics import reliability
from hf_ser.machine import device_name
from hf_ser.records import EXAMPLE
from hf_ser.rendering.headline import CONDITION_KEYS, missing_intervals
from hf_ser.rendering.tables import GROUPS
from hf_ser.report.clips import ReportClips
from hf_ser.report.cost import measure_cost
from hf_ser.report.model import CLEAN, Chunking, Model, Predictions
from hf_ser.report.options import ReportOptions
from hf_ser.training.launch import command
from hf_ser.training.run_record import PACKAGES
from hf_ser.wording import counted, listed

#: With more speakers, no speaker gets an interval, because they take minutes.
SPEAKERS_WITH_INTERVALS = 200


@dataclass(frozen=True)
class BuiltReport:
    """A report, ready for JSON; its clips; and their predictions and labels."""

    #: A part that was not measured is `None`, and `notes` has the reason.
    report: dict[str, Any]
    table: Dataset
    evaluated: Evaluated


def build(
    model: Model, clips: ReportClips, options: ReportOptions, *, other: Model | None = None, argv: Sequence[str] = ()
) -> BuiltReport:
    """
    Makes a report of a model on `clips`, from [`load_clips`], and compares it with another one. The report repeats `argv`, the
    command line.

    Raises:
        CorpusError: if more clips of a corpus cannot be predicted than `load_clips` allows to exclude.
        ValueError: if no clip can be predicted, outputs are not finite, or the models have different emotions or no dimension in
            common.
    """
    chunking = model.chunking(clips.clips, options.max_seconds)
    others_chunking = other.chunking(clips.clips, options.max_seconds) if other else chunking
    predictions = model.predict(clips.clips, chunking, options)
    problems, rows, names = predictions.problems, predictions.rows, names_of(clips.clips)
    example = next(iter(problems.values()), "")
    if not len(rows):
        raise ValueError(f"{model.name} can predict none of {len(names)} clips: {example}")
    excluded = [Excluded(names[i], *problem.split(": ", 1)) for i, problem in problems.items()]
    require_few_excluded(clips.clips, excluded, clips.max_excluded)
    table = clips.clips.select(rows)
    outputs = predictions.probabilities[rows], predictions.values[rows]
    evaluated = Evaluated.of(table, model.emotions.names, model.dimensions, *outputs)

    notes = list(clips.notes)
    notes += [f"{one.name} computes in {one.classifier.precision}: metrics in float32 may differ a little."
              for one in (model, other) if one and one.classifier.precision != "float32"]  # fmt: skip
    notes += _cuts(chunking, clips.clips)
    if problems:
        notes.append(f"{counted(len(problems), 'clip')} cannot be predicted{EXAMPLE}{example}")
    report: dict[str, Any] = {
        "model": model.describe(),
        "made": {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "command": command(argv, ["python"]) if argv else None,
            "packages": {name: version(name) for name in PACKAGES},
            "device": device_name(model.classifier.device),
        },
        "clips": _describe(clips, table, [*clips.excluded, *excluded], chunking),
        "quality": quality(evaluated, table, options),
        "fairness": fairness_of(evaluated, column(table, "gender")),
        **dict.fromkeys(("comparison", "leakage", "robustness", "cost")),
        "notes": notes,
    }
    notes += _incomplete(report)
    if other is None:
        notes.append("No other model was given to compare with.")
    else:
        report["comparison"] = comparison(other, model, table, evaluated, others_chunking, options)
        notes += _trained_on(other, names_of(table))
    if options.leakage:
        report["leakage"] = leakage(table, clips.trained_on, options.progress)
    if options.robustness:
        report["robustness"] = robustness(model, table, evaluated, chunking, options)
        notes += _limits(report["robustness"])
    if options.cost:
        report["cost"] = measure_cost(model.classifier, folder=model.folder, batch_seconds=options.batch_seconds)
        if other is not None:
            report["cost"]["memory"]["of"] += f", and the weights of {other.name}"
    notes += [
        f"{part.capitalize()} was not measured."
        for part in ("leakage", "robustness", "cost")
        if not getattr(options, part)
    ]
    return BuiltReport(report, table, evaluated)


def _describe(clips: ReportClips, table: Dataset, excluded: Sequence[Excluded], chunking: Chunking) -> dict[str, Any]:
    """The report's part on the clips, those of `table`."""
    return {
        "part": clips.part,
        "split": clips.split,
        "number": len(table),
        "speakers": len(column(table, "speaker").counts()) or None,
        "seconds": float(np.sum(table["duration"][:])),
        "max_seconds": chunking.max_seconds,
        "corpora": dict(sorted(column(table, "corpus").counts().items())),
        "emotions": dict(sorted(emotion_column(table).counts().items())),
        "excluded": dict(Counter(clip.reason for clip in excluded)),
        "other_emotions": clips.other_emotions,
        **({"agreement": clips.agreement} if clips.agreement else {}),
    }


def _incomplete(report: Mapping[str, Any]) -> list[str]:
    """Notes on missing intervals and fairness, and on clips of only one emotion."""
    quality = report["quality"]
    notes = [f"{missing}." for missing in missing_intervals(quality["intervals"], quality["overall"])]
    if reason := report["fairness"]["reason"]:
        notes.append(f"Fairness: {reason}.")
    if len(emotions := report["clips"]["emotions"]) == 1 and report["clips"]["number"] == sum(emotions.values()):
        (emotion,) = emotions
        notes.append(f"All clips are {emotion}: there is no equal error rate, and UAR is the recall of one emotion.")
    return notes


def _cuts(chunking: Chunking, clips: Dataset) -> list[str]:
    """Notes on clips that were cut."""
    seconds = np.array(clips["duration"][:])
    notes = []
    if chunking.max_seconds and (number := int((seconds > chunking.max_seconds).sum())):
        notes.append(f"Of {counted(number, 'clip')} the first {chunking.max_seconds:g} s were used.")
        seconds = np.minimum(seconds, chunking.max_seconds)
    longest = chunking.segment_length or chunking.longest
    if number := int((seconds > longest).sum()):
        overlap = f" that overlap by {chunking.segment_overlap:g} s" if chunking.segment_overlap else ""
        notes.append(
            f"{counted(number, 'clip')} of over {longest:g} s: cut into segments{overlap}, whose probabilities are averaged."
        )
    return notes


def quality(evaluated: Evaluated, table: Dataset, options: ReportOptions) -> dict[str, Any]:
    """The metrics on all clips and on those of each corpus, speaker and gender, with intervals."""
    drawing = options.drawing
    overall = evaluated.metrics(**drawing)
    for k, name in enumerate(evaluated.dimensions):
        if name in overall.get("dimensions", {}):
            histogram = joint_histogram(evaluated.values[:, k], evaluated.truth[:, k])
            overall["dimensions"][name]["histogram"] = histogram
    intervals = evaluated.intervals(details=True, **drawing)
    if intervals is None:
        raise ValueError(
            "the model can predict no clip that has an emotion or a dimension; see the excluded clips in the log"
        )
    found: dict[str, Any] = {"overall": overall, "intervals": intervals}
    for unit, where in (("clips", "{}_intervals"), ("speakers", "{}_intervals_by_speaker")):
        for name in ("recall", "eer_by_emotion"):
            by_emotion = (intervals[unit] or {}).pop(name, None)
            found[where.format(name)] = by_emotion and dict(zip(evaluated.emotions, by_emotion, strict=True))
    columns = {name: column(table, of) for name, of in GROUPS.items()}
    for name, groups in columns.items():
        found[name] = {}
        many = name == "speakers" and len(groups.counts()) > SPEAKERS_WITH_INTERVALS
        for group in groups.counts():
            rows = np.flatnonzero(groups.codes == groups.words.index(group))
            mine = evaluated.select(rows)
            # Without intervals of each dimension of a speaker.
            metrics = mine.metrics(**({} if name == "speakers" else drawing))
            if len(mine) >= drawing["min_clips"] and not many and (drawn := mine.intervals(**drawing)):
                metrics |= {"intervals": drawn["clips"], "intervals_by_speaker": drawn["speakers"]}
            if name == "speakers":
                metrics |= {GROUPS[key]: columns[key][rows[0]] for key in ("genders", "corpora")}
            found[name][group] = metrics
    if labelled := evaluated.labelled:
        found["reliability"] = reliability(evaluated.probabilities[labelled], evaluated.labels[labelled])
    return found


def fairness_of(evaluated: Evaluated, genders: Sequence[str | None]) -> dict[str, Any]:
    """How far the predictions of emotions, and of each dimension by name, depend on the speaker's gender."""
    clips = Counter(str(gender) for gender in genders if gender is not None)
    found: dict[str, Any] = {
        **dict.fromkeys(("demographic_parity", "equality_of_odds", "reason", "by_chance")),
        "by_emotion": {},
        "clips": dict(sorted(clips.items())),
        "unknown": len(genders) - clips.total(),
    }
    if rows := evaluated.labelled:
        predicted = evaluated.probabilities[rows].argmax(axis=1)
        found = fairness(predicted, evaluated.labels[rows], [genders[row] for row in rows], evaluated.emotions)
    if not evaluated.dimensions:
        return found
    each = {
        name: fairness_of_dimension(values, truth, genders)
        for name, values, truth in zip(evaluated.dimensions, evaluated.values.T, evaluated.truth.T, strict=True)
        if np.isfinite(truth).any()
    }
    reasons = [one["reason"] for one in (found, *each.values()) if one["reason"]]
    return {**found, "reason": next(iter(reasons), None), "dimensions": each}


def comparison(
    other: Model, model: Model, table: Dataset, evaluated: Evaluated, chunking: Chunking, options: ReportOptions
) -> dict[str, Any]:
    """
    The comparison with another model on the same clips, for the outputs that both have. A difference is the model's metric minus
    the other's. It has the metrics over emotions and the mean CCC, and below them each dimension and the distribution.
    """
    emotions = model.emotions.names if other.emotions.names else ()
    dimensions = tuple(name for name in model.dimensions if name in other.dimensions)
    if emotions and other.emotions.names != emotions:
        raise ValueError(
            f"compare={other.name}: its emotions are {', '.join(other.emotions.names)}, and those of {model.name} "
            f"{', '.join(emotions)}; label_map can give several labels one emotion"
        )
    predictions = other.predict(table, chunking, options)
    both = predictions.rows
    if not len(both):
        raise ValueError(
            f"compare={other.name}: it can predict no clip: {next(iter(predictions.problems.values()), '')}"
        )
    outputs = predictions.probabilities[both], predictions.values[both]
    theirs = Evaluated.of(table.select(both), other.emotions.names, other.dimensions, *outputs)
    theirs, ours = (one.only(emotions, dimensions) for one in (theirs, evaluated.select(both)))
    measures = ours.measures
    found = {
        target: paired(first.scorer, measures[target].scorer, len(first.rows), first.speakers, **options.drawing)
        for target, first in theirs.measures.items()
    }
    if rows := ours.labelled:
        correct = (one.probabilities[rows].argmax(axis=1) == one.labels[rows] for one in (theirs, ours))
        found[EMOTION]["mcnemar"] = mcnemar(*correct)
    if not found:
        raise ValueError(
            f"compare={other.name}: it and {model.name} have no emotions or dimensions in common that these clips have labels of"
        )
    main = [found[key] for key in MAIN if key in found]
    if not main:  # distributions alone
        main = [found[DISTRIBUTION] | {key: {} for key in ("first", "second", "difference", "clips", "speakers")}]
    result = {"other": other.name, "number": len(both), **merged(main)}
    if dimensions:
        result["dimensions"] = {name: found[name] for name in dimensions if name in found}
    return result | ({"distribution": found[DISTRIBUTION]} if DISTRIBUTION in found else {})


def _trained_on(other: Model, names: Sequence[str]) -> list[str]:
    if other.split is None:
        return [f"{other.name} has no splits.json: whether it was trained on these clips is unknown."]
    if not other.split.count(names):  # another reader names the same recordings otherwise
        return [
            f"None of these clips is named in {other.name}'s splits.json; whether it was trained on them is unknown."
        ]
    number = other.split.count(names, ("train", "validation"))
    return [f"{other.name} was trained on {number} of these clips: the comparison favours it."] if number else []


def robustness(
    model: Model, rows: Dataset, evaluated: Evaluated, chunking: Chunking, options: ReportOptions
) -> dict[str, Any]:
    """UAR and mean CCC under each condition, on the same clips and with the same noise at every level."""
    drawn = sample(evaluated.labels, options.robustness_clips, options.seed)
    some, clean = rows.select(drawn), evaluated.select(drawn)
    # The babble behind a clip is made of other clips.
    possible = [one for one in options.conditions if one.kind != "babble" or len(drawn) > 1]
    keys = {metric: CONDITION_KEYS[metric] for target, metric in MAIN.items() if target in evaluated.measures}
    conditions = []
    for condition in tqdm(possible, desc="conditions", disable=None if options.progress else True):
        found = Predictions(clean.probabilities, clean.values, {})
        if condition != CLEAN:
            found = model.predict(some, chunking, options, condition)
        kept = found.rows
        entry: dict[str, Any] = {**vars(condition), "unit": UNITS.get(condition.kind, ""), "name": condition.name,
                                 "clips": len(kept),
                                 **{key: None for of_metric in keys.values() for key in of_metric}}  # fmt: skip
        # On the same clips: a clip that cannot be predicted under the condition is left out of both.
        before = clean.select(kept)
        after = replace(before, probabilities=found.probabilities[kept], values=found.values[kept])
        was, now = (one.measures if len(kept) else {} for one in (before, after))
        for target in MAIN.keys() & now.keys():
            metric = MAIN[target]
            clean_value, value = (measures[target].values()[metric] for measures in (was, now))
            drawn_over = replace(now[target], speakers=None).intervals(**options.drawing)["clips"]
            difference = None if clean_value is None or value is None else value - clean_value
            entry |= zip(keys[metric], (value, drawn_over and drawn_over[metric], difference), strict=True)
        conditions.append(entry)
    # Random predictions have a CCC of 0.
    chance = 1 / len(model.emotions.names) if "uar" in keys else 0.0
    return {"seed": options.seed, "clips": len(drawn), "of": len(rows), "chance": chance, "conditions": conditions}


def _limits(robust: Mapping[str, Any]) -> list[str]:
    """Notes on conditions that were not measured, or not on all clips: at a higher speed they may be too short."""
    notes = []
    if robust["clips"] == 1:
        notes.append("Robustness to babble was not measured: it needs other clips, and there is only one.")
    if fewer := [
        f"{entry['name']} ({entry['clips']:,})" for entry in robust["conditions"] if entry["clips"] < robust["clips"]
    ]:
        clips = counted(robust["clips"], "clip")
        notes.append(
            f"Of {clips} not all can be predicted under {listed(fewer)}; their difference is on the same clips."
        )
    return notes


def sample(labels: npt.NDArray[np.int64], number: int, seed: int) -> npt.NDArray[np.int64]:
    """The indices of at most `number` clips, sorted, with about the same shares of the labels."""
    if len(labels) <= number:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    # Each label's clips have evenly distributed ranks between 0 and 1. The lowest ranks are taken.
    rank = np.empty(len(labels))
    for label in set(labels.tolist()):
        mine = order[labels[order] == label]
        rank[mine] = (np.arange(len(mine)) + rng.random()) / len(mine)
    return np.sort(np.argsort(rank, kind="stable")[:number])


def leakage(rows: Dataset, trained_on: Dataset | None, progress: bool = True) -> dict[str, Any]:
    """Speakers and recordings that the tested clips share with those that the model was trained or selected on."""
    if not trained_on:
        reason = (
            "the clips that the model was trained on are not known"
            if trained_on is None
            else "none of the clips that the model was trained on is found by its name in these corpora"
        )
        return {"speakers": None, "duplicates": None, "reason": reason}
    names, train_names = names_of(rows), names_of(trained_on)
    train, tested = (fingerprints(these, progress) for these in (trained_on, rows))
    duplicates = [
        {
            "clip": names[j],
            "train_clip": train_names[i],
            "similarity": value,
            "exact": train[i].samples_hash == tested[j].samples_hash,
        }
        for i, j, value in near_duplicates(train, tested)
    ]
    here, there = column(rows, "speaker"), column(trained_on, "speaker")
    shared = sorted(here.counts().keys() & there.counts().keys())
    if not shared and (here.unknown or there.unknown):
        reason = "some clips, here or in training, have no known speaker"
        return {"speakers": None, "duplicates": duplicates, "reason": reason}
    return {"speakers": shared, "duplicates": duplicates, "reason": None}
