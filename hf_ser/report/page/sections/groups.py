"""What it can do in each corpus, for each gender and for each speaker."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_ser.report.page.blocks import Details, Paragraph, Section, Table
from hf_ser.report.page.cells import count, decimal, interval_cell, label, percent
from hf_ser.report.page.pictures import picture
from hf_ser.report.page.reading import emotion_names, interval_level, part
from hf_ser.report.page.sections.quality import confusion_table
from hf_ser.report.page.words import METRICS, NOT_HERE


def groups_section(report: Mapping[str, Any], pictures: Mapping[str, Path]) -> Section:
    quality = part(report, "quality")
    emotions = emotion_names(report)
    blocks: list[Any] = []
    for key, name in (("corpora", "corpus"), ("genders", "gender"), ("speakers", "speaker")):
        groups = part(quality, key)
        if not groups:
            continue
        if key == "speakers":
            blocks += picture("speakers", pictures)
        blocks.append(groups_table(f"By {name}", name, groups, f"{interval_level(report)} interval"))
        inside: list[Any] = []
        for figure, caption in (
            ("recall", f"Recall by {name} and emotion"),
            ("eer_by_emotion", f"EER by {name} and emotion"),
        ):
            if any(figures.get(figure) for figures in groups.values()):
                rows = [[label(group), *(percent(part(figures, figure).get(emotion)) for emotion in emotions)]
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
    """
    The figures of each group, and under the heading `interval`, if there is room for it, that of the UAR: by clips, and by
    speakers where a group has enough of them.
    """
    columns, rows = [name, "clips"], [[label(group), count(figures.get("clips"))] for group, figures in groups.items()]
    for key, (metric, share) in METRICS.items():
        columns.append(metric)
        for row, figures in zip(rows, groups.values(), strict=True):
            row.append(percent(figures.get(key)) if share else decimal(figures.get(key)))
        if key != "uar" or not interval:
            continue
        for drawn, heading in (("intervals", interval), ("intervals_by_speaker", f"{interval} by speakers")):
            if drawn == "intervals" or any(figures.get(drawn) for figures in groups.values()):
                columns.append(heading)
                for row, figures in zip(rows, groups.values(), strict=True):
                    row.append(interval_cell(part(figures, drawn).get(key)))
    return Table(caption, columns, rows)
