"""Networks of timm and torchvision, each with the preprocessing it was trained with."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from tunnelscope.data.transforms import INTERPOLATIONS, Preprocessing
from tunnelscope.errors import MachineError, RequestError, unknown_name
from tunnelscope.hub_access import hub_asked_once
from tunnelscope.models.network import Network, seeded
from tunnelscope.models.preprocessing import input_channels, per_channel
from tunnelscope.models.spec import ModelSpec
from tunnelscope.models.vision import import_timm, import_torchvision
from tunnelscope.models.weights import one_line

HUBS = (
    "huggingface_hub",
    "httpx",
    "httpx2",
    "httpcore",
    "requests",
    "urllib3",
)  # whose errors mean: not to be had
WITHOUT_HUB = "--weights random|FILE needs no download"


def build_timm(spec: ModelSpec, is_pretrained: bool, seed: int) -> Network:
    """Build a network of timm, with its pretrained weights or drawn with the seed.

    Args:
        spec: name with or without a pretrained tag ("resnet18", "resnet18.a1_in1k"), constructor arguments.

    Raises:
        RequestError: unknown name or tag, or refused arguments.
        MachineError: pretrained weights cannot be had.
    """
    timm = import_timm()
    refuse(spec, {"pretrained": "--weights pretrained|random", "checkpoint_path": "--weights FILE"})
    name, _, tag = spec.name.partition(".")
    if not timm.is_model(name):
        raise unknown_name("timm network", name, timm.list_models(), "timm.list_models() lists them all.")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    if tag and tag not in tags:
        raise unknown_name(
            f"pretrained tag of timm:{name}", tag, tags, "Without a tag timm takes its default."
        )
    if is_pretrained and not timm.models.is_model_pretrained(spec.name):
        raise MachineError(f"timm has no pretrained weights of {name}; {WITHOUT_HUB}")

    def create() -> nn.Module:
        return timm.create_model(spec.name, pretrained=is_pretrained, **spec.arguments)

    module = build(spec, create, is_pretrained, seed)
    preprocessing = timm_preprocessing(module)
    if "img_size" in spec.arguments:
        size = spec.arguments["img_size"]
        preprocessing = replace(preprocessing, size=size if isinstance(size, tuple) else (size, size))
    config: dict[str, Any] = module.pretrained_cfg  # pyright: ignore[reportAssignmentType]
    words = f"pretrained ({config.get('tag') or name})"
    warnings = timm_warnings(spec, config, is_pretrained, seed)
    return Network(spec.name, spec.source, module, preprocessing, words, warnings)


def timm_warnings(spec: ModelSpec, config: dict[str, Any], is_pretrained: bool, seed: int) -> tuple[str, ...]:
    """Say where the network is not quite what timm calls pretrained, or sees not quite timm's images."""
    warnings = []
    classes = spec.arguments.get("num_classes", config.get("num_classes"))
    if is_pretrained and classes != config.get("num_classes"):
        warnings.append(
            f"{spec.source}: the classifier of {classes} classes is untrained, drawn with seed {seed}"
        )
    if config.get("crop_mode", "center") != "center":
        warnings.append(
            f"{spec.source}: timm prepares images by {config['crop_mode']!r};"
            " here the short side is resized and the centre cropped"
        )
    return tuple(warnings)


def timm_preprocessing(module: nn.Module) -> Preprocessing:
    """Return what timm's data configuration of the module says, for as many channels as it takes."""
    import_timm()
    from timm.data import resolve_model_data_config

    config = resolve_model_data_config(module)
    channels = input_channels(module) or config["input_size"][0]
    known = config["interpolation"] in INTERPOLATIONS
    return Preprocessing(
        size=tuple(config["input_size"][1:]),
        channels=channels,
        mean=per_channel("mean", tuple(config["mean"]), channels, "timm's data configuration"),
        std=per_channel("std", tuple(config["std"]), channels, "timm's data configuration"),
        interpolation=config["interpolation"] if known else "bicubic",
        crop_pct=config["crop_pct"],
    )


def build_torchvision(spec: ModelSpec, is_pretrained: bool, seed: int) -> Network:
    """Build a classification network of torchvision, with pretrained weights or drawn with the seed.

    Args:
        spec: name, constructor arguments; `weights=IMAGENET1K_V1` among them chooses between the pretrained
            weights there are, and the preprocessing that belongs to them.

    Raises:
        RequestError: unknown name or weights, or refused arguments.
        MachineError: pretrained weights cannot be had.
    """
    models = import_torchvision().models
    refuse(spec, {"pretrained": "--weights pretrained|random"})
    names = models.list_models(module=models)
    if spec.name not in names:
        raise unknown_name(
            "torchvision network", spec.name, names, "torchvision.models.list_models() lists them."
        )
    known = models.get_model_weights(spec.name)
    arguments = dict(spec.arguments)
    choice = str(arguments.pop("weights", "DEFAULT"))
    if choice not in known.__members__:
        raise unknown_name(
            f"weights of torchvision:{spec.name}", choice, known.__members__, "Or leave it out."
        )
    chosen = known[choice]

    def create() -> nn.Module:
        return models.get_model(spec.name, weights=chosen if is_pretrained else None, **arguments)

    module = build(spec, create, is_pretrained, seed)
    words = f"pretrained ({chosen.name})"
    return Network(spec.name, spec.source, module, torchvision_preprocessing(chosen), words)


def torchvision_preprocessing(weights: Any) -> Preprocessing:
    """Return the preprocessing that belongs to one of torchvision's pretrained weights."""
    transform = weights.transforms()
    size = transform.crop_size[0]
    return Preprocessing(
        size=(size, size),
        channels=3,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        interpolation=transform.interpolation.value,
        crop_pct=size / transform.resize_size[0],
    )


def refuse(spec: ModelSpec, arguments: dict[str, str]) -> None:
    """Refuse constructor arguments that --weights is there for."""
    for argument, instead in arguments.items():
        if argument in spec.arguments:
            raise RequestError(f"{spec.source!r}: {argument} is no argument here; use {instead}")


def build(spec: ModelSpec, create: Callable[[], nn.Module], is_pretrained: bool, seed: int) -> nn.Module:
    """Build a network under a seed and say in one line why it could not be built."""
    no_answer = ""
    try:
        with seeded(seed):
            if not (is_pretrained and spec.kind == "timm"):
                return create()
            with hub_asked_once() as no_answer:
                return create()
    except Exception as error:  # a library refuses arguments with whatever they run into
        if is_pretrained and is_download(error):
            reason = no_answer or one_line(error)[:200]
            raise MachineError(
                f"the pretrained weights of {spec.kind}:{spec.name} cannot be had ({reason}); {WITHOUT_HUB}"
            ) from error
        raise RequestError(f"{spec.kind} cannot build {spec.source!r}: {one_line(error)}") from error


def is_download(error: Exception) -> bool:
    """Return whether an error comes from a download or from what a cache lacks."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in HUBS
