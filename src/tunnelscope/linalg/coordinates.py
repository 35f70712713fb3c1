"""Coordinates in which standardised features have nearly unit covariance.

A gradient method sees the features only through their covariance, and that of a layer spans many orders of
magnitude. Rotated to its eigenvectors and divided by the square roots of its eigenvalues, it is nearly the
identity; the squared norm of the weights stays a weighted sum of squares, as the rotation is orthonormal.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tunnelscope.linalg.eigen import eigen
from tunnelscope.linalg.precision import fast_type
from tunnelscope.linalg.standardise import CACHED, Standardisation
from tunnelscope.randomness import named_generator

WIDEST_ROTATION = 1024  # an eigendecomposition of more columns costs more than the fit it helps
SUBSPACE = 192
DAMPING = 1e-3  # of the mean eigenvalue: keeps directions with next to no variance at a bounded scale


@dataclass(frozen=True, eq=False)
class Coordinates:
    """A linear map from standardised features to the coordinates a solver works in.

    Attributes:
        standardisation: what makes standardised features out of features.
        basis: (features, coordinates) float64 with orthogonal columns, or None: the coordinates are the
            standardised features themselves.
        scale: length of each column of `basis`, (coordinates,), float64: a weight v on coordinate j has
            norm v · scale[j] on the standardised features.
        directions, variances: leading eigenvectors (coordinates, r) and eigenvalues (r,) of the covariance
            where there is no basis, else None.
        rest: mean variance of the other directions.
    """

    standardisation: Standardisation
    basis: Tensor | None
    scale: Tensor
    directions: Tensor | None = None
    variances: Tensor | None = None
    rest: float = 1.0

    def rows(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the rows in these coordinates, (rows, coordinates), in the type asked for.

        In bfloat16 the standardised features are rounded before they are rotated; the damping of the scale
        keeps that below 2 % of a unit.
        """
        count, width = features.shape
        result = torch.empty(count, len(self.scale), dtype=dtype, device=features.device)
        basis = None if self.basis is None else self.basis.to(dtype)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        step = max(64, CACHED // width)
        for block, rows in self.standardisation.blocks(features, wide, step):
            if basis is None:
                result[block] = rows
            else:
                torch.matmul(rows.to(dtype), basis, out=result[block])
        return result

    def fold(self, weights: Tensor) -> Tensor:
        """Return the weights on standardised features, (classes, features), float64."""
        return weights.double() if self.basis is None else weights.double() @ self.basis.T

    def unfold(self, gradient: Tensor) -> Tensor:
        """Return the gradient in these coordinates of one on standardised features, float64."""
        return gradient.double() if self.basis is None else gradient.double() @ self.basis


def whitened(features: Tensor, standardisation: Standardisation, seed: int) -> Coordinates:
    """Return coordinates in which the standardised features have nearly unit covariance.

    Up to 1,024 columns: the eigenvectors of the covariance. More columns than rows: the span of the rows,
    which holds the optimum of every penalised linear model (representer theorem). Wider than 1,024 either
    way: the standardised features themselves, with the leading 192 eigenvectors told aside.

    Args:
        features: (rows, features).
        standardisation: measured on the same rows.
        seed: which rows serve where not all are needed; they change the coordinates, never the optimum.
    """
    count, width = features.shape
    if min(count, width) > WIDEST_ROTATION:
        return _subspace(features, standardisation, seed)
    if width <= count:
        sample = _some_rows(features, max(4096, 16 * width), seed)
        covariance = torch.zeros(width, width, dtype=torch.float64, device=features.device)
        for _, rows in standardisation.blocks(sample, torch.float32, 2048):
            covariance += (rows.T @ rows).double()
        span = None
    else:
        # An orthonormal basis of the rows: unlike a Gram matrix, QR does not square the condition.
        span, triangle = torch.linalg.qr(standardisation.apply(features).T)
        covariance, sample = triangle @ triangle.T, features
    variances, directions = eigen(covariance / len(sample))
    variances = variances.clamp_min(0)
    mean = float(variances.mean())
    scale = (variances + DAMPING * mean).rsqrt() if mean > 0 else torch.ones_like(variances)
    if span is not None:
        directions = span @ directions
    return Coordinates(standardisation, directions * scale, scale)


def _subspace(features: Tensor, standardisation: Standardisation, seed: int) -> Coordinates:
    """Find the leading eigenvectors by two subspace iterations on a sample of rows."""
    sample = _some_rows(features, 4000, seed)
    width = sample.shape[1]
    rows = sample.new_empty(sample.shape, dtype=fast_type(sample.device, sample.numel() * SUBSPACE))
    for block, standardised in standardisation.blocks(sample, torch.float32, max(64, CACHED // width)):
        rows[block] = standardised
    draws = named_generator(seed, "subspace of the covariance")
    directions = torch.randn(width, SUBSPACE, generator=draws).to(features.device)
    for _ in range(3):
        directions = torch.linalg.qr(directions)[0]
        directions = (rows.T @ (rows @ directions.to(rows.dtype))).float() / len(rows)
    directions = torch.linalg.qr(directions)[0]
    projected = (rows @ directions.to(rows.dtype)).float()
    variances, turn = eigen(projected.T @ projected / len(rows))
    directions, variances = (directions @ turn).double(), variances.double().clamp_min(0)
    total = float((standardisation.scale > 0).sum())  # each standardised feature has variance 1
    rest = max(0.0, total - float(variances.sum())) / (width - SUBSPACE)
    scale = torch.ones(width, dtype=torch.float64, device=features.device)
    return Coordinates(standardisation, None, scale, directions, variances, rest)


def _some_rows(features: Tensor, count: int, seed: int) -> Tensor:
    if len(features) <= count:
        return features
    order = torch.randperm(len(features), generator=named_generator(seed, "rows of the covariance"))
    return features[order[:count].sort().values.to(features.device)]
