"""What a metric is: its definition in words, and the rows of one layer that it is computed from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

from tunnelscope.metrics.moments import ClassMoments, class_moments


@dataclass(frozen=True)
class Metric:
    """One quantity, as documentation and reports print it."""

    title: str
    unit: str
    """Unit or scale, with the range where there is one."""
    direction: str
    """What a higher value means."""
    definition: str
    source: str
    edges: str
    """When there is no value (null in tables), or what stands in for it."""
    split: Literal["train", "test"]
    """Whose rows it is computed from."""
    protocol: str
    """Name, version and parameters, as its rows in the results table carry them."""
    uses_probe: bool = False
    """Whether the layer's probe enters as W, so that the value changes with the probe's protocol."""

    def protocol_with(self, probe_protocol: str) -> str:
        """The protocol of a row: `nc1/v1`, or `nc3/v1 with exact/v2` where the layer's probe enters."""
        return f"{self.protocol} with {probe_protocol}" if self.uses_probe else self.protocol


@dataclass(frozen=True)
class LayerRows:
    """What metrics may look at: one layer's features, the labels, and the layer's linear probe."""

    test: Tensor
    """(n_test, d)."""
    train: Tensor
    """(n_train, d)."""
    labels: Tensor | None
    """Class of each training row, (n_train,) int64; None where rows have no classes."""
    weights: Tensor | None = None
    """(C, d), on the features as they are; None when the probe has no weights."""
    bias: Tensor | None = None
    """(C,)."""

    @cached_property
    def moments(self) -> ClassMoments:
        """Class means of the training rows, computed on first use and shared by the families."""
        assert self.labels is not None, "families that need classes are left out where there are none"
        return class_moments(self.train, self.labels)


@dataclass(frozen=True)
class Family:
    """Metrics that are computed together; listed in `metrics/families.py`."""

    name: str
    metrics: Mapping[str, Metric]
    measure: Callable[[LayerRows], Mapping[str, float | None]] | None
    """All values of the family for one layer; None for a family that compares layers."""
    needs_classes: bool = False
    """Whether it reads the classes of rows, so that it is left out where there are none."""
