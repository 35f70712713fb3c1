"""Mean and scale of features, measured in float64, and the rows standardised with them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tunnelscope.linalg.blocks import row_blocks

CONSTANT_SHARE = 1e-6  # a float32 feature whose sd is below this share of its mean shows rounding, not data


@dataclass(frozen=True, eq=False)
class Standardisation:
    """What is taken from and multiplied to each feature.

    Attributes:
        mean: (features,), float64.
        scale: 1 / population standard deviation, 0 where the feature is constant, (features,), float64.
    """

    mean: Tensor
    scale: Tensor

    def apply(self, rows: Tensor) -> Tensor:
        """Return the standardised rows, (rows, features), float64."""
        return (rows.double() - self.mean) * self.scale


def measure(features: Tensor) -> Standardisation:
    """Measure the mean and the population standard deviation of each feature.

    A feature is constant when its standard deviation is 0 or at most 1e-6 of its own mean. It is judged
    against itself alone, so features whose scales differ by orders of magnitude all count.

    Args:
        features: (rows, features), any float type, at least one row.
    """
    count, width = features.shape
    mean = torch.zeros(width, dtype=torch.float64, device=features.device)
    for block in row_blocks(count, width):
        mean += features[block].sum(dim=0, dtype=torch.float64)
    mean /= count
    variance, drift = torch.zeros_like(mean), torch.zeros_like(mean)
    for block in row_blocks(count, width):
        centred = features[block].double() - mean
        drift += centred.sum(dim=0)
        variance += centred.square_().sum(dim=0)
    mean = mean + drift / count  # the rounding of the first sum, which counts where the mean is far from 0
    deviation = (variance / count - (drift / count).square()).clamp_min(0).sqrt()
    varies = (deviation > CONSTANT_SHARE * mean.abs()) & (deviation > 0)
    scale = torch.where(varies, 1 / torch.where(varies, deviation, 1.0), 0.0)
    return Standardisation(mean, scale)
