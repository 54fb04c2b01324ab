"""Numbers, names and tables in the Markdown of a model card. What is not known gives an empty string."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hf_ser.wording import per_cent

Results = Mapping[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[object]], left: Sequence[int] = (0,)) -> str:
    """
    A Markdown table; the columns in `left` lean to the left, the others to the right. A column that is empty in all rows
    is left out.
    """
    cells = [[_cell(cell) for cell in row] for row in rows]
    used = [i for i in range(len(head)) if any(row[i] for row in cells)]
    lines = [[_cell(head[i]) for i in used], ["---" if i in left else "---:" for i in used]]
    lines += [[row[i] for i in used] for row in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if cells else ""


def _cell(value: object) -> str:
    text = "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def known(value: Any) -> bool:
    """Whether there is something to tell: not `None`, not NaN, not empty."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is not None and value != "" and value != [] and value != {}


def percent(value: float | None) -> str:
    """A share as `58.4 %`."""
    return f"{per_cent(value):.1f} %" if value is not None and math.isfinite(value) else ""


def duration(seconds: float) -> str:
    """`45 s`, `10 min 26 s`, `3 h 20 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.3g} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]
