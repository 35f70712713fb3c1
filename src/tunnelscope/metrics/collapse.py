"""How far a layer has gone towards neural collapse: NC1-NC4, and the 2024 group's variants.

With μ_c the mean of class c, μ_G the mean of the class means, M the matrix of μ_c - μ_G, and the layer's
linear probe W (C, d), b (C,). All are lower the further classes have collapsed. On balanced classes the
definitions are those of Papyan, Han and Donoho 2020 (PNAS 117:24652, arXiv:2008.08186) to the letter; on
others every row counts once in Σ_W and every class once in μ_G and Σ_B. Classes without rows are left out,
of W and b too.
"""

import math

import torch
from torch import Tensor

from tunnelscope.linalg.blocks import row_blocks
from tunnelscope.metrics.metric import Family, LayerRows, Metric
from tunnelscope.metrics.moments import ClassMoments, class_moments

GEOMETRY = ("nc1", "nc2", "nc2_equinorm", "nc2_equiangularity")
CLASSIFIER = ("nc3", "nc4", "nc2_harun", "nc3_harun", "nc4_harun")


def neural_collapse(
    features: Tensor, labels: Tensor, weights: Tensor | None = None, bias: Tensor | None = None
) -> dict[str, float | None]:
    """Compute NC1-NC4 and the 2024 group's variants of one layer from its training rows.

    Args:
        features: (n, d).
        labels: class of each row, (n,), counted from 0.
        weights: linear classifier on the features as they are, (C, d); None leaves out what needs one.
        bias: (C,).

    Returns:
        nc1, nc2, nc2_equinorm, nc2_equiangularity, nc3, nc4, nc2_harun, nc3_harun, nc4_harun; each is
        defined in `METRICS`. None where the class means coincide (also with one class) or there is no
        classifier; the angles of nc2 also where one class mean is the mean of all.

    Raises:
        ValueError: shapes that do not fit, a label without a row of `weights`, or values that are not finite.
    """
    return _collapse(features, class_moments(features, labels), weights, bias)


def _collapse(
    features: Tensor, moments: ClassMoments, weights: Tensor | None, bias: Tensor | None
) -> dict[str, float | None]:
    values: dict[str, float | None] = dict.fromkeys(GEOMETRY + CLASSIFIER)
    if len(moments.classes) < 2 or moments.means_coincide:
        return values
    values["nc1"] = _within_to_between(features, moments)
    values |= _equality_of_means(moments.centred_means)
    if weights is None or bias is None:
        return values
    weights, bias = _present_classes(weights, bias, moments)
    if not weights.any():
        return values
    centre = moments.origin + moments.offsets.mean(dim=0)  # μ_G
    values["nc3"] = (
        (weights / weights.norm() - moments.centred_means / moments.centred_means.norm()).norm().item()
    )
    values["nc4"] = _disagreement_with_nearest_mean(features, moments, weights, bias)
    values["nc2_harun"] = _distance_to_simplex(weights @ weights.T)
    values["nc3_harun"] = _distance_to_simplex(weights @ moments.centred_means.T)
    values["nc4_harun"] = (weights @ centre + bias).norm().item()
    return values


def _within_to_between(features: Tensor, moments: ClassMoments) -> float:
    """Return tr(Σ_W Σ_B⁺) / C without a d × d matrix.

    With the singular values s and right singular vectors u of the centred means, Σ_B⁺ / C = Σ_j u_j u_jᵀ /
    s_j²: the trace is the mean squared length of the residuals x - μ_c after projection on u_j / s_j.
    """
    means = moments.centred_means
    _, spread, directions = torch.linalg.svd(means, full_matrices=False)
    spread, directions = (
        spread[: len(means) - 1],
        directions[: len(means) - 1],
    )  # centred: the last one is rounding
    kept = spread > spread[0] * max(means.shape) * torch.finfo(torch.float64).eps
    whitening = (directions[kept] / spread[kept, None]).T  # (d, at most C - 1)
    total = 0.0
    for rows in row_blocks(*features.shape):
        residuals = features[rows].double() - moments.origin - moments.offsets[moments.members[rows]]
        total += (residuals @ whitening).square().sum().item()
    return total / len(features)


def _equality_of_means(means: Tensor) -> dict[str, float | None]:
    """Return how far the centred class means are from equal length and from equal angles."""
    lengths = means.norm(dim=1)
    values: dict[str, float | None] = {"nc2_equinorm": (lengths.std(correction=0) / lengths.mean()).item()}
    if lengths.min() <= 1e-12 * lengths.max():
        return values  # the direction of a mean at the centre is rounding
    directions = means / lengths[:, None]
    first, second = torch.triu_indices(len(means), len(means), offset=1, device=means.device)
    cosines = (directions @ directions.T)[first, second]
    values["nc2"] = (cosines + 1 / (len(means) - 1)).abs().mean().item()
    values["nc2_equiangularity"] = cosines.std(correction=0).item()
    return values


def _present_classes(weights: Tensor, bias: Tensor, moments: ClassMoments) -> tuple[Tensor, Tensor]:
    width, last = len(moments.origin), int(moments.classes[-1])
    if weights.ndim != 2 or weights.shape[1] != width or bias.shape != weights.shape[:1]:
        raise ValueError(
            f"weights must be (classes, {width}) and bias (classes,); "
            f"got {tuple(weights.shape)} and {tuple(bias.shape)}"
        )
    if int(moments.classes[0]) < 0 or last >= len(weights):
        raise ValueError(f"labels must lie in 0..{len(weights) - 1}, the rows of weights; found up to {last}")
    weights, bias = weights[moments.classes].double(), bias[moments.classes].double()
    if not (torch.isfinite(weights).all() and torch.isfinite(bias).all()):
        raise ValueError("the classifier's weights or bias are not finite")
    return weights, bias


def _disagreement_with_nearest_mean(
    features: Tensor, moments: ClassMoments, weights: Tensor, bias: Tensor
) -> float:
    means = moments.centred_means
    centre = moments.offsets.mean(dim=0)
    bias_at_centre = bias + weights @ (moments.origin + centre)
    disagreements = 0
    for rows in row_blocks(*features.shape):
        centred = features[rows].double() - moments.origin - centre
        chosen = (centred @ weights.T + bias_at_centre).argmax(dim=1)
        nearest = (means.square().sum(dim=1) - 2 * centred @ means.T).argmin(dim=1)
        disagreements += int((chosen != nearest).sum())
    return disagreements / len(features)


def _distance_to_simplex(products: Tensor) -> float | None:
    """Return ‖A/‖A‖_F - (I - 11ᵀ/C)/√(C - 1)‖_F for the (C, C) matrix A; None when A is 0."""
    classes = len(products)
    if not products.any():
        return None
    simplex = torch.eye(classes, dtype=products.dtype, device=products.device) - 1 / classes
    return (products / products.norm() - simplex / math.sqrt(classes - 1)).norm().item()


def _measure(rows: LayerRows) -> dict[str, float | None]:
    return _collapse(rows.train, rows.moments, rows.weights, rows.bias)


_PAPYAN = "Papyan, Han, Donoho 2020, arXiv:2008.08186"
_HARUN = "Harun, Gallardo, Kanan 2025, arXiv:2502.10691, and its code"
_MEANS_EDGE = "no value when all class means coincide, so also with one class"
_PROBE_EDGE = f"{_MEANS_EDGE}, or when the probe has no weights or only zeros"

FAMILY = Family(
    name="collapse",
    metrics={
        "nc1": Metric(
            title="NC1, variability collapse",
            unit="ratio, from 0",
            direction="higher means less collapsed: more spread inside classes against the spread of "
            "class means",
            definition="tr(Σ_W Σ_B⁺)/C, Σ_W = mean over rows of (x - μ_c)(x - μ_c)ᵀ, Σ_B = mean over "
            "classes of (μ_c - μ_G)(μ_c - μ_G)ᵀ, ⁺ the pseudo-inverse",
            source=f"{_PAPYAN}, NC1, figure 6",
            edges=_MEANS_EDGE,
            split="train",
            protocol="nc1/v1",
        ),
        "nc2": Metric(
            title="NC2, maximal equal angles",
            unit="difference of cosines, 0 to 2",
            direction="higher means less collapsed: class means further from the corners of a simplex",
            definition="mean over pairs of classes of |cos(μ_c - μ_G, μ_c' - μ_G) + 1/(C - 1)|",
            source=f"{_PAPYAN}, NC2, figure 4",
            edges=f"{_MEANS_EDGE}, or when one class mean is the mean of all",
            split="train",
            protocol="nc2/v1",
        ),
        "nc2_equinorm": Metric(
            title="NC2, equal lengths",
            unit="ratio, from 0",
            direction="higher means less collapsed: class means of more different length",
            definition="standard deviation (divisor C) / mean of ‖μ_c - μ_G‖ over classes",
            source=f"{_PAPYAN}, NC2, figure 2",
            edges=_MEANS_EDGE,
            split="train",
            protocol="nc2_equinorm/v1",
        ),
        "nc2_equiangularity": Metric(
            title="NC2, equal angles",
            unit="difference of cosines, 0 to 1",
            direction="higher means less collapsed: more different angles between class means",
            definition="standard deviation of cos(μ_c - μ_G, μ_c' - μ_G) over pairs of classes",
            source=f"{_PAPYAN}, NC2, figure 3",
            edges=f"{_MEANS_EDGE}, or when one class mean is the mean of all",
            split="train",
            protocol="nc2_equiangularity/v1",
        ),
        "nc3": Metric(
            title="NC3, self-duality",
            unit="distance, 0 to 2",
            direction="higher means less collapsed: probe weights and class means point in more different "
            "directions",
            definition="‖W/‖W‖_F - M/‖M‖_F‖_F, rows of M = μ_c - μ_G, W of the layer's probe on the "
            "features as they are; the norm, not its square, which the authors' code plots",
            source=f"{_PAPYAN}, NC3, figure 5",
            edges=_PROBE_EDGE,
            split="train",
            protocol="nc3/v1",
            uses_probe=True,
        ),
        "nc4": Metric(
            title="NC4, disagreement with the nearest class mean",
            unit="share of training rows, 0 to 1",
            direction="higher means less collapsed: the probe decides more often unlike the nearest class "
            "mean",
            definition="share of training rows x with argmax_c (Wx + b)_c ≠ argmin_c ‖x - μ_c‖",
            source=f"{_PAPYAN}, NC4, figure 7",
            edges=_PROBE_EDGE,
            split="train",
            protocol="nc4/v1",
            uses_probe=True,
        ),
        "nc2_harun": Metric(
            title="NC2 of the classifier",
            unit="distance, 0 to 2",
            direction="higher means less collapsed: probe weights further from a simplex",
            definition="‖WWᵀ/‖WWᵀ‖_F - (I - 11ᵀ/C)/√(C - 1)‖_F",
            source=_HARUN,
            edges=_PROBE_EDGE,
            split="train",
            protocol="nc2_harun/v1",
            uses_probe=True,
        ),
        "nc3_harun": Metric(
            title="NC3 of classifier and means",
            unit="distance, 0 to 2",
            direction="higher means less collapsed: products of weights and means further from a simplex",
            definition="‖WMᵀ/‖WMᵀ‖_F - (I - 11ᵀ/C)/√(C - 1)‖_F, rows of M = μ_c - μ_G",
            source=_HARUN,
            edges=_PROBE_EDGE,
            split="train",
            protocol="nc3_harun/v1",
            uses_probe=True,
        ),
        "nc4_harun": Metric(
            title="NC4 of the bias",
            unit="logits, from 0",
            direction="higher means less collapsed: the probe prefers some classes at the mean of the "
            "class means",
            definition="‖Wμ_G + b‖₂",
            source=_HARUN,
            edges=_PROBE_EDGE,
            split="train",
            protocol="nc4_harun/v1",
            uses_probe=True,
        ),
    },
    measure=_measure,
    needs_classes=True,
)
