"""Features whose answers are known, for the tests of the metrics."""

import math

import torch
from torch import Tensor


def with_spectrum(variances: Tensor, examples: int, width: int, seed: int = 0) -> Tensor:
    """Return (examples, width) float64 features with these covariance eigenvalues, and a mean."""
    generator = torch.Generator().manual_seed(seed)
    k = len(variances)
    rows = torch.randn(examples, k, dtype=torch.float64, generator=generator)
    rows = torch.linalg.qr(rows - rows.mean(dim=0)).Q  # columns stay centred
    directions = torch.linalg.qr(torch.randn(width, k, dtype=torch.float64, generator=generator)).Q
    mean = torch.randn(width, dtype=torch.float64, generator=generator)
    return rows * (variances.double() * (examples - 1)).sqrt() @ directions.T + mean


def simplex(classes: int, width: int, seed: int = 0) -> Tensor:
    """Return the corners of a simplex around 0, rotated at random, (classes, width) float64."""
    corners = math.sqrt(classes / (classes - 1)) * (torch.eye(classes, dtype=torch.float64) - 1 / classes)
    return corners @ rotation(width, seed)[:classes]


def rotation(width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(width, width, dtype=torch.float64, generator=generator)).Q


def clusters(classes: int = 5, each: int = 40, width: int = 12, spread: float = 0.5, seed: int = 0):
    """Return noisy classes of unequal size in float32, and their labels in mixed order."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.full((each + 3 * c,), c) for c in range(classes)])
    labels = labels[torch.randperm(len(labels), generator=generator)]
    means = torch.randn(classes, width, generator=generator)
    return means[labels] + spread * torch.randn(len(labels), width, generator=generator), labels
