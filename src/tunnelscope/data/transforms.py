"""What a network does to an image before it sees it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preprocessing:
    """What a network does to an image before it sees it: size, channels, normalisation.

    `mean` and `std` hold one number a channel, on images scaled to 0..1; `interpolation` is bilinear,
    bicubic, nearest or lanczos; `size` is (height, width).
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int = 3
    interpolation: str = "bicubic"
    crop_pct: float = 1.0
