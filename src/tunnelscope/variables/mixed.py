"""The second opinion: a linear mixed model, networks and OOD sets as random effects."""

import warnings
from typing import Any

import numpy as np

from tunnelscope.variables.observations import Observations
from tunnelscope.variables.slopes import Design, scaled


def mixed_slopes(given: Observations, design: Design, target: str) -> dict[str, dict[str, float]]:
    """Fixed effects of all variables over their whole range, with 95 % intervals and p.

    Networks and OOD sets have random intercepts (crossed, as variance components). Variables that earlier
    ones determine are left out: a linear model cannot tell them apart.

    Returns:
        By variable `slope`, `low`, `high`, `p`; empty where the model cannot be fitted.
    """
    import statsmodels.api as sm

    columns, names = independent(design)
    if not names:
        return {}
    table: Any = given.frame
    exog = sm.add_constant(columns, has_constant="add")
    groups = np.ones(len(table))
    parts = {"network": "0 + C(network)", "ood": "0 + C(ood)"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of convergence: what it says is checked below
            model = sm.MixedLM(
                table[target].to_numpy(float), exog, groups=groups, exog_vc=_components(table, parts)
            )
            fitted: Any = model.fit(reml=True)
    except (np.linalg.LinAlgError, ValueError):
        return {}
    if not fitted.converged:
        return {}
    bounds = np.asarray(fitted.conf_int())[: len(names) + 1]
    return {
        name: {
            "slope": float(fitted.fe_params[place]),
            "low": float(bounds[place][0]),
            "high": float(bounds[place][1]),
            "p": float(fitted.pvalues[place]),
        }
        for place, name in enumerate(names, start=1)
    }


def independent(design: Design) -> tuple[np.ndarray, list[str]]:
    """Columns of the variables that no earlier ones determine, each scaled to 0 … 1, and their names."""
    kept: list[np.ndarray] = []
    names: list[str] = []
    base = [np.ones(len(design.codes))]
    for place, name in enumerate(design.variables):
        column = scaled(design, place)
        if np.linalg.matrix_rank(np.stack([*base, *kept, column], axis=1)) > len(base) + len(kept):
            kept.append(column)
            names.append(name)
    columns = np.stack(kept, axis=1) if kept else np.empty((len(design.codes), 0))
    return columns, names


def _components(table: Any, parts: dict[str, str]) -> Any:
    from statsmodels.regression.mixed_linear_model import VCSpec

    names, columns, matrices = [], [], []
    for name in parts:
        levels = list(dict.fromkeys(table[name]))
        matrix = np.stack([(table[name] == level).to_numpy(float) for level in levels], axis=1)
        names.append(name)
        columns.append([[str(level) for level in levels]])
        matrices.append([matrix])
    return VCSpec(names, columns, matrices)
