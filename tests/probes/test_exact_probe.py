import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import AWKWARD, objective, planted, reference, standardised

from tunnelscope.errors import RequestError
from tunnelscope.linalg import coordinates
from tunnelscope.probes import fit_probe
from tunnelscope.probes.exact import ExactSettings, fit_exact
from tunnelscope.probes.rows import training_rows


@pytest.mark.parametrize("kind", AWKWARD)
def test_exact_finds_the_optimum_of_scikit_learn(kind):
    features, labels = planted(kind)
    probe = fit_probe(features, labels, penalty=0.01, tolerance=1e-8)
    rows = standardised(features)
    weights, bias = reference(rows, labels, 0.01)
    assert probe.converged
    assert probe.gap <= 1e-8
    assert np.abs(probe.weights.numpy() - weights).max() < 2e-4 * np.abs(weights).max()
    assert np.abs(probe.bias.numpy() - bias - (probe.bias.numpy() - bias).mean()).max() < 2e-4
    ours = objective(rows, labels, probe.weights.double().numpy(), probe.bias.double().numpy(), 0.01)
    assert ours == pytest.approx(objective(rows, labels, weights, bias, 0.01), rel=1e-7)
    assert (probe.predict(features).numpy() == (rows @ weights.T + bias).argmax(axis=1)).all()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(AWKWARD),
    seed=st.integers(0, 20),
    penalty=st.sampled_from([1e-5, 1e-3, 0.1, 10.0]),
    tolerance=st.sampled_from([3e-1, 1e-2, 1e-3, 1e-4, 1e-6]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_the_certified_gap_is_never_below_the_true_one(kind, seed, penalty, tolerance, dtype):
    features, labels = planted(kind, seed=seed, dtype=dtype)
    probe = fit_probe(features, labels, penalty=penalty, tolerance=tolerance)
    assert probe.converged
    assert probe.gap <= tolerance
    rows = standardised(features)
    ours = objective(rows, labels, probe.weights.double().numpy(), probe.bias.double().numpy(), penalty)
    best = objective(rows, labels, *reference(rows, labels, penalty), penalty)
    assert probe.gap >= (ours - best) / ours - 1e-7  # the weights are kept in float32


@pytest.mark.parametrize("kind", AWKWARD)
def test_the_chosen_penalty_does_as_well_as_the_best_of_a_fine_search(kind):
    features, labels = planted(kind, n=1200, spread=0.6)
    test_features, test_labels = features[::2], labels[::2]
    features, labels = features[1::2], labels[1::2]
    probe = fit_probe(features, labels)
    assert probe.converged
    assert 0 < probe.heldout_accuracy <= 1
    penalties = [10.0**power for power in range(-8, 2)]
    fixed = [fit_probe(features, labels, penalty=penalty) for penalty in penalties]
    losses = [fit.scores(test_features, test_labels).loss for fit in fixed]
    assert probe.scores(test_features, test_labels).loss <= 1.1 * min(losses) + 0.03


def test_features_without_any_signal_get_a_penalty_above_the_first_of_the_path():
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(300, 200, generator=draws)
    labels = torch.randint(0, 5, (300,), generator=draws)
    probe = fit_probe(features, labels)
    assert 0.3 < probe.penalty <= 10
    assert probe.heldout_loss < 1.05 * np.log(5)


@pytest.mark.parametrize("seed", [0, 10, 11])  # the held-out loss of these falls up to any penalty
def test_a_weak_signal_of_few_rows_is_not_penalised_away(seed):
    draws = np.random.default_rng(seed)
    means = 0.1 * draws.normal(size=(10, 60))
    labels = np.arange(100) % 10
    rows = means[labels] + draws.normal(size=(100, 60))
    probe = fit_probe(torch.from_numpy(rows), torch.from_numpy(labels))
    assert 1 < probe.penalty <= 10
    assert probe.score(torch.from_numpy(rows), torch.from_numpy(labels)) > 0.5


def test_well_separated_classes_get_a_small_penalty():
    features, labels = planted(spread=5.0, n=800)
    assert fit_probe(features, labels).penalty < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["constant", "duplicated", "wide"])
def test_separable_classes_converge_with_next_to_no_penalty(kind, dtype):
    for seed in (2, 5):
        features, labels = planted(kind, seed=seed, spread=6.0, dtype=dtype)
        assert fit_probe(features, labels, penalty=1e-8, tolerance=1e-3).converged


def test_scales_over_many_orders_all_count():
    features, labels = planted("plain")
    scaled = features * 10.0 ** torch.linspace(-4, 4, features.shape[1], dtype=torch.float64)
    plain, probe = (fit_probe(rows, labels, penalty=0.01, tolerance=1e-8) for rows in (features, scaled))
    assert torch.allclose(plain.weights, probe.weights, atol=1e-4)


def test_constant_features_get_no_weight_and_do_no_harm_on_the_test_rows():
    features, labels = planted("constant", dtype=torch.float32)
    probe = fit_probe(features, labels)
    assert probe.scale[3] == 0
    assert probe.scale[5] == 0
    changed = features.clone()
    changed[:, 3] += 1
    assert torch.equal(probe.logits(features), probe.logits(changed))


def test_features_that_are_all_constant_predict_the_most_frequent_class():
    labels = torch.tensor([0, 1, 1, 2, 1, 0, 1, 1, 2, 1])
    probe = fit_probe(torch.ones(10, 3), labels)
    assert probe.converged
    assert (probe.predict(torch.ones(4, 3)) == 1).all()


def test_a_class_without_training_rows_is_never_predicted():
    features, labels = planted()
    labels = labels * 2  # classes 1, 3 and 5 are absent
    probe = fit_probe(features, labels, classes=8, penalty=0.01)
    assert set(probe.predict(features).tolist()) <= {0, 2, 4, 6}
    assert torch.isneginf(probe.bias[[1, 3, 5, 7]]).all()
    assert (probe.weights[[1, 3, 5, 7]] == 0).all()
    compact = fit_probe(features, labels // 2, penalty=0.01)
    assert torch.equal(probe.weights[::2], compact.weights)
    assert probe.scores(features, torch.ones_like(labels)).loss == float("inf")


def test_a_probe_that_misses_its_tolerance_says_so():
    features, labels = planted()
    rows = training_rows(features, labels)
    probe = fit_exact(rows, ExactSettings(tolerance=1e-6, penalty=1e-5, most_evaluations=3))
    assert not probe.converged
    assert probe.gap > 1e-6


def test_wider_than_the_rotation_reaches_the_same_optimum(monkeypatch):
    features, labels = planted(n=400, d=300, dtype=torch.float32)
    rotated = fit_probe(features, labels, penalty=0.01, tolerance=1e-6)
    monkeypatch.setattr(coordinates, "WIDEST_ROTATION", 100)
    monkeypatch.setattr(coordinates, "SUBSPACE", 20)
    plain = fit_probe(features, labels, penalty=0.01, tolerance=1e-6)
    assert plain.converged
    assert torch.allclose(rotated.weights, plain.weights, atol=1e-3 * float(rotated.weights.abs().max()))
    assert fit_probe(features, labels).converged


def test_many_classes_in_a_wide_layer_of_few_rows():
    features, labels = planted(n=500, d=1500, classes=50, dtype=torch.float32)
    probe = fit_probe(features, labels, tolerance=1e-2)
    assert probe.converged
    assert probe.score(features, labels) > 0.9


def test_the_same_seed_gives_the_same_bits():
    features, labels = planted(n=500, dtype=torch.float32)
    first, second = (fit_probe(features, labels, seed=3) for _ in range(2))
    assert torch.equal(first.weights, second.weights)
    assert torch.equal(first.bias, second.bias)
    assert first.penalty == second.penalty


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tolerance": 0.0}, "tolerance 0 is not from 1e-12 to below 1"),
        ({"penalty": 0.0}, "penalty 0 is not above 0"),
        ({"penalty": float("nan")}, "penalty nan is not above 0"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(RequestError, match=message):
        fit_probe(*planted(), **arguments)


def test_one_row_a_class_needs_a_penalty():
    features, labels = torch.eye(3), torch.arange(3)
    with pytest.raises(RequestError, match="no rows can be held out"):
        fit_probe(features, labels)
    assert fit_probe(features, labels, penalty=0.01).score(features, labels) == 1
