"""What things are called, and figures with their units."""

from collections.abc import Iterable, Sequence
from typing import Any

from hf_ser.report.page.reading import finite
from hf_ser.wording import per_cent

MISSING = "\N{EN DASH}"
NOT_HERE = "Not in this report; the notes say why."
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


def percent_text(share: Any) -> str:
    """A share as `58.4 %`."""
    value = finite(share)
    return MISSING if value is None else f"{per_cent(value):.1f} %"


def interval_text(interval: Sequence[float]) -> str:
    """An interval of shares as `52.3 to 64.4 %`."""
    return f"{per_cent(interval[0]):.1f} to {per_cent(interval[1]):.1f} %"


def points_text(difference: float) -> str:
    """A difference of shares in percentage points, as `-3.2 points`."""
    return f"{per_cent(difference):+.1f} points"


def milliseconds_text(value: float) -> str:
    """Milliseconds as `65.1 ms`."""
    return f"{value:,.1f} ms" if value < 100 else f"{value:,.0f} ms"


def duration_text(seconds: float) -> str:
    """Seconds as `45.0 s`, `10.4 min` or `3.3 h`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def bytes_text(number: float) -> str:
    """Bytes as `378.3 MB`."""
    unit, size = next((pair for pair in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if number >= pair[1]), ("bytes", 1))
    return f"{number / size:,.{0 if size == 1 else 1}f} {unit}"


def were(things: Iterable[Any]) -> str:
    """`was` of one thing, `were` of any other number."""
    return "was" if len(list(things)) == 1 else "were"


def one_line(text: str) -> str:
    """Text of one line, without what a terminal takes for a command."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
