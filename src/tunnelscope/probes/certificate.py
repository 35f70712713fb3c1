"""A bound on how far a point of a multinomial logistic regression is from its optimum.

Write q for the probabilities at [W | b], y for the targets (one-hot labels, or smoothed ones), π for their
mean, A = mean (q − y) xᵀ, a = mean (q − y), M = mean y xᵀ, and H for the entropy. For row distributions q'
whose mean is π the dual value mean H(q') − ‖A(q')‖²/(2λ) is at most the optimum F*. The q at hand misses π by
a, so mix in one distribution r, the same in each row:

    q' = (1 − θ) q + θ r,   θ = max_c a_c / (π_c + a_c),   r = π − (1/θ − 1) a.

Its mean is π, and because the features are centred A(q') = (1 − θ) A − θ M. Entropy is concave, so

    F − F* ≤ F − (1 − θ) mean H(q) − θ H(r) + ‖(1 − θ) A − θ M‖² / (2λ),

true at every point, with no pass over the rows. With mean H(q) = cross-entropy − ⟨A, W⟩ − a·b the large terms
cancel on paper instead of in rounding, which leaves

    ‖A + λW‖²/(2λ) + a·b + θ (mean H(q) − H(r)) + (θ² ‖A + M‖² − 2θ ⟨A, A + M⟩)/(2λ).
"""

from typing import Protocol

import torch
from torch import Tensor


class Problem(Protocol):
    """What the bound needs of the problem; see `Regression` and `Surrogate`, which has it estimated."""

    scale: Tensor
    frequencies: Tensor
    label_moment: Tensor


class Evaluated(Protocol):
    """What the bound needs of an evaluation."""

    @property
    def cross_entropy(self) -> float: ...

    @property
    def gradient(self) -> Tensor: ...

    @property
    def surplus(self) -> Tensor: ...


def weight_gap(problem: Problem, evaluation: Evaluated, penalty: float) -> float:
    """Return ‖A + λW‖²/(2λ): the whole gap where the mean probabilities equal the frequencies."""
    gradient = evaluation.gradient[:, :-1].double() / problem.scale
    return float(gradient.square().sum()) / (2 * penalty)


def certified_gap(problem: Problem, point: Tensor, evaluation: Evaluated, penalty: float) -> float:
    """Return an upper bound of F − F* at an evaluated point, never below 0."""
    scale, frequencies, surplus = problem.scale, problem.frequencies, evaluation.surplus
    weights = point[:, :-1].double() * scale  # on standardised features, up to a rotation
    bias = point[:, -1].double()
    moment = evaluation.gradient[:, :-1].double() / scale - penalty * weights
    moment = moment - moment.mean(dim=0)
    theta = float((surplus / (frequencies + surplus)).max().clamp_min(0))
    gap = weight_gap(problem, evaluation, penalty) + float(surplus @ bias)
    if theta > 0:
        mixed = (frequencies - (1 / theta - 1) * surplus).clamp_min(0)
        entropy = evaluation.cross_entropy - float((moment * weights).sum()) - float(surplus @ bias)
        mixed_entropy = -float(torch.xlogy(mixed, mixed).sum())
        total = moment + problem.label_moment / scale
        square, product = float(total.square().sum()), float((moment * total).sum())
        gap += theta * (entropy - mixed_entropy) + (theta**2 * square - 2 * theta * product) / (2 * penalty)
    return max(gap, 0.0)
