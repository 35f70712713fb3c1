"""The objective near an anchor, from rows in low precision.

Write z for the logits, q for the probabilities, y for the targets, and 0 for the anchor: a point where the
mean of (q0 − y) xᵀ is known exactly. At a step Δ from it, with ζ = Δ x the change of the logits,

    q = q0 e^ζ / S,   S = Σ q0 e^ζ,   cross-entropy = that of the anchor + ⟨A0, Δ⟩ + mean (log S − Σ q0 ζ),

and the gradient is A0 + mean (q − q0) xᵀ. What is rounded is ζ and q − q0, which are small where the step is:
the error is a share of the step, not of the point. So a descent in bfloat16, whose products are several times
as fast, comes as near to the optimum as one likes by a few anchors that are evaluated exactly. A difference
of values is exact even where the values themselves agree to all digits.

The first steps start at W = b = 0, where the cross-entropy and its gradient are taken as they are, from
q − y: sums of q − q0 would be large there, and bfloat16 would round them to a share of that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tunnelscope.probes.regression import block_rows, row_losses
from tunnelscope.randomness import named_generator

METRIC_ROWS = 4096
MOST_METRIC_ROWS = 8192
FARTHEST = 80.0  # change of a logit whose exponential float32 can hold


@dataclass(frozen=True, eq=False)
class Anchor:
    """A point where the gradient is known.

    Attributes:
        point: [W | b] in the solver's coordinates, (classes, coordinates + 1), float64.
        cross_entropy: there.
        moment: mean of (q0 − y) xᵀ, (classes, coordinates), float64.
        surplus: mean of q0 − y, (classes,), float64.
        shares: q0, a tensor (classes, rows) for each block of rows; None at 0, where moment, surplus and
            cross-entropy are 0 too.
    """

    point: Tensor
    cross_entropy: float
    moment: Tensor
    surplus: Tensor
    shares: Sequence[Tensor] | None


@dataclass(frozen=True, eq=False)
class Nearby:
    """The objective at a step from the anchor.

    Attributes:
        value, cross_entropy, gradient, surplus: as in `Evaluation`; the gradient in float32.
        resolution: difference of values that rounding may hide.
    """

    value: float
    cross_entropy: float
    gradient: Tensor
    surplus: Tensor
    resolution: float


class Surrogate:
    """Rows in the solver's coordinates, and the objective at steps from an anchor.

    Attributes:
        rows: (n, coordinates), bfloat16 or float32; float64 to descend from 0 all the way.
        labels: (n,), int64.
        scale: length of a unit weight on each coordinate, (coordinates,), float64.
        frequencies, label_moment: means of the targets y and of y xᵀ, float64.
        anchor: where steps start.
        sample: rows that the metric is taken from.
    """

    def __init__(
        self,
        rows: Tensor,
        labels: Tensor,
        scale: Tensor,
        frequencies: Tensor,
        label_moment: Tensor,
        smoothing: float = 0.0,
        seed: int = 0,
    ):
        self.rows, self.labels, self.scale, self.smoothing = rows, labels, scale, smoothing
        self.frequencies, self.label_moment, self.classes = frequencies, label_moment, len(frequencies)
        few = min(max(METRIC_ROWS, 20 * self.classes), MOST_METRIC_ROWS)
        order = torch.randperm(len(rows), generator=named_generator(seed, "rows of the metric"))
        self.sample = rows if len(rows) <= few else rows[order[:few].sort().values.to(rows.device)]
        zeros = torch.zeros_like(label_moment)
        point = label_moment.new_zeros(self.classes, rows.shape[1] + 1)
        self.anchor = Anchor(point, 0.0, zeros, torch.zeros_like(frequencies), None)
        self._last: tuple[Tensor, tuple[float, Tensor, Tensor]] | None = (
            None  # at another penalty it serves too
        )

    def move(self, anchor: Anchor) -> None:
        """Let steps start from another point."""
        self.anchor, self._last = anchor, None

    def release(self) -> None:
        """Let go of rows and shares, before others take as much memory: this surrogate is of no use after."""
        self.rows = self.sample = self.rows.new_empty(0, self.rows.shape[1])
        self.move(replace(self.anchor, shares=None))

    def start(self) -> Tensor:
        """Return W = 0, b = log frequencies: the best point without features, float64."""
        point = torch.zeros_like(self.anchor.point)
        point[:, -1] = self.frequencies.log()
        return point

    @property
    def step_type(self) -> torch.dtype:
        """Type of steps and gradients."""
        return torch.promote_types(self.rows.dtype, torch.float32)

    @property
    def step(self) -> int:
        """Rows of a block."""
        return block_rows(self.classes, self.rows.shape[1])

    def shares_to_fill(self) -> list[Tensor]:
        """Return tensors for the probabilities of all rows, block by block."""
        kept = self.anchor.shares
        if kept is not None:
            return list(kept)  # those of an earlier anchor, which nobody reads any more
        return [self.rows.new_empty(self.classes, len(rows)) for rows in self.rows.split(self.step)]

    def evaluate(self, step: Tensor, penalty: float) -> Nearby:
        """Return the objective and its gradient at a step [ΔW | Δb] from the anchor, in its type."""
        if self._last is None or not torch.equal(self._last[0], step):
            self._last = step, self._sums(step)
        return self._nearby(step, penalty, *self._last[1])

    def _sums(self, step: Tensor) -> tuple[float, Tensor, Tensor]:
        """Return sums over rows: cross-entropy beyond the linear terms, gradient beyond the anchor's."""
        if self.anchor.shares is None:
            return self._sums_at_zero(step)
        if not bool(step.any()):
            return 0.0, torch.zeros_like(step[:, :-1]), torch.zeros_like(self.frequencies)
        return self._sums_from_anchor(step)

    def _sums_at_zero(self, step: Tensor) -> tuple[float, Tensor, Tensor]:
        """Return the sums over rows of the cross-entropy, of (q − y) xᵀ and of q − y."""
        moment, change = torch.zeros_like(step[:, :-1]), torch.zeros_like(self.frequencies)
        loss = torch.zeros_like(self.frequencies[0])
        taken = step.new_full((), self.smoothing - 1)
        blocks = (self.rows.split(self.step), self.labels.split(self.step))
        for rows, labels, logits in zip(*blocks, self._logits(step), strict=True):
            labels = labels[None]
            residual = torch.softmax(logits, dim=0)
            loss += row_losses(logits, residual, labels, self.smoothing).sum(dtype=torch.float64)
            residual.scatter_add_(0, labels, taken.expand_as(labels))
            if self.smoothing:
                residual.sub_(self.smoothing / self.classes)
            change += residual.sum(dim=1)
            moment += torch.mm(residual.to(rows.dtype), rows)
        return float(loss), moment, change

    def _sums_from_anchor(self, step: Tensor) -> tuple[float, Tensor, Tensor]:
        """Return the sums over rows of log S − Σ q0 ζ, of (q − q0) xᵀ and of q − q0."""
        moment, change, bregman = torch.zeros_like(step[:, :-1]), torch.zeros_like(self.frequencies), 0.0
        assert self.anchor.shares is not None
        blocks = (self.rows.split(self.step), self.labels.split(self.step), self.anchor.shares)
        for rows, labels, kept, logits in zip(*blocks, self._logits(step), strict=True):
            # Only differences between classes count; with the label's own at 0, a row that is all but
            # decided keeps the digits of its small share of doubt.
            logits -= logits.gather(0, labels[None])
            shares = kept.float()
            near = bool(logits.max() < FARTHEST)
            loss, residual = _near(shares, logits) if near else _far(shares, logits)
            bregman += loss
            change += residual.sum(dim=1)
            moment += torch.mm(residual.to(rows.dtype), rows)
        return bregman, moment, change

    def _logits(self, step: Tensor) -> Iterator[Tensor]:
        """Yield the change of the logits in each block, (classes, rows), float32."""
        shift, weights = step[:, -1:], step[:, :-1].to(self.rows.dtype)
        for rows in self.rows.split(self.step):
            yield torch.mm(weights, rows.T).to(step.dtype).add_(shift)

    def _nearby(self, step: Tensor, penalty: float, bregman: float, moment: Tensor, change: Tensor) -> Nearby:
        count, anchor = len(self.rows), self.anchor
        bregman /= count
        exact = step.double()
        point = anchor.point + exact
        linear = float((anchor.moment * exact[:, :-1]).sum() + anchor.surplus @ exact[:, -1])
        cross_entropy = anchor.cross_entropy + linear + bregman
        weights = point[:, :-1] * self.scale
        surplus = anchor.surplus + change / count
        surplus = surplus - surplus.mean()
        gradient = torch.empty_like(step)
        gradient[:, :-1] = anchor.moment + moment / count + penalty * weights * self.scale
        gradient[:, -1] = surplus
        value = cross_entropy + penalty / 2 * float(weights.square().sum())
        # Rounding is a share of what is summed, most of it averaged away; log S is a root of its excess.
        least = torch.finfo(self.step_type).eps
        rounding = torch.finfo(self.rows.dtype).eps / (16 if anchor.shares is None else 64) + least
        noise = rounding * abs(bregman) + 0.1 * least * abs(bregman) ** 0.5 + 1e-13 * abs(value)
        return Nearby(
            value if value < float("inf") else float("inf"), cross_entropy, gradient, surplus, noise
        )

    def bias_curvature(self, step: Tensor) -> Tensor:
        """Return the second derivative in the bias, mean diag(q) − q qᵀ, (classes, classes), float64."""
        curvature = step.new_zeros(self.classes, self.classes)
        for index, logits in enumerate(self._logits(step)):
            shares = logits.sub_(logits.amax(dim=0)).exp_()
            if self.anchor.shares is not None:
                shares *= self.anchor.shares[index]
            shares /= shares.sum(dim=0)
            low = shares.to(self.rows.dtype)
            curvature -= low @ low.T
        curvature = curvature.double().fill_diagonal_(0)
        curvature.diagonal().copy_(-curvature.sum(dim=1))  # exact where rounding would spoil it
        return curvature / len(self.rows)


def _near(shares: Tensor, difference: Tensor) -> tuple[float, Tensor]:
    """Return the sum of log S − Σ q0 ζ and q − q0, to a share of ζ; overwrites ζ."""
    total = shares.sum(dim=0)  # 1, but for the rounding of what is kept
    mean = (shares * difference).sum(dim=0).div_(total)
    difference.expm1_()
    growth = (shares * difference).sum(dim=0).div_(total)  # S − 1
    difference.sub_(growth).div_(1 + growth).mul_(shares)
    return float(growth.log1p_().sub_(mean).sum(dtype=torch.float64)), difference


def _far(shares: Tensor, difference: Tensor) -> tuple[float, Tensor]:
    """Return the same where ζ is too large for its exponential, to a share of 1."""
    total = shares.sum(dim=0)
    mean = (shares * difference).sum(dim=0).div_(total)
    moved = difference.add_((shares / total).clamp_min(1e-38).log_())
    losses = torch.logsumexp(moved, dim=0).sub_(mean)
    return float(losses.sum(dtype=torch.float64)), torch.softmax(moved, dim=0).sub_(shares)
