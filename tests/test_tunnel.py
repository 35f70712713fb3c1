"""The tunnel's definitions on curves whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr

from tunnelscope import tunnel

CURVE = np.array([0.40, 0.70, 0.86, 0.84, 0.88, 0.90, 0.90])  # 95 % of the last: 0.855


def test_start_is_the_first_layer_at_95_percent_of_the_last():
    assert tunnel.tunnel_start(CURVE, 0.95) == 2


def test_stable_start_waits_until_no_later_layer_falls_below():
    assert tunnel.stable_start(CURVE, 0.95) == 4


def test_start_at_98_percent_is_later():
    assert tunnel.tunnel_start(CURVE, 0.98) == 5  # 0.882


def test_the_replicated_mlp_of_2023_starts_at_layers_4_and_5():
    curve = np.array(
        [38.51, 50.77, 53.58, 55.10, 56.17, 56.62, 56.63, 56.53, 56.63, 56.57, 56.58, 56.60, 56.64]
    )
    assert tunnel.tunnel_start(curve, 0.95) + 1 == 4
    assert tunnel.tunnel_start(curve, 0.98) + 1 == 5


def test_retained_uses_the_layer_chosen_elsewhere_and_may_pass_one():
    curve = np.array([0.5, 0.8, 0.6])
    assert tunnel.retained(curve, best=1) == pytest.approx(0.75)
    assert tunnel.retained(curve, best=0) == pytest.approx(1.2)
    assert tunnel.retained_paper(curve) == pytest.approx(0.75)


def test_ood_start_is_the_earliest_best_layer_or_none_at_the_end():
    assert tunnel.ood_start(np.array([0.5, 0.8, 0.8, 0.6])) == 1
    assert tunnel.ood_start(np.array([0.5, 0.6, 0.8])) is None
    assert tunnel.ood_start(np.array([0.5, 0.8, 0.8])) is None  # a_p = a_m: no tunnel


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=3, max_size=30))
@settings(max_examples=50, deadline=None)
def test_pearson_equals_scipys(points):
    first, second = (np.array(side) for side in zip(*points, strict=True))
    if np.ptp(first) < 1e-3 or np.ptp(second) < 1e-3:
        return
    assert tunnel.pearson(first, second) == pytest.approx(pearsonr(first, second).statistic, abs=1e-8)


def test_pearson_of_a_flat_curve_is_undefined():
    flat = tunnel.pearson(np.full(4, 0.5), np.arange(4.0))
    assert np.isnan(flat)
    assert tunnel.estimate(flat, np.zeros(3)) == tunnel.Estimate(None, None, None)


def test_alignment_is_the_product_of_the_gains_over_chance():
    assert tunnel.alignment(0.9, 0.5, 0.1, 0.01) == pytest.approx(0.8 * 0.49)


@pytest.mark.parametrize(
    ("mean_retained", "name"),
    [
        (1.1, "negligible"),
        (0.95, "negligible"),
        (0.949, "weak"),
        (0.90, "weak"),
        (0.8999, "medium"),
        (0.80, "medium"),
        (0.79, "strong"),
    ],
)
def test_bands_are_those_of_harun_2024(mean_retained, name):
    assert tunnel.band(mean_retained) == name


def test_resamples_keep_layers_paired_and_cover_the_accuracy():
    generator = np.random.default_rng(0)
    right = (generator.random(500) < 0.7).astype(np.float32)
    correct = np.stack([right, right])
    draws = tunnel.resampled_accuracies(correct, np.random.default_rng(1), resamples=800)
    assert draws.shape == (800, 2)
    np.testing.assert_array_equal(draws[:, 0], draws[:, 1])
    low, high = tunnel.interval(draws[:, 0])
    standard_error = np.sqrt(right.mean() * (1 - right.mean()) / 500)
    assert low == pytest.approx(right.mean() - 1.96 * standard_error, abs=0.006)
    assert high == pytest.approx(right.mean() + 1.96 * standard_error, abs=0.006)


def test_resamples_in_blocks_equal_resamples_at_once(monkeypatch):
    correct = (np.random.default_rng(0).random((3, 200)) < 0.5).astype(np.float32)
    at_once = tunnel.resampled_accuracies(correct, np.random.default_rng(1), resamples=40)
    monkeypatch.setattr(tunnel, "COUNTS_AT_ONCE", 3 * 200)
    np.testing.assert_allclose(
        tunnel.resampled_accuracies(correct, np.random.default_rng(1), 40), at_once, rtol=1e-6
    )


def test_start_interval_is_wide_only_where_the_curve_leaves_it_open():
    generator = np.random.default_rng(0)

    def layer(accuracy):
        return (generator.random(400) < accuracy).astype(np.float32)

    good = layer(0.95)
    clear = tunnel.resampled_accuracies(np.stack([layer(0.3), good, good]), np.random.default_rng(1))
    assert tunnel.start_interval(clear, 0.95) == (1, 1)
    open_start = np.stack([layer(0.3), layer(0.9025), layer(0.95), layer(0.95)])
    low, high = tunnel.start_interval(tunnel.resampled_accuracies(open_start, np.random.default_rng(1)), 0.95)
    assert (low, high) == (1, 2)


def test_interval_leaves_undefined_resamples_out():
    assert tunnel.interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert tunnel.interval(np.array([np.nan])) == (None, None)


def test_an_exact_tie_reaches_the_threshold():
    for right in range(20, 1001, 20):
        curve = np.array([right * 0.95, right]) / 1075
        assert tunnel.tunnel_start(curve, 0.95) == 0
        assert tunnel.stable_start(curve, 0.95) == 0
