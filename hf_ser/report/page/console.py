"""The report in brief, as plain text."""

import textwrap
from collections.abc import Mapping
from typing import Any

from hf_ser.report.page.blocks import Table
from hf_ser.report.page.cautions import warnings
from hf_ser.report.page.headline import answers, subtitle, title
from hf_ser.report.page.reading import part
from hf_ser.report.page.sections.comparison import in_brief
from hf_ser.report.page.sections.cost import latency_table
from hf_ser.report.page.sections.groups import groups_table
from hf_ser.report.page.sections.quality import metrics_table
from hf_ser.report.page.sections.robustness import conditions_table
from hf_ser.report.page.words import one_line

WIDTH = 100  # columns of the console's


def summary(report: Mapping[str, Any]) -> str:
    """The report in brief for the console: plain text of at most 100 columns."""
    lines = [title(report), "=" * min(len(title(report)), WIDTH), *_wrapped(subtitle(report)), ""]
    for warning in warnings(report):
        lines += _wrapped(warning.text, "! " if warning.alarm else "- ")
    lines += ["", *(line for name, text in answers(report) for line in _wrapped(f"{name}: {text}"))]
    quality = part(report, "quality")
    tables = [metrics_table(report)] if quality.get("overall") else []
    for key, name in (("corpora", "corpus"), ("genders", "gender")):
        if groups := quality.get(key):
            tables.append(groups_table(f"By {name}", name, groups))
    if part(report, "comparison").get("difference"):
        tables.append(in_brief(report))
    if part(report, "robustness").get("conditions"):
        tables.append(conditions_table(report))
    if part(report, "cost").get("latency"):
        tables.append(latency_table(report))
    for table in tables:
        lines += ["", *_text_table(table)]
    if notes := report.get("notes"):
        lines += ["", "Notes", *(line for note in notes for line in _wrapped(note, "- "))]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _wrapped(text: str, bullet: str = "") -> list[str]:
    held = one_line(text).replace(" %", "\N{NO-BREAK SPACE}%")
    lines = textwrap.wrap(held, WIDTH, initial_indent=bullet, subsequent_indent=" " * len(bullet or "  "))
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _text_table(table: Table) -> list[str]:
    """The caption, a line of names, the rows; the first column is cut where they would be too wide."""
    cells = [
        [one_line(name) for name in table.columns],
        *([one_line(cell.text) for cell in row] for row in table.rows),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    widths[0] = max(min(widths[0], WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1)), 8)
    lines = []
    for row in cells:
        first = row[0] if len(row[0]) <= widths[0] else f"{row[0][: widths[0] - 3]}..."
        others = [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *others]))
    return [*_wrapped(table.caption), *lines[:1], "-" * len(lines[0]), *lines[1:]]
