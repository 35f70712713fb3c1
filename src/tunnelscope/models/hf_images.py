"""What an image processor of transformers does to an image, as this package's preprocessing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from tunnelscope.data.transforms import Preprocessing
from tunnelscope.errors import RequestError
from tunnelscope.models.preprocessing import (
    carried_preprocessing,
    first_said,
    input_channels,
    per_channel,
)
from tunnelscope.models.spec import ModelSpec
from tunnelscope.models.vision import import_torchvision
from tunnelscope.models.weights import one_line

PROCESSOR = "preprocessor_config.json"
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
WARPED_FROM = 384  # ConvNeXt's processor crops below this size and squashes from it on
PREFIX_TOKENS = ("cls_token", "distillation_token", "register_tokens")


def image_preprocessing(
    folder: Path, module: nn.Module, spec: ModelSpec, image_shape: tuple[int, int, int] | None
) -> tuple[Preprocessing | None, tuple[str, ...]]:
    """Return the preprocessing that the folder's image processor does, and where ours is not quite that.

    Without a processor's file the size is the configuration's or the data's, and images are scaled to 0..1.
    """
    if not (folder / PROCESSOR).is_file():
        size = first_said(spec.overrides.size, configured_size(module))
        said = replace(spec.overrides, size=size)
        return carried_preprocessing(module, said, image_shape, spec.source)
    import_torchvision()  # the processors import it
    from transformers import AutoImageProcessor

    try:
        values = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False).to_dict()
        return processor_preprocessing(values, module, spec.source)
    except RequestError:
        raise
    except Exception as error:  # a broken file ends in whatever the library runs into
        raise RequestError(f"{folder / PROCESSOR} cannot be read: {one_line(error)[:200]}") from error


def processor_preprocessing(
    values: dict[str, Any], module: nn.Module, where: str
) -> tuple[Preprocessing, tuple[str, ...]]:
    """Read a processor's settings: size, crop, scale, mean and std."""
    height, width = sides(values["size"])
    is_square_resize = "height" in values["size"]
    warnings: list[str] = []
    crop_pct = 1.0
    if values.get("do_center_crop") and values.get("crop_size"):
        target = sides(values["crop_size"])
        crop_pct = min(1.0, target[0] / height)
        height, width = target
    elif values.get("crop_pct") and not is_square_resize:
        crop_pct = values["crop_pct"] if height < WARPED_FROM else 1.0
        is_square_resize = height >= WARPED_FROM
    if is_square_resize:
        warnings.append(
            f"{where}: its processor squashes images to {height}×{width};"
            " here the short side is resized and the centre cropped, which differs for images not square"
        )
    channels = input_channels(module) or 3
    normalised = values.get("do_normalize", True)
    mean, std = (values["image_mean"], values["image_std"]) if normalised else ([0.0], [1.0])
    preprocessing = Preprocessing(
        size=(height, width),
        channels=channels,
        mean=per_channel("mean", tuple(mean), channels, PROCESSOR),
        std=per_channel("std", tuple(std), channels, PROCESSOR),
        interpolation=RESAMPLING.get(int(values.get("resample", 3)), "bicubic"),
        crop_pct=crop_pct,
    )
    return preprocessing, tuple(warnings)


def sides(size: dict[str, int] | int) -> tuple[int, int]:
    """Return (height, width) of {"height", "width"}, {"shortest_edge"} or one number."""
    if isinstance(size, int):
        return size, size
    if size.get("height") and size.get("width"):
        return size["height"], size["width"]
    return size["shortest_edge"], size["shortest_edge"]


def configured_size(module: nn.Module) -> tuple[int, int] | None:
    """Return the image size in a model's configuration, (height, width), or None."""
    size: Any = getattr(module.config, "image_size", None)
    if isinstance(size, int):
        return size, size
    return tuple(size) if isinstance(size, list | tuple) and len(size) == 2 else None


def count_prefix_tokens(module: nn.Module) -> int:
    """Return how many class, distillation and register tokens stand before the patches."""
    return sum(
        parameter.shape[1]
        for name, parameter in module.named_parameters()
        if name.rpartition(".")[2] in PREFIX_TOKENS and parameter.dim() == 3
    )
