"""Numbers of things and lists of names, as a sentence has them."""

from collections.abc import Iterable


def counted(number: int | float, one: str, many: str | None = None) -> str:
    """`1 clip`, `1,079 clips`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(words: Iterable[str], last: str = "and", *, most: int | None = None) -> str:
    """`a, b and c`; of more than `most`, `a, b and 7 more`; nothing of none."""
    words = list(map(str, words))
    if most and len(words) > most:
        words = [*words[:most], f"{len(words) - most} more"]
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
