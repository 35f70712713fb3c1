"""Images that come twice: a print of each image, taken as it passes, and the pairs of equal or like prints.

A print is a digest of the image as it was decoded (its label apart) and a thumbnail of it as the network
sees it. The thumbnail is 16 × 16 grey values with mean 0 and variance 1, so that a brighter, softer or
recompressed copy has nearly the same one; two thumbnails are alike when their RMS difference is at most
`LIKE`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

SIDE = 16  # pixels of a thumbnail; smaller images have none: a digit of 8 × 8 looks like many others
STEP = 1 / 24  # between the values that a thumbnail keeps in 8 bits
LIKE = 0.1  # RMS difference in standard deviations of the thumbnail: a correlation of 0.995
FLAT = 0.02  # standard deviation below which an image, in units of its network's input, is a plain surface
CELL = 4  # pixels of a thumbnail that are averaged for the first look
BLOCK = 1 << 22  # distances held at once
PART = 1 << 16  # thumbnails held as floats at once
IMAGE_BYTES = 400  # of an image's print, and of what is made of it to find the pairs


@dataclass(frozen=True)
class Prints:
    """A print of each image of a split.

    Attributes:
        digests: (n, 16) uint8, of the image or text without its label.
        thumbnails: (n, 256) int8 in units of `STEP`, zeros for a plain surface; None where there are none.
    """

    digests: Tensor
    thumbnails: Tensor | None = None

    def save(self, folder: Path) -> None:
        """Write them into a folder."""
        held = {"digests": self.digests} | (
            {} if self.thumbnails is None else {"thumbnails": self.thumbnails}
        )
        save_file(held, folder / "prints.safetensors")


def load_prints(folder: Path) -> Prints | None:
    """Read what `Prints.save` wrote; None where it is damaged."""
    try:
        held = load_file(folder / "prints.safetensors")
        return Prints(held["digests"], held.get("thumbnails"))
    except (OSError, KeyError, SafetensorError):
        return None


def as_digests(held: bytes | bytearray) -> Tensor:
    """Digests of 16 bytes, one after the other, as (n, 16) uint8."""
    return torch.from_numpy(np.frombuffer(bytes(held), dtype=np.uint8).reshape(-1, 16).copy())


class Thumbnails:
    """Thumbnails of batch after batch, in one tensor."""

    def __init__(self, count: int) -> None:
        """Make room for that many images."""
        self._count, self._done = count, 0
        self._kept: Tensor | None = None
        self._has_all = True

    def add(self, batch: Tensor) -> None:
        """Add those of preprocessed images; nothing else has any."""
        small = thumbnails(batch)
        self._has_all &= small is not None
        if small is None or not self._has_all:
            return
        if self._kept is None:
            self._kept = small.new_empty(self._count, small.shape[1])
        self._kept[self._done : self._done + len(small)] = small
        self._done += len(small)

    def all(self) -> Tensor | None:
        """Return those of all images, (n, 256); None where one had none."""
        return self._kept[: self._done] if self._kept is not None and self._has_all else None


def thumbnails(batch: Tensor) -> Tensor | None:
    """Thumbnails of preprocessed images (b, C, H, W), (b, 256) int8; None of anything else, or smaller."""
    if batch.dim() != 4 or min(batch.shape[2:]) < SIDE:
        return None
    grey = F.adaptive_avg_pool2d(batch.mean(dim=1, keepdim=True), SIDE).flatten(1)
    centred = grey - grey.mean(dim=1, keepdim=True)
    spread = centred.square().mean(dim=1, keepdim=True).sqrt()
    scaled = (centred / spread.clamp_min(FLAT) / STEP).round().clamp(-127, 127)
    return torch.where(spread < FLAT, 0, scaled).to(torch.int8)


def equal_pairs(train: Tensor, test: Tensor) -> list[tuple[int, int]]:
    """The test rows whose digest a training row has, each with the first such row: (test, train).

    Args:
        train, test: (n, 16) uint8.
    """
    known, asked = (np.ascontiguousarray(one.numpy()).view(np.uint64) for one in (train, test))  # (n, 2)
    order = known[:, 0].argsort(kind="stable")
    halves = known[order, 0]
    starts, ends = (np.searchsorted(halves, asked[:, 0], side) for side in ("left", "right"))
    pairs: list[tuple[int, int]] = []
    for row in (starts < ends).nonzero()[0].tolist():
        alike = order[starts[row] : ends[row]]  # by their first half, in the order of their rows
        equal = (known[alike, 1] == asked[row, 1]).argmax()
        if known[alike[equal], 1] == asked[row, 1]:
            pairs.append((row, int(alike[equal])))
    return pairs


def like_pairs(train: Tensor | None, test: Tensor | None, most: float = LIKE) -> list[tuple[int, int]]:
    """The test rows with a training row that looks like them, each with the nearest one: (test, train).

    Every pair is found: averages over cells differ by no more than what they average, so pairs that these
    tell apart need no second look.

    Args:
        train, test: thumbnails (n, 256) int8; without them there are no pairs.
        most: RMS difference up to which two thumbnails are alike.
    """
    if train is None or test is None or not len(train) or not len(test):
        return []
    bound = SIDE * SIDE * (most / STEP) ** 2
    kept = train.any(dim=1).nonzero()[:, 0]  # plain surfaces are like nothing
    if not len(kept):
        return []
    coarse = torch.cat([_coarse(train[some]) for some in kept.split(PART)])
    # ‖a - b‖² ≤ bound as a·b - ‖b‖²/2 ≥ (‖a‖² - bound)/2: one product, with a little room for rounding
    coarse = torch.cat([coarse, -coarse.square().sum(dim=1, keepdim=True) / 2], dim=1)
    pairs: list[tuple[int, int]] = []
    rows = max(1, BLOCK // len(kept))
    for start in range(0, len(test), rows):
        asked = test[start : start + rows]
        pairs += [(start + row, twin) for row, twin in _nearest(asked, train, kept, coarse, bound)]
    return pairs


def _nearest(
    asked: Tensor, fine: Tensor, kept: Tensor, coarse: Tensor, bound: float
) -> list[tuple[int, int]]:
    """Rows of `asked` with a thumbnail of `fine[kept]` within the bound, each with the nearest's row."""
    averaged = _coarse(asked)
    least = (averaged.square().sum(dim=1) - 1.001 * bound - 1) / 2
    products = torch.cat([averaged, torch.ones(len(averaged), 1)], dim=1) @ coarse.T
    some = (products.amax(dim=1) >= least).nonzero()[:, 0]  # in few rows is there anything to look at
    at, twins = (products[some] >= least[some, None]).nonzero(as_tuple=True)
    rows, twins = some[at], kept[twins]
    distances = _squared_distances(asked, fine, rows, twins)
    near = (distances <= bound) & asked.any(dim=1)[rows]
    nearest: dict[int, tuple[float, int]] = {}
    for row, distance, twin in zip(*(x[near].tolist() for x in (rows, distances, twins)), strict=True):
        nearest[row] = min(nearest.get(row, (distance, twin)), (distance, twin))
    return [(row, twin) for row, (_, twin) in sorted(nearest.items())]


def _squared_distances(asked: Tensor, fine: Tensor, rows: Tensor, twins: Tensor) -> Tensor:
    """Squared distances between the pairs of thumbnails, (pairs,), a block of pairs at a time."""
    parts = [
        (asked[some].float() - fine[others].float()).square().sum(dim=1)
        for some, others in zip(rows.split(PART), twins.split(PART), strict=True)
    ]
    return torch.cat(parts) if parts else torch.empty(0)


def _coarse(fine: Tensor) -> Tensor:
    """Averages over CELL × CELL pixels times CELL: a projection, so no distance grows."""
    maps = fine.float().reshape(-1, 1, SIDE, SIDE)
    return CELL * F.avg_pool2d(maps, CELL).flatten(1)
