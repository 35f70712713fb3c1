"""The claims of the 2023 paper that several items test, each judged under every reading an item gives it.

Their numbers C1 to C20 are ours. The paper's full text was not at hand: `published` holds what readers of the
paper report, and tests are ours where the paper states none.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunnelscope.reproduce.found import Found
from tunnelscope.reproduce.ledger import UNKNOWN
from tunnelscope.reproduce.masarczyk2023 import statistics
from tunnelscope.reproduce.masarczyk2023.experiment import CLASSES, EXACT, FLAT, TITLES, Experiment
from tunnelscope.reproduce.masarczyk2023.statistics import Curves
from tunnelscope.reproduce.verdicts import Test, above, at_least, below, within

STARTS = {"mlp": (5, 1), "vgg19": (8, 1), "resnet34": (19, 2)}  # published, and how near counts
REPLICATED = {"mlp": "4 and 5", "resnet34": "19 and 24"}  # at 95 and 98 %, by a replication
AGAINST = "against the untrained control"
SECOND_HAND = "second-hand"
COLLAPSED = 0.5  # of the largest rank: a drop is steep where less is left


def saturation(
    found: Found, family: str, reading: str, curves: Sequence[Curves], untrained: Sequence[Curves] = ()
) -> None:
    """C1: the probe is as good as the last one well before the end, and hardly gains from there on.

    So it is in a network that has learnt nothing, whose probes only fall; therefore the last layer's probe
    also has to be better than that of any layer of the untrained network.
    """
    title = TITLES[family]
    left = [float(one.tunnel.sum()) for one in curves]
    found.claim(f"C1 {title}: layers of the tunnel (95 % of the last probe)", left, at_least(2), reading)
    slopes = [statistics.accuracy_slope(one) for one in curves]
    words = f"C1 {title}: ID accuracy gained from the start on, points a layer"
    found.claim(words, slopes, below(0.5), reading)
    if untrained:
        gained = [
            100 * (one.id[-1] - control.id.max()) for one, control in zip(curves, untrained, strict=True)
        ]
        words = f"C1 {title}: last layer's ID accuracy less the best of any layer untrained, points"
        found.claim(words, gained, above(0), f"{reading}; {AGAINST}")


def starting_layer(found: Found, family: str, reading: str, curves: Sequence[Curves]) -> None:
    """C2: the layer after which the tunnel starts, under three rules; beside it that of 98 %."""
    title, (published, near) = TITLES[family], STARTS[family]
    rules = {
        "95 % of the last probe": [one.start() for one in curves],
        "95 % from there on": [one.stable_start() for one in curves],
        "95 % of the network's own accuracy": [one.start_of_own() for one in curves],
    }
    words = f"C2 {title}: layer after which the tunnel starts"
    for rule, values in rules.items():
        test = within(published - near, published + near)
        found.claim(words, values, test, f"{reading}; {rule}", f"{published}, {SECOND_HAND}")
    replicated = REPLICATED.get(family)
    note = f"a replication has {replicated} at 95 and 98 %" if replicated else ""
    starts = [one.start(0.98) for one in curves]
    found.cell(
        f"{title}: layer after which the tunnel starts", starts, f"{reading}; 98 % of the last probe", note
    )


def rank_collapse(
    found: Found, family: str, reading: str, curves: Sequence[Curves], untrained: Sequence[Curves]
) -> None:
    """The rank falls in the tunnel: what is left of the largest, also against the untrained network."""
    title = TITLES[family]
    for tolerance in ("1e-2", "1e-3", "1e-4"):
        values = [statistics.rank_drop(one, tolerance) for one in curves]
        words = f"C3 {title}: last layer's rank over the largest"
        found.claim(words, values, below(COLLAPSED), f"{reading}; rank at {tolerance}")
    pairs = list(zip(curves, untrained, strict=True))
    fallen = [statistics.rank_drop(one) - statistics.rank_drop(control) for one, control in pairs]
    words = f"C3 {title}: last layer's rank over the largest, less the same untrained"
    found.claim(words, fallen, below(0), f"{reading}; rank at 1e-3, {AGAINST}")
    there = [float(one.ranks["1e-3"][-1] / control.ranks["1e-3"][-1]) for one, control in pairs]
    words = f"C3 {title}: last layer's rank over the untrained network's there"
    found.claim(words, there, below(1), f"{reading}; rank at 1e-3, {AGAINST}")


def rank_of_classes(found: Found, family: str, reading: str, curves: Sequence[Curves], classes: int) -> None:
    """C3: in the tunnel the rank is about the number of classes."""
    for tolerance in ("1e-2", "1e-3", "1e-4"):
        values = [statistics.last_third(one.ranks[tolerance]) for one in curves]
        words = f"C3 {TITLES[family]}: rank over the last third of the layers, about the number of classes"
        found.claim(
            words,
            values,
            within(classes - 2, 2 * classes),
            f"{reading}; rank at {tolerance}",
            f"about {classes}, {SECOND_HAND}",
        )


def resnet_rank(found: Found, reading: str, curves: Sequence[Curves]) -> None:
    """C4: a ResNet's rank stays above the number of classes and has a spike at layer 29."""
    for tolerance in ("1e-2", "1e-3", "1e-4"):
        told = f"{reading}; rank at {tolerance}"
        ranks = [dict(zip(one.numbers.tolist(), one.ranks[tolerance], strict=True)) for one in curves]
        spikes = [float(rank[29] / max(rank[27], rank[31])) for rank in ranks]
        found.claim(
            "C4 ResNet-34: rank at layer 29 over the higher of layers 27 and 31",
            spikes,
            above(1),
            told,
            f"a spike, {SECOND_HAND}",
        )
        least = [float(min(rank.values())) for rank in ranks]
        found.claim(
            "C4 ResNet-34: least rank of any layer", least, above(10), told, f"above 10, {SECOND_HAND}"
        )


def ood(
    found: Found, family: str, reading: str, curves: Sequence[Curves], untrained: Sequence[Curves] = ()
) -> None:
    """C10 to C12: OOD accuracy peaks where the tunnel starts, falls in it, and goes with the rank there."""
    title = TITLES[family]
    away = [float(statistics.peak(one) - one.start()) for one in curves]
    words = f"C10 {title}: layers from the tunnel's start to the best OOD layer"
    found.claim(words, away, within(-2, 2), reading)
    kept = [statistics.retained(one.ood) for one in curves]
    published = {"mlp": "0.50–0.64, a replication", "resnet34": "0.62–0.63, a replication"}.get(
        family, UNKNOWN
    )
    words = f"C11 {title}: OOD accuracy retained at the last layer"
    found.claim(words, kept, below(0.9), reading, published)
    for name, extreme in (("least", np.min), ("most", np.max)):
        values = [float(extreme(one.ood[:, -1] / one.ood.max(axis=1))) for one in curves]
        found.cell(f"{title}: OOD accuracy retained, {name} of the draws of classes", values, reading)
    if untrained:
        gained = [
            one - statistics.retained(control.ood) for one, control in zip(kept, untrained, strict=True)
        ]
        words = f"C11 {title}: OOD accuracy retained, less the same untrained"
        found.claim(words, gained, below(0), f"{reading}; {AGAINST}")
    for tolerance in ("1e-2", "1e-3", "1e-4"):
        coupled(found, title, f"{reading}; rank on the ID set at {tolerance}", curves, untrained, tolerance)
    coupled(found, title, f"{reading}; rank on the OOD sets at 1e-3", curves, untrained, None)


def coupled(
    found: Found,
    title: str,
    reading: str,
    curves: Sequence[Curves],
    untrained: Sequence[Curves],
    tolerance: str | None,
) -> None:
    """C12 with one kind of rank (None: the OOD sets'): from the start on, over all layers, untrained."""

    def over(one: Curves, chosen: NDArray[np.bool_]) -> float | None:
        ranks = one.ood_ranks.mean(axis=0) if tolerance is None else one.ranks[tolerance]
        return statistics.coupling(ranks, one.ood, chosen)

    words = f"C12 {title}: rank correlation of numerical rank and OOD accuracy over layers"
    inside = [over(one, one.from_start) for one in curves]
    found.claim(words, inside, above(0.7), f"{reading}, from the start on")
    whole = [over(one, np.ones(len(one.numbers), dtype=bool)) for one in curves]
    found.claim(words, whole, above(0.7), f"{reading}, over all layers")
    if untrained:
        same = [over(control, one.from_start) for one, control in zip(curves, untrained, strict=True)]
        found.cell(f"{title}: the same of the untrained network, in the trained one's tunnel", same, reading)


def variances(found: Found, family: str, reading: str, curves: Sequence[Curves]) -> None:
    """C5: in the tunnel the variance within classes falls and that between them rises."""
    title = TITLES[family]
    found.claim(
        f"C5 {title}: slope of log(intra/inter) a layer in the tunnel",
        [statistics.collapse_slope(one) for one in curves],
        below(0),
        reading,
    )
    for name, words, test in (("within", "intra-class", below(0)), ("between", "inter-class", above(0))):
        values = [
            statistics.slope(one.numbers[one.from_start], np.log(getattr(one, name)[one.from_start]))
            for one in curves
        ]
        found.claim(
            f"C5 {title}: slope of log {words} variance a layer in the tunnel",
            values,
            test,
            f"{reading}; not free of scale",
        )


def similarity(
    found: Found, family: str, reading: str, curves: Sequence[Curves], untrained: Sequence[Curves]
) -> None:
    """C6: the tunnel's layers are more alike than the extractor's, and than the same layers untrained."""
    title = TITLES[family]
    for most_apart, told in ((None, "all pairs"), (1, "neighbouring layers")):
        gaps, against = [], []
        for one, control in zip(curves, untrained, strict=True):
            inside, outside = statistics.block_means(one.cka, one.tunnel, most_apart)
            before, _ = statistics.block_means(control.cka, one.tunnel, most_apart)
            gaps.append(None if inside is None or outside is None else inside - outside)
            against.append(None if inside is None or before is None else inside - before)
        words = f"C6 {title}: mean CKA in the tunnel less that in the extractor"
        found.claim(words, gaps, above(0), f"{reading}; {told}")
        words = f"C6 {title}: mean CKA in the tunnel less that of the same layers untrained"
        found.claim(words, against, above(0), f"{reading}; {told}, {AGAINST}")


def per_doubling(
    found: Found,
    words: str,
    curves: Mapping[Any, Sequence[Curves]],
    read: Callable[[Curves], float],
    test: Test,
    reading: str,
) -> None:
    """Judge by how many layers a reading of the curves moves when what was varied is doubled.

    Args:
        curves: of each seed, by what was varied.
    """
    doublings = [math.log2(varied) for varied in curves]
    of_seeds = zip(*([read(one) for one in told] for told in curves.values()), strict=True)
    found.claim(words, [statistics.slope(doublings, values) for values in of_seeds], test, reading)


def whole_split(found: Found, experiment: Experiment, family: str) -> None:
    """Everything of one network that the first two figures show, under every reading."""
    own = [one.own and 100 * one.own for one in experiment.curves(family, EXACT)]
    found.cell(f"{TITLES[family]}: the network's own accuracy, %", own, "test images of the scan")
    for reading in experiment.readings(family):
        curves = experiment.curves(family, reading)
        has_control = reading in (EXACT, FLAT)
        untrained = experiment.curves(family, reading, is_trained=False) if has_control else ()
        saturation(found, family, reading, curves, untrained)
        starting_layer(found, family, reading, curves)
        if not has_control:  # the ranks of EXACT again, or those of another read point without a control
            continue
        rank_collapse(found, family, reading, curves, untrained)
        if family == "resnet34":
            resnet_rank(found, reading, curves)
        else:
            rank_of_classes(found, family, reading, curves, CLASSES["cifar10"])
