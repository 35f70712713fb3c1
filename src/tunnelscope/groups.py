"""Rows set aside by whole groups: of a patient, a video, a site, all rows or none."""

from collections.abc import Callable

import numpy as np


def set_aside(
    labels: np.ndarray, groups: np.ndarray, quota: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Choose about `quota` rows of each class, no group in part; whether each row is chosen, (n,) bool.

    Groups come in random order; one is chosen when that brings the classes nearer to their quota. A class of
    two groups or more has a chosen row where its smallest group can be spared. No class is chosen whole.

    Args:
        labels: (n,) int64, from 0.
        groups: (n,) int64.
        quota: rows wanted of each class, (largest label + 1,).
        generator: of the order.
    """
    members, counted = _members(labels, groups)
    total = np.bincount(labels)
    held = np.zeros(len(total), dtype=np.int64)
    chosen = np.zeros(len(members), dtype=bool)

    def take(group: int, is_wanted: Callable[[np.ndarray, np.ndarray], bool]) -> None:
        classes, counts = counted[group]
        is_spared = (held[classes] + counts < total[classes]).all()
        if not chosen[group] and is_spared and is_wanted(classes, counts):
            chosen[group] = True
            held[classes] += counts

    def is_nearer(classes: np.ndarray, counts: np.ndarray) -> bool:
        left = quota[classes] - held[classes]
        return bool(np.abs(left - counts).sum() < np.abs(left).sum())

    shuffled = generator.permutation(len(members))
    for group in shuffled:
        take(group, is_nearer)
    if (held[total > 0] == 0).any():
        for group in sorted(shuffled, key=lambda group: len(members[group])):
            take(group, lambda classes, _: bool((held[classes] == 0).any()))
    return chosen[np.unique(groups, return_inverse=True)[1]]


def even_parts(
    labels: np.ndarray, groups: np.ndarray, parts: int, generator: np.random.Generator
) -> np.ndarray:
    """Number each row 0 … parts − 1, classes spread about evenly and no group in two parts, (n,) int64.

    The largest groups first, each to the part that has least of its classes. Fewer parts come out of fewer
    groups. A group without which a class would be in no other part stays out of every part (−1).

    Args:
        labels: (n,) int64, from 0.
        groups: (n,) int64.
        parts: at most.
        generator: of the order of groups of one size.
    """
    members, counted = _members(labels, groups)
    total = np.bincount(labels)
    held = np.zeros((parts, len(total)))
    numbers = np.full(len(labels), -1)
    shuffled = generator.permutation(len(members))
    for group in sorted(shuffled, key=lambda group: -len(members[group])):
        classes, counts = counted[group]
        is_able = (held[:, classes] + counts < total[classes]).all(axis=1)
        if is_able.any():
            # rows of its classes, then rows of any: a part with neither is taken before one with others'
            load = (held[:, classes] / total[classes] * counts).sum(axis=1) + 1e-6 * held.sum(axis=1)
            part = int(np.argmin(np.where(is_able, load, np.inf)))
            held[part, classes] += counts
            numbers[members[group]] = part
    used = np.flatnonzero(held.any(axis=1))
    return np.where(numbers < 0, -1, np.searchsorted(used, numbers))


def _members(
    labels: np.ndarray, groups: np.ndarray
) -> tuple[list[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]:
    """Of each group its rows, and its classes with how many rows each has there."""
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return members, [np.unique(labels[rows], return_counts=True) for rows in members]
