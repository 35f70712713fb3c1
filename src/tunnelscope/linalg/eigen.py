"""Eigenvalues and eigenvectors of symmetric matrices, also where the library gives up."""

import torch
from torch import Tensor

NUDGE = 1e-14  # of the mean diagonal: below the rounding of the products that the matrices are made of


def eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors as columns, of a symmetric float64 matrix (d, d).

    LAPACK's divide and conquer may not converge where many eigenvalues are 0 to the last bit, as of rows
    that come many times (seen with MKL on two threads). Such a matrix is solved a rounding error away.
    """
    try:
        return torch.linalg.eigh(matrix)
    except torch.linalg.LinAlgError:
        nudge = NUDGE * matrix.diagonal().abs().mean()
        shifted = matrix + nudge * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        values, vectors = torch.linalg.eigh(shifted)
        return values - nudge, vectors
