import math

import numpy as np
import pytest
import torch
from planted_features import clusters, with_spectrum

from tunnelscope.linalg.spectrum import covariance_spectrum
from tunnelscope.metrics import effective_rank, numerical_rank, rankme

DECAYING = 10.0 ** (-(torch.arange(1, 51, dtype=torch.float64) - 1) / 2)


@pytest.mark.parametrize(("tolerance", "rank"), [(0.999e-3, 7), (1.001e-3, 6)])
def test_numerical_rank_counts_covariance_eigenvalues_not_singular_values_of_the_data(tolerance, rank):
    features = with_spectrum(DECAYING, examples=400, width=80)
    assert numerical_rank(features, tolerance) == rank
    centred = features - features.mean(dim=0)
    of_the_data = torch.linalg.svdvals(centred)
    assert int((of_the_data > tolerance * of_the_data[0]).sum()) in (12, 13)  # the trap: twice as many


@pytest.mark.parametrize("classes", [2, 7, 20])
def test_numerical_rank_of_class_means_without_noise_is_one_less_than_the_classes(classes):
    features, _ = clusters(classes, each=20, width=40, spread=0)
    assert numerical_rank(features) == classes - 1


def test_numerical_rank_rises_to_full_when_noise_passes_the_tolerance():
    classes, width = 6, 30
    means, _ = clusters(classes, each=300, width=width, spread=0)
    noise = torch.randn(means.shape, generator=torch.Generator().manual_seed(3))
    top = covariance_spectrum(means)[0].item()
    shares = [1e-4, 5e-4, 8e-4, 1e-3, 1.2e-3, 3e-3]
    ranks = [numerical_rank(means + noise * math.sqrt(share * top)) for share in shares]
    assert ranks[0] == classes - 1
    assert ranks[-1] == width
    assert ranks == sorted(ranks)
    assert classes - 1 < ranks[3] < width  # gradually: sampling spreads the noise eigenvalues
    assert numerical_rank(means[:12] + noise[:12]) == 11  # at most n - 1


def test_numerical_rank_ignores_constant_features_offsets_and_common_scale():
    features = with_spectrum(DECAYING, examples=120, width=60)
    rank = numerical_rank(features, 1.001e-3)
    assert numerical_rank(torch.cat([features, torch.full((120, 1), 7.0)], dim=1), 1.001e-3) == rank
    assert numerical_rank(1000 * features + 7, 1.001e-3) == rank
    features[:, 0] *= 1000  # scaling a single feature does matter
    assert numerical_rank(features, 1.001e-3) != rank


def test_numerical_rank_of_few_rows_equals_that_of_the_covariance():
    features = with_spectrum(DECAYING[:20], examples=40, width=300)
    assert numerical_rank(features, 1.001e-3) == 6
    repeated = features.repeat(10, 1)  # the same directions, now with more rows than columns
    assert numerical_rank(repeated, 1.001e-3) == 6


@pytest.mark.parametrize("seed", range(4))
def test_numerical_rank_equals_torch_matrix_rank_of_the_covariance(seed):
    scales = torch.logspace(0, -2.5, 40)
    features = torch.randn(150, 40, generator=torch.Generator().manual_seed(seed)).double() * scales
    expected = torch.linalg.matrix_rank(torch.cov(features.T), hermitian=True, rtol=1e-3)
    assert numerical_rank(features) == expected
    assert numerical_rank(covariance_spectrum(features)) == expected


@pytest.mark.parametrize("k", [1, 3, 12])
def test_effective_rank_of_k_equal_variances_is_k(k):
    features = with_spectrum(torch.full((k,), 2.0), examples=50, width=16)
    assert effective_rank(features) == pytest.approx(k, rel=1e-9)


def test_rankme_of_orthogonal_columns_of_equal_length_is_their_number():
    columns = torch.linalg.qr(torch.randn(30, 5, generator=torch.Generator().manual_seed(0)).double()).Q
    assert rankme(3 * columns) == pytest.approx(5, rel=1e-9)


def test_rankme_counts_the_mean_and_effective_rank_does_not():
    features = with_spectrum(torch.ones(4), examples=60, width=9) + 1000
    assert rankme(features) < 2
    assert effective_rank(features) == pytest.approx(4, rel=1e-6)


def test_effective_rank_and_rankme_equal_their_formulas_in_numpy():
    features, _ = clusters()
    x = features.double().numpy()
    for ours, amounts in [
        (effective_rank(features), np.linalg.eigvalsh(np.cov(x.T))),
        (rankme(features), np.linalg.svd(x, compute_uv=False)),
    ]:
        shares = amounts / amounts.sum()
        assert ours == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-9)


def test_ranks_of_equal_rows():
    features = torch.full((20, 6), 0.3)
    assert (numerical_rank(features), effective_rank(features)) == (0, 0)
    assert rankme(features) == pytest.approx(1)
    assert rankme(torch.zeros(5, 3)) == 0


def test_numerical_rank_refuses_a_tolerance_that_is_no_share():
    with pytest.raises(ValueError, match=r"from 0 to below 1; got 1\.5"):
        numerical_rank(torch.eye(3), 1.5)
