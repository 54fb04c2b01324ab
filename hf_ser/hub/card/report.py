"""
What a model card takes from `report.json`, which `scripts/evaluate.py` leaves in a run's folder: sentences and tables. What
the report does not have gives an empty string.
"""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_ser.hub.card.figures import METRICS
from hf_ser.hub.card.words import known, percent, table
from hf_ser.hub.privacy import without_paths
from hf_ser.records import REPORT
from hf_ser.wording import counted, per_cent

logger = logging.getLogger(__name__)

Report = Mapping[str, Any]

ROBUSTNESS, RELIABILITY = "report/robustness.png", "report/reliability.png"
#: The report's pictures that the card shows.
PICTURES = (ROBUSTNESS, RELIABILITY)
#: How far the report's UAR may lie from the run's: another device and other batches round otherwise.
TOLERANCE = 1e-3
#: The card has the latency of the clip that is closest to this length, in seconds.
CLIP_SECONDS = 3.0


def read_report(folder: Path, results: Mapping[str, Any]) -> dict[str, Any] | None:
    """
    The report in a run's folder, without paths of this machine. `None` if there is none; and, with a warning, if it is not
    one of this run's test part.

    Args:
        folder (`Path`): The run's folder.
        results (`dict`): What the run's `results.json` holds.
    """
    path = folder / REPORT
    if not path.is_file():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        reason = why_another(report, results)
    except ValueError as error:
        reason = f"it cannot be read ({error})"
    if reason:
        logger.warning("%s is left out: %s", path, reason)
        return None
    return dict(without_paths(report))


def why_another(report: Any, results: Mapping[str, Any]) -> str | None:
    """Why a report is not one of this run's test part, in words; `None` if it is."""
    if not isinstance(report, Mapping) or not report.get("clips") or not report.get("quality"):
        return "it is no report of scripts/evaluate.py"
    if (precision := (report.get("model") or {}).get("precision") or "float32") != "float32":
        return f"its figures are of the model in {precision}"
    clips, test = report["clips"], results["metrics"]["test"]
    if clips.get("part") != "test":
        return f"its clips are not the test part of the run's own split (part: {clips.get('part')})"
    if clips.get("number") != test.get("clips"):
        return f"it was made on {clips.get('number')} clips, and the run's test part has {test.get('clips')}"
    theirs, ours = (report["quality"].get("overall") or {}).get("uar"), test.get("uar")
    if not (known(theirs) and known(ours) and abs(theirs - ours) <= TOLERANCE):
        told = [f"{100 * uar:.2f} %" if uar is not None and known(uar) else "not known" for uar in (theirs, ours)]
        return f"its UAR is {told[0]}, and the run's {told[1]}: it was made with another model, or on other clips"
    return None


def opening(report: Report) -> str:
    """On what it was measured, when, and by what command."""
    sentences = [
        f"The {counted(report['clips']['number'], 'clip')} of the test part, looked at more closely. Every figure, with "
        f"intervals, is in `{REPORT}`."
    ]
    made = report.get("made") or {}
    day = f" on {str(made['at'])[:10]}" if made.get("at") else ""
    command = f" by {_code(made['command'])}" if made.get("command") else ""
    if day or command:
        sentences.append(f"It was made{day}{command}.")
    return "\n".join(sentences)


# For whom


def genders_table(report: Report) -> str:
    """The clips and the UAR of each gender."""
    genders = report["quality"].get("genders") or {}
    rows = [
        [gender, figures.get("clips"), percent(figures["uar"])]
        for gender, figures in genders.items()
        if known(figures.get("uar"))
    ]
    return table(["Gender", "Clips", "UAR"], rows)


def has_fairness(report: Report) -> bool:
    """Whether it was measured that the genders are treated alike, or not."""
    fairness = report.get("fairness") or {}
    return known(fairness.get("demographic_parity")) or known(fairness.get("equality_of_odds"))


def fairness_note(report: Report) -> str:
    """The two figures of fairness between the genders, and what they mean."""
    fairness = report.get("fairness") or {}
    parity, odds = fairness.get("demographic_parity"), fairness.get("equality_of_odds")
    lines = []
    if known(parity):
        lines.append(
            f"- Demographic parity: {percent(parity)}{_by_chance(fairness, 'demographic_parity')}. How far apart the genders lie "
            "in what is recognised, whatever is true: 0 % is alike, 100 % nothing in common."
        )
    if known(odds):
        lines.append(
            f"- Equality of odds: {percent(odds)}{_by_chance(fairness, 'equality_of_odds')}. The same among the clips of each "
            "true emotion, in the mean."
        )
    if fairness.get("reason") and (lines or genders_table(report)):
        lines.append(f"- {_sentence(fairness['reason'])}")
    return "\n".join(lines)


def _by_chance(fairness: Report, figure: str) -> str:
    found = (fairness.get("by_chance") or {}).get(figure)
    return f" (if gender made no difference, {percent(found['median'])} by chance in the median)" if found else ""


# Under what conditions


def robustness_note(report: Report) -> str:
    """On how many clips robustness was measured."""
    robust = report.get("robustness") or {}
    if not _conditions(report):
        return ""
    clips, of = robust["clips"], robust.get("of") or report["clips"]["number"]
    on = f"all {clips:,}" if clips == of else f"{clips:,} of the {of:,}"
    return f"The clips were distorted and the model asked again, on {on} clips, the same ones under every condition."


def worst_conditions_table(report: Report) -> str:
    """The condition of each kind that does most harm: its UAR, and how far that lies from the clean clips'."""
    worst: dict[str, Mapping[str, Any]] = {}
    for condition in _conditions(report):
        kept = worst.setdefault(condition["kind"], condition)
        worst[condition["kind"]] = min(kept, condition, key=lambda entry: float(entry["uar"]))
    return _conditions_table(list(worst.values()))


def conditions_table(report: Report) -> str:
    """Every condition, where some kind has several."""
    conditions = _conditions(report)
    several = len({condition["kind"] for condition in conditions}) < len(conditions)
    return _conditions_table(conditions) if several else ""


def kinds_of_conditions(report: Report) -> set[str]:
    """The kinds of the conditions under which robustness was measured, as in `hf_ser.audio.distort.KINDS`."""
    return {condition["kind"] for condition in _conditions(report)}


def _conditions(report: Report) -> list[Mapping[str, Any]]:
    conditions = (report.get("robustness") or {}).get("conditions") or []
    return [condition for condition in conditions if known(condition.get("uar"))]


def _conditions_table(conditions: list[Mapping[str, Any]]) -> str:
    rows = [
        [
            entry["name"],
            percent(entry["uar"]),
            "-" if entry["kind"] == "clean" else points(entry.get("difference")),
        ]
        for entry in conditions
    ]
    return table(["Condition", "UAR", "Points from clean"], rows)


# How sure


def calibration_list(report: Report) -> str:
    """The expected calibration error and the log loss, and what they mean."""
    overall = report["quality"].get("overall") or {}
    lines = []
    if known(overall.get("ece")):
        lines.append(
            f"- Expected calibration error (ECE): {percent(overall['ece'])}. How far, in the mean, the probability "
            "of what it recognises lies from the share of the clips in which it is right."
        )
    if known(overall.get("log_loss")):
        lines.append(f"- Log loss: {overall['log_loss']:.3f} nats; lower is better.")
    return "\n".join(lines)


# At what cost


def cost_list(report: Report) -> str:
    """The device, the time for a clip, the speech in a second, parameters and operations."""
    cost = report.get("cost") or {}
    device, throughput, parameters, flops = (
        cost.get(part) or {} for part in ("device", "throughput", "parameters", "flops")
    )
    lines = []
    if device.get("name"):
        threads = (
            f", {counted(device['threads'], 'thread')}" if device.get("kind") == "cpu" and device.get("threads") else ""
        )
        dtype = f", {device['dtype']}" if device.get("dtype") else ""
        lines.append(f"Device: {_line(device['name'])}{threads}{dtype}{_load(device)}")
    if cost.get("latency"):
        entry = min(cost["latency"], key=lambda entry: abs(float(entry["seconds"]) - CLIP_SECONDS))
        lines.append(
            f"Latency of a clip of {entry['seconds']:g} s, alone, from its waveform to its probabilities: "
            f"{_rounded(entry['median_ms'])} ms (median of {counted(entry['runs'], 'run')}; 95th percentile "
            f"{_rounded(entry['p95_ms'])} ms)"
        )
    if known(throughput.get("speech_per_second")):
        lines.append(f"Speech in a second, in batches: {_rounded(throughput['speech_per_second'])} s")
    if parameters.get("total"):
        adapter = f", {parameters['adapter']:,} of them its adapter's" if parameters.get("adapter") else ""
        lines.append(f"Parameters: {parameters['total']:,}{adapter}")
    if known(flops.get("per_second")):
        how = f" ({_line(flops['counted'])})" if flops.get("counted") else ""
        lines.append(f"Operations: {_rounded(flops['per_second'] / 1e9)} GFLOP for a second of speech{how}")
    return "\n".join(f"- {line}" for line in lines)


def _load(device: Mapping[str, Any]) -> str:
    """How busy the machine was: it makes every time longer."""
    if not (known(device.get("load")) and device.get("processors")):
        return ""
    return f"; {device['load']:.1f} of {counted(device['processors'], 'processor')} busy in the minute before"


def merged_note(report: Report, adapter: bool) -> str:
    """In the card of an adapter alone: whether the cost is that of the checkpoint that it was merged into."""
    parameters = (report.get("cost") or {}).get("parameters") or {}
    if not adapter or not parameters.get("total") or parameters.get("adapter"):
        return ""
    return "The cost is that of the model with the adapter merged into it."


# How far it can be believed


def leakage_list(report: Report) -> str:
    """How many speakers and recordings are among those that the model has learned from, too."""
    leakage = report.get("leakage") or {}
    speakers, duplicates = leakage.get("speakers"), leakage.get("duplicates")
    lines = []
    if speakers is not None:
        lines.append(f"- Speakers shared with train and validation: {len(speakers):,}")
    if duplicates is not None:
        clips = {entry["clip"] for entry in duplicates}
        exact = {entry["clip"] for entry in duplicates if entry.get("exact")}
        same = f", {len(exact):,} of them sample for sample" if clips else ""
        lines.append(f"- Clips that are in train or validation, too, or nearly the same: {len(clips):,}{same}")
    return "\n".join(lines)


def compared_with(report: Report) -> str:
    """What the model was compared with; nothing if it was not."""
    comparison = report.get("comparison") or {}
    return _code(comparison["other"]) if comparison.get("other") and comparison_table(report) else ""


def comparison_table(report: Report) -> str:
    """Each metric of this model and of the other, and the difference with its intervals."""
    comparison = report.get("comparison") or {}
    first, second, difference = (comparison.get(key) or {} for key in ("first", "second", "difference"))
    units = [unit for unit in ("clips", "speakers") if comparison.get(unit)]
    rows = [
        [
            name,
            percent(second.get(key)),
            percent(first.get(key)),
            points(difference[key]),
            *(_points_between((comparison[unit].get(key) or {}).get("interval")) or "-" for unit in units),
        ]
        for key, name in METRICS.items()
        if known(difference.get(key))
    ]
    level = f"{100 * (comparison.get('level') or 0.95):g} % interval"
    columns = ["Metric", "This model", _code(comparison.get("other") or "another"), "Points"]
    return table([*columns, *(f"{level}, by {unit[:-1]}" for unit in units)], rows)


def comparison_note(report: Report) -> str:
    """Which clips each model has right, and what is to be said of the other."""
    comparison = report.get("comparison") or {}
    other, mcnemar = str(comparison.get("other") or ""), comparison.get("mcnemar") or {}
    sentences = []
    if known(mcnemar.get("p")):
        clips = sum(mcnemar[key] for key in ("both", "only_first", "only_second", "neither"))
        both, ours, theirs = (f"{mcnemar[key]:,}" for key in ("both", "only_second", "only_first"))
        sentences.append(
            f"Of {counted(clips, 'clip')}, both have {both} right, this model alone {ours}, {_code(other)} alone {theirs} "
            f"(McNemar's exact test, which takes clips to be independent: p = {mcnemar['p']:.3g})."
        )
    # What it has learned from, if that is known.
    sentences += [_line(note) for note in report.get("notes") or [] if str(note).startswith(f"{other} ")]
    return " ".join(sentences)


def points(value: float | None) -> str:
    """A difference between shares in percentage points, with its sign: `+3.2`."""
    if value is None or not known(value):
        return ""
    rounded = per_cent(value)
    return f"{rounded:+.1f}" if rounded else "0.0"


def _points_between(edges: list[float] | None) -> str:
    return f"{points(edges[0])} to {points(edges[1])}" if edges else ""


def _rounded(value: float) -> str:
    """Three digits, and no power of ten: `0.0123`, `65.1`, `1,390`."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _line(words: Any) -> str:
    return re.sub(r"\s+", " ", str(words)).strip()


def _code(words: Any) -> str:
    """As code, whatever is in it."""
    line = _line(words)
    return f"`` {line} ``" if "`" in line else f"`{line}`"


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."
