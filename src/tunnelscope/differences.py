"""How surely two scans differ, from the intervals that each of them stored."""

import math
from statistics import NormalDist
from typing import Any

from tunnelscope.tasks import SCORE_TITLES, score_of

METHOD = (
    "r, and the score at the layer to take, are compared run by run: the interval of a difference comes "
    "from the intervals of its two parts (MOVER, Zou and Donner 2008), widened so that all comparisons of a "
    "kind in this report hold together at 95 % (Bonferroni). Scans store intervals, not which images each "
    "probe got right, so runs are compared as if each had test images of its own; on shared images a paired "
    "comparison would often be sharper. Starts differ where their intervals do not overlap, each taken a "
    "layer wide: a start at layer 5 of 10 lies anywhere above 40 and up to 50 % of the depth."
)
WIDENED = ("retained", *(f"best_{name}" for name in SCORE_TITLES))
NORMAL = NormalDist()


def compared(a: str, reading_a: dict[str, Any], b: str, reading_b: dict[str, Any]) -> list[dict[str, Any]]:
    """All comparisons of two runs' readings on one data set, each `a` less `b`.

    Nothing is said of r where the probes of one run are at chance, nor of what has no interval.
    """
    found = []
    if (
        reading_a["retained"]
        and reading_b["retained"]
        and not (reading_a["at_chance"] or reading_b["at_chance"])
    ):
        found.append(_entry("retained", a, reading_a["retained"], b, reading_b["retained"]))
    best_a, best_b = (
        {"value": score_of(reading["best_layer"])[1]}
        | {end: reading["best_layer"][end] for end in ("low", "high")}
        for reading in (reading_a, reading_b)
    )
    names = {score_of(reading["best_layer"])[0] for reading in (reading_a, reading_b)}
    if len(names) == 1:
        found.append(_entry(f"best_{names.pop()}", a, best_a, b, best_b))
    if reading_a["start"] and reading_b["start"]:
        found.append(_start_entry(a, reading_a["start"], b, reading_b["start"]))
    return [entry for entry in found if entry is not None]


def _entry(
    quantity: str, a: str, number_a: dict[str, Any], b: str, number_b: dict[str, Any]
) -> dict[str, Any] | None:
    if None in (number_a["value"], number_a["low"], number_b["value"], number_b["low"]):
        return None
    low, high = interval_of_difference(number_a, number_b)
    difference = number_a["value"] - number_b["value"]
    return _row(quantity, a, b, difference, low, high)


def _row(quantity: str, a: str, b: str, difference: float, low: float, high: float) -> dict[str, Any]:
    differs = low > 0 or high < 0
    row = {"quantity": quantity, "a": a, "b": b, "difference": difference}
    return row | {"low": low, "high": high, "differs": differs}


def interval_of_difference(a: dict[str, Any], b: dict[str, Any]) -> tuple[float, float]:
    """95 % interval of `a - b` from the 95 % intervals of two independent numbers.

    MOVER (Zou and Donner 2008, Statistics in Medicine 27:1693, equation 5; for proportions with Wilson
    intervals it is Newcombe's method 10).

    Args:
        a, b: each `{value, low, high}`.
    """
    difference = a["value"] - b["value"]
    down = math.hypot(a["value"] - a["low"], b["high"] - b["value"])
    up = math.hypot(a["high"] - a["value"], b["value"] - b["low"])
    return difference - down, difference + up


def widen(sets: list[dict[str, Any]]) -> None:
    """Widen the intervals of all sets' comparisons in place, so that those of a kind hold together."""
    rows = [row for entry in sets for row in entry["comparisons"]]
    for quantity in WIDENED:
        family = [row for row in rows if row["quantity"] == quantity]
        wider = NORMAL.inv_cdf(1 - 0.025 / max(len(family), 1)) / NORMAL.inv_cdf(0.975)
        for row in family:
            ends = (row["difference"] + wider * (row[end] - row["difference"]) for end in ("low", "high"))
            row |= _row(quantity, row["a"], row["b"], row["difference"], *ends)


def _start_entry(a: str, start_a: dict[str, Any], b: str, start_b: dict[str, Any]) -> dict[str, Any]:
    """The extractor's shares of the depth; the interval has the extremes of the two spans."""
    (low_a, high_a), (low_b, high_b) = _span(start_a), _span(start_b)
    difference = start_a["extractor_share"] - start_b["extractor_share"]
    return _row("extractor_share", a, b, difference, low_a - high_b, high_a - low_b)


def _span(start: dict[str, Any]) -> tuple[float, float]:
    """Where in the depth a start may lie: somewhere inside the layers of its interval."""
    return (start["low"] - 1) / start["layers"], start["high"] / start["layers"]
