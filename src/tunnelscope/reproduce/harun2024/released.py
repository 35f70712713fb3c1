"""Items of the 2024 paper that need nothing but its released table: 64 networks, 8 OOD sets, r, ρ and A.

Printed numbers are held to a unit of their last digit or to the tolerance of what was rounded before; claims
are judged on networks, each a mean over its OOD sets, since a network's eight rows are not independent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from tunnelscope.reproduce.found import Figure, Found, point_row, points_figure
from tunnelscope.reproduce.harun2024 import printed
from tunnelscope.reproduce.verdicts import Estimate, above, below, within
from tunnelscope.variables import published
from tunnelscope.variables.observations import Observations, read_table
from tunnelscope.variables.pairs import UNITS, Mean, Pair, bands_of, values_by_network
from tunnelscope.variables.published import Comparison
from tunnelscope.variables.slopes import Array, Slopes, design_of, slope_draws, slopes_of

RESAMPLES = {"smoke": 5, "small": 200, "paper": 200}  # of networks, by scale
NAMES = {"r": "r", "rho": "ρ", "A": "A"}
NEAR_DELTA = {"r": 0.001, "rho": 0.021, "A": 0.005}  # the table has ρ in 2 decimals and A in 2 or 3
NEAR_SLOPE, NEAR_P = 0.01, 0.0006
DIGIT = 0.61  # units of the last digit: some numbers are printed rounded down
OVER_NETWORKS = "networks matched by name, each a mean over its OOD sets"
AS_PRINTED = "rows paired in the table's order, as the paper's script does"
BY_NAME = "networks matched by name"
RAW = "over the variable's whole range, as the paper's script does"
NORMALISED = "normalised to a sum of sizes of 1, as the paper's text says"
NO_DIGITS = "the printed digits are not at hand"
ALL_BUT_TWO = f"{NO_DIGITS}; a reading of the table found all but two of ρ to agree"
NOT_CLAIMED = "not a claim of the paper"
PRINTED_NETWORKS = 28  # of Tables 5 to 7, the first in the released table
NO_ACCURACY = "the released table has no accuracies"
CNNS, VITS = ("VGGm-11", "VGGm-17", "ResNet-18", "ResNet-34"), ("ViT-T", "ViT-T+")


@dataclass(frozen=True)
class Released:
    """The released table, and what several items need of it.

    Attributes:
        path: of the table; the map of its networks lies beside it.
        resamples: of networks.
    """

    path: Path
    resamples: int = 200

    @property
    def resampled(self) -> str:
        """What stands behind an interval of slopes, in words."""
        return f"95 % of {self.resamples} resamples of networks"

    @cached_property
    def given(self) -> Observations:
        """The table."""
        return read_table(self.path)

    @cached_property
    def pairs(self) -> list[tuple[Comparison, Pair]]:
        """The 45 comparisons, each on r, ρ and A, networks matched by name."""
        compared = [one for one in published.comparisons() for _ in self.given.targets]
        return list(zip(compared, published.published_pairs(self.given), strict=True))

    @cached_property
    def level_means(self) -> list[tuple[str, str, str, Mean, Mean]]:
        """Means by level of each variable, as in Table 12."""
        return published.published_means(self.given)

    def slopes(self, target: str) -> Slopes:
        """SHAP slopes on a target, as published."""
        return slopes_of(design_of(self.given), self.given.frame[target].to_numpy(float))

    def draws(self, target: str) -> Array:
        """The same slopes in resamples of networks, (resamples, variables); drawn once."""
        return _draws(self, target)

    def differences(self, variable: str, levels: tuple[str, str], target: str) -> Array:
        """The second level less the first, a network each; r in points."""
        rows: Any = self.given.frame.drop_duplicates("network").to_dict("records")
        comparison = next(
            one
            for one in published.comparisons()
            if one.variable == variable and (one.one.level, one.other.level) == levels
        )
        means, names = self.means(target), published.networks_of(comparison, rows)
        return np.array([means[other] - means[one] for [one], [other] in names])

    def means(self, target: str) -> Any:
        """Means of networks over their OOD sets, by name; r in percent."""
        return values_by_network(self.given, target).mean(axis=1) * UNITS.get(target, 1)

    def estimate(self, target: str, statistic: Callable[[Array], Array]) -> Estimate:
        """A statistic of the slopes on a target, (…, variables), with its interval over resamples."""
        slopes = self.slopes(target).slope
        fitted = np.array([slopes[name] for name in self.given.variables])
        low, high = np.quantile(statistic(self.draws(target)), [0.025, 0.975]).tolist()
        return Estimate(float(statistic(fitted)), low, high)

    def r_of(self, model: str, resolution: int, is_augmented: bool) -> Array:
        """r of one ImageNet-100 network on each OOD set, in percent."""
        frame: Any = self.given.frame
        chosen = frame[
            (frame["model"] == model)
            & (frame["id_set"] == published.IMAGENET)
            & (frame["Resolution"] == resolution)
            & (frame["Augmentations"] == (2 if is_augmented else 0))
        ]
        return UNITS["r"] * chosen["r"].to_numpy()


@cache
def _draws(table: Released, target: str) -> Array:
    given = table.given
    one = Observations(given.frame, given.variables, (target,), given.source)
    return slope_draws(one, design_of(given), table.resamples, 0)[target]


def printed_slopes(found: Found, table: Released, target: str) -> None:
    """The slopes and R² on one target beside the printed ones."""
    told = table.slopes(target)
    words = f"H1 SHAP slopes on {NAMES[target]}"
    for slopes, reading in ((told.slope, RAW), (told.normalised(), NORMALISED)):
        for name, text in zip(printed.SLOPE_NAMES, printed.SLOPES[target], strict=True):
            found.printed(words, slopes[name], text, NEAR_SLOPE, f"{name}; {reading}")
    near = DIGIT * printed.last_digit(printed.R2[target])
    found.printed(f"H1 R² on {NAMES[target]}", told.r2, printed.R2[target], near, "in sample")


def moves_most(
    found: Found, table: Released, target: str, name: str, words: str, besides: Sequence[str] = ()
) -> None:
    """Whether a variable's slope, or its size, is larger than every other's, those besides left out."""
    order = table.given.variables
    others = [place for place, one in enumerate(order) if one != name and one not in besides]
    for of_size, told in ((False, "slope"), (True, "slope's size")):

        def lead(slopes: Array, of_size: bool = of_size) -> Array:
            sizes = np.abs(slopes) if of_size else slopes
            return sizes[..., order.index(name)] - sizes[..., others].max(axis=-1)

        reading = f"its {told} less the largest of the others; {table.resampled}"
        found.estimated(words, table.estimate(target, lead), above(0), reading)


def moves_least(found: Found, table: Released, target: str, name: str, words: str) -> None:
    """Whether a variable's slope is smaller in size than every other's."""
    place = table.given.variables.index(name)

    def lead(slopes: Array) -> Array:
        sizes = np.abs(slopes)
        return sizes[..., place] - np.delete(sizes, place, axis=-1).min(axis=-1)

    reading = f"its slope's size less the least of the others; {table.resampled}"
    found.estimated(words, table.estimate(target, lead), below(0), reading)


def slopes_figure(table: Released, targets: Sequence[str]) -> Figure:
    """The bars of Figures 2 and 8 with the intervals that they lack."""
    rows = []
    for target in targets:
        for place, name in enumerate(table.given.variables):
            told = table.estimate(target, lambda slopes, place=place: slopes[..., place])
            rows.append(point_row(f"SHAP slopes on {NAMES[target]}", name, told))
    return points_figure(rows, "over the variable's whole range")


def fig2(table: Released) -> Found:
    """SHAP slopes for r and A."""
    found = Found(())
    for target in ("r", "A"):
        printed_slopes(found, table, target)
    moves_most(found, table, "r", "ID Class Count", "H2 the number of classes moves r most")
    moves_most(found, table, "A", "Resolution", "H3 resolution moves A most")
    for target, first in (("r", "ID Class Count"), ("A", "Resolution")):
        moves_most(found, table, target, "Augmentations", f"H13 augmentation moves {target} second", (first,))
    for target in ("r", "A"):
        moves_least(found, table, target, "CNN vs ViT", f"H11 CNN or ViT moves {target} least")
    found.figures["fig2"] = slopes_figure(table, ("r", "A"))
    return found


def fig7(table: Released) -> Found:
    """SHAP of depth."""
    found = Found(())
    place = table.given.variables.index("Depth")
    told = table.slopes("r")
    slope = table.estimate("r", lambda slopes: slopes[..., place])
    found.estimated("H7 SHAP slope of depth on r", slope, below(0), table.resampled)
    for variable, values in zip(table.given.variables, np.abs(told.values).mean(axis=0), strict=True):
        found.cell(f"{variable}: mean size of the SHAP values on r", [float(values)], "all rows")
    code = table.given.frame["Depth"].to_numpy()
    rows = [
        {"panel": "SHAP values of depth, r", "series": "depth", "x": float(level), "y": float(part.mean())}
        | {"low": float(part.min()), "high": float(part.max())}
        for level in sorted(set(code.tolist()))
        for part in [told.values[code == level, place]]
    ]
    found.figures["fig7"] = Figure(pd.DataFrame(rows), "depth", "SHAP value")
    return found


def fig8(table: Released) -> Found:
    """SHAP slopes for ρ."""
    found = Found(())
    printed_slopes(found, table, "rho")
    moves_most(found, table, "rho", "ID Class Count", "H2 the number of classes moves ρ most")
    found.figures["fig8"] = slopes_figure(table, ("rho",))
    return found


def fig9(table: Released) -> Found:
    """r by network."""
    found = Found(())
    cells = [(resolution, is_augmented) for resolution in published.ENDS for is_augmented in (False, True)]
    for size, is_augmented in cells:
        first, *rest = (table.r_of(model, size, is_augmented).mean() for model in CNNS)
        at = f"{size}², {'with' if is_augmented else 'without'} augmentation; means over OOD sets"
        found.estimated(
            "H12 VGGm-11 less the best other CNN, points of r", Estimate(first - max(rest)), above(0), at
        )
        ahead = max(table.r_of(model, size, is_augmented).mean() for model in VITS) - max(first, *rest)
        if is_augmented:
            found.estimated("H12 the best ViT less the best CNN, points of r", Estimate(ahead), above(0), at)
        else:
            found.cell("the best ViT less the best CNN, points of r", [ahead], at, NOT_CLAIMED)
    rows = []
    for size, is_augmented in cells:
        panel = f"{size}², {'with' if is_augmented else 'without'} augmentation"
        for model in (*CNNS, *VITS):
            low, middle, high = np.quantile(table.r_of(model, size, is_augmented), [0.25, 0.5, 0.75]).tolist()
            rows.append(point_row(panel, model, Mean(middle, low, high)))
    found.figures["fig9"] = points_figure(rows, "r, %: median and quartiles over OOD sets")
    return found


FAMILY_DEPTHS = {"VGGm": ("11", "17"), "ResNet": ("R18", "R34"), "ViT": ("T", "T+")}


def fig10(table: Released) -> Found:
    """r against depth within families."""
    found = Found(())
    for family, levels in FAMILY_DEPTHS.items():
        values = table.differences("Depth", levels, "r")
        words = f"H7 {family}: the deeper less the shallower network, points of r"
        found.claim(words, values.tolist(), below(0), OVER_NETWORKS)
    found.figures["fig10"] = means_figure(table, "Depth", ("r",))
    return found


def fig11(table: Released) -> Found:
    """r against γ."""
    found = Found(())
    frame: Any = table.given.frame
    chosen = frame[
        (frame["id_set"] == published.IMAGENET)
        & frame["model"].isin([*CNNS, *VITS])
        & frame["Resolution"].isin(published.ENDS)
    ]
    by_model = chosen.groupby("model").agg(gamma=("OverParam. Level", "first"), r=("r", "mean"))
    ranked: Any = stats.spearmanr(by_model["gamma"], by_model["r"])
    words = "H8 rank correlation of γ and mean r over six networks"
    found.claim(words, [float(ranked.statistic)], below(0), f"p of the six networks {ranked.pvalue:.3f}")
    rows = [
        {
            "panel": "ImageNet-100, 32² and 224²",
            "series": "mean r",
            "x": float(one.gamma),
            "y": 100 * float(one.r),
        }
        | {"low": 100 * float(one.r), "high": 100 * float(one.r)}
        for one in by_model.sort_values("gamma").itertuples()
    ]
    found.figures["fig11"] = Figure(pd.DataFrame(rows), "γ, parameters over images", "r, %")
    return found


def fig12(table: Released) -> Found:
    """r and A against the stem."""
    found = Found(())
    printed_means(found, table, "Stem")
    from_3 = table.differences("Stem", ("3", "7"), "r")
    from_8 = -table.differences("Stem", ("7", "8"), "r")
    words = "H9 r with a 7×7 stem less the lower of the other two, points"
    found.claim(words, np.maximum(from_3, from_8).tolist(), below(0), OVER_NETWORKS)
    from_3, from_8 = table.differences("Stem", ("3", "7"), "A"), -table.differences("Stem", ("7", "8"), "A")
    words = "H9 A with a 7×7 stem less the lower of the other two"
    found.claim(words, np.maximum(from_3, from_8).tolist(), below(0), OVER_NETWORKS)
    found.figures["fig12"] = means_figure(table, "Stem", ("r", "A"))
    return found


def fig13(table: Released) -> Found:
    """r with and without augmentation."""
    found = Found(())
    printed_means(found, table, "Augmentations")
    augmented(found, table, "r")
    found.figures["fig13"] = means_figure(table, "Augmentations", ("r",))
    return found


def augmented(found: Found, table: Released, target: str) -> None:
    """H4 on one target."""
    values = table.differences("Augmentations", ("0", "2"), target).tolist()
    unit = ", points" if target == "r" else ""
    words = f"H4 {NAMES[target]} with augmentation less without{unit}"
    found.claim(words, values, above(0), OVER_NETWORKS)


def fig19(table: Released) -> Found:
    """A by resolution, augmentation and classes."""
    found = Found(())
    for level in ("64²", "128²", "224²"):
        values = table.differences("Resolution", ("32²", level), "A").tolist()
        found.claim(f"H5 A at {level} less A at 32²", values, above(0), OVER_NETWORKS)
    augmented(found, table, "A")
    for variable, levels in (
        ("ID data set", (published.CIFAR10, published.CIFAR100)),
        ("Classes and samples", ("c10_s1000", "c100_s100")),
    ):
        words = f"H10 A on {levels[1]} less A on {levels[0]}"
        found.claim(words, table.differences(variable, levels, "A").tolist(), above(0), OVER_NETWORKS)
    found.not_comparable("ID and OOD accuracy by resolution, augmentation and classes", NO_ACCURACY)
    parts = [means_figure(table, name, ("A",)) for name in ("Resolution", "Augmentations", "ID data set")]
    found.figures["fig19"] = _joined(parts)
    return found


def fig20(table: Released) -> Found:
    """A by depth, φ and stem."""
    found = Found(())
    for family, levels in FAMILY_DEPTHS.items():
        values = table.differences("Depth", levels, "A").tolist()
        words = f"H7 {family}: A of the deeper less A of the shallower network"
        found.claim(words, values, below(0), OVER_NETWORKS)
    values = table.differences("Spatial Reduction", ("0.5", "1.0"), "A").tolist()
    found.claim("H6 A of VGGm† (φ = 1) less A of VGGm (φ = 0.5)", values, above(0), OVER_NETWORKS)
    found.not_comparable("ID and OOD accuracy by depth, φ and stem", NO_ACCURACY)
    parts = [means_figure(table, name, ("A",)) for name in ("Depth", "Spatial Reduction", "Stem")]
    found.figures["fig20"] = _joined(parts)
    return found


def table1(table: Released) -> Found:
    """Resolutions in pairs with 32²."""
    found = Found(())
    printed_pairs(found, table, lambda one: one.variable == "Resolution" and one.one.level == "32²")
    for target in printed.TARGETS:
        for level in ("64²", "128²", "224²"):
            values = table.differences("Resolution", ("32²", level), target).tolist()
            unit = ", points" if target == "r" else ""
            words = f"H5 {NAMES[target]} at {level} less at 32²{unit}"
            found.claim(words, values, above(0), OVER_NETWORKS)
    found.figures["table1"] = means_figure(table, "Resolution", printed.TARGETS)
    return found


def network_means(target: str) -> Callable[[Released], Found]:
    """Tables 5 to 7: r, ρ or A of the 28 ImageNet-100 networks."""

    def item(table: Released) -> Found:
        found = Found(())
        means = table.means(target)
        frame: Any = table.given.frame
        names = frame.loc[frame["id_set"] == published.IMAGENET, "network"].unique()
        for name in names[:PRINTED_NETWORKS]:
            text = printed.RHO_OF_NETWORKS.get(name) if target == "rho" else None
            if text is None:
                found.cell(
                    f"{name}: mean {NAMES[target]} over OOD sets",
                    [float(means[name])],
                    "all OOD sets",
                    ALL_BUT_TWO,
                )
            else:
                words = f"H1 mean {NAMES[target]} of a network over its OOD sets"
                found.printed(words, float(means[name]), text, DIGIT * printed.last_digit(text), name)
        if target == "r":
            for strength, count in bands_of(table.given).items():
                words = "H1 networks by the strength of their tunnel"
                found.printed(words, float(count), str(printed.BANDS[strength]), 0, strength)
        return found

    return item


table5, table6, table7 = (network_means(target) for target in printed.TARGETS)


def printed_means(found: Found, table: Released, variable: str | None = None) -> None:
    """Means by level, of one variable or of all: r in percent, ρ and A as the table rounds them."""
    for name, level, target, mean, _ in table.level_means:
        text = printed_mean(name, level, target)
        if text is None or variable not in (None, name):
            continue
        unit = ", %" if target == "r" else ""
        words = f"H1 mean {NAMES[target]} by level, {name}{unit}"
        near = DIGIT * printed.last_digit(text)
        found.printed(words, UNITS.get(target, 1) * mean.value, text, near, level)


def printed_mean(name: str, level: str, target: str) -> str | None:
    """A mean of Table 12; None where the digits are not at hand."""
    if target == "r":
        return printed.MEANS.get((name, level))
    both = printed.MEANS_RHO_A.get((name, level))
    return None if both is None else both[("rho", "A").index(target)]


def table12(table: Released) -> Found:
    """Means by level of each variable."""
    found = Found(())
    printed_means(found, table)
    for name, level, target, ours, theirs in table.level_means:
        if target != "r":
            continue
        unit = UNITS[target]
        for mean, rule in ((theirs, "n degrees of freedom, as the paper's script has"), (ours, "n − 1")):
            told = Estimate(unit * mean.value, unit * mean.low, unit * mean.high)
            found.interval(f"95 % interval of mean r, {name} {level}, %", told, rule, NO_DIGITS)
    names = dict.fromkeys(name for name, *_ in table.level_means)
    found.figures["table12"] = _joined([means_figure(table, name, printed.TARGETS) for name in names])
    return found


def table13(table: Released) -> Found:
    """All pairs of levels."""
    found = Found(())
    printed_pairs(found, table, lambda one: True)
    classes = table.differences("Classes and samples", ("c10_s1000", "c100_s100"), "r")
    images = table.differences("Classes and samples", ("c100_s100", "c100_s700"), "r")
    found.claim(
        "H10 r on 100 less r on 10 classes, 10,000 images, points", classes.tolist(), above(0), OVER_NETWORKS
    )
    words = "H10 r on 700 less r on 100 images a class, over that of classes"
    found.claim(words, (np.abs(images) / np.abs(classes)).tolist(), below(0.5), OVER_NETWORKS)
    values = table.differences("Spatial Reduction", ("0.5", "1.0"), "r").tolist()
    found.claim("H6 r of VGGm† (φ = 1) less r of VGGm (φ = 0.5), points", values, above(0), OVER_NETWORKS)
    found.figures["table13"] = deltas_figure(table)
    return found


def printed_pairs(found: Found, table: Released, takes: Callable[[Comparison], bool]) -> None:
    """δ and p of pairs beside the printed ones; p under the paper's pairing of rows and under ours."""
    for number, (comparison, pair) in enumerate(table.pairs):
        if not takes(comparison):
            continue
        place, column = number // len(table.given.targets), printed.TARGETS.index(pair.target)
        name, levels = NAMES[pair.target], f"{pair.variable}: {' → '.join(pair.levels)}"
        text = f"{printed.DELTAS[place][column]:.3f}"
        words = f"H1 |δ| of {name} between two levels"
        found.printed(words, abs(pair.cliffs_delta), text, NEAR_DELTA[pair.target], levels)
        text, words = printed.P_VALUES[place][column], f"H1 p of {name} between two levels"
        for p, reading in ((pair.p_as_published, AS_PRINTED), (pair.p, BY_NAME)):
            if text.startswith("<"):
                test = below(float(text[1:]))
            else:
                test = within(float(text) - NEAR_P, float(text) + NEAR_P)
            found.estimated(words, Estimate(p), test, f"{levels}; {reading}", text)


def means_figure(table: Released, variable: str, targets: Sequence[str]) -> Figure:
    """Means by level with Student's interval over rows, as the paper's Table 12 has them."""
    rows = []
    for name, level, target, mean, _ in table.level_means:
        if name == variable and target in targets:
            unit = UNITS.get(target, 1)
            shown = Mean(unit * mean.value, unit * mean.low, unit * mean.high)
            rows.append(
                point_row(f"{variable}: {NAMES[target]}{', %' if target == 'r' else ''}", level, shown)
            )
    return points_figure(rows, "mean, 95 % over rows")


def deltas_figure(table: Released) -> Figure:
    """Cliff's δ of r by pair."""
    rows = [
        point_row(
            pair.variable,
            " → ".join(pair.levels),
            Mean(pair.cliffs_delta, pair.cliffs_delta, pair.cliffs_delta),
        )
        for _, pair in table.pairs
        if pair.target == "r"
    ]
    return points_figure(rows, "Cliff's δ of r")


def _joined(figures: Sequence[Figure]) -> Figure:
    return Figure(pd.concat([one.frame for one in figures]), figures[0].x, "", kind="points")
