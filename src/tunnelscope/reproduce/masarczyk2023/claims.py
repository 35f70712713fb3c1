"""The claims of the 2023 paper that several items test, each judged under every reading an item gives it.

Their numbers C1 to C20 are ours. The paper's full text was not at hand: `published` holds what readers of the
paper report, and tests are ours where the paper states none.
"""

from collections.abc import Sequence

import numpy as np

from tunnelscope.reproduce.found import Found
from tunnelscope.reproduce.masarczyk2023 import statistics
from tunnelscope.reproduce.masarczyk2023.experiment import CLASSES, EXACT, FLAT, TITLES, Experiment
from tunnelscope.reproduce.masarczyk2023.statistics import Curves
from tunnelscope.reproduce.verdicts import above, at_least, below, within

STARTS = {"mlp": (5, 1), "vgg19": (8, 1), "resnet34": (19, 2)}  # where the tunnel starts, and how near counts
SECOND_HAND = "second-hand"
COLLAPSED = 0.5  # of the largest rank: a drop is steep where less is left


def saturation(found: Found, family: str, reading: str, curves: Sequence[Curves]) -> None:
    """C1: the probe is as good as the last one well before the end, and hardly gains from there on."""
    title = TITLES[family]
    left = [float(one.tunnel.sum()) for one in curves]
    found.claim(f"C1 {title}: layers of the tunnel (95 % of the last probe)", left, at_least(2), reading)
    slopes = [statistics.accuracy_slope(one) for one in curves]
    words = f"C1 {title}: ID accuracy gained from the start on, points a layer"
    found.claim(words, slopes, below(0.5), reading)


def starting_layer(found: Found, family: str, reading: str, curves: Sequence[Curves]) -> None:
    """C2: the number of the layer after which the tunnel starts, under four rules."""
    title, (published, near) = TITLES[family], STARTS[family]
    test = within(published - near, published + near)
    rules = {
        "95 % of the last probe": [one.start() for one in curves],
        "98 % of the last probe": [one.start(0.98) for one in curves],
        "95 % from there on": [one.stable_start() for one in curves],
        "95 % of the network's own accuracy": [one.start_of_own() for one in curves],
    }
    for rule, values in rules.items():
        words = f"C2 {title}: layer after which the tunnel starts"
        found.claim(words, values, test, f"{reading}; {rule}", f"{published}, {SECOND_HAND}")


def rank_collapse(
    found: Found, family: str, reading: str, curves: Sequence[Curves], untrained: Sequence[Curves]
) -> None:
    """The rank falls in the tunnel: what is left of the largest, also against the untrained network."""
    title = TITLES[family]
    for tolerance in ("1e-2", "1e-3", "1e-4"):
        values = [statistics.rank_drop(one, tolerance) for one in curves]
        words = f"C3 {title}: last layer's rank over the largest"
        found.claim(words, values, below(COLLAPSED), f"{reading}; rank at {tolerance}")
    against = [
        one.ranks["1e-3"][-1] / control.ranks["1e-3"][-1]
        for one, control in zip(curves, untrained, strict=True)
    ]
    words = f"C3 {title}: last layer's rank over the untrained network's there"
    found.claim(words, against, below(1), f"{reading}; rank at 1e-3, against the untrained control")


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


def ood(found: Found, family: str, reading: str, curves: Sequence[Curves]) -> None:
    """C10 to C12: OOD accuracy peaks where the tunnel starts, falls in it, and goes with the rank there."""
    title = TITLES[family]
    away = [
        float(
            np.flatnonzero(one.numbers == statistics.peak(one))[0]
            - np.flatnonzero(one.numbers == one.start())[0]
        )
        for one in curves
    ]
    found.claim(
        f"C10 {title}: read points from the tunnel's start to the best OOD layer",
        away,
        within(-2, 2),
        reading,
    )
    kept = [statistics.retained(one.ood) for one in curves]
    published = {"mlp": "0.50–0.64, a replication", "resnet34": "0.62–0.63, a replication"}.get(
        family, "unknown"
    )
    found.claim(f"C11 {title}: OOD accuracy retained at the last layer", kept, below(0.9), reading, published)
    for rows, told in (("ranks", "rank on the ID set"), ("ood_ranks", "rank on the OOD sets")):
        values = {"from the start on": [], "over all layers": []}
        for one in curves:
            ranks = one.ranks["1e-3"] if rows == "ranks" else one.ood_ranks.mean(axis=0)
            values["from the start on"].append(statistics.coupling(ranks, one.ood, one.from_start))
            values["over all layers"].append(
                statistics.coupling(ranks, one.ood, np.ones(len(ranks), dtype=bool))
            )
        for where, numbers in values.items():
            words = f"C12 {title}: rank correlation of numerical rank and OOD accuracy over layers"
            found.claim(words, numbers, above(0.7), f"{reading}; {told}, {where}")


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
    gaps, against = [], []
    for one, control in zip(curves, untrained, strict=True):
        inside, outside = statistics.block_means(one.cka, one.tunnel)
        before, _ = statistics.block_means(control.cka, one.tunnel)
        gaps.append(None if inside is None or outside is None else inside - outside)
        against.append(None if inside is None or before is None else inside - before)
    found.claim(f"C6 {title}: mean CKA in the tunnel less that in the extractor", gaps, above(0), reading)
    found.claim(
        f"C6 {title}: mean CKA in the tunnel less that of the same layers untrained",
        against,
        above(0),
        f"{reading}; against the untrained control",
    )


def whole_split(found: Found, experiment: Experiment, family: str) -> None:
    """Everything of one network that the first two figures show, under every reading."""
    for reading in experiment.readings(family):
        curves = experiment.curves(family, reading)
        saturation(found, family, reading, curves)
        starting_layer(found, family, reading, curves)
        if reading not in (EXACT, FLAT):  # a rank knows nothing of the probe
            continue
        rank_collapse(found, family, reading, curves, experiment.curves(family, reading, is_trained=False))
        if family == "resnet34":
            resnet_rank(found, reading, curves)
        else:
            rank_of_classes(found, family, reading, curves, CLASSES["cifar10"])
