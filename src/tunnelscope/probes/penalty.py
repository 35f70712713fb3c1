"""The penalty with the smallest loss on held-out rows, found on a warm-started path."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tunnelscope.linalg.coordinates import Coordinates
from tunnelscope.linalg.lbfgs import Memory
from tunnelscope.probes.solve import descend
from tunnelscope.probes.surrogate import Surrogate


@dataclass(frozen=True)
class PathSettings:
    """Where the path of penalties runs.

    Attributes:
        first: the first penalty.
        decades: from one penalty to the next.
        least, most: bounds of all penalties. On features without use the held-out loss falls up to infinity,
            where only the biases are left and every row gets the commonest class; at 10, measured on up to
            3,072 columns of 100 rows, the weights still decide, and nothing above it predicts better.
        tolerance: of each fit on the path, about relative.
        gain: share of the fall of the held-out loss so far, from where no feature is used; where one more
            penalty brings less, the next is not tried: classes that are told apart entirely would lead down
            to ever smaller penalties, and ever slower fits, for nothing.
    """

    first: float = 0.3
    decades: float = 0.75
    least: float = 1e-8
    most: float = 10.0
    tolerance: float = 0.05
    gain: float = 5e-3


@dataclass(frozen=True, eq=False)
class PathPoint:
    """A fit on the path: its penalty, its point [W | b], the loss on the held-out rows."""

    penalty: float
    point: Tensor
    loss: float


@dataclass(frozen=True, eq=False)
class HeldOutRows:
    """Rows to judge a fit on, (n, coordinates) float32, and their labels, (n,)."""

    rows: Tensor
    labels: Tensor

    def judge(self, point: Tensor) -> tuple[float, Tensor]:
        """Return the mean cross-entropy at [W | b], and which rows are right."""
        point = point.float()
        logits = torch.addmm(point[:, -1:], point[:, :-1], self.rows.T)
        losses = torch.logsumexp(logits, dim=0) - logits.gather(0, self.labels[None])[0]
        return float(losses.double().mean()), logits.argmax(dim=0) == self.labels


class Path:
    """Warm-started fits of one surrogate at several penalties.

    Attributes:
        memory: carried from one penalty to the next.
        last: the penalty that the memory is of.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        coordinates: Coordinates,
        settings: PathSettings,
        part: float = 1.0,
    ):
        """Take the rows.

        Args:
            surrogate: of these rows, or of some of them.
            part: the surrogate's share of the rows that the penalty is for; its fits have a penalty that
                much larger, so that penalty · rows, which decides how much is learnt, stays.
        """
        self.surrogate, self.coordinates = surrogate, coordinates
        self.settings, self.part = settings, part
        self.memory, self.last = Memory(), 0.0

    def carry(self, penalty: float) -> None:
        """Make the memory that of F with another penalty: exact, because the penalty is quadratic."""
        weights = torch.zeros_like(self.surrogate.anchor.point, dtype=torch.float32)
        weights[:, :-1] = (penalty - self.last) * self.surrogate.scale.square()
        self.memory.add_curvature(weights)
        self.last = penalty

    def fit(self, penalty: float, start: Tensor) -> Tensor:
        """Fit at a penalty from a point [W | b]; return the point."""
        actual = penalty / self.part
        self.carry(actual)
        origin = self.surrogate.anchor.point
        here = descend(
            self.surrogate,
            self.coordinates,
            (start - origin).float(),
            actual,
            self.settings.tolerance,
            self.memory,
        )
        return origin + here.point.double()

    def lead_to(self, penalty: float) -> Tensor:
        """Follow the penalties downwards to a given one: fewer evaluations than from nothing at once."""
        point = self.surrogate.start()
        for above in _penalties(self.settings, down=True):
            if above > 1.5 * penalty:
                point = self.fit(above, point)
        return self.fit(penalty, point)

    def choose(self, heldout: HeldOutRows) -> tuple[float, PathPoint]:
        """Follow the penalties downwards until the held-out loss falls no more; upwards if it rises at once.

        Args:
            heldout: rows that no fit has seen, in the same coordinates.

        Returns:
            The vertex of the parabola through the three fits around the best one (loss over log penalty), and
            the best fit.
        """
        fits: list[PathPoint] = []
        point = self.surrogate.start()
        unused = heldout.judge(point)[0]

        def judged(penalty: float, start: Tensor) -> PathPoint:
            fitted = self.fit(penalty, start)
            return PathPoint(penalty, fitted, heldout.judge(fitted)[0])

        for penalty in _penalties(self.settings, down=True):
            fits.append(judged(penalty, point))
            point = fits[-1].point
            gained = max(0.0, unused - fits[-1].loss)
            if len(fits) > 1 and fits[-1].loss > fits[-2].loss - self.settings.gain * gained:
                break
        if len(fits) == 2 and fits[1].loss > fits[0].loss:
            self.memory.forget()
            for penalty in _penalties(self.settings, down=False):
                fits.insert(0, judged(penalty, fits[0].point))
                if fits[0].loss > fits[1].loss:
                    break
        best = min(fits, key=lambda fit: fit.loss)
        return _vertex(fits, fits.index(best)), best


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
