"""Figures 1 to 9 of the 2023 paper, one function each: what it trains, what it measures, what it judges."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

import tunnelscope as ts
from tunnelscope.reproduce.found import Found
from tunnelscope.reproduce.masarczyk2023 import claims, statistics
from tunnelscope.reproduce.masarczyk2023.experiment import (
    CLASSES,
    EXACT,
    FAMILIES,
    TITLES,
    Experiment,
    activations,
)
from tunnelscope.reproduce.masarczyk2023.plots import (
    FIRST_STEPS,
    accuracy_and_rank,
    change_figure,
    pairs_figure,
    rank_figure,
    variance_figure,
)
from tunnelscope.reproduce.masarczyk2023.statistics import Curves, each
from tunnelscope.reproduce.verdicts import above, at_most, below

QUIET = (1 / 8, 1 / 2)  # of the training, in which weights change little: epochs 20 to 80 of 160
MLP_DEPTH = 12
RESETS = (
    "initial weights, own head",
    "initial weights, fresh probe on the last layer",
)
REDRAWN = "drawn anew instead, own head"
UNPOOLED = "not redone: the picture's settings are not known to us, and no number follows from it"


def fig1(experiment: Experiment) -> Found:
    """The split of VGG-19 on CIFAR-10: probe accuracy saturates where the numerical rank falls."""
    found = Found(experiment.seeds)
    claims.whole_split(found, experiment, "vgg19")
    found.figures["fig1"] = accuracy_and_rank({"VGG-19": experiment.curves("vgg19", EXACT)})
    return found


def fig2(experiment: Experiment) -> Found:
    """The same of an MLP, VGG-19 and ResNet-34."""
    found = Found(experiment.seeds)
    for family in FAMILIES:
        claims.whole_split(found, experiment, family)
    ranks = [
        each(experiment.curves(family, EXACT), lambda one: statistics.last_third(one.ranks["1e-3"]))
        for family in FAMILIES
    ]
    higher = [
        resnet / max(mlp, vgg) if mlp and vgg and resnet else None
        for mlp, vgg, resnet in zip(*ranks, strict=True)
    ]
    words = "C4 ResNet-34: rank over its last third, over the higher of MLP and VGG-19"
    found.claim(words, higher, above(1), f"{EXACT}; rank at 1e-3")
    panels = {TITLES[family]: experiment.curves(family, EXACT) for family in FAMILIES}
    found.figures["fig2"] = accuracy_and_rank(panels)
    return found


def fig3(experiment: Experiment) -> Found:
    """Variances within and between classes of VGG-19."""
    found = Found(experiment.seeds)
    curves = experiment.curves("vgg19", EXACT)
    claims.accuracy(found, "VGG-19", curves)
    claims.variances(found, "vgg19", EXACT, curves)
    found.not_comparable("UMAP of the layers", UNPOOLED)
    found.figures["fig3"] = variance_figure({"VGG-19": curves})
    return found


def fig4(experiment: Experiment) -> Found:
    """CKA between the layers of the MLP, and how far each layer's representation is from the one before."""
    found = Found(experiment.seeds)
    curves = experiment.curves("mlp", EXACT)
    claims.accuracy(found, "MLP", curves)
    claims.similarity(found, "mlp", EXACT, curves)
    ratios, apart = [], []
    for seed, one in zip(experiment.seeds, curves, strict=True):
        apart.append(layer_differences(experiment, seed))
        steps, inside = np.diagonal(apart[-1], 1), one.tunnel[1:]
        is_split = one.has_learnt and inside.any() and not inside.all()
        ratios.append(float(steps[inside].mean() / steps[~inside].mean()) if is_split else None)
    words = "C6 MLP: mean L1 difference between neighbouring layers, tunnel over extractor"
    found.claim(words, ratios, below(1), "test images, each layer scaled to a mean absolute value of 1")
    found.figures["fig4"] = pairs_figure(
        {
            "MLP, CKA": (curves[0].numbers, [one.cka for one in curves]),
            "MLP, L1 difference": (curves[0].numbers, apart),
        }
    )
    return found


def layer_differences(experiment: Experiment, seed: int) -> np.ndarray:
    """Mean absolute difference between the MLP's layers over test images, (layers, layers)."""
    network = experiment.trained("mlp", seed).network()
    test = ts.load_data(experiment.lab.source("cifar10"), max_samples=experiment.scale.rows, seed=seed).test
    features = list(ts.record(network, test, layers="convs").values())
    scaled = [one / one.abs().mean() for one in features]
    return np.array([[float((one - other).abs().mean()) for other in scaled] for one in scaled])


def fig5(experiment: Experiment) -> Found:
    """Weights of VGG-19 over training, and what becomes of it when its tunnel is set back."""
    found = Found(experiment.seeds)
    changes: dict[str, list[float | None]] = {"weight_change_rms": [], "weight_change_relative": []}
    frames = []
    claims.accuracy(found, "VGG-19", experiment.curves("vgg19", EXACT))
    for seed, one in zip(experiment.seeds, experiment.curves("vgg19", EXACT), strict=True):
        table: Any = history(experiment, seed).frame
        moved = table[table["quantity"].isin(list(changes))].copy()
        moved["place"] = moved["layer"].map(
            {name: place for place, name in enumerate(moved["layer"].unique(), 1)}
        )
        for quantity, values in changes.items():
            values.append(quiet_ratio(moved[moved["quantity"] == quantity], one))
        frames.append(moved[moved["quantity"] == "weight_change_rms"])
    for quantity, told in (
        ("weight_change_rms", "root mean square of the change"),
        ("weight_change_relative", "change over the norm"),
    ):
        words = "C7 VGG-19: change of weights from 1/8 to 1/2 of the training, tunnel over extractor"
        found.claim(words, changes[quantity], below(1), told)
    resets(found, experiment)
    found.figures["fig5"] = change_figure(frames)
    return found


def quiet_ratio(moved: Any, curves: Curves) -> float | None:
    """Mean change of the tunnel's layers over that of the extractor's, while the first rate lasts."""
    steps = moved["run"].str.removeprefix("step-").astype(int)
    share = steps / steps.max()
    if not curves.has_learnt:
        return None
    is_layer = moved["place"] <= curves.numbers[-1]  # not the classifier
    quiet = moved[is_layer & (share > QUIET[0]) & (share <= QUIET[1])]
    inside = quiet["place"] > curves.start()
    if not inside.any():
        return None
    inside_mean, outside_mean = quiet["value"][inside].mean(), quiet["value"][~inside].mean()
    return float(inside_mean / outside_mean) if outside_mean else None


def resets(found: Found, experiment: Experiment) -> None:
    """C8: without what it has learnt, the tunnel destroys accuracy; beside two controls."""
    curves = experiment.curves("vgg19", EXACT)
    told = [reset_losses(experiment, seed, one) for seed, one in zip(experiment.seeds, curves, strict=True)]
    words = "C8 VGG-19: accuracy after the tunnel's reset less before, points"
    for reading in RESETS:
        found.claim(words, [one[reading] for one in told], below(-20), reading)
    found.cell("VGG-19: the same, points", [one[REDRAWN] for one in told], REDRAWN)


def reset_losses(experiment: Experiment, seed: int, curves: Curves) -> Mapping[str, float | None]:
    """Points of accuracy that are lost, by reading; None of a network that has no tunnel to set back."""
    if not (curves.has_learnt and curves.tunnel.any()):
        return dict.fromkeys((*RESETS, REDRAWN))
    scale, source = experiment.scale, experiment.lab.source("cifar10")
    trained = experiment.trained("vgg19", seed)
    told = experiment.lab.reset(
        trained,
        layer=activations(trained.network().module)[curves.start() - 1],  # the start's norm stays trained
        draws=scale.resets,
        id=source,
        layers="blocks",
        probe=scale.probe,
        seed=seed,
        max_samples=scale.rows,
    )
    own = {name: one["network_accuracy"]["value"] for name, one in told.items()}
    fresh = {name: one["last_layer"]["cifar10"]["accuracy"] for name, one in told.items()}
    drawn = float(np.mean([value for name, value in own.items() if name.startswith("drawn")]))
    lost = (own["reset"] - own["trained"], fresh["reset"] - fresh["trained"], drawn - own["trained"])
    return {reading: 100 * value for reading, value in zip((*RESETS, REDRAWN), lost, strict=True)}


def history(experiment: Experiment, seed: int) -> Any:
    """Scan the checkpoints of VGG-19 by ridge probes."""
    trained = experiment.trained("vgg19", seed)
    rows = experiment.scale.flat_rows or experiment.scale.rows
    source = experiment.lab.source("cifar10")
    return experiment.lab.history(
        trained, id=source, layers="convs", probe="ridge", seed=seed, max_samples=rows
    )


def fig6(experiment: Experiment) -> Found:
    """Numerical rank of VGG-19's layers over training: it collapses in the first 75 steps and stays low."""
    found = Found(experiment.seeds)
    early, later, untrained, first = [], [], [], []
    tables, classes = [], CLASSES["cifar10"]
    whole = experiment.curves("vgg19", EXACT)
    claims.accuracy(found, "VGG-19", whole)
    for seed, one in zip(experiment.seeds, whole, strict=True):
        ranks = rank_history(history(experiment, seed).frame)  # steps × layers
        deep = ranks.iloc[:, -max(1, ranks.shape[1] // 3) :].median(axis=1)
        step = max(step for step in deep.index if step <= FIRST_STEPS)
        tables.append(ranks)
        if not one.has_learnt:
            for told in (early, later, first, untrained):
                told.append(None)
            continue
        early.append(float(deep[step]))
        is_collapsed = deep[step] <= 3 * classes
        later.append(float(deep[deep.index >= step].max() / deep[step]) if is_collapsed else None)
        reached = deep.index[deep <= 3 * classes]
        first.append(float(reached[0]) if len(reached) else None)
        untrained.append(float(deep[step] / deep.loc[0]))
    reading = "rank at 1e-3 of pooled convolution outputs, median over the last third of the layers"
    found.claim(
        f"C9 VGG-19: rank after {FIRST_STEPS} steps, at most three times the classes",
        early,
        at_most(3 * classes),
        reading,
        "collapsed by step 75, second-hand",
    )
    found.claim(
        f"C9 VGG-19: largest later rank over that after {FIRST_STEPS} steps", later, at_most(2), reading
    )
    found.claim(
        f"C9 VGG-19: rank after {FIRST_STEPS} steps over that of the untrained network",
        untrained,
        below(1),
        f"{reading}; against step 0",
    )
    words = "VGG-19: first checkpoint, in steps, whose rank is at most three times the classes"
    found.cell(
        words, first, reading, "not a claim of the paper; of fewer seeds where a rank never falls so far"
    )
    found.figures["fig6"] = rank_figure(tables)
    return found


def rank_history(table: Any) -> pd.DataFrame:
    """Return the rank by step (rows, ascending) and layer's number (columns)."""
    rows = table[
        (table["quantity"] == "numerical_rank") & (table["layer_index"] > 0) & (table["role"] == "id")
    ]
    rows = rows.assign(step=rows["run"].str.removeprefix("step-").astype(int))
    return rows.pivot_table(index="step", columns="layer_index", values="value").sort_index()


def fig7(experiment: Experiment) -> Found:
    """Ten classes of CIFAR-100 seen by networks of CIFAR-10: the tunnel loses them, as the rank falls."""
    found = Found(experiment.seeds)
    for family in FAMILIES:
        claims.accuracy(found, TITLES[family], experiment.curves(family, EXACT))
        for reading in experiment.readings(family):
            claims.ood(found, family, reading, experiment.curves(family, reading))
    panels = {TITLES[family]: experiment.curves(family, EXACT) for family in FAMILIES}
    found.figures["fig7"] = accuracy_and_rank(panels)
    return found


def fig8(experiment: Experiment) -> Found:
    """VGG-19 trained on more and more classes of CIFAR-100, seen on CIFAR-10."""
    found = Found(experiment.seeds)
    counts = experiment.scale.classes["cifar100"]
    curves = {count: by_classes(experiment, "vgg19", "cifar100", count) for count in counts}
    words = "C17 VGG-19: layers by which the best layer for CIFAR-10 moves per doubling of the classes"
    claims.per_doubling(found, words, curves, statistics.peak, above(0), EXACT)
    claims.start_by_classes(found, "VGG-19", curves)
    for count, own in curves.items():
        title = f"VGG-19 on {count} classes of CIFAR-100"
        found.cell(f"{title}: best layer for CIFAR-10", each(own, statistics.peak), EXACT)
        claims.accuracy(found, title, own)
    found.figures["fig8"] = accuracy_and_rank({f"{count} classes": curves[count] for count in counts})
    return found


def by_classes(experiment: Experiment, family: str, data: str, count: int) -> list[Curves]:
    """Train on classes drawn for each seed, at as many gradient steps as on all; scan on both CIFARs."""

    def query(seed: int) -> str:
        return "" if count == CLASSES[data] else f"classes=random:{count}&draw={seed + 1}"

    longer = CLASSES[data] / count
    has_other = family == "vgg19" and data == "cifar100"
    return experiment.of_seeds(
        lambda seed: experiment.trained(family, seed, data=data, query=query(seed), longer=longer),
        lambda seed: experiment.lab.source(data, query(seed)),
        [experiment.lab.source("cifar10")] if has_other else [],
    )


def fig9(experiment: Experiment) -> Found:
    """MLPs of several depths: the extractor keeps its length, the tunnel takes the rest."""
    found = Found(experiment.seeds)
    curves = {depth: by_depth(experiment, depth) for depth in experiment.scale.depths}
    for share in (0.95, 0.98):
        reading = f"{EXACT}; {share:.0%} of the last probe"
        starts = {
            depth: each(own, lambda one, share=share: one.start(share)) for depth, own in curves.items()
        }
        spread = [
            None if None in of_seed else max(of_seed) - min(of_seed)
            for of_seed in zip(*starts.values(), strict=True)
        ]
        words = "C13 MLP: largest less smallest start over the depths, layers"
        found.claim(words, spread, at_most(1), reading)
        for depth, values in starts.items():
            found.cell(f"MLP of {depth} layers: {claims.START}", values, reading)
    for depth, own in curves.items():
        claims.accuracy(found, f"MLP of {depth} layers", own)
    found.figures["fig9"] = accuracy_and_rank({f"{depth} layers": curves[depth] for depth in curves})
    return found


def by_depth(experiment: Experiment, depth: int) -> list[Curves]:
    """MLPs of one depth; of the usual one those that other items share."""
    arguments: dict[str, Any] = {} if depth == MLP_DEPTH else {"depth": depth}
    return experiment.of_seeds(lambda seed: experiment.trained("mlp", seed, **arguments))
