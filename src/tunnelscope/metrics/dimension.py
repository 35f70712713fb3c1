"""How many numbers say where an example lies on the layer's curved surface: the TwoNN intrinsic dimension."""

import math

import torch
from torch import Tensor

from tunnelscope.linalg.blocks import BLOCK_ELEMENTS, row_blocks
from tunnelscope.linalg.spectrum import check_features, column_means
from tunnelscope.metrics.metric import Family, LayerRows, Metric

FEWEST_ROWS = 10
CANDIDATES = 5
QUERY_ROWS = 512


def twonn(features: Tensor, discard: float = 0.1) -> float | None:
    """Estimate the intrinsic dimension from how much further the second neighbour is than the first.

    On a d-dimensional surface of locally even density the ratio μ = r₂/r₁ has P(μ > t) = t^-d: the estimate
    is the slope through the origin of -log(1 - i/n) against log μ_(i), ratios ascending, without the
    largest `discard`. Facco, d'Errico, Rodriguez and Laio 2017 (Scientific Reports 7:12140).

    Equal rows count once, so no distance is 0. Rows that are nearly equal stay, with very large ratios, and
    lower the estimate: by about 5 % when 1 % of the examples come twice, to almost nothing when 10 % do.
    Distances are exact (see `two_nearest`). Time grows as n²·d.

    Args:
        features: (n, d).
        discard: share of rows with the largest ratios that the fit leaves out, from 0 to below 1.

    Returns:
        Above 0; None with fewer than 10 distinct rows, or when first and second neighbours are equally far
        throughout.

    Raises:
        ValueError: a share outside [0, 1), or features that are not finite.
    """
    if not 0 <= discard < 1:
        raise ValueError(f"discard is a share of the rows, from 0 to below 1; got {discard}")
    check_features(features)
    distances = two_nearest(torch.unique(features, dim=0))
    distances = distances[distances[:, 0] > 0]  # differences too small for a square in double precision
    n = len(distances)
    if n < FEWEST_ROWS:
        return None
    log_ratios = (distances[:, 1].log() - distances[:, 0].log()).sort().values
    kept = min(math.floor(n * (1 - discard)), n - 1)  # the last point has 1 - F = 0
    log_ratios = log_ratios[:kept]
    tails = -torch.log1p(-torch.arange(1, kept + 1, dtype=torch.float64, device=features.device) / n)
    if log_ratios[-1] <= 1e-12:
        return None
    return ((tails @ log_ratios) / (log_ratios @ log_ratios)).item()


def two_nearest(features: Tensor) -> Tensor:
    """Return each row's distance to its nearest and second nearest other row, exact to double precision.

    A blocked product in float32 proposes candidates whose distances are then taken from the differences.
    The product is shrunk by its own rounding bound, so that it never overstates a distance: when the second
    candidate is no further than the bound of the last candidate, no other row can be nearer. Rows where
    that fails (tight clusters far from the mean) are searched again with a product in double precision, and
    at last by differences alone.

    Args:
        features: (n, d), rows all different.

    Returns:
        (n, 2) float64, ascending; (0, 2) with fewer than 3 rows.
    """
    if len(features) < 3:
        return torch.empty(0, 2, dtype=torch.float64, device=features.device)
    origin, shift = column_means(features)
    scale = _power_of_two_above(features, origin + shift)
    nearest = torch.empty(len(features), 2, dtype=torch.float64, device=features.device)
    open_rows = torch.arange(len(features), device=features.device)
    for dtype in (torch.float32, torch.float64):
        points = _centred(features, origin + shift, scale, dtype)
        found, is_exact = _search(features, points, open_rows, scale)
        nearest[open_rows] = found
        open_rows = open_rows[~is_exact]
        if len(open_rows) == 0:
            return nearest * scale
    everything = features.double() / scale
    for rows in open_rows.split(64):
        distances = torch.cdist(everything[rows], everything, compute_mode="donot_use_mm_for_euclid_dist")
        distances[torch.arange(len(rows), device=rows.device), rows] = math.inf
        nearest[rows] = distances.topk(2, largest=False).values
    return nearest * scale


def _search(features: Tensor, points: Tensor, queries: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return each query's two smallest distances in units of `scale`, and whether they are proven exact."""
    n, width = points.shape
    # Rounding of a product of `width` terms, of the centred points and of the sums around it, in units of
    # ‖a‖² + ‖b‖².
    slack = (width + 16) * torch.finfo(points.dtype).eps / 2
    underflow = 16 * width * torch.finfo(points.dtype).tiny
    norms = (1 - slack) * torch.cat(
        [points[rows].double().square().sum(dim=1) for rows in row_blocks(*points.shape)]
    )
    norms_rounded = norms.to(points.dtype)
    k = min(CANDIDATES, n - 1)
    buffer = torch.empty(min(QUERY_ROWS, len(queries)), n, dtype=points.dtype, device=points.device)
    found, is_exact = [], []
    for rows in queries.split(QUERY_ROWS):
        bounds = buffer[: len(rows)]
        torch.addmm(norms_rounded, points[rows], points.T, alpha=-2, out=bounds)
        bounds[torch.arange(len(rows), device=rows.device), rows] = math.inf
        lowest, candidates = bounds.topk(k, largest=False)
        squares = _squared_distances(features, rows, candidates, scale).sort(dim=1).values[:, :2]
        nothing_nearer = lowest[:, -1].double() + norms[rows] - underflow
        found.append(squares.sqrt())
        is_exact.append((squares[:, 1] <= nothing_nearer) | (k == n - 1))
    return torch.cat(found), torch.cat(is_exact)


def _squared_distances(features: Tensor, rows: Tensor, candidates: Tensor, scale: float) -> Tensor:
    """Return ‖x_i - x_j‖² / scale² from differences in double precision, (rows, candidates)."""
    step = max(1, BLOCK_ELEMENTS // (features.shape[1] * candidates.shape[1]))
    squares = []
    for own, others in zip(rows.split(step), candidates.split(step), strict=True):
        differences = features[own].double()[:, None] - features[others].double()
        squares.append(differences.div_(scale).square_().sum(dim=2))
    return torch.cat(squares)


def _power_of_two_above(features: Tensor, mean: Tensor) -> float:
    """Return a power of two (dividing by it is exact) no smaller than any centred value."""
    largest = max((features[rows].double() - mean).abs().max().item() for rows in row_blocks(*features.shape))
    return 2.0 ** math.frexp(largest)[1]


def _centred(features: Tensor, mean: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    points = torch.empty(features.shape, dtype=dtype, device=features.device)
    for rows in row_blocks(*features.shape):
        points[rows] = ((features[rows].double() - mean) / scale).to(dtype)
    return points


def _measure(rows: LayerRows) -> dict[str, float | None]:
    return {"twonn": twonn(rows.test)}


FAMILY = Family(
    name="dimension",
    metrics={
        "twonn": Metric(
            title="TwoNN intrinsic dimension",
            unit="dimensions, above 0",
            direction="higher means that the examples fill a surface of more dimensions",
            definition="slope through the origin of -log(1 - i/n) against log(r₂/r₁)_(i), the ratios of "
            "the distances to the second and first neighbour in ascending order, over the "
            "distinct test rows without the 10 % largest ratios",
            source="Facco et al. 2017, Scientific Reports 7:12140",
            edges="no value with fewer than 10 distinct rows, or when both neighbours are equally far "
            "throughout",
            split="test",
            protocol="twonn/v1, discard 0.1",
        ),
    },
    measure=_measure,
)
