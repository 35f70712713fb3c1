"""A network of the zoo, made for the images and classes of its data."""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tunnelscope.data.transforms import Preprocessing
from tunnelscope.errors import MachineError, RequestError, unknown_name
from tunnelscope.models.network import Network, seeded
from tunnelscope.models.preprocessing import per_channel
from tunnelscope.models.spec import ModelSpec
from tunnelscope.models.zoo import ZOO, ZooEntry

DEFAULT_SHAPE = (3, 32, 32)
DEFAULT_CLASSES = 10


def build_zoo(
    spec: ModelSpec, image_shape: tuple[int, int, int] | None, classes: int | None, seed: int
) -> Network:
    """Build a network of the zoo for the data's images and classes, its weights drawn with the seed.

    Raises:
        RequestError: unknown name or argument, or a value that makes no network.
        MachineError: its weights do not fit into memory.
    """
    if spec.name not in ZOO:
        raise unknown_name("network of the zoo", spec.name, ZOO, "Write zoo:NAME.")
    entry, arguments = ZOO[spec.name], dict(spec.arguments)
    shape = image_shape or DEFAULT_SHAPE
    channels = arguments.pop("channels", shape[0])
    if channels not in (1, 3):
        raise RequestError(f"{spec.source!r}: channels is 1 (grey) or 3 (RGB), got {channels!r}")
    size, warnings = fitting_size(spec, entry, shape)
    arguments = {"classes": classes or DEFAULT_CLASSES} | arguments
    check_zoo_arguments(spec, arguments)
    with seeded(seed), _enough_memory(spec.source):
        module = entry.build(image_shape=(channels, *size), **arguments)
    preprocessing = Preprocessing(
        size=size,
        channels=channels,
        mean=per_channel("mean", entry.mean, channels, spec.source),
        std=per_channel("std", entry.std, channels, spec.source),
    )
    return Network(spec.name, spec.source, module, preprocessing, "random", warnings)


@contextmanager
def _enough_memory(source: str) -> Iterator[None]:
    """Say that a network is too large where its weights cannot be allocated."""
    try:
        yield
    except (RuntimeError, OverflowError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not re.search("memory|overflow", str(error)):
            raise
        reason = str(error).partition("\n")[0]
        raise MachineError(f"{source!r} is too large to be made on this machine ({reason})") from error


def fitting_size(
    spec: ModelSpec, entry: ZooEntry, shape: tuple[int, int, int]
) -> tuple[tuple[int, int], tuple[str, ...]]:
    """Return the height and width the network takes, at least the data's, and a warning if they are larger.

    Raises:
        RequestError: the query gives a size that the network does not take.
    """
    height, width = spec.overrides.size or shape[1:]
    larger = [max(-(-side // entry.multiple) * entry.multiple, entry.smallest) for side in (height, width)]
    if larger == [height, width]:
        return (height, width), ()
    needed = f"{entry.smallest} pixels or more"
    if entry.multiple > 1:
        needed = f"a multiple of {entry.multiple} pixels"
    if spec.overrides.size:
        raise RequestError(
            f"{spec.source!r}: size must be {needed}, got {height}x{width}; "
            f"the next is {larger[0]}x{larger[1]}"
        )
    enlarged = f"they are enlarged to {larger[0]}x{larger[1]}"
    return (larger[0], larger[1]), (f"{spec.source} needs images of {needed}; {enlarged}",)


def check_zoo_arguments(spec: ModelSpec, arguments: dict[str, Any]) -> None:
    """Refuse arguments a zoo network does not take, and values of another kind than its defaults.

    Where the default is a word, `build` says which words there are.
    """
    parameters = dict(inspect.signature(ZOO[spec.name].build).parameters)
    defaults = {key: parameter.default for key, parameter in parameters.items() if key != "image_shape"}
    for key, value in arguments.items():
        if key not in defaults:
            raise unknown_name(f"argument of zoo:{spec.name}", key, [*defaults, "channels"], "")
        default = defaults[key]
        if isinstance(default, str):
            continue
        allowed = {float: (int, float), tuple: (tuple, type(None))}.get(type(default), type(default))
        if not isinstance(value, allowed) or (isinstance(value, bool) and not isinstance(default, bool)):
            shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default).lower()
            raise RequestError(f"{spec.source!r}: {key} takes a value such as {shown}, got {value!r}")
        if isinstance(value, tuple) and not all(type(part) is int for part in value):
            raise RequestError(f"{spec.source!r}: {key} takes whole numbers such as 512,512, got {value!r}")
    if arguments["classes"] < 1:
        raise RequestError(f"{spec.source!r}: classes must be 1 or more, got {arguments['classes']}")
