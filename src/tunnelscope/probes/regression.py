"""The objective of a multinomial logistic regression and its gradient, exactly, in blocks of rows.

F(W, b) = mean cross-entropy of softmax(W x + b) + penalty/2 ‖W‖² on standardised features x, the bias free.
A point is one tensor [W | b], (classes, features + 1). Logits are laid out classes × rows: with few classes
that is several times as fast as rows × classes, in the products and in the softmax.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tunnelscope.linalg.standardise import Standardisation


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The objective at a point.

    Attributes:
        value: F, float64.
        cross_entropy: its first term.
        gradient: of F at [W | b], (classes, features + 1).
        surplus: mean probability minus frequency of each class (the gradient in b), (classes,), float64.
    """

    value: float
    cross_entropy: float
    gradient: Tensor
    surplus: Tensor


class Regression:
    """Features with their labels, standardised as they are read: no copy of them is kept.

    Attributes:
        classes: how many there are; each of them occurs.
        scale: length of a unit weight on each feature: 1, (features,), float64.
        frequencies: mean of the targets y, (classes,), float64.
        label_moment: mean of y xᵀ over the rows, (classes, features), float64.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        classes: int,
        standardisation: Standardisation,
        smoothing: float = 0.0,
    ):
        """Take the rows.

        Args:
            features: (n, features), float32 or float64, as recorded.
            labels: (n,), int64, 0 … classes-1.
            standardisation: measured on the same rows, so that the mean of x is 0.
            smoothing: share of each target that is spread evenly over the classes (label smoothing).
        """
        self.features, self.labels, self.classes = features, labels, classes
        self.standardisation, self.smoothing = standardisation, smoothing
        self.scale = torch.ones(features.shape[1], dtype=torch.float64, device=features.device)
        counts = torch.bincount(labels, minlength=classes)
        self.frequencies = (1 - smoothing) * counts.double() / len(labels) + smoothing / classes
        sums = features.new_zeros(classes, features.shape[1], dtype=torch.float64)
        for block, rows in standardisation.blocks(features, features.dtype, self.step):
            sums += torch.zeros_like(sums, dtype=rows.dtype).index_add_(0, labels[block], rows)
        self.label_moment = (1 - smoothing) * sums / len(labels)

    @property
    def step(self) -> int:
        """Rows of a block."""
        return block_rows(self.classes, self.features.shape[1])

    def evaluate(
        self, point: Tensor, penalty: float, dtype: torch.dtype, shares: list[Tensor] | None = None
    ) -> Evaluation:
        """Return F and its gradient; sums over blocks of rows are float64.

        Args:
            point: [W | b], float64.
            dtype: in which the products are made, float32 or float64.
            shares: filled with the probabilities, one (classes, rows) tensor a block; types are its own.
        """
        weights, bias = point[:, :-1].to(dtype), point[:, -1:].to(dtype)
        moment = torch.zeros_like(point[:, :-1])  # of (q − y) xᵀ
        surplus, loss = torch.zeros_like(self.frequencies), 0.0
        for index, (block, rows) in enumerate(self.standardisation.blocks(self.features, dtype, self.step)):
            labels = self.labels[block][None]
            logits = torch.addmm(bias, weights, rows.T)
            residual = torch.softmax(logits, dim=0)
            if shares is not None:
                shares[index].copy_(residual)
            loss += float(row_losses(logits, residual, labels, self.smoothing).sum(dtype=torch.float64))
            taken = residual.new_full((), self.smoothing - 1).expand_as(labels)
            residual.scatter_add_(0, labels, taken)
            surplus += residual.sum(dim=1)
            moment += residual @ rows
        count = len(self.labels)
        surplus = surplus / count - self.smoothing / self.classes
        surplus, moment = surplus - surplus.mean(), moment.div_(count)
        norm = float(point[:, :-1].square().sum())
        gradient = torch.cat([moment.add_(point[:, :-1], alpha=penalty), surplus[:, None]], dim=1)
        return Evaluation(loss / count + penalty / 2 * norm, loss / count, gradient, surplus)


def row_losses(logits: Tensor, shares: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Return −⟨y, log q⟩ of each row, (1, rows); from the logits where a share is too small to hold.

    Args:
        logits, shares: (classes, rows), shares the softmax of the logits.
        labels: (1, rows).
        smoothing: see `Regression`.
    """
    own = shares.gather(0, labels)
    if smoothing == 0 and float(own.min()) > 1e-30:
        return own.log_().neg_()
    total = torch.logsumexp(logits, dim=0, keepdim=True)
    losses = total - (1 - smoothing) * logits.gather(0, labels)
    return losses - smoothing * logits.mean(dim=0, keepdim=True) if smoothing else losses


def block_rows(classes: int, width: int) -> int:
    """Rows of a block whose logits stay in a core's cache between two products."""
    step = 8192 if classes <= 20 else 2048 if classes < 500 else 512
    return min(step, 1024) if width > 1024 else step
