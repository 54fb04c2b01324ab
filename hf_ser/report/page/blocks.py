"""What a section is made of; `page.html.jinja` shows each by its `kind`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


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
class Section:
    anchor: str
    title: str
    blocks: Sequence[Any]
