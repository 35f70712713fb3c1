"""How many eigenvalues of a symmetric matrix exceed a bound, without the eigenvalues.

By Sylvester's law of inertia A - τI has as many positive eigenvalues as the block diagonal D of its
factorisation LDLᵀ, which costs a fifth of the eigenvalues or less.
"""

import torch
from torch import Tensor

BLOCK = 8  # vectors at once: a product with 8 costs little more than with one, and repeated eigenvalues part
MOST_STEPS = 60
CHECKED_EVERY = 4  # steps: the small eigenproblem of a check costs as much as a step once there are many
SMALL = 64  # rows below which all eigenvalues cost nothing
RESIDUAL = 1e-8  # of the largest eigenvalue, whose error is then its square over the gap: next to rounding


def count_above(matrix: Tensor, share: float) -> int | None:
    """Count the eigenvalues of a positive semi-definite matrix above `share` times the largest.

    Args:
        matrix: (m, m), float64, both triangles filled; its diagonal is overwritten.
        share: above the rounding of the matrix, about m·1e-16.

    Returns:
        0 to m; None where the largest eigenvalue could not be told apart from its neighbours.
    """
    largest = largest_eigenvalue(matrix)
    if largest is None or largest <= 0:
        return None if largest is None else 0
    matrix.diagonal().sub_(share * largest)
    factors, pivots, _ = torch.linalg.ldl_factor_ex(matrix)  # a pivot of exactly 0 is no eigenvalue above
    diagonal, below = factors.diagonal(), factors.diagonal(-1)
    paired = (pivots < 0).nonzero().flatten()  # both places of a 2 × 2 block are marked
    first = paired[::2]
    one, other, off = diagonal[first], diagonal[first + 1], below[first]
    is_single = pivots > 0
    middle, half = (one + other) / 2, torch.hypot((one - other) / 2, off)
    in_pairs = (middle + half > 0).sum() + (middle - half > 0).sum()
    return int((diagonal[is_single] > 0).sum() + in_pairs)


def largest_eigenvalue(matrix: Tensor) -> float | None:
    """Return the largest eigenvalue of a positive semi-definite matrix by block Krylov steps.

    Args:
        matrix: (m, m), float64.

    Returns:
        None where the residual is above 1e-8 of it after 60 steps.
    """
    size = len(matrix)
    if size < SMALL:
        return float(torch.linalg.eigvalsh(matrix)[-1])
    draws = torch.Generator().manual_seed(0)  # any start does: it changes the steps, not the eigenvalue
    fresh = torch.randn(size, BLOCK, dtype=matrix.dtype, generator=draws).to(matrix.device)
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
        largest, vector = values[-1], turn[:, -1]
        if (products @ vector - largest * (basis @ vector)).norm() <= RESIDUAL * largest:
            return float(largest)
    return None
