"""Regression and multi-label probes are those of scikit-learn, and so are their scores."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score, r2_score

from tunnelscope.errors import RequestError
from tunnelscope.probes import fit_probe
from tunnelscope.probes.targets import (
    fit_one_vs_rest,
    fit_ridge_regression,
    mean_average_precision,
    r2,
    resampled_map,
    resampled_r2,
)


def planted(rows=120, width=8, targets=2, noise=0.1, seed=0):
    """Features of uneven scale, linear targets with noise far from 0, and labels that cut them."""
    draws = np.random.default_rng(seed)
    features = draws.normal(size=(rows, width)) * np.logspace(-2, 2, width) + 5
    clean = (features / np.logspace(-2, 2, width)) @ draws.normal(size=(width, targets))
    numbers = clean + noise * draws.normal(size=clean.shape)
    labels = (numbers > np.median(numbers, axis=0)).astype(int)
    return torch.tensor(features), torch.tensor(numbers * [1.0, 1000.0][:targets] + 300), torch.tensor(labels)


@pytest.mark.parametrize("width", [8, 200])
def test_ridge_regression_is_scikit_learns(width):
    features, numbers, _ = planted(width=width)
    probe = fit_ridge_regression(features, numbers, penalty=0.03)
    x = features.numpy()
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    twin = Ridge(alpha=0.03 * len(x)).fit(standard, numbers.numpy())
    np.testing.assert_allclose(probe.predict(features), twin.predict(standard), rtol=1e-7)


def test_chosen_penalty_follows_the_noise():
    small = fit_ridge_regression(*planted(noise=0.01)[:2])
    draws = torch.Generator().manual_seed(1)
    noise = torch.randn(120, 1, generator=draws)
    assert float(small.penalty[0]) <= 0.01
    assert float(fit_ridge_regression(planted(width=100)[0], noise).penalty[0]) >= 0.1
    features, numbers, _ = planted(noise=0.01, seed=3)
    assert r2(fit_ridge_regression(features, numbers).predict(features).numpy(), numbers.numpy()) > 0.99


def test_one_target_may_be_a_vector_and_a_constant_one_is_its_mean():
    features, numbers, _ = planted()
    alone = fit_ridge_regression(features, numbers[:, 0], penalty=0.1)
    assert alone.predict(features).shape == (120, 1)
    constant = fit_ridge_regression(features, torch.full((120,), 7.0), penalty=0.1)
    torch.testing.assert_close(constant.predict(features), torch.full((120, 1), 7.0, dtype=torch.float64))


def test_one_vs_rest_ranks_as_each_exact_probe_does():
    features, _, labels = planted(noise=1.0)
    scores = fit_one_vs_rest(features.float(), labels).predict(features.float()).numpy()
    precisions = []
    for label in range(2):
        alone = fit_probe(features.float(), labels[:, label])
        logits = alone.logits(features.float())
        precisions.append(average_precision_score(labels[:, label], logits[:, 1] - logits[:, 0]))
    assert mean_average_precision(scores, labels.numpy()) == pytest.approx(np.mean(precisions), abs=1e-6)
    assert np.mean(precisions) > 0.9


def test_a_label_that_no_training_row_has_ranks_nothing():
    features, _, labels = planted()
    labels = torch.cat([labels, torch.zeros(120, 1, dtype=torch.int64)], dim=1)
    probe = fit_one_vs_rest(features, labels)
    assert not probe.weights[2].any()
    assert bool(probe.penalty[2].isnan())
    scores = probe.predict(features).numpy()
    assert mean_average_precision(scores, labels.numpy()) == mean_average_precision(
        scores[:, :2], labels[:, :2].numpy()
    )


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 3), st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_scores_are_scikit_learns(seed, rows, columns, levels):
    draws = np.random.default_rng(seed)
    scores = draws.integers(0, levels, (rows, columns)).astype(float)  # with ties
    labels = draws.integers(0, 2, (rows, columns))
    labels[0] = 1
    expected = np.mean([average_precision_score(labels[:, c], scores[:, c]) for c in range(columns)])
    assert mean_average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)
    targets = draws.normal(size=(rows, columns)) + 1e4
    assert r2(scores + 1e4, targets) == pytest.approx(r2_score(targets, scores + 1e4), rel=1e-6)


def test_resamples_are_the_scores_of_the_rows_drawn():
    features, numbers, labels = planted(rows=30, noise=2.0)
    predictions = fit_ridge_regression(features, numbers, penalty=1.0).predict(features).numpy()
    draws = np.random.default_rng(5).multinomial(30, np.full(30, 1 / 30), size=20)
    rows = [np.repeat(np.arange(30), counts) for counts in draws]
    np.testing.assert_allclose(
        resampled_r2(predictions, numbers.numpy(), np.random.default_rng(5), 20),
        [r2_score(numbers.numpy()[drawn], predictions[drawn]) for drawn in rows],
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        resampled_map(predictions, labels.numpy(), np.random.default_rng(5), 20),
        [average_precision_score(labels.numpy()[drawn], predictions[drawn]) for drawn in rows],
        rtol=1e-9,
    )


def test_what_has_no_score_is_not_a_number():
    assert np.isnan(r2(np.zeros(5), np.full(5, 3.0)))
    assert np.isnan(mean_average_precision(np.zeros((5, 1)), np.zeros((5, 1))))
    both = np.stack([np.arange(5.0), np.full(5, 3.0)], axis=1)
    assert r2(both, both) == 1


@pytest.mark.parametrize(
    ("fit", "targets", "said"),
    [
        (fit_ridge_regression, torch.zeros(7), r"targets of shape \(7, 1\) for 120 rows"),
        (fit_ridge_regression, torch.full((120,), float("nan")), r"not finite in 120 rows \(first: 0\)"),
        (fit_one_vs_rest, torch.zeros(120), r"labels of shape \(120,\) for 120 rows; give \(n, labels\)"),
        (fit_one_vs_rest, torch.full((120, 2), 2), r"label 0 of row 0 is 2; give 0 or 1"),
        (fit_one_vs_rest, torch.ones(120, 2), r"each label is the same in all 120 training rows"),
    ],
)
def test_targets_that_cannot_be_fitted_are_refused(fit, targets, said):
    with pytest.raises(RequestError, match=said):
        fit(planted()[0], targets)


def test_penalties_and_rows_are_checked():
    features, numbers, _ = planted()
    with pytest.raises(RequestError, match="penalty -1 is not above 0"):
        fit_ridge_regression(features, numbers, penalty=-1)
    with pytest.raises(RequestError, match="2 rows are too few to hold some out"):
        fit_ridge_regression(features[:2], numbers[:2])
