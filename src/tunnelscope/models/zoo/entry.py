"""What the zoo knows about a network besides its page: how it is built and what images it expects."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class ZooEntry:
    """One network of the zoo.

    `build` takes `image_shape=(channels, height, width)` and `classes=` as keywords, then the network's
    own arguments, all with defaults, and raises RequestError where a value makes no network. `mean` and
    `std` hold three numbers (RGB in 0..1) or one for every channel; `smallest` is the least height and
    width its pooling leaves something of, and both are multiples of `multiple`.
    """

    build: Callable[..., nn.Module]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    smallest: int = 1
    multiple: int = 1
