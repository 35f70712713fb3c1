"""Mean and scale of features, measured in float64, and the rows standardised with them."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tunnelscope.linalg.blocks import row_blocks

CONSTANT_SHARE = 1e-6  # a float32 feature whose sd is below this share of its mean shows rounding, not data
LARGEST_SCALE = 1e18  # in float32: the square of a scale, and its product with a mean, are finite still
SMALLEST_SQUARE = 1e-30  # in float32: smaller mean squares lose digits
CENTRE_ROWS = 256  # whose mean is near enough to that of all for no digit to be lost around it
CACHED = 1 << 17  # elements of a block that stays in a core's cache while it is worked on


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

    def blocks(self, rows: Tensor, dtype: torch.dtype, step: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield slices of `step` rows and these rows standardised, in one buffer that each step overwrites.

        Float32 rows are standardised in float32 where that loses nothing: x − (mean rounded to float32) is
        exact where the mean is large beside the deviation, and what the rounding left is taken off after.

        Args:
            rows: (rows, features), float32 or float64.
            dtype: of the standardised rows, float32 or float64.
        """
        buffer = rows.new_empty(min(step, len(rows)), rows.shape[1], dtype=dtype)
        single = rows.dtype == dtype == torch.float32 and float(self.scale.max()) < LARGEST_SCALE
        mean, scale = self.mean.to(rows.dtype), self.scale.to(rows.dtype)
        rest = (self.mean - mean.double()).to(rows.dtype)
        for start in range(0, len(rows), step):
            block = slice(start, min(start + step, len(rows)))
            out = buffer[: block.stop - start]
            if single:
                torch.sub(rows[block], mean, out=out).sub_(rest).mul_(scale)
            elif dtype == torch.float64:
                torch.sub(rows[block], self.mean, out=out).mul_(self.scale)
            else:
                out.copy_(self.apply(rows[block]))
            yield block, out


def measure(features: Tensor) -> Standardisation:
    """Measure the mean and the population standard deviation of each feature.

    A feature is constant when its standard deviation is 0 or at most 1e-6 of its own mean. It is judged
    against itself alone, so features whose scales differ by orders of magnitude all count.

    Args:
        features: (rows, features), any float type, at least one row.
    """
    centre, drift, variance = _moments(features)
    if features.dtype != torch.float64 and not _are_held(features, variance):
        centre, drift, variance = _moments(features.double())
    mean = centre.double() + drift
    deviation = (variance - drift.square()).clamp_min(0).sqrt()
    varies = (deviation > CONSTANT_SHARE * mean.abs()) & (deviation > 0)
    scale = torch.where(varies, 1 / torch.where(varies, deviation, 1.0), 0.0)
    return Standardisation(mean, scale)


def _are_held(features: Tensor, squares: Tensor) -> bool:
    """Whether float32 could hold the squares, or they are 0 because the feature is constant."""
    is_held = (squares > SMALLEST_SQUARE) & squares.isfinite()
    if not bool((squares == 0).any()):
        return bool(is_held.all())
    least, most = features.aminmax(dim=0)
    return bool((is_held | ((squares == 0) & (least == most))).all())


def _moments(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a row near the mean; mean and mean square of the rows minus that row, float64.

    Sums over a block of rows are in the type of the features.
    """
    count, width = features.shape
    centre = features[:: max(1, count // CENTRE_ROWS)].mean(dim=0)
    first = centre.new_zeros(width, dtype=torch.float64)
    second = torch.zeros_like(first)
    for block in row_blocks(count, width, CACHED):
        centred = features[block] - centre
        first += centred.sum(dim=0)
        second += centred.square_().sum(dim=0)
    return centre, first / count, second / count
