import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_features import rotation, with_spectrum

from tunnelscope.linalg import spectrum
from tunnelscope.linalg.inertia import inertia, largest_eigenvector
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
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inertia_counts_what_numpy_counts(matrix, share, dtype):
    values = np.linalg.eigvalsh((matrix.double() @ matrix.double().T).numpy())
    shifted = matrix.to(dtype) @ matrix.to(dtype).T - share * values[-1] * torch.eye(len(matrix), dtype=dtype)
    found = inertia(shifted)
    assert found.positive == (values > share * values[-1]).sum()
    nearest = np.abs(values - share * values[-1]).min()
    assert found.values[0].abs().item() == pytest.approx(nearest, rel=0.1)  # three steps


def test_an_eigenvalue_of_exactly_zero_does_not_count():
    assert inertia(torch.diag(torch.tensor([2.0, 0.0, -1.0]))).positive == 1


def test_blocks_of_two_on_the_diagonal_count_by_their_own_eigenvalues():
    turn = rotation(60)
    values = torch.cat([torch.ones(20), torch.full((20,), 0.4), torch.full((20,), 0.1)]).double()
    shifted = (turn * values) @ turn.T - 0.5 * torch.eye(60, dtype=torch.float64)
    _, pivots, _ = torch.linalg.ldl_factor_ex(shifted)
    assert (pivots < 0).any()  # else this tests nothing
    assert inertia(shifted).positive == 20


def test_inertia_finds_the_eigenvectors_nearest_to_zero():
    turn, values = rotation(200), torch.linspace(-1, 1.0013, 200, dtype=torch.float64)
    matrix = (turn * values) @ turn.T
    found = inertia(matrix)
    assert found.values[0].item() == pytest.approx(values[values.abs().argmin()].item(), rel=1e-3)
    residual = matrix @ found.vectors[:, 0] - found.values[0] * found.vectors[:, 0]
    assert residual.norm() < 1e-3


@pytest.mark.parametrize("variances", [torch.logspace(0, -6, 150), torch.ones(150), torch.eye(150)[0]])
@pytest.mark.parametrize(("dtype", "exactness"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_the_largest_eigenvector_gives_the_largest_of_eigvalsh(variances, dtype, exactness):
    covariance = torch.cov(with_spectrum(variances, examples=200, width=180).T)
    vector = largest_eigenvector(covariance.to(dtype))
    assert vector is not None
    exact = torch.linalg.eigvalsh(covariance)[-1].item()
    assert (vector.double() @ covariance @ vector.double()).item() == pytest.approx(exact, rel=exactness)


def test_the_largest_eigenvector_is_none_where_steps_end_too_soon(monkeypatch):
    monkeypatch.setattr("tunnelscope.linalg.inertia.MOST_STEPS", 2)
    noise = torch.randn(400, 300, generator=torch.Generator().manual_seed(0))
    assert largest_eigenvector((noise.T @ noise).double()) is None
    monkeypatch.setattr(spectrum, "WIDE", 1)
    values = covariance_spectrum(noise)
    assert count_variances_above(noise, 0.1) == (values > 0.1 * values[0]).sum()  # by the spectrum then


@pytest.mark.parametrize(
    ("distance", "precisions"),
    [(1e-2, [torch.float32]), (1e-6, [torch.float32, torch.float64])],
)
@pytest.mark.parametrize("side", [-1, 1])
def test_an_eigenvalue_too_near_for_single_precision_is_judged_in_double(
    distance, precisions, side, monkeypatch
):
    variances = torch.logspace(0, -6, 100, dtype=torch.float64)
    tolerance = 1e-3
    variances[50] = tolerance * (1 + side * distance)
    features = with_spectrum(variances, examples=300, width=150)
    used = []
    by_inertia = spectrum._count_by_inertia
    monkeypatch.setattr(spectrum, "WIDE", 1)
    monkeypatch.setattr(spectrum, "_count_by_inertia", lambda *a: used.append(a[-1]) or by_inertia(*a))
    assert numerical_rank(features, tolerance) == (variances > tolerance).sum()
    assert used == precisions


def test_shares_far_below_single_precision_are_judged_in_double(monkeypatch):
    variances = torch.logspace(0, -12, 90, dtype=torch.float64)
    features = with_spectrum(variances, examples=200, width=120)
    monkeypatch.setattr(spectrum, "WIDE", 1)
    for tolerance in (1.1e-5, 1.1e-7, 1.1e-9):
        assert numerical_rank(features, tolerance) == (variances > tolerance).sum()


def test_eigenvalues_of_zero_stay_below_a_share_that_single_precision_cannot_tell_from_it(monkeypatch):
    # Repeated columns give eigenvalues that rounding leaves alone, and the nearest eight may be all of these.
    monkeypatch.setattr(spectrum, "WIDE", 1)
    for seed in range(300):
        columns = torch.randn(53, 21, generator=torch.Generator().manual_seed(seed))
        assert numerical_rank(torch.cat([columns, columns[:, :10]], dim=1), 1e-8) == 21


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
