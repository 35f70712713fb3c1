"""Limited-memory BFGS for a convex function, from a metric of the caller's (Nocedal 1980).

The metric, a cheap approximation of the inverse Hessian, takes the place of the identity from which the
method builds its own. A memory can be carried from one function to a similar one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor


class Evaluated(Protocol):
    """A function at a point: its value and gradient."""

    @property
    def value(self) -> float: ...

    @property
    def gradient(self) -> Tensor: ...


E = TypeVar("E", bound=Evaluated)


@dataclass
class Memory:
    """The last steps and the changes of the gradient along them."""

    pairs: int = 12
    steps: list[Tensor] = field(default_factory=list)
    changes: list[Tensor] = field(default_factory=list)

    def remember(self, step: Tensor, change: Tensor) -> None:
        """Keep a pair, unless the curvature along it is lost in rounding."""
        curvature = float((step * change).sum())
        if curvature <= 1e-10 * float(step.norm() * change.norm()):
            return
        self.steps, self.changes = self.steps[1 - self.pairs :], self.changes[1 - self.pairs :]
        self.steps.append(step)
        self.changes.append(change)

    def forget(self) -> None:
        """Drop all pairs."""
        self.steps, self.changes = [], []


@dataclass(frozen=True)
class Minimum(Generic[E]):
    """Where the descent ended: the point, the function there, the evaluations it took, and why it ended."""

    point: Tensor
    evaluated: E
    evaluations: int
    stalled: bool


def minimise(
    evaluate: Callable[[Tensor], E],
    start: Minimum[E],
    metric: Callable[[Tensor], Tensor],
    memory: Memory,
    is_done: Callable[[Minimum[E]], bool],
    most_evaluations: int = 1000,
) -> Minimum[E]:
    """Descend from `start` until `is_done`, the evaluations run out, or rounding hides all progress.

    Args:
        evaluate: value and gradient at a point; the function must be convex.
        start: the first point, evaluated.
        metric: symmetric positive semi-definite, about the inverse Hessian, applied to a gradient.
        memory: filled and used; an empty one at first.
        is_done: asked at each new point.
    """
    here, resolution = start, 4 * torch.finfo(start.point.dtype).eps
    flat = 0
    while not is_done(here) and here.evaluations < start.evaluations + most_evaluations:
        slope, direction = _direction(here.evaluated.gradient, metric, memory)
        if slope >= 0:
            return Minimum(here.point, here.evaluated, here.evaluations, stalled=True)
        there = _line_search(evaluate, here, direction, slope, resolution)
        if there is None:
            if not memory.steps:
                return Minimum(here.point, here.evaluated, here.evaluations, stalled=True)
            memory.forget()
            continue
        memory.remember(there.point - here.point, there.evaluated.gradient - here.evaluated.gradient)
        fell = here.evaluated.value - there.evaluated.value
        flat = 0 if fell > resolution * abs(there.evaluated.value) else flat + 1
        here = there
        if flat >= 12:
            return Minimum(here.point, here.evaluated, here.evaluations, stalled=True)
    return here


def _direction(gradient: Tensor, metric: Callable[[Tensor], Tensor], memory: Memory) -> tuple[float, Tensor]:
    """Return the slope along the two-loop recursion's direction, and the direction."""
    direction, shares = gradient.clone(), []
    for step, change in zip(reversed(memory.steps), reversed(memory.changes), strict=True):
        curvature = (step * change).sum()
        share = (step * direction).sum() / curvature
        direction -= share * change
        shares.append((share, curvature))
    direction = metric(direction)
    if memory.steps:
        step, change = memory.steps[-1], memory.changes[-1]
        direction *= (step * change).sum() / (change * metric(change)).sum()
    for step, change, (share, curvature) in zip(memory.steps, memory.changes, reversed(shares), strict=True):
        direction += step * (share - (change * direction).sum() / curvature)
    slope = -float((gradient * direction).sum())
    if slope >= 0 and memory.steps:  # rounding has spoilt the memory
        memory.forget()
        return _direction(gradient, metric, memory)
    return slope, direction.neg_()


def _line_search(
    evaluate: Callable[[Tensor], E], here: Minimum[E], direction: Tensor, slope: float, resolution: float
) -> Minimum[E] | None:
    """Halve the step until the function falls (Armijo); rises below the resolution count as falls."""
    length, value = 1.0, here.evaluated.value
    for trial in range(1, 16):
        point = here.point + length * direction
        evaluated = evaluate(point)
        rise = evaluated.value - value
        if rise <= 1e-4 * length * slope + resolution * abs(value):
            return Minimum(point, evaluated, here.evaluations + trial, stalled=False)
        bend = rise - length * slope  # of the parabola through value, slope and the value just found
        shrunk = -slope * length**2 / (2 * bend) if bend > 0 and rise < float("inf") else 0.0
        length = min(max(shrunk, 0.1 * length), 0.5 * length)
    return None
