"""Find the places in a network where features can be read, in the order of a real forward pass."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from tunnelscope.blocks import block_calls, groups, is_shortcut
from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.inside import module_ends
from tunnelscope.trace import Call, Trace

ADDED_TOKENS = re.compile(r"(cls|class|dist|distillation|reg|register)_?tokens?_?\d*")
CONV_INPUTS = "conv-inputs"
HINT = "`tunnelscope layers MODEL --layers all` lists every one."


@dataclass(frozen=True)
class ReadPoint:
    """A layer: a place in the network and which tensor is read there.

    `name` is PyTorch's own module name (`relu:2` is the second call of a module called several
    times). `kind` says which tensor it is: conv, norm, activation, linear, embedding, block or
    output; inside transformer blocks normed input, attention output, feed-forward input,
    feed-forward activation or residual stream. `shape` is one image's tensor there, batch left out;
    `parameters` and `flops` count what the network has used up to and including it (a multiply-add
    is two FLOPs, batch 1).
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
    has_class_token: bool = False  # the first of them
    channel_axis: int | None = None  # of `shape`; None is as usual: maps first, sequences last
    value: int = 0  # the tensor, as the trace numbers it; 0 where there was none


def points_of(trace: Trace, layers: str | Sequence[str] = "blocks") -> list[ReadPoint]:
    """List the layers of a network from input to output.

    Args:
        trace: of one forward pass.
        layers: `blocks` (what a person would call its layers), `modules` (the places inside the
            blocks too), `convs` (convolutions of the main path and hidden linear layers), `conv-inputs`
            (what those are given), `all` (every module that returns a tensor), one layer's name, a regular
            expression searched in the names, or a list of names.

    Raises:
        RequestError: nothing matches (the nearest names are given).
    """
    calls = {(call.module, call.number): call for call in trace.calls}
    added = _added_tokens(trace)
    embeddings = (trace.embedding_around(call) for call in trace.weighted_calls)
    patches = {call.output_value for call in embeddings if call is not None}  # before tokens are added
    points = []
    for index, point in enumerate(_select(trace, layers), start=1):
        axis = trace.channel_axis(calls[point.module, point.call])
        is_tokens = len(point.shape) == 2 and axis == 1 and point.value not in patches
        counts = added(point.value) if is_tokens else {}
        points.append(
            replace(
                point,
                index=index,
                channel_axis=axis,
                prefix_tokens=min(sum(counts.values()), point.shape[0]),
                has_class_token=counts.get("class", 0) > 0 or (is_tokens and trace.reads_tokens),
            )
        )
    return points


def doubts(trace: Trace, points: Sequence[ReadPoint], layers: str | Sequence[str] = "blocks") -> list[str]:
    """What makes these layers less than a chain of finished representations, a line each."""
    lines = []
    if layers != "all":
        apart = [(one, two) for one, two in pairwise(points) if not trace.flow.feeds(one.value, two.value)]
        if apart:
            one, two = apart[0]
            lines.append(
                f"{len(apart)} of {len(points)} layers are not computed from the one before (the first: "
                f"{two.name} beside {one.name}): depth is only the order of computation there"
            )
    after = [call for call in trace.weighted_calls if _continues(trace, points[-1], call)]
    if layers != "all" and after:
        lines.append(
            f"the last layer read is {points[-1].name}, but the network goes on to {after[-1].name}: start, "
            "shares and retained accuracy are those of the layers read, not of the whole network"
        )
    if layers in ("blocks", "modules"):
        before = [point for point in points if _acts_later(trace, point)]
        if before:
            lines.append(
                f"{len(before)} of {len(points)} layers are read before their activation, which the network "
                f"calls as a function and not as a module (the first: {before[0].name}, read after its "
                f"{before[0].kind})"
            )
    return lines


def _continues(trace: Trace, last: ReadPoint, call: Call) -> bool:
    """Whether a layer with weights, no classifier, comes after the last layer read."""
    if call.output_value == last.value or call in trace.classifiers or trace.in_gate(call):
        return False
    return trace.flow.feeds(last.value, call.output_value)


def _acts_later(trace: Trace, point: ReadPoint) -> bool:
    return point.kind in ("conv", "norm", "linear") and any(
        operation.is_activation and trace.is_composite(operation.module)
        for operation in trace.flow.consumers(point.value)
    )


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
    choices: dict[str, Callable[[Trace], list[ReadPoint]]] = {
        "blocks": _blocks,
        "modules": _modules,
        "convs": _convolutions,
        CONV_INPUTS: _conv_inputs,
    }
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
    ends = [(call, "block") for call in block_calls(trace)]
    if ends and trace.reads_tokens:  # embeddings are layer 0, and a pooler reads one token after the last
        return [_point(call, kind) for call, kind in ends]
    ends += [(end, kind) for _, end, kind in groups(trace)]
    return _distinct(_point(call, kind) for call, kind in sorted(ends, key=lambda end: end[0].order))


def _modules(trace: Trace) -> list[ReadPoint]:
    """Blocks and the places inside them."""
    ends = sorted(module_ends(trace), key=lambda end: end[0].order)
    return [_point(call, kind) for call, kind in ends]


def _convolutions(trace: Trace) -> list[ReadPoint]:
    """Convolutions of the main path and hidden linear layers, read at their own output."""
    calls = [call for call in trace.weighted_calls if call in trace.readable and not is_shortcut(trace, call)]
    return _distinct(_point(call, "conv" if call.is_convolution else "linear") for call in calls)


def _conv_inputs(trace: Trace) -> list[ReadPoint]:
    """What the layers of `convs` are given, read at the first module that gives it; an image is no layer.

    The released code of Harun et al. (2024) reads its ResNets there, so that nothing is read of the last
    block's output.
    """
    given = {call.output_value: call for call in reversed(trace.readable)}
    calls = {(call.module, call.number): call for call in trace.calls}
    points = []
    for point in _convolutions(trace):
        value = calls[point.module, point.call].input_value
        if value == trace.input_value:
            continue
        if value not in given:
            raise RequestError(f"what {point.name} is given comes from no module but a function. {HINT}")
        points.append(_output_point(given[value]))
    return _distinct(points)


def _distinct(points: Iterable[ReadPoint]) -> list[ReadPoint]:
    """Points in order, of those that read the very same tensor the first."""
    return list({point.value: point for point in reversed(list(points))}.values())[::-1]


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
        value=call.output_value,
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
    blocks = block_calls(trace)
    given = [call for call in trace.readable if blocks and call.output_value == blocks[0].input_value]
    if not given:
        raise RequestError("no embeddings found in this network: no module gives its first block an input")
    return replace(_point(given[-1], "embedding"), has_class_token=True)


def _added_tokens(trace: Trace) -> Callable[[int], dict[str, int]]:
    """Tell of a sequence how many class, register and distillation tokens it got before its patches."""
    flow = trace.flow
    found = []
    for name, parameter in trace.modules[""].named_parameters():
        match = ADDED_TOKENS.fullmatch(name.rpartition(".")[2])
        if match and parameter.dim() >= 2:
            found.append((match[1][:5], flow.known_value(parameter), parameter.shape[-2]))

    def added(value: int) -> dict[str, int]:
        counts: dict[str, int] = {}
        for kind, token, count in found:
            if token and flow.feeds(token, value):
                kind = "class" if kind == "cls" else kind
                counts[kind] = max(counts.get(kind, 0), count)  # CoaT has one a stage
        return counts

    return added


def example_input(size: tuple[int, int], channels: int, seed: int = 0) -> Tensor:
    """A batch of one random image with zero mean and unit variance, (1, channels, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, channels, *size, generator=generator)
