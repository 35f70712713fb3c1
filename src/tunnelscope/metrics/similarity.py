"""How alike two layers arrange the same examples: unbiased linear CKA between all layers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tunnelscope.linalg.blocks import row_blocks
from tunnelscope.linalg.spectrum import check_features, column_means
from tunnelscope.metrics.metric import Family, Metric

SMALL_WORK = 1e9
"""Multiply-adds up to which products are made in double precision: they take no time."""

CANCELLATION = 0.05
"""HSIC₁ of a layer with itself, as a share of the sums it is the difference of, below which rounding in
single precision could pass 1e-6; products are then made in double precision."""

PRODUCT_ROWS = 2048
GRAM_ELEMENTS = 2**25


def unbiased_cka(features: Sequence[Tensor]) -> Tensor:
    """Compute the unbiased linear CKA of every pair of layers on the same rows.

    CKA(X, Y) = HSIC₁(K, L) / √(HSIC₁(K, K) HSIC₁(L, L)), K = XXᵀ, L = YYᵀ, with the unbiased estimator of
    Song et al. 2012 (JMLR 13:1393), as Nguyen, Raghu and Kornblith 2021 (arXiv:2010.15327) use it: HSIC₁ =
    (tr K̃L̃ + 1ᵀK̃1·1ᵀL̃1/((n-1)(n-2)) - 2/(n-2)·1ᵀK̃L̃1) / (n(n-3)), K̃ = K with its diagonal set to 0. An
    offset of the features changes nothing in it. With centred features K̃1 = -k, k the squared lengths of
    the rows, hence 1ᵀK̃1 = -Σk, 1ᵀK̃L̃1 = k·l, and tr K̃L̃ = ‖XᵀY‖_F² - k·l: no n × n matrix is needed.
    Where the layers are wider than there are rows, tr K̃L̃ is summed over blocks of Gram matrices instead,
    by the count of operations.

    Large products are made in float32 and added up in float64, and again in float64 where sums cancel (a few
    rows far from all others): errors stay below 1e-6.

    Args:
        features: one (n, d) matrix per layer, the same n ≥ 4 rows in all; widths may differ.

    Returns:
        (L, L) float64, symmetric, between -1 and 1, diagonal exactly 1; about 0 for unrelated layers, where
        the biased estimator would be above. NaN in the row and column of a layer whose HSIC₁ with itself is
        0: one that is constant, or in which all rows but one are equal, for instance.

    Raises:
        ValueError: no layer, fewer than 4 rows, layers of different length, or values that are not finite.
    """
    n = _check_layers(features)
    widths = [layer.shape[1] for layer in features]
    by_features = n * sum(widths) ** 2 / 2
    by_grams = n**2 * (sum(widths) + len(widths) ** 2)
    by_width = by_features <= by_grams
    small = min(by_features, by_grams) <= SMALL_WORK
    cka = torch.empty(0)
    for dtype in (torch.float64,) if small else (torch.float32, torch.float64):
        layers = [_Layer(layer, dtype) for layer in features]
        squared_lengths = torch.stack([layer.squared_lengths for layer in layers])  # (L, n)
        traces = _traces_by_features(layers, squared_lengths) if by_width else _traces_by_grams(layers)
        cka, kept = _normalised(traces, squared_lengths, torch.finfo(dtype).eps)
        if kept > CANCELLATION:
            break
    return cka


class _Layer:
    """One layer's features, given out centred, with mean squared length 1, in the dtype of the products.

    Attributes:
        squared_lengths: of the rows given out, (n,) float64.
    """

    def __init__(self, features: Tensor, dtype: torch.dtype):
        self.features, self.dtype = features, dtype
        self.origin, self.shift = column_means(features)
        blocks = row_blocks(*features.shape)
        squares = torch.cat([self._centred(rows).square_().sum(dim=1) for rows in blocks])
        mean = squares.mean().item()
        self.scale = 1 / math.sqrt(mean) if mean > 0 else 1.0
        self.squared_lengths = squares * self.scale**2

    def rows(self, rows: slice) -> Tensor:
        return self._centred(rows).mul_(self.scale).to(self.dtype)

    def all_rows(self, out: Tensor | None = None) -> Tensor:
        if out is None:
            out = torch.empty(self.features.shape, dtype=self.dtype, device=self.features.device)
        for rows in row_blocks(*self.features.shape):
            out[rows] = self.rows(rows)
        return out

    def _centred(self, rows: slice) -> Tensor:
        return (self.features[rows].double() - self.origin).sub_(self.shift)


def _check_layers(features: Sequence[Tensor]) -> int:
    if not features:
        raise ValueError("CKA needs at least one layer")
    for layer in features:
        check_features(layer)
    lengths = {len(layer) for layer in features}
    if len(lengths) > 1:
        raise ValueError(f"layers must hold the same rows; got {sorted(lengths)} rows")
    n = lengths.pop()
    if n < 4:
        raise ValueError(f"unbiased CKA needs at least 4 rows, got {n}")
    return n


def _traces_by_features(layers: Sequence[_Layer], squared_lengths: Tensor) -> Tensor:
    """Return tr K̃L̃ of all pairs as ‖XᵀY‖_F² - k·l, (L, L) float64."""
    widths = [layer.features.shape[1] for layer in layers]
    first = layers[0].features
    side_by_side = torch.empty(len(first), sum(widths), dtype=layers[0].dtype, device=first.device)
    for layer, columns in zip(layers, side_by_side.split(widths, dim=1), strict=True):
        layer.all_rows(out=columns)
    norms = torch.zeros(len(layers), len(layers), dtype=torch.float64, device=side_by_side.device)
    start = 0
    for index, width in enumerate(widths):
        products = torch.zeros(width, side_by_side.shape[1] - start, dtype=torch.float64, device=norms.device)
        for block in side_by_side.split(PRODUCT_ROWS):
            products += block[:, start : start + width].T @ block[:, start:]
        squares = torch.stack([part.square().sum() for part in products.split(widths[index:], dim=1)])
        norms[index, index:] = squares
        norms[index:, index] = squares
        start += width
    return norms - squared_lengths @ squared_lengths.T


def _traces_by_grams(layers: Sequence[_Layer]) -> Tensor:
    """Return tr K̃L̃ of all pairs summed over row blocks of the Gram matrices, (L, L) float64."""
    n = len(layers[0].features)
    step = min(n, max(64, GRAM_ELEMENTS // (n * len(layers))))
    traces = torch.zeros(len(layers), len(layers), dtype=torch.float64, device=layers[0].features.device)
    grams = torch.empty(step, len(layers), n, dtype=layers[0].dtype, device=traces.device)
    for start in range(0, n, step):
        stop = min(start + step, n)
        own = torch.arange(stop - start, device=traces.device)
        for index, layer in enumerate(layers):
            gram = layer.rows(slice(start, stop)) @ layer.all_rows().T
            gram[own, own + start] = 0
            grams[: stop - start, index] = gram
        block = grams[: stop - start]
        traces += (block @ block.transpose(1, 2)).sum(dim=0, dtype=torch.float64)
    return traces


def _normalised(traces: Tensor, squared_lengths: Tensor, rounding: float) -> tuple[Tensor, float]:
    """Return CKA from tr K̃L̃ (L, L) and k (L, n); the factor 1/(n(n-3)) cancels.

    With it the least share that is left of any layer's sums when they cancel; constant layers do not count.
    """
    n = squared_lengths.shape[1]
    sums = squared_lengths.sum(dim=1)
    hsic = (
        traces
        + torch.outer(sums, sums) / ((n - 1) * (n - 2))
        - squared_lengths @ squared_lengths.T * 2 / (n - 2)
    )
    own = hsic.diagonal()
    summands = traces.diagonal() + squared_lengths.square().sum(dim=1)
    shares = own / summands.clamp_min(torch.finfo(torch.float64).tiny)
    own = torch.where(own > 256 * rounding * summands, own, torch.nan)
    cka = (hsic / torch.outer(own, own).sqrt()).clamp(-1, 1)
    cka = cka.fill_diagonal_(1).where(~own.isnan()[:, None] & ~own.isnan(), torch.nan)
    varying = summands > 0
    return cka, shares[varying].min().item() if varying.any() else 1.0


FAMILY = Family(
    name="similarity",
    metrics={
        "cka": Metric(
            title="CKA between layers",
            unit="similarity, -1 to 1, 1 for a layer with itself",
            direction="higher means that two layers arrange the examples more alike, up to rotation, "
            "scale and offset",
            definition="HSIC₁(K, L)/√(HSIC₁(K, K) HSIC₁(L, L)) over the test rows, K and L the layers' "
            "linear Gram matrices, HSIC₁ the unbiased estimator",
            source="Nguyen, Raghu, Kornblith 2021, arXiv:2010.15327, eq. 1-3; HSIC₁ of Song et al. 2012, "
            "JMLR 13:1393",
            edges="no value for a constant layer or one in which all rows but one are equal; needs 4 rows",
            split="test",
            protocol="cka/v1, linear, unbiased",
        ),
    },
    measure=None,
)
