"""What our own networks say as a whole: how much of r is the protocol, and which variables move it."""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from tunnelscope.reproduce.found import Found, point_row, points_figure
from tunnelscope.reproduce.harun2024 import printed
from tunnelscope.reproduce.harun2024.networks import (
    AS_CODE,
    AS_PAPER,
    HELD_OUT,
    MATCHED,
    Curves,
    Networks,
    Reading,
    differing,
    kind_of,
    probe_of,
)
from tunnelscope.reproduce.harun2024.questions import KEPT, TITLES, groups, r
from tunnelscope.reproduce.harun2024.released import RESAMPLES
from tunnelscope.reproduce.verdicts import Estimate, above, below, over_seeds
from tunnelscope.tunnel import band
from tunnelscope.variables.observations import Observations, of_frame
from tunnelscope.variables.slopes import design_of, slope_draws, slopes_of

SIGNS = {  # of the printed slopes on r, those that are not zero
    "ID Class Count": above(0),
    "Augmentations": above(0),
    "Spatial Reduction": above(0),
    "Resolution": above(0),
    "OverParam. Level": below(0),
    "Depth": below(0),
}
CLAIM_OF = {
    "ID Class Count": "H10 more classes raise r",
    "Augmentations": "H4 augmentation raises r",
    "Spatial Reduction": "H6 less early reduction raises r",
    "Resolution": "H5 resolution raises r",
    "OverParam. Level": "H8 over-parameterisation lowers r",
    "Depth": "H7 depth lowers r",
}
PAIRS = (  # what differs, from what to what, and what is printed
    (
        "H4 r with augmentation less without, points",
        "augmentation",
        (("none", "resized-crop-flip"),),
        above(0),
        "64.26 to 78.41",
    ),
    *(
        (
            f"H7 r of {TITLES[deeper]} less r of {TITLES[shallower]}, points",
            "model",
            ((shallower, deeper),),
            below(0),
            "falls in each family",
        )
        for shallower, deeper in (("vggm11", "vggm17"), ("resnet18", "resnet34"), ("vit_t", "vit_t_plus"))
    ),
    (
        "H6 r of VGGm†-11 less r of VGGm-11, points",
        "model",
        (("vggm11", "vggm11_dagger"),),
        above(0),
        "67.35 to 93.10 and 79.49 to 92.70",
    ),
    ("H5 r at 64² less at 32², points", "resolution", ((32, 64),), above(0), "68.63 to 69.78"),
)
ENOUGH = 8  # networks that slopes take


def all_curves(networks: Networks, reading: Reading) -> dict[str, Curves]:
    """Every network of the study that has learnt its task and is read so, by name."""
    networks.made(networks.cells)
    cells = [cell for cell in networks.cells if probe_of(cell, reading) in cell.scan.probes]
    return {one.cell.name: one for one in networks.of(cells, reading) if one.has_learnt}


def protocol(networks: Networks) -> Found:
    """r of the same networks under several readings: how much of it is the protocol."""
    found, rows = Found(networks.seeds), []
    readings = networks.readings if networks.scale == "smoke" else (*networks.readings, AS_CODE)
    most = len(all_curves(networks, readings[0]))
    for reading in readings:
        curves = all_curves(networks, reading)
        note = f"not a claim of the paper; {len(curves)} networks, a mean over seeds of each kind"
        if not curves:
            found.not_comparable(
                f"mean over networks: r, %; {reading.words}", "no network has learnt its task"
            )
            continue
        words = reading.words if len(curves) == most else f"{reading.words}; {len(curves)} networks of {most}"
        means = by_kind(curves, r)
        rows.append(point_row("mean r over networks, %", words, spread(means)))
        found.cell("mean over networks: r, %", means, words, note)
        if not reading.kept:
            share = float(np.mean([one.id_kept >= KEPT for one in curves.values()]))
            told = f"{words.partition(';')[0]}; {len(curves)} networks"
            found.cell(
                f"share of networks whose last layer keeps {KEPT} % of ID accuracy", [share], told, note
            )
        others = [readings[0]] if reading is not readings[0] else []
        others += [AS_PAPER] if reading is AS_CODE else []
        for other in others:
            before = all_curves(networks, other)
            apart(found, curves, before, f"{words}; beside {other.words}", note)
            if len(curves) < most:
                same = by_kind({name: before[name] for name in curves}, r)
                told = f"{other.words}; {len(curves)} networks of {most}"
                found.cell("mean over networks: r, %", same, told, note)
    at_inputs(found, networks)
    if rows:
        found.figures["protocol"] = points_figure(rows, "r, %: mean and quartiles")
    return found


def by_kind(curves: Mapping[str, Curves], statistic: Callable[[Curves], float]) -> list[float]:
    """A statistic of each kind of network, a mean over its seeds, which are no networks of their own."""
    kinds: dict[str, list[float]] = {}
    for one in curves.values():
        kinds.setdefault(kind_of(one.cell), []).append(statistic(one))
    return [float(np.mean(values)) for values in kinds.values()]


def apart(
    found: Found, curves: Mapping[str, Curves], before: Mapping[str, Curves], told: str, note: str
) -> None:
    """How far r under a reading is from r of the same networks under another."""
    less = by_kind(curves, lambda one: one.r - before[one.cell.name].r)
    found.cell("the same networks: r less r, points", less, told, note)
    pairs = [(one.r, before[name].r) for name, one in curves.items()]
    moved = float(np.mean([band(one / 100) != band(two / 100) for one, two in pairs]))
    found.cell("the same networks: share in another band", [moved], told, note)
    ranked: Any = stats.spearmanr([one for one, _ in pairs], [two for _, two in pairs])
    found.cell("the same networks: rank correlation of r", [float(ranked.statistic)], told, note)


def at_inputs(found: Found, networks: Networks) -> None:
    """r of the ResNets read where the released hook does, at what convolutions are given, beside outputs."""
    reading = AS_PAPER if AS_PAPER in networks.readings else networks.readings[1]
    outputs = {one.cell.training_key: one for one in all_curves(networks, reading).values()}
    inputs = {
        name: one
        for name, one in all_curves(networks.at_inputs, reading).items()
        if one.cell.training_key in outputs
    }
    words = "ResNets: r read at the inputs of convolutions less at their outputs, points"
    if not inputs:
        found.not_comparable(words, "no ResNet has learnt its task")
        return
    note = f"not a claim of the paper; {len(inputs)} networks, a mean over seeds of each kind"
    before = lambda one: outputs[one.cell.training_key]  # noqa: E731
    told = (
        f"{reading.words}; the released code's hook: tensors after activation, blocks' sums, and nothing of "
        "the last convolution (its first layer, the image, is left out here)"
    )
    found.cell(words, by_kind(inputs, lambda one: one.r - before(one).r), told, note)
    words = "ResNets: r at the outputs of all convolutions but the last less at all, points"
    told = f"{reading.words}; what of that is the last convolution alone"
    found.cell(words, by_kind(inputs, lambda one: without_last(before(one)) - before(one).r), told, note)


def without_last(curves: Curves) -> float:
    """Mean r over OOD sets over the test maximum, in percent, were the last layer not read."""
    return 100 * float(np.mean([one[-2] / one[:-1].max() for one in curves.ood.values()]))


def spread(values: Sequence[float]) -> Estimate:
    """Mean and quartiles."""
    low, high = np.quantile(values, [0.25, 0.75]).tolist()
    return Estimate(float(np.mean(values)), low, high)


def own_effects(networks: Networks) -> Found:
    """The published analysis of our own networks: matched pairs, and SHAP slopes beside the printed ones."""
    found = Found(networks.seeds)
    rows = []
    for reading in networks.readings:
        matched(found, networks, reading)
        curves = list(all_curves(networks, reading).values())
        if len(curves) < ENOUGH:
            found.not_comparable(f"H22 slopes on r; {reading.words}", f"{len(curves)} networks have learnt")
            continue
        given = observations(curves)
        design = design_of(given)
        slopes = slopes_of(design, given.frame["r"].to_numpy(float))
        draws = slope_draws(given, design, RESAMPLES[networks.scale], 0)["r"]
        told = f"{reading.words}; 95 % of {len(draws)} resamples of networks"
        texts: dict[str, str] = dict(zip(printed.SLOPE_NAMES, printed.SLOPES["r"], strict=True))
        for place, name in enumerate(given.variables):
            low, high = np.quantile(draws[:, place], [0.025, 0.975]).tolist()
            estimate = Estimate(slopes.slope[name], low, high)
            rows.append(point_row(reading.words, name, estimate))
            if name in SIGNS:
                words = f"{CLAIM_OF[name]}: SHAP slope over our networks"
                found.estimated(words, estimate, SIGNS[name], told, texts[name])
            else:
                found.interval(f"{name}: SHAP slope on r", estimate, told, "printed as 0.00")
        found.cell("slopes on r: R² in sample", [slopes.r2], reading.words, "published: 0.62")
    if rows:
        found.figures["own-effects"] = points_figure(rows, "SHAP slope on r")
    return found


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def matched(found: Found, networks: Networks, reading: Reading) -> None:
    """r of networks that differ in one variable: augmentation, depth, φ and resolution."""
    named = groups(networks)
    readings = (reading, MATCHED) if reading is HELD_OUT else (reading,)
    for reading, (words, name, steps, test, published) in itertools.product(readings, PAIRS):
        candidates = [
            (levels, {**levels, name: other})
            for one, other in steps
            for levels in named.values()
            if levels[name] == one
        ]
        values = [
            mean_of(differing(networks, reading, levels, changed, r))
            for levels, changed in candidates
            if changed in named.values()
        ]
        pairs = sum(value is not None for value in values)
        told = f"{reading.words}; {pairs} pairs of networks, each a mean over seeds"
        found.estimated(words, over_seeds(values), test, told, published, seeds=networks.seeds)


def observations(curves: Sequence[Curves]) -> Observations:
    """Networks as rows of (network, OOD set) with the paper's eight variables.

    Networks that differ in the seed alone are one network here, with their mean r.
    """
    rows = []
    for one in curves:
        told, levels = one.cell.told, one.cell.levels
        for name in one.ood:
            rows.append(
                {
                    "network": re.sub(r"-?seed=\d+", "", one.cell.name),
                    "architecture": f"{levels['model']}",
                    "ood": name,
                    "r": one.retained[name],
                    "Stem": told["stem"],
                    "Spatial Reduction": told["phi"],
                    "CNN vs ViT": told["kind"],
                    "Augmentations": 0 if levels["training.augmentation"] == "none" else 2,
                    "Resolution": levels["resolution"],
                    "ID Class Count": one.classes,
                    "OverParam. Level": round(one.parameters / one.images, 2),
                    "Depth": told["depth"],
                }
            )
    frame: Any = pd.DataFrame(rows)
    same = [name for name in frame.columns if name != "r"]
    return of_frame(frame.groupby(same, sort=False, as_index=False)["r"].mean(), "our networks")
