"""A report as an HTML page and as plain text, and tables as Markdown."""

import base64
import mimetypes
import re
import textwrap
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import jinja2

from hf_ser.rendering import tables
from hf_ser.rendering.blocks import MISSING, Table, duration, p_value, size
from hf_ser.rendering.headline import (
    NOT_HERE,
    Report,
    answers,
    cautions,
    main_key,
    main_metric,
    missing_intervals,
    one_line,
    subtitle,
    title,
)
from hf_ser.wording import aligned, counted

TEMPLATE = "page.html.jinja"
WIDTH = 100  # columns of the console


def page(report: Report, pictures: Mapping[str, Path]) -> str:
    """
    The report as one HTML page, which needs no other file and no network; with the plots that [`~hf_ser.report.plots.draw`]
    returns.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.globals |= {
        "tables": tables, "captions": tables.CAPTIONS, "missing_intervals": missing_intervals, "not_here": NOT_HERE,
        "size": size, "duration": duration, "counted": counted, "p_value": p_value, "main_key": main_key(report),
        "named": lambda values, sign: ", ".join(f"{name}{sign}{value}" for name, value in values.items()),
    }  # fmt: skip
    template = environment.from_string(files("hf_ser.rendering").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        title=title(report),
        subtitle=subtitle(report),
        main=main_metric(report),
        answers=answers(report),
        cautions=cautions(report),
        report=report,
        pictures={name: _data_url(path) for name, path in pictures.items()},
    )


def _data_url(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def markdown(block: Table) -> str:
    """A table as Markdown, without empty columns; an empty text if it has no rows."""
    if not block.rows:
        return ""
    used = [i for i in range(len(block.columns)) if any(row[i].text not in ("", MISSING) for row in block.rows)]
    rows = [[row[i].text for i in used] for row in block.rows]
    rules = ["---:" if block.rows[0][i].number else "---" for i in used]
    return table_in_markdown([block.columns[i] for i in used], rows, rules)


def table_in_markdown(head: Sequence[str], rows: Sequence[Sequence[str]], rules: Sequence[str] = ()) -> str:
    """Rows of texts as a table; `rules`, one for each column, align them."""
    lines = [[_markdown_cell(text) for text in row] for row in (head, *rows)]
    lines.insert(1, list(rules) or ["---"] * len(head))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_cell(text: str) -> str:
    return re.sub(r"([\\|])", r"\\\1", re.sub(r"\s+", " ", text)).strip()


def console(report: Report) -> str:
    """The report in brief as plain text, at most 100 columns wide."""
    lines = [title(report)[:WIDTH], "=" * min(len(title(report)), WIDTH), *_wrapped(subtitle(report)), ""]
    for caution in cautions(report):
        lines += _wrapped(caution.text, "! " if caution.alarm else "- ")
    lines += ["", *(line for name, text in answers(report) for line in _wrapped(f"{name}: {text}"))]
    for table in tables.in_brief(report):
        lines += ["", *text_table(table)]
    if report["notes"]:
        lines += ["", "Notes", *(line for note in report["notes"] for line in _wrapped(note, "- "))]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _wrapped(text: str, bullet: str = "") -> list[str]:
    held = one_line(text).replace(" %", "\N{NO-BREAK SPACE}%")
    lines = textwrap.wrap(held, WIDTH, initial_indent=bullet, subsequent_indent=" " * len(bullet or "  "))
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def text_table(table: Table) -> list[str]:
    """The caption, a line of names and the rows; the first column is cut if the table is too wide."""
    rows = [table.columns, *([cell.text for cell in row] for row in table.rows)]
    cells = [[one_line(text) for text in row] for row in rows]
    others = sum(2 + max(map(len, column)) for column in list(zip(*cells, strict=True))[1:])
    most = max(WIDTH - others, 8)
    for row in cells:
        row[0] = row[0] if len(row[0]) <= most else f"{row[0][: most - 3]}..."
    head, *lines = aligned(cells)
    return [*(_wrapped(table.caption) if table.caption else []), head, "-" * len(head), *lines]
