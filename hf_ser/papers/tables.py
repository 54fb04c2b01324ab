"""A paper's table with our figures beside it, as Markdown that can be read in a terminal, too."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hf_ser.papers.figures import PaperTable

NOT_PRINTED = "not printed"
NOT_RUN = "not run"
NOT_COUNTED = "not counted"


@dataclass
class Ours:
    """
    Our figures for a table.

    Args:
        lines (`dict[str, dict[tuple[int, int], str]]`):
            By what they are (`ours`, or with the split that they were taken on), our cells by row and column, both from 0, the
            column among those that hold figures.
        absent (`str`, defaults to `"not run"`): What stands where a cell of a line is not there.
        more_rows (`list[tuple[str, str]]`): Rows of ours that the paper lacks, of a table with one column of figures.
        missing (`list[str]`): What is missing for the cells that are not there.
        notes (`list[str]`): What is to be known of ours.
    """

    lines: dict[str, dict[tuple[int, int], str]] = field(default_factory=dict)
    absent: str = NOT_RUN
    more_rows: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def render(table: PaperTable, ours: Ours) -> str:
    """The table of the paper and our lines, with its source, what is missing, and the notes."""
    lines = {label: cells for label, cells in ours.lines.items() if cells}
    side_by_side = table.figures == 1
    body = _side_by_side(table, ours, lines or {"ours": {}}) if side_by_side else _stacked(table, ours, lines)
    text = [f"## {table.name}: {table.title}", f"{table.paper}; {table.number}, {table.place}.", body]
    text += [f"- {ours.absent}: {missing}" for missing in ours.missing]
    text += [f"- {' '.join(note.split())}" for note in (*table.notes, *ours.notes)]
    return "\n\n".join([*text[:3], "\n".join(text[3:])]).rstrip()


def _side_by_side(table: PaperTable, ours: Ours, lines: dict[str, dict[tuple[int, int], str]]) -> str:
    """A table with one column of figures: ours stand in the columns to the right of it."""
    head = [*table.columns[:-1], f"{table.columns[-1]}, paper", *lines]
    body = [
        [*map(_printed, row), *(cells.get((i, 0), ours.absent if row[-1] != "" else "") for cells in lines.values())]
        for i, row in enumerate(table.rows)
    ]
    for label, value in ours.more_rows:
        body.append([label, *[""] * (table.labels - 1), "", value])
    return markdown([head, *body], table.labels)


def _stacked(table: PaperTable, ours: Ours, lines: dict[str, dict[tuple[int, int], str]]) -> str:
    """A table with several columns of figures: ours stand in the lines below each of the paper's."""
    head = [*table.columns[: table.labels], "whose", *table.columns[table.labels :]]
    body = []
    for i, row in enumerate(table.rows):
        cells = list(map(_printed, row))
        body.append([*cells[: table.labels], "paper", *cells[table.labels :]])
        for label, mine in lines.items():
            own = [mine.get((i, k), ours.absent) for k in range(table.figures)]
            body.append([*[""] * table.labels, label, *own])
    if not lines:
        body.append(["all rows", *[""] * (table.labels - 1), "ours", *[ours.absent] * table.figures])
    return markdown([head, *body], table.labels + 1)


def _printed(cell: str | None) -> str:
    return NOT_PRINTED if cell is None else cell


def markdown(lines: Sequence[Sequence[str]], labels: int) -> str:
    """Lines as a table of Markdown with columns of one width, the first `labels` to the left, figures to the right."""
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        [cell.ljust(w) if k < labels else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    ]
    rule = ["-" * w if k < labels else "-" * (w - 1) + ":" for k, w in enumerate(widths)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [text[0], rule, *text[1:]])
