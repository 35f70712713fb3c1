"""Every fast way of the exact probe beside a plain twin."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import AWKWARD, objective, planted, reference, standardised

from tunnelscope.errors import RequestError
from tunnelscope.linalg import coordinates, lbfgs
from tunnelscope.linalg.coordinates import whitened
from tunnelscope.linalg.precision import fast_type
from tunnelscope.linalg.standardise import measure
from tunnelscope.probes import exact, fit_probe, solve
from tunnelscope.probes import probe as probe_layers
from tunnelscope.probes.exact import ExactSettings, fit_exact
from tunnelscope.probes.heldout import heldout_rows
from tunnelscope.probes.regression import Regression
from tunnelscope.probes.rows import training_rows

KINDS = [*AWKWARD, "near duplicates"]


def rows_of(kind, seed=0, **sizes):
    if kind != "near duplicates":
        return planted(kind, seed=seed, **sizes)
    features, labels = planted("plain", seed=seed, **sizes)
    half = len(features) // 2
    features[half : 2 * half] = features[:half] + 1e-6 * features[half : 2 * half]
    labels[half : 2 * half] = labels[:half]
    return features, labels


def in_bfloat16(monkeypatch):
    """Let small problems take the way of large ones."""
    monkeypatch.setattr(exact, "fast_type", lambda device, work: torch.bfloat16)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 20),
    penalty=st.sampled_from([1e-5, 1e-3, 0.1]),
    tolerance=st.sampled_from([1e-1, 1e-2, 1e-3, 1e-6]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_a_descent_in_bfloat16_reaches_any_certified_gap(kind, seed, penalty, tolerance, dtype):
    with pytest.MonkeyPatch.context() as monkeypatch:
        in_bfloat16(monkeypatch)
        features, labels = rows_of(kind, seed, dtype=dtype)
        probe = fit_probe(features, labels, penalty=penalty, tolerance=tolerance)
    assert probe.converged
    rows = standardised(features)
    ours = objective(rows, labels, probe.weights.double().numpy(), probe.bias.double().numpy(), penalty)
    best = objective(rows, labels, *reference(rows, labels, penalty), penalty)
    assert probe.gap >= (ours - best) / ours - 1e-7  # the weights are kept in float32


@settings(max_examples=30, deadline=None, derandomize=True)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 20), penalty=st.sampled_from([1e-3, 0.1]))
def test_a_subspace_metric_reaches_the_same_optimum(kind, seed, penalty):
    features, labels = rows_of(kind, seed)
    with pytest.MonkeyPatch.context() as monkeypatch:
        in_bfloat16(monkeypatch)
        monkeypatch.setattr(coordinates, "WIDEST_ROTATION", 8)
        monkeypatch.setattr(coordinates, "SUBSPACE", 4)
        probe = fit_probe(features, labels, penalty=penalty, tolerance=1e-4)
    assert probe.converged
    rows = standardised(features)
    ours = objective(rows, labels, probe.weights.double().numpy(), probe.bias.double().numpy(), penalty)
    best = objective(rows, labels, *reference(rows, labels, penalty), penalty)
    assert -1e-7 <= (ours - best) / ours <= probe.gap + 1e-7


def test_a_thousand_classes_converge_with_the_labels_of_some_missing_from_the_test_rows(monkeypatch):
    in_bfloat16(monkeypatch)
    features, labels = planted(n=3000, d=40, classes=1000, dtype=torch.float32, spread=2.0)
    probe = fit_probe(features, labels, tolerance=1e-2)
    assert probe.converged
    assert probe.score(features[:200], labels[:200]) > 0.5


@pytest.mark.parametrize("penalty", [1e-2, 1.0])
def test_label_smoothing_has_its_own_optimum_and_certificate(penalty):
    features, labels = planted("unbalanced")
    probe = fit_exact(
        training_rows(features, labels), ExactSettings(tolerance=1e-6, penalty=penalty, smoothing=0.1)
    )
    assert probe.converged
    assert probe.protocol == "exact/v2, label smoothing 0.1"
    rows = torch.from_numpy(standardised(features))

    def value(weights, bias):
        loss = torch.nn.functional.cross_entropy(rows @ weights.T + bias, labels, label_smoothing=0.1)
        return loss + penalty / 2 * weights.square().sum()

    weights = torch.zeros(probe.weights.shape, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(weights), dtype=torch.float64, requires_grad=True)
    plain = torch.optim.LBFGS([weights, bias], max_iter=500, tolerance_grad=1e-10, tolerance_change=0)

    def closure():
        plain.zero_grad()
        loss = value(weights, bias)
        loss.backward()
        return loss

    plain.step(closure)
    best, ours = (
        float(value(weights, bias).detach()),
        float(value(probe.weights.double(), probe.bias.double())),
    )
    assert -1e-9 <= (ours - best) / ours <= probe.gap + 1e-7


def test_a_start_far_from_the_optimum_of_all_rows_is_no_trap(monkeypatch):
    in_bfloat16(monkeypatch)
    features, labels = planted(n=800, d=300, classes=60, spread=0.3, dtype=torch.float32)
    probe = fit_probe(features, labels)
    assert probe.converged
    assert fit_probe(features, labels, penalty=1e-7).converged


def test_the_penalty_is_searched_on_some_rows_only_where_these_are_plenty():
    features, labels = planted(n=4000, d=12)
    regression = Regression(features, labels, 4, measure(features))
    fit = heldout_rows(labels, seed=0).fit
    few = exact._few(regression, fit, seed=0)
    assert len(few) == round(len(fit) / 4)
    assert set(few.tolist()) < set(fit.tolist())
    assert torch.equal(few, few.sort().values)
    assert exact._few(regression, fit[:300], seed=0) is None
    whole = fit_probe(features, labels)
    rare = labels.clone()
    rare[rare == 3] = 0
    rare[:3] = 3
    assert exact._few(Regression(features, rare, 4, measure(features)), fit, seed=0) is None
    assert len(whole.heldout_right) == 400


def test_the_search_goes_past_penalties_that_let_nothing_be_learnt():
    features, labels = planted(n=3000, d=40, classes=500, spread=0.5, dtype=torch.float32)
    probe = fit_probe(features, labels, tolerance=1e-2)
    assert probe.penalty < 0.05
    assert probe.heldout_loss < 0.9 * np.log(500)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_rows_are_standardised_as_in_double_precision(kind):
    features, _ = rows_of(kind, dtype=torch.float32)
    standardisation = measure(features)
    exactly = standardisation.apply(features)
    for block, rows in standardisation.blocks(features, torch.float32, 50):
        assert torch.allclose(rows.double(), exactly[block], atol=2e-6, rtol=1e-6)


def test_rows_too_small_for_a_scale_in_float32_are_standardised_in_double_precision():
    features = torch.randn(50, 3) * torch.tensor([1.0, 1e-30, 1e-42])
    for _, rows in measure(features).blocks(features, torch.float32, 50):
        assert bool(rows.isfinite().all())


@pytest.mark.parametrize("size", [1e33, 1e20, 1.0, 1e-20, 1e-38])
@pytest.mark.parametrize("offset", [0, 1e4])
def test_features_of_any_size_are_measured_as_in_double_precision(size, offset):
    draws = torch.Generator().manual_seed(0)
    features = ((torch.randn(700, 4, generator=draws) + offset) * size).float()
    features[:, 2] = features[0, 2]
    plain = measure(features.double())
    measured = measure(features)
    assert torch.allclose(measured.scale, plain.scale, rtol=1e-5)
    assert bool((((measured.mean - plain.mean) * plain.scale).abs() < 1e-5).all())
    assert measured.scale[2] == 0


def test_where_anchors_lead_nowhere_the_descent_goes_on_in_double_precision(monkeypatch):
    features, labels = planted("unbalanced")
    plain = fit_probe(features, labels, penalty=1e-3, tolerance=1e-6)
    monkeypatch.setattr(solve, "ROUNDS", 0)
    probe = fit_probe(features, labels, penalty=1e-3, tolerance=1e-6)
    assert probe.converged
    assert torch.allclose(probe.weights, plain.weights, atol=1e-2)
    rows = standardised(features)
    ours = objective(rows, labels, probe.weights.double().numpy(), probe.bias.double().numpy(), 1e-3)
    best = objective(rows, labels, *reference(rows, labels, 1e-3), 1e-3)
    assert -1e-7 <= (ours - best) / ours <= probe.gap + 1e-7


def test_label_smoothing_is_an_option_of_exact_alone():
    features, labels = planted("unbalanced")
    smooth = probe_layers({"a": features}, labels, smoothing=0.1)["a"]
    assert smooth.protocol == "exact/v2, label smoothing 0.1"
    for wrong in ({"smoothing": 1.0}, {"smoothing": 0.1, "protocol": "ridge"}):
        with pytest.raises(RequestError, match="smoothing"):
            probe_layers({"a": features}, labels, **wrong)
    with pytest.raises(RequestError, match="smoothing"):
        probe_layers({"a": features, "b": features}, labels, smoothing=0.1, protocol="harun2024")


def test_measuring_leaves_the_features_alone():
    features, _ = planted("offset")
    before = features.clone()
    measure(features)
    assert torch.equal(features, before)


@pytest.mark.parametrize("kind", ["plain", "wide", "duplicated"])
def test_a_gradient_unfolds_as_weights_fold(kind):
    features, _ = planted(kind)
    map_ = whitened(features, measure(features), seed=0)
    draws = torch.Generator().manual_seed(0)
    weights = torch.randn(3, len(map_.scale), generator=draws).double()
    gradient = torch.randn(3, features.shape[1], generator=draws).double()
    assert torch.allclose((map_.fold(weights) * gradient).sum(), (weights * map_.unfold(gradient)).sum())


def test_the_direction_is_that_of_the_two_loop_recursion():
    draws = torch.Generator().manual_seed(0)
    factor = torch.randn(20, 20, generator=draws)
    curvature, memory, pairs = factor @ factor.T + torch.eye(20), lbfgs.Memory(5), []
    for _ in range(13):  # past twice the pairs that are kept
        step = torch.randn(4, 5, generator=draws)
        change = (curvature @ step.flatten()).view(4, 5)
        memory.remember(step, change)
        pairs.append((step, change))
    gradient, metric = torch.randn(4, 5, generator=draws), lambda vector: 0.1 * vector
    slope, direction = lbfgs._direction(gradient, metric, memory)

    rest, shares = gradient.clone(), []
    for step, change in reversed(pairs[-5:]):
        shares.append((step * rest).sum() / (step * change).sum())
        rest -= shares[-1] * change
    step, change = pairs[-1]
    plain = metric(rest) * (step * change).sum() / (change * metric(change)).sum()
    for (step, change), share in zip(pairs[-5:], reversed(shares), strict=True):
        plain += step * (share - (change * plain).sum() / (step * change).sum())
    assert torch.allclose(direction, -plain, rtol=1e-4, atol=1e-5)
    assert slope == pytest.approx(-float((gradient * plain).sum()), rel=1e-4)


def test_small_work_stays_in_float32():
    assert fast_type(torch.device("cpu"), 1e3) == torch.float32
