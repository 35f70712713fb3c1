"""How many eigenvalues of a symmetric matrix are positive, without the eigenvalues.

By Sylvester's law of inertia as many as of the block diagonal D of its factorisation LDLᵀ, which costs a
fifth of the eigenvalues or less. The factors also lead to the eigenvalues nearest to 0, which say how far
the count is from being another one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 8  # vectors at once: a product with 8 costs little more than with one, and repeated eigenvalues part
MOST_STEPS = 60
CHECKED_EVERY = 4  # steps: the small eigenproblem of a check costs as much as a step once there are many
SMALL = 64  # rows below which all eigenvectors cost nothing
RESIDUAL = {torch.float32: 1e-5, torch.float64: 1e-8}
"""Share of the largest eigenvalue up to which its vector may miss; the eigenvalue then misses by less."""


@dataclass(frozen=True, eq=False)
class Inertia:
    """How many eigenvalues are positive, and some of those nearest to 0.

    Attributes:
        values: (k,), the nearest first among them.
        vectors: (m, k), unit columns.
    """

    positive: int
    values: Tensor
    vectors: Tensor


def inertia(matrix: Tensor) -> Inertia:
    """Count the positive eigenvalues of a symmetric matrix (m, m), both triangles filled.

    An eigenvalue of exactly 0 does not count. The nearest ones come from three steps of inverse iteration.
    """
    factors, pivots, _ = torch.linalg.ldl_factor_ex(matrix)
    vectors = torch.linalg.qr(_start(matrix, min(BLOCK, len(matrix)))).Q
    for _ in range(3):
        solved = torch.linalg.ldl_solve(factors, pivots, vectors)
        if not solved.isfinite().all():
            break  # a pivot of exactly 0
        vectors = torch.linalg.qr(solved).Q
    values, turn = torch.linalg.eigh(vectors.T @ (matrix @ vectors))
    order = values.abs().argsort()
    return Inertia(_positive(factors, pivots), values[order], vectors @ turn[:, order])


def _positive(factors: Tensor, pivots: Tensor) -> int:
    """Count the positive eigenvalues of D: single pivots, and blocks of two where pivots are negative."""
    diagonal, below = factors.diagonal(), factors.diagonal(-1)
    first = (pivots < 0).nonzero().flatten()[::2]  # both places of a block are marked
    one, other, off = diagonal[first], diagonal[first + 1], below[first]
    middle, half = (one + other) / 2, torch.hypot((one - other) / 2, off)
    in_blocks = (middle + half > 0).sum() + (middle - half > 0).sum()
    return int((diagonal[pivots > 0] > 0).sum() + in_blocks)


def largest_eigenvector(matrix: Tensor) -> Tensor | None:
    """Return the unit eigenvector of the largest eigenvalue by block Krylov steps.

    Args:
        matrix: (m, m), positive semi-definite, float32 or float64.

    Returns:
        (m,); None where its residual is above `RESIDUAL` after 60 steps.
    """
    size = len(matrix)
    if size < SMALL:
        return torch.linalg.eigh(matrix).eigenvectors[:, -1]
    fresh = _start(matrix, BLOCK)
    basis, products = fresh[:, :0], fresh[:, :0]
    steps = min(MOST_STEPS, size // BLOCK)
    for step in range(1, steps + 1):
        for _ in range(2):  # once leaves rounding along the basis
            fresh = torch.linalg.qr(fresh - basis @ (basis.T @ fresh)).Q
        product = matrix @ fresh
        basis, products = torch.cat([basis, fresh], dim=1), torch.cat([products, product], dim=1)
        fresh = product
        if step % CHECKED_EVERY and step < steps:
            continue
        values, turn = torch.linalg.eigh(basis.T @ products)
        largest, vector = values[-1], basis @ turn[:, -1]
        if (products @ turn[:, -1] - largest * vector).norm() <= RESIDUAL[matrix.dtype] * largest:
            return vector / vector.norm()
    return None


def _start(matrix: Tensor, count: int) -> Tensor:
    """Vectors (m, count) to start from; any do: they change the steps, not where these lead."""
    draws = torch.Generator().manual_seed(0)
    return torch.randn(len(matrix), count, dtype=matrix.dtype, generator=draws).to(matrix.device)
