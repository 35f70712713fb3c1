"""Numbers as a reader meets them: percentages, counts, intervals, times; a dash for what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunnelscope.report.tidy import number
from tunnelscope.tasks import SCORE_TITLES, score_of

UNKNOWN = "–"
RANGE = "–"


def percent(value: Any, digits: int = 1) -> str:
    """A share as "61.8 %"."""
    known = number(value)
    return UNKNOWN if known is None else f"{100 * known:.{digits}f} %"


def percent_range(numbers: Mapping[str, Any] | None, digits: int = 1) -> str:
    """The interval of `{low, high}` as "60.1–63.4 %", empty where it is not known."""
    low, high = (number((numbers or {}).get(end)) for end in ("low", "high"))
    return "" if low is None or high is None else f"{100 * low:.{digits}f}{RANGE}{100 * high:.{digits}f} %"


def score(entry: Mapping[str, Any]) -> str:
    """An object's score with its name where it is no accuracy: "61.8 %", "R² 0.62", "mAP 61.8 %"."""
    name, value = score_of(entry)
    if name == "accuracy" or value is None:
        return percent(value)
    return f"{SCORE_TITLES[name]} {decimal(value) if name == 'r2' else percent(value)}"


def score_range(entry: Mapping[str, Any]) -> str:
    """The interval of an object's score, as `score` writes it."""
    return decimal_range(entry) if score_of(entry)[0] == "r2" else percent_range(entry)


def decimal(value: Any, digits: int = 2) -> str:
    """A plain number as "0.42", with a true minus."""
    known = number(value)
    return UNKNOWN if known is None else f"{known:.{digits}f}".replace("-", "−")


def decimal_range(numbers: Mapping[str, Any] | None, digits: int = 2) -> str:
    """The interval of `{low, high}` as "0.38 to 0.46", empty where it is not known."""
    low, high = ((numbers or {}).get(end) for end in ("low", "high"))
    return (
        ""
        if number(low) is None or number(high) is None
        else f"{decimal(low, digits)} to {decimal(high, digits)}"
    )


def count(value: Any) -> str:
    """A count as "853,018", from a million on as "1.2 M", "4.1 G", "3.0 T"."""
    known = number(value)
    if known is None:
        return UNKNOWN
    for size, unit in [(1e12, "T"), (1e9, "G"), (1e6, "M")]:
        if abs(known) >= size:
            return f"{known / size:.1f} {unit}"
    return f"{known:,.0f}"


def significant(value: Any) -> str:
    """A measure at three significant digits: "12.5", "1,250", "0.00123"."""
    known = number(value)
    if known is None:
        return UNKNOWN
    if known == 0 or 1e-3 <= abs(known) < 1e6:
        digits = 0 if abs(known) >= 100 else 1 if abs(known) >= 10 else 2 if abs(known) >= 1 else 3
        return f"{known:,.{digits}f}".replace("-", "−")
    return f"{known:.2e}".replace("-", "−")


def seconds(value: Any) -> str:
    """A duration as "0.8 s", "42 s", "5 min 23 s"."""
    known = number(value)
    if known is None:
        return UNKNOWN
    if known < 10:
        return f"{known:.1f} s"
    minutes, rest = divmod(round(known), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def shape(value: Any) -> str:
    """A tensor's shape without the batch as "16 × 32 × 32"."""
    return " × ".join(str(size) for size in value) if value else UNKNOWN


def shorten(name: str, most: int = 28) -> str:
    """A name of at most `most` characters: the middle goes, for layers differ at their end."""
    if len(name) <= most:
        return name
    head = (most - 1) // 3
    return f"{name[:head]}…{name[head + 1 - most :]}"
