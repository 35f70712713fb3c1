"""Probes of what is no single class: numbers (`ridge_regression/v1`), several labels (`one_vs_rest/v1`).

`ridge_regression/v1` minimises mean ‖y − W x − b‖² + penalty ‖W‖² on standardised features and targets
(scikit-learn's `Ridge(alpha=penalty * n)`), the penalty one of half decades from 1e-6 to 1e4, chosen on
held-out rows as for `ridge/v1`. It is scored by R², the mean over the targets.

`one_vs_rest/v1` fits `exact/v1` to each label against its absence and is scored by average precision (area
under the steps of precision over recall, ties taken together), the mean over the labels (mAP).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunnelscope.errors import RequestError
from tunnelscope.linalg.standardise import Standardisation, measure
from tunnelscope.probes.exact import ExactSettings, fit_exact
from tunnelscope.probes.heldout import heldout_rows
from tunnelscope.probes.ridge import PENALTIES
from tunnelscope.probes.rows import finite_features, scoring_features, training_rows

Array = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class TargetProbe:
    """A linear map from a layer's features to numbers, or to one score a label.

    Attributes:
        weights: on standardised features, (targets, d) float64.
        bias: (targets,) float64.
        scaling: what standardises the features.
        protocol: full name, with what was chosen.
        penalty: of each target, (targets,) float64; NaN for a label that is constant in the training rows.
    """

    weights: Tensor
    bias: Tensor
    scaling: Standardisation
    protocol: str
    penalty: Tensor

    def predict(self, features: Tensor) -> Tensor:
        """Numbers, or scores that rank rows by label, (n, targets) float64. Raises RequestError."""
        rows = scoring_features(features, self.weights.shape[1])
        return self.scaling.apply(rows) @ self.weights.T + self.bias


def fit_ridge_regression(
    features: Tensor, targets: Tensor, *, penalty: float | None = None, seed: int = 0, layer: str = ""
) -> TargetProbe:
    """Fit numbers.

    Args:
        features: (n, d).
        targets: (n,) or (n, t), all finite.
        penalty: above 0; None: chosen on a tenth of the rows.
        seed: of the rows held out.
        layer: named in messages.

    Raises:
        RequestError: rows that do not fit together, are not finite, or are too few to hold some out.
    """
    where = f"layer {layer!r}: " if layer else ""
    features, targets = finite_features(features, where), _numbers(targets, len(features), where)
    if penalty is not None and not 0 < penalty < float("inf"):
        raise RequestError(f"penalty {penalty:g} is not above 0; leave it out to have it chosen")
    scaling, units = measure(features), measure(targets)
    x, y = scaling.apply(features), units.apply(targets)
    if penalty is None:
        penalty = _choose_penalty(x, y, seed, where)
    weights = _ridge_weights(x, y, [penalty])[0]
    spread = torch.where(units.scale > 0, 1 / units.scale, 0.0)  # a constant target is its mean
    of_target = (weights * spread).T
    protocol = "ridge_regression/v1"
    return TargetProbe(of_target, units.mean, scaling, protocol, torch.full_like(units.mean, penalty))


def fit_one_vs_rest(
    features: Tensor, labels: Tensor, *, tolerance: float = 1e-3, seed: int = 0, layer: str = ""
) -> TargetProbe:
    """Fit each label against its absence.

    A label that all or none of the training rows have gets the score 0 for every row.

    Args:
        features: (n, d).
        labels: (n, C) of 0 and 1, any type.
        tolerance: certified relative gap of each fit.
        seed: of the rows held out.
        layer: named in messages.

    Raises:
        RequestError: rows that do not fit together, labels other than 0 and 1, or none that varies.
    """
    where = f"layer {layer!r}: " if layer else ""
    features, labels = finite_features(features, where), _zeros_and_ones(labels, len(features), where)
    scaling = measure(features)
    weights = features.new_zeros(labels.shape[1], features.shape[1]).double()
    bias, penalty = weights.new_zeros(len(weights)), weights.new_full((len(weights),), float("nan"))
    for label in range(labels.shape[1]):
        if not 0 < int(labels[:, label].sum()) < len(labels):
            continue
        rows = training_rows(features, labels[:, label], 2, None, layer)
        fitted = fit_exact(rows, ExactSettings(tolerance=tolerance, seed=seed), layer)
        weights[label] = (fitted.weights[1] - fitted.weights[0]).double()
        bias[label] = (fitted.bias[1] - fitted.bias[0]).double()
        penalty[label] = float("nan") if fitted.penalty is None else fitted.penalty
    if not bool((weights != 0).any()) and bool(penalty.isnan().all()):
        raise RequestError(f"{where}each label is the same in all {len(labels)} training rows")
    return TargetProbe(
        weights, bias, scaling, f"one_vs_rest/v1 with exact/v1, tolerance {tolerance:g}", penalty
    )


def r2(predictions: Array, targets: Array) -> float:
    """R², the mean over the targets; constant targets are left out (NaN if all are).

    Args:
        predictions, targets: (n,) or (n, t).
    """
    return float(_r2(np.ones((1, len(targets))), *_columns(predictions, targets))[0])


def mean_average_precision(scores: Array, labels: Array) -> float:
    """Mean over the labels of average precision; labels that no row has are left out (NaN if all are).

    Args:
        scores: (n, C), higher where the label is thought to be.
        labels: (n, C) of 0 and 1.
    """
    return float(_mean_precision(np.ones((1, len(labels))), *_columns(scores, labels))[0])


def resampled_r2(predictions: Array, targets: Array, generator: np.random.Generator, resamples: int) -> Array:
    """R² on bootstrap samples of the rows, (resamples,); equal generators keep layers paired."""
    counts = _counts(len(targets), generator, resamples)
    return _r2(counts, *_columns(predictions, targets))


def resampled_map(scores: Array, labels: Array, generator: np.random.Generator, resamples: int) -> Array:
    """Mean average precision on bootstrap samples of the rows, (resamples,)."""
    return _mean_precision(_counts(len(labels), generator, resamples), *_columns(scores, labels))


def _counts(rows: int, generator: np.random.Generator, resamples: int) -> Array:
    return generator.multinomial(rows, np.full(rows, 1 / rows), size=resamples).astype(np.float64)


def _columns(*arrays: Array) -> list[Array]:
    return [np.asarray(one, dtype=np.float64).reshape(len(one), -1) for one in arrays]


def _r2(counts: Array, predictions: Array, targets: Array) -> Array:
    """R² by rows' counts, (resamples,)."""
    centred = targets - targets.mean(axis=0)  # sums of squares around 0 would lose a large mean's digits
    total = counts.sum(axis=1)[:, None]
    around = counts @ np.square(centred) - np.square(counts @ centred) / total
    missed = counts @ np.square(targets - predictions)
    known = around > total * np.square(1e-12 * np.abs(targets).max(axis=0))  # more than rounding
    return _mean_of_known(1 - missed / np.where(known, around, 1.0), known)


def _mean_precision(counts: Array, scores: Array, labels: Array) -> Array:
    """Mean average precision by rows' counts, (resamples,)."""
    precisions = [
        _average_precision(counts, scores[:, label], labels[:, label]) for label in range(labels.shape[1])
    ]
    values = np.stack(precisions, axis=1)
    return _mean_of_known(values, np.isfinite(values))


def _average_precision(counts: Array, scores: Array, truth: Array) -> Array:
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of rows with one score
    weights = counts[:, order]
    found = np.cumsum(weights * truth[order], axis=1)[:, last]
    taken = np.cumsum(weights, axis=1)[:, last]
    gains = np.diff(found, axis=1, prepend=0.0)
    positives = found[:, -1]
    summed = (gains * found / np.maximum(taken, 1.0)).sum(axis=1)
    return np.where(positives > 0, summed / np.maximum(positives, 1.0), np.nan)


def _mean_of_known(values: Array, known: Array) -> Array:
    count = known.sum(axis=1)
    means = np.where(known, values, 0.0).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, means, np.nan)


def _choose_penalty(x: Tensor, y: Tensor, seed: int, where: str) -> float:
    """The penalty with the least squared error on held-out rows, targets in units of their spread."""
    if len(x) < 3:
        raise RequestError(f"{where}{len(x)} rows are too few to hold some out; give penalty= or more rows")
    fit, held = heldout_rows(torch.zeros(len(x), dtype=torch.int64), seed)
    mean_x, mean_y = x[fit].mean(dim=0), y[fit].mean(dim=0)
    candidates = _ridge_weights(x[fit] - mean_x, y[fit] - mean_y, PENALTIES)
    errors = [
        float(((x[held] - mean_x) @ weights + mean_y - y[held]).square().mean()) for weights in candidates
    ]
    return PENALTIES[int(np.argmin(errors))]


def _ridge_weights(x: Tensor, y: Tensor, penalties: "tuple[float, ...] | list[float]") -> list[Tensor]:
    """Weights (d, t) at each penalty, of centred rows (n, d) and targets (n, t), from one decomposition."""
    count, width = x.shape
    if width <= count:
        variances, directions = torch.linalg.eigh(x.T @ x / count)
        moment = directions.T @ (x.T @ y / count)
        return [directions @ (moment / (variances.clamp_min(0)[:, None] + one)) for one in penalties]
    variances, directions = torch.linalg.eigh(x @ x.T / count)  # the optimum lies in the span of the rows
    moment = directions.T @ y
    return [
        x.T @ (directions @ (moment / (variances.clamp_min(0)[:, None] + one))) / count for one in penalties
    ]


def _numbers(targets: Tensor, rows: int, where: str) -> Tensor:
    targets = torch.as_tensor(targets)
    targets = targets[:, None] if targets.ndim == 1 else targets
    if targets.ndim != 2 or len(targets) != rows or targets.is_complex():
        raise RequestError(
            f"{where}targets of shape {tuple(targets.shape)} for {rows} rows; give (n,) or (n, t)"
        )
    bad = (~targets.double().isfinite()).any(dim=1).nonzero().flatten()
    if len(bad):
        raise RequestError(f"{where}targets are not finite in {len(bad)} rows (first: {int(bad[0])})")
    return targets.double()


def _zeros_and_ones(labels: Tensor, rows: int, where: str) -> Tensor:
    labels = torch.as_tensor(labels)
    if labels.ndim != 2 or len(labels) != rows:
        raise RequestError(f"{where}labels of shape {tuple(labels.shape)} for {rows} rows; give (n, labels)")
    odd = (~((labels == 0) | (labels == 1))).nonzero()
    if len(odd):
        row, label = odd[0].tolist()
        raise RequestError(f"{where}label {label} of row {row} is {labels[row, label].item()}; give 0 or 1")
    return labels.long()
