"""Probes of what is no single class: numbers (`ridge_regression/v1`), several labels (`one_vs_rest/v1`).

`ridge_regression/v1` minimises mean ‖y − W x − b‖² + penalty ‖W‖² on standardised features and targets
(scikit-learn's `Ridge(alpha=penalty * n)`), the penalty one of half decades from 1e-6 to 1e4, chosen on
held-out rows as for `ridge/v1`. It is scored by R², the mean over the targets.

`one_vs_rest/v1` fits `exact/v2` to each label against its absence and is scored by average precision (area
under the steps of precision over recall, ties taken together), the mean over the labels (mAP).
"""

import math
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from tunnelscope.errors import RequestError
from tunnelscope.linalg.coordinates import whitened
from tunnelscope.linalg.eigen import eigen
from tunnelscope.linalg.standardise import Standardisation, measure
from tunnelscope.probes.credits import ROUNDING, map_credits, r2_credits
from tunnelscope.probes.exact import ExactSettings, fit_exact
from tunnelscope.probes.heldout import NOTHING_HELD_OUT, heldout_rows
from tunnelscope.probes.intervals import wilson
from tunnelscope.probes.linear import Probe
from tunnelscope.probes.ridge import PENALTIES
from tunnelscope.probes.rows import check_penalty_range, finite_features, scoring_features, training_rows
from tunnelscope.tasks import MULTI_LABEL, REGRESSION, SCORE_NAMES

R2, MAP = SCORE_NAMES[REGRESSION], SCORE_NAMES[MULTI_LABEL]
SURE = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, eq=False, kw_only=True)
class TargetProbe(Probe):
    """A linear map from a layer's features to numbers, or to one score a label.

    Attributes:
        class_names: of the targets or labels.
        weights: on standardised features, (targets, d) float64.
        bias: (targets,) float64; of a label that is constant in the training rows its smoothed log-odds.
        mean, scale: what standardises the features, (d,) float64.
        penalties: of each target, (targets,) float64; NaN for a label that is constant in the training rows.
        score_name: `r2` or `map`.
        value: that score on the test rows, None until scored; `low` and `high` are 1.96 standard errors away
            (`credits`), at most 1. Of mAP the interval holds Wilson's for as many rows as have a label (the
            harmonic mean over labels, times their number): the standard error says little of few, and is 0
            where the ranking is perfect.
    """

    weights: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)
    mean: Tensor = field(repr=False)
    scale: Tensor = field(repr=False)
    penalties: Tensor = field(repr=False)
    score_name: str = R2
    value: float | None = None

    @property
    def result(self) -> tuple[str, float | None]:
        """The score's name and its value on the test rows."""
        return self.score_name, self.value

    @property
    def width(self) -> int:
        """How many features it reads."""
        return self.weights.shape[1]

    def predict(self, features: Any) -> Tensor:
        """Numbers, or scores that rank rows by label, (n, targets) float64. Raises RequestError."""
        rows = scoring_features(features, self.width, self.layer)
        scaling = Standardisation(self.mean, self.scale)
        return scaling.apply(rows) @ self.weights.T + self.bias

    def credits(self, features: Any, labels: Any) -> Tensor:
        """What each row adds to the score, (n,) float64; NaN where no target or label varies."""
        return target_credits(self.predict(features), torch.as_tensor(labels), self.score_name)

    def score(self, features: Any, labels: Any) -> float:
        """Return R² or mean average precision on test rows."""
        return float(self.credits(features, labels).mean())

    def scored(self, features: Any, labels: Any) -> Self:
        """Return the same probe with its numbers on these test rows filled in."""
        credits = self.credits(features, labels)
        value = float(credits.mean())
        if not math.isfinite(value):
            return replace(self, n_test=len(credits))
        away = SURE * float(credits.std(correction=0)) / math.sqrt(len(credits))
        low, high = value - away, min(1.0, value + away)
        if self.score_name == MAP:
            positives = torch.as_tensor(labels).double().sum(dim=0)
            known = positives[(positives > 0) & (positives < len(credits))]
            counted = round(len(known) ** 2 / float((1 / known).sum()))
            ends = wilson(value * counted, counted)
            low, high = max(0.0, min(low, ends[0])), max(high, ends[1])
        return replace(self, value=value, low=low, high=high, n_test=len(credits))


def target_credits(predictions: Tensor, labels: Tensor, score_name: str) -> Tensor:
    """What each row adds to the score of that name, (n,) float64."""
    credits = r2_credits if score_name == R2 else map_credits
    columns = labels if labels.ndim == 2 else labels[:, None]
    return torch.from_numpy(credits(predictions.cpu().numpy(), columns.cpu().numpy().astype(np.float64)))


def fit_ridge_regression(
    features: Tensor,
    targets: Tensor,
    *,
    penalty: float | None = None,
    seed: int = 0,
    layer: str = "",
    names: tuple[str, ...] = (),
    groups: Tensor | None = None,
) -> TargetProbe:
    """Fit numbers.

    Args:
        features: (n, d).
        targets: (n,) or (n, t), all finite.
        penalty: above 0; None: chosen on a tenth of the rows.
        seed: of the rows held out.
        layer: kept in the probe and named in messages.
        names: of the targets.
        groups: what each row belongs to, (n,) int64: none is on both sides of the held-out rows.

    Raises:
        RequestError: rows that do not fit together, are not finite, or are too few to hold some out.
    """
    where = f"layer {layer!r}: " if layer else ""
    features, targets = finite_features(features, where), _numbers(targets, len(features), where)
    check_penalty_range(penalty)
    scaling, units = measure(features), _units(targets)
    x, y = scaling.apply(features), units.apply(targets)
    if penalty is None:
        penalty = _choose_penalty(x, y, seed, where, groups)
    spread = torch.where(units.scale > 0, 1 / units.scale, 0.0)  # a constant target is its mean
    return TargetProbe(
        weights=(_ridge_weights(x, y, [penalty])[0] * spread).T.contiguous(),
        bias=units.mean,
        mean=scaling.mean,
        scale=scaling.scale,
        class_names=names,
        protocol="ridge_regression/v1",
        n_train=len(features),
        seed=seed,
        layer=layer,
        penalty=penalty,
        penalties=torch.full_like(units.mean, penalty),
        score_name=R2,
    )


def _units(targets: Tensor) -> Standardisation:
    """Mean and spread of float64 targets; a spread of a millionth is rounding of features, not of dates."""
    mean = targets.mean(dim=0)
    spread = (targets - mean).square().mean(dim=0).sqrt()
    varies = spread > ROUNDING * targets.abs().amax(dim=0)
    return Standardisation(mean, torch.where(varies, 1 / spread, 0.0))


def fit_one_vs_rest(
    features: Tensor,
    labels: Tensor,
    *,
    tolerance: float = 1e-3,
    penalty: float | Tensor | None = None,
    seed: int = 0,
    layer: str = "",
    names: tuple[str, ...] = (),
    groups: Tensor | None = None,
) -> TargetProbe:
    """Fit each label against its absence.

    A label that all or none of the training rows have gets one score for every row: it ranks nothing.

    Args:
        features: (n, d).
        labels: (n, C) of 0 and 1, any type.
        tolerance: certified relative gap of each fit; the greatest that was reached is the probe's `gap`.
        penalty: of all labels, or of each, (C,); None, or NaN for one of them: chosen on held-out rows.
        seed: of the rows held out.
        layer: kept in the probe and named in messages.
        names: of the labels.
        groups: what each row belongs to, (n,) int64: none is on both sides of the held-out rows.

    Raises:
        RequestError: rows that do not fit together, labels other than 0 and 1, or none that varies.
    """
    where = f"layer {layer!r}: " if layer else ""
    features, labels = finite_features(features, where), _zeros_and_ones(labels, len(features), where)
    if not _varying(labels):
        raise RequestError(f"{where}each label is the same in all {len(labels)} training rows")
    return _one_vs_rest(features, labels, tolerance, penalty, seed, layer, names, groups)


def _one_vs_rest(
    features: Tensor,
    labels: Tensor,
    tolerance: float,
    penalty: float | Tensor | None,
    seed: int,
    layer: str,
    names: tuple[str, ...],
    groups: Tensor | None = None,
) -> TargetProbe:
    """The same on checked rows, of which none need vary."""
    weights = features.new_zeros(labels.shape[1], features.shape[1]).double()
    has = labels.double().sum(dim=0)
    # alike in every row it ranks nothing; beside the scores of a fit on other rows it ranks as it should
    bias = ((has + 0.5) / (len(labels) - has + 0.5)).log()
    chosen = weights.new_full((len(weights),), float("nan"))
    gaps = []
    scaling, varying = measure(features), _varying(labels)
    coordinates = whitened(features, scaling, seed) if varying else None  # the same for every label
    for label in varying:
        given = float(penalty[label]) if isinstance(penalty, Tensor) else penalty
        given = None if given is None or math.isnan(given) else given
        rows = training_rows(features, labels[:, label], 2, None, layer, groups)
        settings = ExactSettings(tolerance=tolerance, penalty=given, seed=seed)
        fitted = fit_exact(rows, settings, layer, coordinates)
        weights[label] = (fitted.weights[1] - fitted.weights[0]).double()
        bias[label] = (fitted.bias[1] - fitted.bias[0]).double()
        chosen[label] = float("nan") if fitted.penalty is None else fitted.penalty
        gaps.append(float("inf") if fitted.gap is None else fitted.gap)
    return TargetProbe(
        weights=weights,
        bias=bias,
        mean=scaling.mean,
        scale=scaling.scale,
        class_names=names,
        protocol="one_vs_rest/v1 with exact/v2",
        n_train=len(features),
        seed=seed,
        layer=layer,
        tolerance=tolerance,
        gap=max(gaps, default=0.0),
        converged=max(gaps, default=0.0) <= tolerance,
        penalties=chosen,
        score_name=MAP,
    )


def refit(fitted: TargetProbe, features: Tensor, labels: Tensor, tolerance: float) -> TargetProbe:
    """Fit the same on other rows, at the same penalties; labels may all be constant in a part of the rows."""
    seed, layer, names = fitted.seed, fitted.layer, fitted.class_names
    if fitted.score_name == R2:
        return fit_ridge_regression(
            features, labels, penalty=fitted.penalty, seed=seed, layer=layer, names=names
        )
    return _one_vs_rest(features, labels, tolerance, fitted.penalties, seed, layer, names)


def _varying(labels: Tensor) -> list[int]:
    return [c for c in range(labels.shape[1]) if 0 < int(labels[:, c].sum()) < len(labels)]


def _choose_penalty(x: Tensor, y: Tensor, seed: int, where: str, groups: Tensor | None) -> float:
    """The penalty with the least squared error on held-out rows, targets in units of their spread."""
    if len(x) < 3:
        raise RequestError(f"{where}{len(x)} rows are too few to hold some out; give a penalty or more rows")
    fit, held = heldout_rows(torch.zeros(len(x), dtype=torch.int64), seed, groups=groups)
    if not len(held):
        raise RequestError(f"{where}{NOTHING_HELD_OUT}")
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
        variances, directions = eigen(x.T @ x / count)
        moment = directions.T @ (x.T @ y / count)
        return [directions @ (moment / (variances.clamp_min(0)[:, None] + one)) for one in penalties]
    variances, directions = eigen(x @ x.T / count)  # the optimum lies in the span of the rows
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
