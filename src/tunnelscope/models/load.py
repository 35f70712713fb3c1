"""From a name, or a module, to a network ready to be looked at."""

import copy
from dataclasses import replace
from pathlib import Path

from torch import nn

from tunnelscope.data.transforms import Preprocessing
from tunnelscope.errors import RequestError
from tunnelscope.models.fit import fit_weights
from tunnelscope.models.hf import build_hf
from tunnelscope.models.network import Network, ready, seeded, without_graphs
from tunnelscope.models.preprocessing import Overrides, carried_preprocessing, override
from tunnelscope.models.pretrained import WITHOUT_HUB, build_timm, build_torchvision
from tunnelscope.models.spec import ModelSpec, parse_model
from tunnelscope.models.userfile import build_from_file
from tunnelscope.models.weights import KEYWORDS, load_weights, weights_file
from tunnelscope.models.zoo.build import build_zoo

OWN = "as its function gave them"  # random, unless the function loads some of its own


def load_network(
    model: str | nn.Module,
    *,
    weights: str | Path | None = None,
    image_shape: tuple[int, int, int] | None = None,
    classes: int | None = None,
    seed: int = 0,
) -> Network:
    """Load a network with its weights and the preprocessing that belongs to it.

    Args:
        model: `timm:NAME`, `torchvision:NAME`, `hf:NAME_OR_FOLDER`, `zoo:NAME` or
            `path/to/file.py:function`, each with `?key=value&…` for constructor arguments (hf: values of
            the configuration) and preprocessing; or a module, which is copied.
        weights: "pretrained", "random" or the path of a file; by default pretrained for timm,
            torchvision and hf, random for the zoo and files, and as they are for a module.
        image_shape: (channels, height, width) of the data it was trained on; the zoo's networks are made
            for it, other networks without an image size of their own take its height and width.
        classes: of that data; the zoo's networks are made for them.
        seed: of random weights.

    Returns:
        The network in eval mode and float32, its parameters out of training.

    Raises:
        RequestError: what was asked for does not exist or does not fit, in one line.
        MachineError: pretrained weights cannot be had.
    """
    if isinstance(model, nn.Module):
        return load_module(model, weights, image_shape, seed)
    if not isinstance(model, str):
        raise RequestError(f"a model is a name or a torch.nn.Module, got a {type(model).__name__}")
    spec = parse_model(model)
    is_hub = spec.kind in ("timm", "torchvision", "hf")
    choice = choose_weights(weights, default="pretrained" if is_hub else "random")
    if choice == "pretrained" and not is_hub:
        raise RequestError(f"there are no pretrained weights of {model}; {WITHOUT_HUB}")

    if spec.kind == "timm":
        network = build_timm(spec, choice == "pretrained", seed)
    elif spec.kind == "torchvision":
        network = build_torchvision(spec, choice == "pretrained", seed)
    elif spec.kind == "hf":
        network = build_hf(spec, choice, image_shape, seed)
    elif spec.kind == "zoo":
        network = build_zoo(spec, image_shape, classes, seed)
    else:
        network = build_file(spec, image_shape, seed)
    if isinstance(network.preprocessing, Preprocessing):
        overridden = override(network.preprocessing, spec.overrides, repr(model))
        network = replace(network, preprocessing=overridden)
    ready(network.module, model)
    network = replace(network, loadable=loadable(spec, network, classes))
    return with_weights(network, choice, seed, "random" if spec.kind != "file.py" else OWN)


def loadable(spec: ModelSpec, network: Network, classes: int | None) -> str:
    """Write what the data decided (image size, channels, classes) into the model's name."""
    decided: dict[str, str] = {}
    prepared = network.preprocessing if isinstance(network.preprocessing, Preprocessing) else None
    if spec.kind in ("zoo", "file.py") and prepared and not spec.overrides.size:
        height, width = prepared.size
        decided["size"] = str(height) if height == width else f"{height}x{width}"
    if spec.kind == "zoo" and prepared:
        decided["channels"] = str(prepared.channels)
        decided |= {"classes": str(classes)} if classes else {}
    added = "&".join(f"{key}={value}" for key, value in decided.items() if key not in spec.arguments)
    if not added:
        return spec.source
    return f"{spec.source}{'&' if '?' in spec.source else '?'}{added}"


def choose_weights(weights: str | Path | None, default: str) -> str | Path:
    """Return "pretrained", "random" or the path of a file that exists."""
    if weights is None:
        return default
    return str(weights) if str(weights) in KEYWORDS else weights_file(weights)


def with_weights(network: Network, choice: str | Path, seed: int, drawn_by: str = "random") -> Network:
    """Load the chosen weights into a network, in place, unless it was built with them; say which they are.

    Args:
        drawn_by: what gave the weights where no file and no pretrained ones are chosen.
    """
    if choice == "pretrained" or network.weights_file is not None:
        return network
    if choice != "random":
        fit_weights(network.module, load_weights(choice), choice)
        return replace(network, weights=Path(choice).name, weights_file=str(choice))
    words = f"{drawn_by} (seed {seed})"
    line = _drawn(network.source, words)
    return replace(network, weights=words, weights_file="random", warnings=(*network.warnings, line))


def with_trained(network: Network, place: str) -> Network:
    """The network with its weights trained and kept in a file; that they were drawn is said no longer."""
    drawn = _drawn(network.source, network.weights)
    said = tuple(line for line in network.warnings if line != drawn)
    return replace(network, weights=place, weights_file=place, warnings=said)


def _drawn(source: str, words: str) -> str:
    return f"the weights of {source} are {words}; --weights FILE loads trained ones"


def build_file(spec: ModelSpec, image_shape: tuple[int, int, int] | None, seed: int) -> Network:
    """Build the network a function in a user's file returns."""
    module = build_from_file(spec, seed)
    address = f"{spec.path}:{spec.name}"
    preprocessing, warnings = carried_preprocessing(module, spec.overrides, image_shape, address)
    return Network(spec.name, spec.source, module, preprocessing, "random", warnings)


def load_module(
    model: nn.Module,
    weights: str | Path | None,
    image_shape: tuple[int, int, int] | None,
    seed: int,
) -> Network:
    """Make a network of a copy of a module; the module itself is left as it is."""
    model = unwrapped(model)
    name = type(model).__name__
    if weights is not None and str(weights) == "pretrained":
        raise RequestError(
            f"{name} is a module and holds its weights already; leave weights out, or {WITHOUT_HUB}"
        )
    try:
        module = copy.deepcopy(model, without_graphs(model))
    except Exception as error:
        raise RequestError(
            f"{name} cannot be copied ({error}); give path/to/file.py:FUNCTION that builds it"
        ) from error
    preprocessing, warnings = carried_preprocessing(module, Overrides(), image_shape, name)
    network = Network(name, name, ready(module, name), preprocessing, "as given", warnings)
    if weights is None:
        return network
    choice = choose_weights(weights, default="random")
    if choice == "random":
        with seeded(seed):
            redraw(module, name)
    return with_weights(network, choice, seed)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside what DataParallel and torch.compile put around it."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    inner = getattr(model, "_orig_mod", None)
    return unwrapped(inner) if isinstance(inner, nn.Module) else model


def redraw(module: nn.Module, name: str) -> None:
    """Draw all weights anew, in place, each layer as PyTorch initialises it.

    Raises:
        RequestError: a layer that has weights cannot say how it is initialised.
    """
    for key, child in module.named_modules():
        reset = getattr(child, "reset_parameters", None) or getattr(child, "_reset_parameters", None)
        if callable(reset):
            reset()
        elif next(child.parameters(recurse=False), None) is not None:
            layer = f"layer {key or name} ({type(child).__name__})"
            raise RequestError(
                f"{name}: the weights of {layer} cannot be drawn anew, it has no reset_parameters();"
                " build the network untrained and leave weights out"
            )
