"""Numbers of things and lists of names, as a sentence has them."""

from collections.abc import Iterable


def counted(number: int | float, one: str, many: str | None = None) -> str:
    """`1 clip`, `1,079 clips`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(words: Iterable[object], last: str = "and", *, most: int | None = None) -> str:
    """`a, b and c`; of more than `most`, `a, b and 7 more`; nothing of none."""
    texts = list(map(str, words))
    if most and len(texts) > most:
        texts = [*texts[:most], f"{len(texts) - most} more"]
    return f" {last} ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))
