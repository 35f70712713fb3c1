"""The claims' numbers on curves whose answers are known."""

import numpy as np
import pytest

from tunnelscope.reproduce.masarczyk2023 import statistics
from tunnelscope.reproduce.masarczyk2023.statistics import Curves


def curves(**changes) -> Curves:
    """Ten layers: the probe saturates at layer 4, OOD accuracy peaks there, the rank halves from there on."""
    given = {
        "numbers": np.arange(1, 11),
        "id": np.array([0.3, 0.5, 0.6, 0.77, 0.78, 0.78, 0.79, 0.79, 0.80, 0.80]),
        "ood": np.array([[0.3, 0.4, 0.5, 0.6, 0.5, 0.45, 0.4, 0.35, 0.32, 0.3]] * 2),
        "ranks": {
            tolerance: np.array([20, 40, 60, 80, 40, 20, 10, 9, 9, 8.0])
            for tolerance in ("1e-2", "1e-3", "1e-4")
        },
        "ood_ranks": np.array([[20, 40, 60, 80, 40, 20, 10, 9, 9, 8.0]] * 2),
        "within": np.exp(-np.arange(10.0)),
        "between": np.exp(np.arange(10.0)),
        "cka": np.eye(10),
        "attainable": np.full(10, 100.0),
        "own": 0.82,
        "classes": 10,
    }
    return Curves(**(given | changes))


def test_starts() -> None:
    one = curves()
    assert one.start() == 4  # 0.77 of 0.80 is 96 %
    assert one.start(0.98) == 7
    assert one.start_above_chance() == 4  # 0.67 of 0.70
    few = curves(id=np.array([0.66, 0.68, 0.69, 0.69, 0.70, 0.70, 0.7, 0.7, 0.7, 0.7]), classes=2)
    assert (few.start(), few.start_above_chance()) == (2, 3)
    assert one.start_of_own() == 5  # 0.78 of 0.82 is 95.1 %
    assert one.tunnel.tolist() == [False] * 4 + [True] * 6
    assert one.from_start.sum() == 7
    dipped = curves(id=np.array([0.3, 0.5, 0.79, 0.7, 0.78, 0.78, 0.79, 0.79, 0.80, 0.80]))
    assert (dipped.start(), dipped.stable_start()) == (3, 5)


def test_starts_count_as_the_paper_does() -> None:
    assert curves(numbers=2 * np.arange(1, 11) - 1).start() == 7
    assert curves(own=0.9).start_of_own() is None
    assert curves(own=None).start_of_own() is None


def test_slopes() -> None:
    assert statistics.slope([1, 2, 3], [2, 4, 6]) == pytest.approx(2)
    assert statistics.slope([1, 1], [0, 5]) is None
    assert statistics.slope([1.0, 2.0, 3.0], [1.0, np.inf, 5.0]) == pytest.approx(2)
    line = np.polyfit(np.arange(4, 11), 100 * curves().id[3:], 1)[0]
    assert statistics.accuracy_slope(curves()) == pytest.approx(line)
    assert statistics.collapse_slope(curves()) == pytest.approx(-2)


def test_no_tunnel_has_no_slope() -> None:
    rising = curves(id=np.linspace(0.1, 1.0, 10))
    assert rising.start() == 10
    assert statistics.accuracy_slope(rising) is None
    assert statistics.collapse_slope(rising) is None


def test_ranks_and_ood() -> None:
    one = curves()
    assert statistics.rank_drop(one, one.from_start) == pytest.approx(8 / 80)
    assert statistics.rank_drop(one, np.arange(10) > 8) is None
    assert statistics.least_rank(one, 10) == 8
    assert statistics.least_rank(curves(attainable=np.full(10, 8.0)), 10) is None
    narrow = curves(attainable=np.array([100.0] * 9 + [16]))
    assert statistics.rank_share_drop(narrow) == pytest.approx((8 / 16) / (80 / 100))
    assert statistics.last_third(one.ranks["1e-3"]) == 9
    assert statistics.retained(one.ood) == pytest.approx(0.5)
    assert statistics.peak(one) == 4
    assert statistics.coupling(one.ranks["1e-3"], one.ood, one.from_start) == pytest.approx(0.991, abs=0.01)
    assert statistics.coupling(one.ranks["1e-3"], one.ood, np.arange(10) > 7) is None
    assert statistics.coupling(np.ones(10), one.ood, one.from_start) is None


def test_blocks_of_cka() -> None:
    inside = np.arange(10) >= 6
    cka = np.full((10, 10), 0.2)
    cka[np.ix_(inside, inside)] = 0.9
    np.fill_diagonal(cka, 1)
    assert statistics.block_means(cka, inside) == pytest.approx((0.9, 0.2))
    assert statistics.block_means(cka, np.arange(10) >= 9)[0] is None
    assert statistics.block_means(cka, np.arange(10) >= 8)[0] is None
    near = np.array([[1, 0.9, 0.1], [0.9, 1, 0.8], [0.1, 0.8, 1]])
    assert statistics.block_means(near, np.full(3, True))[0] == pytest.approx(0.6)
    assert statistics.block_means(near, np.full(3, True), 1)[0] == pytest.approx(0.85)
