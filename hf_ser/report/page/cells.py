"""Cells of tables: what they show, and what they are sorted by."""

from typing import Any

from hf_ser.report.page.blocks import Cell
from hf_ser.report.page.reading import finite, finite_interval
from hf_ser.report.page.words import MISSING, interval_text, milliseconds_text, percent_text
from hf_ser.wording import per_cent


def label(text: Any) -> Cell:
    """A name."""
    return Cell(str(text), str(text))


def count(number: Any) -> Cell:
    """A whole number, as `1,079`."""
    value = finite(number)
    return Cell(MISSING if value is None else f"{value:,.0f}", value)


def percent(share: Any) -> Cell:
    """A share, as `58.4 %`."""
    return Cell(percent_text(share), finite(share))


def decimal(number: Any, digits: int = 3) -> Cell:
    """A number with so many digits after the point."""
    value = finite(number)
    return Cell(MISSING if value is None else f"{value:.{digits}f}", value)


def p_value(number: Any) -> Cell:
    """A p-value with four digits; smaller ones are said to be below 0.0001."""
    value = finite(number)
    return Cell("below 0.0001", value) if value is not None and value < 0.0001 else decimal(number, 4)


def points(difference: Any) -> Cell:
    """A difference of shares in percentage points, as `-3.2`."""
    value = finite(difference)
    return Cell(MISSING if value is None else f"{per_cent(value):+.1f}", value)


def milliseconds(value: Any) -> Cell:
    """Milliseconds, as `65.1 ms`."""
    return Cell(milliseconds_text(value), finite(value))


def interval_cell(pair: Any, *, share: bool = True) -> Cell:
    """An interval, of shares in per cent, sorted by its lower edge."""
    interval = finite_interval(pair)
    if not interval:
        return Cell(MISSING, None)
    return Cell(interval_text(interval) if share else "{:.3f} to {:.3f}".format(*interval), interval[0])


def points_interval(pair: Any) -> Cell:
    """An interval of a difference in percentage points, sorted by its lower edge."""
    interval = finite_interval(pair)
    if not interval:
        return Cell(MISSING, None)
    return Cell("{:+.1f} to {:+.1f}".format(*map(per_cent, interval)), interval[0])
