"""`ridge/v1`: one-hot targets regressed on standardised features, in closed form.

Minimises mean ‖y − W x − b‖² + penalty ‖W‖² (scikit-learn's `Ridge(alpha=penalty * n)`). The penalty is the
one of half decades from 1e-6 to 1e4 with the smallest squared error on held-out rows; in the eigenvectors of
the covariance each of them costs a division. Outputs are scores, not log-probabilities: the loss of a ridge
probe says little.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tunnelscope.errors import RequestError
from tunnelscope.linalg.blocks import row_blocks
from tunnelscope.linalg.eigen import eigen
from tunnelscope.linalg.standardise import Standardisation, measure
from tunnelscope.probes.heldout import NOTHING_HELD_OUT
from tunnelscope.probes.linear import LinearProbe
from tunnelscope.probes.rows import Rows, check_penalty_range

PROTOCOL = "ridge/v1"
PENALTIES = tuple(10 ** (half / 2) for half in range(-12, 9))


@dataclass(frozen=True, eq=False)
class _Moments:
    """Sums over rows x and one-hot targets y, float64: of x, y, x xᵀ and x yᵀ."""

    count: int
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor

    def __add__(self, other: "_Moments") -> "_Moments":
        total = (self.xx + other.xx, self.xy + other.xy)
        return _Moments(self.count + other.count, self.x + other.x, self.y + other.y, *total)

    def centred(self) -> tuple[Tensor, Tensor]:
        """Return the covariance and the cross-covariance."""
        mean_x, mean_y = self.x / self.count, self.y / self.count
        cross = self.xy / self.count - torch.outer(mean_x, mean_y)
        return self.xx / self.count - torch.outer(mean_x, mean_x), cross


def fit_ridge(rows: Rows, seed: int, penalty: float | None = None, layer: str = "") -> LinearProbe:
    """Fit the probe in float64.

    Raises:
        RequestError: the penalty is not above 0, or no row can be held out to choose it.
    """
    check_penalty_range(penalty)
    scaling = measure(rows.features)
    span, solver, inner = None, rows, scaling
    if rows.features.shape[1] > len(rows.features):  # the optimum lies in the span of the rows
        span, triangle = torch.linalg.qr(scaling.apply(rows.features).T)
        inner = Standardisation(torch.zeros_like(triangle[0]), torch.ones_like(triangle[0]))
        solver = Rows(triangle.T, rows.labels, rows.class_names)
    parts = rows.held_out(seed)
    fit, heldout = solver.take(parts.fit), solver.take(parts.heldout)
    moments, right, loss = _moments(fit, inner), None, None
    if len(parts.heldout):
        candidates = PENALTIES if penalty is None else (penalty,)
        penalty, right, loss = _choose(moments, heldout, inner, candidates)
        moments = moments + _moments(heldout, inner)
    if penalty is None:
        raise RequestError(NOTHING_HELD_OUT)
    weights = _solved(*moments.centred(), penalty)
    bias = (moments.y - moments.x @ weights) / moments.count
    weights = weights if span is None else span @ weights
    absent = moments.y == 0
    return LinearProbe(
        weights=weights.T.float().contiguous(),
        bias=torch.where(absent, float("-inf"), bias).float(),
        mean=scaling.mean,
        scale=scaling.scale,
        class_names=rows.class_names,
        protocol=PROTOCOL,
        n_train=len(rows.labels),
        seed=seed,
        layer=layer,
        penalty=penalty,
        heldout_right=right,
        heldout_loss=loss,
    )


def predict_parts(
    rows: Rows, parts: Tensor, penalty: float, scaling: Standardisation
) -> Iterator[tuple[Tensor, Tensor]]:
    """Predict each part of the rows by a fit on all others, which one eigendecomposition gives them all.

    With H the rows' hat matrix, a fit without the rows f predicts y_f − (I − H_ff)⁻¹ (y_f − ŷ_f) for them.

    Args:
        parts: part of each row, (n,), −1 for rows that are in every fit.
        penalty: of each fit, times the rows of that fit.
        scaling: of the rows; each fit has its own mean, through its bias.

    Yields:
        numbers of the rows of a part, ascending, and their outputs (rows, classes), float64; −inf for a class
        that no other row has.
    """
    x = scaling.apply(rows.features)
    x = x - x.mean(dim=0)
    is_wide = x.shape[1] > len(x)
    squares, directions = eigen(x @ x.T if is_wide else x.T @ x)
    squares = squares.clamp_min(0)
    coordinates = directions * squares.sqrt() if is_wide else x @ directions
    targets = F.one_hot(rows.labels, len(rows.class_names)).double()
    mean = targets.mean(dim=0)
    moments = coordinates.T @ (targets - mean)
    for part in range(int(parts.max()) + 1):
        held = (parts == part).nonzero().flatten()
        kept = targets.sum(dim=0) - targets[held].sum(dim=0)
        shrunk = coordinates[held] / (squares + penalty * (len(x) - len(held)))
        hat = shrunk @ coordinates[held].T + 1 / len(x)
        missed = targets[held] - (mean + shrunk @ moments)
        unseen = torch.linalg.solve(torch.eye(len(held), dtype=hat.dtype, device=hat.device) - hat, missed)
        yield held, (targets[held] - unseen).masked_fill(kept == 0, float("-inf"))


def _solved(covariance: Tensor, cross: Tensor, penalty: float) -> Tensor:
    if penalty < min(PENALTIES):
        # Columns that repeat others leave directions with no variance but that of rounding, and no weight.
        variances, directions = eigen(covariance)
        rounding = len(variances) * torch.finfo(variances.dtype).eps * variances.max()
        coordinates = directions.T @ cross / (variances.clamp_min(0)[:, None] + penalty)
        return directions @ coordinates.masked_fill((variances <= rounding)[:, None], 0)
    covariance.diagonal().add_(penalty)
    return torch.linalg.solve(covariance, cross)


def _moments(rows: Rows, scaling: Standardisation) -> _Moments:
    width, classes = rows.features.shape[1], len(rows.class_names)
    x, y = rows.features.new_zeros(width).double(), rows.features.new_zeros(classes).double()
    xx, xy = x.new_zeros(width, width), x.new_zeros(width, classes)
    for block in row_blocks(*rows.features.shape):
        standardised = scaling.apply(rows.features[block])
        targets = F.one_hot(rows.labels[block], classes).double()
        x, y = x + standardised.sum(dim=0), y + targets.sum(dim=0)
        xx.addmm_(standardised.T, standardised)
        xy.addmm_(standardised.T, targets)
    return _Moments(len(rows.labels), x, y, xx, xy)


def _choose(
    moments: _Moments, heldout: Rows, scaling: Standardisation, penalties: tuple[float, ...]
) -> tuple[float, Tensor, float]:
    """Return the penalty with the least squared error on held-out rows, which are right, cross-entropy."""
    covariance, cross = moments.centred()
    variances, directions = eigen(covariance)
    variances, cross = variances.clamp_min(0)[:, None], directions.T @ cross
    rows = (scaling.apply(heldout.features) - moments.x / moments.count) @ directions
    targets = F.one_hot(heldout.labels, len(heldout.class_names)).double()
    mean = moments.y / moments.count

    def outputs(penalty: float) -> Tensor:
        return torch.addmm(mean, rows, cross / (variances + penalty))

    errors = {
        penalty: float((outputs(penalty) - targets).square().sum(dim=1).mean()) for penalty in penalties
    }
    best = min(errors, key=errors.__getitem__)
    judged = outputs(best).masked_fill(moments.y == 0, float("-inf"))
    right = judged.argmax(dim=1) == heldout.labels
    return best, right.cpu(), float(F.cross_entropy(judged, heldout.labels))
