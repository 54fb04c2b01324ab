"""The sections of a report, in the order of the page; console and model card show some of their blocks."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_ser.rendering.blocks import (
    METRICS,
    Cell,
    Details,
    Facts,
    Items,
    Paragraph,
    Picture,
    Section,
    Table,
    count,
    decimal,
    duration,
    interval,
    label,
    milliseconds,
    p_value,
    percent,
    points,
    size,
)
from hf_ser.rendering.headline import NOT_HERE, Report, answers, best_unit, cautions, level
from hf_ser.wording import counted

#: Captions of the plots. The tables below a plot have the same values.
PICTURES = {
    "confusion_matrix": "Clips by true (rows) and predicted emotion (columns), in per cent of each row.",
    "recall": "Recall of each emotion with its interval; the dashed line is their mean, the UAR.",
    "reliability": "Accuracy against the probability of the predicted emotion, and the clips of each bin.",
    "speakers": "UAR of each speaker, by corpus and gender; the short lines are the groups' means.",
    "robustness": "UAR with intervals against the signal-to-noise ratio, and under other conditions, beside the clean clips.",
}
UNITS = ("clips", "speakers")
#: The plots that the model card shows.
CARD_PICTURES = ("robustness", "reliability")


def sections(report: Report, pictures: Mapping[str, str]) -> list[Section]:
    """All sections of the page; `pictures` has the sources of some of `PICTURES`."""
    parts = {
        "Model": _model(report),
        "Clips": _clips(report),
        "Quality": _quality(report, pictures),
        "Groups": _groups(report, pictures),
        "Comparison": _comparison(report),
        "Fairness": _fairness(report),
        "Robustness": _robustness(report, pictures),
        "Cost": _cost(report),
        "Leakage": _leakage(report),
        "Notes": [Items(report["notes"])] if report["notes"] else [Paragraph("None.")],
    }
    titles = {"Groups": "Corpora, genders, speakers"}
    return [
        Section(name.lower(), titles.get(name, name), blocks or [Paragraph(NOT_HERE)]) for name, blocks in parts.items()
    ]


def tables_in_brief(report: Report) -> list[Table]:
    """The tables of the console."""
    quality, comparison = report["quality"], report["comparison"]
    tables = [
        metrics_table(f"All {counted(quality['overall']['clips'], 'clip')}", quality["overall"], quality["intervals"]),
        *(_groups_table(f"By {name}", name, quality[key]) for key, name in (("corpora", "corpus"), ("genders", "gender"))
          if quality[key]),
    ]  # fmt: skip
    if comparison:
        tables += _comparison_tables(comparison)[-1:]
    if report["robustness"]:
        tables.append(_conditions_table(report))
    if report["cost"]:
        tables.append(_latency_table(report["cost"]))
    return tables


def card_section(report: Report, pictures: Mapping[str, str]) -> list[Any]:
    """The blocks of the model card: alarms, a sentence or two on each question, and two plots. No speaker or clip is named."""
    found: list[Any] = [Paragraph(f"**{caution.text}**") for caution in cautions(report) if caution.alarm]
    found.append(Facts(answers(report)))
    if report["leakage"] and report["leakage"]["speakers"] is not None:
        shared, copies = report["leakage"]["speakers"], {entry["clip"] for entry in report["leakage"]["duplicates"]}
        found.append(
            Paragraph(
                f"Test clips compared with those of train and validation: {counted(len(shared), 'shared speaker')}, "
                f"{counted(len(copies), 'clip that is', 'clips that are')} the same or nearly the same."
            )
        )
    for name in CARD_PICTURES:
        found += _picture(name, pictures)
    return found


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


def _units(intervals: Mapping[str, Any] | None, best_alone: bool) -> list[tuple[str, Mapping[str, Any]]]:
    """The heading and the intervals of each unit that was drawn."""
    if not intervals:
        return []
    units = [best_unit(intervals)] if best_alone else UNITS
    return [
        (f"{100 * intervals['level']:g} % interval by {unit}", intervals[unit]) for unit in units if intervals[unit]
    ]


def _picture(name: str, pictures: Mapping[str, str]) -> list[Picture]:
    return [Picture(PICTURES[name], pictures[name])] if name in pictures else []


def _model(report: Report) -> list[Any]:
    model, made = report["model"], report["made"]
    rows = [
        ("model", model["name"]),
        ("base model", model["base_model"]),
        ("encoder", model["model_type"]),
        ("method", model["method"]),
        ("precision", model["precision"]),
        ("emotions", ", ".join(model["emotions"])),
        ("label map", ", ".join(f"{output}={emotion}" for output, emotion in (model["label_map"] or {}).items())),
        ("date", made["at"]),
        ("command", made["command"]),
        ("device", made["device"]),
        ("packages", ", ".join(f"{name} {version}" for name, version in made["packages"].items())),
    ]
    return [Facts([(name, str(value)) for name, value in rows if value])]


def _clips(report: Report) -> list[Any]:
    clips = report["clips"]
    rows = [
        ("part", clips["part"]),
        ("split", clips["split"]),
        ("number", f"{clips['number']:,}"),
        ("speakers", clips["speakers"] and f"{clips['speakers']:,}"),
        ("duration", duration(clips["seconds"])),
        ("cut", clips["max_seconds"] and f"to the first {clips['max_seconds']:g} s of each clip"),
    ]
    left_out = "Clips that were left out: the model does not have their emotion"
    return [
        Facts([(name, value) for name, value in rows if value]),
        *_counts("Clips by corpus", "corpus", clips["corpora"]),
        *_counts("Clips by emotion", "emotion", clips["emotions"]),
        *_counts("Excluded clips", "reason", clips["excluded"]),
        *_counts(left_out, "emotion", clips["other_emotions"]),
    ]


def _counts(caption: str, name: str, clips: Mapping[str, int]) -> list[Table]:
    rows = [[label(group), count(number)] for group, number in clips.items()]
    return [Table(caption, [name, "clips"], rows)] if rows else []


def _quality(report: Report, pictures: Mapping[str, str]) -> list[Any]:
    quality, emotions = report["quality"], report["model"]["emotions"]
    overall, intervals = quality["overall"], quality["intervals"]
    missing = [f" No interval by {unit}: {intervals[f'{unit}_reason']}." for unit in UNITS if not intervals[unit]]
    rows = [[percent(entry["confidence"]), percent(entry["accuracy"]), count(entry["clips"])]
            for entry in quality["reliability"]]  # fmt: skip
    return [
        Paragraph(
            "UAR, the unweighted average recall, is the mean of the recalls of all emotions, whatever their numbers of clips. "
            "EER is the equal error rate of one emotion against the others, averaged; ECE is the expected calibration error. "
            "EER, ECE and log loss are better the lower they are."
        ),
        metrics_table(f"All {counted(overall['clips'], 'clip')}", overall, intervals),
        Paragraph(
            f"Intervals: percentile bootstrap, {intervals['resamples']:,} resamples of clips, or of speakers with all their "
            f"clips.{''.join(missing)}"
        ),
        *_picture("recall", pictures),
        _emotions_table(report),
        *_picture("confusion_matrix", pictures),
        _confusion_table("Clips by true and predicted emotion", overall, emotions),
        *_picture("reliability", pictures),
        Table(
            "Reliability: accuracy by the probability of the predicted emotion",
            ["probability", "accuracy", "clips"],
            rows,
        ),
    ]


def _emotions_table(report: Report) -> Table:
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
    columns = ["emotion", "clips", "recall", level(report), "precision", "EER", level(report)]
    return Table("By emotion", columns, rows)


def _confusion_table(caption: str, metrics: Mapping[str, Any], emotions: Sequence[str]) -> Table:
    rows = [[label(name), *map(count, row)] for name, row in zip(emotions, metrics["confusion_matrix"], strict=True)]
    return Table(caption, ["true emotion", *(f"as {emotion}" for emotion in emotions)], rows)


def _groups(report: Report, pictures: Mapping[str, str]) -> list[Any]:
    emotions = report["model"]["emotions"]
    blocks: list[Any] = []
    for key, name in (("corpora", "corpus"), ("genders", "gender"), ("speakers", "speaker")):
        groups = report["quality"][key]
        if not groups:
            continue
        blocks += _picture(key, pictures)  # of the speakers alone
        blocks.append(_groups_table(f"By {name}", name, groups, level(report)))
        inside = [
            Table(
                f"{metric} by {name} and emotion",
                [name, *emotions],
                [[label(group), *(percent(metrics[of].get(emotion)) for emotion in emotions)]
                 for group, metrics in groups.items()],
            )
            for of, metric in (("recall", "Recall"), ("eer_by_emotion", "EER"))
        ]  # fmt: skip
        if key != "speakers":
            inside += [_confusion_table(f"{group}: clips by true and predicted emotion", metrics, emotions)
                       for group, metrics in groups.items()]  # fmt: skip
        blocks.append(Details(f"Each emotion by {name}", inside))
    return blocks


def _groups_table(caption: str, name: str, groups: Mapping[str, Mapping[str, Any]], drawn: str = "") -> Table:
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


def _comparison(report: Report) -> list[Any]:
    comparison = report["comparison"]
    if not comparison:
        return []
    other, mcnemar = comparison["other"], comparison["mcnemar"]
    return [
        Paragraph(
            f"With {other}, on the same {counted(comparison['number'], 'clip')}. A difference is this model's metric minus the "
            "other's, in percentage points. If its interval excludes 0, it is unlikely to be chance."
        ),
        *_comparison_tables(comparison),
        *(Paragraph(f"No interval by {unit}: {comparison[f'{unit}_reason']}.") for unit in UNITS if not comparison[unit]),
        Table("Clips that the models predict correctly", ["", f"{other} correct", f"{other} wrong"], [
            [label("this model correct"), count(mcnemar["both"]), count(mcnemar["only_second"])],
            [label("this model wrong"), count(mcnemar["only_first"]), count(mcnemar["neither"])],
        ]),
        Paragraph(
            f"McNemar's exact test, p: {p_value(mcnemar['p']).text}. It assumes that clips are independent; those of one speaker "
            "are not."
        ),
    ]  # fmt: skip


def _comparison_tables(comparison: Mapping[str, Any]) -> list[Table]:
    """The metrics of both models, with the intervals of each unit; one table without any where there is none."""
    other, p = comparison["other"], p_value(comparison["mcnemar"]["p"]).text
    found = []
    for unit in [unit for unit in UNITS if comparison[unit]] or [""]:
        columns = ["metric", "this model", str(other), "difference"]
        rows = [
            [
                label(METRICS[key][0]),
                percent(comparison["second"][key]),
                percent(comparison["first"][key]),
                points(difference),
            ]
            for key, difference in comparison["difference"].items()
        ]
        if unit:
            columns += [f"{100 * comparison['level']:g} % interval by {unit}", f"p by {unit}"]
            for row, key in zip(rows, comparison["difference"], strict=True):
                entry = comparison[unit][key] or {}
                row += [interval(entry.get("interval"), points), p_value(entry.get("p"))]
        caption = f"This model and {other}{f', by {unit}' if unit else ''}; McNemar's exact test, p: {p}"
        found.append(Table(caption, columns, rows))
    return found


def _fairness(report: Report) -> list[Any]:
    fairness = report["fairness"]
    chance = fairness["by_chance"]
    names = ("demographic_parity", "equality_of_odds")
    blocks: list[Any] = [
        Paragraph(
            "How far the predictions depend on the speaker's gender; 0 is not at all. Demographic parity compares the "
            "predictions of all clips, equality of odds those of the clips of each true emotion."
        ),
        Paragraph(
            "With the shares P of the clips of two genders g and h, demographic parity is ½ Σₖ |P(k | g) - P(k | h)|, the sum "
            "over the predicted emotions k; equality of odds is the mean over the true emotions j of "
            "½ Σₖ |P(k | g, j) - P(k | h, j)|. Of more genders, the two farthest apart count."
        ),
        Table("Fairness between the genders", ["metric", "value", "by chance, median", "by chance, 95th percentile"], [
            [label(key.replace("_", " ")), percent(fairness[key]),
             *(percent((chance[key] or {}).get(one)) for one in ("median", "p95"))]
            for key in names
        ]),
    ]  # fmt: skip
    if any(chance[key] for key in names):
        blocks.append(
            Paragraph(
                f"By chance: the values if gender made no difference, from {chance['draws']:,} random permutations of "
                "the genders. They take clips as independent; differences between few speakers add to them."
            )
        )
    if fairness["reason"]:
        blocks.append(Paragraph(f"Missing: {fairness['reason']}."))
    clips = {**fairness["clips"], **({"unknown": fairness["unknown"]} if fairness["unknown"] else {})}
    blocks += _counts("Clips of each gender", "gender", clips)
    flat = {emotion: _flat(entry) for emotion, entry in fairness["by_emotion"].items()}
    if columns := list(dict.fromkeys(column for entry in flat.values() for column in entry)):
        rows = [
            [label(emotion), *(entry.get(column, count(None)) for column in columns)] for emotion, entry in flat.items()
        ]
        blocks.append(Table("Genders by emotion", ["emotion", *columns], rows))
    return blocks


def _flat(entry: Mapping[str, Mapping[str, Any]]) -> dict[str, Cell]:
    """Clips and rates of each gender, each under its own name: `selection rate, female`."""
    return {
        f"{key}, {of}".replace("_", " "): (count if key == "clips" else percent)(value)
        for key, values in entry.items()
        for of, value in values.items()
        if key != "difference"
    }


def _robustness(report: Report, pictures: Mapping[str, str]) -> list[Any]:
    robust = report["robustness"]
    if not robust:
        return []
    some = f", drawn from {robust['of']:,}" if robust["of"] != robust["clips"] else ""
    text = f"The same {counted(robust['clips'], 'clip')}{some} under each condition; noise and rooms from seed {robust['seed']}."
    return [Paragraph(text), *_picture("robustness", pictures), _conditions_table(report)]


def _conditions_table(report: Report) -> Table:
    robust = report["robustness"]
    fewer = any(entry["clips"] < robust["clips"] for entry in robust["conditions"])
    rows = []
    for place, entry in enumerate(robust["conditions"]):
        # Sorted in the order of measurement: by name, 5 dB would come after 30.
        row = [Cell(entry["name"], f"place {place:04d}"), *([count(entry["clips"])] if fewer else [])]
        rows.append([*row, percent(entry["uar"]), interval(entry["interval"]), points(entry["difference"])])
    columns = ["condition", *(["clips"] if fewer else []), "UAR", level(report), "points from clean"]
    return Table("UAR by condition", columns, rows)


def _cost(report: Report) -> list[Any]:
    cost = report["cost"]
    if not cost:
        return []
    device, flow, memory = cost["device"], cost["throughput"], cost["memory"]
    passes = f"{counted(flow['passes'], 'pass', 'passes')} in {flow['wall_seconds']:,.2f} s"
    parameters, flops, files = cost["parameters"], cost["flops"], cost["size"] or {}
    before = f"; {size(memory['before_bytes'])} before" if memory["before_bytes"] is not None else ""
    rows = [
        ("device", f"{device['name']}, {counted(device['threads'], 'thread')}, {device['dtype']}; torch {device['torch']}"),
        ("machine", f"{counted(device['processors'], 'processor')}; load in the minute before: {device['load']:.2f}"),
        ("throughput", f"{flow['speech_per_second']:,.1f} s of speech per second ({flow['clips']:,} clips of "
         f"{flow['shortest']:g} to {flow['longest']:g} s, {flow['seconds']:,.1f} s in all, {passes}, batches of "
         f"{flow['batch_seconds']:g} s)"),
        ("peak memory", f"{size(memory['peak_bytes'])}{before} ({memory['of']})"),
    ]  # fmt: skip
    if parameters:
        adapter = f", {parameters['adapter']:,} of them in the adapter" if parameters["adapter"] else ""
        rows.append(("parameters", f"{parameters['total']:,}{adapter}"))
    if flops:
        rows.append(("operations", f"{flops['per_second'] / 1e9:,.3g} GFLOP per second of speech, {flops['total'] / 1e9:,.3g} "
                                   f"GFLOP for a clip of {flops['seconds']:g} s ({flops['counted']})"))  # fmt: skip
    for key, name in (("model_bytes", "model on disk"), ("adapter_bytes", "adapter on disk")):
        if files.get(key):
            rows.append((name, size(files[key])))
    return [Facts(rows), _latency_table(cost)]


def _latency_table(cost: Mapping[str, Any]) -> Table:
    return Table(
        "Latency: one clip, from its waveform to its probabilities",
        ["length", "median", "95th percentile", "runs"],
        [[Cell(f"{entry['seconds']:g} s", float(entry["seconds"])), milliseconds(entry["median_ms"]),
          milliseconds(entry["p95_ms"]), count(entry["runs"])] for entry in cost["latency"]],
    )  # fmt: skip


def _leakage(report: Report) -> list[Any]:
    leakage = report["leakage"]
    if not leakage:
        return []
    speakers, duplicates = leakage["speakers"], leakage["duplicates"]
    if speakers is None:
        return [Paragraph(f"Whether these speakers and clips were in training, too, is unknown: {leakage['reason']}.")]
    blocks: list[Any] = [
        Paragraph(f"Speakers of these clips who were in training, too: {', '.join(speakers) or 'none'}.")
    ]
    if not duplicates:
        return [*blocks, Paragraph("Clips that were in training, too, or nearly the same: none.")]
    rows = [[label(entry["clip"]), label(entry["train_clip"]), decimal(entry["similarity"], 4),
             label("the same" if entry["exact"] else "nearly the same")] for entry in duplicates]  # fmt: skip
    columns = ["clip", "clip in training", "similarity", "which"]
    return [*blocks, Table("Clips that were in training, too", columns, rows)]
