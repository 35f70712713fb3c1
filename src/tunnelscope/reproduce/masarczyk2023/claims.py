"""The claims of the 2023 paper that several items test, each judged under every reading an item gives it.

Their numbers C1 to C20 are ours. The paper's full text was not at hand: `published` holds what readers of the
paper report, and tests are ours where the paper states none. Networks that have not learnt their task are
left out of every claim; those as they were drawn stand beside the trained ones where they were scanned.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunnelscope.reproduce.found import Found
from tunnelscope.reproduce.ledger import UNKNOWN
from tunnelscope.reproduce.masarczyk2023 import statistics
from tunnelscope.reproduce.masarczyk2023.experiment import CLASSES, EXACT, TITLES, Experiment
from tunnelscope.reproduce.masarczyk2023.statistics import Curves, against, each, less
from tunnelscope.reproduce.verdicts import Test, above, at_least, below, within

STARTS = {"mlp": (5, 1), "vgg19": (8, 1), "resnet34": (19, 2)}  # published, and how near counts
REPLICATED = {"mlp": "4 and 5", "resnet34": "19 and 27"}  # at 95 and 98 %, by a replication, of these layers
CONTROL = "against the untrained control"
SECOND_HAND = "second-hand"
COLLAPSED = 0.5  # of the rank at the start: a drop is steep where less is left
START = "layer after which the tunnel starts"
CLAIMS = {
    "C1": "accuracy saturates well before the last layer",
    "C2": "the tunnel starts after layer 5 (MLP), 8 (VGG-19), 19 (ResNet-34)",
    "C3": "the rank collapses in the tunnel, to about the number of classes",
    "C4": "a ResNet's rank stays higher, with a spike at layer 29",
    "C5": "in the tunnel classes contract and move apart",
    "C6": "the tunnel's layers are like each other",
    "C7": "the tunnel's weights soon stop changing",
    "C8": "without what the tunnel has learnt the accuracy is lost",
    "C9": "the rank has collapsed after 75 steps, and stays so",
    "C10": "OOD accuracy is best where the tunnel starts",
    "C11": "the tunnel loses OOD accuracy",
    "C12": "in the tunnel OOD accuracy goes with the rank",
    "C13": "more depth lengthens the tunnel alone",
    "C14": "wider networks have longer tunnels, save for ResNets",
    "C15": "more classes make the tunnel shorter",
    "C16": "the number of images does not move the tunnel",
    "C17": "with more classes OOD accuracy is best at a later layer",
    "C18": "tunnels of two tasks can be swapped",
    "C19": "the extractor alone recovers the first task better than with its tunnel",
    "C20": "networks without a tunnel forget less",
}


def accuracy(found: Found, title: str, curves: Sequence[Curves]) -> None:
    """The networks' own accuracy, and which of them have not learnt their task."""
    without = [str(seed) for seed, one in zip(found.seeds, curves, strict=False) if not one.has_learnt]
    note = (
        f"seeds {', '.join(without)} have not learnt their task and are left out of every claim"
        if without
        else ""
    )
    own = [one.own and 100 * one.own for one in curves]
    found.cell(f"{title}: the network's own accuracy, %", own, "test images of the scan", note)


def saturation(found: Found, family: str, reading: str, curves: Sequence[Curves]) -> None:
    """C1: the probe is as good as the last one well before the end, and hardly gains from there on.

    So it is in a network that has learnt nothing, whose probes only fall; therefore the last layer's probe
    also has to be better than that of any layer of the untrained network.
    """
    title = TITLES[family]
    left = each(curves, lambda one: float(one.tunnel.sum()))
    found.claim(f"C1 {title}: layers of the tunnel (95 % of the last probe)", left, at_least(2), reading)
    words = f"C1 {title}: ID accuracy gained from the start on, points a layer"
    found.claim(words, each(curves, statistics.accuracy_slope), below(0.5), reading)
    if has_control(curves):
        gained = against(curves, lambda one, control: 100 * float(one.id[-1] - control.id.max()))
        words = f"C1 {title}: last layer's ID accuracy less the best of any layer untrained, points"
        found.claim(words, gained, above(0), f"{reading}; {CONTROL}")


def has_control(curves: Sequence[Curves]) -> bool:
    """Whether the networks were scanned as they were drawn, too."""
    return any(one.control is not None for one in curves)


def starting_layer(found: Found, family: str, reading: str, curves: Sequence[Curves]) -> None:
    """C2: the layer after which the tunnel starts, under three rules; beside it that of 98 %."""
    title, (published, near) = TITLES[family], STARTS[family]
    rules: dict[str, Callable[[Curves], float | None]] = {
        "95 % of the last probe": Curves.start,
        "95 % from there on": Curves.stable_start,
        "95 % of the network's own accuracy": Curves.start_of_own,
    }
    words = f"C2 {title}: {START}"
    for rule, start in rules.items():
        test = within(published - near, published + near)
        found.claim(words, each(curves, start), test, f"{reading}; {rule}", f"{published}, {SECOND_HAND}")
    replicated = REPLICATED.get(family)
    note = f"a replication has {replicated} at 95 and 98 %" if replicated else ""
    starts = each(curves, lambda one: one.start(0.98))
    found.cell(f"{title}: {START}", starts, f"{reading}; 98 % of the last probe", note)


def rank_collapse(found: Found, family: str, reading: str, curves: Sequence[Curves]) -> None:
    """The rank falls in the tunnel: what is left of that at its start, also against the untrained network."""
    title = TITLES[family]
    for tolerance in curves[0].ranks:
        values = each(
            curves, lambda one, tolerance=tolerance: statistics.rank_drop(one, one.from_start, tolerance)
        )
        words = f"C3 {title}: last layer's rank over that where the tunnel starts"
        found.claim(words, values, below(COLLAPSED), f"{reading}; rank at {tolerance}")
    words = f"C3 {title}: last layer's rank over that at the start, both as shares of the attainable rank"
    found.claim(words, each(curves, statistics.rank_share_drop), below(COLLAPSED), f"{reading}; rank at 1e-3")
    if not has_control(curves):
        return
    told = f"{reading}; rank at 1e-3, {CONTROL}"
    words = f"C3 {title}: last layer's rank over that where the tunnel starts, less the same untrained"
    found.claim(words, against(curves, fallen_further), below(0), told)
    there = against(curves, lambda one, control: float(one.ranks["1e-3"][-1] / control.ranks["1e-3"][-1]))
    found.claim(f"C3 {title}: last layer's rank over the untrained network's there", there, below(1), told)


def fallen_further(one: Curves, control: Curves) -> float | None:
    """By how much less rank is left over the tunnel than over the same layers untrained."""
    inside = one.from_start
    return less(statistics.rank_drop(one, inside), statistics.rank_drop(control, inside))


def rank_of_classes(found: Found, family: str, reading: str, curves: Sequence[Curves], classes: int) -> None:
    """C3: in the tunnel the rank is about the number of classes."""
    words = f"C3 {TITLES[family]}: rank over the last third of the layers, about the number of classes"
    for tolerance in curves[0].ranks:
        values = each(curves, lambda one, tolerance=tolerance: statistics.last_third(one.ranks[tolerance]))
        test, published = within(classes - 2, 2 * classes), f"about {classes}, {SECOND_HAND}"
        found.claim(words, values, test, f"{reading}; rank at {tolerance}", published)


def resnet_rank(found: Found, reading: str, curves: Sequence[Curves]) -> None:
    """C4: a ResNet's rank stays above the number of classes and has a spike at layer 29."""
    for tolerance in curves[0].ranks:
        told = f"{reading}; rank at {tolerance}"

        def spike(one: Curves, tolerance: str = tolerance) -> float:
            rank = dict(zip(one.numbers.tolist(), one.ranks[tolerance], strict=True))
            return float(rank[29] / max(rank[27], rank[31]))

        words = "C4 ResNet-34: rank at layer 29 over the higher of layers 27 and 31"
        found.claim(words, each(curves, spike), above(1), told, f"a spike, {SECOND_HAND}")
        least = each(curves, lambda one, tolerance=tolerance: statistics.least_rank(one, 10, tolerance))
        words = "C4 ResNet-34: least rank of any layer that can have more than 10"
        found.claim(words, least, above(10), told, f"above 10, {SECOND_HAND}")


def ood(found: Found, family: str, reading: str, curves: Sequence[Curves]) -> None:
    """C10 to C12: OOD accuracy peaks where the tunnel starts, falls in it, and goes with the rank there."""
    title = TITLES[family]
    away = each(curves, lambda one: statistics.from_start_to_peak(one, one))
    words = f"C10 {title}: layers from the tunnel's start to the best OOD layer"
    found.claim(words, away, within(-2, 2), reading)
    kept = each(curves, lambda one: statistics.retained(one.ood))
    published = {"mlp": "repl. 0.50–0.64", "resnet34": "repl. 0.62–0.63"}.get(family, UNKNOWN)
    found.claim(f"C11 {title}: OOD accuracy retained at the last layer", kept, below(0.9), reading, published)
    for name, extreme in (("least", np.min), ("most", np.max)):
        values = each(curves, lambda one, of=extreme: float(of(one.ood[:, -1] / one.ood.max(axis=1))))
        found.cell(f"{title}: OOD accuracy retained, {name} of the draws of classes", values, reading)
    if has_control(curves):
        ood_against_control(found, title, reading, curves)
    for tolerance in curves[0].ranks:
        coupled(found, title, f"{reading}; rank on the ID set at {tolerance}", curves, tolerance)
    coupled(found, title, f"{reading}; rank on the OOD sets at 1e-3", curves, None)


def ood_against_control(found: Found, title: str, reading: str, curves: Sequence[Curves]) -> None:
    """C10 and C11 of the network as it was drawn, in which no tunnel was learnt."""
    same = against(curves, statistics.from_start_to_peak)
    words = f"{title}: layers from the trained network's start to the untrained network's best OOD layer"
    found.cell(words, same, f"{reading}; {CONTROL}")
    nearer = against(curves, peak_nearer)
    words = f"C10 {title}: layers between the start and the best OOD layer, less the same untrained"
    found.claim(words, nearer, below(0), f"{reading}; {CONTROL}")
    gained = against(
        curves, lambda one, control: statistics.retained(one.ood) - statistics.retained(control.ood)
    )
    words = f"C11 {title}: OOD accuracy retained, less the same untrained"
    found.claim(words, gained, below(0), f"{reading}; {CONTROL}")


def peak_nearer(one: Curves, control: Curves) -> float | None:
    """By how many layers the best OOD layer is nearer to the start than the untrained network's."""
    own, other = (statistics.from_start_to_peak(one, of) for of in (one, control))
    return None if own is None or other is None else abs(own) - abs(other)


def coupled(found: Found, title: str, reading: str, curves: Sequence[Curves], tolerance: str | None) -> None:
    """C12 with one kind of rank (None: the OOD sets'): from the start on, and beside the untrained network.

    Over all layers, where nobody claims it, it is told as well.
    """

    def over(one: Curves, chosen: NDArray[np.bool_]) -> float | None:
        ranks = one.ood_ranks.mean(axis=0) if tolerance is None else one.ranks[tolerance]
        return statistics.coupling(ranks, one.ood, chosen)

    words = f"C12 {title}: rank correlation of numerical rank and OOD accuracy over layers"
    inside = each(curves, lambda one: over(one, one.from_start))
    found.claim(words, inside, above(0.7), f"{reading}, from the start on")
    whole = each(curves, lambda one: over(one, np.ones(len(one.numbers), dtype=bool)))
    found.cell(f"{title}: {words.partition(': ')[2]}", whole, f"{reading}, over all layers")
    if not has_control(curves):
        return

    def more(one: Curves, control: Curves) -> float | None:
        return less(over(one, one.from_start), over(control, one.from_start))

    words = f"C12 {title}: that correlation in the tunnel, less that of the same layers untrained"
    found.claim(words, against(curves, more), above(0), f"{reading}; {CONTROL}")


def variances(found: Found, family: str, reading: str, curves: Sequence[Curves]) -> None:
    """C5: in the tunnel the variance within classes falls and that between them rises."""
    title = TITLES[family]
    words = f"C5 {title}: slope of log(intra/inter) a layer in the tunnel"
    found.claim(words, each(curves, statistics.collapse_slope), below(0), reading)
    for name, told, test in (("within", "intra-class", below(0)), ("between", "inter-class", above(0))):
        values = each(
            curves,
            lambda one, name=name: statistics.slope(
                one.numbers[one.from_start], np.log(getattr(one, name)[one.from_start])
            ),
        )
        words = f"C5 {title}: slope of log {told} variance a layer in the tunnel"
        found.claim(words, values, test, f"{reading}; not free of scale")
    if has_control(curves):
        steeper = against(curves, steeper_collapse)
        words = f"C5 {title}: slope of log(intra/inter) in the tunnel, less that of the same layers untrained"
        found.claim(words, steeper, below(0), f"{reading}; {CONTROL}")


def steeper_collapse(one: Curves, control: Curves) -> float | None:
    """By how much classes contract faster over the tunnel than over the same layers untrained."""
    return less(statistics.collapse_slope(one), statistics.collapse_slope(control, one.from_start))


def similarity(found: Found, family: str, reading: str, curves: Sequence[Curves]) -> None:
    """C6: the tunnel's layers are more alike than the extractor's, and than the same layers untrained."""
    title = TITLES[family]

    def gap(one: Curves, most_apart: int | None) -> float | None:
        return less(*statistics.block_means(one.cka, one.tunnel, most_apart))

    def gained(one: Curves, control: Curves, most_apart: int | None) -> float | None:
        inside, _ = statistics.block_means(one.cka, one.tunnel, most_apart)
        before, _ = statistics.block_means(control.cka, one.tunnel, most_apart)
        return less(inside, before)

    for apart, told in ((None, "all pairs"), (1, "neighbouring layers")):
        words = f"C6 {title}: mean CKA in the tunnel less that in the extractor"
        gaps = each(curves, lambda one, apart=apart: gap(one, apart))
        found.claim(words, gaps, above(0), f"{reading}; {told}")
        words = f"C6 {title}: mean CKA in the tunnel less that of the same layers untrained"
        more = against(curves, lambda one, control, apart=apart: gained(one, control, apart))
        found.claim(words, more, above(0), f"{reading}; {told}, {CONTROL}")


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
    of_seeds = zip(*(each(told, read) for told in curves.values()), strict=True)
    slopes = [None if None in values else statistics.slope(doublings, values) for values in of_seeds]
    found.claim(words, slopes, test, reading)


def start_by_classes(found: Found, title: str, curves: Mapping[Any, Sequence[Curves]]) -> None:
    """C15, also of what probes are above chance: of few classes 95 % of an accuracy are reached sooner."""
    words = f"C15 {title}: layers by which the tunnel's start moves per doubling of the classes"
    per_doubling(found, words, curves, Curves.start, above(0), EXACT)
    rule = f"{EXACT}; 95 % of the way from chance to the last probe"
    per_doubling(found, words, curves, Curves.start_above_chance, above(0), rule)


def whole_split(found: Found, experiment: Experiment, family: str) -> None:
    """Everything of one network that the first two figures show, under every reading."""
    accuracy(found, TITLES[family], experiment.curves(family, EXACT))
    for reading in experiment.readings(family):
        curves = experiment.curves(family, reading)
        saturation(found, family, reading, curves)
        starting_layer(found, family, reading, curves)
        if not experiment.has_own_rank(reading):
            continue
        rank_collapse(found, family, reading, curves)
        if family == "resnet34":
            resnet_rank(found, reading, curves)
        else:
            rank_of_classes(found, family, reading, curves, CLASSES["cifar10"])
