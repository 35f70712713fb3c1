"""How the variance of a layer splits into that inside classes and that between them."""

from torch import Tensor

from tunnelscope.metrics.metric import Family, LayerRows, Metric
from tunnelscope.metrics.moments import ClassMoments, class_moments

__all__ = ["FAMILY", "ClassMoments", "between_variance", "class_moments", "variance_ratio", "within_variance"]


def within_variance(features: Tensor, labels: Tensor) -> float:
    """Return the mean squared distance of a row to the mean of its class.

    (1/n) Σ_c Σ_{i in c} ‖x_i - μ_c‖²; the intra-class variance of Masarczyk et al. 2023, figure 3. With
    `between_variance` it adds up to the total variance, the trace of the covariance with divisor n.

    Args:
        features: (n, d).
        labels: (n,), integers.
    """
    return class_moments(features, labels).within


def between_variance(features: Tensor, labels: Tensor) -> float:
    """Return the mean squared distance from the mean of a row's class to the mean of all rows.

    (1/n) Σ_c n_c ‖μ_c - μ‖²; the inter-class variance of Masarczyk et al. 2023, figure 3.
    """
    return class_moments(features, labels).between


def variance_ratio(features: Tensor, labels: Tensor) -> float | None:
    """Return within / between variance, free of scale; None when all class means coincide."""
    return _ratio(class_moments(features, labels))


def _ratio(moments: ClassMoments) -> float | None:
    return None if moments.means_coincide else moments.within / moments.between


def _measure(rows: LayerRows) -> dict[str, float | None]:
    return {
        "within_variance": rows.moments.within,
        "between_variance": rows.moments.between,
        "variance_ratio": _ratio(rows.moments),
    }


FAMILY = Family(
    name="variance",
    metrics={
        "within_variance": Metric(
            title="Within-class variance",
            unit="squared feature units, from 0",
            direction="higher means that examples of one class lie further apart",
            definition="(1/n) Σ_c Σ_{i in c} ‖x_i - μ_c‖² over the training rows",
            source="Masarczyk et al. 2023, arXiv:2305.19753, figure 3 (intra-class)",
            edges="0 when every class has one row",
            split="train",
            protocol="within_variance/v1",
        ),
        "between_variance": Metric(
            title="Between-class variance",
            unit="squared feature units, from 0",
            direction="higher means that class means lie further apart",
            definition="(1/n) Σ_c n_c ‖μ_c - μ‖² over the training rows, μ the mean of all rows",
            source="Masarczyk et al. 2023, arXiv:2305.19753, figure 3 (inter-class)",
            edges="0 when there is one class",
            split="train",
            protocol="between_variance/v1",
        ),
        "variance_ratio": Metric(
            title="Within / between variance",
            unit="ratio, from 0",
            direction="higher means that classes overlap more; it falls as classes collapse",
            definition="within-class variance divided by between-class variance",
            source="the two above, made free of scale",
            edges="no value when all class means coincide, so also with one class",
            split="train",
            protocol="variance_ratio/v1",
        ),
    },
    measure=_measure,
    needs_classes=True,
)
