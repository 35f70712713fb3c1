"""Limited-memory BFGS for a convex function, from a metric of the caller's (Nocedal 1980).

The metric, a cheap approximation of the inverse Hessian, takes the place of the identity from which the
method builds its own. A memory can be carried from one function to a similar one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor


class Evaluated(Protocol):
    """A function at a point: its value and gradient, and what difference of values rounding may hide."""

    @property
    def value(self) -> float: ...

    @property
    def gradient(self) -> Tensor: ...

    @property
    def resolution(self) -> float: ...


E = TypeVar("E", bound=Evaluated)


class Memory:
    """The last steps and the changes of the gradient along them, oldest first."""

    def __init__(self, pairs: int = 12):
        self._pairs, self._first, self._end = pairs, 0, 0
        self._kept: tuple[Tensor, Tensor] | None = None  # twice the room, so that few pairs ever move

    @property
    def steps(self) -> Tensor:
        """The steps, (pairs, size), flat."""
        assert self._kept is not None
        return self._kept[0][self._first : self._end]

    @property
    def changes(self) -> Tensor:
        """The changes, (pairs, size), flat."""
        assert self._kept is not None
        return self._kept[1][self._first : self._end]

    def __len__(self) -> int:
        return self._end - self._first

    def remember(self, step: Tensor, change: Tensor) -> None:
        """Keep a pair, unless the curvature along it is lost in rounding."""
        step, change = step.reshape(1, -1), change.reshape(1, -1)
        if not bool(_is_curved(step, change)):
            return
        if self._kept is None:
            room = (2 * self._pairs, step.shape[1])
            self._kept = step.new_empty(room), change.new_empty(room)
        self._first = max(self._first, self._end + 1 - self._pairs)
        if self._end == len(self._kept[0]):
            self._keep(slice(None))
        self._kept[0][self._end], self._kept[1][self._end] = step[0], change[0]
        self._end += 1

    def add_curvature(self, weights: Tensor) -> None:
        """Make the memory that of the function plus a quadratic with these second derivatives.

        Args:
            weights: of the shape of a point; pairs along which the curvature is lost are dropped.
        """
        if not len(self):
            return
        self.changes.add_(self.steps * weights.reshape(1, -1))
        is_kept = _is_curved(self.steps, self.changes)
        if not bool(is_kept.all()):
            self._keep(is_kept)

    def _keep(self, chosen: slice | Tensor) -> None:
        """Move these pairs to the front; drop the others."""
        steps, changes = self.steps[chosen].clone(), self.changes[chosen].clone()
        assert self._kept is not None
        self._first, self._end = 0, len(steps)
        self._kept[0][: self._end], self._kept[1][: self._end] = steps, changes

    def forget(self) -> None:
        """Drop all pairs."""
        self._first = self._end = 0


def _is_curved(steps: Tensor, changes: Tensor) -> Tensor:
    curvature = (steps * changes).sum(dim=1)
    return curvature > 1e-10 * steps.norm(dim=1) * changes.norm(dim=1)


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
    here, flat = start, 0
    while not is_done(here) and here.evaluations < start.evaluations + most_evaluations:
        slope, direction = _direction(here.evaluated.gradient, metric, memory)
        if not slope < 0:
            return Minimum(here.point, here.evaluated, here.evaluations, stalled=True)
        there = _line_search(evaluate, here, direction, slope)
        if there is None:
            if not len(memory):
                return Minimum(here.point, here.evaluated, here.evaluations, stalled=True)
            memory.forget()
            continue
        memory.remember(there.point - here.point, there.evaluated.gradient - here.evaluated.gradient)
        fell = here.evaluated.value - there.evaluated.value
        flat = 0 if fell > there.evaluated.resolution else flat + 1
        here = there
        if flat >= 12:
            return Minimum(here.point, here.evaluated, here.evaluations, stalled=True)
    return here


def _direction(gradient: Tensor, metric: Callable[[Tensor], Tensor], memory: Memory) -> tuple[float, Tensor]:
    """Return the slope along the method's direction, and the direction.

    The two loops of the usual recursion are two triangular systems in the products of steps and changes:
    a handful of matrix products in the place of a hundred small ones.
    """
    if not len(memory):
        direction = metric(gradient)
        return -float((gradient * direction).sum()), direction.neg()
    steps, changes = memory.steps, memory.changes
    products = (steps @ changes.T).double()
    upper, curvatures = products.triu(), products.diagonal()
    shares = _solved(upper, (steps @ gradient.flatten()).double(), upper=True)
    rest = gradient.flatten() - shares.to(gradient.dtype) @ changes
    # The metric is scaled to the curvature along the last step.
    scale = curvatures[-1] / (changes[-1] @ metric(changes[-1].view_as(gradient)).flatten())
    direction = metric(rest.view_as(gradient)).flatten() * scale.to(gradient.dtype)
    others = _solved(upper.T, curvatures * shares - (changes @ direction).double(), upper=False)
    direction = (direction + others.to(gradient.dtype) @ steps).view_as(gradient)
    slope = -float((gradient * direction).sum())
    if not slope < 0:  # rounding has spoilt the memory
        memory.forget()
        return _direction(gradient, metric, memory)
    return slope, direction.neg_()


def _solved(triangle: Tensor, right: Tensor, upper: bool) -> Tensor:
    return torch.linalg.solve_triangular(triangle.contiguous(), right[:, None], upper=upper)[:, 0]


def _line_search(
    evaluate: Callable[[Tensor], E], here: Minimum[E], direction: Tensor, slope: float
) -> Minimum[E] | None:
    """Halve the step until the function falls (Armijo); rises below the resolution count as falls."""
    length, value = 1.0, here.evaluated.value
    for trial in range(1, 16):
        point = here.point + length * direction
        evaluated = evaluate(point)
        rise = evaluated.value - value
        if rise <= 1e-4 * length * slope + evaluated.resolution:
            return Minimum(point, evaluated, here.evaluations + trial, stalled=False)
        bend = rise - length * slope  # of the parabola through value, slope and the value just found
        shrunk = -slope * length**2 / (2 * bend) if bend > 0 and rise < float("inf") else 0.0
        length = min(max(shrunk, 0.1 * length), 0.5 * length)
    return None
