"""How well the model predicts networks it has not seen: whole networks or whole architectures left out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunnelscope.variables.boosting import fit_boosted
from tunnelscope.variables.observations import Observations
from tunnelscope.variables.slopes import Array, Design

MANY_GROUPS = 32


def r2_score(target: Array, predicted: Array) -> float:
    """1 − squared errors over the target's spread; below 0 where the mean predicts better."""
    return float(1 - np.square(target - predicted).sum() / np.square(target - target.mean()).sum())


def left_out(columns: Array, target: Array, groups: NDArray[Any]) -> Array:
    """Predictions of each group by a model of the others, (rows,)."""
    from joblib import Parallel, delayed

    names = list(dict.fromkeys(groups))
    jobs = -1 if len(names) >= MANY_GROUPS else 1  # other processes take seconds to start
    told = Parallel(n_jobs=jobs)(delayed(_one_left_out)(columns, target, groups == name) for name in names)
    predicted = np.empty_like(target)
    for name, values in zip(names, told, strict=True):
        predicted[groups == name] = values
    return predicted


def _one_left_out(columns: Array, target: Array, inside: NDArray[np.bool_]) -> Array:
    return fit_boosted(columns[~inside], target[~inside]).predict(columns[inside])


def foretold(given: Observations, design: Design, target: str) -> dict[str, Array]:
    """Predictions of each network, and of each architecture, by a model that was not shown it.

    Returns:
        `network` and, where there are two or more of several networks, `architecture`: (rows,).
    """
    values = given.frame[target].to_numpy(float)
    found = {}
    for kind in ("network", "architecture"):
        groups = given.frame[kind].to_numpy()
        if len(set(groups)) > 1 and (kind == "network" or len(set(groups)) < len(given.networks)):
            found[kind] = left_out(design.columns, values, groups)
    return found


def grouped_r2(given: Observations, target: str, predicted: Mapping[str, Array]) -> dict[str, float]:
    """R² on networks and on architectures left out, over rows and over the networks' means.

    Args:
        predicted: of `foretold`.

    Returns:
        `network`, `network_means`, `architecture` (the last only where there are two or more).
    """
    values, networks = given.frame[target].to_numpy(float), given.frame["network"].to_numpy()
    found = {kind: r2_score(values, told) for kind, told in predicted.items()}
    means = means_by(values, networks), means_by(predicted["network"], networks)
    return found | {"network_means": r2_score(*means)}


def ceiling(given: Observations, target: str) -> float:
    """R² of the networks' own means: more than no model can have that is not told the OOD set."""
    values, networks = given.frame[target].to_numpy(float), given.frame["network"].to_numpy()
    told = dict(zip(dict.fromkeys(networks), means_by(values, networks), strict=True))
    return r2_score(values, np.array([told[name] for name in networks]))


def with_sets(given: Observations, design: Design) -> Array:
    """The inputs with the OOD set beside them, one-hot."""
    sets = given.frame["ood"].to_numpy()
    names: Sequence[Any] = sorted(set(sets))
    return np.hstack([design.columns, np.stack([(sets == name).astype(float) for name in names], axis=1)])


def means_by(values: Array, groups: NDArray[Any]) -> Array:
    """Mean of each group, in the order in which groups come."""
    return np.array([values[groups == group].mean() for group in dict.fromkeys(groups)])
