"""Regression and multi-label probes are those of scikit-learn, and so are their scores."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score, r2_score

from tunnelscope.errors import RequestError
from tunnelscope.probes import choice_scores, fit_probe, load_probe
from tunnelscope.probes.credits import map_credits, r2_credits
from tunnelscope.probes.targets import fit_one_vs_rest, fit_ridge_regression


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
    assert float(small.penalty) <= 0.01
    assert float(fit_ridge_regression(planted(width=100)[0], noise).penalty) >= 0.1
    features, numbers, _ = planted(noise=0.01, seed=3)
    assert fit_ridge_regression(features, numbers).score(features, numbers) > 0.99


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
    assert score(map_credits(scores, labels.numpy())) == pytest.approx(np.mean(precisions), abs=1e-6)
    assert np.mean(precisions) > 0.9


def test_a_label_that_no_training_row_has_ranks_nothing():
    features, _, labels = planted()
    labels = torch.cat([labels, torch.zeros(120, 1, dtype=torch.int64)], dim=1)
    probe = fit_one_vs_rest(features, labels)
    assert not probe.weights[2].any()
    assert bool(probe.penalties[2].isnan())
    scores = probe.predict(features).numpy()
    assert score(map_credits(scores, labels.numpy())) == score(
        map_credits(scores[:, :2], labels[:, :2].numpy())
    )


def score(credits):
    return float(np.mean(credits))


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 3), st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_credits_have_scikit_learns_score_as_their_mean(seed, rows, columns, levels):
    draws = np.random.default_rng(seed)
    scores = draws.integers(0, levels, (rows, columns)).astype(float)  # with ties
    labels = draws.integers(0, 2, (rows, columns))
    labels[0], labels[1] = 1, 0
    expected = np.mean([average_precision_score(labels[:, c], scores[:, c]) for c in range(columns)])
    assert score(map_credits(scores, labels)) == pytest.approx(expected, abs=1e-12)
    targets = draws.normal(size=(rows, columns)) + 1e4
    assert score(r2_credits(scores + 1e4, targets)) == pytest.approx(
        r2_score(targets, scores + 1e4), rel=1e-6
    )


@given(st.integers(0, 2**32 - 1), st.integers(3, 25), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_credits_are_the_derivatives_by_the_weights_of_rows(seed, rows, levels):
    draws = np.random.default_rng(seed)
    scores = draws.integers(0, levels, (rows, 1)).astype(float)
    labels = draws.integers(0, 2, (rows, 1))
    labels[0], labels[1] = 1, 0
    targets = draws.normal(size=(rows, 1)) + 3

    def by_weights(scored):
        step = 1e-5
        slopes = []
        for row in range(rows):
            ends = []
            for sign in (1, -1):
                weights = np.ones(rows)
                weights[row] += sign * step
                ends.append(scored(weights))
            slopes.append((ends[0] - ends[1]) / (2 * step))
        return scored(np.ones(rows)) + rows * np.array(slopes)

    precision = by_weights(lambda w: average_precision_score(labels[:, 0], scores[:, 0], sample_weight=w))
    np.testing.assert_allclose(map_credits(scores, labels), precision, rtol=1e-4, atol=1e-4)
    fitted = by_weights(lambda w: r2_score(targets, scores, sample_weight=w))
    np.testing.assert_allclose(r2_credits(scores, targets), fitted, rtol=1e-4, atol=1e-4)


def test_intervals_are_those_of_a_bootstrap_of_the_rows():
    features, numbers, labels = planted(rows=600, noise=2.0)
    fitted = fit_ridge_regression(features[:300], numbers[:300]).scored(features[300:], numbers[300:])
    ranked = fit_one_vs_rest(features[:300], labels[:300]).scored(features[300:], labels[300:])
    draws = np.random.default_rng(5)
    rows = [draws.integers(0, 300, 300) for _ in range(800)]
    truth, predicted = numbers[300:].numpy(), fitted.predict(features[300:]).numpy()
    spread = np.std([r2_score(truth[drawn], predicted[drawn]) for drawn in rows])
    assert (fitted.high - fitted.low) / 2 == pytest.approx(1.96 * spread, rel=0.15)
    there, ranks = labels[300:].numpy(), ranked.predict(features[300:]).numpy()
    spread = np.std([average_precision_score(there[drawn], ranks[drawn]) for drawn in rows])
    assert (ranked.high - ranked.low) / 2 == pytest.approx(1.96 * spread, rel=0.2)


def test_what_has_no_score_is_not_a_number():
    assert np.isnan(r2_credits(np.zeros((5, 1)), np.full((5, 1), 3.0))).all()
    assert np.isnan(map_credits(np.zeros((5, 1)), np.zeros((5, 1)))).all()
    assert np.isnan(map_credits(np.zeros((5, 1)), np.ones((5, 1)))).all()
    both = np.stack([np.arange(5.0), np.full(5, 3.0)], axis=1)
    assert score(r2_credits(both, both)) == 1
    features, numbers, _ = planted()
    still = fit_ridge_regression(features, numbers).scored(features, torch.full_like(numbers, 7.0))
    assert still.value is None
    assert still.interval is None


def test_target_probes_are_saved_and_read_again(tmp_path):
    features, numbers, labels = planted()
    for probe in (
        fit_ridge_regression(features, numbers, names=("a", "b")).scored(features, numbers),
        fit_one_vs_rest(features, labels, names=("c", "d")).scored(features, labels),
    ):
        probe.save(tmp_path / "probe.safetensors")
        again = load_probe(tmp_path / "probe.safetensors")
        assert torch.equal(again.predict(features), probe.predict(features))
        assert (again.class_names, again.value, again.low) == (probe.class_names, probe.value, probe.low)


@pytest.mark.parametrize("rows", [200, 12_000])
def test_layers_are_chosen_on_rows_the_probe_has_not_seen(rows):
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(rows, 150, generator=draws)
    noise = torch.randn(rows, 1, generator=draws).double()  # nothing to learn
    fitted = fit_ridge_regression(features, noise, penalty=1e-6)
    judged = choice_scores(features, noise, fitted)
    assert len(judged.rows) == (rows if rows < 10_000 else 1200)
    assert judged.score < 0.02
    if rows < 10_000:
        assert fitted.score(features, noise) > 0.5  # what the rows it was fitted on would have said


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


def test_a_label_of_one_row_is_chosen_by_though_the_part_without_it_teaches_nothing():
    features, _, _ = planted(rows=60)
    labels = torch.zeros(60, 1, dtype=torch.int64)
    labels[3] = 1
    choice = choice_scores(features, labels, fit_one_vs_rest(features, labels, penalty=0.1))
    assert len(choice.rows) == 60
    assert choice.score is not None
    assert 0 < choice.score < 1


@pytest.mark.parametrize("fit", [fit_ridge_regression, fit_one_vs_rest])
def test_one_group_and_a_given_penalty_leave_nothing_to_choose_by(fit):
    features, numbers, labels = planted(rows=60)
    groups = torch.zeros(60, dtype=torch.int64)
    targets = numbers if fit is fit_ridge_regression else labels
    choice = choice_scores(features, targets, fit(features, targets, penalty=0.1, groups=groups), groups)
    assert choice.score is None
    assert len(choice.rows) == 0


@pytest.mark.parametrize("positives", [(3, 10), (10, 12), (1, 1), (1, 200)])
def test_a_perfect_ranking_of_rare_labels_has_an_interval(positives):
    labels = torch.stack([torch.arange(400) < count for count in positives], dim=1).long()
    features = labels.float() + 0.01 * torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    probe = fit_one_vs_rest(features, labels, penalty=0.1).scored(features, labels)
    assert probe.value == pytest.approx(1)
    assert 0 < probe.low < 1
    assert probe.high == 1


def test_a_target_far_from_zero_is_predicted_and_a_constant_one_is_its_mean():
    features, numbers, _ = planted()
    seconds = 1.7e9 + 500 * numbers[:, 0].double()  # times within an hour: a spread below a millionth
    near, far = (fit_ridge_regression(features, one, penalty=0.01) for one in (numbers[:, 0], seconds))
    assert far.score(features, seconds) == pytest.approx(near.score(features, numbers[:, 0]), abs=1e-5)
    still = fit_ridge_regression(features, torch.full((len(features),), 0.1).double(), penalty=0.01)
    assert not still.weights.any()
