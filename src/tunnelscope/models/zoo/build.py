"""A network of the zoo, made for the images and classes of its data."""

import inspect
from typing import Any

from tunnelscope.data.transforms import Preprocessing
from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.models.network import Network, seeded
from tunnelscope.models.preprocessing import per_channel
from tunnelscope.models.spec import ModelSpec
from tunnelscope.models.zoo import ZOO

DEFAULT_SHAPE = (3, 32, 32)
DEFAULT_CLASSES = 10


def build_zoo(
    spec: ModelSpec, image_shape: tuple[int, int, int] | None, classes: int | None, seed: int
) -> Network:
    """Build a network of the zoo for the data's images and classes, its weights drawn with the seed.

    Raises:
        RequestError: unknown name or argument, or a value that makes no network.
    """
    if spec.name not in ZOO:
        raise unknown_name("network of the zoo", spec.name, ZOO, "Write zoo:NAME.")
    entry, arguments = ZOO[spec.name], dict(spec.arguments)
    shape, warnings = image_shape or DEFAULT_SHAPE, ()
    channels = arguments.pop("channels", shape[0])
    if channels not in (1, 3):
        raise RequestError(f"{spec.source!r}: channels is 1 (grey) or 3 (RGB), got {channels!r}")
    size = spec.overrides.size or shape[1:]
    if min(size) < entry.smallest:
        if spec.overrides.size:
            raise RequestError(
                f"{spec.source!r}: size must be {entry.smallest} or more, got {size[0]}x{size[1]}"
            )
        size = (max(size[0], entry.smallest), max(size[1], entry.smallest))
        enlarged = f"they are enlarged to {size[0]}x{size[1]}"
        warnings = (f"{spec.source} needs images of {entry.smallest} pixels or more; {enlarged}",)
    arguments = {"classes": classes or DEFAULT_CLASSES} | arguments
    check_zoo_arguments(spec, arguments)
    with seeded(seed):
        module = entry.build(image_shape=(channels, *size), **arguments)
    preprocessing = Preprocessing(
        size=size,
        channels=channels,
        mean=per_channel("mean", entry.mean, channels, spec.source),
        std=per_channel("std", entry.std, channels, spec.source),
    )
    return Network(spec.name, spec.source, module, preprocessing, "random", warnings)


def check_zoo_arguments(spec: ModelSpec, arguments: dict[str, Any]) -> None:
    """Refuse arguments a zoo network does not take, and values of another kind than its defaults."""
    parameters = dict(inspect.signature(ZOO[spec.name].build).parameters)
    defaults = {key: parameter.default for key, parameter in parameters.items() if key != "image_shape"}
    for key, value in arguments.items():
        if key not in defaults:
            raise unknown_name(f"argument of zoo:{spec.name}", key, [*defaults, "channels"], "")
        default = defaults[key]
        allowed = {float: (int, float), tuple: (tuple, type(None))}.get(type(default), type(default))
        if not isinstance(value, allowed) or (isinstance(value, bool) and not isinstance(default, bool)):
            shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default).lower()
            raise RequestError(f"{spec.source!r}: {key} takes a value such as {shown}, got {value!r}")
        if isinstance(value, tuple) and not all(type(part) is int for part in value):
            raise RequestError(f"{spec.source!r}: {key} takes whole numbers such as 512,512, got {value!r}")
    if arguments["classes"] < 1:
        raise RequestError(f"{spec.source!r}: classes must be 1 or more, got {arguments['classes']}")
