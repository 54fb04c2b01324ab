"""The report of a model as one dict that is ready for JSON."""

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
from hf_ser.clips import column, emotion_column, names_of
from hf_ser.clips import report as report_excluded
from hf_ser.corpora import Excluded
from hf_ser.encoders import encoder_config, minimum_samples
from hf_ser.evaluation import bootstrap
from hf_ser.evaluation.calibration import reliability
from hf_ser.evaluation.fairness import fairness
from hf_ser.evaluation.figures import figures, grouped
from hf_ser.evaluation.paired import compare
from hf_ser.report.clips import ModelEmotions, ModelRecords, ReportClips
from hf_ser.report.cost import describe_device, measure_cost
from hf_ser.report.predictions import CLEAN, Chunking, Predictions, model_key, predict_clips
from hf_ser.training.results import PACKAGES, command
from hf_ser.wording import counted, listed

Array = npt.NDArray[Any]

#: Groups of fewer clips get no interval: of one clip every resample is the same. Of more speakers no one does: it takes minutes.
CLIPS_FOR_AN_INTERVAL, SPEAKERS_WITH_INTERVALS = 10, 200
#: Longer clips, in seconds, are cut into segments unless the model's own run had them whole: memory grows with the square of the
#: length, and few models were trained on clips as long.
LONGEST = 30.0


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


@dataclass(frozen=True)
class Model:
    """
    The model of a report.

    Args:
        classifier (`AudioClassificationPipeline`): The model, from `hf_ser.pipeline`.
        name (`str`): Its name in the report.
        emotions (`ModelEmotions`): The emotions of its outputs.
        records (`ModelRecords`): The records of its run.
        folder (`Path`, *optional*): The folder of its files.
        precision (`str`, defaults to `"float32"`): The precision that it computes in, see [`~hf_ser.pipeline.pipeline`].
    """

    classifier: AudioClassificationPipeline
    name: str
    emotions: ModelEmotions
    records: ModelRecords
    folder: Path | None = None
    precision: str = "float32"

    @cached_property
    def key(self) -> str:
        """The hash of its weights."""
        return model_key(self.classifier)

    @property
    def shortest(self) -> float:
        """The shortest clip that its encoder takes, in seconds."""
        return minimum_samples(self.classifier.model.config) / SAMPLING_RATE

    def describe(self) -> dict[str, Any]:
        """The report's part on the model."""
        results = self.records.results
        base = results.get("base_model")
        return {
            "name": self.name,
            "base_model": Path(base).name if base and not results.get("base_model_on_hub", True) else base,
            "method": results.get("method"),
            "model_type": encoder_config(self.classifier.model.config).model_type,
            "precision": self.precision,
            "emotions": list(self.emotions.names),
            "label_map": self.emotions.renamed or None,
        }

    def chunking(self, clips: ReportClips, max_seconds: float | None) -> Chunking:
        """
        How it takes clips: as in its own run; clips that its run does not have in segments of 30 s at most.

        Raises:
            ValueError: if `max_seconds` is shorter than what its encoder takes.
        """
        if max_seconds is not None and max_seconds < self.shortest:
            raise ValueError(f"max_seconds={max_seconds:g}: {self.name} needs {self.shortest:g} s")
        own = (self.records.results.get("training") or {}).get("arguments") or {}
        most = self.classifier.longest_input
        known = self.records.split is not None and self.records.split.count(names_of(clips.clips)) > 0
        return Chunking(
            max_seconds=max_seconds or own.get("max_seconds"),
            segment_length=own.get("segment_length"),
            segment_overlap=own.get("segment_overlap") or 0.0,
            longest=most if known else min(most, LONGEST),
        )

    def predict(
        self, rows: Dataset, chunking: Chunking, options: ReportOptions, condition: Condition = CLEAN
    ) -> Predictions:
        """
        Its predictions.

        Raises:
            ValueError: if the probabilities of a clip are not finite.
        """
        try:
            return predict_clips(
                self.classifier,
                self.emotions,
                rows,
                condition,
                key=self.key,
                seed=options.seed if condition != CLEAN else 0,
                chunking=chunking,
                batch_seconds=options.batch_seconds,
                keep=options.keep,
                progress=options.progress and condition == CLEAN,
            )
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error


def open_model(
    classifier: AudioClassificationPipeline,
    name: str,
    folder: Path | None,
    label_map: Mapping[str, str] | None = None,
    *,
    run: Path | None = None,
    precision: str = "float32",
) -> Model:
    """
    A model for a report.

    Args:
        classifier (`AudioClassificationPipeline`): The model, from `hf_ser.pipeline`.
        name (`str`): Its name in the report.
        folder (`Path`, *optional*): The folder of its files.
        label_map (`dict[str, str]`, *optional*): See [`ModelEmotions.of`].
        run (`Path`, *optional*): The folder of its run, if that is another.
        precision (`str`, *optional*): The precision that it computes in; an exported model has its own.
    """
    emotions = ModelEmotions.of(classifier.emotions, label_map)
    precision = getattr(classifier.model, "precision", precision)
    return Model(classifier, name, emotions, ModelRecords.read(run or folder), folder, precision)


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
    chunking = model.chunking(clips, options.max_seconds)
    others_chunking = other.chunking(clips, options.max_seconds) if other else chunking
    predictions = model.predict(clips.clips, chunking, options)
    problems, rows = predictions.problems, predictions.rows
    if not len(rows):
        raise ValueError(
            f"{model.name} can predict none of {len(clips.labels)} clips: {next(iter(problems.values()), '')}"
        )
    excluded = [Excluded(names_of(clips.clips)[i], *problem.split(": ", 1)) for i, problem in problems.items()]
    report_excluded(clips.clips, excluded, clips.max_excluded)
    probabilities, labels, table = predictions.probabilities[rows], clips.labels[rows], clips.clips.select(rows)

    notes = list(clips.notes)
    notes += [f"{one.name} computes in {one.precision}: metrics in float32 may differ a little."
              for one in (model, other) if one and one.precision != "float32"]  # fmt: skip
    notes += _cuts(chunking, clips)
    if problems:
        notes.append(
            f"{counted(len(problems), 'clip')} cannot be predicted, for instance: {next(iter(problems.values()))}"
        )
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
            "speakers": len({speaker for speaker in column(table, "speaker") if speaker}) or None,
            "seconds": float(np.sum(table["duration"][:])),
            "max_seconds": chunking.max_seconds,
            "corpora": dict(sorted(Counter(column(table, "corpus")).items())),
            "emotions": dict(sorted(Counter(emotion_column(table)).items())),
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
        report["comparison"] = comparison(other, model, clips, rows, probabilities, others_chunking, options)
        notes += _trained_on(other, names_of(table))
    if not options.leakage:
        notes.append("Leakage was not measured.")
    else:
        report["leakage"] = leakage(table, clips, options.progress)
    if not options.robustness:
        notes.append("Robustness was not measured.")
    else:
        report["robustness"] = robustness(model, table, labels, probabilities, chunking, options)
        notes += _limits(report["robustness"])
    if not options.cost:
        notes.append("Cost was not measured.")
    else:
        report["cost"] = measure_cost(
            model.classifier, folder=model.folder, batch_seconds=options.batch_seconds, precision=model.precision
        )
        if other is not None:
            report["cost"]["memory"]["of"] += f", and the weights of {other.name}"
    return BuiltReport(report, table, probabilities)


def _cuts(chunking: Chunking, clips: ReportClips) -> list[str]:
    """Notes on clips that the model does not take whole."""
    seconds = np.array(clips.clips["duration"][:])
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
    drawn: dict[str, Any] = {"resamples": options.resamples, "seed": options.seed}
    intervals = bootstrap.intervals(probabilities, labels, column(table, "speaker"), details=True, **drawn)
    if len(labels) < CLIPS_FOR_AN_INTERVAL:
        intervals |= _no_interval(len(labels))
    found: dict[str, Any] = {"overall": figures(probabilities, labels, emotions), "intervals": intervals}
    for unit, where in (("clips", "{}_intervals"), ("speakers", "{}_intervals_by_speaker")):
        for name in ("recall", "eer_by_emotion"):
            by_emotion = (intervals[unit] or {}).pop(name, None)
            found[where.format(name)] = by_emotion and dict(zip(emotions, by_emotion, strict=True))
    columns = (
        ("corpora", column(table, "corpus")),
        ("speakers", column(table, "speaker")),
        ("genders", column(table, "gender")),
    )
    speakers = column(table, "speaker")
    for name, groups in columns:
        found[name] = grouped(probabilities, labels, emotions, groups)
        if name == "speakers" and len(found[name]) > SPEAKERS_WITH_INTERVALS:
            continue
        for group, metrics in found[name].items():
            rows = np.array([i for i, one in enumerate(groups) if one == group])
            if len(rows) >= CLIPS_FOR_AN_INTERVAL:
                whose = [speakers[row] for row in rows]
                of_group = bootstrap.intervals(probabilities[rows], labels[rows], whose, **drawn)
                metrics |= {"intervals": of_group["clips"], "intervals_by_speaker": of_group["speakers"]}
    for speaker, gender, corpus in zip(speakers, column(table, "gender"), column(table, "corpus"), strict=True):
        if speaker is not None:
            found["speakers"][speaker] |= {"gender": gender, "corpus": corpus}
    return {**found, "reliability": reliability(probabilities, labels)}


def _no_interval(clips: int) -> dict[str, Any]:
    return {"clips": None, "clips_reason": bootstrap.too_few(clips, "clip", CLIPS_FOR_AN_INTERVAL)}


def comparison(
    other: Model,
    model: Model,
    clips: ReportClips,
    rows: Array,
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
    predictions = other.predict(clips.clips.select(rows), chunking, options)
    both = predictions.rows
    if not len(both):
        raise ValueError(
            f"compare={other.name}: it can predict no clip: {next(iter(predictions.problems.values()), '')}"
        )
    table = clips.clips.select(rows).select(both)
    found = compare(predictions.probabilities[both], probabilities[both], clips.labels[rows][both], column(table, "speaker"),
                    resamples=options.resamples, seed=options.seed)  # fmt: skip
    if len(both) < CLIPS_FOR_AN_INTERVAL:
        found |= _no_interval(len(both))
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
        return float(figures(probabilities[kept], labels[kept], model.emotions.names)["uar"])

    conditions = []
    for condition in tqdm(possible, desc="conditions", disable=None if options.progress else True):
        found = Predictions(clean, {}) if condition == CLEAN else model.predict(some, chunking, options, condition)
        entry: dict[str, Any] = {"kind": condition.kind, "level": condition.level, "unit": condition.unit,
                                 "name": condition.name, "clips": len(kept := found.rows), "uar": None, "interval": None,
                                 "difference": None}  # fmt: skip
        if len(kept):
            entry["uar"] = uar(found.probabilities, kept)
            # On the same clips: one that cannot be predicted under a condition counts for neither.
            entry["difference"] = entry["uar"] - uar(clean, kept)
        if len(kept) >= CLIPS_FOR_AN_INTERVAL:
            again: dict[str, Any] = {"resamples": options.resamples, "seed": options.seed}
            intervals = bootstrap.intervals(found.probabilities[kept], labels[kept], None, **again)
            entry["interval"] = intervals["clips"]["uar"]
        conditions.append(entry)
    chance = 1 / len(model.emotions.names)
    return {"seed": options.seed, "clips": len(drawn), "of": len(rows), "chance": chance, "conditions": conditions}


def _limits(robust: Mapping[str, Any]) -> list[str]:
    """Notes on conditions that were not measured, or not on all clips: sped up, for instance, they may be too short."""
    notes = []
    if robust["clips"] == 1:
        notes.append("Robustness to babble was not measured: it needs other clips, and there is only one.")
    fewer = [
        f"{entry['name']} ({entry['clips']:,})" for entry in robust["conditions"] if entry["clips"] < robust["clips"]
    ]
    if fewer:
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


def leakage(rows: Dataset, clips: ReportClips, progress: bool = True) -> dict[str, Any]:
    """Speakers and recordings that the tested clips share with those that the model was trained or selected on."""
    if clips.trained_on is None:
        reason = "the clips that the model was trained on are not known"
        return {"speakers": None, "duplicates": None, "reason": reason}
    if not len(clips.trained_on):
        reason = "the clips that the model was trained on are not among these corpora"
        return {"speakers": None, "duplicates": None, "reason": reason}
    names, train_names = rows["clip"][:], clips.trained_on["clip"][:]
    train, tested = (_fingerprints(these, progress) for these in (clips.trained_on, rows))
    train_speakers = {speaker for speaker in clips.trained_on["speaker"][:] if speaker}
    duplicates = [
        {
            "clip": names[j],
            "train_clip": train_names[i],
            "similarity": value,
            "exact": train[i].samples_hash == tested[j].samples_hash,
        }
        for i, j, value in near_duplicates(train, tested)
    ]
    return {"speakers": sorted(train_speakers & set(rows["speaker"][:])), "duplicates": duplicates, "reason": None}


def _fingerprints(rows: Dataset, progress: bool) -> list[Fingerprint]:
    bar = tqdm(rows, desc="fingerprints", unit=" clips", disable=None if progress else True)
    return [fingerprint(read_mono(clip["audio"])) for clip in bar]
