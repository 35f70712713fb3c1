import numpy as np
import pytest
import torch
from planted_features import with_spectrum

from tunnelscope.linalg import spectrum
from tunnelscope.linalg.spectrum import both_spectra, covariance_spectrum, singular_values


@pytest.mark.parametrize(("n", "d"), [(200, 30), (30, 200), (50, 50)])
def test_spectra_equal_numpy_decompositions(n, d):
    features = torch.randn(n, d, generator=torch.Generator().manual_seed(1)) * torch.logspace(0, -3, d) + 3
    variances, singular = both_spectra(features)
    x = features.double().numpy()
    expected = np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1][: min(n, d)]
    np.testing.assert_allclose(variances, expected, rtol=1e-9, atol=1e-13 * expected[0])
    expected = np.linalg.svd(x, compute_uv=False)
    np.testing.assert_allclose(singular, expected, rtol=1e-6, atol=1e-7 * expected[0])
    assert torch.equal(variances, covariance_spectrum(features))
    assert torch.equal(singular, singular_values(features))


@pytest.mark.parametrize(("n", "d"), [(60, 20), (20, 60)])
def test_spectra_do_not_depend_on_the_blocks(n, d, monkeypatch):
    features = torch.randn(n, d, generator=torch.Generator().manual_seed(2))
    whole = both_spectra(features)
    monkeypatch.setattr(spectrum, "TILE", 7)
    monkeypatch.setattr(spectrum, "PRODUCT_ELEMENTS", 9 * min(n, d))
    monkeypatch.setattr(spectrum.row_blocks, "__defaults__", (9 * min(n, d),))
    for cut, uncut in zip(both_spectra(features), whole, strict=True):
        torch.testing.assert_close(cut, uncut, rtol=1e-10, atol=1e-12)


def test_covariance_spectrum_finds_planted_variances_behind_a_large_offset():
    variances = torch.tensor([4.0, 2.0, 1.0, 0.5])
    features = with_spectrum(variances, examples=100, width=10) + 1e6
    torch.testing.assert_close(covariance_spectrum(features)[:4], variances.double(), rtol=1e-8, atol=0)


@pytest.mark.parametrize("n", [1, 3, 40])
def test_equal_rows_have_a_spectrum_of_exact_zeros(n):
    assert not covariance_spectrum(torch.full((n, 8), 0.1)).any()


def test_covariance_spectrum_names_what_is_wrong():
    with pytest.raises(ValueError, match="not finite"):
        covariance_spectrum(torch.tensor([[1.0, float("nan")], [0.0, 1.0]]))
    with pytest.raises(ValueError, match=r"must be \(examples, features\), both at least 1; got \(3,\)"):
        covariance_spectrum(torch.ones(3))
