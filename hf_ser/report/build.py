"""The report of a model as one dict that is ready for JSON."""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from tqdm import tqdm

from hf_ser.audio import read_mono
from hf_ser.audio.distort import CONDITIONS, Condition
from hf_ser.audio.similarity import Fingerprint, fingerprint, near_duplicates
from hf_ser.clips import column, emotion_column, names_of
from hf_ser.clips import report as report_excluded
from hf_ser.corpora import Excluded
from hf_ser.evaluation import bootstrap
from hf_ser.evaluation.calibration import reliability
from hf_ser.evaluation.fairness import fairness
from hf_ser.evaluation.metrics import all_metrics, grouped
from hf_ser.evaluation.paired import compare
from hf_ser.report.clips import ReportClips
from hf_ser.report.cost import describe_device, measure_cost
from hf_ser.report.model import CLEAN, Chunking, Model, Predictions
from hf_ser.training.results import PACKAGES, command
from hf_ser.wording import counted, listed

Array = npt.NDArray[Any]

#: Groups of fewer clips get no interval: of one clip every resample is the same. Of more speakers no one does: it takes minutes.
CLIPS_FOR_AN_INTERVAL, SPEAKERS_WITH_INTERVALS = 10, 200
#: The groups of clips that have metrics of their own, and the column that names them.
GROUPS = {"corpora": "corpus", "speakers": "speaker", "genders": "gender"}


@dataclass(frozen=True)
class ReportOptions:
    """
    The options of a report.

    Args:
        robustness (`bool`, defaults to `True`): Whether to measure the UAR under each of `conditions`.
        conditions (`Sequence[Condition]`): By default all of [`~hf_ser.audio.distort.CONDITIONS`].
        robustness_clips (`int`, defaults to 300): The number of clips for it, drawn once, emotions in proportion.
        cost (`bool`, defaults to `True`): Whether to measure latency, throughput, memory and operations.
        leakage (`bool`, defaults to `True`): Whether to compare the clips with those that the model was trained on.
        resamples (`int`, defaults to 1000): The bootstrap resamples of every interval.
        seed (`int`, defaults to 0): The seed of intervals, noise and the draw of clips.
        max_seconds (`float`, *optional*): Longer clips are cut to so many seconds; by default as in the model's training.
        batch_seconds (`float`, *optional*): See [`~hf_ser.pipeline.SERPipeline.predict`].
        keep (`Path`, *optional*): A folder for predictions, from which an interrupted report goes on.
        progress (`bool`, defaults to `True`): Whether to show progress bars.

    Raises:
        ValueError: if a number is out of range.
    """

    robustness: bool = True
    conditions: Sequence[Condition] = CONDITIONS
    robustness_clips: int = 300
    cost: bool = True
    leakage: bool = True
    resamples: int = 1000
    seed: int = 0
    max_seconds: float | None = None
    batch_seconds: float | None = None
    keep: Path | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        for name, least in {"robustness_clips": 1, "resamples": 1, "seed": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: expected at least {least}")
        for name in ("max_seconds", "batch_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}={value}: expected a number of seconds, more than 0")

    @property
    def predicting(self) -> dict[str, Any]:
        """The options of [`Model.predict`]."""
        return {name: getattr(self, name) for name in ("seed", "batch_seconds", "keep", "progress")}

    @property
    def drawing(self) -> dict[str, Any]:
        """The options of intervals."""
        return {"resamples": self.resamples, "seed": self.seed, "min_clips": CLIPS_FOR_AN_INTERVAL}


@dataclass(frozen=True)
class BuiltReport:
    """
    A report, and the predictions that it is made of.

    Args:
        report (`dict`): The report, ready for JSON. A part that was not measured is `None`, and `notes` say why.
        table (`datasets.Dataset`): Its clips.
        probabilities (`np.ndarray` of shape `(clips, emotions)`): Their predictions.
    """

    report: dict[str, Any]
    table: Dataset
    probabilities: npt.NDArray[np.float64]


def build(
    model: Model, clips: ReportClips, options: ReportOptions, *, other: Model | None = None, argv: Sequence[str] = ()
) -> BuiltReport:
    """
    Makes a report.

    Args:
        model (`Model`): The model.
        clips (`ReportClips`): Its clips, from [`load_clips`].
        options (`ReportOptions`): The options.
        other (`Model`, *optional*): A second model to compare with, on the same clips.
        argv (`Sequence[str]`): The command line, which the report repeats.

    Raises:
        CorpusError: if more clips of a corpus cannot be predicted than `load_clips` allows to exclude.
        ValueError: if no clip can be predicted, probabilities are not finite, or the models have different emotions.
    """
    chunking = model.chunking(clips.clips, options.max_seconds)
    others_chunking = other.chunking(clips.clips, options.max_seconds) if other else chunking
    predictions = model.predict(clips.clips, chunking, **options.predicting)
    problems, rows, names = predictions.problems, predictions.rows, names_of(clips.clips)
    example = next(iter(problems.values()), "")
    if not len(rows):
        raise ValueError(f"{model.name} can predict none of {len(clips.labels)} clips: {example}")
    excluded = [Excluded(names[i], *problem.split(": ", 1)) for i, problem in problems.items()]
    report_excluded(clips.clips, excluded, clips.max_excluded)
    probabilities, labels, table = predictions.probabilities[rows], clips.labels[rows], clips.clips.select(rows)

    notes = list(clips.notes)
    notes += [f"{one.name} computes in {one.precision}: metrics in float32 may differ a little."
              for one in (model, other) if one and one.precision != "float32"]  # fmt: skip
    notes += _cuts(chunking, clips.clips)
    if problems:
        notes.append(f"{counted(len(problems), 'clip')} cannot be predicted, for instance: {example}")
    found = quality(probabilities, labels, model.emotions.names, table, options)
    for unit in ("clips", "speakers"):
        if found["intervals"][unit] is None:
            notes.append(f"No intervals by {unit}: {found['intervals'][f'{unit}_reason']}.")
    fair = fairness(probabilities.argmax(axis=1), labels, column(table, "gender"), model.emotions.names)
    if fair["reason"]:
        notes.append(f"Fairness: {fair['reason']}.")
    if len(set(labels.tolist())) == 1:
        notes.append(
            f"All clips are {emotion_column(table)[0]}: there is no equal error rate, and UAR is the recall of one emotion."
        )
    report: dict[str, Any] = {
        "model": model.describe(),
        "made": {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "command": command(argv, ["python"]) if argv else None,
            "packages": {name: version(name) for name in PACKAGES},
            "device": describe_device(model.classifier)["name"],
        },
        "clips": {
            "part": clips.part,
            "split": clips.split,
            "number": len(rows),
            "speakers": len(column(table, "speaker").counts()) or None,
            "seconds": float(np.sum(table["duration"][:])),
            "max_seconds": chunking.max_seconds,
            "corpora": dict(sorted(column(table, "corpus").counts().items())),
            "emotions": dict(sorted(emotion_column(table).counts().items())),
            "excluded": dict(Counter(clip.reason for clip in (*clips.excluded, *excluded))),
            "other_emotions": clips.other_emotions,
        },
        "quality": found,
        "fairness": fair,
        **dict.fromkeys(("comparison", "leakage", "robustness", "cost")),
        "notes": notes,
    }
    if other is None:
        notes.append("No other model was given to compare with.")
    else:
        report["comparison"] = comparison(other, model, table, labels, probabilities, others_chunking, options)
        notes += _trained_on(other, names_of(table))
    if options.leakage:
        report["leakage"] = leakage(table, clips.trained_on, options.progress)
    if options.robustness:
        report["robustness"] = robustness(model, table, labels, probabilities, chunking, options)
        notes += _limits(report["robustness"])
    if options.cost:
        report["cost"] = measure_cost(
            model.classifier, folder=model.folder, batch_seconds=options.batch_seconds, precision=model.precision
        )
        if other is not None:
            report["cost"]["memory"]["of"] += f", and the weights of {other.name}"
    notes += [
        f"{part.capitalize()} was not measured."
        for part in ("leakage", "robustness", "cost")
        if not getattr(options, part)
    ]
    return BuiltReport(report, table, probabilities)


def _cuts(chunking: Chunking, clips: Dataset) -> list[str]:
    """Notes on clips that the model does not take whole."""
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


def quality(
    probabilities: Array, labels: Array, emotions: Sequence[str], table: Dataset, options: ReportOptions
) -> dict[str, Any]:
    """The metrics on all clips and on those of each corpus, speaker and gender, with intervals."""
    columns = {name: list(column(table, of)) for name, of in GROUPS.items()}
    speakers = columns["speakers"]
    intervals = bootstrap.intervals(probabilities, labels, speakers, details=True, **options.drawing)
    found: dict[str, Any] = {"overall": all_metrics(probabilities, labels, emotions), "intervals": intervals}
    for unit, where in (("clips", "{}_intervals"), ("speakers", "{}_intervals_by_speaker")):
        for name in ("recall", "eer_by_emotion"):
            by_emotion = (intervals[unit] or {}).pop(name, None)
            found[where.format(name)] = by_emotion and dict(zip(emotions, by_emotion, strict=True))
    for name, groups in columns.items():
        found[name] = grouped(probabilities, labels, emotions, groups)
        if name == "speakers" and len(found[name]) > SPEAKERS_WITH_INTERVALS:
            continue
        for group, metrics in found[name].items():
            rows = np.array([i for i, one in enumerate(groups) if one == group])
            if len(rows) >= CLIPS_FOR_AN_INTERVAL:
                whose = [speakers[row] for row in rows]
                drawn = bootstrap.intervals(probabilities[rows], labels[rows], whose, **options.drawing)
                metrics |= {"intervals": drawn["clips"], "intervals_by_speaker": drawn["speakers"]}
    for speaker, gender, corpus in zip(speakers, columns["genders"], columns["corpora"], strict=True):
        if speaker is not None:
            found["speakers"][speaker] |= {"gender": gender, "corpus": corpus}
    return {**found, "reliability": reliability(probabilities, labels)}


def comparison(
    other: Model,
    model: Model,
    table: Dataset,
    labels: Array,
    probabilities: Array,
    chunking: Chunking,
    options: ReportOptions,
) -> dict[str, Any]:
    """The model beside another on the same clips; a difference is the model's metric minus the other's."""
    if other.emotions.names != model.emotions.names:
        raise ValueError(
            f"compare={other.name}: its emotions are {', '.join(other.emotions.names)}, and those of {model.name} "
            f"{', '.join(model.emotions.names)}; label_map can give several labels one emotion"
        )
    predictions = other.predict(table, chunking, **options.predicting)
    both = predictions.rows
    if not len(both):
        raise ValueError(
            f"compare={other.name}: it can predict no clip: {next(iter(predictions.problems.values()), '')}"
        )
    speakers = column(table.select(both), "speaker")
    found = compare(predictions.probabilities[both], probabilities[both], labels[both], speakers, **options.drawing)
    return {"other": other.name, "number": len(both), **found}


def _trained_on(other: Model, names: Sequence[str]) -> list[str]:
    if other.records.split is None:
        return [f"{other.name} has no splits.json: whether it was trained on these clips is unknown."]
    number = other.records.split.count(names, ("train", "validation"))
    return [f"{other.name} was trained on {number} of these clips: the comparison favours it."] if number else []


def robustness(
    model: Model, rows: Dataset, labels: Array, probabilities: Array, chunking: Chunking, options: ReportOptions
) -> dict[str, Any]:
    """The UAR under each condition, on the same clips and with the same noise at every level."""
    drawn = sample(labels, options.robustness_clips, options.seed)
    some, labels, clean = rows.select(drawn), labels[drawn], probabilities[drawn]
    # The babble behind a clip is made of other clips.
    possible = [one for one in options.conditions if one.kind != "babble" or len(drawn) > 1]

    def uar(probabilities: Array, kept: Array) -> float:
        return float(all_metrics(probabilities[kept], labels[kept], model.emotions.names)["uar"])

    conditions = []
    for condition in tqdm(possible, desc="conditions", disable=None if options.progress else True):
        found = Predictions(clean, {})
        if condition != CLEAN:
            found = model.predict(some, chunking, condition, **options.predicting)
        kept = found.rows
        entry: dict[str, Any] = {**vars(condition), "name": condition.name, "clips": len(kept),
                                 **dict.fromkeys(("uar", "interval", "difference"))}  # fmt: skip
        if len(kept):
            entry["uar"] = uar(found.probabilities, kept)
            # On the same clips: one that cannot be predicted under a condition counts for neither.
            entry["difference"] = entry["uar"] - uar(clean, kept)
            intervals = bootstrap.intervals(found.probabilities[kept], labels[kept], None, **options.drawing)
            entry["interval"] = intervals["clips"] and intervals["clips"]["uar"]
        conditions.append(entry)
    chance = 1 / len(model.emotions.names)
    return {"seed": options.seed, "clips": len(drawn), "of": len(rows), "chance": chance, "conditions": conditions}


def _limits(robust: Mapping[str, Any]) -> list[str]:
    """Notes on conditions that were not measured, or not on all clips: sped up, for instance, they may be too short."""
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


def sample(labels: Array, number: int, seed: int) -> npt.NDArray[np.int64]:
    """At most `number` clips, sorted, so that each label keeps its share, as far as that can be."""
    if len(labels) <= number:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    # The clips of each label are spread evenly over the interval from 0 to 1; the first ones are taken.
    rank = np.empty(len(labels))
    for label in set(labels.tolist()):
        mine = order[labels[order] == label]
        rank[mine] = (np.arange(len(mine)) + rng.random()) / len(mine)
    return np.sort(np.argsort(rank, kind="stable")[:number])


def leakage(rows: Dataset, trained_on: Dataset | None, progress: bool = True) -> dict[str, Any]:
    """Speakers and recordings that the tested clips share with those that the model was trained or selected on."""
    if not trained_on:
        known = "not known" if trained_on is None else "not among these corpora"
        return {"speakers": None, "duplicates": None, "reason": f"the clips that the model was trained on are {known}"}
    names, train_names = rows["clip"][:], trained_on["clip"][:]
    train, tested = (_fingerprints(these, progress) for these in (trained_on, rows))
    duplicates = [
        {
            "clip": names[j],
            "train_clip": train_names[i],
            "similarity": value,
            "exact": train[i].samples_hash == tested[j].samples_hash,
        }
        for i, j, value in near_duplicates(train, tested)
    ]
    shared = set(trained_on["speaker"][:]) & set(rows["speaker"][:]) - {None, ""}
    return {"speakers": sorted(shared), "duplicates": duplicates, "reason": None}


def _fingerprints(rows: Dataset, progress: bool) -> list[Fingerprint]:
    bar = tqdm(rows, desc="fingerprints", unit=" clips", disable=None if progress else True)
    return [fingerprint(read_mono(clip["audio"])) for clip in bar]
