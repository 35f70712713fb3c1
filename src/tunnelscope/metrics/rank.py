"""How many directions a layer uses: numerical rank, effective rank, RankMe."""

import torch
from torch import Tensor

from tunnelscope.linalg.spectrum import (
    both_spectra,
    count_variances_above,
    covariance_spectrum,
    singular_values,
)
from tunnelscope.metrics.metric import Family, LayerRows, Metric


def numerical_rank(spectrum_or_features: Tensor, tolerance: float = 1e-3) -> int:
    """Count the directions along which the rows differ noticeably.

    A direction counts when its variance (an eigenvalue of the covariance) exceeds `tolerance` times the
    largest. Masarczyk et al. 2023 (arXiv:2305.19753) take 1e-3 on the covariance, which is 0.032 on
    singular values of the centred features; applying 1e-3 to the latter gives several times as many.

    Args:
        spectrum_or_features: eigenvalues from `covariance_spectrum` (1-D), or features (n, d).
        tolerance: share of the largest eigenvalue, between 0 and 1.

    Returns:
        0 to min(n - 1, d); 0 when all rows are equal.

    Raises:
        ValueError: a tolerance outside [0, 1), or features that are not finite.
    """
    if not 0 <= tolerance < 1:
        raise ValueError(
            f"tolerance is a share of the largest eigenvalue, from 0 to below 1; got {tolerance}"
        )
    given = spectrum_or_features
    if given.ndim != 1:
        return count_variances_above(given, tolerance)
    return int((given > tolerance * given.max()).sum())


def effective_rank(spectrum_or_features: Tensor) -> float:
    """Return exp of the entropy of the covariance eigenvalues normalised to sum 1.

    k directions of equal variance give k; weak directions count for less. Roy and Vetterli 2007 (EUSIPCO),
    applied to the covariance.

    Args:
        spectrum_or_features: eigenvalues from `covariance_spectrum` (1-D), or features (n, d).

    Returns:
        1 to min(n - 1, d); 0 when all rows are equal.
    """
    return _perplexity(_variances(spectrum_or_features))


def rankme(singular_values_or_features: Tensor) -> float:
    """Return exp of the entropy of the singular values of the features, not centred, normalised to sum 1.

    Garrido et al. 2023 (arXiv:2210.02885), equations 1 and 2, without their 1e-7 added to every share.

    Args:
        singular_values_or_features: from `singular_values` (1-D), or features (n, d).

    Returns:
        1 to min(n, d); 0 when all features are 0.
    """
    given = singular_values_or_features
    return _perplexity(given if given.ndim == 1 else singular_values(given))


def _variances(spectrum_or_features: Tensor) -> Tensor:
    given = spectrum_or_features
    return given if given.ndim == 1 else covariance_spectrum(given)


def _perplexity(amounts: Tensor) -> float:
    amounts = amounts[amounts > 0].double()
    if len(amounts) == 0:
        return 0.0
    shares = amounts / amounts.sum()
    return torch.exp(torch.special.entr(shares).sum()).item()


def _measure(rows: LayerRows) -> dict[str, float | None]:
    variances, singular = both_spectra(rows.test)
    return {
        "numerical_rank": numerical_rank(variances),
        "numerical_rank_1e-2": numerical_rank(variances, 1e-2),
        "numerical_rank_1e-4": numerical_rank(variances, 1e-4),
        "effective_rank": effective_rank(variances),
        "rankme": rankme(singular),
    }


def _numerical_rank_at(tolerance: str) -> Metric:
    return Metric(
        title=f"Numerical rank ({tolerance})",
        unit="directions, 0 to min(n - 1, d)",
        direction="higher means that the layer spreads the examples over more directions",
        definition=f"number of eigenvalues of the covariance of the test rows above {tolerance} × the "
        "largest",
        source="Masarczyk et al. 2023, arXiv:2305.19753 (tolerance 1e-3)",
        edges="0 when all rows are equal",
        split="test",
        protocol=f"numerical_rank/v1, tolerance {tolerance}",
    )


FAMILY = Family(
    name="rank",
    metrics={
        "numerical_rank": _numerical_rank_at("1e-3"),
        "numerical_rank_1e-2": _numerical_rank_at("1e-2"),
        "numerical_rank_1e-4": _numerical_rank_at("1e-4"),
        "effective_rank": Metric(
            title="Effective rank",
            unit="directions, 1 to min(n - 1, d)",
            direction="higher means that variance is spread more evenly over more directions",
            definition="exp(-Σ p log p), p the eigenvalues of the covariance of the test rows divided by "
            "their sum",
            source="Roy and Vetterli 2007, EUSIPCO, eq. 4, on the covariance",
            edges="0 when all rows are equal",
            split="test",
            protocol="effective_rank/v1",
        ),
        "rankme": Metric(
            title="RankMe",
            unit="directions, 1 to min(n, d)",
            direction="higher means that the features fill more directions, the mean included",
            definition="exp(-Σ p log p), p the singular values of the test features, not centred, divided "
            "by their sum",
            source="Garrido et al. 2023, arXiv:2210.02885, eq. 1 and 2, without the added 1e-7",
            edges="0 when all features are 0",
            split="test",
            protocol="rankme/v1",
        ),
    },
    measure=_measure,
)
