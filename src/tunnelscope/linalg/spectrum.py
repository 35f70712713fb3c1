"""How a layer's variance spreads over directions: eigenvalues of its covariance, singular values of its rows.

Both come from one Gram matrix, summed block by block in double precision: squaring the condition leaves
singular values good to 1e-7 of the largest, as far as float32 features carry them.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from tunnelscope.linalg.blocks import row_blocks
from tunnelscope.linalg.inertia import RESIDUAL, inertia, largest_eigenvector

ROUNDING = 1e-14
"""Share of the largest eigenvalue up to which another is rounding and set to 0 (1e-7 in singular values)."""

PRODUCT_ELEMENTS = 2**23  # of a block that is multiplied with itself, 64 MB: products gain from long blocks
TILE = 1024

WIDE = 512  # columns and rows from which counting eigenvalues pays
SAFETY = 30  # times the rounding that was measured on eight eigenvalues
SINGLE_SHARE = 1e-5  # below, single precision may lift an eigenvalue of 0 above the bound
LEAST_SHARE = 1e-10  # far above the rounding of a Gram matrix


def covariance_spectrum(features: Tensor) -> Tensor:
    """Return the eigenvalues of the covariance of the rows, largest first.

    The covariance has divisor n - 1, as `torch.cov`. With fewer rows than columns the Gram matrix of the
    rows is solved instead; it has the same non-zero eigenvalues. Beside the features it takes two matrices
    of min(n, d)² doubles: 1.4 GB in all for 10,000 × 8,000 in float32.

    Args:
        features: (n, d), any real dtype, n ≥ 1.

    Returns:
        (min(n, d),) float64, ≥ 0, descending; all 0 when the rows are equal.

    Raises:
        ValueError: not a matrix with rows and columns, or values that are not finite.
    """
    gram, _ = _centred_gram(features)
    return _eigenvalues(gram) / max(len(features) - 1, 1)


def singular_values(features: Tensor) -> Tensor:
    """Return the singular values of the features, not centred, largest first: (min(n, d),) float64."""
    return both_spectra(features)[1]


def both_spectra(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return `covariance_spectrum` and `singular_values` from one pass over the features."""
    gram, mean = _centred_gram(features)
    variances = _eigenvalues(gram) / max(len(features) - 1, 1)
    _add_mean_back(gram, features, mean)
    return variances, _eigenvalues(gram).sqrt()


def count_variances_above(features: Tensor, share: float) -> int:
    """Count the eigenvalues of `covariance_spectrum` above `share` times the largest.

    Of wide features they are counted by one factorisation, without being computed (see `inertia`): for
    10,000 × 8,000 in a third of the time. It is done in single precision first. What rounding does there to
    the eigenvalues nearest to the bound is measured, by reading the same directions from the features in
    double precision. Where they lie no further from the bound than 30 times that, and for shares below 1e-5,
    it is done in double precision.

    Args:
        features: (n, d), any real dtype, n ≥ 1.
        share: from 0 to below 1.

    Raises:
        ValueError: as `covariance_spectrum`.
    """
    check_features(features)
    if min(features.shape) >= WIDE and share >= LEAST_SHARE and features.device.type == "cpu":
        for dtype in (torch.float32, torch.float64) if share >= SINGLE_SHARE else (torch.float64,):
            count = _count_by_inertia(features, share, dtype)
            if count is not None:
                return count
    variances = covariance_spectrum(features)
    return int((variances > share * variances.max()).sum())


def _count_by_inertia(features: Tensor, share: float, dtype: torch.dtype) -> int | None:
    """Return the count, None where products in this precision cannot tell it."""
    centre = column_means(features)
    low, high = features.aminmax()
    scale = 1 / (float(high) - float(low)) if high > low else 1.0  # squares stay within single precision
    gram = _gram(features, centre, dtype, scale)
    _fill_upper(gram)
    vector = largest_eigenvector(gram)
    if vector is None:
        return None
    bound = share * _squares_along(features, centre, scale, vector[:, None]).item()
    if bound == 0:
        return 0
    gram.diagonal().sub_(bound)
    found = inertia(gram)
    if dtype == torch.float64:
        return found.positive
    exact = _squares_along(features, centre, scale, found.vectors) - bound
    rounding = (exact - found.values).abs().max()
    is_sure = exact.abs().min() > SAFETY * rounding + RESIDUAL[dtype] * bound
    return found.positive if is_sure else None


def _squares_along(features: Tensor, centre: tuple[Tensor, Tensor], scale: float, vectors: Tensor) -> Tensor:
    """Return vᵀGv / vᵀv of each column v, G as `_gram` gives it, from the features in double precision."""
    vectors = vectors.double()
    squares = torch.zeros(vectors.shape[1], dtype=torch.float64, device=features.device)
    for block in _centred_blocks(features, centre):
        squares += (scale * (block.T @ vectors)).square().sum(dim=0)
    return squares / vectors.square().sum(dim=0)


def check_features(features: Tensor) -> None:
    """Raise ValueError unless `features` is a matrix with at least one row and one column."""
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(
            f"features must be (examples, features), both at least 1; got {tuple(features.shape)}"
        )


def column_means(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return an origin (the first row) and the mean of the rows from there, (d,) float64 each.

    Apart, they keep what their sum would round away: where all rows are equal the second is exactly 0.

    Raises:
        ValueError: a value is not finite.
    """
    origin = features[0].double()
    total = torch.zeros_like(origin)
    for rows in row_blocks(*features.shape):
        total += (features[rows].double() - origin).sum(dim=0)
    if not torch.isfinite(total).all():
        raise ValueError("features hold values that are not finite (NaN, infinite or too large to add)")
    return origin, total / len(features)


def _centred_gram(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lower triangle of XᵀX, or of XXᵀ when that is smaller, X centred; and the mean (d,)."""
    check_features(features)
    centre = column_means(features)
    return _gram(features, centre, torch.float64), centre[0] + centre[1]


def _gram(features: Tensor, centre: tuple[Tensor, Tensor], dtype: torch.dtype, scale: float = 1.0) -> Tensor:
    """Return the lower triangle of the Gram matrix of the features, centred and then scaled."""
    size = min(features.shape)
    gram = torch.zeros(size, size, dtype=dtype, device=features.device)
    for block in _centred_blocks(features, centre):
        _add_lower_product(gram, (block if scale == 1 else scale * block).to(dtype))
    return gram


def _centred_blocks(features: Tensor, centre: tuple[Tensor, Tensor]) -> Iterator[Tensor]:
    """Yield float64 matrices of min(n, d) rows; their products with themselves add up to the Gram matrix."""
    n, d = features.shape
    origin, shift = centre
    if n < d:
        for columns in row_blocks(d, n, PRODUCT_ELEMENTS):
            yield features[:, columns].double() - origin[columns] - shift[columns]
    else:
        for rows in row_blocks(n, d, PRODUCT_ELEMENTS):
            yield (features[rows].double() - origin - shift).T


def _add_lower_product(gram: Tensor, block: Tensor) -> None:
    """Add block @ blockᵀ to the tiles of `gram` on and below the diagonal: half the work of the whole."""
    for start in range(0, len(gram), TILE):
        stop = min(start + TILE, len(gram))
        gram[start:stop, :stop].addmm_(block[start:stop], block[:stop].T)


def _fill_upper(gram: Tensor) -> None:
    for start in range(TILE, len(gram), TILE):
        gram[:start, start : start + TILE] = gram[start : start + TILE, :start].T


def _add_mean_back(gram: Tensor, features: Tensor, mean: Tensor) -> None:
    """Turn the centred Gram matrix into that of the features as they are, in place."""
    n, d = features.shape
    if n >= d:
        gram.addr_(mean, mean, alpha=n)
        return
    along_mean = torch.cat([(features[rows].double() - mean) @ mean for rows in row_blocks(*features.shape)])
    gram += along_mean[:, None]
    gram += along_mean[None, :]
    gram += mean @ mean


def _eigenvalues(gram: Tensor) -> Tensor:
    values = torch.linalg.eigvalsh(gram, UPLO="L").flip(0).clamp_min(0)
    return torch.where(values > ROUNDING * values[0], values, 0.0)
