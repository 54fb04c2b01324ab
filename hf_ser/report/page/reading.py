"""Reading a report of which any part, and any figure, may be missing."""

import math
from collections.abc import Mapping
from typing import Any


def part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of a report or of another part; an empty one if it is missing or `None`."""
    return of.get(name) or {}


def finite(value: Any) -> float | None:
    """A figure, `None` if it is missing, infinite or not a number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def finite_interval(pair: Any) -> tuple[float, float] | None:
    """Both edges of an interval, `None` if one is missing."""
    if not pair or None in map(finite, pair):
        return None
    return float(pair[0]), float(pair[1])


def finite_values(values: Mapping[str, Any] | None) -> dict[str, float]:
    """Those figures that are known."""
    return {name: number for name, value in (values or {}).items() if (number := finite(value)) is not None}


def emotion_names(report: Mapping[str, Any]) -> list[str]:
    """The emotions that the model tells apart, in its order."""
    recall = part(part(part(report, "quality"), "overall"), "recall")
    return list(part(report, "model").get("emotions") or recall)


def interval_level(report: Mapping[str, Any]) -> str:
    """How sure the intervals are: `95 %`."""
    return f"{100 * (part(part(report, 'quality'), 'intervals').get('level') or 0.95):g} %"
