"""
A report as a page to be read in a browser, offline, and as text for the console.

Whatever the report does not have is left out of both, and said to be missing.
"""

import base64
import math
import mimetypes
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from hf_ser.report.plots import CLEAN, clean_uar

TEMPLATE = "page.html.jinja"
WIDTH = 100  # columns of the console's
MISSING = "\N{EN DASH}"
#: What the figures are called, and whether they are shares, shown in per cent.
METRICS = {
    "uar": ("UAR", True),
    "accuracy": ("accuracy", True),
    "f1_weighted": ("weighted F1", True),
    "f1_macro": ("macro F1", True),
    "eer": ("EER", True),
    "ece": ("ECE", True),
    "log_loss": ("log loss, nats", False),
}
#: The parts of a report, and what they are called where they are missing.
PARTS = {
    "quality": "quality",
    "comparison": "comparison with another model",
    "fairness": "fairness",
    "robustness": "robustness",
    "cost": "cost",
    "leakage": "leakage",
}
NOT_HERE = "Not in this report; the notes say why."
#: Pictures, what is under them, and what is said to those who do not see them.
PICTURES = {
    "confusion_matrix": ("Recognised emotions by true emotion, in per cent of each row and as clips.", "the table below"),
    "recall": ("Recall of each emotion with its interval; the dashed line is their mean, the UAR.", "the table below"),
    "reliability": ("How often the model is right, against how sure it is, and how many clips are that sure.",
                    "the table below"),
    "speakers": ("UAR of each speaker, by corpus and gender; the short lines are the groups' means.", "the table below"),
    "robustness": ("UAR against the signal-to-noise ratio with intervals, and under other conditions, beside the clean clips.",
                   "the table below"),
    "latency": ("Time for one clip against its length: median and 95th percentile.", "the table below"),
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and what it is sorted by: a number, or the text; `None` is sorted last."""

    text: str
    key: float | str | None

    @property
    def number(self) -> bool:
        return not isinstance(self.key, str)


@dataclass(frozen=True)
class Table:
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    caption: str
    alt: str
    source: str
    kind: str = "picture"


@dataclass(frozen=True)
class Facts:
    """Names and what they are."""

    rows: Sequence[tuple[str, str]]
    kind: str = "facts"


@dataclass(frozen=True)
class Items:
    """A list."""

    texts: Sequence[str]
    kind: str = "items"


@dataclass(frozen=True)
class Details:
    """What few will want to see."""

    title: str
    blocks: Sequence[Any]
    kind: str = "details"


@dataclass(frozen=True)
class Paragraph:
    text: str
    kind: str = "paragraph"


@dataclass(frozen=True)
class Warning_:
    """Something to know before the figures are believed; an alarm says that they cannot be."""

    text: str
    alarm: bool


@dataclass(frozen=True)
class Section:
    anchor: str
    title: str
    blocks: Sequence[Any]


def page(report: Mapping[str, Any], pictures: Mapping[str, Path]) -> str:
    """
    One HTML page that needs no other file and asks nothing of the network.

    Args:
        report (`dict`): The report; parts may be missing. Its `comparison` is what
            [`~hf_ser.evaluation.paired.compare`] returns for the other model, the first, and this one, the second.
        pictures (`dict[str, Path]`): Some of `PICTURES`, as [`~hf_ser.report.plots.draw`] returns them.

    Raises:
        ValueError: if there is no place for a picture.
    """
    if strangers := sorted(set(pictures) - set(PICTURES)):
        raise ValueError(f"pictures: there is no place for {', '.join(strangers)}; there is for {', '.join(PICTURES)}")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(files("hf_ser.report").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        title=title(report),
        subtitle=subtitle(report),
        main=main_figure(report),
        tiles=tiles(report),
        answers=answers(report),
        warnings=warnings(report),
        sections=[
            model_section(report),
            clips_section(report),
            quality_section(report, pictures),
            groups_section(report, pictures),
            comparison_section(report),
            fairness_section(report),
            robustness_section(report, pictures),
            cost_section(report, pictures),
            leakage_section(report),
            Section("notes", "Notes", [Items(report["notes"])] if report.get("notes") else [Paragraph("None.")]),
        ],
    )


def summary(report: Mapping[str, Any]) -> str:
    """The report in brief for the console: plain text of at most 100 columns."""
    lines = [title(report), "=" * min(len(title(report)), WIDTH), *_wrapped(subtitle(report)), ""]
    for warning in warnings(report):
        lines += _wrapped(warning.text, "! " if warning.alarm else "- ")
    lines += ["", *(line for name, text in answers(report) for line in _wrapped(f"{name}: {text}"))]
    quality = _part(report, "quality")
    tables = [metrics_table(report)] if quality.get("overall") else []
    for key, name in (("corpora", "corpus"), ("genders", "gender")):
        if groups := quality.get(key):
            tables.append(groups_table(f"By {name}", name, groups))
    if _part(report, "robustness").get("conditions"):
        tables.append(conditions_table(report))
    if _part(report, "cost").get("latency"):
        tables.append(latency_table(report))
    for table in tables:
        lines += ["", *_text_table(table)]
    if notes := report.get("notes"):
        lines += ["", "Notes", *(line for note in notes for line in _wrapped(note, "- "))]
    return "\n".join(line.rstrip() for line in lines) + "\n"


# What is on top


def title(report: Mapping[str, Any]) -> str:
    return _printable(f"Report on {_part(report, 'model').get('name') or 'a model'}")


def subtitle(report: Mapping[str, Any]) -> str:
    """On what the figures were taken."""
    clips, made = _part(report, "clips"), _part(report, "made")
    if not clips:
        return str(made.get("at") or "")
    split = f"{clips['split']} split, " if clips.get("split") else ""
    which = "all clips" if clips.get("part") == "all" else f"{clips.get('part') or 'unknown'} part"
    number = f"{_counted(clips['number'], 'clip')}" if clips.get("number") is not None else "clips"
    speakers = f" of {_counted(clips['speakers'], 'speaker')}" if clips.get("speakers") is not None else ""
    corpora = f" from {_listed(clips['corpora'])}" if clips.get("corpora") else ""
    return f"{split}{which}: {number}{speakers}{corpora}" + (f"; {made['at']}" if made.get("at") else "")


def main_figure(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The UAR, its interval by speakers or else by clips, and chance, in per cent; `None` if there is no UAR."""
    quality = _part(report, "quality")
    uar = _number(_part(quality, "overall").get("uar"))
    if uar is None:
        return None
    intervals = _part(quality, "intervals")
    by = "speakers" if _interval(_part(intervals, "speakers").get("uar")) else "clips"
    interval = _interval(_part(intervals, by).get("uar"))
    emotions = _part(report, "model").get("emotions") or []
    told = f"{_level(report)} interval by {by}: {interval_text(interval)}" if interval else "no interval is known"
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
    quality = _part(report, "quality")
    overall, intervals = _part(quality, "overall"), _part(quality, "intervals")
    by = "speakers" if intervals.get("speakers") else "clips"
    found = []
    for key in ("accuracy", "f1_weighted", "eer", "ece"):
        if _number(overall.get(key)) is not None:
            interval = _interval(_part(intervals, by).get(key))
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
    emotions = _part(report, "model").get("emotions") or []
    chance = f"; {main['chance_text']}" if main["chance_text"] else ""
    text = f"Tells {len(emotions)} emotions apart with a UAR of {main['text']} ({main['interval']}{chance})."
    recall = _known(_part(_part(report, "quality"), "overall").get("recall"))
    if len(recall) > 1:
        best, worst = max(recall, key=recall.__getitem__), min(recall, key=recall.__getitem__)
        text += (
            f" Best at {best} (recall {percent_text(recall[best])}), worst at {worst} ({percent_text(recall[worst])})."
        )
    return text


def _for_whom(report: Mapping[str, Any]) -> str:
    quality, fairness = _part(report, "quality"), _part(report, "fairness")
    texts = []
    for key, name in (("genders", "gender"), ("corpora", "corpus")):
        uars = _known({group: figures.get("uar") for group, figures in _part(quality, key).items()})
        if len(uars) > 1:
            texts.append(f"UAR by {name}: {', '.join(f'{group} {percent_text(uar)}' for group, uar in uars.items())}.")
    uars = _known({speaker: figures.get("uar") for speaker, figures in _part(quality, "speakers").items()})
    if len(uars) > 1:
        worst, best = min(uars, key=uars.__getitem__), max(uars, key=uars.__getitem__)
        low, high = percent_text(uars[worst]), percent_text(uars[best])
        texts.append(f"Of {len(uars)} speakers it is from {low} ({worst}) to {high} ({best}).")
    if _number(fairness.get("equality_of_odds")) is not None:
        texts.append(f"Equality of odds between the genders: {percent_text(fairness['equality_of_odds'])} (0: alike).")
    return " ".join(texts)


def _conditions(report: Mapping[str, Any]) -> str:
    robust = _part(report, "robustness")
    entries = [
        entry
        for entry in robust.get("conditions") or []
        if entry["kind"] != CLEAN and _number(entry.get("uar")) is not None
    ]
    if not entries:
        return ""
    worst = min(entries, key=lambda entry: float(entry["uar"]))
    clean = clean_uar(robust)
    start = f"UAR {percent_text(clean)} on clean clips, and" if clean is not None else "UAR"
    drop = f" ({points_text(worst['difference'])})" if _number(worst.get("difference")) is not None else ""
    return f"{start} {percent_text(worst['uar'])} under the worst of {len(entries)} conditions, {worst['name']}{drop}."


def _price(report: Mapping[str, Any]) -> str:
    cost = _part(report, "cost")
    if not cost:
        return ""
    texts = []
    if entries := cost.get("latency"):
        entry = min(entries, key=lambda entry: abs(float(entry["seconds"]) - 3))
        device = f" on {cost['device']['name']}" if _part(cost, "device").get("name") else ""
        texts.append(f"A clip of {entry['seconds']:g} s takes {milliseconds_text(entry['median_ms'])}{device}.")
    if total := _part(cost, "parameters").get("total"):
        size = _part(cost, "size").get("model_bytes")
        texts.append(f"{total:,} parameters" + (f", {bytes_text(size)} on disk." if size else "."))
    return " ".join(texts)


def warnings(report: Mapping[str, Any]) -> list[Warning_]:
    """What must be known of the figures: alarms first."""
    leakage, clips, quality = (_part(report, name) for name in ("leakage", "clips", "quality"))
    alarms, others = [], []
    if speakers := leakage.get("speakers"):
        alarms.append(
            f"Leakage: {_counted(len(speakers), 'speaker')} of these clips {_were(speakers)} in training, too "
            f"({_listed(speakers, 5)}). The figures say nothing about new speakers."
        )
    if duplicates := leakage.get("duplicates"):
        alarms.append(
            f"Leakage: {_counted(len(duplicates), 'clip')} {_were(duplicates)} in training, too, or nearly the same. The "
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
    intervals = _part(quality, "intervals")
    if intervals and not intervals.get("speakers"):
        reason = f" ({intervals['speakers_reason']})" if intervals.get("speakers_reason") else ""
        others.append(f"No interval by speaker{reason}: those by clips are too narrow for new speakers.")
    if _part(report, "fairness").get("reason"):
        others.append(f"Not all figures of fairness are there: {report['fairness']['reason']}.")
    for key, text in (("set_aside", "set aside"), ("left_out", "left out, of emotions that are not the model's")):
        if table := _part(clips, key):
            each = ", ".join(f"{name} {number:,}" for name, number in table.items())
            others.append(
                f"{_counted(sum(table.values()), 'clip')} {_were(range(sum(table.values())))} {text}: {each}."
            )
    if absent := [name for key, name in PARTS.items() if report.get(key) is None]:
        others.append(f"Not in this report: {_listed(absent)}. The notes say why.")
    return [*(Warning_(text, True) for text in alarms), *(Warning_(text, False) for text in others)]


# The sections


def model_section(report: Mapping[str, Any]) -> Section:
    model, made = _part(report, "model"), _part(report, "made")
    packages = ", ".join(f"{name} {version}" for name, version in _part(made, "packages").items())
    merged = ", ".join(f"{one} is {other}" for one, other in _part(model, "label_map").items())
    rows = [
        ("model", model.get("name")),
        ("base model", model.get("base_model")),
        ("encoder", model.get("model_type")),
        ("method", model.get("method")),
        ("emotions", ", ".join(model.get("emotions") or [])),
        ("labels read as", merged),
        ("made", made.get("at")),
        ("command", made.get("command")),
        ("device", made.get("device")),
        ("packages", packages),
    ]
    return Section("model", "Model", [Facts([(name, str(value)) for name, value in rows if value])])


def clips_section(report: Mapping[str, Any]) -> Section:
    clips = _part(report, "clips")
    if not clips:
        return Section("clips", "Clips", [Paragraph(NOT_HERE)])
    rows = [("part", clips.get("part")), ("split", clips.get("split"))]
    rows += [(name, f"{clips[name]:,}") for name in ("number", "speakers") if clips.get(name) is not None]
    rows += [("duration", duration_text(clips["seconds"]))] if clips.get("seconds") is not None else []
    rows += [("heard", f"the first {clips['max_seconds']:g} s of each clip")] if clips.get("max_seconds") else []
    blocks: list[Any] = [Facts([(name, str(value)) for name, value in rows if value])]
    for key, name, caption in (
        ("corpora", "corpus", "Clips by corpus"),
        ("emotions", "emotion", "Clips by emotion"),
        ("set_aside", "reason", "Clips that were set aside"),
        ("left_out", "emotion", "Clips that were left out: the model does not know their emotion"),
    ):
        if table := _part(clips, key):
            blocks.append(Table(caption, [name, "clips"], [[label(group), count(n)] for group, n in table.items()]))
    return Section("clips", "Clips", blocks)


def quality_section(report: Mapping[str, Any], pictures: Mapping[str, Path]) -> Section:
    quality = _part(report, "quality")
    overall = _part(quality, "overall")
    if not overall:
        return Section("quality", "Quality", [Paragraph(NOT_HERE)])
    intervals = _part(quality, "intervals")
    blocks: list[Any] = [
        Paragraph(
            "UAR, the unweighted average recall, is the mean of the emotions' recalls: each counts alike, however many clips "
            "it has. EER is the equal error rate of one emotion against the others, ECE the expected calibration error. Of "
            "EER, ECE and log loss the lower is the better."
        ),
        metrics_table(report),
    ]
    if intervals.get("resamples"):
        told = (
            f"Intervals: percentile bootstrap of {intervals['resamples']:,} resamples of clips, or of whole speakers."
        )
        if intervals.get("speakers_reason"):
            told += f" None by speaker: {intervals['speakers_reason']}."
        blocks.append(Paragraph(told))
    blocks += [*_picture("recall", pictures), emotions_table(report)]
    blocks += _picture("confusion_matrix", pictures)
    if overall.get("confusion_matrix"):
        blocks.append(confusion_table("Clips by true and recognised emotion", overall, _emotions(report)))
    if bins := quality.get("reliability"):
        blocks += _picture("reliability", pictures)
        rows = [[percent(entry.get("confidence")), percent(entry.get("accuracy")), count(entry.get("clips"))]
                for entry in bins]  # fmt: skip
        blocks.append(Table("Reliability: how sure the model is, and how often it is right then",
                            ["mean probability of what is recognised", "right", "clips"], rows))  # fmt: skip
    return Section("quality", "Quality", blocks)


def metrics_table(report: Mapping[str, Any]) -> Table:
    quality = report["quality"]
    overall, intervals = quality["overall"], _part(quality, "intervals")
    rows = []
    for key, (name, share) in METRICS.items():
        value = percent(overall.get(key)) if share else decimal(overall.get(key))
        rows.append(
            [label(name), value, *(interval_cell(_part(intervals, by).get(key)) for by in ("clips", "speakers"))]
        )
    level = _level(report)
    caption = f"All {_counted(overall['clips'], 'clip')}" if overall.get("clips") is not None else "All clips"
    return Table(caption, ["figure", "value", f"{level} interval by clips", f"{level} interval by speakers"], rows)


def emotions_table(report: Mapping[str, Any]) -> Table:
    quality = report["quality"]
    overall, intervals = quality["overall"], _part(quality, "recall_intervals")
    eer_intervals = _part(quality, "eer_by_emotion_intervals")
    recall, eer, matrix = _part(overall, "recall"), _part(overall, "eer_by_emotion"), overall.get("confusion_matrix")
    rows = []
    for k, emotion in enumerate(_emotions(report)):
        clips, said = (sum(matrix[k]), sum(row[k] for row in matrix)) if matrix else (None, None)
        precision = matrix[k][k] / said if matrix and said else None
        rows.append([label(emotion), count(clips), percent(recall.get(emotion)), interval_cell(intervals.get(emotion)),
                     percent(precision), percent(eer.get(emotion)), interval_cell(eer_intervals.get(emotion))])  # fmt: skip
    level = f"{_level(report)} interval"
    return Table("By emotion", ["emotion", "clips", "recall", level, "precision", "EER", level], rows)


def confusion_table(caption: str, figures: Mapping[str, Any], emotions: Sequence[str]) -> Table:
    rows = [
        [label(emotion), *map(count, row)] for emotion, row in zip(emotions, figures["confusion_matrix"], strict=True)
    ]
    return Table(caption, ["true emotion", *(f"as {emotion}" for emotion in emotions)], rows)


def groups_section(report: Mapping[str, Any], pictures: Mapping[str, Path]) -> Section:
    quality = _part(report, "quality")
    emotions = _emotions(report)
    blocks: list[Any] = []
    for key, name in (("corpora", "corpus"), ("genders", "gender"), ("speakers", "speaker")):
        groups = _part(quality, key)
        if not groups:
            continue
        if key == "speakers":
            blocks += _picture("speakers", pictures)
        blocks.append(groups_table(f"By {name}", name, groups, f"{_level(report)} interval"))
        inside: list[Any] = []
        for figure, caption in (
            ("recall", f"Recall by {name} and emotion"),
            ("eer_by_emotion", f"EER by {name} and emotion"),
        ):
            if any(figures.get(figure) for figures in groups.values()):
                rows = [[label(group), *(percent(_part(figures, figure).get(emotion)) for emotion in emotions)]
                        for group, figures in groups.items()]  # fmt: skip
                inside.append(Table(caption, [name, *emotions], rows))
        if key != "speakers":
            inside += [confusion_table(f"{group}: clips by true and recognised emotion", figures, emotions)
                       for group, figures in groups.items() if figures.get("confusion_matrix")]  # fmt: skip
        if inside:
            blocks.append(Details(f"Each emotion by {name}", inside))
    return Section("groups", "Corpora, genders, speakers", blocks or [Paragraph(NOT_HERE)])


def groups_table(
    caption: str, name: str, groups: Mapping[str, Mapping[str, Any]], interval: str | None = None
) -> Table:
    """The figures of each group, and under the heading `interval`, if there is room for it, that of the UAR."""
    columns, rows = [name, "clips"], [[label(group), count(figures.get("clips"))] for group, figures in groups.items()]
    for key, (metric, share) in METRICS.items():
        columns.append(metric)
        for row, figures in zip(rows, groups.values(), strict=True):
            row.append(percent(figures.get(key)) if share else decimal(figures.get(key)))
        if key == "uar" and interval:
            columns.append(interval)
            for row, figures in zip(rows, groups.values(), strict=True):
                row.append(interval_cell(_part(figures, "intervals").get(key)))
    return Table(caption, columns, rows)


def comparison_section(report: Mapping[str, Any]) -> Section:
    heading = ("comparison", "Comparison")
    comparison = _part(report, "comparison")
    if not comparison:
        return Section(*heading, [Paragraph(NOT_HERE)])
    other = str(comparison.get("other") or "the other model")
    mcnemar = _part(comparison, "mcnemar")
    clips = sum(mcnemar.get(key) or 0 for key in ("both", "only_first", "only_second", "neither"))
    blocks: list[Any] = [
        Paragraph(
            f"With {other}, on the same {_counted(clips, 'clip') if clips else 'clips'}. A difference is this model's figure "
            "less the other's, in points; where its interval excludes 0, it is unlikely to be chance."
        )
    ]
    rows = []
    first, second, difference = (_part(comparison, key) for key in ("first", "second", "difference"))
    for key, (name, _) in METRICS.items():
        if key in difference:
            row = [label(name), percent(second.get(key)), percent(first.get(key)), points(difference[key])]
            for unit in ("clips", "speakers"):
                drawn = _part(_part(comparison, unit), key)
                row += [points_interval(drawn.get("interval")), p_value(drawn.get("p"))]
            rows.append(row)
    level = f"{100 * (comparison.get('level') or 0.95):g} %"
    columns = ["figure", "this model", other, "difference"]
    columns += [f"{level} interval by clips", "p by clips", f"{level} interval by speakers", "p by speakers"]
    blocks.append(Table(f"This model and {other}", columns, rows))
    if comparison.get("speakers_reason"):
        blocks.append(Paragraph(f"No interval by speaker: {comparison['speakers_reason']}."))
    if mcnemar:
        blocks.append(Table("Clips that the models have right", ["", f"{other} is right", f"{other} is wrong"], [
            [label("this model is right"), count(mcnemar.get("both")), count(mcnemar.get("only_second"))],
            [label("this model is wrong"), count(mcnemar.get("only_first")), count(mcnemar.get("neither"))],
        ]))  # fmt: skip
        blocks.append(Paragraph(f"McNemar's exact test, p: {p_value(mcnemar.get('p')).text}. It takes clips to be "
                                "independent, which those of one speaker are not."))  # fmt: skip
    return Section(*heading, blocks)


def fairness_section(report: Mapping[str, Any]) -> Section:
    heading = ("fairness", "Fairness")
    fairness = _part(report, "fairness")
    if not fairness:
        return Section(*heading, [Paragraph(NOT_HERE)])
    blocks: list[Any] = [
        Paragraph(
            "How far the answers depend on the speaker's gender: 0 is not at all. Demographic parity compares what is "
            "recognised, whatever the truth; equality of odds does so for the clips of each true emotion."
        ),
        Table("Fairness between the genders", ["figure", "value"], [
            [label("demographic parity"), percent(fairness.get("demographic_parity"))],
            [label("equality of odds"), percent(fairness.get("equality_of_odds"))],
            *([label(f"clips, {gender}"), count(number)] for gender, number in _part(fairness, "clips").items()),
            *([[label("clips, gender unknown"), count(fairness["unknown"])]] if fairness.get("unknown") else []),
        ]),
    ]  # fmt: skip
    if fairness.get("reason"):
        blocks.append(Paragraph(f"What is missing: {fairness['reason']}."))
    flat = {emotion: _flat(entry) for emotion, entry in _part(fairness, "by_emotion").items()}
    if columns := list(dict.fromkeys(column for entry in flat.values() for column in entry)):
        rows = [[label(emotion), *(_rate(entry.get(column)) for column in columns)] for emotion, entry in flat.items()]
        blocks.append(Table("Genders by emotion", ["emotion", *columns], rows))
    return Section(*heading, blocks)


def robustness_section(report: Mapping[str, Any], pictures: Mapping[str, Path]) -> Section:
    heading = ("robustness", "Robustness")
    robust = _part(report, "robustness")
    if not robust:
        return Section(*heading, [Paragraph(NOT_HERE)])
    number = f": {_counted(robust['clips'], 'clip')}" if robust.get("clips") is not None else ""
    number += f", drawn from {robust['of']:,}" if robust.get("of") and robust["of"] != robust.get("clips") else ""
    told = f"The same clips under each condition{number}"
    told += f"; noise and rooms drawn with the seed {robust['seed']}." if robust.get("seed") is not None else "."
    return Section(*heading, [Paragraph(told), *_picture("robustness", pictures), conditions_table(report)])


def conditions_table(report: Mapping[str, Any]) -> Table:
    rows = [
        [label(entry["name"]), percent(entry.get("uar")), interval_cell(entry.get("interval")), points(entry.get("difference"))]
        for entry in report["robustness"].get("conditions") or []
    ]  # fmt: skip
    return Table("UAR by condition", ["condition", "UAR", f"{_level(report)} interval", "points from clean"], rows)


def cost_section(report: Mapping[str, Any], pictures: Mapping[str, Path]) -> Section:
    cost = _part(report, "cost")
    if not cost:
        return Section("cost", "Cost", [Paragraph(NOT_HERE)])
    device, flow, memory, parameters, flops, size = (
        _part(cost, key) for key in ("device", "throughput", "memory", "parameters", "flops", "size")
    )
    rows: list[tuple[str, str]] = []
    if device:
        rows.append(("device", f"{device['name']}, {_counted(device['threads'], 'thread')}, {device['dtype']}"))
        rows.append(("machine", f"{_counted(device['processors'], 'processor')}, {device['load']:.2f} of them busy in the "
                                f"minute before, with this report or else; torch {device['torch']}"))  # fmt: skip
    if flow:
        clips = (
            f"{flow['clips']:,} clips of {flow['shortest']:g} to {flow['longest']:g} s, {flow['seconds']:,.1f} s in all"
        )
        wall = f"{_counted(flow['passes'], 'time')} in {flow['wall_seconds']:,.2f} s"
        rows.append(("throughput", f"{flow['speech_per_second']:,.1f} s of speech per second ({clips}, {wall}, batches of "
                                   f"{flow['batch_seconds']:g} s)"))  # fmt: skip
    if memory:
        before = f"; {bytes_text(memory['before_bytes'])} before" if memory.get("before_bytes") is not None else ""
        rows.append(("peak memory", f"{bytes_text(memory['peak_bytes'])}{before} ({memory['of']})"))
    if parameters:
        adapter = f", {parameters['adapter']:,} of them its adapter's" if parameters.get("adapter") else ""
        rows.append(("parameters", f"{parameters['total']:,}{adapter}"))
    if flops:
        rows.append(("operations", f"{flops['per_second'] / 1e9:,.3g} GFLOP per second of speech, {flops['total'] / 1e9:,.3g} "
                                   f"GFLOP for a clip of {flops['seconds']:g} s ({flops['counted']})"))  # fmt: skip
    rows += [
        (name, bytes_text(size[key]))
        for key, name in (("model_bytes", "model on disk"), ("adapter_bytes", "adapter on disk"))
        if size.get(key)
    ]
    blocks: list[Any] = [Facts(rows)]
    if cost.get("latency"):
        blocks += [*_picture("latency", pictures), latency_table(report)]
    return Section("cost", "Cost", blocks)


def latency_table(report: Mapping[str, Any]) -> Table:
    rows = [
        [Cell(f"{entry['seconds']:g} s", float(entry["seconds"])), milliseconds(entry["median_ms"]),
         milliseconds(entry["p95_ms"]), count(entry["runs"])]
        for entry in report["cost"]["latency"]
    ]  # fmt: skip
    return Table(
        "Latency: one clip, from its waveform to its probabilities",
        ["length", "median", "95th percentile", "runs"],
        rows,
    )


def leakage_section(report: Mapping[str, Any]) -> Section:
    leakage = _part(report, "leakage")
    blocks: list[Any] = []
    speakers, duplicates = leakage.get("speakers"), leakage.get("duplicates")
    if speakers is not None:
        told = f"Speakers of these clips who were in training, too: {', '.join(speakers) or 'none'}."
        blocks.append(Paragraph(told))
    if duplicates:
        rows = [[label(entry["clip"]), label(entry["train_clip"]), decimal(entry.get("similarity"), 4),
                 label("the same" if entry.get("exact") else "nearly the same")] for entry in duplicates]  # fmt: skip
        blocks.append(
            Table("Clips that were in training, too", ["clip", "clip in training", "similarity", "which"], rows)
        )
    elif duplicates is not None:
        blocks.append(Paragraph("Clips that were in training, too, or nearly the same: none."))
    if speakers is None or duplicates is None:
        reason = f": {leakage['reason']}" if leakage.get("reason") else ""
        missing = " and ".join(name for name, found in (("speakers", speakers), ("clips", duplicates)) if found is None)
        blocks.append(Paragraph(f"Whether {missing} were in training, too, is not known{reason}."))
    elif leakage.get("reason"):
        blocks.append(Paragraph(f"{leakage['reason']}"))
    return Section("leakage", "Leakage", blocks)


def _picture(name: str, pictures: Mapping[str, Path]) -> list[Picture]:
    """The picture inside the page, if there is one."""
    if name not in pictures:
        return []
    caption, told = PICTURES[name]
    kind = mimetypes.guess_type(pictures[name].name)[0] or "image/png"
    data = base64.b64encode(pictures[name].read_bytes()).decode("ascii")
    return [Picture(caption, f"{caption} The figures are in {told}.", f"data:{kind};base64,{data}")]


# Words and cells


def label(text: Any) -> Cell:
    return Cell(str(text), str(text))


def count(number: Any) -> Cell:
    value = _number(number)
    return Cell(MISSING if value is None else f"{value:,.0f}", value)


def percent(share: Any) -> Cell:
    return Cell(percent_text(share), _number(share))


def decimal(number: Any, digits: int = 3) -> Cell:
    value = _number(number)
    return Cell(MISSING if value is None else f"{value:.{digits}f}", value)


def p_value(number: Any) -> Cell:
    value = _number(number)
    return Cell("below 0.0001", value) if value is not None and value < 0.0001 else decimal(number, 4)


def points(difference: Any) -> Cell:
    value = _number(difference)
    return Cell(MISSING if value is None else f"{100 * value:+.1f}", value)


def milliseconds(value: Any) -> Cell:
    return Cell(milliseconds_text(value), _number(value))


def interval_cell(pair: Any) -> Cell:
    interval = _interval(pair)
    return Cell(interval_text(interval), interval[0]) if interval else Cell(MISSING, None)


def points_interval(pair: Any) -> Cell:
    interval = _interval(pair)
    return (
        Cell("{:+.1f} to {:+.1f}".format(*(100 * edge for edge in interval)), interval[0])
        if interval
        else Cell(MISSING, None)
    )


def percent_text(share: Any) -> str:
    value = _number(share)
    return MISSING if value is None else f"{100 * value:.1f} %"


def interval_text(interval: Sequence[float]) -> str:
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"


def points_text(difference: float) -> str:
    return f"{100 * difference:+.1f} points"


def milliseconds_text(value: float) -> str:
    return f"{value:,.1f} ms" if value < 100 else f"{value:,.0f} ms"


def duration_text(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def bytes_text(number: float) -> str:
    unit, size = next((pair for pair in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if number >= pair[1]), ("bytes", 1))
    return f"{number / size:,.{0 if size == 1 else 1}f} {unit}"


def _rate(value: Any) -> Cell:
    return count(value) if isinstance(value, int) else percent(value)


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Rates by gender, each under its own name: `selection rate, female`."""
    found: dict[str, Any] = {}
    for key, value in entry.items():
        name = str(key).replace("_", " ")
        if isinstance(value, Mapping):
            found |= {f"{name}, {inner}": item for inner, item in _flat(value).items()}
        else:
            found[name] = value
    return found


def _part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return of.get(name) or {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _interval(pair: Any) -> tuple[float, float] | None:
    if not pair or None in map(_number, pair):
        return None
    return float(pair[0]), float(pair[1])


def _known(values: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: number for name, value in (values or {}).items() if (number := _number(value)) is not None}


def _emotions(report: Mapping[str, Any]) -> list[str]:
    recall = _part(_part(_part(report, "quality"), "overall"), "recall")
    return list(_part(report, "model").get("emotions") or recall)


def _level(report: Mapping[str, Any]) -> str:
    return f"{100 * (_part(_part(report, 'quality'), 'intervals').get('level') or 0.95):g} %"


def _counted(number: int | float, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _were(things: Iterable[Any]) -> str:
    return "was" if len(list(things)) == 1 else "were"


def _listed(words: Iterable[str], most: int | None = None) -> str:
    words = list(map(str, words))
    if most and len(words) > most:
        words = [*words[:most], f"{len(words) - most} more"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# For the console


def _printable(text: str) -> str:
    """Text of one line, without what a terminal takes for a command."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def _wrapped(text: str, bullet: str = "") -> list[str]:
    held = _printable(text).replace(" %", "\N{NO-BREAK SPACE}%")
    lines = textwrap.wrap(held, WIDTH, initial_indent=bullet, subsequent_indent=" " * len(bullet or "  "))
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _text_table(table: Table) -> list[str]:
    """The caption, a line of names, the rows; the first column is cut where they would be too wide."""
    cells = [
        [_printable(name) for name in table.columns],
        *([_printable(cell.text) for cell in row] for row in table.rows),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    widths[0] = max(min(widths[0], WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1)), 8)
    lines = []
    for row in cells:
        first = row[0] if len(row[0]) <= widths[0] else f"{row[0][: widths[0] - 3]}..."
        others = [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *others]))
    return [*_wrapped(table.caption), *lines[:1], "-" * len(lines[0]), *lines[1:]]
