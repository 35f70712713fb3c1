"""The protocols a probe can be fitted by, each under a fixed name; a changed default is a new name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.linalg.threads import threads_for
from tunnelscope.probes.exact import ExactSettings, fit_exact
from tunnelscope.probes.knn import KnnProbe, fit_knn
from tunnelscope.probes.linear import LinearProbe
from tunnelscope.probes.recipes import (
    HARUN2024,
    HARUN2024_CODE,
    HARUN2024_VIT,
    MASARCZYK2023,
    Recipe,
    fit_recipe,
    fit_recipes,
)
from tunnelscope.probes.ridge import fit_ridge
from tunnelscope.probes.rows import Rows, check_penalty_range, scoring_rows, training_rows
from tunnelscope.probes.targets import TargetProbe, fit_one_vs_rest, fit_ridge_regression
from tunnelscope.protocol_names import PROTOCOL_NAMES, short_names
from tunnelscope.tasks import CLASSIFICATION, MULTI_LABEL, REGRESSION, SCORE_NAMES

WITH_PENALTY = ("exact/v2", "ridge/v1")


@dataclass(frozen=True)
class FitSettings:
    """What is asked of a protocol.

    Attributes:
        tolerance: certified relative gap, for `exact`.
        penalty: for `exact` and `ridge`; None: chosen on held-out rows.
        seed: of all draws.
        smoothing: label smoothing, for `exact`; a paper's recipe has its own.
        test: rows that a paper's recipe reads after each epoch, for `best_test_accuracy`.
    """

    tolerance: float = 1e-3
    penalty: float | None = None
    seed: int = 0
    smoothing: float = 0.0
    test: Rows | None = None


def check_smoothing(protocol: str, smoothing: float) -> None:
    """Refuse label smoothing out of range, or of a protocol (full name) without it. Raises RequestError."""
    if not 0 <= smoothing < 1:
        raise RequestError(f"label smoothing {smoothing:g} is not from 0 to below 1; leave it out for none")
    if smoothing and protocol != PROTOCOL_NAMES[0]:
        raise RequestError(f"protocol {protocol} takes no label smoothing; leave it out, or take exact")


def check_penalty(protocol: str, penalty: float | None) -> None:
    """Refuse a penalty out of range, or of a protocol (full name) that has none. Raises RequestError."""
    if penalty is None:
        return
    if protocol not in WITH_PENALTY:
        raise RequestError(f"protocol {protocol} has no penalty; leave it out, or take exact or ridge")
    check_penalty_range(penalty)


def _exact(rows: Rows, settings: FitSettings, layer: str) -> LinearProbe:
    exact = ExactSettings(
        tolerance=settings.tolerance,
        penalty=settings.penalty,
        seed=settings.seed,
        smoothing=settings.smoothing,
    )
    return fit_exact(rows, exact, layer)


def _ridge(rows: Rows, settings: FitSettings, layer: str) -> LinearProbe:
    return fit_ridge(rows, settings.seed, settings.penalty, layer)


def _knn(rows: Rows, settings: FitSettings, layer: str) -> KnnProbe:
    return fit_knn(rows, settings.seed, layer)


def _recipe(recipe: Recipe) -> "Fit":
    def fit(rows: Rows, settings: FitSettings, layer: str) -> LinearProbe:
        return fit_recipe(rows, recipe, settings.seed, layer, settings.test)

    return fit


def task_protocol(name: str, task: str) -> str:
    """Return the protocol that probes of a task follow where `name` was asked for.

    Raises:
        RequestError: an unknown protocol or task, or a protocol that is for classes alone.
    """
    full = protocol_name(name)
    if task not in SCORE_NAMES:
        raise unknown_name("task", task, SCORE_NAMES)
    if task == CLASSIFICATION:
        return full
    able = {REGRESSION: ("exact/v2", "ridge/v1"), MULTI_LABEL: ("exact/v2",)}[task]
    if full not in able:
        raise RequestError(f"probe {name} is for classes, the labels here are {task}; leave --probe out")
    return "ridge_regression/v1" if task == REGRESSION else "one_vs_rest/v1 with exact/v2"


Fit = Callable[[Rows, FitSettings, str], LinearProbe | KnnProbe]
_PAPERS = (MASARCZYK2023, HARUN2024, HARUN2024_VIT, HARUN2024_CODE)
_FITS: tuple[Fit, ...] = (_exact, _ridge, _knn, *map(_recipe, _PAPERS))  # as the names
RECIPES = {recipe.protocol: recipe for recipe in _PAPERS}
PROTOCOLS: dict[str, Fit] = dict(zip(PROTOCOL_NAMES, _FITS, strict=True))


def protocol_name(name: str) -> str:
    """Return the full name of a protocol; the short one means its newest version. Raises RequestError."""
    versions = [full for full in PROTOCOLS if name in (full, full.split("/")[0])]
    if not versions:
        raise unknown_name("probe protocol", name, short_names())
    return versions[-1]


def fit_probe(
    features: Any,
    labels: Any,
    *,
    protocol: str = "exact",
    classes: int | None = None,
    class_names: Sequence[str] | None = None,
    tolerance: float = 1e-3,
    penalty: float | None = None,
    seed: int = 0,
    layer: str = "",
    task: str = CLASSIFICATION,
    groups: Any = None,
    test: tuple[Any, Any] | None = None,
    smoothing: float = 0.0,
) -> LinearProbe | KnnProbe | TargetProbe:
    """Fit one probe on training rows.

    Args:
        features: (n, d), raw: what a protocol wants standardised it standardises itself.
        labels: (n,), whole numbers from 0; for other tasks as `targets` has them.
        protocol: a name of `PROTOCOLS`, full or short.
        classes, class_names: all classes there are, also those without a training row.
        tolerance, penalty, seed: see `FitSettings`.
        layer: kept in the probe and named in messages.
        task: "classification", "regression" (numbers) or "multi-label" (0 and 1, (n, labels)).
        groups: what each row belongs to (a patient, a video), (n,), whole numbers: rows of one group are all
            held out, or none is. None: each row stands alone.
        test: test rows, features and labels. Only the papers' recipes read them, for `best_test_accuracy`;
            `Probe.scored` fills in all other numbers.
        smoothing: of `exact` for classes: share of each label that is spread evenly over all classes.

    Raises:
        RequestError: unknown protocol, or rows that cannot be fitted.
    """
    name = protocol_name(protocol)
    check_penalty(name, penalty)
    check_smoothing(name, smoothing)
    if task != CLASSIFICATION:
        task_protocol(name, task)
        if smoothing:
            raise RequestError(f"label smoothing is for classes, the labels here are {task}; leave it out")
        told = {"penalty": penalty, "seed": seed, "layer": layer, "names": tuple(class_names or ())}
        if task == REGRESSION:
            return fit_ridge_regression(features, labels, groups=groups, **told)
        return fit_one_vs_rest(features, labels, tolerance=tolerance, groups=groups, **told)
    rows = training_rows(features, labels, classes, class_names, layer, groups)
    read = None
    if test is not None and name in RECIPES:
        read = scoring_rows(*test, rows.features.shape[1], rows.class_names, layer)
    with threads_for(rows.features.numel() * len(rows.class_names)):
        return PROTOCOLS[name](rows, FitSettings(tolerance, penalty, seed, smoothing, read), layer)


def fit_recipe_probes(
    features: Mapping[str, Any],
    labels: Any,
    *,
    protocol: str,
    classes: int | None = None,
    class_names: Sequence[str] | None = None,
    penalty: float | None = None,
    seed: int = 0,
    groups: Any = None,
    test: tuple[Mapping[str, Any], Any] | None = None,
) -> Iterator[tuple[str, LinearProbe]]:
    """Fit probes of a paper's recipe on several layers, those of equal width side by side.

    Args:
        features: layer → (n, d).
        labels, classes, class_names, seed, groups: as in `fit_probe`.
        protocol: a name of `RECIPES`, full or short.
        penalty: refused, as in `fit_probe`.
        test: layer → test features, and their labels; as in `fit_probe`.

    Yields:
        layer and probe, as `fit_probe` gives it, in the order in which they are done.

    Raises:
        RequestError: rows that cannot be fitted, before anything is.
    """
    recipe = RECIPES[protocol_name(protocol)]
    check_penalty(recipe.protocol, penalty)
    rows = {
        name: training_rows(layer, labels, classes, class_names, name, groups)
        for name, layer in features.items()
    }
    read = None
    if test is not None:
        read = {
            name: scoring_rows(test[0][name], test[1], one.features.shape[1], one.class_names, name)
            for name, one in rows.items()
        }
    with threads_for(max(one.features.numel() * len(one.class_names) for one in rows.values())):
        yield from fit_recipes(rows, recipe, seed, read)
