"""What a layer's tensor becomes: one row of features per image."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.layers import ReadPoint
from tunnelscope.randomness import named_generator

POOLS = ("auto", "2x2", "avg", "flatten", "mean", "cls", "last")
MOST_COLUMNS = 8_000  # of a flattened layer: Masarczyk et al. 2023 take 8,000 at random


class Pooling:
    """Turn one layer's tensor into features, (batch, …) to (batch, width), inside the hook.

    `auto` and `2x2` average a map into 2×2 cells (a map of 2×2 or less is flattened); `avg`
    averages the whole map; `flatten` keeps every number, of more than 8,000 a fixed random 8,000.
    Tokens are averaged over the patches or the text's tokens (class, register and distillation tokens
    left out) unless flattened, or unless `cls` or `last` takes the first or the last one; vectors stay as
    they are. `mean` averages whatever there is, a map or tokens.

    Args:
        point: the layer, with the shape of its tensor.
        choice: one of `POOLS`.
        seed: of the columns that `flatten` keeps; the same layer keeps the same columns.

    Raises:
        RequestError: `choice` is no pooling, or none for this layer.
    """

    def __init__(self, point: ReadPoint, choice: str = "auto", seed: int = 0):
        if choice not in POOLS:
            raise unknown_name("pooling", choice, POOLS)
        self.shape = point.shape
        self.prefix_tokens = point.prefix_tokens
        if choice in ("cls", "last") and len(point.shape) != 2:
            raise RequestError(
                f"--pool {choice} takes one token, but layer {point.name} gives no tokens; use auto or mean"
            )
        self.name = _resolved(point.shape, choice)
        self.columns: Tensor | None = None
        width = self(torch.zeros(1, *point.shape)).shape[1]
        if self.name == "flatten" and width > MOST_COLUMNS:
            order = torch.randperm(width, generator=named_generator(seed, f"flatten columns {point.name}"))
            self.columns = order[:MOST_COLUMNS].sort().values
            width = MOST_COLUMNS
        self.width: int = width

    def __call__(self, tensor: Tensor) -> Tensor:
        if self.name == "flatten":
            flat = tensor.flatten(1)
            return flat if self.columns is None else flat[:, self.columns.to(flat.device)]
        if self.name == "none":
            return tensor
        if self.name in ("cls", "last"):
            return tensor[:, 0 if self.name == "cls" else -1]
        if self.name == "mean tokens":
            return tensor[:, self.prefix_tokens :].mean(dim=1)
        if _channels_last(self.shape):
            tensor = tensor.permute(0, 3, 1, 2)
        return tensor.mean(dim=(2, 3)) if self.name == "avg" else pool_2x2(tensor)


def pool_2x2(maps: Tensor) -> Tensor:
    """Average (n, C, H, W) into 2×2 cells and flatten, (n, 4·C); smaller maps are only flattened.

    Equals adaptive average pooling; where the cells divide the map evenly a plain average pool
    does it several times faster.
    """
    height, width = maps.shape[2:]
    if height <= 2 and width <= 2:
        return maps.flatten(1)
    if height % 2 == 0 and width % 2 == 0:
        return F.avg_pool2d(maps, (height // 2, width // 2)).flatten(1)
    return F.adaptive_avg_pool2d(maps, (min(height, 2), min(width, 2))).flatten(1)


def _resolved(shape: tuple[int, ...], choice: str) -> str:
    """What a choice comes to for a tensor of this shape; written in the results table."""
    if len(shape) == 1:
        return "none"
    if choice == "flatten" or len(shape) > 3:
        return "flatten"
    if len(shape) == 2:
        return choice if choice in ("cls", "last") else "mean tokens"
    if choice in ("avg", "mean"):
        return "avg"
    return "2x2"


def _channels_last(shape: tuple[int, ...]) -> bool:
    """Whether a map is (H, W, C), as Swin and MetaFormer kinds give it; square maps tell it."""
    first, second, third = shape
    return first == second != third
