"""What an item found: claims judged, cells of a table, and the figure in the paper's form."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunnelscope.reproduce.ledger import UNKNOWN, Row
from tunnelscope.reproduce.verdicts import (
    NOT_COMPARABLE,
    Estimate,
    Spread,
    Test,
    by_spread,
    judge,
    over_seeds,
    within,
)

if TYPE_CHECKING:
    from tunnelscope.variables.pairs import Mean


@dataclass(frozen=True)
class Figure:
    """A picture in long form, drawn by `drawing.py` and kept beside it as a table.

    Attributes:
        frame: columns x, y, series and panel; `low` and `high` where there is a band; `value` in a heat map.
        x, y: titles of the axes.
        kind: "lines", "heat", or "points": values of what `series` names, with intervals.
        log: a logarithmic y axis (lines) or colour (heat).
        shaded: of a panel with lines, from where to where it is shaded: the tunnel.
    """

    frame: pd.DataFrame
    x: str
    y: str
    kind: str = "lines"
    log: bool = False
    shaded: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass
class Found:
    """Rows of the ledger as an item finds them, without what is the same in all of them.

    Attributes:
        seeds: of the trainings behind the rows.
        changed: against the paper, in words; None: as its scale tells.
    """

    seeds: Sequence[int]
    rows: list[Row] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    changed: str | None = None

    def claim(
        self,
        words: str,
        values: Sequence[float | None],
        test: Test,
        reading: str,
        published: str = UNKNOWN,
        note: str = "",
        spread: Spread | None = None,
        terms: float = 1,
    ) -> None:
        """Judge a claim under one reading, from the statistic of each seed (or each network).

        Args:
            spread: between seeds, known from more networks than these; `terms` as of `by_spread`.
        """
        usable = sum(value is not None and math.isfinite(value) for value in values)
        if usable == 0:
            note = note or "the statistic is not defined here"
        elif usable < len(values):
            note = "; ".join(filter(None, [note, f"defined for {usable} of {len(values)} seeds"]))
        estimate, seeds = estimate_of(values, spread, terms), self.seeds[: len(values)]
        note = with_spread(note, estimate, spread)
        self.estimated(words, estimate, test, reading, published, note, seeds=seeds)

    def estimated(
        self,
        words: str,
        estimate: Estimate,
        test: Test,
        reading: str,
        published: str = UNKNOWN,
        note: str = "",
        seeds: Sequence[int] = (),
    ) -> None:
        """Judge a claim under one reading, from a statistic with its interval."""
        verdict, sure = judge(estimate, test)
        self._add(words, seeds, estimate, reading, published, note, verdict, test.words, sure)

    def printed(self, words: str, value: float, text: str, near: float, reading: str) -> None:
        """Hold a number to the printed one, from which it may be `near` at most."""
        bound = float(text)
        self.estimated(words, Estimate(value), within(bound - near, bound + near), reading, text)

    def cell(
        self,
        words: str,
        values: Sequence[float | None],
        reading: str,
        note: str = "",
        spread: Spread | None = None,
    ) -> None:
        """Put down a number whose published value is not known to us, so that nothing is judged."""
        estimate = estimate_of(values, spread, 1)
        note = with_spread(note or "the published value is not known to us", estimate, spread)
        self._add(words, self.seeds[: len(values)], estimate, reading, UNKNOWN, note)

    def interval(self, words: str, estimate: Estimate, reading: str, note: str) -> None:
        """Put down a number with its interval, with nothing to judge it by."""
        self._add(words, (), estimate, reading, UNKNOWN, note)

    def not_comparable(self, words: str, reason: str, published: str = UNKNOWN) -> None:
        """Put down a part of the paper that cannot be redone here, and why."""
        self._add(words, (), over_seeds(()), "", published, reason)

    def _add(
        self,
        words: str,
        seeds: Sequence[int],
        estimate: Estimate,
        reading: str,
        published: str,
        note: str,
        verdict: str = NOT_COMPARABLE,
        test: str = "",
        sure: bool | None = None,
    ) -> None:
        row = Row("", words, published, estimate.value, estimate.low, estimate.high)
        told = ",".join(map(str, seeds))
        self.rows.append(
            replace(row, test=test, reading=reading, verdict=verdict, sure=sure, seeds=told, note=note)
        )


def estimate_of(values: Sequence[float | None], spread: Spread | None, terms: float) -> Estimate:
    """The mean over seeds, its interval from the pooled spread where there is one, else from these alone."""
    return over_seeds(values) if spread is None else by_spread(values, spread, terms)


def with_spread(note: str, estimate: Estimate, spread: Spread | None) -> str:
    """A note that also says where an interval comes from, where that is a pooled spread."""
    if spread is None or estimate.low is None:
        return note
    told = f"interval from the spread between seeds, pooled ({spread.degrees} degrees of freedom)"
    return "; ".join(filter(None, [note, told]))


def line_rows(panel: str, name: str, x: NDArray[Any], values: Sequence[NDArray[Any]]) -> list[dict[str, Any]]:
    """Rows of a line: the mean over seeds, and the least and largest."""
    stacked = np.stack(values)
    return [
        {
            "panel": panel,
            "series": name,
            "x": float(place),
            "y": float(stacked[:, column].mean()),
            "low": float(stacked[:, column].min()),
            "high": float(stacked[:, column].max()),
        }
        for column, place in enumerate(x)
    ]


def point_row(panel: str, name: str, value: "Estimate | Mean") -> dict[str, Any]:
    """Row of a point with its interval."""
    return {"panel": panel, "series": name, "x": value.value, "low": value.low, "high": value.high}


def points_figure(rows: Sequence[dict[str, Any]], x: str) -> Figure:
    """Points with intervals, a line a series, with the title of their axis."""
    return Figure(pd.DataFrame(rows), x, "", kind="points")
