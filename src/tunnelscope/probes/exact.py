"""`exact/v1`: multinomial logistic regression on standardised features, solved to a certified gap.

Minimises mean cross-entropy + penalty/2 ‖W‖² with a free bias, which for three classes and more is
scikit-learn's `LogisticRegression(C=1 / (penalty * n))` on standardised features (with two classes
scikit-learn penalises one weight vector, which is half as strong).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tunnelscope.errors import RequestError
from tunnelscope.linalg.coordinates import Coordinates, whitened
from tunnelscope.linalg.lbfgs import Memory
from tunnelscope.linalg.standardise import measure
from tunnelscope.probes.heldout import NOTHING_HELD_OUT, HeldOut
from tunnelscope.probes.linear import LinearProbe
from tunnelscope.probes.penalty import Choice, PathSettings, choose_penalty
from tunnelscope.probes.regression import Regression
from tunnelscope.probes.rows import Rows, check_penalty_range
from tunnelscope.probes.solve import Solution, solve

PROTOCOL = "exact/v1"
LEAST_TOLERANCE = 1e-12
FLOAT32_TOLERANCE = 1e-4  # below this, rounding in float32 shows in the certificate


@dataclass(frozen=True)
class ExactSettings:
    """How `exact/v1` is fitted.

    Attributes:
        tolerance: certified (objective − optimum) / objective to reach.
        penalty: on standardised features; None chooses it on held-out rows.
        seed: of the held-out rows, and of the rows that shape the solver's metric.
        path: where the penalty is searched.
        most_evaluations: of the objective in each precision, before a fit is given up as not converged.
    """

    tolerance: float = 1e-3
    penalty: float | None = None
    seed: int = 0
    path: PathSettings = field(default_factory=PathSettings)
    most_evaluations: int = 1000


def check_tolerance(tolerance: float) -> None:
    """Refuse a tolerance that no certificate can meet, or that any probe meets. Raises RequestError."""
    if not LEAST_TOLERANCE <= tolerance < 1:
        raise RequestError(
            f"tolerance {tolerance:g} is not from {LEAST_TOLERANCE:g} to below 1; the default will do"
        )


def fit_exact(
    rows: Rows, settings: ExactSettings, layer: str = "", coordinates: Coordinates | None = None
) -> LinearProbe:
    """Fit the probe; `converged` says whether the gap reached the tolerance.

    Only classes among the rows enter the fit: an absent one gets weights 0 and bias −inf. The held-out rows
    share the scaling of all training rows, and their labels serve the choice of the penalty alone.

    Args:
        coordinates: `whitened` of these features with the seed of `settings`, where they are at hand.

    Raises:
        RequestError: the tolerance or penalty is out of range, or no row can be held out.
    """
    _check(settings)
    present, labels = torch.unique(rows.labels, return_inverse=True)
    coordinates = coordinates or whitened(rows.features, measure(rows.features), settings.seed)
    solver_rows = coordinates.rows(rows.features, torch.float32)
    regression = Regression(solver_rows, labels, len(present), coordinates.scale, settings.seed)
    choice, start, penalty = None, regression.start(), settings.penalty
    if penalty is None:
        parts = rows.held_out(settings.seed)
        if len(parts.heldout) == 0:
            raise RequestError(NOTHING_HELD_OUT)
        choice, start = _path(regression, coordinates, parts, settings)
        penalty = choice.penalty
    solution = _solve(rows.features, regression, coordinates, start, penalty, settings)
    weights, bias = _folded(solution.point, coordinates, present, len(rows.class_names))
    return LinearProbe(
        weights=weights,
        bias=bias,
        mean=coordinates.standardisation.mean,
        scale=coordinates.standardisation.scale,
        class_names=rows.class_names,
        protocol=PROTOCOL,
        n_train=len(labels),
        seed=settings.seed,
        layer=layer,
        penalty=penalty,
        tolerance=settings.tolerance,
        gap=solution.gap,
        converged=solution.gap <= settings.tolerance,
        heldout_right=None if choice is None else choice.best.right.cpu(),
        heldout_loss=None if choice is None else choice.best.loss,
    )


def _check(settings: ExactSettings) -> None:
    check_tolerance(settings.tolerance)
    check_penalty_range(settings.penalty)


def _path(
    regression: Regression, coordinates: Coordinates, parts: HeldOut, settings: ExactSettings
) -> tuple[Choice, Tensor]:
    """Choose the penalty on held-out rows; return with it a start for the fit on all rows."""
    fit, heldout = (part.to(regression.rows.device) for part in parts)
    fit_rows = regression.rows[fit]
    shift = fit_rows.mean(dim=0)  # the certificate and the metric need the mean of the rows fitted at 0
    part = Regression(
        fit_rows.sub_(shift), regression.labels[fit], regression.classes, regression.scale, settings.seed
    )
    judged = (regression.rows[heldout] - shift, regression.labels[heldout])
    choice = choose_penalty(part, coordinates, judged, settings.path)
    start = choice.best.point.clone()
    start[:, -1] -= start[:, :-1] @ shift
    return choice, start


def _solve(
    features: Tensor,
    regression: Regression,
    coordinates: Coordinates,
    start: Tensor,
    penalty: float,
    settings: ExactSettings,
) -> Solution:
    """Solve in float32, then in float64 where the tolerance asks for it or rounding stopped the descent."""
    aim = max(settings.tolerance, FLOAT32_TOLERANCE)
    solution = solve(regression, coordinates, start, penalty, aim, Memory(), settings.most_evaluations)
    if solution.gap <= settings.tolerance and settings.tolerance >= FLOAT32_TOLERANCE:
        return solution
    rows = coordinates.rows(features, torch.float64)
    precise = Regression(
        rows.sub_(rows.mean(dim=0)), regression.labels, regression.classes, regression.scale, settings.seed
    )
    point, tolerance = solution.point.double(), settings.tolerance
    refined = solve(precise, coordinates, point, penalty, tolerance, Memory(), settings.most_evaluations)
    return refined if refined.gap < solution.gap else solution


def _folded(point: Tensor, coordinates: Coordinates, present: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return weights on standardised features and the bias of all classes, float32."""
    folded = coordinates.fold(point[:, :-1]).float()
    weights = folded.new_zeros(classes, folded.shape[1])
    bias = folded.new_full((classes,), float("-inf"))
    weights[present], bias[present] = folded, point[:, -1].float()
    return weights, bias
