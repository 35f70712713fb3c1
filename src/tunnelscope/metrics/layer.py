"""All metrics of one layer; a family that fails takes only its own values along."""

import math
from collections.abc import Iterable

from torch import Tensor

from tunnelscope.metrics.families import FAMILIES
from tunnelscope.metrics.metric import Family, LayerRows

NO_WEIGHTS = "no value, they compare the features with a linear probe's weights, and this probe has none"


def layer_metrics(
    features_test: Tensor,
    features_train: Tensor,
    labels_train: Tensor | None,
    probe_weights: Tensor | None = None,
    probe_bias: Tensor | None = None,
    *,
    families: Iterable[Family] = FAMILIES,
) -> tuple[dict[str, float | None], list[str]]:
    """Compute every metric of one layer.

    Each `Metric` says whether it comes from the test rows (rank, dimension) or the training rows (variances,
    neural collapse).

    Args:
        features_test: (n_test, d).
        features_train: (n_train, d).
        labels_train: class of each training row, (n_train,), counted from 0; None where rows have no classes:
            metrics of classes are then left out.
        probe_weights: the layer's linear probe on the features as they are, (C, d); None when it has no
            weights.
        probe_bias: (C,).
        families: which metrics; all by default.

    Returns:
        values: name (as in `METRICS`) -> value, None where there is none; never NaN or infinite.
        notes: one line for each reason why values are None.

    Raises:
        ValueError: shapes that do not fit together.
    """
    rows = LayerRows(features_test, features_train, labels_train, probe_weights, probe_bias)
    _check_shapes(rows)
    values: dict[str, float | None] = {}
    notes: list[str] = []
    for family in families:
        if family.measure is None or (family.needs_classes and labels_train is None):
            continue
        try:
            measured = family.measure(rows)
        except (
            ValueError,
            RuntimeError,
            MemoryError,
        ) as error:  # RuntimeError: torch's solvers and its allocator
            reason = " ".join(str(error).split()) or type(error).__name__
            notes.append(f"{family.name} metrics could not be computed: {reason}")
            values.update(dict.fromkeys(family.metrics))
            continue
        found = {name: _finite_or_none(measured[name]) for name in family.metrics}
        values.update(found)
        notes.extend(_reasons(family, [name for name, value in found.items() if value is None], rows))
    return values, notes


def _reasons(family: Family, empty: Iterable[str], rows: LayerRows) -> list[str]:
    """Return one line for each reason, with the metrics that it leaves without a value."""
    names_by_reason: dict[str, list[str]] = {}
    for name in empty:
        metric = family.metrics[name]
        lacks_probe = metric.uses_probe and rows.weights is None  # not a doubt about the features
        names_by_reason.setdefault(NO_WEIGHTS if lacks_probe else metric.edges, []).append(name)
    return [f"{', '.join(names)}: {reason}" for reason, names in names_by_reason.items()]


def _check_shapes(rows: LayerRows) -> None:
    if rows.test.ndim != 2 or rows.train.ndim != 2 or rows.test.shape[1] != rows.train.shape[1]:
        raise ValueError(
            "test and training features must be (examples, features) of one width; "
            f"got {tuple(rows.test.shape)} and {tuple(rows.train.shape)}"
        )
    if (rows.weights is None) != (rows.bias is None):
        raise ValueError("give the probe's weights and bias together, or neither")


def _finite_or_none(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
