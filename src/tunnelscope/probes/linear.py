"""A probe: what was fitted on a layer's features, how, and how well it does on test rows."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from tunnelscope.linalg.blocks import row_blocks
from tunnelscope.probes.intervals import wilson
from tunnelscope.probes.rows import Rows, scoring_features, scoring_rows


@dataclass(frozen=True)
class Scores:
    """How a probe does on some rows.

    Attributes:
        accuracy: share of rows whose class is predicted; `low` and `high` its 95 % Wilson interval.
        balanced_accuracy: mean over the classes among the rows of the accuracy within the class.
        loss: mean cross-entropy in nats, infinite where a row's class was not among the training rows; None
            for a probe without probabilities to be judged by.
    """

    accuracy: float
    low: float
    high: float
    balanced_accuracy: float
    loss: float | None
    n_test: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Probe:
    """What every probe says about itself.

    Attributes:
        class_names: one a class, in the order of the labels.
        protocol: full name of the recipe, such as `exact/v2`.
        n_train: training rows.
        seed: of all draws.
        layer: the layer it reads, "" when not told.
        penalty, tolerance: of the objective and of its solution, None where the protocol has none.
        gap: certified bound on (objective − optimum) / objective, None where the protocol has none.
        converged: the fit met its tolerance (a recipe without one: ran to its end and stayed finite).
        heldout_right: whether each held-out training row is predicted right by a fit without these rows,
            (rows held out,), bool; None when no fit was made without them.
        heldout_loss: mean cross-entropy of these predictions, None where there is none.
        best_test_accuracy: the best accuracy that any epoch of a paper's recipe reached on the test rows: it
            is chosen on them, so above what the layer gives; None for other protocols, or without test rows.
        accuracy, low, high, balanced_accuracy, loss, n_test: as in `Scores`, None until scored.
    """

    class_names: tuple[str, ...]
    protocol: str
    n_train: int
    seed: int
    layer: str = ""
    penalty: float | None = None
    tolerance: float | None = None
    gap: float | None = None
    converged: bool = True
    heldout_right: Tensor | None = field(default=None, repr=False)
    heldout_loss: float | None = None
    best_test_accuracy: float | None = None
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    balanced_accuracy: float | None = None
    loss: float | None = None
    n_test: int | None = None

    @property
    def heldout_accuracy(self) -> float | None:
        """Share of the held-out rows that are predicted right; None when none were held out."""
        return None if self.heldout_right is None else float(self.heldout_right.double().mean())

    @property
    def result(self) -> tuple[str, float | None]:
        """The name of the score on the test rows and its value, None until scored."""
        return "accuracy", self.accuracy

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % Wilson interval of the test accuracy, None until scored."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def width(self) -> int:
        """How many features it reads."""
        raise NotImplementedError

    def predict(self, features: Any) -> Tensor:
        """Return the class of each row, (n,), int64. Features are raw, as recorded: (n, d)."""
        return self._judge(self._checked(features))[0]

    def predict_proba(self, features: Any) -> Tensor:
        """Return the probability of each class, (n, classes)."""
        raise NotImplementedError

    def scores(self, features: Any, labels: Any) -> Scores:
        """Return accuracy, interval, balanced accuracy and loss on test rows. Raises RequestError."""
        rows = scoring_rows(features, labels, self.width, self.class_names, self.layer)
        predicted, losses = self._judge(rows.features, rows.labels)
        return _scores(rows, predicted, losses)

    def credits(self, features: Any, labels: Any) -> Tensor:
        """What each row adds to the score, which is their mean: whether it is predicted right, (n,) bool."""
        return (self.predict(features) == torch.as_tensor(labels)).cpu()

    def score(self, features: Any, labels: Any) -> float:
        """Return the accuracy on test rows, a share."""
        return self.scores(features, labels).accuracy

    def scored(self, features: Any, labels: Any) -> Self:
        """Return the same probe with its numbers on these test rows filled in."""
        return replace(self, **vars(self.scores(features, labels)))

    def save(self, path: str | Path) -> None:
        """Write the probe as safetensors, see `tunnelscope.probes.saving`."""
        from tunnelscope.probes.saving import (
            save_probe,  # it knows all kinds of probes, so it comes after them
        )

        save_probe(self, path)

    def _checked(self, features: Any) -> Tensor:
        return scoring_features(features, self.width, self.layer)

    def _judge(self, features: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return each row's predicted class and, given labels, its cross-entropy if there is one."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearProbe(Probe):
    """A linear classifier: logits = ((x − mean) · scale) Wᵀ + b.

    Attributes:
        weights: (classes, features), float32; 0 for a class without training rows.
        bias: (classes,), float32; −inf for a class without training rows.
        mean, scale: (features,), float64; scale 0 leaves a feature out.
        smoothing: share of each target spread over the classes in an exact fit.
    """

    weights: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)
    mean: Tensor = field(repr=False)
    scale: Tensor = field(repr=False)
    smoothing: float = 0.0

    @property
    def width(self) -> int:
        """How many features it reads."""
        return self.weights.shape[1]

    @property
    def weights_on_features(self) -> tuple[Tensor, Tensor]:
        """The same map on raw features: (W, b), float64, logits = x Wᵀ + b."""
        weights = self.weights.double() * self.scale
        return weights, self.bias.double() - weights @ self.mean

    def logits(self, features: Any) -> Tensor:
        """Return the logits, (n, classes), float32. Raises RequestError."""
        return self._logits(self._checked(features))

    def predict_proba(self, features: Any) -> Tensor:
        """Return the softmax of the logits, (n, classes)."""
        return torch.softmax(self.logits(features), dim=1)

    def _logits(self, features: Tensor) -> Tensor:
        weights, bias = self.weights.to(features.device), self.bias.to(features.device)
        mean, scale = self.mean.to(features.device), self.scale.to(features.device)
        logits = features.new_empty(len(features), len(weights), dtype=torch.float32)
        for block in row_blocks(*features.shape):
            standardised = ((features[block].double() - mean) * scale).float()
            torch.addmm(bias, standardised, weights.T, out=logits[block])
        return logits

    def _judge(self, features: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        logits = self._logits(features)
        losses = None if labels is None else F.cross_entropy(logits, labels, reduction="none")
        return logits.argmax(dim=1), losses


def _scores(rows: Rows, predicted: Tensor, losses: Tensor | None) -> Scores:
    right = (predicted == rows.labels).double()
    counts = torch.bincount(rows.labels, minlength=len(rows.class_names)).double()
    hits = torch.bincount(rows.labels, weights=right, minlength=len(rows.class_names))
    count = len(rows.labels)
    low, high = wilson(float(right.sum()), count)
    loss = None if losses is None else float(losses.sum(dtype=torch.float64)) / count
    return Scores(
        accuracy=float(right.sum()) / count,
        low=low,
        high=high,
        balanced_accuracy=float((hits[counts > 0] / counts[counts > 0]).mean()),
        loss=None if loss is None or math.isnan(loss) else loss,
        n_test=count,
    )
