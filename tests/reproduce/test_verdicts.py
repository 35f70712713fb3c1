"""Verdicts follow from the statistic's seeds alone: the mean decides, its interval says how surely."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tunnelscope.reproduce.verdicts import (
    AGREES,
    DISAGREES,
    NOT_COMPARABLE,
    Estimate,
    above,
    at_least,
    at_most,
    below,
    by_spread,
    judge,
    no_effect,
    over_seeds,
    pooled,
    within,
)

numbers = st.floats(-1e6, 1e6)


@given(st.lists(numbers, min_size=2, max_size=10))
def test_the_interval_is_students(values: list[float]) -> None:
    found = over_seeds(values)
    error = stats.sem(values)
    if len(values) == 2 and values[0] == values[1]:
        assert found.low is None
        return
    if error == 0:
        assert found.low == found.value == found.high
        return
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=error)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9, abs=1e-6)


def test_one_seed_has_no_interval_and_what_is_undefined_is_left_out() -> None:
    assert over_seeds([3.0]) == Estimate(3.0)
    assert over_seeds([3.0, None, math.nan]) == Estimate(3.0)
    assert over_seeds([None, math.inf]) == Estimate(None)
    assert over_seeds([]) == Estimate(None)


@given(numbers, st.floats(0, 1e3), numbers, numbers)
def test_a_mean_in_the_region_agrees_and_is_sure_only_with_its_whole_interval(
    mean: float, reach: float, one: float, other: float
) -> None:
    least, most = sorted((one, other))
    low, high = mean - reach, mean + reach
    verdict, sure = judge(Estimate(mean, low, high), within(least, most))
    assert (verdict == AGREES) == (least <= mean <= most)
    if verdict == AGREES:
        assert sure == (least <= low and high <= most)
    else:
        assert verdict == DISAGREES
        assert sure == (high < least or low > most)


@pytest.mark.parametrize(
    ("test", "on_the_bound"),
    [
        (at_least(2), AGREES),
        (at_most(2), AGREES),
        (above(2), DISAGREES),
        (below(2), DISAGREES),
        (within(2, 3), AGREES),
    ],
)
def test_bounds(test, on_the_bound: str) -> None:
    assert judge(Estimate(2.0), test) == (on_the_bound, None)


def test_no_effect_asks_for_an_interval_around_nothing() -> None:
    assert judge(Estimate(0.5, -0.1, 0.9), no_effect(1)) == (AGREES, True)
    assert judge(Estimate(0.5, -1.0, 2.0), no_effect(1)) == (AGREES, False)  # wide: it holds everything
    assert judge(Estimate(0.5, 0.1, 0.9), no_effect(1)) == (DISAGREES, True)
    assert judge(Estimate(0.0), no_effect(1)) == (NOT_COMPARABLE, None)


def test_what_could_not_be_computed_is_not_comparable() -> None:
    assert judge(Estimate(None), at_least(0)) == (NOT_COMPARABLE, None)


def test_what_is_not_finite_is_not_judged() -> None:
    assert judge(Estimate(float("nan")), below(0)) == (NOT_COMPARABLE, None)


def test_two_seeds_that_agree_have_no_interval() -> None:
    assert over_seeds([4, 4]) == Estimate(4)
    assert over_seeds([4, 4, 4]) == Estimate(4, 4, 4)


def test_a_pooled_spread_covers_what_it_says() -> None:
    """Ten kinds of two seeds: the interval of a difference holds 0 in 95 % of draws."""
    rng = np.random.default_rng(0)
    draws = rng.normal(50, 4, (4000, 10, 2))
    together = rng.normal(0, 10, (4000, 1, 2))  # what a seed does to all kinds alike
    for values, is_paired in ((draws, False), (draws, True), (draws + together, True)):
        inside = 0
        for kinds in values:
            spread = pooled([by_seed(kind) for kind in kinds.tolist()], is_paired=is_paired)
            assert spread is not None
            assert spread.degrees == (9 if is_paired else 10)
            found = by_spread(kinds[1] - kinds[0], spread, terms=2)
            inside += found.low <= 0 <= found.high
        assert inside / len(values) == pytest.approx(0.95, abs=0.01)


def by_seed(values: Sequence[float]) -> dict[int, float]:
    return dict(enumerate(values))


def test_kinds_of_one_kind_are_as_students_interval() -> None:
    values = [3.0, 5.0, 4.5]
    spread = pooled([by_seed(values), {0: 1.0}])
    assert spread is not None
    told, plain = by_spread(values, spread, terms=1), over_seeds(values)
    assert (told.value, told.low, told.high) == pytest.approx((plain.value, plain.low, plain.high))


def test_without_replicates_there_is_no_spread() -> None:
    assert pooled([{0: 1.0}, {0: 2.0}]) is None
    assert pooled([]) is None
    assert pooled([], is_paired=True) is None
    assert pooled([{0: 1.0, 1: 3.0}], is_paired=True) is None  # nothing else to tell the seed's part from
    assert pooled([{0: 1.0, 1: float("nan")}]) is None
    same = pooled([{0: 4.0, 1: 4.0}])
    assert same is not None
    assert by_spread([4.0, 5.0], same, terms=1) == Estimate(4.5)
    assert by_spread([None, float("nan")], same, terms=1) == Estimate(None)


def test_bounds_that_are_not_finite_are_none() -> None:
    assert Estimate(2.0, float("nan"), float("inf")) == Estimate(2.0)


def test_what_is_not_finite_is_left_out_and_kinds_that_lack_a_seed_are_not_paired() -> None:
    kinds = [{0: 1.0, 1: 3.0}, {0: 5.0, 1: float("nan")}, {0: 2.0, 1: 6.0}]
    plain, paired = pooled(kinds), pooled(kinds, is_paired=True)
    assert plain is not None
    assert (plain.degrees, plain.deviation) == (2, pytest.approx(math.sqrt((2 + 8) / 2)))
    assert paired is not None
    assert (paired.degrees, paired.deviation) == (1, pytest.approx(1.0))  # seeds differ by 2 and by 4
