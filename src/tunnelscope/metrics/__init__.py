"""What a layer's features look like in numbers: pure functions on tensors, one file a family."""

from tunnelscope.metrics.collapse import neural_collapse
from tunnelscope.metrics.dead import dead_features
from tunnelscope.metrics.dimension import twonn
from tunnelscope.metrics.families import FAMILIES, METRICS
from tunnelscope.metrics.layer import layer_metrics
from tunnelscope.metrics.metric import Family, LayerRows, Metric
from tunnelscope.metrics.moments import ClassMoments, class_moments
from tunnelscope.metrics.rank import effective_rank, numerical_rank, rankme
from tunnelscope.metrics.similarity import unbiased_cka
from tunnelscope.metrics.variance import between_variance, variance_ratio, within_variance

__all__ = [
    "FAMILIES",
    "METRICS",
    "ClassMoments",
    "Family",
    "LayerRows",
    "Metric",
    "between_variance",
    "class_moments",
    "dead_features",
    "effective_rank",
    "layer_metrics",
    "neural_collapse",
    "numerical_rank",
    "rankme",
    "twonn",
    "unbiased_cka",
    "variance_ratio",
    "within_variance",
]
