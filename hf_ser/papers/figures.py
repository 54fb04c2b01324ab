"""The figures that the papers print, from `figures.yaml`, the one place that has them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FIGURES = Path(__file__).with_name("figures.yaml")


@dataclass(frozen=True)
class PaperTable:
    """
    A table of a paper, as it is printed.

    Args:
        name (`str`): What it is called here: `hubert_ser/2`, `peft_ser/IV`.
        paper (`str`): The paper's title.
        number (`str`): What it is called there: `Table 2`.
        place (`str`): The section that it stands in, or is explained in.
        title (`str`): Its caption.
        labels (`int`): How many columns say what a row is about; the others hold figures.
        columns (`tuple[str, ...]`): The headings of all columns.
        rows (`tuple[tuple[str | None, ...], ...]`): The cells, `None` where the paper prints no number.
        notes (`tuple[str, ...]`): What is to be known of them.
    """

    name: str
    paper: str
    number: str
    place: str
    title: str
    labels: int
    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    notes: tuple[str, ...]

    @property
    def figures(self) -> int:
        """How many columns hold figures."""
        return len(self.columns) - self.labels

    def row(self, *labels: str) -> int:
        """
        Which row has these labels, from 0.

        Raises:
            ValueError: if there is none.
        """
        return [row[: len(labels)] for row in self.rows].index(labels)


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FIGURES.read_text(encoding="utf-8"))
    return content


@cache
def load_figures() -> dict[str, PaperTable]:
    """All tables by name, in the order in which they are printed."""
    content = _content()
    return {
        name: PaperTable(
            name=name,
            paper="{title} ({where})".format(**content["papers"][table["source"]["paper"]]),
            number=table["source"]["table"],
            place=table["source"]["place"],
            title=table["title"],
            labels=table["labels"],
            columns=tuple(table["columns"]),
            rows=tuple(tuple(row) for row in table["rows"]),
            notes=tuple(table["notes"]),
        )
        for name, table in content["tables"].items()
    }


def emobox_test_actors() -> list[list[int]]:
    """The actors of RAVDESS that each of EmoBox's six folds tests."""
    actors: list[list[int]] = _content()["emobox_ravdess_test_actors"]
    return actors


def number(cell: str) -> float:
    """
    The number in a printed cell, without its unit, deviation and remarks: 17958528 for `17,958,528 (each)`.

    Raises:
        ValueError: if the cell begins with no number.
    """
    return float(cell.split()[0].rstrip("M").replace(",", ""))
