"""The numbers that the claims of the 2023 paper are about, each a pure function of curves over layers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tunnelscope.tunnel import stable_start, tunnel_start

Array = NDArray[np.floating]
Numbers = NDArray[Any] | Sequence[float | None]
LEARNT = 0.1  # of the way from chance to all right: a network below has not learnt its task


@dataclass(frozen=True, eq=False)
class Curves:
    """What one scan tells of each layer.

    Attributes:
        numbers: of the layers as the paper counts them, (layers,).
        id: probe accuracy on the ID set, (layers,).
        ood: the same on each OOD set or draw, (sets, layers).
        ranks: numerical rank of the ID set's test rows, by tolerance ("1e-3").
        ood_ranks: the same of each OOD set at 1e-3, (sets, layers).
        within, between: variances of the ID set's training rows, (layers,).
        cka: unbiased, between all pairs of layers on the ID set's test rows, (layers, layers); may be empty.
        attainable: the largest rank that test rows and features allow, (layers,).
        own: the network's own accuracy on the ID set; None of one whose head fits other classes.
        classes: of the ID set.
        control: the same of the network as it was drawn, where that was scanned.
    """

    numbers: NDArray[np.intp]
    id: Array
    ood: Array
    ranks: dict[str, Array]
    ood_ranks: Array
    within: Array
    between: Array
    cka: Array
    attainable: Array
    own: float | None
    classes: int
    control: "Curves | None" = None

    @property
    def has_learnt(self) -> bool:
        """Whether the network has learnt its task: claims about trained networks leave the others out."""
        return self.own is None or self.own >= self.chance + LEARNT * (1 - self.chance)

    @property
    def chance(self) -> float:
        """The accuracy of guessing."""
        return 1 / self.classes

    def start(self, share: float = 0.95) -> int:
        """The number of the extractor's last layer: the first whose ID probe reaches a share of the last."""
        return int(self.numbers[tunnel_start(self.id, share)])

    def start_above_chance(self, share: float = 0.95) -> int:
        """The same of what probes are above chance, which is higher with fewer classes."""
        return int(self.numbers[tunnel_start(np.maximum(self.id - self.chance, 0), share)])

    def start_of_own(self, share: float = 0.95) -> int | None:
        """The same against the network's own accuracy; None where no layer reaches it."""
        if self.own is None:
            return None
        reached = np.flatnonzero(self.id >= share * self.own)
        return int(self.numbers[reached[0]]) if len(reached) else None

    def stable_start(self, share: float = 0.95) -> int:
        """The number of the first layer from which on none falls below the share."""
        return int(self.numbers[stable_start(self.id, share)])

    @property
    def tunnel(self) -> NDArray[np.bool_]:
        """Which layers the tunnel has: those after the start, (layers,)."""
        return self.numbers > self.start()

    @property
    def from_start(self) -> NDArray[np.bool_]:
        """The tunnel and the extractor's last layer before it, (layers,)."""
        return self.numbers >= self.start()


def each(curves: Sequence[Curves], statistic: Callable[[Curves], float | None]) -> list[float | None]:
    """The statistic of each network that has learnt its task; None of the others."""
    return [statistic(one) if one.has_learnt else None for one in curves]


def against(
    curves: Sequence[Curves], statistic: Callable[[Curves, Curves], float | None]
) -> list[float | None]:
    """The statistic of each network that has learnt its task, and of its control."""
    return each(curves, lambda one: None if one.control is None else statistic(one, one.control))


def less(one: float | None, other: float | None) -> float | None:
    """One statistic less another; None where either is not defined."""
    return None if one is None or other is None else one - other


def slope(x: Numbers, y: Numbers) -> float | None:
    """Least-squares slope of y over x; None of fewer than two different x."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    usable = np.isfinite(x) & np.isfinite(y)
    x, y = x[usable], y[usable]
    if len(np.unique(x)) < 2:
        return None
    centred = x - x.mean()
    return float(centred @ (y - y.mean()) / (centred @ centred))


def accuracy_slope(curves: Curves) -> float | None:
    """Percentage points of ID accuracy a layer from the start on; None where no tunnel is."""
    return slope(curves.numbers[curves.from_start], 100 * curves.id[curves.from_start])


def last_third(values: Array) -> float:
    """Median over the last third of the layers."""
    return float(np.median(values[-max(1, len(values) // 3) :]))


def rank_drop(curves: Curves, inside: NDArray[np.bool_], tolerance: str = "1e-3") -> float | None:
    """The last layer's rank over that where the tunnel starts; None where no tunnel is.

    Args:
        inside: `Curves.from_start`, of the trained network where the curves are its control's.
    """
    return last_over_first(curves.ranks[tolerance][inside])


def rank_share_drop(curves: Curves, tolerance: str = "1e-3") -> float | None:
    """The same of ranks over the attainable ones: some layers of a network have few features."""
    return last_over_first((curves.ranks[tolerance] / curves.attainable)[curves.from_start])


def last_over_first(values: Array) -> float | None:
    """What is left at the end of a stretch of layers; None of fewer than two."""
    return float(values[-1] / values[0]) if len(values) > 1 else None


def least_rank(curves: Curves, classes: int, tolerance: str = "1e-3") -> float | None:
    """The least rank of the layers that can have more than the number of classes; None of no such layer."""
    able = curves.attainable > classes
    return float(curves.ranks[tolerance][able].min()) if able.any() else None


def from_start_to_peak(curves: Curves, of: Curves) -> float | None:
    """Layers from the tunnel's start to the best OOD layer, its own or its control's; None of no tunnel."""
    return float(peak(of) - curves.start()) if curves.tunnel.any() else None


def collapse_slope(curves: Curves, inside: NDArray[np.bool_] | None = None) -> float | None:
    """Slope of log(intra / inter) a layer from the start on (or over other layers), free of scale."""
    inside = curves.from_start if inside is None else inside
    return slope(curves.numbers[inside], np.log(curves.within[inside] / curves.between[inside]))


def block_means(
    cka: Array, inside: NDArray[np.bool_], most_apart: int | None = None
) -> tuple[float | None, float | None]:
    """Mean CKA between layers of the tunnel, and of the extractor; None of fewer than three layers.

    Args:
        most_apart: only pairs at most so many layers apart: a longer block has pairs that lie farther.
    """
    means = []
    for chosen in (inside, ~inside):
        block = cka[np.ix_(chosen, chosen)]
        places = np.arange(len(block))
        apart = np.abs(places[:, None] - places)
        pairs = block[(apart > 0) & (apart <= (most_apart or len(block)))]
        means.append(float(pairs.mean()) if len(block) >= 3 else None)
    return means[0], means[1]


def retained(ood: Array) -> float:
    """The last layer's OOD accuracy over the best layer's on the same test rows, a mean over sets."""
    return float((ood[:, -1] / ood.max(axis=1)).mean())


def peak(curves: Curves) -> int:
    """The number of the layer with the best mean OOD accuracy."""
    return int(curves.numbers[int(np.argmax(curves.ood.mean(axis=0)))])


def coupling(ranks: Array, ood: Array, chosen: NDArray[np.bool_]) -> float | None:
    """Spearman correlation of rank and mean OOD accuracy over layers; None of fewer than three."""
    if chosen.sum() < 3:
        return None
    one, other = ranks[chosen], ood.mean(axis=0)[chosen]
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    found: Any = stats.spearmanr(one, other)
    return float(found.statistic)
