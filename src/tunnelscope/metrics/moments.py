"""Class means and the scatter around them: what variances and neural collapse are made of."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tunnelscope.linalg.blocks import row_blocks
from tunnelscope.linalg.spectrum import check_features, column_means


@dataclass(frozen=True)
class ClassMoments:
    """Counts, means and scatter of the C classes that have rows; everything in float64.

    Means are kept as offsets from an origin (the first row), so that a large common offset of the features
    costs no digits and equal means are equal to the last bit.
    """

    classes: Tensor
    """Labels that occur, ascending, (C,) int64."""
    members: Tensor
    """Position in `classes` of each row's class, (n,) int64."""
    counts: Tensor
    """Rows of each class, (C,)."""
    origin: Tensor
    """(d,)."""
    offsets: Tensor
    """Class means minus the origin, (C, d)."""
    within: float
    """Mean over rows of the squared distance to the row's class mean."""
    between: float
    """Mean over rows of the squared distance from the row's class mean to the mean of all rows."""

    @property
    def means(self) -> Tensor:
        """Class means, (C, d)."""
        return self.origin + self.offsets

    @property
    def centred_means(self) -> Tensor:
        """Class means minus their own mean (each class counts once), (C, d)."""
        return self.offsets - self.offsets.mean(dim=0)

    @property
    def means_coincide(self) -> bool:
        """Whether the class means differ by no more than rounding."""
        return self.between <= 1e-26 * (self.within + self.between)


def class_moments(features: Tensor, labels: Tensor) -> ClassMoments:
    """Compute class counts, means and scatter in two passes over row blocks.

    Args:
        features: (n, d), n ≥ 1.
        labels: (n,), any integers; classes without rows do not appear in the result.

    Raises:
        ValueError: shapes that do not fit, or values that are not finite.
    """
    check_features(features)
    if labels.shape != features.shape[:1]:
        raise ValueError(
            f"labels must be ({len(features)},), one per row of features; got {tuple(labels.shape)}"
        )
    classes, members, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    origin, overall = column_means(features)

    sums = torch.zeros(len(classes), features.shape[1], dtype=torch.float64, device=features.device)
    for rows in row_blocks(*features.shape):
        sums.index_add_(0, members[rows], features[rows].double() - origin)
    offsets = sums / counts[:, None]

    scatter = 0.0
    for rows in row_blocks(*features.shape):
        residuals = features[rows].double() - origin - offsets[members[rows]]
        scatter += residuals.square().sum().item()
    shares = counts.double() / len(features)
    between = (shares @ (offsets - overall).square().sum(dim=1)).item()
    return ClassMoments(classes, members, counts, origin, offsets, scatter / len(features), between)
