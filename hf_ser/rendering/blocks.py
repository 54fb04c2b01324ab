"""Tables and their cells: values with their units."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hf_ser.wording import per_cent

MISSING = "\N{EN DASH}"


@dataclass(frozen=True)
class Cell:
    """The text of a cell, and the number or text by which it is sorted; `None` comes last."""

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


def label(text: Any) -> Cell:
    """A name."""
    return Cell(str(text), str(text))


def number(value: float | None, form: Callable[[float], str]) -> Cell:
    """A number, or a dash where there is none."""
    return Cell(MISSING, None) if value is None else Cell(form(value), float(value))


def count(value: float | None) -> Cell:
    """A whole number, as `1,079`."""
    return number(value, "{:,.0f}".format)


def percent(share: float | None) -> Cell:
    """A share, as `58.4 %`."""
    return number(share, lambda value: f"{per_cent(value):.1f} %")


def points(difference: float | None) -> Cell:
    """A difference of shares in percentage points, as `-3.2`."""
    return number(difference, lambda value: f"{per_cent(value):+.1f}" if per_cent(value) else "0.0")


def decimal(value: float | None, digits: int = 3) -> Cell:
    """A number with so many digits after the point."""
    return number(value, f"{{:.{digits}f}}".format)


def change(difference: float | None) -> Cell:
    """A difference of numbers, as `-0.032`."""
    return number(difference, lambda value: f"{value:+.3f}" if abs(value) >= 0.0005 else "0.000")


def p_value(value: float | None) -> Cell:
    """A p-value with four digits; smaller ones are below 0.0001."""
    return Cell("below 0.0001", value) if value is not None and value < 0.0001 else decimal(value, 4)


def milliseconds(value: float | None) -> Cell:
    """Milliseconds, as `65.1 ms`."""
    return number(value, lambda time: f"{time:,.1f} ms" if time < 100 else f"{time:,.0f} ms")


def interval(edges: Sequence[float] | None, form: Callable[[float], Cell] = percent) -> Cell:
    """An interval, as `52.3 to 64.4 %`; sorted by its lower edge."""
    if not edges:
        return Cell(MISSING, None)
    low, high = (form(edge).text for edge in edges)
    return Cell(f"{low.removesuffix(' %')} to {high}", float(edges[0]))


def duration(seconds: float) -> str:
    """Seconds as `45.0 s`, `10.4 min` or `3.3 h`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def size(number: float) -> str:
    """Bytes as `378.3 MB`."""
    unit, one = next((pair for pair in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if number >= pair[1]), ("bytes", 1))
    return f"{number / one:,.{0 if one == 1 else 1}f} {unit}"


#: The metrics of clips, of a dimension and of distributions: their names and the format of their values.
METRICS: dict[str, tuple[str, Callable[[float | None], Cell]]] = {
    "uar": ("UAR", percent),
    "accuracy": ("accuracy", percent),
    "f1_weighted": ("weighted F1", percent),
    "f1_macro": ("macro F1", percent),
    "eer": ("EER", percent),
    "ccc": ("CCC", decimal),
    "ece": ("ECE", percent),
    "log_loss": ("log loss, nats", decimal),
    "mae": ("MAE", decimal),
    "kl": ("KL divergence, nats", decimal),
    "js": ("Jensen-Shannon divergence, nats", decimal),
    "cosine": ("cosine similarity", decimal),
}
