"""Augmentation of a whole batch on its device, every draw from a generator of its own step.

The draws are made for the whole batch on the CPU: the same step gives the same images on any device, after a
kill, and on any number of processes, of which each takes its rows.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tunnelscope.errors import RequestError

PADDING = 4  # pixels of black around an image that is cropped
LEAST_AREA, ASPECT = 0.08, (3 / 4, 4 / 3)  # torchvision's RandomResizedCrop
TRIES = 10

Augment = Callable[[Tensor, torch.Generator, slice], Tensor]


def unchanged(images: Tensor, draws: torch.Generator, mine: slice) -> Tensor:
    """Return the images of this process as they are."""
    return images[mine]


def crop_flip(images: Tensor, draws: torch.Generator, mine: slice) -> Tensor:
    """Crop at random from the image with 4 pixels of black around it; flip half of the images.

    Args:
        images: (n, H, W, C), any type; 0 is black.
        draws: of this step.
        mine: rows of this process.
    """
    count, height, width, _ = images.shape
    top, left = (torch.randint(2 * PADDING + 1, (count, 1), generator=draws)[mine] for _ in range(2))
    is_flipped = (torch.rand(count, 1, generator=draws) < 0.5)[mine]
    across = torch.arange(width)
    columns = left + torch.where(is_flipped, width - 1 - across, across)
    rows = top + torch.arange(height)
    padded = F.pad(images[mine], (0, 0, PADDING, PADDING, PADDING, PADDING))
    numbers, rows, columns = (index.to(images.device) for index in (torch.arange(len(top)), rows, columns))
    return padded[numbers[:, None, None], rows[:, :, None], columns[:, None, :]]


def resized_crop_flip(images: Tensor, draws: torch.Generator, mine: slice) -> Tensor:
    """Crop 8 to 100 % of the area at an aspect of 3:4 to 4:3, resize bilinearly to the whole; flip half.

    The bounds, and the ten tries before a central crop, are those of torchvision's `RandomResizedCrop`.

    Returns:
        (n, H, W, C) float32.
    """
    count, height, width, _ = images.shape
    boxes = _boxes(count, height, width, draws)[mine].to(images.device)  # top, left, height, width
    is_flipped = (torch.rand(count, 1, generator=draws) < 0.5)[mine].to(images.device)
    planes = images[mine].permute(0, 3, 1, 2).float()
    y = _centres(boxes[:, 0:1], boxes[:, 2:3], height)
    x = _centres(boxes[:, 1:2], boxes[:, 3:4], width)
    x = torch.where(is_flipped, x.flip(1), x)
    grid = torch.stack(
        [
            ((2 * x + 1) / width - 1)[:, None, :].expand(-1, height, -1),
            ((2 * y + 1) / height - 1)[:, :, None].expand(-1, -1, width),
        ],
        dim=-1,
    )
    return F.grid_sample(planes, grid.float(), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


def _centres(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Where each of `size` pixels lies in the image, inside the crop's outermost pixel centres."""
    across = (torch.arange(size, device=start.device) + 0.5) * length / size - 0.5
    return start + torch.minimum(across.clamp_min(0), length - 1)


def _boxes(count: int, height: int, width: int, draws: torch.Generator) -> Tensor:
    """Draw crops, (count, 4): top, left, height, width, float64."""
    area = height * width * (LEAST_AREA + (1 - LEAST_AREA) * _uniform(count, TRIES, draws))
    low, high = map(math.log, ASPECT)
    aspect = (low + (high - low) * _uniform(count, TRIES, draws)).exp()
    wide, high_ = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (wide >= 1) & (wide <= width) & (high_ >= 1) & (high_ <= height)
    first = fits.double().argmax(dim=1, keepdim=True)
    own_wide, own_high = wide.gather(1, first), high_.gather(1, first)
    ratio = min(max(width / height, ASPECT[0]), ASPECT[1])
    central = min(height, width / ratio), min(width, height * ratio)
    has_fit = fits.any(dim=1, keepdim=True)
    own_high = torch.where(has_fit, own_high, round(central[0]))
    own_wide = torch.where(has_fit, own_wide, round(central[1]))
    places = _uniform(count, 2, draws)
    top = (places[:, :1] * (height - own_high + 1)).floor()
    left = (places[:, 1:] * (width - own_wide + 1)).floor()
    top = torch.where(has_fit, top, ((height - own_high) / 2).floor())
    left = torch.where(has_fit, left, ((width - own_wide) / 2).floor())
    return torch.cat([top, left, own_high, own_wide], dim=1)


def _uniform(count: int, each: int, draws: torch.Generator) -> Tensor:
    return torch.rand(count, each, generator=draws, dtype=torch.float64)


AUGMENT: dict[str, Augment] = {
    "none": unchanged,
    "crop-flip": crop_flip,
    "resized-crop-flip": resized_crop_flip,
}


def augmented(name: str, images: Tensor, draws: torch.Generator, mine: slice, is_ready: bool) -> Tensor:
    """Augment this process's part of a batch, laid out as it is.

    Args:
        name: of `AUGMENT`.
        images: (n, H, W, C) pixels; or ready inputs, which are augmented where they are maps (n, C, H, W);
            what is black in pixels is 0 in these.
        draws: of this step.
        mine: rows of this process.
        is_ready: whether they are ready inputs.

    Raises:
        RequestError: ready inputs that are no maps.
    """
    if not is_ready or name == "none":
        return AUGMENT[name](images, draws, mine)
    if images.dim() != 4:
        raise RequestError(f"--augmentation {name} is for images, these inputs have {images.dim() - 1} axes")
    return AUGMENT[name](images.permute(0, 2, 3, 1), draws, mine).permute(0, 3, 1, 2)
