"""The tunnel's definitions on curves whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, pearsonr

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
    draws = tunnel.resampled_accuracies(correct[None], np.random.default_rng(1), resamples=800)
    assert draws.shape == (800, 2)
    np.testing.assert_array_equal(draws[:, 0], draws[:, 1])
    low, high = tunnel.interval(draws[:, 0])
    standard_error = np.sqrt(right.mean() * (1 - right.mean()) / 500)
    assert low == pytest.approx(right.mean() - 1.96 * standard_error, abs=0.006)
    assert high == pytest.approx(right.mean() + 1.96 * standard_error, abs=0.006)


def test_resamples_in_blocks_equal_resamples_at_once(monkeypatch):
    correct = (np.random.default_rng(0).random((3, 200)) < 0.5).astype(np.float32)
    at_once = tunnel.resampled_accuracies(correct[None], np.random.default_rng(1), resamples=40)
    monkeypatch.setattr(tunnel, "COUNTS_AT_ONCE", 3 * 200)
    np.testing.assert_allclose(
        tunnel.resampled_accuracies(correct[None], np.random.default_rng(1), 40), at_once, rtol=1e-6
    )


def test_start_interval_is_wide_only_where_the_curve_leaves_it_open():
    generator = np.random.default_rng(0)

    def layer(accuracy):
        return (generator.random(400) < accuracy).astype(np.float32)

    good = layer(0.95)
    clear = tunnel.resampled_accuracies(np.stack([layer(0.3), good, good])[None], np.random.default_rng(1))
    assert tunnel.start_interval(clear, 0.95) == (1, 1)
    open_start = np.stack([layer(0.3), layer(0.9025), layer(0.95), layer(0.95)])
    low, high = tunnel.start_interval(
        tunnel.resampled_accuracies(open_start[None], np.random.default_rng(1)), 0.95
    )
    assert (low, high) == (1, 2)


def test_interval_leaves_few_undefined_resamples_out_and_is_none_with_many():
    values = np.ones(100)
    values[:5] = np.nan
    assert tunnel.interval(values) == (1.0, 1.0)
    values[:6] = np.nan
    assert tunnel.interval(values) == (None, None)
    assert tunnel.interval(np.full(3, np.nan)) == (None, None)


def test_a_layer_is_taken_before_the_last_only_where_its_lead_exceeds_its_error():
    draws = np.random.default_rng(0)
    last = draws.random(400) < 0.7
    equal = last.copy()
    equal[np.flatnonzero(~last)[0]] = True  # one row more: no more than its error
    better = last | (draws.random(400) < 0.2)
    no_losses = np.full(3, np.inf)
    for rows, expected in [((equal, equal, last), 2), ((equal, better, last), 1), ((last, last, last), 2)]:
        right = np.array(rows, dtype=float)
        errors = tunnel.paired_errors(right)
        assert tunnel.choose_layer(right.mean(axis=1), no_losses, errors) == expected
    choices = tunnel.resampled_choices([np.array([[equal, better, last]], float)], no_losses, draws, 200)
    assert set(choices) <= {0, 1, 2}
    assert (choices == 1).mean() > 0.95


def test_seeds_that_judge_the_same_rows_are_no_more_evidence():
    draws = np.random.default_rng(3)
    last = draws.random(100) < 0.7
    ahead = last.copy()
    ahead[np.flatnonzero(~last)[0]] = True
    one, losses = np.array([ahead, last], float), np.full(2, np.inf)
    five = tunnel.over_seeds([np.stack([one] * 5)])
    assert np.array_equal(five, one)
    assert tunnel.choose_layer(five.mean(axis=1), losses, tunnel.paired_errors(five)) == 1

    def share(seeds):
        right = [np.stack([one] * seeds)]
        return (tunnel.resampled_choices(right, losses, np.random.default_rng(0), 2000) == 0).mean()

    assert share(1) == share(5)


def test_paired_errors_are_those_of_mcnemars_test():
    right = np.random.default_rng(1).random((4, 250)) < np.array([[0.2], [0.5], [0.9], [0.6]])
    errors = tunnel.paired_errors(right.astype(float))
    for layer in range(3):
        differences = right[layer].astype(float) - right[-1]
        only_here, only_last = (differences > 0).sum(), (differences < 0).sum()
        assert errors[layer] == pytest.approx(np.sqrt(only_here + only_last) / 250)
    assert errors[-1] == 0


def test_equal_accuracies_are_told_apart_by_loss_then_by_depth():
    accuracies, errors = np.array([0.9, 0.9, 0.5]), np.zeros(3)
    assert tunnel.choose_layer(accuracies, np.array([0.4, 0.3, 0.1]), errors) == 1
    assert tunnel.choose_layer(accuracies, np.array([0.3, 0.3, 0.1]), errors) == 0


def test_an_exact_tie_reaches_the_threshold():
    for right in range(20, 1001, 20):
        curve = np.array([right * 0.95, right]) / 1075
        assert tunnel.tunnel_start(curve, 0.95) == 0
        assert tunnel.stable_start(curve, 0.95) == 0


def planted_rows(generator, rows, fall=0.0, layers=8, shared=0.7):
    """Which rows each layer's probe gets right: 60 % at every layer, less by `fall` at the last one.

    Rows are easy or hard for all layers alike, `shared` of the variance; the rest is each layer's own.
    """
    common = generator.normal(size=rows) * shared**0.5
    score = common + generator.normal(size=(layers, rows)) * (1 - shared) ** 0.5
    least = np.full((layers, 1), norm.ppf(0.4))
    least[-1] = norm.ppf(0.4 + fall)
    return (score > least).astype(float)


def is_claimed(generator, fall=0.0):
    """Whether a tunnel is claimed on one simulated set of 300 held-out and 400 test rows."""
    heldout, test = planted_rows(generator, 300, fall), planted_rows(generator, 400, fall)
    losses = 1 - heldout.mean(axis=1)
    best = tunnel.choose_layer(heldout.mean(axis=1), losses, tunnel.paired_errors(heldout))
    draws = tunnel.resampled_accuracies(test[None], generator, 200)
    choices = tunnel.resampled_choices([heldout[None]], losses, generator, 200)
    kept = tunnel.estimate(
        tunnel.retained(test.mean(axis=1), best), tunnel.over_resamples(tunnel.retained, draws, choices)
    )
    return tunnel.is_beyond_noise(kept)


def test_no_tunnel_is_claimed_where_all_layers_are_equal_up_to_noise():
    generator = np.random.default_rng(0)
    assert np.mean([is_claimed(generator) for _ in range(200)]) <= 0.05
    paper = [tunnel.retained_paper(planted_rows(generator, 400).mean(axis=1)) for _ in range(200)]
    assert np.mean(np.array(paper) < 1) > 0.8  # a maximum over layers lies above the last one by chance alone


def test_a_planted_tunnel_is_claimed():
    generator = np.random.default_rng(0)
    assert np.mean([is_claimed(generator, fall=0.15) for _ in range(40)]) >= 0.95


def test_no_tunnel_is_claimed_without_an_interval_below_one():
    assert tunnel.is_beyond_noise(tunnel.Estimate(0.9, 0.85, 0.95))
    assert not tunnel.is_beyond_noise(tunnel.Estimate(0.9, 0.80, 1.0))
    assert not tunnel.is_beyond_noise(tunnel.Estimate(None, None, None))


@given(st.integers(1, 200))
def test_matched_layers_are_the_nearest_to_ten_depths(layers):
    positions = tunnel.matched_layers(layers)
    assert list(positions) == sorted(set(positions))
    assert positions[-1] == layers - 1
    assert len(positions) == min(layers, 10)
    depths = (np.arange(layers) + 1) / layers
    wanted = np.arange(1, 11) / 10
    nearest = np.abs(depths[positions][None] - wanted[:, None]).min(axis=1)
    np.testing.assert_allclose(nearest, np.abs(depths[None] - wanted[:, None]).min(axis=1), atol=1e-12)


def test_a_deeper_network_has_no_lower_matched_r_by_chance():
    """Of equal layers the highest test accuracy rises with their number; at ten depths it does not."""
    generator = np.random.default_rng(0)
    raw, matched = {10: [], 100: []}, {10: [], 100: []}
    for _ in range(100):
        for layers in raw:
            curve = planted_rows(generator, 400, layers=layers).mean(axis=1)
            raw[layers].append(tunnel.retained_paper(curve))
            matched[layers].append(tunnel.retained_paper(curve[tunnel.matched_layers(layers)]))
    assert np.mean(raw[10]) - np.mean(raw[100]) > 0.02
    assert abs(np.mean(matched[10]) - np.mean(matched[100])) < 0.01
