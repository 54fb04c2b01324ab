"""The top of a report: title, main metric, warnings, and one or two sentences for each question of its readers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_ser.rendering.blocks import METRICS, Cell, change, decimal, interval, milliseconds, percent, points, size
from hf_ser.wording import counted, listed

Report = Mapping[str, Any]

#: The parts that a report may lack.
OPTIONAL = {"comparison": "comparison with another model"} | {part: part for part in ("robustness", "cost", "leakage")}
NOT_HERE = "Not in this report; the notes say why."
CLEAN = "clean"
#: The keys of a metric, its interval and its difference from clean clips under a condition of robustness.
CONDITION_KEYS = {
    "uar": ("uar", "interval", "difference"),
    "ccc": ("ccc", "ccc_interval", "ccc_difference"),
}
#: The heading of intervals: [`~hf_ser.evaluation.bootstrap`] draws them at no other level.
INTERVAL = "95 % interval"
#: The units that intervals are drawn over.
UNITS = ("clips", "speakers")


def one_line(text: str) -> str:
    """Text in one line, without control characters, which a terminal would execute."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def title(report: Report) -> str:
    return one_line(f"Report on {report['model']['name']}")


def subtitle(report: Report) -> str:
    """The clips that the metrics are of, and the date."""
    clips = report["clips"]
    split = f"{clips['split']} split, " if clips["split"] else ""
    part = "all clips" if clips["part"] == "all" else f"{clips['part']} part"
    speakers = f" of {counted(clips['speakers'], 'speaker')}" if clips["speakers"] else ""
    number, corpora = counted(clips["number"], "clip"), listed(clips["corpora"])
    return f"{split}{part}: {number}{speakers} from {corpora}; {report['made']['at']}"


def best_unit(intervals: Mapping[str, Any], key: str) -> str:
    """The unit of the best interval of a metric for new speakers: `speakers` if it has one, else `clips`."""
    return "speakers" if key in (intervals["speakers"] or {}) else "clips"


def best_interval(intervals: Mapping[str, Any], key: str) -> list[float] | None:
    """The best interval of a metric for new speakers."""
    return (intervals[best_unit(intervals, key)] or {}).get(key)


def missing_intervals(intervals: Mapping[str, Any], metrics: Iterable[str], units: Sequence[str] = UNITS) -> list[str]:
    """
    Which of the main `metrics` have no interval by a unit: `No interval of UAR by speakers: 6 speakers, too few to draw from`.
    Clips with an emotion may have too few speakers, and those with a dimension enough.
    """
    main, texts = [key for key in CONDITION_KEYS if key in metrics], []
    for unit in units:
        if missing := [key for key in main if key not in (intervals[unit] or {})]:
            of = "" if missing == main else f" of {missing[0].upper()}"
            texts.append(f"No interval{of} by {unit}: {intervals[f'{unit}_reason']}")
    return texts


def main_key(report: Report) -> str:
    """The main metric: UAR, or the mean CCC of the dimensions if no emotions were measured."""
    return "uar" if "uar" in report["quality"]["overall"] else "ccc"


def form_of(key: str) -> Callable[[float | None], Cell]:
    """The format of the values of a metric: shares in per cent, CCC as a number."""
    return METRICS[key][1]


def difference_of(key: str) -> tuple[Callable[[float | None], Cell], str]:
    """The format of differences of a metric, and their unit."""
    return (change, "") if form_of(key) is decimal else (points, " points")


def main_metric(report: Report) -> dict[str, Any]:
    """The main metric, its interval by speakers or else by clips, and chance; numbers for a scale from 0 to 100."""
    key, overall, intervals = main_key(report), report["quality"]["overall"], report["quality"]["intervals"]
    value, form, unit = overall[key], form_of(key), best_unit(intervals, key)
    names = {"uar": "UAR, the mean recall of the emotions", "ccc": f"CCC, the mean of {_dimensions(report)}"}
    chance = 1 / len(report["model"]["emotions"]) if key == "uar" else 0.0
    edges = best_interval(intervals, key)
    low, high = edges or [value or 0.0] * 2
    return {
        "name": names[key],
        "ends": [form(0.0).text, form(1.0).text] if key == "uar" else ["0", "1"],
        "text": form(value).text,
        "interval": f"{INTERVAL} by {unit}: {interval(edges, form).text}" if edges else "no interval",
        "chance_text": f"chance {percent(chance).text if key == 'uar' else '0'}",
        # A CCC below 0 is drawn at 0.
        **{name: 100 * max(one, 0.0) for name, one in {"value": value or 0.0, "low": low, "high": high}.items()},
        "chance": 100 * chance,
    }


def _dimensions(report: Report) -> str:
    return listed(report["quality"]["overall"].get("dimensions", {}))


def answers(report: Report) -> list[tuple[str, str]]:
    """Ability, speakers, conditions and cost, in one or two sentences each."""
    found = {
        "What it can do": _ability(report),
        "For whom": _for_whom(report),
        "Under what conditions": _conditions(report),
        "At what cost": _cost(report),
    }
    return [(name, text or NOT_HERE) for name, text in found.items()]


def _ability(report: Report) -> str:
    main, overall = main_metric(report), report["quality"]["overall"]
    names = {
        "uar": f"UAR over {len(report['model']['emotions'])} emotions",
        "ccc": f"CCC, mean of {_dimensions(report)}",
    }
    texts = [f"{names[main_key(report)]}: {main['text']} ({main['interval']}; {main['chance_text']})."]
    recall = {name: value for name, value in overall.get("recall", {}).items() if value is not None}
    if len(recall) > 1:
        best, worst = max(recall, key=recall.__getitem__), min(recall, key=recall.__getitem__)
        texts.append(
            f"Best recall: {best} ({percent(recall[best]).text}); worst: {worst} ({percent(recall[worst]).text})."
        )
    each = []
    for name, found in overall.get("dimensions", {}).items():
        edges = best_interval(found["intervals"], "ccc")
        each.append(f"{name} {decimal(found['ccc']).text}" + (f" ({interval(edges, decimal).text})" if edges else ""))
    if each:
        texts.append(f"CCC by dimension: {', '.join(each)}.")
    return " ".join(texts)


def _for_whom(report: Report) -> str:
    quality, fairness = report["quality"], report["fairness"]
    main, texts = main_key(report), []
    form = form_of(main)
    for key, name in (("genders", "gender"), ("corpora", "corpus")):
        if len(quality[key]) > 1:
            groups = (f"{group} {form(metrics.get(main)).text}" for group, metrics in quality[key].items())
            texts.append(f"{main.upper()} by {name}: {', '.join(groups)}.")
    found = [value for metrics in quality["speakers"].values() if (value := metrics.get(main)) is not None]
    if len(found) > 1:
        texts.append(f"{main.upper()} of {len(found)} speakers: {interval([min(found), max(found)], form).text}.")
    if fairness["equality_of_odds"] is not None:
        chance = (fairness["by_chance"] or {}).get("equality_of_odds")
        expected = f"; {percent(chance['median']).text} by chance alone" if chance else ""
        odds = percent(fairness["equality_of_odds"]).text
        texts.append(f"Equality of odds between the genders: {odds} (0 is equal{expected}).")
    each = [
        f"{name} {decimal(one['mean_error']).text} ({decimal(one['by_chance']['mean_error']['median']).text} by chance alone)"
        for name, one in fairness.get("dimensions", {}).items()
        if one["mean_error"] is not None
    ]
    if each:
        texts.append(f"Mean errors of the genders lie apart by: {', '.join(each)}.")
    return " ".join(texts)


def _conditions(report: Report) -> str:
    robust, main = report["robustness"], main_key(report)
    if not robust:
        return ""
    value, _, apart = CONDITION_KEYS[main]
    form, (difference, unit) = form_of(main), difference_of(main)
    some = f"On {robust['clips']:,} of {robust['of']:,} clips: " if robust["of"] > robust["clips"] else ""
    text = f"{some}{main.upper()} {form(clean_value(robust, main)).text} on clean clips"
    others = [entry for entry in robust["conditions"] if entry["kind"] != CLEAN and entry.get(value) is not None]
    if not others:
        return f"{text}."
    worst = min(others, key=lambda entry: float(entry[value]))
    return (
        f"{text}, {form(worst[value]).text} under the worst of {len(others)} conditions, {worst['name']} "
        f"({difference(worst[apart]).text}{unit})."
    )


def clean_value(robust: Mapping[str, Any], key: str) -> float | None:
    """The metric of the clean clips."""
    return next((entry.get(key) for entry in robust["conditions"] if entry["kind"] == CLEAN), None)


def _cost(report: Report) -> str:
    cost = report["cost"]
    if not cost:
        return ""
    entry = min(cost["latency"], key=lambda entry: abs(float(entry["seconds"]) - 3))
    text = (
        f"A clip of {entry['seconds']:g} s takes {milliseconds(entry['median_ms']).text} on {cost['device']['name']}."
    )
    if cost["parameters"]:
        text += f" {cost['parameters']['total']:,} parameters"
        text += f", {size(cost['size']['model_bytes'])} on disk." if (cost["size"] or {}).get("model_bytes") else "."
    return text


@dataclass(frozen=True)
class Caution:
    """A warning about the metrics; an alarm means that they cannot be trusted."""

    text: str
    alarm: bool = False


def cautions(report: Report) -> list[Caution]:
    """The warnings of a report, alarms first. They name no speaker and no clip."""
    clips, quality = report["clips"], report["quality"]
    leakage = report["leakage"] or {}
    speakers, duplicates = leakage.get("speakers"), leakage.get("duplicates")
    alarms, others = [], []
    if speakers:
        alarms.append(
            f"Leakage: {counted(len(speakers), 'speaker')} of these clips {_were(len(speakers))} in training, too. The "
            "metrics say nothing about new speakers."
        )
    if duplicates:
        number = len({entry["clip"] for entry in duplicates})
        alarms.append(
            f"Leakage: {counted(number, 'clip')} {_were(number)} in training, too, or nearly the same. The metrics are too "
            "good."
        )
    if clips["split"] == "random" and not speakers:
        alarms.append(
            "The split is random: training and test may share speakers. The metrics say nothing about new ones."
        )
    unknown = [name for found, name in ((speakers, "speakers"), (duplicates, "clips")) if found is None]
    if unknown:
        reason = f": {leakage['reason']}" if leakage.get("reason") else ""
        others.append(f"Unknown: whether these {' and '.join(unknown)} were in training, too{reason}.")
    if clips["part"] == "all":
        others.append("The metrics are of all clips, not of a part that was kept from training.")
    others += [
        f"{missing}. Intervals by clips are too narrow for new speakers."
        for missing in missing_intervals(quality["intervals"], quality["overall"], ["speakers"])
    ]
    if report["fairness"]["reason"]:
        others.append(f"Fairness is incomplete: {report['fairness']['reason']}.")
    for key, text in (("excluded", "excluded"), ("other_emotions", "left out: the model does not have their emotion")):
        if clips[key]:
            each = ", ".join(f"{name} {number:,}" for name, number in clips[key].items())
            number = sum(clips[key].values())
            others.append(f"{counted(number, 'clip')} {_were(number)} {text} ({each}).")
    if clips["other_emotions"] and (missing := [e for e in report["model"]["emotions"] if e not in clips["emotions"]]):
        others.append(
            f"No clip is {listed(missing, 'or')}. If these are other words for the emotions that are left out, pass "
            "label_map LABEL=EMOTION."
        )
    if absent := [name for key, name in OPTIONAL.items() if not report[key]]:
        others.append(f"Not in this report: {listed(absent)}. The notes say why.")
    return [*(Caution(text, alarm=True) for text in alarms), *map(Caution, others)]


def _were(number: int) -> str:
    return "was" if number == 1 else "were"
