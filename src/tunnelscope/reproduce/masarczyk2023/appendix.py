"""The 2023 paper's appendix: similarity and variances of the other networks, ResNets without skips.

Its list of figures is not known to us; names are ours.
"""

from typing import Any

from tunnelscope.reproduce.found import Found
from tunnelscope.reproduce.masarczyk2023 import claims, statistics
from tunnelscope.reproduce.masarczyk2023.experiment import EXACT, FAMILIES, TITLES, Experiment
from tunnelscope.reproduce.masarczyk2023.plots import accuracy_and_rank, pairs_figure, variance_figure
from tunnelscope.reproduce.masarczyk2023.statistics import Curves, each
from tunnelscope.reproduce.verdicts import at_least, below


def cka(experiment: Experiment) -> Found:
    """CKA between the layers of VGG-19 and of ResNet-34."""
    found = Found(experiment.seeds)
    panels = {}
    for family in ("vgg19", "resnet34"):
        panels[TITLES[family]] = curves = experiment.curves(family, EXACT)
        claims.accuracy(found, TITLES[family], curves)
        claims.similarity(found, family, EXACT, curves)
    found.figures["appendix-cka"] = pairs_figure(
        {
            f"{title}, CKA": (curves[0].numbers, [one.cka for one in curves])
            for title, curves in panels.items()
        }
    )
    return found


def variances(experiment: Experiment) -> Found:
    """Variances within and between classes of all three networks."""
    found = Found(experiment.seeds)
    for family in FAMILIES:
        curves = experiment.curves(family, EXACT)
        claims.accuracy(found, TITLES[family], curves)
        claims.variances(found, family, EXACT, curves)
    found.figures["appendix-variances"] = variance_figure(
        {TITLES[family]: experiment.curves(family, EXACT) for family in FAMILIES}
    )
    return found


def no_skip(experiment: Experiment) -> Found:
    """ResNet-34 without skip connections beside the same network with them."""
    found = Found(experiment.seeds)
    panels = {}
    for skip, title in ((True, "with skips"), (False, "without skips")):
        arguments: dict[str, Any] = {} if skip else {"skip": "false"}
        curves = experiment.of_seeds(
            lambda seed, more=arguments: experiment.trained("resnet34", seed, **more),
            ood=[experiment.draws()],
        )
        panels[f"ResNet-34 {title}"] = curves
        name = f"ResNet-34 {title}"
        found.claim(
            f"C1 {name}: layers of the tunnel",
            each(curves, lambda one: float(one.tunnel.sum())),
            at_least(2),
            EXACT,
        )
        found.claim(
            f"C11 {name}: OOD accuracy retained",
            each(curves, lambda one: statistics.retained(one.ood)),
            below(0.9),
            EXACT,
        )
        found.claim(
            f"C3 {name}: last layer's rank over that where the tunnel starts",
            each(curves, lambda one: statistics.rank_drop(one, one.from_start)),
            below(claims.COLLAPSED),
            f"{EXACT}; rank at 1e-3",
        )
        found.cell(f"{name}: {claims.START}", each(curves, Curves.start), EXACT)
        claims.accuracy(found, name, curves)
    found.figures["appendix-no-skip"] = accuracy_and_rank(panels)
    return found
