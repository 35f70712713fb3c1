import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import AWKWARD, objective, planted, reference, standardised

from tunnelscope.linalg.standardise import Standardisation
from tunnelscope.probes.certificate import certified_gap
from tunnelscope.probes.regression import Regression
from tunnelscope.probes.surrogate import Anchor, Surrogate


def regression_of(kind, seed, smoothing=0.0):
    features, labels = planted(kind, seed=seed)
    rows = torch.from_numpy(standardised(features))
    return of_rows(rows - rows.mean(dim=0), labels, smoothing)


def of_rows(rows, labels, smoothing=0.0):
    """The regression of rows that are standardised already."""
    width = rows.shape[1]
    plain = Standardisation(torch.zeros(width).double(), torch.ones(width).double())
    return Regression(rows, labels, int(labels.max()) + 1, plain, smoothing)


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
    rows = problem.features.numpy()
    weights, bias = reference(rows, problem.labels, penalty)
    best = objective(rows, problem.labels, weights, bias, penalty)
    draws = np.random.default_rng(seed)
    weights = weights + noise * draws.normal(size=weights.shape)
    bias = bias + bias_noise * draws.normal(size=bias.shape)
    point = torch.from_numpy(np.column_stack([weights, bias]))
    gap = certified_gap(problem, point, problem.evaluate(point, penalty, torch.float64), penalty)
    assert gap >= objective(rows, problem.labels, weights, bias, penalty) - best - 1e-12


@pytest.mark.parametrize("kind", AWKWARD)
def test_the_certificate_is_the_value_of_a_feasible_dual_point(kind):
    problem, penalty = regression_of(kind, 3), 0.01
    draws = torch.Generator().manual_seed(1)
    point = 0.2 * torch.randn(problem.classes, problem.features.shape[1] + 1, generator=draws).double()
    point[:, -1] += problem.frequencies.log()
    evaluation = problem.evaluate(point, penalty, torch.float64)
    shares = torch.softmax(problem.features @ point[:, :-1].T + point[:, -1], dim=1)
    surplus = shares.mean(dim=0) - problem.frequencies
    theta = (surplus / (problem.frequencies + surplus)).max()
    mixed = problem.frequencies - (1 / theta - 1) * surplus
    repaired = (1 - theta) * shares + theta * mixed
    assert repaired.min() > -1e-12
    assert torch.allclose(repaired.mean(dim=0), problem.frequencies, atol=1e-12)

    truth = torch.nn.functional.one_hot(problem.labels, problem.classes).double()
    moment = (repaired - truth).T @ problem.features / len(truth)
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
    weights, bias = reference(problem.features.numpy(), problem.labels, penalty)
    point = torch.from_numpy(np.column_stack([weights, bias]))
    assert certified_gap(problem, point, problem.evaluate(point, penalty, torch.float64), penalty) < 1e-6


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_is_that_of_autograd(dtype, smoothing):
    problem = regression_of("unbalanced", 0, smoothing)
    draws = torch.Generator().manual_seed(0)
    point = torch.randn(problem.classes, problem.features.shape[1] + 1, generator=draws).double()
    point.requires_grad_()
    logits = problem.features @ point[:, :-1].T + point[:, -1]
    value = torch.nn.functional.cross_entropy(logits, problem.labels, label_smoothing=smoothing)
    value = value + 0.05 * point[:, :-1].square().sum()
    value.backward()
    evaluation = problem.evaluate(point.detach(), 0.1, dtype)
    assert evaluation.value == pytest.approx(float(value.detach()), rel=1e-6)
    assert torch.allclose(evaluation.gradient, point.grad, atol=1e-6)
    assert torch.allclose(evaluation.surplus, point.grad[:, -1], atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_the_surrogate_is_wrong_by_a_share_of_the_step_alone(dtype, error, smoothing):
    problem = regression_of("plain", 0, smoothing)
    surrogate = surrogate_of(problem, dtype)
    draws = torch.Generator().manual_seed(0)
    point = torch.randn(problem.classes, problem.features.shape[1] + 1, generator=draws).double()
    shares = surrogate.shares_to_fill()
    at = problem.evaluate(point, 0.1, torch.float64, shares)
    moment = at.gradient[:, :-1] - 0.1 * point[:, :-1]
    surrogate.move(Anchor(point, at.cross_entropy, moment, at.surplus, shares))
    for length in (1.0, 1e-2, 1e-4, 1e-6):
        step = length * torch.randn(point.shape, generator=draws)
        there = problem.evaluate(point + step, 0.1, torch.float64)
        near = surrogate.evaluate(step, 0.1)
        assert (near.gradient - there.gradient).norm() < error * (there.gradient - at.gradient).norm() + 1e-7
        linear = float((at.gradient * step).sum())
        beyond = abs(there.value - at.value - linear)
        assert abs(near.value - there.value) < error * beyond + near.resolution


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_at_zero_the_surrogate_is_the_objective(smoothing):
    problem = regression_of("plain", 0, smoothing)
    surrogate = surrogate_of(problem, torch.float32)
    point = surrogate.start() + 0.1
    near, exact = surrogate.evaluate(point.float(), 0.1), problem.evaluate(point, 0.1, torch.float64)
    assert near.value == pytest.approx(exact.value, rel=1e-6)
    assert torch.allclose(near.gradient.double(), exact.gradient, atol=1e-6)


def surrogate_of(problem, dtype):
    rows, moment = problem.features.to(dtype), problem.label_moment
    return Surrogate(
        rows, problem.labels, problem.scale, problem.frequencies, moment, smoothing=problem.smoothing
    )


def test_the_loss_of_a_hopeless_row_is_finite_and_right():
    problem = of_rows(torch.tensor([[1000.0], [-1000.0]]), torch.tensor([1, 0]))
    point = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).double()
    assert problem.evaluate(point, 0.0, torch.float32).cross_entropy == pytest.approx(2000.0)
    assert surrogate_of(problem, torch.float32).evaluate(point.float(), 0.0).value == pytest.approx(2000.0)
