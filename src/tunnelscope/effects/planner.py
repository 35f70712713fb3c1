"""What a network that is not yet trained will retain, from a table of others; how far off such a guess is."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunnelscope.effects.grouped import left_out, means_by
from tunnelscope.effects.observations import Observations
from tunnelscope.effects.slopes import Array, Design, check_networks, design_of, fit
from tunnelscope.errors import RequestError, unknown_name

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


def read_plan(path: str | Path, variables: Sequence[str]) -> list[dict[str, Any]]:
    """Read networks to foretell: `[[network]]` tables with a `name` and every variable.

    Raises:
        RequestError: no such file, not TOML, a variable that is missing or unknown.
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
    for place, network in enumerate(networks, start=1):
        for name in network:
            if name not in ("name", *variables):
                raise unknown_name(f"variable (network {place} of {path})", name, variables)
        for name in variables:
            if name not in network:
                raise RequestError(f"{path}: network {place} lacks {name}")
    return networks


def predictions(given: Observations, plan: Sequence[Mapping[str, Any]]) -> list[Prediction]:
    """Foretell the networks of a plan on every target of a table.

    Raises:
        RequestError: too few networks, or a level that the table does not know the like of.
    """
    check_networks(given)
    design = design_of(given)
    inputs = np.stack([coded(design, network) for network in plan])
    told: list[dict[str, dict[str, float]]] = [{} for _ in plan]
    for target in given.targets:
        values = given.frame[target].to_numpy(float)
        reach = error_of(given, design, target)["reach"]
        for place, value in enumerate(fit(design.columns, values).predict(inputs)):
            told[place][target] = {
                "value": float(value),
                "low": float(value - reach),
                "high": float(value + reach),
            }
    names = [str(network.get("name", f"network {place}")) for place, network in enumerate(plan, start=1)]
    return [Prediction(name, values) for name, values in zip(names, told, strict=True)]


def error_of(given: Observations, design: Design, target: str) -> dict[str, float]:
    """How far off means over OOD sets are for networks, and for architectures, that the model was not shown.

    Returns:
        `network` and `architecture` (mean absolute errors; the second only with two or more), `reach`: half
        the width of an interval that holds 95 % of the left-out networks (conformal rank, Vovk et al. 2005).
    """
    values = given.frame[target].to_numpy(float)
    networks = given.frame["network"].to_numpy()
    truth = means_by(values, networks)
    missed = np.abs(means_by(left_out(design.columns, values, networks), networks) - truth)
    found = {"network": float(missed.mean()), "reach": reach_of(missed)}
    architectures = given.frame["architecture"].to_numpy()
    if len(set(architectures)) > 1:
        predicted = means_by(left_out(design.columns, values, architectures), networks)
        found["architecture"] = float(np.abs(predicted - truth).mean())
    return found


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
