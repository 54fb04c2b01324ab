"""A model's report: quality, fairness, robustness, cost and leakage, as one dict that is ready for JSON."""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from tqdm import tqdm
from transformers import AudioClassificationPipeline

from hf_ser.audio import SAMPLING_RATE, read_mono
from hf_ser.audio.distort import CONDITIONS, Condition
from hf_ser.audio.similarity import Fingerprint, fingerprint, near_duplicates
from hf_ser.corpora import SetAside
from hf_ser.evaluation import bootstrap
from hf_ser.evaluation.calibration import reliability
from hf_ser.evaluation.fairness import fairness
from hf_ser.evaluation.figures import figures, grouped
from hf_ser.evaluation.paired import compare
from hf_ser.features import encoder_config, minimum_samples
from hf_ser.report.answers import CLEAN, Answered, Answers, Hearing, answer, model_key
from hf_ser.report.clips import ModelEmotions, ModelRecords, ReportClips
from hf_ser.report.cost import describe_device, measure_cost
from hf_ser.splits import Clips
from hf_ser.training.clips import report as report_set_aside
from hf_ser.training.results import PACKAGES, command
from hf_ser.wording import counted, listed

Array = npt.NDArray[Any]

#: Fewer clips of a corpus, gender or speaker get no interval, and of more speakers none does.
CLIPS_FOR_AN_INTERVAL, SPEAKERS_WITH_INTERVALS = 10, 200
#: Longer clips, in seconds, are heard in pieces where they are not those of the model's own run: memory grows with the square of
#: the length, and few models have learned from as long ones.
LONGEST = 30.0


@dataclass(frozen=True)
class ReportOptions:
    """
    What is in a report.

    Args:
        robustness (`bool`, defaults to `True`): Whether the model is asked again under each of `conditions`.
        conditions (`Sequence[Condition]`): By default all of [`~hf_ser.audio.distort.CONDITIONS`].
        robustness_clips (`int`, defaults to 300): On so many clips at most, drawn once for all conditions, emotions in
            proportion.
        cost (`bool`, defaults to `True`): Whether latency, throughput, memory and operations are measured.
        leakage (`bool`, defaults to `True`): Whether the clips are compared with those that the model has learned from.
        resamples (`int`, defaults to 1000): Of every interval.
        seed (`int`, defaults to 0): Of intervals, noise and the draw of clips.
        max_seconds (`float`, *optional*): Of longer clips only the beginning is heard; by default as in the model's training.
        batch_seconds (`float`, *optional*): See [`~hf_ser.pipeline.SERPipeline.predict`].
        keep (`Path`, *optional*): A folder for answers, from which an interrupted report goes on.
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
        limits = {"robustness_clips": 1, "resamples": 1, "seed": 0}
        for name, least in limits.items():
            if getattr(self, name) < least:
                raise ValueError(f"--{name}: must be at least {least}, found {getattr(self, name)}")
        for name in ("max_seconds", "batch_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"--{name}: must be a number of seconds, more than 0, found {value}")


@dataclass(frozen=True)
class Model:
    """
    A model of a report.

    Args:
        classifier (`AudioClassificationPipeline`): What `hf_ser.load` returns.
        name (`str`): What it is called.
        emotions (`ModelEmotions`): What its outputs mean.
        records (`ModelRecords`): What its run has left.
        folder (`Path`, *optional*): Where its files are.
        precision (`str`, defaults to `"float32"`): What it computes in, see [`~hf_ser.pipeline.pipeline`].
    """

    classifier: AudioClassificationPipeline
    name: str
    emotions: ModelEmotions
    records: ModelRecords
    folder: Path | None = None
    precision: str = "float32"

    @cached_property
    def key(self) -> str:
        """What tells its answers from those of other models."""
        return model_key(self.classifier)

    @property
    def shortest(self) -> float:
        """The shortest clip that its encoder takes, in seconds."""
        return minimum_samples(self.classifier.model.config) / SAMPLING_RATE

    def require_heard(self, max_seconds: float | None) -> None:
        """
        Raises:
            ValueError: if the beginnings of clips are shorter than what its encoder takes.
        """
        if max_seconds is not None and max_seconds < self.shortest:
            raise ValueError(f"--max_seconds: {max_seconds:g} s are too few; {self.name} needs {self.shortest:g} s")

    def describe(self) -> dict[str, Any]:
        """The report's part on the model."""
        results, config = self.records.results, self.classifier.model.config
        base = results.get("base_model")
        return {
            "name": self.name,
            "base_model": Path(base).name if base and not results.get("base_model_on_hub", True) else base,
            "method": results.get("method"),
            "model_type": encoder_config(config).model_type,
            "precision": self.precision,
            "emotions": list(self.emotions.names),
            "label_map": self.emotions.renamed or None,
        }


def build(
    model: Model, clips: ReportClips, options: ReportOptions, *, other: Model | None = None, argv: Sequence[str] = ()
) -> tuple[dict[str, Any], Answered]:
    """
    Makes a report. What cannot be said is `None`, and `notes` say why.

    Args:
        model (`Model`): The model.
        clips (`ReportClips`): What it is tested on.
        options (`ReportOptions`): What is in the report.
        other (`Model`, *optional*): A second model to compare with, on the same clips.
        argv (`Sequence[str]`): The command line, to be written down.

    Returns:
        The report, and the clips that it is of with the model's answers.

    Raises:
        CorpusError: if more clips of a corpus than `load_clips` was told cannot be heard as they are asked for.
        ValueError: if there is no clip that the model can answer, its answers are not finite, or the two models tell other
            emotions apart.
    """
    for one in (model, other):
        if one is not None:
            one.require_heard(options.max_seconds)
    notes = list(clips.notes)
    notes += [f"{one.name} computes in {one.precision}: in float32 figures may differ a little."
              for one in (model, other) if one and one.precision != "float32"]  # fmt: skip
    asking = _asking(model, options, clips)
    notes += _pieces(asking["hearing"], clips)
    answers = _ask(model, clips.clips, **asking)
    there = np.array([i for i in range(len(clips.labels)) if i not in answers.problems], dtype=np.int64)
    if not len(there):
        raise ValueError(
            f"the model answers none of {len(clips.labels)} clips: {next(iter(answers.problems.values()), '')}"
        )
    unanswered = [SetAside(clips.table.names[i], *problem.split(": ", 1)) for i, problem in answers.problems.items()]
    report_set_aside(clips.clips, unanswered, clips.max_set_aside)
    if unanswered:
        example = next(iter(answers.problems.values()))
        notes.append(f"{counted(len(unanswered), 'clip')} cannot be heard, for instance: {example}")
    probabilities, labels, table = answers.probabilities[there], clips.labels[there], clips.table.of(there)
    rows = clips.clips.select(there)
    report: dict[str, Any] = {
        "model": model.describe(),
        "made": _made(model, argv),
        "clips": _clips(clips, unanswered, table, rows, asking["hearing"].max_seconds),
        "quality": quality(
            probabilities, labels, model.emotions.names, table.corpora, table.speakers, table.genders, options
        ),
        "fairness": fairness(probabilities.argmax(axis=1), labels, table.genders, model.emotions.names),
        "comparison": None,
        "robustness": None,
        "cost": None,
        "leakage": None,
        "notes": notes,
    }
    if report["quality"]["intervals"]["clips"] is None:
        notes.append(f"No intervals by clips: {report['quality']['intervals']['clips_reason']}.")
    if report["quality"]["intervals"]["speakers"] is None:
        notes.append(f"No intervals by speaker: {report['quality']['intervals']['speakers_reason']}.")
    if reason := report["fairness"]["reason"]:
        notes.append(f"Fairness: {reason}.")
    if len(set(labels.tolist())) == 1:
        notes.append(
            f"All clips are {table.labels[0]}: there is no equal error rate, and UAR is the recall of one emotion."
        )
    if other is not None:
        report["comparison"] = comparison(other, model, clips, there, probabilities, options)
        notes += _learned_by_other(other, table.names)
    else:
        notes.append("No other model was given to compare with.")
    if options.leakage:
        report["leakage"] = leakage(rows, clips, options.progress)
    else:
        notes.append("Leakage was not looked for.")
    if options.robustness:
        report["robustness"] = robustness(model, rows, labels, probabilities, asking, options)
        if report["robustness"]["clips"] == 1:
            notes.append("Robustness to babble was not measured: it is made of other clips, and one alone was taken.")
        notes += _fewer_clips(report["robustness"])
    else:
        notes.append("Robustness was not measured.")
    if options.cost:
        report["cost"] = measure_cost(
            model.classifier, folder=model.folder, batch_seconds=options.batch_seconds, precision=model.precision
        )
        if other is not None:
            report["cost"]["memory"]["of"] += f", and the weights of {other.name}, which it is compared with"
    else:
        notes.append("Cost was not measured.")
    return report, Answered(table, probabilities, model.emotions.names)


def _ask(model: Model, clips: Dataset, condition: Condition = CLEAN, **asking: Any) -> Answers:
    try:
        return answer(model.classifier, model.emotions, clips, condition, key=model.key, **asking)
    except ValueError as error:
        raise ValueError(f"{model.name}: {error}") from error


def _asking(model: Model, options: ReportOptions, clips: ReportClips) -> dict[str, Any]:
    """
    How a model is asked: it hears clips as its own run had them, and clips that its run does not know in pieces of 30 s at most.
    """
    own = (model.records.results.get("training") or {}).get("arguments") or {}
    most = model.classifier.longest_input
    known = model.records.split is not None and model.records.split.count(clips.table.names) > 0
    hearing = Hearing(
        max_seconds=options.max_seconds or own.get("max_seconds"),
        segment_length=own.get("segment_length"),
        segment_overlap=own.get("segment_overlap") or 0.0,
        longest=most if known else min(most, LONGEST),
    )
    return {
        "hearing": hearing,
        "batch_seconds": options.batch_seconds,
        "keep": options.keep,
        "progress": options.progress,
    }


def _pieces(hearing: Hearing, clips: ReportClips) -> list[str]:
    """What is to be said of clips that are not heard as a whole."""
    seconds = np.array(clips.clips["duration"][:])
    notes = []
    if hearing.max_seconds and (number := int((seconds > hearing.max_seconds).sum())):
        notes.append(f"Of {counted(number, 'clip')} the first {hearing.max_seconds:g} s were heard.")
        seconds = np.minimum(seconds, hearing.max_seconds)
    longest = hearing.segment_length or hearing.longest
    if number := int((seconds > longest).sum()):
        overlap = (
            f", with {hearing.segment_overlap:g} s in common"
            if hearing.segment_length and hearing.segment_overlap
            else ""
        )
        notes.append(
            f"Heard in segments{overlap}, whose probabilities are averaged: {counted(number, 'clip')} of over {longest:g} s."
        )
    return notes


def _made(model: Model, argv: Sequence[str]) -> dict[str, Any]:
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": command(argv, ["python"]) if argv else None,
        "packages": {name: version(name) for name in PACKAGES},
        "device": describe_device(model.classifier)["name"],
    }


def _clips(
    clips: ReportClips, unanswered: Sequence[SetAside], table: Clips, rows: Dataset, max_seconds: float | None
) -> dict[str, Any]:
    return {
        "part": clips.part,
        "split": clips.split,
        "number": len(rows),
        "speakers": len({speaker for speaker in table.speakers if speaker}) or None,
        "seconds": float(np.sum(rows["duration"][:])),
        "max_seconds": max_seconds,
        "corpora": dict(sorted(Counter(table.corpora).items())),
        "emotions": dict(sorted(Counter(table.labels).items())),
        "set_aside": dict(Counter(clip.reason for clip in (*clips.set_aside, *unanswered))),
        "left_out": clips.left_out,
    }


def quality(
    probabilities: Array,
    labels: Array,
    emotions: Sequence[str],
    corpora: Sequence[str],
    speakers: Sequence[str | None],
    genders: Sequence[str | None],
    options: ReportOptions,
) -> dict[str, Any]:
    """Every figure on all clips and on those of each corpus, speaker and gender, with intervals."""
    found: dict[str, Any] = {"overall": figures(probabilities, labels, emotions)}
    for name, groups in (("corpora", corpora), ("speakers", speakers), ("genders", genders)):
        found[name] = grouped(probabilities, labels, emotions, groups)
    for speaker, gender, corpus in zip(speakers, genders, corpora, strict=True):
        if speaker is not None:
            found["speakers"][speaker] |= {"gender": gender, "corpus": corpus}
    drawn: dict[str, Any] = {"resamples": options.resamples, "seed": options.seed}
    found["intervals"] = bootstrap.intervals(probabilities, labels, speakers, details=True, **drawn)
    if len(labels) < CLIPS_FOR_AN_INTERVAL:
        found["intervals"] |= _no_interval(len(labels))
    for unit, where in (("clips", "{}_intervals"), ("speakers", "{}_intervals_by_speaker")):
        for name in ("recall", "eer_by_emotion"):
            by_emotion = (found["intervals"][unit] or {}).pop(name, None)
            found[where.format(name)] = by_emotion and dict(zip(emotions, by_emotion, strict=True))
    for name, groups in (("corpora", corpora), ("genders", genders), ("speakers", speakers)):
        # Of one clip every resample is the same: an interval would look certain. And a thousand speakers would take minutes.
        if name == "speakers" and len(found[name]) > SPEAKERS_WITH_INTERVALS:
            continue
        of_group: dict[str | None, list[int]] = {}
        for at, one in enumerate(groups):
            of_group.setdefault(one, []).append(at)
        for group, group_figures in found[name].items():
            rows = np.array(of_group[group])
            if len(rows) >= CLIPS_FOR_AN_INTERVAL:
                whose = [speakers[row] for row in rows]
                intervals = bootstrap.intervals(probabilities[rows], labels[rows], whose, **drawn)
                group_figures["intervals"] = intervals["clips"]
                group_figures["intervals_by_speaker"] = intervals["speakers"]
    found["reliability"] = reliability(probabilities, labels)
    return found


def _no_interval(clips: int) -> dict[str, Any]:
    return {"clips": None, "clips_reason": bootstrap.too_few(clips, "clip", CLIPS_FOR_AN_INTERVAL)}


def comparison(
    other: Model,
    model: Model,
    clips: ReportClips,
    there: Array,
    probabilities: Array,
    options: ReportOptions,
) -> dict[str, Any]:
    """The model beside another on the same clips; a difference is the model's figure less the other's."""
    if other.emotions.names != model.emotions.names:
        raise ValueError(
            f"--compare: {other.name} tells {', '.join(other.emotions.names)} apart, and {model.name} "
            f"{', '.join(model.emotions.names)}; --label_map can count labels together"
        )
    rows = clips.clips.select(there)
    answers = _ask(other, rows, **_asking(other, options, clips))
    both = np.array([i for i in range(len(rows)) if i not in answers.problems], dtype=np.int64)
    if not len(both):
        raise ValueError(
            f"--compare: {other.name} answers none of the clips: {next(iter(answers.problems.values()), '')}"
        )
    table = clips.table.of(there).of(both)
    found = compare(answers.probabilities[both], probabilities[both], clips.labels[there][both], table.speakers,
                    resamples=options.resamples, seed=options.seed)  # fmt: skip
    if len(both) < CLIPS_FOR_AN_INTERVAL:
        found |= _no_interval(len(both))
    return {"other": other.name, "number": len(both), **found}


def _learned_by_other(other: Model, names: Sequence[str]) -> list[str]:
    if other.records.split is None:
        return [f"{other.name} brings no splits.json: whether it has learned from these clips is not known."]
    learned = other.records.split.count(names, ("train", "validation"))
    return [f"{other.name} has learned from {learned} of these clips: the comparison favours it."] if learned else []


def robustness(
    model: Model,
    rows: Dataset,
    labels: Array,
    probabilities: Array,
    asking: Mapping[str, Any],
    options: ReportOptions,
) -> dict[str, Any]:
    """The UAR under each condition, on the same clips and with the same noise whatever its level."""
    drawn = sample(labels, options.robustness_clips, options.seed)
    some, true = rows.select(drawn), labels[drawn]
    asking = {**asking, "progress": False}
    conditions = []
    # A clip alone would babble with itself.
    possible = [one for one in options.conditions if one.kind != "babble" or len(drawn) > 1]
    for condition in tqdm(possible, desc="conditions", disable=None if options.progress else True):
        if condition == CLEAN:
            said, kept = probabilities[drawn], np.arange(len(drawn))
        else:
            answers = _ask(model, some, condition, seed=options.seed, **asking)
            kept = np.array([i for i in range(len(drawn)) if i not in answers.problems], dtype=np.int64)
            said = answers.probabilities
        entry: dict[str, Any] = {"kind": condition.kind, "level": condition.level, "unit": condition.unit,
                                 "name": condition.name, "clips": len(kept), "uar": None, "interval": None,
                                 "difference": None}  # fmt: skip
        if len(kept):
            interval = None
            if len(kept) >= CLIPS_FOR_AN_INTERVAL:
                intervals = bootstrap.intervals(
                    said[kept], true[kept], None, resamples=options.resamples, seed=options.seed
                )
                interval = intervals["clips"]["uar"]
            uar = figures(said[kept], true[kept], model.emotions.names)["uar"]
            # On the same clips: one that is unusable under a condition is left out of both.
            clean = figures(probabilities[drawn][kept], true[kept], model.emotions.names)["uar"]
            entry |= {"uar": uar, "interval": interval, "difference": uar - clean}
        conditions.append(entry)
    chance = 1 / len(model.emotions.names)
    return {"seed": options.seed, "clips": len(drawn), "of": len(rows), "chance": chance, "conditions": conditions}


def _fewer_clips(robust: Mapping[str, Any]) -> list[str]:
    """Where a condition leaves clips that cannot be heard: sped up, for instance, they may be too short."""
    fewer = [entry for entry in robust["conditions"] if entry["clips"] < robust["clips"]]
    if not fewer:
        return []
    told = listed([f"{entry['name']} ({entry['clips']:,})" for entry in fewer])
    return [
        f"Of {counted(robust['clips'], 'clip')} not all can be heard under {told}; their difference is from the same ones."
    ]


def sample(labels: Array, number: int, seed: int) -> npt.NDArray[np.int64]:
    """At most `number` clips, sorted, so that each label keeps its share, as far as that can be."""
    if len(labels) <= number:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    # Each label's clips are spread evenly over the interval from 0 to 1; the first ones are taken.
    rank = np.empty(len(labels))
    for label in set(labels.tolist()):
        mine = order[labels[order] == label]
        rank[mine] = (np.arange(len(mine)) + rng.random()) / len(mine)
    return np.sort(np.argsort(rank, kind="stable")[:number])


def leakage(rows: Dataset, clips: ReportClips, progress: bool = True) -> dict[str, Any]:
    """Speakers and recordings that the tested clips share with those that the model has learned from."""
    if clips.learned is None:
        return {
            "speakers": None,
            "duplicates": None,
            "reason": "it is not known which clips the model has learned from",
        }
    if not len(clips.learned):
        reason = "the clips that the model has learned from are not among these corpora"
        return {"speakers": None, "duplicates": None, "reason": reason}
    names, learned_names = rows["clip"][:], clips.learned["clip"][:]
    learned, tested = (_fingerprints(these, progress) for these in (clips.learned, rows))
    pairs = near_duplicates(learned, tested)
    known = {speaker for speaker in clips.learned["speaker"][:] if speaker}
    return {
        "speakers": sorted(known & {speaker for speaker in rows["speaker"][:] if speaker}),
        "duplicates": [
            {
                "clip": names[j],
                "train_clip": learned_names[i],
                "similarity": value,
                "exact": learned[i].samples_hash == tested[j].samples_hash,
            }
            for i, j, value in pairs
        ],
        "reason": None,
    }


def _fingerprints(rows: Dataset, progress: bool) -> list[Fingerprint]:
    bar = tqdm(rows, desc="fingerprints", unit=" clips", disable=None if progress else True)
    return [fingerprint(read_mono(clip["audio"])) for clip in bar]


def open_model(
    classifier: AudioClassificationPipeline,
    name: str,
    records: Path | None,
    label_map: Mapping[str, str] | None = None,
    *,
    run: Path | None = None,
    precision: str = "float32",
) -> Model:
    """
    A model of a report.

    Args:
        classifier (`AudioClassificationPipeline`): What `hf_ser.load` returns.
        name (`str`): What it is called.
        records (`Path`, *optional*): The folder with its files.
        label_map (`dict[str, str]`, *optional*): See [`ModelEmotions.of`].
        run (`Path`, *optional*): The folder of its run, where that has left its records, if not beside the model.
        precision (`str`, *optional*): What it computes in; an exported model says so itself.
    """
    emotions = ModelEmotions.of(classifier.emotions, label_map)
    precision = getattr(classifier.model, "precision", precision)
    return Model(classifier, name, emotions, ModelRecords.read(run or records), records, precision)
