"""Weights into a network, all of them or none: what does not fit is named."""

import difflib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from tunnelscope.errors import RequestError
from tunnelscope.models.weights import first_few


def fit_weights(module: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Put a state dict into a network, in place, every tensor of both used.

    Counters of batches that batch norm has seen may be absent: they change nothing outside training.

    Raises:
        RequestError: tensors are missing, unexpected or of another shape or kind; the first few are named.
    """
    own = module.state_dict()
    given = {key: tensor for key, tensor in state.items() if key in own or not is_counter(key)}
    missing = [key for key in own if key not in given and not is_counter(key)]
    unexpected = [key for key in given if key not in own]
    if missing or unexpected:
        raise RequestError(f"{path} does not fit {type(module).__name__}: {misfit(missing, unexpected)}")
    misshaped = [key for key in given if given[key].shape != own[key].shape]
    if misshaped:
        shapes = first_few(f"{key} is {shape(given[key])} there, {shape(own[key])} here" for key in misshaped)
        cure = (
            "give the network its arguments from training, such as ?classes=N, ?num_classes=N or ?channels=N"
        )
        raise RequestError(f"{path} does not fit {type(module).__name__}: {shapes}; {cure}")
    for key in given:
        if given[key].is_floating_point() != own[key].is_floating_point():
            kinds = f"{key} is {dtype(given[key])} there, {dtype(own[key])} here"
            raise RequestError(
                f"{path} does not fit {type(module).__name__}: {kinds}; give weights in floating point"
            )
    module.load_state_dict(given, strict=False)  # strict but for the counters: both key lists are empty above


def misfit(missing: list[str], unexpected: list[str]) -> str:
    """Name the keys that only the network or only the file has, the file's each with the nearest."""
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing: {first_few(missing)}")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected: {first_few(with_nearest(unexpected, missing))}")
    return "; ".join(parts) + ". Give the weights of this network, or the network of these weights."


def with_nearest(keys: list[str], known: list[str]) -> list[str]:
    """Append the nearest known key to each of the first few keys."""
    near = [difflib.get_close_matches(key, known, n=1, cutoff=0.8) for key in keys[:3]]
    named = [f"{key} (nearest: {match[0]})" if match else key for key, match in zip(keys, near, strict=False)]
    return named + keys[3:]


def is_counter(key: str) -> bool:
    """Return whether the key is a batch norm's count of batches."""
    return key.rpartition(".")[2] == "num_batches_tracked"


def shape(tensor: Tensor) -> str:
    """Return a shape as it is written: (64, 3, 7, 7)."""
    return str(tuple(tensor.shape))


def dtype(tensor: Tensor) -> str:
    """Return a type as it is spoken of: int8."""
    return str(tensor.dtype).removeprefix("torch.")
