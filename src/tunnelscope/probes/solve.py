"""The optimum of a multinomial logistic regression at one penalty, to a certified relative gap."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tunnelscope.linalg.coordinates import Coordinates
from tunnelscope.linalg.lbfgs import Memory, Minimum, minimise
from tunnelscope.probes.certificate import certified_gap, weight_gap
from tunnelscope.probes.metric import constrained_inverse, curvature_metric
from tunnelscope.probes.regression import Evaluation, Regression

ROUNDS = 8
METRIC_LIFE = 40  # evaluations, after which the curvature has left what the metric was taken from


@dataclass(frozen=True, eq=False)
class Solution:
    """A point near the optimum.

    Attributes:
        point: [W | b] in the coordinates of the regression.
        gap: certified bound on (F − F*) / F.
        evaluations: of F and its gradient that it took.
    """

    point: Tensor
    gap: float
    evaluations: int


def descend(
    regression: Regression,
    coordinates: Coordinates,
    start: Tensor,
    penalty: float,
    tolerance: float,
    memory: Memory,
    most_evaluations: int = 1000,
) -> Minimum[Evaluation]:
    """Descend until the gap is about `tolerance` of the objective; nothing is certified."""

    def is_done(here: Minimum[Evaluation]) -> bool:
        return weight_gap(regression, here.evaluated, penalty) <= tolerance * here.evaluated.value

    here = Minimum(start, regression.evaluate(start, penalty), 1, stalled=False)
    best, misses = float("inf"), 0
    while not (is_done(here) or here.stalled or here.evaluations >= most_evaluations):
        here = minimise(
            lambda point: regression.evaluate(point, penalty),
            here,
            curvature_metric(regression, coordinates, here.point, penalty),
            memory,
            is_done,
            min(METRIC_LIFE, most_evaluations - here.evaluations),
        )
        gap = weight_gap(regression, here.evaluated, penalty)
        misses, best = (misses + 1 if gap > best / 2 else 0), min(best, gap)
        if misses == 2 and start.dtype == torch.float32:  # rounding stands in the way; float64 may get on
            return replace(here, stalled=True)
    return here


def solve(
    regression: Regression,
    coordinates: Coordinates,
    start: Tensor,
    penalty: float,
    tolerance: float,
    memory: Memory | None = None,
    most_evaluations: int = 1000,
) -> Solution:
    """Minimise F to a certified relative gap of at most `tolerance`, or as near as rounding lets it.

    The certificate is of first order in the mean error of the probabilities, the descent's estimate is not:
    so a Newton step on the bias comes before it, and where it still misses, the descent goes on with a
    stricter aim. Whether the tolerance was met is for the caller to read from the gap.
    """
    memory = Memory() if memory is None else memory
    aim, evaluations = 0.9 * tolerance, 0
    best = Solution(start, float("inf"), 0)
    for _ in range(ROUNDS):
        here = descend(regression, coordinates, start, penalty, aim, memory, most_evaluations - evaluations)
        evaluations += here.evaluations
        for _ in range(2):
            here, steps = _bias_step(regression, here, penalty)
            evaluations += steps
            gap = certified_gap(regression, here.point, here.evaluated, penalty) / here.evaluated.value
            best = replace(best, evaluations=evaluations)
            if gap < best.gap:
                best = Solution(here.point, gap, evaluations)
            if gap <= tolerance:
                return best
        if here.stalled or evaluations >= most_evaluations:
            break
        start, aim = here.point, aim / 3
    return best


def _bias_step(
    regression: Regression, here: Minimum[Evaluation], penalty: float
) -> tuple[Minimum[Evaluation], int]:
    """Take one Newton step on the bias, halved while F rises; return the evaluations it took."""
    surplus = here.evaluated.surplus
    step = constrained_inverse(regression.bias_curvature(here.point)) @ surplus
    resolution = 4 * torch.finfo(here.point.dtype).eps * abs(here.evaluated.value)
    for trial in range(1, 6):
        point = here.point.clone()
        point[:, -1] -= (step - step.mean()).to(point.dtype)
        evaluated = regression.evaluate(point, penalty)
        if evaluated.value <= here.evaluated.value + resolution:
            return Minimum(point, evaluated, here.evaluations, here.stalled), trial
        step = step / 2
    return here, 5
