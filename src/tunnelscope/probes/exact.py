"""`exact/v2`: multinomial logistic regression on standardised features, solved to a certified gap.

Minimises mean cross-entropy + penalty/2 ‖W‖² with a free bias, which for three classes and more is
scikit-learn's `LogisticRegression(C=1 / (penalty * n))` on standardised features (with two classes
scikit-learn penalises one weight vector, which is half as strong).

The penalty is chosen on held-out rows: searched on a quarter of the other rows where that is plenty, then
fitted on all of these, which is the fit that held-out accuracy and loss are of, and at last on all rows.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tunnelscope.errors import RequestError
from tunnelscope.linalg.coordinates import Coordinates, whitened
from tunnelscope.linalg.lbfgs import Memory
from tunnelscope.linalg.precision import fast_type
from tunnelscope.linalg.standardise import measure
from tunnelscope.probes.heldout import NOTHING_HELD_OUT, HeldOut
from tunnelscope.probes.linear import LinearProbe
from tunnelscope.probes.penalty import HeldOutRows, Path, PathSettings
from tunnelscope.probes.regression import Regression
from tunnelscope.probes.rows import Rows, check_penalty_range
from tunnelscope.probes.solve import Solver, solve
from tunnelscope.probes.surrogate import Surrogate
from tunnelscope.randomness import named_generator

PROTOCOL = "exact/v2"
LEAST_TOLERANCE = 1e-12
QUARTER = 0.25  # of the rows, to search the penalty on
ROWS_A_FEATURE = 20  # that such a part must have
ROWS_A_CLASS = 50


@dataclass(frozen=True)
class ExactSettings:
    """How `exact/v2` is fitted.

    Attributes:
        tolerance: certified (objective − optimum) / objective to reach.
        penalty: on standardised features; None chooses it on held-out rows.
        seed: of the held-out rows, and of the rows that shape the solver's metric.
        path: where the penalty is searched.
        smoothing: share of each target that is spread evenly over the classes (label smoothing).
        most_evaluations: of the objective, before the last fit is given up as not converged.
    """

    tolerance: float = 1e-3
    penalty: float | None = None
    seed: int = 0
    path: PathSettings = field(default_factory=PathSettings)
    smoothing: float = 0.0
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
    classes = len(present)
    coordinates = coordinates or whitened(rows.features, measure(rows.features), settings.seed)
    standardisation = coordinates.standardisation
    number_type = fast_type(rows.features.device, rows.features.numel() * classes)
    regression = Regression(rows.features, labels, classes, standardisation, settings.smoothing)
    solver = Solver(regression, coordinates, coordinates.rows(rows.features, number_type), settings.seed)
    penalty, right, loss = settings.penalty, None, None
    if penalty is None:
        parts = rows.held_out(settings.seed)
        if len(parts.heldout) == 0:
            raise RequestError(NOTHING_HELD_OUT)
        chosen = _choose(solver, parts, settings)
        start, memory, penalty = chosen.point, chosen.memory, chosen.penalty
        right, loss = chosen.right.cpu(), chosen.loss
    else:
        lead = _lead(solver, settings)
        start, memory = lead.lead_to(penalty), lead.memory
        lead.carry(penalty)
    solution = solve(solver, start, penalty, settings.tolerance, memory, settings.most_evaluations)
    weights, bias = _folded(solution.point, coordinates, present, len(rows.class_names))
    return LinearProbe(
        weights=weights,
        bias=bias,
        mean=coordinates.standardisation.mean,
        scale=coordinates.standardisation.scale,
        class_names=rows.class_names,
        smoothing=settings.smoothing,
        protocol=_protocol(settings),
        n_train=len(labels),
        seed=settings.seed,
        layer=layer,
        penalty=penalty,
        tolerance=settings.tolerance,
        gap=solution.gap,
        converged=solution.gap <= settings.tolerance,
        heldout_right=right,
        heldout_loss=loss,
    )


def _check(settings: ExactSettings) -> None:
    check_tolerance(settings.tolerance)
    check_penalty_range(settings.penalty)


@dataclass(frozen=True, eq=False)
class _Chosen:
    """A penalty, the fit at it on the rows not held out, and how that does on the others."""

    penalty: float
    point: Tensor
    memory: Memory
    right: Tensor
    loss: float


def _choose(solver: Solver, parts: HeldOut, settings: ExactSettings) -> _Chosen:
    """Choose the penalty on held-out rows; the fit that judged it is a start for the one on all rows."""
    regression, coordinates = solver.regression, solver.coordinates
    fit, heldout = (part.to(regression.features.device) for part in parts)
    judged = HeldOutRows(
        coordinates.rows(regression.features[heldout], torch.float32), regression.labels[heldout]
    )
    whole = Path(_part(solver, fit, settings), coordinates, settings.path)
    few = _few(regression, fit, settings.seed)
    path = whole
    if few is not None:
        path = Path(_part(solver, few, settings), coordinates, settings.path, len(few) / len(fit))
    penalty, best = path.choose(judged)
    whole.memory, whole.last = path.memory, path.last
    last = whole.fit(penalty, best.point)
    loss, right = judged.judge(last)
    return _Chosen(penalty, last, whole.memory, right, loss)


def _lead(solver: Solver, settings: ExactSettings) -> Path:
    """Return the path to a given penalty, on some of the rows where they are plenty."""
    regression = solver.regression
    everything = torch.arange(len(regression.labels), device=regression.labels.device)
    few = _few(regression, everything, settings.seed)
    if few is None:
        return Path(solver.surrogate, solver.coordinates, settings.path)
    part = len(few) / len(everything)
    return Path(_part(solver, few, settings), solver.coordinates, settings.path, part)


def _few(regression: Regression, fit: Tensor, seed: int) -> Tensor | None:
    """Return some of the rows to search the penalty on, ascending; None where that is not half as many.

    A quarter of them, or as many as the features or the rarest class need.
    """
    counts = torch.bincount(regression.labels[fit], minlength=regression.classes)
    share = max(QUARTER, ROWS_A_CLASS / max(1, int(counts.min())))
    count = max(round(share * len(fit)), ROWS_A_FEATURE * regression.features.shape[1])
    if count > len(fit) / 2:
        return None
    order = torch.randperm(len(fit), generator=named_generator(seed, "rows to search the penalty on"))
    return fit[order[:count].sort().values.to(fit.device)]


def _part(solver: Solver, chosen: Tensor, settings: ExactSettings) -> Surrogate:
    """Return the surrogate of some of the rows."""
    rows, labels = solver.surrogate.rows[chosen], solver.regression.labels[chosen]
    classes, even = solver.regression.classes, settings.smoothing / solver.regression.classes
    counts = torch.bincount(labels, minlength=classes).double()
    sums = torch.zeros(classes, rows.shape[1], device=rows.device)
    for block, numbers in zip(rows.split(4096), labels.split(4096), strict=True):
        sums.index_add_(0, numbers, block.float())
    moment = ((1 - settings.smoothing) * sums + even * sums.sum(dim=0)).double() / len(rows)
    frequencies = (1 - settings.smoothing) * counts / len(rows) + even
    return Surrogate(
        rows, labels, solver.coordinates.scale, frequencies, moment, settings.smoothing, settings.seed
    )


def _protocol(settings: ExactSettings) -> str:
    return f"{PROTOCOL}, label smoothing {settings.smoothing:g}" if settings.smoothing else PROTOCOL


def _folded(point: Tensor, coordinates: Coordinates, present: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return weights on standardised features and the bias of all classes, float32."""
    folded = coordinates.fold(point[:, :-1]).float()
    weights = folded.new_zeros(classes, folded.shape[1])
    bias = folded.new_full((classes,), float("-inf"))
    weights[present], bias[present] = folded, point[:, -1].float()
    return weights, bias
