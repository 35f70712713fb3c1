"""Whether a claim holds: a statistic of each seed, its interval over seeds, and the test it has to pass."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

AGREES, DISAGREES, NOT_COMPARABLE, WAITS = "agrees", "disagrees", "not comparable", "waits"
VERDICTS = (AGREES, DISAGREES, NOT_COMPARABLE, WAITS)


@dataclass(frozen=True)
class Test:
    """What a statistic has to be for a claim to hold.

    Attributes:
        words: as in the ledger, such as "at least 3".
        least, most: the statistic lies between these, both included.
        covers: a claim of no effect: this value lies in the statistic's interval.
        near: how far from it the whole interval may reach for the claim to hold surely.
    """

    words: str
    least: float = -math.inf
    most: float = math.inf
    covers: float | None = None
    near: float = math.inf


def at_least(bound: float) -> Test:
    """The statistic is this or more."""
    return Test(f"≥ {bound:g}", least=bound)


def at_most(bound: float) -> Test:
    """The statistic is this or less."""
    return Test(f"≤ {bound:g}", most=bound)


def above(bound: float) -> Test:
    """The statistic is more than this."""
    return Test(f"> {bound:g}", least=math.nextafter(bound, math.inf))


def below(bound: float) -> Test:
    """The statistic is less than this."""
    return Test(f"< {bound:g}", most=math.nextafter(bound, -math.inf))


def within(least: float, most: float) -> Test:
    """The statistic lies between two bounds, both included."""
    return Test(f"{least:g} to {most:g}", least, most)


def no_effect(near: float, value: float = 0.0) -> Test:
    """The statistic's interval holds a value, and surely so where no part of it is farther than `near`.

    A wide interval holds everything; it is not evidence of no effect. Of one seed nothing can be said.
    """
    return Test(f"interval holds {value:g}, within ±{near:g}", covers=value, near=near)


@dataclass(frozen=True)
class Estimate:
    """The mean of a statistic over seeds with its 95 % interval; None where there is none, or none finite."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        told = [one for one in (self.value, self.low, self.high) if one is not None]
        if not all(map(math.isfinite, told)):
            is_known = self.value is not None and math.isfinite(self.value)
            for name in ("low", "high") if is_known else ("value", "low", "high"):
                object.__setattr__(self, name, None)


def over_seeds(values: Sequence[float | None]) -> Estimate:
    """Return the mean over seeds and Student's 95 % interval of it; no interval of one seed, or of two alike.

    Args:
        values: the statistic of each seed; what is None or not finite is left out.
    """
    usable = np.array([value for value in values if value is not None and math.isfinite(value)], dtype=float)
    if not len(usable):
        return Estimate(None)
    mean = float(usable.mean())
    if len(usable) < 2 or (len(usable) == 2 and usable[0] == usable[1]):
        return Estimate(mean)  # two that happen to agree say nothing of the spread
    error = float(usable.std(ddof=1)) / math.sqrt(len(usable))
    reach = float(stats.t.ppf(0.975, len(usable) - 1)) * error
    return Estimate(mean, mean - reach, mean + reach)


@dataclass(frozen=True)
class Spread:
    """Standard deviation of a statistic between seeds, pooled over kinds of networks.

    Attributes:
        deviation: of one network.
        degrees: of freedom: networks less kinds.
    """

    deviation: float
    degrees: int


def pooled(kinds: Iterable[Mapping[int, float]], *, is_paired: bool = False) -> Spread | None:
    """Pool the spread between seeds over kinds of networks; None where too few are known.

    Args:
        kinds: of each kind seed → statistic; what is not finite is left out.
        is_paired: for differences that are taken by seed: what a seed does to all kinds alike (all start from
            its weights) is no part of the spread, as it cancels. Kinds that lack a seed are left out.
    """
    finite = [{seed: one for seed, one in kind.items() if math.isfinite(one)} for kind in kinds]
    if is_paired:
        seeds = sorted(set().union(*finite)) if finite else []
        whole = [[kind[seed] for seed in seeds] for kind in finite if len(kind) == len(seeds)]
        if len(whole) < 2 or len(seeds) < 2:
            return None
        table = np.array(whole, dtype=float)
        degrees = (len(whole) - 1) * (len(seeds) - 1)
        rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
        return Spread(math.sqrt(float((rest**2).sum()) / degrees), degrees)
    several = [np.array(list(kind.values())) for kind in finite if len(kind) > 1]
    degrees = sum(len(values) - 1 for values in several)
    if not degrees:
        return None
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in several)
    return Spread(math.sqrt(squares / degrees), degrees)


def by_spread(values: Sequence[float | None], spread: Spread, terms: float) -> Estimate:
    """Return the mean over seeds, its 95 % interval from a pooled spread: two seeds alone tell little of it.

    Args:
        values: the statistic of each seed; what is None or not finite is left out.
        terms: squares of the factors that networks enter the statistic with, summed: 1 for a network, 2 for
            the difference of two.
    """
    usable = [value for value in values if value is not None and math.isfinite(value)]
    if not usable:
        return Estimate(None)
    mean = float(np.mean(usable))
    if spread.deviation == 0:  # layer numbers may all agree: that says nothing of how far they lie apart
        return Estimate(mean)
    reach = float(stats.t.ppf(0.975, spread.degrees)) * spread.deviation * math.sqrt(terms / len(usable))
    return Estimate(mean, mean - reach, mean + reach)


def judge(estimate: Estimate, test: Test) -> tuple[str, bool | None]:
    """Return the verdict on a claim, and whether the whole interval says so (None without an interval).

    A statistic that could not be computed, or is not finite, is not comparable.
    """
    value, low, high = estimate.value, estimate.low, estimate.high
    if value is None:
        return NOT_COMPARABLE, None
    if test.covers is not None:
        if low is None or high is None:
            return NOT_COMPARABLE, None
        if not low <= test.covers <= high:
            return DISAGREES, True
        return AGREES, max(test.covers - low, high - test.covers) <= test.near
    holds = test.least <= value <= test.most
    if low is None or high is None:
        return (AGREES if holds else DISAGREES), None
    if holds:
        return AGREES, test.least <= low and high <= test.most
    return DISAGREES, high < test.least or low > test.most
