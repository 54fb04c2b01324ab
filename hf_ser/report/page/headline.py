"""What stands above all else: title, main figure, and the answers to the questions that a report is made for."""

from collections.abc import Mapping
from typing import Any

from hf_ser.report.page.reading import finite, finite_interval, finite_values, interval_level, part
from hf_ser.report.page.words import (
    METRICS,
    NOT_HERE,
    bytes_text,
    interval_text,
    milliseconds_text,
    one_line,
    percent_text,
    points_text,
)
from hf_ser.report.plots import CLEAN, clean_uar
from hf_ser.wording import counted, listed


def title(report: Mapping[str, Any]) -> str:
    return one_line(f"Report on {part(report, 'model').get('name') or 'a model'}")


def subtitle(report: Mapping[str, Any]) -> str:
    """On what the figures were taken."""
    clips, made = part(report, "clips"), part(report, "made")
    if not clips:
        return str(made.get("at") or "")
    split = f"{clips['split']} split, " if clips.get("split") else ""
    which = "all clips" if clips.get("part") == "all" else f"{clips.get('part') or 'unknown'} part"
    number = f"{counted(clips['number'], 'clip')}" if clips.get("number") is not None else "clips"
    speakers = f" of {counted(clips['speakers'], 'speaker')}" if clips.get("speakers") is not None else ""
    corpora = f" from {listed(clips['corpora'])}" if clips.get("corpora") else ""
    return f"{split}{which}: {number}{speakers}{corpora}" + (f"; {made['at']}" if made.get("at") else "")


def main_figure(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The UAR, its interval by speakers or else by clips, and chance, in per cent; `None` if there is no UAR."""
    quality = part(report, "quality")
    uar = finite(part(quality, "overall").get("uar"))
    if uar is None:
        return None
    intervals = part(quality, "intervals")
    by = "speakers" if finite_interval(part(intervals, "speakers").get("uar")) else "clips"
    interval = finite_interval(part(intervals, by).get("uar"))
    emotions = part(report, "model").get("emotions") or []
    told = (
        f"{interval_level(report)} interval by {by}: {interval_text(interval)}" if interval else "no interval is known"
    )
    return {
        "text": percent_text(uar),
        "interval": told,
        "chance_text": f"chance {percent_text(1 / len(emotions))}" if emotions else "",
        "value": 100 * uar,
        "low": 100 * interval[0] if interval else 100 * uar,
        "high": 100 * interval[1] if interval else 100 * uar,
        "chance": 100 / len(emotions) if emotions else None,
    }


def tiles(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The other figures that are looked for: name, value, interval."""
    quality = part(report, "quality")
    overall, intervals = part(quality, "overall"), part(quality, "intervals")
    by = "speakers" if intervals.get("speakers") else "clips"
    found = []
    for key in ("accuracy", "f1_weighted", "eer", "ece"):
        if finite(overall.get(key)) is not None:
            interval = finite_interval(part(intervals, by).get(key))
            found.append((METRICS[key][0], percent_text(overall[key]), interval_text(interval) if interval else ""))
    return found


def answers(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the model can do, for whom, under what conditions, at what cost: a line or two each."""
    found = {
        "What it can do": _ability(report),
        "For whom": _for_whom(report),
        "Under what conditions": _conditions(report),
        "At what cost": _price(report),
    }
    return [(name, text or NOT_HERE) for name, text in found.items()]


def _ability(report: Mapping[str, Any]) -> str:
    main = main_figure(report)
    if main is None:
        return ""
    emotions = part(report, "model").get("emotions") or []
    chance = f"; {main['chance_text']}" if main["chance_text"] else ""
    text = f"Tells {len(emotions)} emotions apart with a UAR of {main['text']} ({main['interval']}{chance})."
    recall = finite_values(part(part(report, "quality"), "overall").get("recall"))
    if len(recall) > 1:
        best, worst = max(recall, key=recall.__getitem__), min(recall, key=recall.__getitem__)
        text += (
            f" Best at {best} (recall {percent_text(recall[best])}), worst at {worst} ({percent_text(recall[worst])})."
        )
    return text


def _for_whom(report: Mapping[str, Any]) -> str:
    quality, fairness = part(report, "quality"), part(report, "fairness")
    texts = []
    for key, name in (("genders", "gender"), ("corpora", "corpus")):
        uars = finite_values({group: figures.get("uar") for group, figures in part(quality, key).items()})
        if len(uars) > 1:
            texts.append(f"UAR by {name}: {', '.join(f'{group} {percent_text(uar)}' for group, uar in uars.items())}.")
    uars = finite_values({speaker: figures.get("uar") for speaker, figures in part(quality, "speakers").items()})
    if len(uars) > 1:
        worst, best = min(uars, key=uars.__getitem__), max(uars, key=uars.__getitem__)
        low, high = percent_text(uars[worst]), percent_text(uars[best])
        texts.append(f"Of {len(uars)} speakers it is from {low} ({worst}) to {high} ({best}).")
    if finite(fairness.get("equality_of_odds")) is not None:
        chance = part(part(fairness, "by_chance"), "equality_of_odds").get("median")
        told = f"; {percent_text(chance)} by chance alone" if finite(chance) is not None else ""
        texts.append(
            f"Equality of odds between the genders: {percent_text(fairness['equality_of_odds'])} (0: alike{told})."
        )
    return " ".join(texts)


def _conditions(report: Mapping[str, Any]) -> str:
    robust = part(report, "robustness")
    entries = [
        entry
        for entry in robust.get("conditions") or []
        if entry["kind"] != CLEAN and finite(entry.get("uar")) is not None
    ]
    if not entries:
        return ""
    worst = min(entries, key=lambda entry: float(entry["uar"]))
    clean = clean_uar(robust)
    some = (
        f"On {robust['clips']:,} of {robust['of']:,} clips: "
        if (robust.get("of") or 0) > (robust.get("clips") or 0) > 0
        else ""
    )
    start = f"{some}UAR {percent_text(clean)} clean, and" if clean is not None else f"{some}UAR"
    drop = f" ({points_text(worst['difference'])})" if finite(worst.get("difference")) is not None else ""
    return f"{start} {percent_text(worst['uar'])} under the worst of {len(entries)} conditions, {worst['name']}{drop}."


def _price(report: Mapping[str, Any]) -> str:
    cost = part(report, "cost")
    if not cost:
        return ""
    texts = []
    if entries := cost.get("latency"):
        entry = min(entries, key=lambda entry: abs(float(entry["seconds"]) - 3))
        device = f" on {cost['device']['name']}" if part(cost, "device").get("name") else ""
        texts.append(f"A clip of {entry['seconds']:g} s takes {milliseconds_text(entry['median_ms'])}{device}.")
    if total := part(cost, "parameters").get("total"):
        size = part(cost, "size").get("model_bytes")
        texts.append(f"{total:,} parameters" + (f", {bytes_text(size)} on disk." if size else "."))
    return " ".join(texts)
