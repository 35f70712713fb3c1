"""What a network does to an image before it sees it, and how a query or a module says so."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from tunnelscope.data.transforms import Preprocessing
from tunnelscope.errors import RequestError, unknown_name

Scalar = int | float | bool | str | None
Value = Scalar | tuple[Scalar, ...]

NO_SCALE = "does not say how its images are normalised"
NO_SIZE = "the image size"


def is_about_images(warning: str) -> bool:
    """Whether a warning is of what is done to images, so that it says nothing where inputs are ready ones."""
    return NO_SCALE in warning or warning.startswith(NO_SIZE)


@dataclass(frozen=True)
class Overrides:
    """What was said about the preprocessing; None where nothing was said.

    `mean` and `std` hold one number for all channels or one a channel; `size` is (height, width).
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None
    interpolation: str | None = None
    crop_pct: float | None = None


OVERRIDES = tuple(field.name for field in fields(Overrides))


def read_overrides(values: Mapping[str, Any], where: str) -> Overrides:
    """Read mean, std, size, interpolation and crop_pct as a query or a module gives them.

    Args:
        values: mean and std: a number or several; size: N, "HxW" or (H, W); None says nothing.
        where: what the values were given in, for messages.

    Raises:
        RequestError: an unknown key, or a value that cannot be what its key says.
    """
    for key in values:
        if key not in OVERRIDES:
            raise unknown_name("preprocessing value", key, OVERRIDES, f"It was given in {where}.")
    read = {"mean": read_numbers, "std": read_numbers, "size": read_size, "crop_pct": read_share}
    said = {key: value for key, value in values.items() if value is not None}
    checked: dict[str, Any] = {
        key: read[key](key, value, where) if key in read else str(value) for key, value in said.items()
    }
    return Overrides(**checked)


def read_numbers(key: str, value: Any, where: str) -> tuple[float, ...]:
    """Return one number, or as many as there are channels, as floats."""
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    if not numbers or not all(is_number(number) for number in numbers):
        raise RequestError(
            f"{key} takes one number or one per channel such as 0.5,0.5,0.5, got {value!r} in {where}"
        )
    return tuple(float(number) for number in numbers)


def read_size(key: str, value: Any, where: str) -> tuple[int, int]:
    """Return (height, width) of 32, "32x48" or (32, 48)."""
    sides = [value, value] if is_number(value) else value
    if isinstance(value, str) and re.fullmatch(r"\d+x\d+", value):
        sides = [int(side) for side in value.split("x")]
    if isinstance(sides, list | tuple) and len(sides) == 2:
        height, width = sides
        if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
            return height, width
    raise RequestError(f"{key} takes N or HxW in pixels such as 32 or 32x48, got {value!r} in {where}")


def read_share(key: str, value: Any, where: str) -> float:
    """Return a number."""
    if not is_number(value):
        raise RequestError(f"{key} takes a share such as 0.875, got {value!r} in {where}")
    return float(value)


def is_number(value: Any) -> bool:
    """Return whether the value counts or measures; True and False do not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def override(preprocessing: Preprocessing, said: Overrides, where: str) -> Preprocessing:
    """Return the preprocessing with what was said in place of its own values.

    Raises:
        RequestError: mean or std has neither one number nor one a channel, or a value is out of bounds.
    """
    values = {field.name: getattr(preprocessing, field.name) for field in fields(Preprocessing)}
    values |= {key: getattr(said, key) for key in OVERRIDES if getattr(said, key) is not None}
    for key in ("mean", "std"):
        values[key] = per_channel(key, values[key], preprocessing.channels, where)
    try:
        return Preprocessing(**values)
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from error


def per_channel(key: str, numbers: tuple[float, ...], channels: int, where: str) -> tuple[float, ...]:
    """Repeat one number for each channel; RGB values for a network of grey images are averaged."""
    if len(numbers) == channels:
        return tuple(numbers)
    if len(numbers) == 1:
        return tuple(numbers) * channels
    if channels == 1:
        return (sum(numbers) / len(numbers),)
    raise RequestError(
        f"{key} has {len(numbers)} numbers for {channels} channels in {where}; give 1 or {channels}"
    )


def input_channels(module: nn.Module) -> int | None:
    """Return the channels of the images a network takes, read off its first convolution, or None."""
    convs = (child for child in module.modules() if isinstance(child, nn.Conv2d))
    channels = next((conv.in_channels for conv in convs), None)
    return channels if channels in (1, 3) else None


def carried_preprocessing(
    module: nn.Module, said: Overrides, image_shape: tuple[int, int, int] | None, where: str
) -> tuple[Preprocessing | None, tuple[str, ...]]:
    """Return the preprocessing of a module of the user's own, and warnings about what had to be assumed.

    Its `preprocessing` attribute (a Preprocessing, or mean, std, size, interpolation, crop_pct in a dict)
    says it; a timm module says it through its `pretrained_cfg`; otherwise the size is the data's and images
    are scaled to 0..1.

    Returns:
        None in place of the preprocessing where the size is neither said nor known from the data.
    """
    carried = getattr(module, "preprocessing", None)
    if isinstance(carried, Preprocessing):
        return override(carried, said, where), ()
    if carried is None and isinstance(getattr(module, "pretrained_cfg", None), Mapping):
        from tunnelscope.models.pretrained import timm_preprocessing

        return override(timm_preprocessing(module), said, where), ()
    if carried is not None and not isinstance(carried, Mapping):
        raise RequestError(
            f"the `preprocessing` attribute of {where} is a {type(carried).__name__};"
            " make it a dict such as {'mean': 0.5, 'std': 0.5, 'size': 32}"
        )
    own = read_overrides(carried or {}, f"the `preprocessing` attribute of {where}")
    both = Overrides(**{key: first_said(getattr(said, key), getattr(own, key)) for key in OVERRIDES})

    warnings = []
    if both.mean is None and both.std is None:
        warnings.append(
            f"{where} {NO_SCALE}: they go in scaled to 0..1, not normalised;"
            " set ?mean=…&std=… or a `preprocessing` attribute such as {'mean': 0.5, 'std': 0.5, 'size': 32}"
        )
    size = both.size or (image_shape[1:] if image_shape else None)
    if size is None:
        warnings.append(f"{NO_SIZE} {where} takes is not known: set ?size=N or HxW")
        return None, tuple(warnings)
    channels = input_channels(module) or (image_shape[0] if image_shape else len(both.mean or (0, 0, 0)))
    plain = Preprocessing(size=size, channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels)
    return override(plain, both, where), tuple(warnings)


def first_said(first: Any, second: Any) -> Any:
    """Return the first unless nothing was said there."""
    return second if first is None else first
