"""What a network that is not yet trained will retain, from a table of others; how far off such a guess is."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.variables.grouped import means_by
from tunnelscope.variables.observations import Observations
from tunnelscope.variables.slopes import Array, Design, fit

LEVEL = 0.95


@dataclass(frozen=True)
class Prediction:
    """A network's mean over OOD sets, foretold.

    Attributes:
        name: of the network in the plan.
        values: by target: `value`, `low`, `high`; the interval holds 95 of 100 networks that were left out.
    """

    name: str
    values: dict[str, dict[str, float]]


def read_plan(path: str | Path) -> list[dict[str, Any]]:
    """Read networks to foretell: `[[network]]` tables, which `check_plan` looks at.

    Raises:
        RequestError: no such file, not TOML, no network in it.
    """
    path = Path(path)
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RequestError(f"there is no plan {path}") from error
    except (OSError, ValueError) as error:
        raise RequestError(f"the plan {path} is not TOML ({error})") from error
    networks = told.get("network")
    if not isinstance(networks, list) or not networks:
        raise RequestError(
            f"the plan {path} names no network; write [[network]], then name = … and each variable"
        )
    return networks


def check_plan(plan: Sequence[Mapping[str, Any]], variables: Sequence[str], source: str) -> None:
    """Refuse a plan whose networks lack a variable or have another one. Raises RequestError."""
    for place, network in enumerate(plan, start=1):
        if not isinstance(network, Mapping):
            raise RequestError(
                f"{source}: network {place} is {network!r}; write [[network]], then each variable"
            )
        for name in network:
            if name not in ("name", *variables):
                raise unknown_name(f"variable (network {place} of {source})", name, variables)
        for name in variables:
            if name not in network:
                raise RequestError(f"{source}: network {place} lacks {name}")


def predictions(
    given: Observations,
    design: Design,
    plan: Sequence[Mapping[str, Any]],
    errors: Mapping[str, Mapping[str, float]],
) -> list[Prediction]:
    """Foretell the networks of a plan on every target of a table.

    Args:
        errors: by target, of `error_of`.

    Raises:
        RequestError: a level that the table does not know the like of.
    """
    inputs = np.stack([coded(design, network) for network in plan])
    told: list[dict[str, dict[str, float]]] = [{} for _ in plan]
    for target in given.targets:
        values = given.frame[target].to_numpy(float)
        reach = errors[target]["reach"]
        for place, value in enumerate(fit(design.columns, values).predict(inputs)):
            told[place][target] = {
                "value": float(value),
                "low": float(value - reach),
                "high": float(value + reach),
            }
    names = [str(network.get("name", f"network {place}")) for place, network in enumerate(plan, start=1)]
    return [Prediction(name, values) for name, values in zip(names, told, strict=True)]


def error_of(given: Observations, target: str, predicted: Mapping[str, Array]) -> dict[str, float]:
    """How far off means over OOD sets are for networks, and for architectures, that the model was not shown.

    Args:
        predicted: of `grouped.foretold`.

    Returns:
        `network` and `architecture` (mean absolute errors; the second only with two or more), `reach`: half
        the width of an interval that holds 95 % of the left-out networks (conformal rank, Vovk et al. 2005;
        of fewer than 19 networks the largest error, which holds less).
    """
    networks = given.frame["network"].to_numpy()
    truth = means_by(given.frame[target].to_numpy(float), networks)
    missed = {kind: np.abs(means_by(told, networks) - truth) for kind, told in predicted.items()}
    return {kind: float(one.mean()) for kind, one in missed.items()} | {"reach": reach_of(missed["network"])}


def reach_of(missed: Array) -> float:
    """The error that 95 % of the networks, counted one higher, stay below; the largest of too few."""
    rank = math.ceil(LEVEL * (len(missed) + 1))
    return float(np.sort(missed)[min(rank, len(missed)) - 1])


def coded(design: Design, network: Mapping[str, Any]) -> Array:
    """A network's inputs: a number between two levels lies between their ranks.

    Raises:
        RequestError: a name that no network of the table has, or a number outside its levels.
    """
    ordered, named = [], []
    for place, variable in enumerate(design.variables):
        levels, value = design.levels[place], network[variable]
        if isinstance(levels[0], str):
            if value not in levels:
                raise unknown_name(f"level of {variable}", str(value), levels)
            named += [float(value == level) for level in levels]
            continue
        if not isinstance(value, (int, float)) or not levels[0] <= value <= levels[-1]:
            raise RequestError(
                f"{variable} = {value!r} lies outside the table's {levels[0]:g} to {levels[-1]:g}, "
                "where nothing is known"
            )
        ordered.append(float(np.interp(value, np.asarray(levels, dtype=float), np.arange(len(levels)))))
    return np.array([*ordered, *named])
