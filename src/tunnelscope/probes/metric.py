"""The metric of the solver: about the inverse Hessian of a multinomial logistic regression at a point.

Class c sees the rows only where its probability q_c is undecided, with weight q_c (1 − q_c). Their mean m_c
is far from 0 even when the features are centred, which ties the free bias to the weights; so the metric works
in W and b_c + m_c · W_c, where the two are nearly apart. It leaves the mean over classes alone: along it F is
flat in b and curved by the penalty alone in W, one slow direction that the optimum never needs.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tunnelscope.linalg.coordinates import Coordinates
from tunnelscope.probes.surrogate import Surrogate

ROWS_TO_TRUST = 100  # undecided rows at which a class's own variances weigh as much as the mean over classes


def curvature_metric(
    surrogate: Surrogate, coordinates: Coordinates, step: Tensor, penalty: float
) -> Callable[[Tensor], Tensor]:
    """Return a function that applies the metric to a gradient, from a sample of the rows at a step."""
    rows, point = surrogate.sample, surrogate.anchor.point + step
    logits = torch.mm(point[:, :-1].to(rows.dtype), rows.T).to(step.dtype).add_(point[:, -1:].to(step.dtype))
    shares = torch.softmax(logits, dim=0)
    doubt = shares - shares.square()  # (classes, rows)
    weight = doubt.sum(dim=1, keepdim=True).clamp_min(1e-6 * float(doubt.mean()) + 1e-30)
    doubt = doubt.to(rows.dtype)
    centre = (doubt @ rows).to(step.dtype) / weight
    if coordinates.directions is None:
        scaled = _diagonal(rows, doubt, weight, centre, penalty * surrogate.scale.square())
    else:
        scaled = _leading(coordinates, weight / len(rows), penalty)
    inverse = _bias_inverse(shares, rows.dtype)

    def metric(gradient: Tensor) -> Tensor:
        gradient = gradient - gradient.mean(dim=0)
        bias = gradient[:, -1:]
        weights = scaled(gradient[:, :-1] - centre * bias)
        shift = inverse @ bias - (centre * weights).sum(dim=1, keepdim=True)
        result = torch.cat([weights, shift], dim=1)
        return result - result.mean(dim=0)

    return metric


def _diagonal(
    rows: Tensor, doubt: Tensor, weight: Tensor, centre: Tensor, penalties: Tensor
) -> Callable[[Tensor], Tensor]:
    """Divide by the curvature of each class and coordinate, where coordinates are uncorrelated."""
    variance = ((doubt @ rows.square()).to(weight.dtype) / weight - centre.square()).clamp_min(0)
    mean = (variance * weight).sum(dim=0) / weight.sum()
    variance = variance + (mean - variance) * (ROWS_TO_TRUST / (ROWS_TO_TRUST + weight))
    inverse = 1 / (weight / rows.shape[0] * variance + penalties.to(weight.dtype))
    return lambda gradient: inverse * gradient


def _leading(coordinates: Coordinates, weight: Tensor, penalty: float) -> Callable[[Tensor], Tensor]:
    """Divide by the curvature along the leading eigenvectors, and by its mean along all others."""
    assert coordinates.directions is not None
    assert coordinates.variances is not None
    directions = coordinates.directions.to(weight.dtype)
    leading = 1 / (weight * coordinates.variances.to(weight.dtype) + penalty)
    others = 1 / (weight * coordinates.rest + penalty)
    return lambda gradient: gradient * others + ((gradient @ directions) * (leading - others)) @ directions.T


def _bias_inverse(shares: Tensor, dtype: torch.dtype) -> Tensor:
    low = shares.to(dtype)
    curvature = -(low @ low.T).double() / shares.shape[1]
    curvature.fill_diagonal_(0)
    curvature.diagonal().copy_(-curvature.sum(dim=1))
    return constrained_inverse(curvature).to(shares.dtype)


def constrained_inverse(curvature: Tensor) -> Tensor:
    """Return the inverse on the vectors that sum to 0 of a matrix whose null vector is all ones."""
    classes = len(curvature)
    mean = float(curvature.diagonal().mean())
    if mean <= 0:
        return torch.zeros_like(curvature)
    ones = torch.full_like(curvature, mean / classes)
    noise = 1e-9 * mean * torch.eye(classes, dtype=curvature.dtype, device=curvature.device)
    return torch.linalg.inv(curvature + ones + noise)
