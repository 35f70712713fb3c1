"""The 45 pairs of Harun et al. 2024 (Tables 1 and 13), and the rules that give their printed figures.

Which networks stand behind a printed row was found by matching its means; the paper's text describes four of
the groups otherwise. Networks are matched by name. The paper's script matched rows in the order of its table,
which pairs ResNet-18 with ViT-T+ in four of the six comparisons of resolutions: `p_row_order` gives its p.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from tunnelscope.variables.observations import RELEASED_VARIABLES, Observations
from tunnelscope.variables.pairs import (
    Mean,
    Pair,
    compared,
    corrected,
    matched_values,
    mean_of,
    values_by_network,
    wilcoxon,
)

IMAGENET, CIFAR10, CIFAR100 = "ImageNet-100", "CIFAR-10", "CIFAR-100"
VARIABLES = RELEASED_VARIABLES
ENDS = (32, 224)  # resolutions at which the architectures are compared


@dataclass(frozen=True)
class Group:
    """One side of a comparison.

    Attributes:
        level: as in the paper's table.
        takes: whether a network belongs to it, from its row of variables.
        key: what a network of the other side has to share.
    """

    level: str
    takes: Callable[[Mapping[str, Any]], bool]
    key: Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Comparison:
    """A printed row: a variable and two groups."""

    variable: str
    one: Group
    other: Group


def comparisons() -> list[Comparison]:
    """All 45, in the order of Table 13."""
    return [
        Comparison("Augmentations", *_augmentation()),
        Comparison("Spatial Reduction", *_spatial_reduction()),
        *(_both("Resolution", _resolution, levels) for levels in combinations((32, 64, 128, 224), 2)),
        *(_both("Stem", _stem, levels) for levels in combinations((3, 7, 8), 2)),
        *_architectures(),
        *(_both("ID data set", _id_set, levels) for levels in combinations((IMAGENET, CIFAR10, CIFAR100), 2)),
        *(_both("Classes and samples", _subset, levels) for levels in combinations(SUBSETS, 2)),
    ]


SUBSETS = ("c10_s1000", "c50_s200", "c100_s100", "c100_s200", "c100_s500", "c100_s700")
FAMILIES = {
    "VGGm-11": "V11",
    "ViT-T": "T",
    "VGGm-17": "V17",
    "ResNet-18": "R18",
    "ViT-T+": "T+",
    "ResNet-34": "R34",
}
DEPTH_ORDER = ("VGGm-11", "ViT-T", "VGGm-17", "ResNet-18", "ViT-T+", "ResNet-34")
STEMS = {3: ("VGGm-11", "VGGm-17"), 7: ("ResNet-18", "ResNet-34"), 8: ("ViT-T", "ViT-T+")}
DAGGER = "VGGm-dagger-"


def _both(variable: str, group: Callable[[Any], Group], levels: tuple[Any, Any]) -> Comparison:
    return Comparison(variable, group(levels[0]), group(levels[1]))


def _augmentation() -> tuple[Group, Group]:
    def key(row: Mapping[str, Any]) -> Any:
        return row["model"], row["id_set"], row["Resolution"]

    return (
        Group("0", lambda row: row["Augmentations"] == 0, key),
        Group("2", lambda row: row["Augmentations"] == 2, key),
    )


def _spatial_reduction() -> tuple[Group, Group]:
    def at_32(row: Mapping[str, Any]) -> bool:
        return row["Resolution"] == 32 and row["id_set"] in (IMAGENET, CIFAR100)

    def key(row: Mapping[str, Any]) -> Any:
        return row["Depth"], row["id_set"], row["Augmentations"]

    return (
        Group("0.5", lambda row: at_32(row) and row["model"] in STEMS[3], key),
        Group("1.0", lambda row: at_32(row) and row["model"].startswith(DAGGER), key),
    )


def _resolution(level: int) -> Group:
    models = ("VGGm-17", "ResNet-18", "ViT-T+")
    return Group(
        f"{level}²",
        lambda row: row["id_set"] == IMAGENET and row["model"] in models and row["Resolution"] == level,
        lambda row: (row["model"], row["Augmentations"]),
    )


def _stem(level: int) -> Group:
    return Group(
        str(level),
        lambda row: row["id_set"] == IMAGENET and row["model"] in STEMS[level] and row["Resolution"] in ENDS,
        lambda row: (STEMS[level].index(row["model"]), row["Resolution"], row["Augmentations"]),
    )


def _architectures() -> list[Comparison]:
    pairs = list(combinations(DEPTH_ORDER, 2))
    told = [_both("Depth", _architecture, levels) for levels in pairs if levels != ("VGGm-11", "VGGm-17")]
    told.insert(1, Comparison("Depth", _depth(11), _depth(17)))
    return [*told, _both("OverParam. Level", _architecture, ("VGGm-11", "VGGm-17"))]


def _architecture(model: str) -> Group:
    return Group(
        FAMILIES[model],
        lambda row: row["id_set"] == IMAGENET and row["model"] == model and row["Resolution"] in ENDS,
        lambda row: (row["Resolution"], row["Augmentations"]),
    )


def _depth(level: int) -> Group:
    models = (f"VGGm-{level}", f"{DAGGER}{level}")
    return Group(
        str(level),
        lambda row: row["id_set"] == IMAGENET and row["model"] in models and row["Resolution"] in ENDS,
        lambda row: (row["model"].startswith(DAGGER), row["Resolution"], row["Augmentations"]),
    )


def _id_set(level: str) -> Group:
    return Group(
        level,
        lambda row: row["id_set"] == level and row["model"] == "VGGm-11" and row["Resolution"] == 32,
        lambda row: row["Augmentations"],
    )


def _subset(level: str) -> Group:
    return Group(
        level, lambda row: row["id_set"].endswith(f"subset {level}"), lambda row: row["Augmentations"]
    )


LONGER = {"VGGm": ("VGGm-11", "VGGm-17"), "ResNet": ("ResNet-34", "ResNet-18"), "ViT": ("ViT-T", "ViT-T+")}


def _family(name: str) -> Group:
    """Of Table 12: the smaller network at 32² and 224², the other one at all four resolutions."""
    ends, all_sizes = LONGER[name]
    return Group(
        name,
        lambda row: (
            row["id_set"] == IMAGENET
            and (row["model"] == all_sizes or (row["model"] == ends and row["Resolution"] in ENDS))
        ),
        lambda row: None,
    )


def published_means(given: Observations) -> list[tuple[str, str, str, Mean, Mean]]:
    """Means of Table 12: variable, level, target, the mean with its interval, and with the paper's.

    The paper's intervals take n degrees of freedom where n − 1 are right.
    """
    groups: dict[tuple[str, str], Group] = {}
    for comparison in comparisons():
        for group in (comparison.one, comparison.other):
            groups.setdefault((comparison.variable, group.level), group)
    groups |= {("Architecture", name): _family(name) for name in LONGER}
    told = []
    for (variable, level), group in groups.items():
        rows = rows_of(given, group)
        for target in given.targets:
            values = rows[target].to_numpy(float)
            told.append((variable, level, target, mean_of(values), mean_of(values, freedom=len(values))))
    return told


def rows_of(given: Observations, group: Group) -> Any:
    """Rows of a group's networks, in the order of the table."""
    table: Any = given.frame.drop_duplicates("network")
    names = [row["network"] for row in table.to_dict("records") if group.takes(row)]
    return given.frame[given.frame["network"].isin(names)]


def published_pairs(given: Observations) -> list[Pair]:
    """The 45 comparisons on every target, networks matched by name."""
    table: Any = given.frame.drop_duplicates("network")
    rows = table.to_dict("records")
    values = {target: values_by_network(given, target) for target in given.targets}
    found = []
    for comparison in comparisons():
        networks = networks_of(comparison, rows)
        one, other = (rows_of(given, group) for group in (comparison.one, comparison.other))
        levels = (comparison.one.level, comparison.other.level)
        for target in given.targets:
            if not networks:  # observations may have been left out
                continue
            matched, per_network = matched_values(values[target], networks)
            if not len(matched[0]):
                continue
            pair = compared(comparison.variable, levels, target, matched, per_network)
            found.append(replace(pair, p_as_published=p_row_order(one, other, target)))
    return corrected(found)


def networks_of(
    comparison: Comparison, rows: Sequence[Mapping[str, Any]]
) -> list[tuple[list[str], list[str]]]:
    """Networks of both groups, matched by what they share."""
    other = {comparison.other.key(row): [row["network"]] for row in rows if comparison.other.takes(row)}
    one = [row for row in rows if comparison.one.takes(row)]
    return [
        ([row["network"]], other[comparison.one.key(row)]) for row in one if comparison.one.key(row) in other
    ]


def p_row_order(one: Any, other: Any, target: str) -> float | None:
    """The p that the paper's script gives: rows of both groups paired in the order of the table.

    Args:
        one, other: of `rows_of`.
    """
    if len(one) != len(other):
        return None
    return wilcoxon(one[target].to_numpy(float), other[target].to_numpy(float), target)
