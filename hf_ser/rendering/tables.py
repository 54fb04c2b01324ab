"""The tables of a report. The page has all of them, console and model card some."""

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
)
from hf_ser.rendering.headline import (
    CONDITION_KEYS,
    INTERVAL,
    UNITS,
    Report,
    best_interval,
    difference_of,
    form_of,
    missing_intervals,
)
from hf_ser.wording import counted, listed

Groups = Mapping[str, Mapping[str, Any]]

#: Captions of the plots. The tables below a plot have the same values.
CAPTIONS = {
    "confusion_matrix": "Clips by true (rows) and predicted emotion (columns), in per cent of each row.",
    "recall": "Recall of each emotion with its interval; the dashed line is their mean, the UAR.",
    "reliability": "Accuracy against the probability of the predicted emotion, and the clips of each bin.",
    "speakers": "UAR (of dimensions alone CCC) of each speaker, by corpus and gender; the short lines are the groups' means.",
    "dimensions": "Clips by true (across) and predicted value (upwards) of each dimension; on the line they are the same.",
    "robustness": "UAR (of dimensions alone CCC) with intervals against the signal-to-noise ratio, and under other conditions, "
    "beside the clean clips.",
}
#: The plots that the model card shows.
CARD_PICTURES = ("robustness", "reliability")
#: The groups of clips with metrics of their own, and the column that names each.
GROUPS = {"corpora": "corpus", "genders": "gender", "speakers": "speaker"}


def in_brief(report: Report) -> list[Table]:
    """The tables of the console."""
    quality, comparison = report["quality"], report["comparison"]
    tables = [overall(report), *further(quality["overall"], report["clips"].get("agreement"))]
    for key in ("corpora", "genders"):
        if quality[key]:
            tables.append(by_group(f"By {GROUPS[key]}", GROUPS[key], quality[key]))
            tables.append(by_group_and_dimension(GROUPS[key], quality[key]))
    if comparison:
        compared = comparisons(comparison)  # that by speakers alone, if it has an interval of each main metric
        tables += compared if missing_intervals(comparison, comparison["difference"], ["speakers"]) else compared[-1:]
    if report["robustness"]:
        tables.append(conditions(report))
    if report["cost"]:
        tables.append(latency(report["cost"]))
    return [table for table in tables if table.rows]


def overall(report: Report) -> Table:
    quality = report["quality"]
    return metrics_table(
        f"All {counted(quality['overall']['clips'], 'clip')}", quality["overall"], quality["intervals"]
    )


def further(metrics: Mapping[str, Any], agreement: Mapping[str, Any] | None) -> list[Table]:
    """
    The metrics of each dimension, beside the agreement of the raters as the upper limit, and of the distributions, if they were
    measured; with the best interval.
    """
    tables = []
    if found := metrics.get("dimensions"):
        rated = {corpus: of for corpus, of in (agreement or {}).items() if found.keys() & of.keys()}
        rows = [
            [*_dimension_row(name, of), *(decimal((each.get(name) or {}).get("alpha")) for each in rated.values())]
            for name, of in found.items()
        ]
        columns = [*DIMENSION_COLUMNS, *(f"raters' alpha, {corpus}" for corpus in rated)]
        tables.append(Table("By dimension", columns, rows))
    if found := metrics.get("distribution"):
        name = f"on {counted(found['clips'], 'clip')} with votes"
        caption = "Probabilities and the shares of the raters' votes"
        tables.append(metrics_table(caption, found, found["intervals"], name=name, best_alone=True))
    return tables


def metrics_table(
    caption: str,
    metrics: Mapping[str, Any],
    intervals: Mapping[str, Any] | None,
    baseline: Mapping[str, Any] | None = None,
    *,
    name: str = "metric",
    best_alone: bool = False,
) -> Table:
    """
    Each metric with its intervals by clips and by speakers, if there are any; with `best_alone` only the best. `baseline`: the
    metrics of the probe on the same clips, and their `intervals`.
    """
    units, probe = (_units(of, best_alone) for of in (intervals, (baseline or {}).get("intervals")))
    columns = [name, "model" if baseline else "value", *(heading for heading, _ in units)]
    columns += ["probe", *(f"probe, {heading}" for heading, _ in probe)] if baseline else []
    rows = []
    for key, (text, form) in METRICS.items():
        if metrics.get(key) is not None:
            row = [label("CCC, mean of the dimensions" if key == "ccc" else text), form(metrics[key])]
            row += [interval(drawn.get(key), form) for _, drawn in units]
            if baseline:
                row += [form(baseline.get(key)), *(interval(drawn.get(key), form) for _, drawn in probe)]
            rows.append(row)
    return Table(caption, columns, rows)


DIMENSION_COLUMNS = ("dimension", "clips", "CCC", INTERVAL, "CCC, mean of speakers", "MAE")


def _dimension_row(name: str, found: Mapping[str, Any]) -> list[Cell]:
    edges = best_interval(found["intervals"], "ccc")
    return [label(name), count(found["clips"]), decimal(found["ccc"]), interval(edges, decimal),
            decimal(found["ccc_by_speaker"]), decimal(found["mae"])]  # fmt: skip


def by_part(metrics: Mapping[str, Mapping[str, Any]], probe: Mapping[str, Any]) -> list[Table]:
    """The metrics of emotions (also normalised) and dimensions on each part of a run's split, beside the probe's."""
    normalised = {
        f"{part}, normalised by {of['normalised']['by']}": of["normalised"]
        for part, of in metrics.items()
        if "normalised" in of
    }
    emotions = [
        [label(part), count(of["clips"]), percent(of["uar"]), interval(best_interval(of["intervals"], "uar")),
         percent(of["accuracy"]), percent(of["f1_macro"]), percent(probe.get(part, {}).get("uar"))]
        for part, of in {**metrics, **normalised}.items() if "uar" in of
    ]  # fmt: skip
    dimensions = [
        [label(part), *_dimension_row(name, of), decimal(probe.get(part, {}).get("ccc"))]
        for part, found in metrics.items() for name, of in found.get("dimensions", {}).items()
    ]  # fmt: skip
    columns = ("part", "clips", "UAR", INTERVAL, "accuracy", "macro F1", "probe's UAR")
    tables = [Table("", columns, emotions), Table("", ("part", *DIMENSION_COLUMNS, "probe's mean CCC"), dimensions)]
    return [table for table in tables if table.rows]


def _units(intervals: Mapping[str, Any] | None, best_alone: bool) -> list[tuple[str, Mapping[str, Any]]]:
    """The heading and the intervals of each unit that was drawn."""
    if not intervals:
        return []
    drawn = [unit for unit in UNITS if intervals[unit]]
    return [(f"{INTERVAL} by {unit}", intervals[unit]) for unit in (drawn[-1:] if best_alone else drawn)]


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
    return Table("By emotion", ["emotion", "clips", "recall", INTERVAL, "precision", "EER", INTERVAL], rows)


def confusion(caption: str, metrics: Mapping[str, Any], emotions: Sequence[str]) -> Table:
    rows = [[label(name), *map(count, row)] for name, row in zip(emotions, metrics["confusion_matrix"], strict=True)]
    return Table(caption, ["true emotion", *(f"as {emotion}" for emotion in emotions)], rows)


def reliability(report: Report) -> Table:
    rows = [[percent(entry["confidence"]), percent(entry["accuracy"]), count(entry["clips"])]
            for entry in report["quality"]["reliability"]]  # fmt: skip
    return Table(
        "Reliability: accuracy by the probability of the predicted emotion", ["probability", "accuracy", "clips"], rows
    )


def by_group(caption: str, name: str, groups: Groups, drawn: bool = False) -> Table:
    """
    The metrics of each group; with `drawn` the intervals of the main metric: by clips, and by speakers if a group has
    enough of them.
    """
    units = {"intervals": INTERVAL, "intervals_by_speaker": f"{INTERVAL} by speakers"} if drawn else {}
    units = {key: text for key, text in units.items() if any(metrics.get(key) for metrics in groups.values())}
    measured = [key for key in METRICS if any(key in metrics for metrics in groups.values())]
    if not measured:  # these clips have the raters' votes alone
        return Table(caption, (), ())
    main, others = measured[0], measured[1:]
    rows = [
        [label(group), count(metrics["clips"]), form_of(main)(metrics.get(main)),
         *(interval((metrics.get(key) or {}).get(main), form_of(main)) for key in units),
         *(form_of(key)(metrics.get(key)) for key in others)]
        for group, metrics in groups.items()
    ]  # fmt: skip
    heading, *headings = (METRICS[key][0] for key in measured)
    return Table(caption, [name, "clips", heading, *units.values(), *headings], rows)


def by_group_and_dimension(name: str, groups: Groups) -> Table:
    """The metrics of each dimension on the clips of each group, if they were measured with intervals."""
    rows = [
        [label(group), *_dimension_row(dimension, of)]
        for group, metrics in groups.items()
        for dimension, of in metrics.get("dimensions", {}).items()
        if "intervals" in of
    ]
    return Table(f"Dimensions by {name}", [name, *DIMENSION_COLUMNS], rows)


def by_group_and_emotion(caption: str, name: str, groups: Groups, metric: str, emotions: Sequence[str]) -> Table:
    """A metric of each emotion in each group of clips with emotions."""
    rows = [[label(group), *(percent(metrics[metric].get(emotion)) for emotion in emotions)]
            for group, metrics in groups.items() if metric in metrics]  # fmt: skip
    return Table(caption, [name, *emotions], rows)


def comparisons(comparison: Mapping[str, Any]) -> list[Table]:
    """The metrics of both models: a table for each unit with intervals, or one table without intervals."""
    parts = [("", comparison), *((f" of {name}", of) for name, of in comparison.get("dimensions", {}).items())]
    parts += [("", of) for of in [comparison.get("distribution")] if of]
    rows_of = [
        ("mean CCC" if key == "ccc" and not of else f"{METRICS[key][0]}{of}", found, key)
        for of, found in parts
        for key in METRICS
        if key in found["difference"]
    ]
    test = f"; McNemar's exact test, p: {p_value(comparison['mcnemar']['p']).text}" if "mcnemar" in comparison else ""
    tables = []
    for unit in [unit for unit in UNITS if any(found[unit] for _, found in parts)] or [""]:
        rows = []
        for name, found, key in rows_of:
            form, (difference, _) = form_of(key), difference_of(key)
            entry = ((found.get(unit) or {}).get(key)) or {}
            bounds = [interval(entry.get("interval"), difference), p_value(entry.get("p"))] if unit else []
            values = [form(found["second"][key]), form(found["first"][key]), difference(found["difference"][key])]
            rows.append([label(name), *values, *bounds])
        by = [f"{INTERVAL} by {unit}", f"p by {unit}"] if unit else []
        caption = f"This model and {comparison['other']}{f', by {unit}' if unit else ''}{test}"
        tables.append(Table(caption, ["metric", "this model", str(comparison["other"]), "difference", *by], rows))
    return tables


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


def fairness_of_dimensions(report: Report) -> Table:
    """The differences between the genders, and the metrics of each."""
    found = report["fairness"].get("dimensions", {})
    names = {"mean_error": "mean error", "ccc": "CCC"}
    genders = sorted({gender for of in found.values() for gender in of["by_gender"]})
    rows = [
        [label(f"{text} of {name}"), decimal(of[key]),
         *(decimal((of["by_chance"][key] or {}).get(one)) for one in ("median", "p95")),
         *(decimal(of["by_gender"].get(gender, {}).get(key)) for gender in genders)]
        for name, of in found.items() for key, text in names.items()
    ]  # fmt: skip
    columns = ["metric", "difference", "by chance, median", "by chance, 95th percentile", *genders]
    return Table("Dimensions: differences between the genders", columns, rows)


def draws_by_chance(report: Report) -> int | None:
    """The number of permutations of the genders, if a metric is compared with them."""
    fair = report["fairness"]
    found = [of["by_chance"] for of in (fair, *fair.get("dimensions", {}).values()) if of["by_chance"]]
    return next((one["draws"] for one in found if any(isinstance(value, dict) for value in one.values())), None)


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
    measured = [key for key in CONDITION_KEYS if any(key in entry for entry in robust["conditions"])]
    rows = []
    for place, entry in enumerate(robust["conditions"]):
        # Sorted in the order of measurement: by name, 5 dB would come after 30.
        row = [Cell(entry["name"], f"place {place:04d}"), *([count(entry["clips"])] if fewer else [])]
        for key in measured:
            value, edges, apart = (entry[name] for name in CONDITION_KEYS[key])
            row += [form_of(key)(value), interval(edges, form_of(key)), difference_of(key)[0](apart)]
        rows.append(row)
    columns = ["condition", *(["clips"] if fewer else [])]
    for key in measured:
        apart = "points" if key == "uar" else "change"
        # Shorter for two metrics, because of the width of a console.
        columns += [key.upper(), INTERVAL, apart if len(measured) > 1 else f"{apart} from clean"]
    return Table(f"{listed(map(str.upper, measured))} by condition", columns, rows)


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
