"""Find the places in a network where features can be read, in the order of a real forward pass."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.trace import Call, Trace

SHORTCUT_NAMES = re.compile(r"downsample|shortcut|skip|identity", re.IGNORECASE)
BETWEEN_STAGES = re.compile(r"downsampl|reduction|transition|shortcut", re.IGNORECASE)
HINT = "`tunnelscope layers MODEL --layers all` lists every one."


@dataclass(frozen=True)
class ReadPoint:
    """A layer: a place in the network and which tensor is read there.

    `name` is PyTorch's own module name (`relu:2` is the second call of a module called several
    times). `kind` says which tensor it is: conv, norm, activation, linear, embedding, block or
    output. `shape` is one image's tensor there, batch left out; `parameters` and `flops` count
    what the network has used up to and including it (a multiply-add is two FLOPs, batch 1).
    """

    name: str
    module: str
    call: int
    index: int
    kind: str
    shape: tuple[int, ...]
    parameters: int
    flops: int
    prefix_tokens: int = 0  # class, register and distillation tokens that stand before the patches


def points_of(trace: Trace, layers: str | Sequence[str] = "blocks") -> list[ReadPoint]:
    """List the layers of a network from input to output.

    Args:
        trace: of one forward pass.
        layers: `blocks` (what a person would call its layers), `convs` (convolutions of the main
            path and hidden linear layers), `all` (every module that returns a tensor), one layer's
            name, a regular expression searched in the names, or a list of names.

    Raises:
        RequestError: nothing matches (the nearest names are given).
    """
    points = _select(trace, layers)
    prefix = _prefix_tokens(trace.modules[""])
    embeddings = (trace.embedding_around(call) for call in trace.weighted_calls)
    patches = {call.shape[0] for call in embeddings if call is not None}  # tokens before others are added
    numbered = [replace(point, index=index) for index, point in enumerate(points, start=1)]
    return [
        replace(point, prefix_tokens=prefix)
        if len(point.shape) == 2 and point.shape[0] not in patches
        else point
        for point in numbered
    ]


def _select(trace: Trace, layers: str | Sequence[str]) -> list[ReadPoint]:
    every = {point.name: point for point in map(_output_point, trace.readable)}
    if not every:
        raise RequestError(
            "this network has no module between input and output that returns a tensor; nothing to read"
        )
    if not isinstance(layers, str):
        for name in layers:
            if name not in every:
                raise unknown_name("layer", name, every, HINT)
        return [point for name, point in every.items() if name in set(layers)]
    choices: dict[str, Callable[[Trace], list[ReadPoint]]] = {"blocks": _blocks, "convs": _convolutions}
    if layers in choices:
        points = choices[layers](trace)
        if not points:
            raise RequestError(
                f"no {layers} found in this network; name layers by a regular expression. {HINT}"
            )
        return points
    if layers == "all":
        return list(every.values())
    if layers in every:
        return [every[layers]]
    try:
        pattern = re.compile(layers)
    except re.error as error:
        raise RequestError(f"--layers {layers!r} is no regular expression: {error}") from None
    matching = [point for name, point in every.items() if pattern.search(name)]
    if not matching:
        raise unknown_name("layer", layers, [*choices, "all", *every], HINT)
    return matching


def _blocks(trace: Trace) -> list[ReadPoint]:
    """Residual and transformer blocks, and the conv+norm+activation groups outside of them."""
    block_names = _block_modules(trace)
    blocks = [call for call in trace.readable if call.module in block_names]
    if blocks and trace.reads_tokens:  # embeddings are layer 0, and a pooler reads one token after the last
        return [_point(call, "block") for call in blocks]
    inside = tuple(f"{name}." for name in block_names)
    groups = [
        call
        for call in trace.weighted_calls
        if not call.module.startswith(inside)
        and call is not trace.classifier
        and not (blocks and BETWEEN_STAGES.search(call.module))
    ]
    ends = [(call, "block") for call in blocks] + [_group_end(trace, call) for call in groups]
    ends.sort(key=lambda end: end[0].order)
    return [_point(call, kind) for call, kind in ends]


def _convolutions(trace: Trace) -> list[ReadPoint]:
    """Convolutions of the main path and hidden linear layers, read at their own output."""
    calls = [
        call
        for call in trace.weighted_calls
        if call is not trace.classifier and not _is_shortcut(trace, call)
    ]
    return [_point(call, "conv" if call.is_convolution else "linear") for call in calls]


def _is_shortcut(trace: Trace, call: Call) -> bool:
    """A 1×1 convolution beside the main path, by its name or because it reads a block's input again."""
    if not call.is_convolution or set(trace.modules[call.module].kernel_size) != {1}:  # type: ignore[arg-type]
        return False
    if SHORTCUT_NAMES.search(call.module):
        return True
    return any(
        other is not call
        and other.is_convolution
        and other.order < call.order
        and other.input_id == call.input_id
        for other in trace.weighted_calls
    )


def _group_end(trace: Trace, call: Call) -> tuple[Call, str]:
    """Follow a convolution or linear layer through its norm and activation to where it is read."""
    embedding = trace.embedding_around(call)
    if embedding is not None:
        return embedding, "embedding"
    end, kind = call, "conv" if call.is_convolution else "linear"
    for following in trace.units:
        if following.order <= end.order or following.input_id != end.output_id:
            continue
        if following.role in ("norm", "activation"):
            end, kind = following, following.role
        elif following.role != "pass":
            break
    return end, kind


def _block_modules(trace: Trace) -> set[str]:
    """The innermost modules that repeat as numbered siblings and hold two layers with weights or more."""
    called = {call.module for call in trace.readable}
    composite = {
        name: module
        for name, module in trace.modules.items()
        if name in called
        and trace.is_composite(name)
        and re.search(r"\d$", name)
        and trace.weighted_inside(name) >= 2
    }
    siblings: dict[tuple[str, type], int] = {}
    for name, module in composite.items():
        family = (name.rpartition(".")[0], type(module))
        siblings[family] = siblings.get(family, 0) + 1
    repeated = {kind for (_, kind), count in siblings.items() if count >= 2}
    candidates = {name for name, module in composite.items() if type(module) in repeated}
    # MobileNet's first block is the only one of its class: it stands where the others stand.
    places = {_place(name) for name in candidates}
    candidates |= {name for name in composite if _place(name) in places}
    return {name for name in candidates if not any(other.startswith(f"{name}.") for other in candidates)}


def _place(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _output_point(call: Call) -> ReadPoint:
    kind = {"norm": "norm", "activation": "activation"}.get(call.role, "output")
    if call.is_weighted:
        kind = "conv" if call.is_convolution else "linear"
    return _point(call, kind)


def _point(call: Call, kind: str) -> ReadPoint:
    return ReadPoint(
        name=call.name,
        module=call.module,
        call=call.number,
        index=0,
        kind=kind,
        shape=call.shape,
        parameters=call.parameters,
        flops=call.flops,
    )


def embedding_point(trace: Trace) -> ReadPoint:
    """Where a text encoder's embeddings are read: the module that gives the first block its input.

    Raises:
        RequestError: no block is found, or its input comes from no module.
    """
    block_names = _block_modules(trace)
    blocks = [call for call in trace.readable if call.module in block_names]
    given = [call for call in trace.readable if blocks and call.output_id == blocks[0].input_id]
    if not given:
        raise RequestError("no embeddings found in this network: no module gives its first block an input")
    return _point(given[-1], "embedding")


def _prefix_tokens(module: nn.Module) -> int:
    """How many class, register and distillation tokens stand before the patch tokens."""
    count = getattr(module, "num_prefix_tokens", None)
    if isinstance(count, int):
        return count
    has_class_token = any(
        isinstance(getattr(module, name, None), Tensor) for name in ("class_token", "cls_token")
    )
    return int(has_class_token)


def example_input(size: tuple[int, int], channels: int, seed: int = 0) -> Tensor:
    """A batch of one random image with zero mean and unit variance, (1, channels, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, channels, *size, generator=generator)
