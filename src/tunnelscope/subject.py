"""What was scanned, in words and numbers: a network's layers and costs, without the network."""

from dataclasses import dataclass
from typing import Any

INPUT = "input"  # layer 0: the preprocessed pixels, pooled like a map; of a text encoder its embeddings


@dataclass(frozen=True)
class Layer:
    """One layer, in forward order from 1.

    `parameters` and `flops` count what the network has used up to and with it; None where features came
    without a network, as `shape` then is the features' own.
    """

    name: str
    index: int
    read_point: str
    pool: str
    shape: tuple[int, ...]
    width: int
    parameters: int | None
    flops: int | None


@dataclass(frozen=True)
class Subject:
    """A network and its layers, or named features.

    Attributes:
        name, source, weights: as a `Network` has them.
        fingerprint: of the network; empty where there was none.
        layers: in forward order.
        input: layer 0, the baseline: what is read there and how it is pooled; None where there is none.
        parameters, flops: of the whole network.
        preprocessing: what is done to an image or text, by name, and in words.
        normalises: whether it does more to pixels than scale them to 0..1.
        loadable, weights_file: load the network again; None for a module given from Python.
        items: what it reads, "images" or "texts".
        precision: the numbers it was run in, as run.json has it; None for features.
    """

    name: str
    source: str
    weights: str
    layers: tuple[Layer, ...]
    fingerprint: str = ""
    input: tuple[str, str] | None = None
    parameters: int | None = None
    flops: int | None = None
    preprocessing: dict[str, Any] | None = None
    preprocessing_words: str = ""
    normalises: bool = False
    device: str = "cpu"
    warnings: tuple[str, ...] = ()
    loadable: str | None = None
    weights_file: str | None = None
    items: str = "images"
    precision: dict[str, Any] | None = None

    @property
    def names(self) -> list[str]:
        """The layers' names, in forward order."""
        return [layer.name for layer in self.layers]

    def layer(self, name: str) -> Layer:
        """The layer of that name."""
        return next(layer for layer in self.layers if layer.name == name)
