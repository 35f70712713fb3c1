"""Tables 1 to 3 of the 2023 paper: where the tunnel starts by network, data, width, classes and images."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from tunnelscope.reproduce.found import Figure, Found, line_rows
from tunnelscope.reproduce.masarczyk2023 import claims
from tunnelscope.reproduce.masarczyk2023.claims import START
from tunnelscope.reproduce.masarczyk2023.experiment import (
    CLASSES,
    EXACT,
    FAMILIES,
    NAMES,
    RECIPE,
    TITLES,
    Experiment,
)
from tunnelscope.reproduce.masarczyk2023.figures import by_classes
from tunnelscope.reproduce.masarczyk2023.plots import accuracy_and_rank
from tunnelscope.reproduce.masarczyk2023.statistics import Curves, each
from tunnelscope.reproduce.verdicts import at_least, below, no_effect, within

NO_LAYER = 1.0  # a doubling of the width moves the start by less than a layer
CINIC = "CINIC-10 is not at hand: no copy of it could be had"


def table1(experiment: Experiment) -> Found:
    """Where the tunnel starts, three networks on CIFAR-10 and CIFAR-100."""
    found = Found(experiment.seeds)
    panels: dict[str, Sequence[Curves]] = {}
    for family in FAMILIES:
        for data in CLASSES:
            title = f"{TITLES[family]} on {NAMES[data]}"
            for reading in (EXACT, RECIPE):
                curves = experiment.curves(family, reading, data=data)
                left = each(curves, lambda one: float(one.tunnel.sum()))
                found.claim(f"C1 {title}: layers of the tunnel", left, at_least(2), reading)
                starts(found, title, curves, reading)
            panels[title] = experiment.curves(family, EXACT, data=data)
            claims.accuracy(found, title, panels[title])
        found.not_comparable(f"{TITLES[family]} on CINIC-10: {START}", CINIC)
    found.figures["table1"] = accuracy_and_rank(panels)
    return found


def starts(found: Found, title: str, curves: Sequence[Curves], reading: str) -> None:
    """The paper's two columns: the layer after which the tunnel starts, at 95 and at 98 %."""
    for share in (0.95, 0.98):
        values = each(curves, lambda one, share=share: one.start(share))
        found.cell(f"{title}: {START}", values, f"{reading}; {share:.0%} of the last probe")


def table2(experiment: Experiment) -> Found:
    """Wider networks have longer tunnels, save for ResNet-34."""
    found = Found(experiment.seeds)
    rows = []
    for family in FAMILIES:
        curves = {width: by_width(experiment, family, width) for width in experiment.scale.widths}
        for share in (0.95, 0.98):
            rule = f"{EXACT}; {share:.0%} of the last probe"
            test = no_effect(NO_LAYER) if family == "resnet34" else below(0)
            words = f"C14 {TITLES[family]}: layers by which the start moves per doubling of the width"
            claims.per_doubling(found, words, curves, partial(Curves.start, share=share), test, rule)
        for width, own in curves.items():
            title = f"{TITLES[family]}, {width:g} of the paper's width"
            starts(found, title, own, EXACT)
            claims.accuracy(found, title, own)
        rows += start_series(TITLES[family], list(curves), list(curves.values()))
    found.figures["table2"] = Figure(pd.DataFrame(rows), "width, times the paper's", "start, layer")
    return found


def by_width(experiment: Experiment, family: str, width: float) -> list[Curves]:
    """Networks of one width on CIFAR-10."""
    if width == experiment.scale.width[family]:
        return experiment.curves(family, EXACT)
    return experiment.of_seeds(lambda seed: experiment.trained(family, seed, width=width))


def table3(experiment: Experiment) -> Found:
    """More classes make the tunnel shorter; more images of the same classes do not."""
    found = Found(experiment.seeds)
    rows = []
    for family in ("vgg19", "resnet34"):
        sweeps = experiment.scale.classes if family == "vgg19" else experiment.scale.resnet_classes
        for data, counts in sweeps.items():
            curves = {count: by_classes(experiment, family, data, count) for count in counts}
            title = f"{TITLES[family]} on {NAMES[data]}"
            claims.start_by_classes(found, title, curves)
            for count, own in curves.items():
                words = f"{TITLES[family]} on {count} classes of {NAMES[data]}"
                starts(found, words, own, EXACT)
                claims.accuracy(found, words, own)
            rows += start_series(title, list(counts), list(curves.values()))
        found.not_comparable(f"C16 {TITLES[family]}: start on CINIC-10 less that on CIFAR-10", CINIC)
    images(found, experiment)
    found.figures["table3"] = Figure(pd.DataFrame(rows), "classes", "start, layer")
    return found


def images(found: Found, experiment: Experiment) -> None:
    """C16: VGG-19 on shares of CIFAR-10's training images, at equally many gradient steps."""
    all_rows = experiment.scale.images or experiment.lab.rows_of("cifar10")
    curves = {share: by_images(experiment, share, all_rows) for share in experiment.scale.shares}
    whole = curves[max(curves)]
    for share, less in curves.items():
        title = f"VGG-19 on {share:.0%} of the images"
        starts(found, title, less, EXACT)
        claims.accuracy(found, title, less)
        if less is whole:
            continue
        moved = [
            float(one.start() - other.start()) if one.has_learnt and other.has_learnt else None
            for one, other in zip(less, whole, strict=True)
        ]
        found.claim(
            f"C16 VGG-19: start on {share:.0%} of CIFAR-10's images less that on all",
            moved,
            within(-1, 1),
            EXACT,
        )


def by_images(experiment: Experiment, share: float, all_rows: int) -> list[Curves]:
    """VGG-19 on a share of the training images, probed on the whole set."""
    query = "" if share == 1 else f"max_samples={round(share * all_rows)}"
    return experiment.of_seeds(lambda seed: experiment.trained("vgg19", seed, query=query, longer=1 / share))


def start_series(
    panel: str, x: Sequence[float], curves: Sequence[Sequence[Curves]]
) -> list[dict[str, object]]:
    """Rows of a line of starts over what was varied."""
    rows = []
    for share in (0.95, 0.98):
        seeds = range(len(curves[0]))
        values = [np.array([of_one[seed].start(share) for of_one in curves], dtype=float) for seed in seeds]
        rows += line_rows(panel, f"{share:.0%} of the last probe", np.asarray(x, dtype=float), values)
    return rows
