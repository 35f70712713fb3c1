"""The 2023 paper's appendix: similarity and variances of the other networks, ResNets without skips.

Its list of figures is not known to us; names are ours.
"""

from typing import Any

from tunnelscope.reproduce.found import Found
from tunnelscope.reproduce.masarczyk2023 import claims, statistics
from tunnelscope.reproduce.masarczyk2023.experiment import EXACT, FAMILIES, TITLES, Experiment
from tunnelscope.reproduce.masarczyk2023.plots import cka_figure, ood_figure, variance_figure
from tunnelscope.reproduce.verdicts import at_least, below


def cka(experiment: Experiment) -> Found:
    """CKA between the layers of VGG-19 and of ResNet-34."""
    found = Found(experiment.seeds)
    panels = {}
    for family in ("vgg19", "resnet34"):
        panels[TITLES[family]] = curves = experiment.curves(family, EXACT)
        control = experiment.curves(family, EXACT, is_trained=False)
        claims.similarity(found, family, EXACT, curves, control)
    found.figures["appendix-cka"] = cka_figure(panels)
    return found


def variances(experiment: Experiment) -> Found:
    """Variances within and between classes of all three networks."""
    found = Found(experiment.seeds)
    for family in FAMILIES:
        claims.variances(found, family, EXACT, experiment.curves(family, EXACT))
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
            [float(one.tunnel.sum()) for one in curves],
            at_least(2),
            EXACT,
        )
        found.claim(
            f"C11 {name}: OOD accuracy retained",
            [statistics.retained(one.ood) for one in curves],
            below(0.9),
            EXACT,
        )
        found.claim(
            f"C3 {name}: last layer's rank over the largest",
            [statistics.rank_drop(one) for one in curves],
            below(0.5),
            f"{EXACT}; rank at 1e-3",
        )
        found.cell(f"{name}: layer after which the tunnel starts", [one.start() for one in curves], EXACT)
        found.cell(
            f"{name}: the network's own accuracy, %", [100 * one.own for one in curves if one.own], EXACT
        )
    found.figures["appendix-no-skip"] = ood_figure(panels)
    return found
