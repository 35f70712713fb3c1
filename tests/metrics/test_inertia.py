import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_features import rotation, with_spectrum

from tunnelscope.linalg import spectrum
from tunnelscope.linalg.inertia import count_above, largest_eigenvalue
from tunnelscope.linalg.spectrum import count_variances_above, covariance_spectrum
from tunnelscope.metrics import numerical_rank


@pytest.mark.parametrize(
    "matrix",
    [
        torch.diag(torch.tensor([3.0, 1.0, 0.5, 0.2, 0.0])),
        torch.tensor([[1.0, 1.0], [1.0, 1.0]]),  # after the shift a block of zeros on the diagonal
        torch.ones(40, 40),
        torch.eye(30),
        torch.eye(12) + 1 - 2 * torch.eye(12).flip(0),
    ],
)
@pytest.mark.parametrize("share", [0.1, 0.3, 0.99])
def test_inertia_counts_what_numpy_counts(matrix, share):
    matrix = matrix.double() @ matrix.double().T
    values = np.linalg.eigvalsh(matrix.numpy())
    assert count_above(matrix.clone(), share) == (values > share * values[-1]).sum()


def test_an_eigenvalue_at_the_bound_does_not_count():
    assert count_above(torch.diag(torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)), 0.5) == 1


def test_blocks_of_two_on_the_diagonal_count_by_their_own_eigenvalues():
    turn = rotation(60)
    values = torch.cat([torch.ones(20), torch.full((20,), 0.4), torch.full((20,), 0.1)]).double()
    shifted = (turn * values) @ turn.T
    _, pivots, _ = torch.linalg.ldl_factor_ex(shifted - 0.5 * torch.eye(60, dtype=torch.float64))
    assert (pivots < 0).any()  # else this tests nothing
    assert count_above(shifted, 0.5) == 20


@pytest.mark.parametrize("variances", [torch.logspace(0, -6, 150), torch.ones(150), torch.eye(150)[0]])
def test_the_largest_eigenvalue_is_that_of_eigvalsh(variances):
    covariance = torch.cov(with_spectrum(variances, examples=200, width=180).T)
    exact = torch.linalg.eigvalsh(covariance)[-1].item()
    assert largest_eigenvalue(covariance) == pytest.approx(exact, rel=1e-12)


def test_the_largest_eigenvalue_has_none_where_steps_end_too_soon(monkeypatch):
    monkeypatch.setattr("tunnelscope.linalg.inertia.MOST_STEPS", 2)
    noise = torch.randn(400, 300, generator=torch.Generator().manual_seed(0))
    assert largest_eigenvalue((noise.T @ noise).double()) is None
    monkeypatch.setattr(spectrum, "WIDE", 1)
    values = covariance_spectrum(noise)
    assert count_variances_above(noise, 0.1) == (values > 0.1 * values[0]).sum()  # by the spectrum then


@st.composite
def awkward_features(draw):
    """Constant and repeated columns, few rows, nearly equal rows, scales over 8 orders, a far mean."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    n, d = draw(st.integers(2, 120)), draw(st.integers(1, 100))
    x = torch.randn(n, d, generator=generator)
    if draw(st.booleans()):
        x[:, : d // 2 + 1] = draw(st.sampled_from([0.0, 0.1]))
    if draw(st.booleans()):
        x = torch.cat([x, x[:, : max(d // 2, 1)]], dim=1)
    if draw(st.booleans()):
        x[n // 2 :] = x[0] + 1e-5 * x[n // 2 :]
    if draw(st.booleans()):
        x = x * torch.logspace(-4, 4, x.shape[1])
    x = x * draw(st.sampled_from([1.0, 1e-20, 1e15]))
    return x + 1e4 * x.std() if draw(st.booleans()) else x


@settings(max_examples=200, deadline=None)
@given(awkward_features(), st.sampled_from([1e-1, 1e-2, 1e-3, 1e-4, 1e-8]))
def test_the_count_is_that_of_eigvalsh_on_awkward_features(features, tolerance):
    centred = features.double() - features[0].double()
    values = np.linalg.svd((centred - centred.mean(dim=0)).numpy(), compute_uv=False) ** 2
    near = np.abs(values / max(values[0], 1e-300) - tolerance) < 1e-6 * tolerance + 1e-13
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spectrum, "WIDE", 1)
        counted = numerical_rank(features, tolerance)
    surely = (values > tolerance * values[0]) & ~near
    assert surely.sum() <= counted <= surely.sum() + near.sum()


@pytest.mark.parametrize(("n", "d"), [(700, 520), (520, 700), (1500, 1100)])
def test_wide_features_are_counted_without_their_spectrum(n, d, monkeypatch):
    features = torch.randn(n, d, generator=torch.Generator().manual_seed(1)) * torch.arange(1, d + 1) ** -0.6
    values = covariance_spectrum(features)
    monkeypatch.setattr(spectrum, "_eigenvalues", None)
    for tolerance in (1e-1, 1e-2, 1e-3, 1e-4):
        assert numerical_rank(features, tolerance) == (values > tolerance * values[0]).sum()
