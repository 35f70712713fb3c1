"""The optimum of a multinomial logistic regression at one penalty, to a certified relative gap."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tunnelscope.linalg.coordinates import Coordinates
from tunnelscope.linalg.lbfgs import Memory, Minimum, minimise
from tunnelscope.probes.certificate import certified_gap, weight_gap
from tunnelscope.probes.metric import constrained_inverse, curvature_metric
from tunnelscope.probes.regression import Regression
from tunnelscope.probes.surrogate import Anchor, Nearby, Surrogate

ROUNDS = 16  # of anchors
DIRECT_ROUNDS = 8
METRIC_LIFE = 40  # evaluations, after which the curvature has left what the metric was taken from
FLOAT32_TOLERANCE = 1e-4  # below this, rounding in float32 shows in the certificate
FLOAT32_GAP = 1e-7  # the same of tolerance · F: where classes are told apart entirely, 1 − q is all there is
GAIN = {
    torch.bfloat16: 3e-3,
    torch.float32: 1e-6,
    torch.float64: 0.0,
}  # how far a gap falls before an anchor is used up
FIRST_GAIN = {torch.bfloat16: 1e-2, torch.float32: 1e-6, torch.float64: 0.0}  # the same from W = 0
PATIENCE = {
    torch.bfloat16: 6,
    torch.float32: 1000,
    torch.float64: 1000,
}  # evaluations without a smaller gap: rounding is reached
AIM = 0.7  # of the tolerance, for the surrogate's own estimate of the gap


@dataclass(frozen=True, eq=False)
class Solution:
    """A point near the optimum.

    Attributes:
        point: [W | b] in the solver's coordinates, float64.
        gap: certified bound on (F − F*) / F.
        evaluations: of F and its gradient that it took, exact ones and the surrogate's.
    """

    point: Tensor
    gap: float
    evaluations: int


def descend(
    surrogate: Surrogate,
    coordinates: Coordinates,
    start: Tensor,
    penalty: float,
    tolerance: float,
    memory: Memory,
    most_evaluations: int = 1000,
) -> Minimum[Nearby]:
    """Descend on the surrogate until the gap is about `tolerance` of the objective; nothing is certified.

    Args:
        start: a step from the surrogate's anchor, float32; so is the minimum.
    """

    progress = _Progress(PATIENCE[surrogate.rows.dtype])

    def is_done(here: Minimum[Nearby]) -> bool:
        gap = weight_gap(surrogate, here.evaluated, penalty)
        return progress.has_ended(gap, here.evaluations) or gap <= tolerance * here.evaluated.value

    here = Minimum(start, surrogate.evaluate(start, penalty), 1, stalled=False)
    best, misses = float("inf"), 0
    while not (is_done(here) or here.stalled or here.evaluations >= most_evaluations):
        here = minimise(
            lambda step: surrogate.evaluate(step, penalty),
            here,
            curvature_metric(surrogate, coordinates, here.point, penalty),
            memory,
            is_done,
            min(METRIC_LIFE, most_evaluations - here.evaluations),
        )
        gap = weight_gap(surrogate, here.evaluated, penalty)
        misses, best = (misses + 1 if gap > best / 2 else 0), min(best, gap)
        if progress.ended or (misses == 2 and start.dtype == torch.float32):
            # Rounding stands in the way; a nearer anchor may get on.
            return replace(here, stalled=True)
    return here


@dataclass
class _Progress:
    """Whether the gap still falls, by a tenth in some number of evaluations."""

    patience: int
    best: float = float("inf")
    best_at: int = 0
    ended: bool = False

    def has_ended(self, gap: float, evaluations: int) -> bool:
        if gap < 0.9 * self.best:
            self.best, self.best_at = gap, evaluations
        self.ended = self.ended or evaluations > self.best_at + self.patience
        return self.ended


class Solver:
    """A regression, its coordinates and the surrogate to descend on; more precise where that is needed.

    Attributes:
        value: F at the point certified last.
        least, lowest: the smallest of them, and its point.
    """

    def __init__(self, regression: Regression, coordinates: Coordinates, rows: Tensor, seed: int):
        self.regression, self.coordinates, self.seed = regression, coordinates, seed
        self.exact_type, self.value, self.least = torch.float32, float("inf"), float("inf")
        self.surrogate = self._surrogate(rows)
        self.lowest = self.surrogate.start()

    def _surrogate(self, rows: Tensor) -> Surrogate:
        problem, moment = self.regression, self.coordinates.unfold(self.regression.label_moment)
        scale, smoothing = self.coordinates.scale, problem.smoothing
        return Surrogate(rows, problem.labels, scale, problem.frequencies, moment, smoothing, self.seed)

    def sharpen(self) -> bool:
        """Take a finer number format: for the exact evaluations, which are few, then for the rows."""
        if self.exact_type != torch.float64:
            self.exact_type = torch.float64
            return True
        if self.surrogate.rows.dtype == torch.float32:
            return False
        anchor = self.surrogate.anchor
        if anchor.shares is not None:
            anchor = replace(anchor, shares=[kept.float() for kept in anchor.shares])
        self._take_rows(torch.float32)
        self.surrogate.move(anchor)
        return True

    def give_up_anchors(self) -> None:
        """Descend from 0 in float64 from here on."""
        self.exact_type = torch.float64
        self._take_rows(torch.float64)

    def _take_rows(self, dtype: torch.dtype) -> None:
        self.surrogate.release()
        self.surrogate = self._surrogate(self.coordinates.rows(self.regression.features, dtype))

    def certify(self, point: Tensor, penalty: float) -> float:
        """Evaluate a point exactly, make it the anchor, and return its certified relative gap."""
        folded = torch.cat([self.coordinates.fold(point[:, :-1]), point[:, -1:]], dim=1)
        has_anchors = self.surrogate.rows.dtype != torch.float64
        shares = self.surrogate.shares_to_fill() if has_anchors else None
        exact = self.regression.evaluate(folded, penalty, self.exact_type, shares)
        self.value = exact.value
        if self.value < self.least:
            self.least, self.lowest = self.value, point
        if has_anchors:
            moment = self.coordinates.unfold(exact.gradient[:, :-1] - penalty * folded[:, :-1])
            self.surrogate.move(Anchor(point, exact.cross_entropy, moment, exact.surplus, shares))
        return certified_gap(self.regression, folded, exact, penalty) / exact.value


def solve(
    solver: Solver,
    start: Tensor,
    penalty: float,
    tolerance: float,
    memory: Memory | None = None,
    most_evaluations: int = 1000,
) -> Solution:
    """Minimise F to a certified relative gap of at most `tolerance`, or as near as rounding lets it.

    Whether the tolerance was met is for the caller to read from the gap.

    Args:
        start: [W | b] in the solver's coordinates, float64.
        most_evaluations: from anchors; and as many more without, where anchors do not lead there.
    """
    best = _by_anchors(
        solver, start, penalty, tolerance, Memory() if memory is None else memory, most_evaluations
    )
    if best.gap <= tolerance:
        return best
    solver.give_up_anchors()
    direct = _directly(solver, solver.lowest, penalty, tolerance, most_evaluations)
    return direct if direct.gap < best.gap else best


def _directly(
    solver: Solver, start: Tensor, penalty: float, tolerance: float, most_evaluations: int
) -> Solution:
    """Descend on the objective itself, with a stricter aim each time that the certificate misses.

    A share that float32 holds as 0 at an anchor can never come back at a step from it; here it can.
    """
    point, aim, evaluations, memory = start, 0.9 * tolerance, 0, Memory()
    best = Solution(start, float("inf"), 0)
    for _ in range(DIRECT_ROUNDS):
        most = most_evaluations - evaluations
        here = descend(solver.surrogate, solver.coordinates, point, penalty, aim, memory, most)
        here, steps = _settle_bias(solver.surrogate, here, penalty, aim)
        point = _without_mean(here.point)
        gap = solver.certify(point, penalty)
        evaluations += here.evaluations + steps + 1
        if gap < best.gap:
            best = Solution(point, gap, evaluations)
        if gap <= tolerance or here.stalled or evaluations >= most_evaluations:
            break
        aim /= 3
    return replace(best, evaluations=evaluations)


def _by_anchors(
    solver: Solver, start: Tensor, penalty: float, tolerance: float, memory: Memory, most_evaluations: int
) -> Solution:
    """Descend from anchor to anchor."""
    if tolerance < FLOAT32_TOLERANCE:
        solver.exact_type = torch.float64
    start = _without_mean(start)
    best, reached = Solution(start, float("inf"), 0), float("inf")
    point, evaluations, misses = start, 0, 0
    if bool(start[:, :-1].any()):  # no start from nothing: a nearby anchor is worth a pass
        reached = solver.certify(start, penalty)
        if solver.value * tolerance < FLOAT32_GAP and solver.exact_type != torch.float64:
            solver.exact_type = torch.float64
            reached = solver.certify(start, penalty)
        best, evaluations = Solution(start, reached, 1), 1
        if reached <= tolerance:
            return best
    for _ in range(ROUNDS):
        surrogate, most = solver.surrogate, most_evaluations - evaluations
        gains = FIRST_GAIN if surrogate.anchor.shares is None else GAIN
        aim = max(AIM * tolerance, gains[surrogate.rows.dtype] * min(reached, 1.0))
        step = (point - surrogate.anchor.point).float()
        here = descend(surrogate, solver.coordinates, step, penalty, aim, memory, most)
        steps = 0
        if surrogate.anchor.shares is not None or aim == AIM * tolerance:
            here, steps = _settle_bias(surrogate, here, penalty, aim)
        point = _without_mean(surrogate.anchor.point + here.point.double())
        gap = solver.certify(point, penalty)
        evaluations += here.evaluations + steps + 1
        best = replace(best, evaluations=evaluations)
        if gap < best.gap:
            best = Solution(point, gap, evaluations)
        if gap <= tolerance or evaluations >= most_evaluations:
            break
        if gap > reached / 2:
            misses = 0 if solver.sharpen() else misses + 1
            if misses == 4:
                break
            point, gap = best.point, best.gap
            memory.forget()  # of pairs that rounding made
        reached = gap
    return best


def _without_mean(point: Tensor) -> Tensor:
    """Take the mean over classes off W: no probability needs it, the penalty counts it, rounding makes it."""
    point = point.clone()
    point[:, :-1] -= point[:, :-1].mean(dim=0)
    return point


def _settle_bias(
    surrogate: Surrogate, here: Minimum[Nearby], penalty: float, aim: float
) -> tuple[Minimum[Nearby], int]:
    """Take Newton steps on the bias until the certificate would be met; return the evaluations they took.

    The certificate is of first order in the mean error of the probabilities, the gap itself is not.
    """
    taken = 0
    for _ in range(3):
        point = surrogate.anchor.point + here.point
        gap = certified_gap(surrogate, point, here.evaluated, penalty)
        if gap <= 1.2 * aim * here.evaluated.value:
            break
        inverse = constrained_inverse(surrogate.bias_curvature(here.point))
        here, steps = _bias_step(lambda step: surrogate.evaluate(step, penalty), here, inverse)
        taken += steps
    return here, taken


def _bias_step(
    evaluate: Callable[[Tensor], Nearby], here: Minimum[Nearby], inverse: Tensor
) -> tuple[Minimum[Nearby], int]:
    """Take one Newton step on the bias, halved while F rises; return the evaluations it took."""
    step = inverse @ here.evaluated.surplus
    for trial in range(1, 6):
        point = here.point.clone()
        point[:, -1] -= (step - step.mean()).to(point.dtype)
        evaluated = evaluate(point)
        if evaluated.value <= here.evaluated.value + evaluated.resolution:
            return replace(here, point=point, evaluated=evaluated), trial
        step = step / 2
    return here, 5
