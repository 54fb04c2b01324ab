"""What must be known before a figure is believed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hf_ser.report.page.reading import part
from hf_ser.report.page.words import were
from hf_ser.wording import counted, listed

#: The parts of a report, and what they are called where they are missing.
PARTS = {
    "quality": "quality",
    "comparison": "comparison with another model",
    "fairness": "fairness",
    "robustness": "robustness",
    "cost": "cost",
    "leakage": "leakage",
}


@dataclass(frozen=True)
class Caution:
    """Something to know before the figures are believed; an alarm says that they cannot be."""

    text: str
    alarm: bool


def warnings(report: Mapping[str, Any]) -> list[Caution]:
    """What must be known of the figures: alarms first."""
    leakage, clips, quality = (part(report, name) for name in ("leakage", "clips", "quality"))
    alarms, others = [], []
    if speakers := leakage.get("speakers"):
        alarms.append(
            f"Leakage: {counted(len(speakers), 'speaker')} of these clips {were(speakers)} in training, too "
            f"({listed(speakers, most=5)}). The figures say nothing about new speakers."
        )
    if duplicates := leakage.get("duplicates"):
        alarms.append(
            f"Leakage: {counted(len(duplicates), 'clip')} {were(duplicates)} in training, too, or nearly the same. The "
            "figures are too good."
        )
    if clips.get("split") == "random" and not speakers:
        alarms.append(
            "The split is random: speakers may be in training and test. The figures say nothing about new ones."
        )
    unknown = [name for key, name in (("speakers", "speakers"), ("duplicates", "clips")) if leakage.get(key) is None]
    if unknown:
        reason = f": {leakage['reason']}" if leakage.get("reason") else ""
        others.append(
            f"Whether {' and '.join(unknown)} were in training, too, is not known{reason}. If they were, the figures are "
            "too good."
        )
    if clips.get("part") == "all":
        others.append("The figures are of all clips, not of a part that was kept from training.")
    intervals = part(quality, "intervals")
    if intervals and not intervals.get("speakers"):
        reason = f" ({intervals['speakers_reason']})" if intervals.get("speakers_reason") else ""
        others.append(f"No interval by speaker{reason}: those by clips are too narrow for new speakers.")
    if part(report, "fairness").get("reason"):
        others.append(f"Not all figures of fairness are there: {report['fairness']['reason']}.")
    for key, text in (("set_aside", "set aside"), ("left_out", "left out, of emotions that are not the model's")):
        if table := part(clips, key):
            each = ", ".join(f"{name} {number:,}" for name, number in table.items())
            others.append(f"{counted(sum(table.values()), 'clip')} {were(range(sum(table.values())))} {text}: {each}.")
    if part(clips, "left_out") and (unheard := _without_clips(report)):
        others.append(
            f"No clip is {listed(unheard, 'or')}. If these are other words for the emotions that are left out, --label_map "
            "LABEL=EMOTION says so, and the figures are of all clips."
        )
    if absent := [name for key, name in PARTS.items() if report.get(key) is None]:
        others.append(f"Not in this report: {listed(absent)}. The notes say why.")
    return [*(Caution(text, True) for text in alarms), *(Caution(text, False) for text in others)]


def _without_clips(report: Mapping[str, Any]) -> list[str]:
    """The model's emotions that no clip is of."""
    there = part(part(report, "clips"), "emotions")
    return [name for name in part(report, "model").get("emotions") or [] if name not in there]
