"""Which rows of a split are taken: pure functions of labels and a seed, before anything is decoded."""

import numpy as np

from tunnelscope.groups import set_aside
from tunnelscope.randomness import numpy_generator

TEST_SHARE = 0.2  # of each class, where a set has no test split


def split_rows(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return train and test rows: 20 % of each class are test, drawn at random, rows ascending.

    A class of two rows or more has at least one test row, a class of one row has none. Each class has its own
    stream, so that choosing some classes does not change which of their rows are test.

    Args:
        labels: (n,) int64.
        seed: 0 or more.
    """
    test = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = max(round(TEST_SHARE * len(rows)), 1) if len(rows) > 1 else 0
        stream = numpy_generator(seed, f"data/split/{label}")
        test.append(stream.permutation(rows)[:count])
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[np.concatenate([np.empty(0, dtype=np.int64), *test])] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def split_groups(labels: np.ndarray, groups: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return train and test rows, no group on both sides: about 20 % of each class are test, rows ascending.

    A class of two groups or more has test rows where its smallest group can be spared. No class is left
    without training rows.

    Args:
        labels: (n,) int64.
        groups: (n,) int64.
        seed: 0 or more.
    """
    quota = TEST_SHARE * np.bincount(labels)
    chosen = set_aside(labels, groups, quota, numpy_generator(seed, "data/split/groups"))
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def first_rows(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Return the first `per_class` rows of each class, ascending."""
    firsts = [np.flatnonzero(labels == label)[:per_class] for label in np.unique(labels)]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *firsts]))


def balanced_rows(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return `count` rows (all, when there are no more), as even over the classes as these allow, ascending.

    Small classes give all they have, the rest share what is left; rows are drawn at random within each class.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    chosen = [np.empty(0, dtype=np.int64)]
    left = min(count, len(labels))
    order = np.argsort(sizes, kind="stable")
    for position, index in enumerate(order):
        take = min(int(sizes[index]), left // (len(order) - position))
        left -= take
        rows = np.flatnonzero(labels == classes[index])
        chosen.append(numpy_generator(seed, f"data/max_samples/{classes[index]}").permutation(rows)[:take])
    return np.sort(np.concatenate(chosen))


def spread_rows(count: int, most: int) -> np.ndarray:
    """Return at most `most` of `count` rows, evenly spread from the first to the last, int64."""
    return np.unique(np.linspace(0, count - 1, num=min(count, most), dtype=np.int64))
