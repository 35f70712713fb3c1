"""How large a study's networks and data are, and how fast this machine is, from a few images of noise."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import torch
from torch import Tensor, nn

from tunnelscope.data import image_shape, load_data
from tunnelscope.data.patterns import is_pattern
from tunnelscope.errors import MachineError, RequestError
from tunnelscope.models import load_network
from tunnelscope.models.spec import parse_model
from tunnelscope.recording import Recorder, make_recorder
from tunnelscope.studies.declaration import OF_TRAINING, Data
from tunnelscope.studies.networks import Cell
from tunnelscope.training.recipe import Recipe, recipe_named

WORK_OF_A_SAMPLE = 2e9  # FLOPs of a forward pass that is timed, about
MOST_IMAGES = 128  # a batch of the usual training, whose cost of a step does not count by the image
COLD, TIMES = 0.3, 3  # seconds after which a step is timed well enough, how often at most
PASSES = 3  # a training step takes as many times a forward pass, about
DEFAULT_RECIPE = "masarczyk2023"
DAGGER_SIDE = 32  # the paper has † networks at no larger resolution


@dataclass(frozen=True)
class DataSize:
    """Rows and classes of a data set; `shape` of an image where the data is at hand."""

    classes: int | None
    train: int | None
    test: int | None
    shape: tuple[int, int, int] | None
    is_here: bool


@dataclass(frozen=True)
class NetworkSize:
    """A network as it is built for a cell.

    Attributes:
        layers: read point → width of its features.
        bytes_trained: of activations that one image holds in training.
    """

    layers: Mapping[str, int]
    parameters: int
    bytes_trained: float
    seconds_trained: float
    seconds_read: float


def data_size(source: str, told: Data | None) -> DataSize:
    """The size of a data set: read where it is at hand, else as the study's file tells it.

    Raises:
        RequestError: it is there, but cannot be read.
    """
    classes, train, test = (None, None, None) if told is None else (told.classes, told.train, told.test)
    absent = DataSize(*_chosen(source, classes, train, test), None, False)
    try:
        data = load_data(source)
    except MachineError:  # the hub does not answer
        return absent
    except RequestError as error:
        if is_here(source):
            raise RequestError(f"{source}: {str(error).removeprefix(f'{source}: ')}") from error
        return absent
    return DataSize(len(data.class_names), len(data.train), len(data.test), image_shape(data.train), True)


def is_here(source: str) -> bool:
    """Whether something lies at a source, readable or not."""
    location = source.partition("?")[0]
    if location.startswith("sklearn:"):
        return True
    if is_pattern(location):
        return Path(location.split("{")[0].split("*")[0]).parent.is_dir()
    return Path(location).expanduser().exists()


def _chosen(
    source: str, classes: int | None, train: int | None, test: int | None
) -> tuple[int | None, int | None, int | None]:
    """Sizes after a query that takes some classes and images."""
    query = dict(parse_qsl(source.partition("?")[2]))
    if query.get("classes", "").startswith("0-"):
        fewer = int(query["classes"].partition("-")[2]) + 1
        if classes:
            train = train and train * fewer // classes
            test = test and test * fewer // classes
        classes = fewer
    if "per_class" in query and classes:
        train = int(query["per_class"]) * classes
        test = test and min(test, int(query["per_class"]) * classes)
    return classes, train, test


def network_size(cell: Cell, data: DataSize) -> NetworkSize:
    """Build a cell's network with random weights, find its layers and time it.

    Raises:
        RequestError: the network does not exist, or does not take these images.
    """
    check_possible(cell)
    recorder = recorder_of(cell, data)
    built = recorder.network
    widths = {point.name: recorder.poolings[point.name].width for point in recorder.points}
    flops = float(max(point.flops for point in recorder.points))
    images = max(1, min(MOST_IMAGES, int(WORK_OF_A_SAMPLE / max(flops, 1.0))))
    size = getattr(built.preprocessing, "size", (32, 32))
    channels = getattr(built.preprocessing, "channels", 3)
    batch = torch.randn(images, channels, *size)
    read, trained, held = _timed(built.module, batch)
    parameters = sum(one.numel() for one in built.module.parameters())
    return NetworkSize(widths, parameters, held / images, trained / images, read / images)


def built_from(cell: Cell, data: DataSize) -> tuple[Any, ...]:
    """What a cell's network and its layers follow from: cells that agree in it are built once."""
    return (cell.model, data.classes, data.shape, cell.layers, cell.pool)


def recorder_of(cell: Cell, data: DataSize) -> Recorder:
    """Build a cell's network with random weights, ready to be read at its layers.

    Raises:
        RequestError: the network does not exist, does not take these images, or has no such layers.
    """
    try:
        built = load_network(cell.model, weights="random", image_shape=data.shape, classes=data.classes)
        return make_recorder(built, layers=cell.layers, pool=cell.pool, device="cpu")
    except RequestError as error:
        raise RequestError(f"{cell.name}: {error}") from error


def recipe_of(cell: Cell) -> Recipe:
    """The recipe that a cell is trained by, with its changes. Raises RequestError."""
    changes = {name: value for name, value in cell.training.items() if name not in OF_TRAINING}
    recipe = str(cell.training.get("recipe", DEFAULT_RECIPE))
    return recipe_named(recipe, parse_model(cell.model).name, changes)


def check_possible(cell: Cell) -> None:
    """Refuse a network that the papers do not have at a size, and a training that cannot be.

    Raises:
        RequestError: what is wrong, and the nearest right thing.
    """
    if cell.is_trained:
        recipe_of(cell)
    side = parse_model(cell.model).overrides.size
    if "_dagger" in cell.model and side is not None and max(side) > DAGGER_SIDE:
        raise RequestError(
            f"{cell.name}: † networks keep the image's full size for four convolutions and exist at "
            f"{DAGGER_SIDE}² only, not at {side[0]}²; leave the combination out with [[exclude]]"
        )


def _timed(module: nn.Module, batch: Tensor) -> tuple[float, float, float]:
    """Seconds of reading and of training a batch, and the bytes that training holds of it."""
    held: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        held[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    module.train().requires_grad_(True)
    with torch.random.fork_rng():
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            trained = _seconds(lambda: _step(module, batch))
        if trained < COLD:  # the first one chooses kernels and fills caches, which shows in short ones
            trained = _least_seconds(lambda: _step(module, batch))
    module.eval()
    with torch.inference_mode():
        read = _least_seconds(lambda: module(batch)) if trained < COLD else trained / PASSES
    own = sum(one.numel() * one.element_size() for one in module.parameters())
    return read, trained, max(0.0, sum(held.values()) - own)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _least_seconds(work: Callable[[], object]) -> float:
    """Of a few times the shortest: what else the machine does meanwhile only adds."""
    took: list[float] = []
    while len(took) < TIMES and sum(took) < COLD:
        took.append(_seconds(work))
    return min(took)


def _step(module: nn.Module, batch: Tensor) -> None:
    """One forward and backward pass."""
    try:
        outputs: Any = module(batch)
    except ValueError:  # batch norm of one value a channel
        outputs = module.eval()(batch)
    outputs = getattr(outputs, "logits", outputs)
    outputs.square().mean().backward()
    module.zero_grad(set_to_none=True)
