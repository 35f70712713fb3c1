"""Whether a probe can be fitted on one split's labels and read on the other's, and what to doubt then."""

from collections.abc import Sequence

import numpy as np

from tunnelscope.errors import RequestError
from tunnelscope.tasks import MULTI_LABEL, REGRESSION

SHOWN = 5  # classes named in a warning
FEW_POSITIVES = 20  # in simulations the intervals of 2 % of 1,000 rows held the score in 92 of 100 draws


def check_classes(
    train: np.ndarray, test: np.ndarray, class_names: Sequence[str], key: str
) -> tuple[str, ...]:
    """Return a warning for each way in which the splits' classes differ.

    Args:
        train: labels of the training rows, (n,) int64.
        test: labels of the test rows, (m,) int64.
        class_names: by label.
        key: the set, for messages.

    Raises:
        RequestError: fewer than 2 classes to fit, or no class that is in both splits.
    """
    count = len(class_names)
    fitted = np.bincount(train, minlength=count) > 0
    read = np.bincount(test, minlength=count) > 0
    if fitted.sum() < 2:
        raise RequestError(
            f"{key}: {class_names[int(train[0])]} is the only class in the training rows; "
            "a probe needs at least 2"
        )
    if not (fitted & read).any():
        raise RequestError(
            f"{key}: no class has both training and test rows; "
            "choose splits of the same classes (?split=FIT,READ)"
        )
    warnings = []
    for is_lacking, said in (
        (fitted & ~read, "without test rows, accuracies say nothing of them"),
        (read & ~fitted, "without training rows, so all their test rows count as errors"),
        (~fitted & ~read, "without any rows, though chance counts them"),
    ):
        if is_lacking.any():
            warnings.append(f"{_classes(np.flatnonzero(is_lacking), class_names)} {said}")
    return tuple(warnings)


def check_targets(
    train: np.ndarray, test: np.ndarray, names: Sequence[str], key: str, task: str
) -> tuple[str, ...]:
    """Return a warning for targets or labels that are the same in all rows of a split, or nearly.

    Args:
        train, test: numbers, or 0 and 1, (n, t).
        names: of the columns.
        task: "regression" or "multi-label".
        key: the set, for messages.

    Raises:
        RequestError: none varies in both splits.
    """
    is_still = [(part == part[:1]).all(axis=0) for part in (train, test)]
    if (is_still[0] | is_still[1]).all():
        raise RequestError(f"{key}: no label varies in both the training and the test rows; give more rows")
    warnings, what = [], "targets" if task == REGRESSION else "labels"
    for split, still in zip(("training", "test"), is_still, strict=True):
        if still.any():
            listed = ", ".join(str(names[column]) for column in np.flatnonzero(still)[:SHOWN])
            warnings.append(
                f"{still.sum()} of {len(names)} {what} ({listed}) are the same in all {split} rows"
            )
    return tuple(warnings + (_few_positives(test, names) if task == MULTI_LABEL else []))


def _few_positives(test: np.ndarray, names: Sequence[str]) -> list[str]:
    """A warning for labels that few test rows have, or lack."""
    count = np.minimum(test.sum(axis=0), len(test) - test.sum(axis=0))
    rare = np.flatnonzero((count > 0) & (count < FEW_POSITIVES))
    if not len(rare):
        return []
    listed = ", ".join(str(names[column]) for column in rare[:SHOWN])
    return [
        f"{len(rare)} of {len(names)} labels ({listed}) tell fewer than {FEW_POSITIVES} test rows from the "
        "others: their average precision is known roughly, and intervals of r may be too narrow"
    ]


def _classes(labels: np.ndarray, names: Sequence[str]) -> str:
    shown = ", ".join(str(names[label]) for label in labels[:SHOWN]) + (", …" if len(labels) > SHOWN else "")
    return f"{len(labels)} of {len(names)} classes ({shown}) are"
