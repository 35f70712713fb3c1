"""The list of metric families. A new metric is a file like its neighbours and one line here."""

from collections.abc import Mapping

from tunnelscope.metrics import collapse, dead, dimension, rank, similarity, variance
from tunnelscope.metrics.metric import Family, Metric

FAMILIES: tuple[Family, ...] = (
    rank.FAMILY,
    variance.FAMILY,
    dead.FAMILY,
    collapse.FAMILY,
    dimension.FAMILY,
    similarity.FAMILY,
)

METRICS: Mapping[str, Metric] = {
    name: metric for family in FAMILIES for name, metric in family.metrics.items()
}
"""Name in the results table -> what it is, which rows it comes from and under which protocol."""
