"""SHAP slopes: how far a target moves over a variable's whole range, as Harun et al. 2024 fit them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunnelscope.errors import RequestError
from tunnelscope.variables.observations import Observations

FEWEST_NETWORKS = 8  # for slopes; pairs are given of any number
RESAMPLES = 200
Array = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Design:
    """The model's inputs.

    Attributes:
        columns: (rows, inputs): rank codes of ordered variables, then one-hot columns of named ones.
        owner: which variable a column belongs to, (inputs,), a position.
        codes: rank code of each variable, (rows, variables), counted from 0.
        levels: of each variable, ascending.
        variables: names.
    """

    columns: Array
    owner: NDArray[np.intp]
    codes: Array
    levels: tuple[tuple[Any, ...], ...]
    variables: tuple[str, ...]

    def rows(self, chosen: NDArray[Any]) -> "Design":
        """Some rows, with the codes of the whole table."""
        return Design(self.columns[chosen], self.owner, self.codes[chosen], self.levels, self.variables)


@dataclass(frozen=True)
class Slopes:
    """A fitted model's slopes on one target.

    Attributes:
        slope: by variable, in the target's units over the variable's whole range.
        line_r2: how well a line describes the variable's SHAP values.
        r2: of the model, in sample, as the paper prints it.
        values: the SHAP values, (rows, variables).
    """

    slope: dict[str, float]
    line_r2: dict[str, float]
    r2: float
    values: Array = field(repr=False, compare=False)

    def normalised(self) -> dict[str, float]:
        """The slopes with absolute values that sum to 1."""
        total = sum(map(abs, self.slope.values()))
        return {name: value / total if total else 0.0 for name, value in self.slope.items()}


def design_of(given: Observations) -> Design:
    """Code the variables: ordered ones by rank from 0, those with names for levels one-hot, at the end."""
    codes, levels, ordered, named, owners, owners_named = [], [], [], [], [], []
    for place, variable in enumerate(given.variables):
        column = given.frame[variable]
        there = tuple(sorted(column.unique()))
        code = column.map({level: rank for rank, level in enumerate(there)}).to_numpy(float)
        codes.append(code)
        levels.append(there)
        if column.dtype.kind in "biuf":
            ordered.append(code)
            owners.append(place)
        else:
            for rank in range(len(there)):
                named.append((code == rank).astype(float))
                owners_named.append(place)
    columns = np.stack([*ordered, *named], axis=1)
    owner = np.array([*owners, *owners_named], dtype=np.intp)
    return Design(columns, owner, np.stack(codes, axis=1), tuple(levels), given.variables)


def fit(columns: Array, target: Array, seed: int = 0) -> Any:
    """Fit the paper's model: 100 boosted trees of depth 3, Huber's loss, all else as scikit-learn has it."""
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(loss="huber", random_state=seed).fit(columns, target)


def slopes_of(design: Design, target: Array, seed: int = 0) -> Slopes:
    """Fit the model and read the slopes.

    SHAP values (tree-path-dependent, no background) of a variable's one-hot columns are summed. Its slope is
    that of a least-squares line through them over its rank code divided by the largest code.
    """
    import shap

    model = fit(design.columns, target, seed)
    values = np.asarray(shap.TreeExplainer(model).shap_values(design.columns), dtype=float)
    summed = np.stack(
        [values[:, design.owner == place].sum(axis=1) for place in range(len(design.variables))], axis=1
    )
    slope, line_r2 = {}, {}
    for place, variable in enumerate(design.variables):
        slope[variable], line_r2[variable] = line(scaled(design, place), summed[:, place])
    return Slopes(slope, line_r2, float(model.score(design.columns, target)), summed)


def scaled(design: Design, place: int) -> Array:
    """A variable's rank code divided by its largest in the whole table, 0 to 1."""
    return design.codes[:, place] / max(len(design.levels[place]) - 1, 1)


def line(x: Array, y: Array) -> tuple[float, float]:
    """Slope and R² of a least-squares line; 0 and 0 where x does not vary."""
    centred = x - x.mean()
    spread = centred @ centred
    if spread == 0:
        return 0.0, 0.0
    residual = y - y.mean()
    slope = float(centred @ residual / spread)
    total = residual @ residual
    return slope, float(slope**2 * spread / total) if total else 0.0


def check_networks(given: Observations) -> None:
    """Refuse slopes of too few networks, and of variables that are all constant. Raises RequestError."""
    count = len(given.networks)
    if count < FEWEST_NETWORKS:
        raise RequestError(
            f"{given.source} has {count} network{'s' if count > 1 else ''}; slopes need {FEWEST_NETWORKS} "
            "or more (pairs are compared all the same)"
        )
    if not varying(given):
        raise RequestError(f"{given.source}: no variable differs between its networks")


def varying(given: Observations) -> tuple[str, ...]:
    """Variables with more than one level."""
    return tuple(name for name in given.variables if given.frame[name].nunique() > 1)


def bootstrap(
    given: Observations,
    design: Design,
    resamples: int,
    seed: int,
    report: Callable[[int], None] = lambda done: None,
) -> dict[str, dict[str, tuple[float, float]]]:
    """95 % intervals of all slopes over networks drawn with replacement, each with all of its rows.

    Args:
        report: called with the number of resamples done.
    """
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for target, told in slope_draws(given, design, resamples, seed, report).items():
        low, high = np.quantile(told, [0.025, 0.975], axis=0)
        bounds = zip(low.tolist(), high.tolist(), strict=True)
        found[target] = dict(zip(design.variables, bounds, strict=True))
    return found


def slope_draws(
    given: Observations,
    design: Design,
    resamples: int,
    seed: int,
    report: Callable[[int], None] = lambda done: None,
) -> dict[str, Array]:
    """Slopes in resamples of networks, (resamples, variables) by target.

    The encoding stays the whole table's, so that a slope is over the same range in every resample.
    """
    draws: dict[str, list[list[float]]] = {target: [] for target in given.targets}
    for done, chosen in enumerate(resampled_rows(given, resamples, seed), start=1):
        part = design.rows(chosen)
        for target in given.targets:
            values = given.frame[target].to_numpy(float)[chosen]
            draws[target].append(list(slopes_of(part, values).slope.values()))
        report(done)
    return {target: np.array(told) for target, told in draws.items()}


def resampled_rows(given: Observations, resamples: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Rows of networks drawn with replacement."""
    rows = rows_by_network(given)
    generator = np.random.default_rng([seed, 2024])
    for _ in range(resamples):
        chosen = generator.integers(len(rows), size=len(rows))
        yield np.concatenate([rows[place] for place in chosen])


def rows_by_network(given: Observations) -> list[NDArray[np.intp]]:
    """Positions of each network's rows, in the order in which networks come."""
    names = given.frame["network"].to_numpy()
    return [np.flatnonzero(names == name) for name in given.networks]


def seed_spread(design: Design, target: Array, seeds: Sequence[int]) -> Mapping[str, tuple[float, float]]:
    """Least and largest slope of each variable over seeds of the model: what is collinear, ties decide."""
    told = np.array([list(slopes_of(design, target, seed).slope.values()) for seed in seeds])
    return {
        name: (float(told[:, place].min()), float(told[:, place].max()))
        for place, name in enumerate(design.variables)
    }
