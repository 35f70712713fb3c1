"""What a layer's tensor becomes: one row of features per image."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.layers import ReadPoint
from tunnelscope.randomness import named_generator

POOLS = ("auto", "2x2", "avg", "flatten", "cls", "mean", "cls+mean", "last")
LARGE = 16  # pixels of a side from which a matrix product pools faster than an average pool does
MOST_COLUMNS = 8_000  # of a flattened layer: Masarczyk et al. 2023 take 8,000 at random


class Pooling:
    """Turn one layer's tensor into features, (batch, …) to (batch, width), inside the hook.

    `auto` and `2x2` average a map into 2×2 cells (a map of 2×2 or less is flattened); `avg`
    averages the whole map; `flatten` keeps every number, of more than 8,000 a fixed random 8,000.
    Tokens are averaged over the patches (class, register and distillation tokens left out) unless
    flattened; vectors stay as they are. `cls` takes the class token (of a text the first token),
    `cls+mean` that beside the patches' mean, `mean` the patches' mean alone and `last` the last token;
    with these a map is averaged, and with the first two so is a sequence without class token (a patch
    embedding). `name` says what the layer got.

    Args:
        point: the layer, with the shape of its tensor.
        choice: one of `POOLS`.
        seed: of the columns that `flatten` keeps; the same layer keeps the same columns.

    Raises:
        RequestError: `choice` is no pooling.
    """

    def __init__(self, point: ReadPoint, choice: str = "auto", seed: int = 0):
        if choice not in POOLS:
            raise unknown_name("pooling", choice, POOLS)
        self.prefix_tokens = point.prefix_tokens
        self.channel_axis = point.channel_axis
        self.name = _resolved(point, choice)
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
        if tensor.dim() == 3:
            return self._of_tokens(tensor.transpose(1, 2) if self.channel_axis == 0 else tensor)
        if self.channel_axis:
            tensor = tensor.movedim(1 + self.channel_axis, 1)
        return tensor.mean(dim=(2, 3)) if self.name == "avg" else pool_2x2(tensor)

    def _of_tokens(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, width) to (batch, width), or twice the width for `cls+mean`."""
        if self.name in ("cls", "last"):
            return tokens[:, 0 if self.name == "cls" else -1]
        mean = tokens[:, self.prefix_tokens :].mean(dim=1)
        return mean if self.name == "mean tokens" else torch.cat([tokens[:, 0], mean], dim=1)


def pool_2x2(maps: Tensor) -> Tensor:
    """Average (n, C, H, W) into 2×2 cells and flatten, (n, 4·C); smaller maps are only flattened.

    Equals adaptive average pooling; where the cells divide the map evenly a plain average pool
    does it several times faster.
    """
    height, width = maps.shape[2:]
    if height <= 2 and width <= 2:
        return maps.flatten(1)
    if height % 2 == 0 and width % 2 == 0:
        if height >= LARGE and _lies_by_pixels(maps):
            return _sums_2x2(maps) / (height * width / 4)
        return F.avg_pool2d(maps, (height // 2, width // 2)).flatten(1)
    return F.adaptive_avg_pool2d(maps, (min(height, 2), min(width, 2))).flatten(1)


def _lies_by_pixels(maps: Tensor) -> bool:
    """Whether the channels of a pixel lie beside each other, in single precision on the CPU."""
    is_single = maps.dtype == torch.float32 and maps.device.type == "cpu"
    return is_single and maps.is_contiguous(memory_format=torch.channels_last)


def _sums_2x2(maps: Tensor) -> Tensor:
    """Sums of 2×2 cells, (n, 4·C): rows by a matrix product, then columns, each number read once in order."""
    count, channels, height, width = maps.shape
    lines = maps.permute(0, 2, 3, 1).reshape(2 * count, height // 2, width * channels)
    rows = torch.bmm(lines.new_ones(1, 1, height // 2).expand(2 * count, 1, -1), lines)
    cells = rows.view(4 * count, width // 2, channels).sum(dim=1)
    return cells.view(count, 4, channels).mT.flatten(1)


def check_class_token(points: Sequence[ReadPoint], choice: str) -> None:
    """Refuse `cls` and `cls+mean` where no layer has a class token, and `last` where none gives tokens.

    Raises:
        RequestError: none has.
    """
    if choice == "last" and not any(len(point.shape) == 2 for point in points):
        raise RequestError(f"--pool last: no layer of these {len(points)} gives tokens; use --pool auto")
    if choice in ("cls", "cls+mean") and not any(point.has_class_token for point in points):
        raise RequestError(
            f"--pool {choice}: no layer of these {len(points)} has a class token; use --pool mean or auto"
        )


def _resolved(point: ReadPoint, choice: str) -> str:
    """What a choice comes to for a layer; written in the results table."""
    shape = point.shape
    alone = point.has_class_token and shape[:1] == (point.prefix_tokens,)
    if len(shape) == 1:
        return "none"
    if choice == "flatten" or len(shape) > 3:
        return "flatten"
    if len(shape) == 3:
        return "2x2" if choice in ("auto", "2x2") else "avg"
    if choice == "last":
        return "last"
    if alone or (point.has_class_token and choice == "cls"):
        return "cls"  # CaiT's last blocks give the class token alone
    return "cls+mean" if point.has_class_token and choice == "cls+mean" else "mean tokens"
