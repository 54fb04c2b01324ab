"""The tables that the papers print, from `published.yaml`, and how they are shown beside the results of this package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CONTENT: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
#: The actors of RAVDESS that each of EmoBox's six folds tests.
EMOBOX_TEST_ACTORS: list[list[int]] = CONTENT["emobox_ravdess_test_actors"]

#: The cells of one line of results for each row of a table, by row and column of values, both from 0.
Cells = dict[tuple[int, int], str]


@dataclass(frozen=True)
class Table:
    """
    A table of a paper, as it is printed.

    Args:
        name (`str`): `hubert_ser/2`, `peft_ser/IV`.
        title (`str`): Its caption.
        source (`str`): The paper, and where in it the table stands.
        labels (`int`): How many columns name a row; the others hold values.
        columns (`list[str]`): The headings of all columns.
        rows (`list[list[str | None]]`): The cells, `None` where the paper prints no number.
        notes (`list[str]`): What a reader must know about them.
    """

    name: str
    title: str
    source: str
    labels: int
    columns: list[str]
    rows: list[list[str | None]]
    notes: list[str]

    def row(self, label: str) -> int:
        """The row with a label in its first column, from 0."""
        return [row[0] for row in self.rows].index(label)

    def render(self, lines: Mapping[str, Cells], absent: str, notes: Sequence[str]) -> str:
        """
        The table as Markdown: under each row of the paper the lines of results.

        Args:
            lines (`dict[str, Cells]`): The cells by the name of their line.
            absent (`str`): What stands in place of a cell that is not there: `not run`.
            notes (`Sequence[str]`): Notes about the lines.
        """
        width = len(self.columns) - self.labels
        body = [[*self.columns[: self.labels], "results", *self.columns[self.labels :]]]
        for i, row in enumerate(self.rows):
            printed = ["not printed" if cell is None else cell for cell in row]
            body.append([*printed[: self.labels], "paper", *printed[self.labels :]])
            for line, cells in lines.items():
                values = [cells.get((i, k), absent) for k in range(width)]
                if set(values) != {absent}:
                    body.append([""] * self.labels + [line, *values])
        widths = [max(3, *map(len, column)) for column in zip(*body, strict=True)]
        sides = ["<" if k <= self.labels else ">" for k in range(len(widths))]
        rule = ["-" * w if side == "<" else "-" * (w - 1) + ":" for w, side in zip(widths, sides, strict=True)]
        text = (map("{:{}{}}".format, row, sides, widths) for row in [body[0], rule, *body[1:]])
        table = "\n".join(f"| {' | '.join(row)} |" for row in text)
        bullets = "\n".join(f"- {' '.join(note.split())}" for note in [*notes, *self.notes])
        return f"## {self.name}: {self.title}\n\n{self.source}\n\n{table}\n\n{bullets}"


#: All tables by name, in the order in which they are printed.
TABLES: dict[str, Table] = {
    name: Table(
        name=name,
        source="{title} ({where}); ".format(**CONTENT["papers"][table["source"]["paper"]])
        + "{table}, {place}.".format(**table["source"]),
        **{key: value for key, value in table.items() if key != "source"},
    )
    for name, table in CONTENT["tables"].items()
}


def number(cell: str | None) -> float:
    """The number that a printed cell starts with: 17958528 for `17,958,528 (each)`, 64.21 for `64.21 ± 7.92`."""
    return float(str(cell).split()[0].rstrip("M").replace(",", ""))
