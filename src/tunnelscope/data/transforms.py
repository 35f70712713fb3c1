"""What happens to an image before a network sees it: colour mode, size, crop, scale.

The steps and their rounding are those of timm's and torchvision's evaluation transforms, so that a network
reads the pixels it was trained to read. `preprocess` does one image; the loader does `fit_image` in its
threads and `normalise` once a batch, which gives the same numbers.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tunnelscope.errors import RequestError, unknown_name

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

MOST_PIXELS = 1 << 28  # of a resized image before the crop: 800 MB in RGB

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

    @property
    def normalises(self) -> bool:
        """Whether it does more to pixels than scale them to 0..1."""
        return any(self.mean) or any(value != 1 for value in self.std)

    def describe(self) -> str:
        """Say in one line what is done to an image."""
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        kind = "RGB" if self.channels == 3 else "grey"
        crop = f", crop {self.crop_pct:g}" if self.crop_pct < 1 else ""
        return f"{kind} {self.size[0]}×{self.size[1]} ({self.interpolation}{crop}), mean {mean}, std {std}"

    def as_dict(self) -> dict[str, Any]:
        """Return what a run's record keeps."""
        return vars(self)

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


def preprocess(image: Image.Image | np.ndarray, preprocessing: Preprocessing) -> Tensor:
    """Return one image as the network wants it, (C, H, W) float32.

    Args:
        image: any PIL mode but F, or a uint8 array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        preprocessing: the network's.

    Raises:
        RequestError: an image whose pixels have no agreed scale (float images, integers other than uint8).
    """
    return normalise(np.stack([fit_image(image, preprocessing)]), preprocessing)[0]


def fit_image(image: Image.Image | np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Convert, resize and crop one image to the network's size, (H, W, C) uint8."""
    eight_bit = as_eight_bit(image).convert("L" if preprocessing.channels == 1 else "RGB")
    pixels = np.asarray(_crop_centre(_resize(eight_bit, preprocessing), preprocessing.size))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def normalise(pixels: np.ndarray, preprocessing: Preprocessing) -> Tensor:
    """Scale a batch (b, H, W, C) uint8 to 0..1, take the mean off, divide by std: (b, C, H, W) float32."""
    planes = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    scaled = planes.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    mean = torch.tensor(preprocessing.mean, dtype=torch.float32).view(-1, 1, 1)
    std = torch.tensor(preprocessing.std, dtype=torch.float32).view(-1, 1, 1)
    return scaled.sub_(mean).div_(std)


def as_eight_bit(image: Image.Image | np.ndarray) -> Image.Image:
    """Return the image in mode L (grey) or RGB, 8 bits a channel, transparency dropped, palettes resolved.

    Raises:
        RequestError: float pixels, or an array that is no uint8 image.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    mode = image.mode
    if mode in ("L", "RGB"):
        return image
    if mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if mode == "I":  # how older readers hand out 16-bit grey PNGs
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if mode == "F":
        raise RequestError(
            "its pixels are floats (mode F) and their scale is not stated; save it with 8 bits"
        )
    if mode in ("1", "LA", "La"):
        return (image.convert("LA") if mode == "La" else image).convert("L")
    if mode in ("P", "PA", "RGBa"):  # over RGBA, or a transparent palette makes PIL warn
        image = image.convert("RGBA")
    return image.convert("RGB")


def _from_array(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8:
        raise RequestError(f"an image array must be uint8 (0 to 255), this one is {pixels.dtype}")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[2] not in (3, 4)):
        raise RequestError(f"an image array must be (H, W) or (H, W, 1, 3 or 4), this one is {pixels.shape}")
    return as_eight_bit(Image.fromarray(np.ascontiguousarray(pixels)))


def _resize(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    width, height = _resized_size(image.width, image.height, preprocessing)
    if (width, height) == image.size:
        return image
    if width * height > MOST_PIXELS:
        raise RequestError(
            f"it is {image.width} × {image.height} pixels, too narrow to be resized by its short side "
            f"({width} × {height} pixels before the crop); crop or remove it"
        )
    return image.resize((width, height), INTERPOLATIONS[preprocessing.interpolation])


def _resized_size(width: int, height: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Width and height before the crop."""
    target_height, target_width = preprocessing.size
    if width == height and target_width == target_height <= DIRECT_SIZE:
        return target_width, target_height
    # timm rounds down here (224 / 0.9 is 248), and torchvision rounds the long side down
    full_height = math.floor(target_height / preprocessing.crop_pct)
    full_width = math.floor(target_width / preprocessing.crop_pct)
    if full_height == full_width:
        if width <= height:
            return full_width, int(full_width * height / width)
        return int(full_height * width / height), full_height
    ratio = min(height / full_height, width / full_width)  # timm's ResizeKeepRatio
    return round(width / ratio), round(height / ratio)


def _crop_centre(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    top = round((image.height - height) / 2.0)
    left = round((image.width - width) / 2.0)
    if (top, left) == (0, 0) and (image.height, image.width) == size:
        return image
    return image.crop((left, top, left + width, top + height))
