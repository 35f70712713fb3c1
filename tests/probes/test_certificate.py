import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import AWKWARD, objective, planted, reference, standardised

from tunnelscope.probes.certificate import certified_gap
from tunnelscope.probes.regression import Regression


def regression_of(kind, seed):
    features, labels = planted(kind, seed=seed)
    rows = torch.from_numpy(standardised(features))
    rows -= rows.mean(dim=0)
    scale = torch.ones(rows.shape[1], dtype=torch.float64)
    return Regression(rows, labels, int(labels.max()) + 1, scale)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(AWKWARD),
    seed=st.integers(0, 5),
    penalty=st.sampled_from([1e-4, 1e-2, 1.0]),
    noise=st.sampled_from([1e-6, 1e-3, 0.1, 1.0]),
    bias_noise=st.sampled_from([0.0, 1e-6, 1e-2, 1.0, 5.0]),
)
def test_the_certificate_bounds_the_true_gap_at_any_point(kind, seed, penalty, noise, bias_noise):
    problem = regression_of(kind, seed)
    rows = problem.rows.numpy()
    weights, bias = reference(rows, problem.labels, penalty)
    best = objective(rows, problem.labels, weights, bias, penalty)
    draws = np.random.default_rng(seed)
    weights = weights + noise * draws.normal(size=weights.shape)
    bias = bias + bias_noise * draws.normal(size=bias.shape)
    point = torch.from_numpy(np.column_stack([weights, bias]))
    gap = certified_gap(problem, point, problem.evaluate(point, penalty), penalty)
    assert gap >= objective(rows, problem.labels, weights, bias, penalty) - best - 1e-12


@pytest.mark.parametrize("kind", AWKWARD)
def test_the_certificate_is_the_value_of_a_feasible_dual_point(kind):
    problem, penalty = regression_of(kind, 3), 0.01
    draws = torch.Generator().manual_seed(1)
    point = problem.start() + 0.2 * torch.randn(problem.start().shape, generator=draws, dtype=torch.float64)
    evaluation = problem.evaluate(point, penalty)
    shares = torch.softmax(problem.rows @ point[:, :-1].T + point[:, -1], dim=1)
    surplus = shares.mean(dim=0) - problem.frequencies
    theta = (surplus / (problem.frequencies + surplus)).max()
    mixed = problem.frequencies - (1 / theta - 1) * surplus
    repaired = (1 - theta) * shares + theta * mixed
    assert repaired.min() > -1e-12
    assert torch.allclose(repaired.mean(dim=0), problem.frequencies, atol=1e-12)

    truth = torch.nn.functional.one_hot(problem.labels, problem.classes).double()
    moment = (repaired - truth).T @ problem.rows / len(truth)
    entropies = torch.xlogy(repaired, repaired).sum(dim=1).neg()
    dual = entropies.mean() - moment.square().sum() / (2 * penalty)
    own = (1 - theta) * torch.xlogy(shares, shares).sum(dim=1).neg().mean()
    own = own + theta * torch.xlogy(mixed.clamp_min(0), mixed.clamp_min(0)).sum().neg()
    expected = evaluation.value - own + moment.square().sum() / (2 * penalty)
    gap = certified_gap(problem, point, evaluation, penalty)
    assert gap == pytest.approx(float(expected), rel=1e-9)
    assert gap >= evaluation.value - float(dual) - 1e-12


def test_the_certificate_vanishes_at_the_optimum():
    problem, penalty = regression_of("plain", 0), 0.01
    weights, bias = reference(problem.rows.numpy(), problem.labels, penalty)
    point = torch.from_numpy(np.column_stack([weights, bias]))
    assert certified_gap(problem, point, problem.evaluate(point, penalty), penalty) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_is_that_of_autograd(dtype):
    problem = regression_of("unbalanced", 0)
    problem = Regression(problem.rows.to(dtype), problem.labels, problem.classes, problem.scale + 0.5)
    draws = torch.Generator().manual_seed(0)
    point = torch.randn(problem.start().shape, generator=draws).to(dtype).requires_grad_()
    logits = problem.rows @ point[:, :-1].T + point[:, -1]
    value = torch.nn.functional.cross_entropy(logits, problem.labels)
    value = value + 0.05 * (point[:, :-1] * problem.scale.to(dtype)).square().sum()
    value.backward()
    evaluation = problem.evaluate(point.detach(), 0.1)
    assert evaluation.value == pytest.approx(float(value.detach()), rel=1e-6)
    assert torch.allclose(evaluation.gradient, point.grad, atol=1e-6)


def test_the_loss_of_a_hopeless_row_is_finite_and_right():
    rows = torch.tensor([[1000.0], [-1000.0]])
    problem = Regression(rows, torch.tensor([1, 0]), 2, torch.ones(1, dtype=torch.float64))
    point = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert problem.evaluate(point, 0.0).cross_entropy == pytest.approx(2000.0)
