"""The penalty with the smallest loss on held-out rows, found on a warm-started path."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tunnelscope.linalg.coordinates import Coordinates
from tunnelscope.linalg.lbfgs import Memory
from tunnelscope.probes.regression import Regression
from tunnelscope.probes.solve import descend


@dataclass(frozen=True)
class PathSettings:
    """Where the path of penalties runs.

    Attributes:
        first: the first penalty.
        decades: from one penalty to the next.
        least, most: bounds of all penalties.
        tolerance: of each fit on the path, about relative.
        gain: fall of the held-out loss, in nats, below which the next penalty is not tried: classes that are
            told apart entirely would lead down to ever smaller penalties, and ever slower fits, for nothing.
    """

    first: float = 0.3
    decades: float = 0.75
    least: float = 1e-8
    most: float = 1e4
    tolerance: float = 0.03
    gain: float = 1e-3


@dataclass(frozen=True, eq=False)
class PathPoint:
    """A fit on the path: its penalty, its point, the loss on the held-out rows, which of them are right."""

    penalty: float
    point: Tensor
    loss: float
    right: Tensor


@dataclass(frozen=True, eq=False)
class Choice:
    """The penalty chosen, between the best point of the path and its neighbours."""

    penalty: float
    best: PathPoint
    path: tuple[PathPoint, ...]


def choose_penalty(
    regression: Regression,
    coordinates: Coordinates,
    heldout: tuple[Tensor, Tensor],
    settings: PathSettings,
) -> Choice:
    """Follow the penalties downwards until the held-out loss falls no more; upwards if the first step rises.

    Args:
        regression: the rows that are not held out.
        coordinates: of these rows.
        heldout: rows in the same coordinates, centred as the regression's, and their labels.

    Returns:
        The vertex of the parabola through the three points around the best (loss over log penalty).
    """
    memory, point, path = Memory(), regression.start(), []
    last = 0.0
    for penalty in _penalties(settings, down=True):
        _carry(memory, regression, penalty - last)
        point = descend(regression, coordinates, point, penalty, settings.tolerance, memory).point
        path.append(_judged(penalty, point, heldout))
        last = penalty
        if len(path) > 1 and path[-1].loss > path[-2].loss - settings.gain:
            break
    if len(path) == 2 and path[1].loss > path[0].loss:
        memory.forget()
        for penalty in _penalties(settings, down=False):
            point = descend(regression, coordinates, path[0].point, penalty, settings.tolerance, memory).point
            path.insert(0, _judged(penalty, point, heldout))
            memory.forget()
            if path[0].loss > path[1].loss:
                break
    best = min(path, key=lambda fit: fit.loss)
    return Choice(_vertex(path, path.index(best)), best, tuple(path))


def _penalties(settings: PathSettings, down: bool) -> list[float]:
    """Return the penalties from the first one downwards, or those above it upwards."""
    ratio, penalty = 10 ** (-settings.decades if down else settings.decades), settings.first
    penalties = []
    while settings.least * 0.999 <= penalty <= settings.most * 1.001:
        penalties.append(penalty)
        penalty *= ratio
    if down and penalties[-1] > settings.least * 1.5:
        penalties.append(settings.least)
    return penalties if down else penalties[1:]


def _carry(memory: Memory, regression: Regression, difference: float) -> None:
    """Make the memory that of F with another penalty: exact, because the penalty is quadratic."""
    weight = difference * regression.scale.square()
    for step, change in zip(memory.steps, memory.changes, strict=True):
        change[:, :-1] += step[:, :-1] * weight.to(step.dtype)


def _judged(penalty: float, point: Tensor, heldout: tuple[Tensor, Tensor]) -> PathPoint:
    rows, labels = heldout
    logits = torch.addmm(point[:, -1:], point[:, :-1], rows.T)
    losses = torch.logsumexp(logits, dim=0) - logits.gather(0, labels[None])[0]
    right = logits.argmax(dim=0) == labels
    return PathPoint(penalty, point, float(losses.double().mean()), right)


def _vertex(path: list[PathPoint], best: int) -> float:
    """Return the penalty at the vertex of the parabola through the best point and its neighbours."""
    if best in (0, len(path) - 1):
        return path[best].penalty
    below, middle, above = (torch.tensor(fit.penalty).log().item() for fit in path[best - 1 : best + 2])
    left, here, right = (fit.loss for fit in path[best - 1 : best + 2])
    first, second = (here - left) / (middle - below), (right - here) / (above - middle)
    bend = (second - first) / (above - below)
    if not bend > 0:
        return path[best].penalty
    vertex = (below + middle) / 2 - first / (2 * bend)
    return float(torch.tensor(min(max(vertex, min(below, above)), max(below, above))).exp())
