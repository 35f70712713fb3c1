"""Networks that differ in one variable, matched by name: tests, effect sizes and means."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tunnelscope.variables.observations import Observations

BANDS = ((0.147, "negligible"), (0.33, "small"), (0.474, "medium"))  # of |δ|, Harun et al. 2024, section 3.4
UNITS = {"r": 100}  # the released table has percent; in shares other last bits would decide what is a tie
Array = NDArray[np.floating]
Matched = tuple[Array, Array]


@dataclass(frozen=True)
class Mean:
    """A mean with its 95 % interval over rows."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """Two levels of a variable compared on one target.

    Attributes:
        variable, levels: what differs.
        target: r, rho or A.
        n: matched pairs of rows.
        networks: matched pairs of networks.
        means: of both levels.
        cliffs_delta: of the second level against the first, −1 to 1 (unpaired).
        band: of its size.
        p: Wilcoxon's signed-rank test over the matched rows.
        p_corrected: the same, Holm's over all pairs of the family.
        p_network: over networks, each a mean over its OOD sets; None of fewer than two pairs.
        means_network, delta_network: the means and Cliff's δ over networks.
        p_as_published: of a pair of the 2024 paper, by its script's pairing of rows in the table's order.
    """

    variable: str
    levels: tuple[str, str]
    target: str
    n: int
    networks: int
    means: tuple[Mean, Mean]
    cliffs_delta: float
    band: str
    p: float | None
    p_network: float | None
    means_network: tuple[Mean, Mean]
    delta_network: float
    p_corrected: float | None = None
    p_as_published: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        told = {name: [vars(mean) for mean in getattr(self, name)] for name in ("means", "means_network")}
        return vars(self) | {"levels": list(self.levels)} | told


def cliffs_delta(one: Array, other: Array) -> float:
    """Share of pairs in which `other` is larger less that in which it is smaller, −1 to 1 (Cliff 1993)."""
    ranked = np.sort(one)
    more = np.searchsorted(ranked, other, side="left").sum()
    less = len(one) * len(other) - np.searchsorted(ranked, other, side="right").sum()
    return float((more - less) / (len(one) * len(other)))


def band(delta: float) -> str:
    """How large an effect of this size is called."""
    return next((name for bound, name in BANDS if abs(delta) < bound), "large")


def mean_of(values: Array, freedom: int | None = None) -> Mean:
    """Mean with Student's 95 % interval.

    Args:
        freedom: degrees of freedom, n − 1 by default; the paper's script has n.
    """
    n = len(values)
    mean = float(values.mean())
    if n < 2:
        return Mean(mean, mean, mean)
    reach = float(stats.t.ppf(0.975, n - 1 if freedom is None else freedom)) * float(stats.sem(values))
    return Mean(mean, mean - reach, mean + reach)


def wilcoxon(one: Array, other: Array, target: str = "") -> float | None:
    """Two-sided p of Wilcoxon's signed-rank test on matched values, as SciPy gives it.

    None where all are equal or fewer than two. Tables have rounded values, so that differences tie or not by
    their last bits; they are taken in the released table's units, as whoever tests its columns does.
    """
    one, other = (np.round(UNITS.get(target, 1) * side, 10) for side in (one, other))
    if len(one) < 2 or np.array_equal(one, other):
        return None
    found: Any = stats.wilcoxon(one, other)
    return float(found.pvalue)


def compared(
    variable: str, levels: tuple[str, str], target: str, matched: "Matched", per_network: "Matched"
) -> Pair:
    """Compare two levels from values matched by name."""
    one, other = matched
    delta = cliffs_delta(one, other)
    return Pair(
        variable,
        levels,
        target,
        len(one),
        len(per_network[0]),
        (mean_of(one), mean_of(other)),
        delta,
        band(delta),
        wilcoxon(one, other, target),
        wilcoxon(*per_network, target),
        (mean_of(per_network[0]), mean_of(per_network[1])),
        cliffs_delta(*per_network),
    )


def values_by_network(given: Observations, target: str) -> Any:
    """Values of a target as a table of networks by OOD sets; NaN where there is none."""
    return given.frame.pivot(index="network", columns="ood", values=target)


def matched_values(
    values: Any, networks: Sequence[tuple[Sequence[str], Sequence[str]]]
) -> tuple[Matched, Matched]:
    """Values of matched networks on the OOD sets both have: row by row, and as means a network.

    Args:
        values: of `values_by_network`.
        networks: pairs of names; several alike on a side are averaged.
    """
    one, other = (
        np.stack([values.loc[list(names)].mean(axis=0).to_numpy(float) for names in side])
        for side in zip(*networks, strict=True)
    )
    both = np.isfinite(one) & np.isfinite(other)
    used = both.any(axis=1)
    means = [np.nanmean(np.where(both, side, np.nan)[used], axis=1) for side in (one, other)]
    return (one[both], other[both]), (means[0], means[1])


def all_pairs(given: Observations, derived: Sequence[str]) -> list[Pair]:
    """Every two levels of every variable, over networks that agree in all other variables.

    Args:
        derived: variables that follow from others (such as γ from network and data); they are not held equal,
            and are no variable of a pair themselves.
    """
    found: list[Pair] = []
    values = {target: values_by_network(given, target) for target in given.targets}
    for variable in given.variables:
        if variable in derived:
            continue
        for levels, networks in matched_networks(given, variable, derived):
            for target in given.targets:
                matched, per_network = matched_values(values[target], networks)
                if len(matched[0]):
                    named = (str(levels[0]), str(levels[1]))
                    found.append(compared(variable, named, target, matched, per_network))
    return corrected(found)


def matched_networks(
    given: Observations, variable: str, derived: Sequence[str]
) -> Iterator[tuple[tuple[Any, Any], list[tuple[list[str], list[str]]]]]:
    """Networks of every two levels of a variable that agree in all else; alike ones stand together."""
    table: Any = given.frame.drop_duplicates("network")
    keys = [name for name in given.variables if name != variable and name not in derived]
    levels = sorted(table[variable].unique())
    for one, other in combinations(levels, 2):
        groups: dict[Any, dict[Any, list[str]]] = {}
        for row in table[table[variable].isin([one, other])].to_dict("records"):
            key = tuple(row[name] for name in keys)
            groups.setdefault(key, {}).setdefault(row[variable], []).append(row["network"])
        networks = [
            (group[one], group[other]) for group in groups.values() if one in group and other in group
        ]
        if networks:
            yield (one, other), networks


def corrected(pairs: Sequence[Pair]) -> list[Pair]:
    """The same pairs with p corrected over the family of each target (Holm 1979)."""
    adjusted: dict[int, float] = {}
    for target in {pair.target for pair in pairs}:
        family = [place for place, pair in enumerate(pairs) if pair.target == target and pair.p is not None]
        adjusted |= dict(zip(family, holm([pairs[place].p or 0.0 for place in family]), strict=True))
    return [replace(pair, p_corrected=adjusted.get(place)) for place, pair in enumerate(pairs)]


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given."""
    order = np.argsort(values)
    worst, told = 0.0, [math.nan] * len(values)
    for place, index in enumerate(order):
        worst = max(worst, min(1.0, (len(values) - place) * values[index]))
        told[index] = worst
    return told


def bands_of(given: Observations) -> Mapping[str, int]:
    """How many networks have which strength of tunnel, from their mean r over OOD sets."""
    from tunnelscope.tunnel import band as strength

    means = given.frame.groupby("network")["r"].mean()
    counts: dict[str, int] = dict.fromkeys(("negligible", "weak", "medium", "strong"), 0)
    for value in means:
        counts[strength(float(value))] += 1
    return counts
