"""The tunnel's definitions, as pure functions of accuracies: where it starts, what it costs.

Layers are positions 0 … N−1 in here (N read points, the last one before the classifier); names and
counting from 1 are the caller's. `correct` is a matrix (layers, test images) of 1 where a layer's
probe is right and 0 where it is wrong; of several probe seeds one such matrix a seed.

Sources: Masarczyk et al. 2023 (start); Harun et al. 2024, section 3.1 and appendix A.8 (r, ρ, A,
the bands).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

BANDS = ((0.95, "negligible"), (0.90, "weak"), (0.80, "medium"))  # Harun et al. 2024, section 4.1.1

MATCHED = 10  # depths at which networks of different depth are compared

TIE = 1e-12  # an accuracy that equals the threshold reaches it, whatever rounding says
MOST_UNDEFINED = 0.05  # share of resamples without a value up to which the others still give an interval
COUNTS_AT_ONCE = 20_000_000  # of the bootstrap, 8 bytes each


@dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap 95 % interval (test images, probe seeds); None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None


def tunnel_start(accuracies: Array, threshold: float = 0.95) -> int:
    """The first layer whose ID probe reaches `threshold` of the last layer's; the extractor's last.

    Args:
        accuracies: ID probe accuracy of each layer, (layers,).
    """
    return int(np.argmax(accuracies >= threshold * accuracies[-1] - TIE))


def stable_start(accuracies: Array, threshold: float = 0.95) -> int:
    """The first layer from which on no later layer falls below `threshold` of the last layer's."""
    below = np.flatnonzero(accuracies < threshold * accuracies[-1] - TIE)
    return int(below[-1]) + 1 if len(below) else 0


def retained(accuracies: Array, best: int) -> float:
    """OOD accuracy retained: the last layer's over that of a layer chosen on other rows (may pass 1)."""
    return _ratio(accuracies[-1], accuracies[best])


def retained_paper(accuracies: Array) -> float:
    """The same over the highest test accuracy, as Harun et al. 2024 define r; at most 1."""
    return _ratio(accuracies[-1], accuracies.max())


def choose_layer(accuracies: Array, losses: Array, errors: Array) -> int:
    """The layer to take: the best on held-out rows, where it is surely better than the last one.

    Of layers with equal accuracy the one with the lower loss, then the earlier. The last layer is
    taken unless the best one leads by more than the standard error of their paired difference:
    without it, the largest of many noisy accuracies would be taken for a better layer.

    Args:
        accuracies, losses: of each layer on the same held-out rows, (layers,).
        errors: `paired_errors` of the rows the accuracies come from, (layers,).
    """
    order = range(len(accuracies))
    best = max(order, key=lambda layer: (accuracies[layer], -losses[layer], -layer))
    leads = accuracies[best] - accuracies[-1] > errors[best] + TIE
    return best if leads else len(accuracies) - 1


def paired_errors(right: Array) -> Array:
    """Standard error of each layer's accuracy less the last layer's where both are equally good, (layers,).

    That of McNemar's test (1947): only rows that one of the two gets right tell them apart, so that
    a lead of one row is never more than its error.

    Args:
        right: 1 where a layer's probe is right on a held-out row, else 0, (layers, rows).
    """
    return np.sqrt(np.square(right - right[-1]).sum(axis=1)) / max(right.shape[1], 1)


def over_seeds(right: Sequence[Array]) -> Array:
    """Which rows each layer gets right, (layers, rows): the mean over seeds that judge the same rows."""
    return np.concatenate([part.mean(axis=0) for part in right], axis=1)


def resampled_choices(
    right: Sequence[Array],
    losses: Array,
    generator: np.random.Generator,
    resamples: int,
    shares: Array | None = None,
) -> NDArray[np.intp]:
    """The layer chosen on bootstrap samples of the held-out rows, (resamples,) of positions.

    Args:
        right: (seeds, layers, rows), seeds that judge the same rows in one; other rows are drawn apart.
        losses: of each layer, (layers,).
        shares: of each seed in each resample (`resampled_shares`); equal ones where it is left out.
    """
    errors = paired_errors(over_seeds(right))
    if len(right) == 1:
        accuracies = resampled_accuracies(right[0], generator, resamples, shares)
    else:
        shares = np.full((resamples, len(right)), 1 / len(right)) if shares is None else shares
        apart = np.stack([resampled_accuracies(part, generator, resamples) for part in right])
        accuracies = np.einsum("rs,srl->rl", shares, apart)
    return np.array([choose_layer(row, losses, errors) for row in accuracies], dtype=np.intp)


def matched_layers(layers: int, count: int = MATCHED) -> NDArray[np.intp]:
    """Positions of the layers nearest to the depths 1/count, 2/count … 1, ascending, each once.

    The depth of position p is (p + 1) / layers. Of two layers equally near the later one is taken; a network
    of fewer than `count` layers gives all it has.
    """
    places = (2 * layers * np.arange(1, count + 1) + count) // (2 * count)  # rounded in whole numbers
    return np.unique(np.maximum(places, 1)) - 1


def ood_start(accuracies: Array) -> int | None:
    """The OOD reading of the start: the earliest best layer, or None when that is the last (no tunnel)."""
    best = int(np.argmax(accuracies))
    return best if accuracies[best] > accuracies[-1] else None


def pearson(id_accuracies: Array, ood_accuracies: Array) -> float:
    """Correlation of the ID and the OOD curve over the layers; NaN when one of them is flat."""
    id_centred = id_accuracies - id_accuracies.mean()
    ood_centred = ood_accuracies - ood_accuracies.mean()
    return _ratio(id_centred @ ood_centred, np.sqrt((id_centred @ id_centred) * (ood_centred @ ood_centred)))


def alignment(id_accuracy: float, ood_accuracy: float, id_chance: float, ood_chance: float) -> float:
    """(ID accuracy − chance) · (OOD accuracy − chance), both at the last layer, as shares."""
    return (id_accuracy - id_chance) * (ood_accuracy - ood_chance)


def band(mean_retained: float) -> str:
    """How strong a tunnel of this retained accuracy is called: negligible, weak, medium or strong."""
    return next((name for least, name in BANDS if mean_retained >= least), "strong")


def is_beyond_noise(kept: Estimate) -> bool:
    """Whether an accuracy retained is surely below 1: the rule by which a tunnel is claimed.

    `band` names how large a fall is, this whether there is one at all; false where r has no interval.
    """
    return kept.high is not None and kept.high < 1


def resampled_shares(count: int, generator: np.random.Generator, resamples: int = 1000) -> Array:
    """Share of each of `count` probe seeds, or draws, in bootstrap samples of them, (resamples, count)."""
    return generator.multinomial(count, np.full(count, 1 / count), size=resamples) / count


def resampled_accuracies(
    correct: Array, generator: np.random.Generator, resamples: int = 1000, shares: Array | None = None
) -> Array:
    """Accuracies of all layers on bootstrap samples of the test images, (resamples, layers).

    Every layer and every seed sees the same resample, so that differences between layers keep their pairing.

    Args:
        correct: one matrix (layers, images) a probe seed, (seeds, layers, images).
        shares: of each seed in each resample (`resampled_shares`); equal ones where it is left out.
    """
    seeds, layers, images = correct.shape
    if shares is None:
        shares = np.full((resamples, seeds), 1 / seeds)
    accuracies = np.empty((resamples, layers), dtype=np.float64)
    step = max(1, COUNTS_AT_ONCE // images)
    transposed = correct.reshape(-1, images).T.astype(np.float32)
    for first in range(0, resamples, step):
        size = min(step, resamples - first)
        counts = generator.multinomial(images, np.full(images, 1 / images), size=size)
        of_seeds = (counts.astype(np.float32) @ transposed / images).reshape(size, seeds, layers)
        accuracies[first : first + size] = np.einsum(
            "rs,rsl->rl", shares[first : first + size], of_seeds.astype(np.float64)
        )
    return accuracies


def interval(values: Array, level: float = 0.95) -> tuple[float | None, float | None]:
    """The central interval of resampled values; (None, None) where over 5 % of them are undefined."""
    usable = values[np.isfinite(values)]
    if len(usable) < (1 - MOST_UNDEFINED) * len(values) or not len(usable):
        return None, None
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def estimate(value: float, resamples: Array) -> Estimate:
    """A value beside the interval of its resamples; undefined (None) when it is not finite."""
    if not np.isfinite(value):
        return Estimate(None, None, None)
    low, high = interval(resamples)
    return Estimate(float(value), low, high)


def pooled(values: Array, resampled: Array, generator: np.random.Generator) -> Estimate:
    """The mean of a reading over several draws of classes; its interval holds draws and test rows.

    Args:
        values: of each draw, (draws,).
        resampled: the same on bootstrap samples of the rows, (draws, resamples).
    """
    shares = resampled_shares(len(values), generator, resampled.shape[1])
    return estimate(float(values.mean()), np.einsum("rd,dr->r", shares, resampled))


def over_resamples(statistic: Callable[..., float], *resampled: Array) -> Array:
    """Apply a statistic to each resample of one or several curves, (resamples,)."""
    return np.array([statistic(*curves) for curves in zip(*resampled, strict=True)])


def start_interval(resampled: Array, threshold: float) -> tuple[int, int]:
    """The positions between which the start lies in 95 % of the resamples of the ID curve."""
    starts = over_resamples(lambda curve: tunnel_start(curve, threshold), resampled)
    low, high = np.quantile(starts, [0.025, 0.975], method="inverted_cdf")
    return int(low), int(high)


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator > 0 else float("nan")
