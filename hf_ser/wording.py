"""Numbers, shares and lists of names for sentences and tables."""

import re
from collections.abc import Collection, Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal

#: Characters that break a line of a table, control the terminal, or change the direction of a text.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def visible(text: str, kept: str = "") -> str:
    """A text with its control characters as `\\n` or `\\x1b`, except for those `kept`."""
    return CONTROL.sub(lambda found: found[0] if found[0] in kept else repr(found[0])[1:-1], text)


def counted(number: int | float, one: str, many: str | None = None) -> str:
    """`1 clip`, `1,079 clips`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(words: Iterable[object], last: str = "and", *, most: int | None = None) -> str:
    """`a, b and c`; of more than `most`, `a, b and 7 more`; nothing of none."""
    texts = list(map(str, words))
    if most and len(texts) > most:
        texts = [*texts[:most], f"{len(texts) - most} more"]
    return f" {last} ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Rows of cells as lines, the columns in `left` flush left, all others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<" if place in left else ">" for place in range(len(widths))]
    return ["  ".join(map("{:{}{}}".format, row, sides, widths)).rstrip() for row in rows]


def per_cent(share: float) -> float:
    """
    A share in per cent with one decimal, 5 rounded up. Rounding errors of its computation have no effect: equal shares give equal
    numbers, and none is -0.0.
    """
    return float(Decimal(repr(round(100 * float(share), 9))).quantize(Decimal("0.1"), ROUND_HALF_UP)) or 0.0
