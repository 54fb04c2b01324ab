"""The tables of a report. The page has them all, console and model card some of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_ser.rendering.blocks import (
    METRICS,
    Cell,
    Table,
    count,
    decimal,
    interval,
    label,
    milliseconds,
    p_value,
    percent,
    points,
)
from hf_ser.rendering.headline import UNITS, Report, best_unit, level
from hf_ser.wording import counted

Groups = Mapping[str, Mapping[str, Any]]

#: Captions of the plots. The tables below a plot have the same values.
PICTURES = {
    "confusion_matrix": "Clips by true (rows) and predicted emotion (columns), in per cent of each row.",
    "recall": "Recall of each emotion with its interval; the dashed line is their mean, the UAR.",
    "reliability": "Accuracy against the probability of the predicted emotion, and the clips of each bin.",
    "speakers": "UAR of each speaker, by corpus and gender; the short lines are the groups' means.",
    "robustness": "UAR with intervals against the signal-to-noise ratio, and under other conditions, beside the clean clips.",
}
#: The plots that the model card shows.
CARD_PICTURES = ("robustness", "reliability")
#: The groups of clips with metrics of their own, and what each is called.
GROUPS = {"corpora": "corpus", "genders": "gender", "speakers": "speaker"}


def in_brief(report: Report) -> list[Table]:
    """The tables of the console."""
    quality, comparison = report["quality"], report["comparison"]
    tables = [overall(report)]
    tables += [
        by_group(f"By {GROUPS[key]}", GROUPS[key], quality[key]) for key in ("corpora", "genders") if quality[key]
    ]
    if comparison:
        tables += comparisons(comparison)[-1:]
    if report["robustness"]:
        tables.append(conditions(report))
    if report["cost"]:
        tables.append(latency(report["cost"]))
    return tables


def overall(report: Report) -> Table:
    quality = report["quality"]
    return metrics_table(
        f"All {counted(quality['overall']['clips'], 'clip')}", quality["overall"], quality["intervals"]
    )


def metrics_table(
    caption: str,
    metrics: Mapping[str, Any],
    intervals: Mapping[str, Any] | None,
    baseline: Mapping[str, Any] | None = None,
    *,
    best_alone: bool = False,
) -> Table:
    """
    Each metric with its intervals by clips and by speakers, as far as there are any.

    Args:
        caption (`str`): The caption.
        metrics (`dict`): The metrics of a set of clips.
        intervals (`dict`, *optional*): Their intervals, as [`~hf_ser.evaluation.bootstrap.intervals`] returns them.
        baseline (`dict`, *optional*): The metrics of the probe on the same clips, and their `intervals`.
        best_alone (`bool`): Whether intervals by speakers, where there are any, stand alone.
    """
    units, probe = (_units(of, best_alone) for of in (intervals, (baseline or {}).get("intervals")))
    columns = ["metric", "model" if baseline else "value", *(heading for heading, _ in units)]
    columns += ["probe", *(f"probe, {heading}" for heading, _ in probe)] if baseline else []
    rows = []
    for key, (name, form) in METRICS.items():
        if metrics.get(key) is not None:
            row = [label(name), form(metrics[key]), *(interval(drawn.get(key), form) for _, drawn in units)]
            if baseline:
                row += [form(baseline.get(key)), *(interval(drawn.get(key), form) for _, drawn in probe)]
            rows.append(row)
    return Table(caption, columns, rows)


def dimensions_table(
    caption: str, found: Mapping[str, Mapping[str, Any]], agreement: Mapping[str, Mapping[str, Any]] | None = None
) -> Table:
    """
    The metrics of each dimension with the best interval, and the agreement of the raters as the ceiling beside it.

    Args:
        caption (`str`): The caption.
        found (`dict`): What [`~hf_ser.evaluation.dimensions.score_dimension`] gives for each, with its `intervals`.
        agreement (`dict`, *optional*): By corpus and dimension, see [`~hf_ser.results.RunResults`].
    """
    rated = {corpus: of for corpus, of in (agreement or {}).items() if found.keys() & of.keys()}
    rows = []
    for name, of in found.items():
        unit = best_unit(of["intervals"])
        edges = (of["intervals"][unit] or {}).get("ccc")
        ceiling = [decimal((each.get(name) or {}).get("alpha")) for each in rated.values()]
        rows.append([label(name), count(of["clips"]), decimal(of["ccc"]), interval(edges, decimal),
                     decimal(of["ccc_by_speaker"]), decimal(of["mae"]), *ceiling])  # fmt: skip
    alphas = [f"raters' alpha, {corpus}" for corpus in rated]
    return Table(caption, ["dimension", "clips", "CCC", "95 % interval", "CCC, mean of speakers", "MAE", *alphas], rows)


def distribution_table(caption: str, found: Mapping[str, Any]) -> Table:
    """The metrics of predicted distributions over emotions with the best interval."""
    unit = best_unit(found["intervals"])
    drawn = found["intervals"][unit] or {}
    names = {"kl": "KL divergence, nats", "js": "Jensen-Shannon divergence, nats", "cosine": "cosine similarity"}
    rows = [[label(text), decimal(found[key]), interval(drawn.get(key), decimal)] for key, text in names.items()]
    return Table(
        caption, [f"on {counted(found['clips'], 'clip')} with votes", "value", f"95 % interval by {unit}"], rows
    )


def _units(intervals: Mapping[str, Any] | None, best_alone: bool) -> list[tuple[str, Mapping[str, Any]]]:
    """The heading and the intervals of each unit that was drawn."""
    if not intervals:
        return []
    units = [best_unit(intervals)] if best_alone else UNITS
    return [
        (f"{100 * intervals['level']:g} % interval by {unit}", intervals[unit]) for unit in units if intervals[unit]
    ]


def counts(caption: str, name: str, clips: Mapping[str, int]) -> Table:
    return Table(caption, [name, "clips"], [[label(group), count(number)] for group, number in clips.items()])


def by_emotion(report: Report) -> Table:
    quality = report["quality"]
    overall, matrix = quality["overall"], quality["overall"]["confusion_matrix"]
    recall, eer = quality["recall_intervals"] or {}, quality["eer_by_emotion_intervals"] or {}
    rows = []
    for k, emotion in enumerate(report["model"]["emotions"]):
        predicted = sum(row[k] for row in matrix)
        rows.append([
            label(emotion), count(sum(matrix[k])), percent(overall["recall"][emotion]), interval(recall.get(emotion)),
            percent(matrix[k][k] / predicted if predicted else None),
            percent(overall["eer_by_emotion"][emotion]), interval(eer.get(emotion)),
        ])  # fmt: skip
    return Table("By emotion", ["emotion", "clips", "recall", level(report), "precision", "EER", level(report)], rows)


def confusion(caption: str, metrics: Mapping[str, Any], emotions: Sequence[str]) -> Table:
    rows = [[label(name), *map(count, row)] for name, row in zip(emotions, metrics["confusion_matrix"], strict=True)]
    return Table(caption, ["true emotion", *(f"as {emotion}" for emotion in emotions)], rows)


def reliability(report: Report) -> Table:
    rows = [[percent(entry["confidence"]), percent(entry["accuracy"]), count(entry["clips"])]
            for entry in report["quality"]["reliability"]]  # fmt: skip
    return Table(
        "Reliability: accuracy by the probability of the predicted emotion", ["probability", "accuracy", "clips"], rows
    )


def by_group(caption: str, name: str, groups: Groups, drawn: str = "") -> Table:
    """
    The metrics of each group. If `drawn` names intervals, those of the UAR beside it: by clips, and by speakers where a group has
    enough of them.
    """
    units = {"intervals": drawn, "intervals_by_speaker": f"{drawn} by speakers"} if drawn else {}
    units = {key: text for key, text in units.items() if any(metrics.get(key) for metrics in groups.values())}
    others = {key: entry for key, entry in METRICS.items() if key != "uar"}
    rows = [
        [label(group), count(metrics["clips"]), percent(metrics["uar"]),
         *(interval((metrics.get(key) or {}).get("uar")) for key in units),
         *(form(metrics[key]) for key, (_, form) in others.items())]
        for group, metrics in groups.items()
    ]  # fmt: skip
    return Table(caption, [name, "clips", "UAR", *units.values(), *(text for text, _ in others.values())], rows)


def by_group_and_emotion(caption: str, name: str, groups: Groups, metric: str, emotions: Sequence[str]) -> Table:
    rows = [[label(group), *(percent(metrics[metric].get(emotion)) for emotion in emotions)]
            for group, metrics in groups.items()]  # fmt: skip
    return Table(caption, [name, *emotions], rows)


def comparisons(comparison: Mapping[str, Any]) -> list[Table]:
    """The metrics of both models, with the intervals of each unit; one table without any where there is none."""
    other, p = comparison["other"], p_value(comparison["mcnemar"]["p"]).text
    found = []
    for unit in [unit for unit in UNITS if comparison[unit]] or [""]:
        drawn = comparison.get(unit) or {}
        rows = []
        for key, difference in comparison["difference"].items():
            row = [label(METRICS[key][0]), percent(comparison["second"][key]), percent(comparison["first"][key])]
            entry = drawn.get(key) or {}
            bounds = [interval(entry.get("interval"), points), p_value(entry.get("p"))] if unit else []
            rows.append([*row, points(difference), *bounds])
        by = [f"{100 * comparison['level']:g} % interval by {unit}", f"p by {unit}"] if unit else []
        caption = f"This model and {other}{f', by {unit}' if unit else ''}; McNemar's exact test, p: {p}"
        found.append(Table(caption, ["metric", "this model", str(other), "difference", *by], rows))
    return found


def mcnemar(comparison: Mapping[str, Any]) -> Table:
    other, clips = comparison["other"], comparison["mcnemar"]
    return Table("Clips that the models predict correctly", ["", f"{other} correct", f"{other} wrong"], [
        [label("this model correct"), count(clips["both"]), count(clips["only_second"])],
        [label("this model wrong"), count(clips["only_first"]), count(clips["neither"])],
    ])  # fmt: skip


def fairness(report: Report) -> Table:
    fair = report["fairness"]
    rows = [
        [label(key.replace("_", " ")), percent(fair[key]),
         *(percent((fair["by_chance"][key] or {}).get(one)) for one in ("median", "p95"))]
        for key in ("demographic_parity", "equality_of_odds")
    ]  # fmt: skip
    columns = ["metric", "value", "by chance, median", "by chance, 95th percentile"]
    return Table("Fairness between the genders", columns, rows)


def genders_by_emotion(report: Report) -> Table:
    """Clips and rates of each gender, each in a column of its own: `selection rate, female`."""
    by_emotion = {
        emotion: {f"{key}, {of}".replace("_", " "): (count if key == "clips" else percent)(value)
                  for key, values in entry.items() if key != "difference" for of, value in values.items()}
        for emotion, entry in report["fairness"]["by_emotion"].items()
    }  # fmt: skip
    columns = list(dict.fromkeys(column for cells in by_emotion.values() for column in cells))
    rows = [[label(emotion), *(cells.get(column, count(None)) for column in columns)]
            for emotion, cells in by_emotion.items()]  # fmt: skip
    return Table("Genders by emotion", ["emotion", *columns], rows if columns else [])


def conditions(report: Report) -> Table:
    robust = report["robustness"]
    fewer = any(entry["clips"] < robust["clips"] for entry in robust["conditions"])
    rows = []
    for place, entry in enumerate(robust["conditions"]):
        # Sorted in the order of measurement: by name, 5 dB would come after 30.
        row = [Cell(entry["name"], f"place {place:04d}"), *([count(entry["clips"])] if fewer else [])]
        rows.append([*row, percent(entry["uar"]), interval(entry["interval"]), points(entry["difference"])])
    columns = ["condition", *(["clips"] if fewer else []), "UAR", level(report), "points from clean"]
    return Table("UAR by condition", columns, rows)


def latency(cost: Mapping[str, Any]) -> Table:
    rows = [
        [Cell(f"{entry['seconds']:g} s", float(entry["seconds"])), milliseconds(entry["median_ms"]),
         milliseconds(entry["p95_ms"]), count(entry["runs"])]
        for entry in cost["latency"]
    ]  # fmt: skip
    caption = "Latency: one clip, from its waveform to its probabilities"
    return Table(caption, ["length", "median", "95th percentile", "runs"], rows)


def duplicates(leakage: Mapping[str, Any]) -> Table:
    rows = [[label(entry["clip"]), label(entry["train_clip"]), decimal(entry["similarity"], 4),
             label("the same" if entry["exact"] else "nearly the same")] for entry in leakage["duplicates"]]  # fmt: skip
    columns = ["clip", "clip in training", "similarity", "which"]
    return Table("Clips that were in training, too", columns, rows)
