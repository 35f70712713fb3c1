"""What happens to an image before a network sees it: colour mode, size, crop, scale."""

import math
from dataclasses import dataclass

from PIL import Image

from tunnelscope.errors import RequestError, unknown_name

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

DIRECT_SIZE = (
    64  # square images are resized straight to targets up to this side: a crop would cost the object
)


@dataclass(frozen=True)
class Preprocessing:
    """What a network does to an image before it sees it.

    Args:
        size: height and width of the network's input, in pixels.
        mean: per channel, subtracted from images scaled to 0..1.
        std: per channel, what the difference is divided by; each above 0.
        channels: 1 for grey (images are converted to L), 3 for RGB.
        interpolation: nearest, bilinear, bicubic or lanczos, always with antialias.
        crop_pct: share of the resized short side that the centre crop keeps, above 0 and at most 1.

    Raises:
        RequestError: a value outside these bounds.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int = 3
    interpolation: str = "bicubic"
    crop_pct: float = 1.0

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise RequestError(f"size must be a height and a width of at least 1 pixel, got {self.size}")
        if self.channels not in (1, 3):
            raise RequestError(f"channels must be 1 (grey) or 3 (RGB), got {self.channels}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels or not all(math.isfinite(value) for value in values):
                raise RequestError(
                    f"{name} must be one finite number a channel ({self.channels}), got {values}"
                )
        if min(self.std) <= 0:
            raise RequestError(f"std must be above 0 in every channel, got {self.std}")
        if self.interpolation not in INTERPOLATIONS:
            raise unknown_name("interpolation", self.interpolation, INTERPOLATIONS)
        if not 0 < self.crop_pct <= 1:
            raise RequestError(f"crop_pct must be above 0 and at most 1, got {self.crop_pct:g}")
