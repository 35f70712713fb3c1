"""The objective of a multinomial logistic regression, its gradient and its curvature, in blocks of rows.

F(W, b) = mean cross-entropy of softmax(W x + b) + penalty/2 ‖W‖², the bias free. A point is one tensor
[W | b], (classes, coordinates + 1). Logits are laid out classes × rows: with few classes that is several
times as fast as rows × classes, in the products and in the softmax.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tunnelscope.randomness import named_generator


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The objective at a point.

    Attributes:
        value: F, float64.
        cross_entropy: its first term.
        gradient: of F at [W | b], (classes, coordinates + 1).
        surplus: mean probability minus frequency of each class (the gradient in b), (classes,), float64.
    """

    value: float
    cross_entropy: float
    gradient: Tensor
    surplus: Tensor


class Regression:
    """Rows in solver coordinates with their labels: what is evaluated at a point.

    Attributes:
        rows: (n, coordinates), float32 or float64; the mean of each column is 0.
        labels: (n,), int64; each of the classes 0 … classes-1 occurs.
        scale: length of a unit weight on each coordinate, (coordinates,), float64.
        frequencies: share of each class, (classes,), float64.
        label_moment: mean of y xᵀ over the rows, y one-hot, (classes, coordinates), float64.
    """

    def __init__(self, rows: Tensor, labels: Tensor, classes: int, scale: Tensor, seed: int = 0):
        self.rows, self.labels, self.classes, self.scale = rows, labels, classes, scale
        self._norm_weights = scale.square().to(rows.dtype)
        counts = torch.bincount(labels, minlength=classes)
        self.frequencies = counts.double() / len(labels)
        sums = torch.zeros(classes, rows.shape[1], dtype=torch.float64, device=rows.device)
        for block in self._blocks():
            part = torch.zeros(classes, rows.shape[1], dtype=rows.dtype, device=rows.device)
            sums += part.index_add_(0, labels[block], rows[block]).double()
        self.label_moment = sums / len(labels)
        few = max(4096, 20 * classes)
        order = torch.randperm(len(labels), generator=named_generator(seed, "rows of the metric"))
        self.sample = rows if len(labels) <= few else rows[order[:few].to(rows.device)]

    def start(self) -> Tensor:
        """Return W = 0, b = log frequencies: the best point without features."""
        point = self.rows.new_zeros(self.classes, self.rows.shape[1] + 1)
        point[:, -1] = self.frequencies.log().to(point.dtype)
        return point

    def evaluate(self, point: Tensor, penalty: float) -> Evaluation:
        """Return F and its gradient; sums over rows of the loss and of the bias gradient are float64."""
        weights, bias = point[:, :-1], point[:, -1:]
        moment = torch.zeros_like(weights)  # mean (q − y) xᵀ
        surplus = self.frequencies.new_zeros(self.classes)
        loss = self.frequencies.new_zeros(())
        for block in self._blocks():
            rows, labels = self.rows[block], self.labels[block][None]
            logits = torch.addmm(bias, weights, rows.T)
            residual = torch.softmax(logits, dim=0)
            loss += _row_losses(logits, residual, labels).sum(dtype=torch.float64)
            residual.scatter_add_(0, labels, residual.new_full((), -1.0).expand_as(labels))
            surplus += residual.sum(dim=1, dtype=torch.float64)
            moment.addmm_(residual, rows)
        count = len(self.labels)
        cross_entropy = float(loss) / count
        norm = float((weights.double() * self.scale).square().sum())
        gradient = torch.empty_like(point)
        gradient[:, :-1] = moment.div_(count).addcmul_(weights, self._norm_weights, value=penalty)
        surplus = surplus / count - surplus.mean() / count
        gradient[:, -1] = surplus.to(point.dtype)
        return Evaluation(cross_entropy + penalty / 2 * norm, cross_entropy, gradient, surplus)

    def bias_curvature(self, point: Tensor) -> Tensor:
        """Return the second derivative of F in the bias, mean diag(q) − q qᵀ, (classes, classes), float64."""
        curvature = self.frequencies.new_zeros(self.classes, self.classes)
        for block in self._blocks():
            shares = torch.softmax(torch.addmm(point[:, -1:], point[:, :-1], self.rows[block].T), dim=0)
            curvature -= (shares @ shares.T).double()
            curvature.diagonal().add_(shares.sum(dim=1, dtype=torch.float64))
        return curvature / len(self.labels)

    def _blocks(self) -> list[slice]:
        width = self.rows.shape[1]
        step = 8192 if self.classes <= 20 else 2048 if self.classes < 500 else 1024
        step = min(step, 512) if width > 1024 else step
        return [slice(start, start + step) for start in range(0, len(self.labels), step)]


def _row_losses(logits: Tensor, shares: Tensor, labels: Tensor) -> Tensor:
    """Return −log of each label's share; from the logits where the share is too small to hold."""
    own = shares.gather(0, labels)
    if float(own.min()) > 1e-30:
        return own.log_().neg_()
    return torch.logsumexp(logits, dim=0, keepdim=True) - logits.gather(0, labels)
