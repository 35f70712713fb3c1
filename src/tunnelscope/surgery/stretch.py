"""Which modules a network runs through after one layer, up to another."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.models.network import head_of


@dataclass(frozen=True)
class Stretch:
    """A run of a network's modules.

    Attributes:
        after: the layer before it; the module's name.
        last: its last layer; so named.
        modules: names of the modules that run in it, in order; none lies inside another.
        head: the last linear layer of the network, which is in no stretch.
    """

    after: str
    last: str
    modules: tuple[str, ...]
    head: str


def stretch_of(module: nn.Module, example: Tensor, after: str, last: str) -> Stretch:
    """Find what runs between two layers in one forward pass.

    Args:
        example: one input, (1, …).
        after: a module's name: the stretch starts when it has given its output.
        last: a module's name: the stretch ends with its output.

    Raises:
        RequestError: there is no such layer, nothing lies between them, or a module in between also runs
            elsewhere.
    """
    names = dict(module.named_modules())
    for name in (after, last):
        if name not in names:
            raise unknown_name("layer", name, [key for key in names if key])
    spans, outputs = _spans(module, example)
    for name in (after, last):
        if name not in spans:
            raise RequestError(f"layer {name} does not run for this input")
    start, end = spans[after][-1][1], spans[last][-1][1]
    same = [name for name, given in outputs.items() if given is outputs[last]]  # what lies around it
    end = max(end, *(spans[name][-1][1] for name in same))
    inside = [
        name
        for name, runs in spans.items()
        if name and any(start < began and ended <= end for began, ended in runs)
    ]
    if not inside or end <= start:
        raise RequestError(f"no layer runs after {after} up to {last}; name an earlier layer")
    for name in inside:
        if not all(start < began and ended <= end for began, ended in spans[name]):
            raise RequestError(
                f"{name} runs after {after} and also elsewhere; it cannot be changed there alone"
            )
    chosen = [name for name in inside if not any(name.startswith(f"{other}.") for other in inside)]
    chosen.sort(key=lambda name: spans[name][0][0])
    return Stretch(after, last, tuple(chosen), head_of(module))


def _spans(module: nn.Module, example: Tensor) -> tuple[dict[str, list[tuple[int, int]]], dict[str, object]]:
    """When each module begins and ends, counted in beginnings and ends, and what it gives at last."""
    spans: dict[str, list[tuple[int, int]]] = {}
    outputs: dict[str, object] = {}
    begun: dict[str, list[int]] = {}
    clock = 0

    def tick() -> int:
        nonlocal clock
        clock += 1
        return clock

    def begin(name: str):
        return lambda *_: begun.setdefault(name, []).append(tick())

    def end(name: str):
        def ended(_module: nn.Module, _inputs: object, output: object) -> None:
            spans.setdefault(name, []).append((begun[name].pop(), tick()))
            outputs[name] = output

        return ended

    handles = []
    for name, child in module.named_modules():
        handles.append(child.register_forward_pre_hook(begin(name)))
        handles.append(child.register_forward_hook(end(name)))
    was_training = module.training
    try:
        with torch.no_grad():
            module.eval()(example)
    finally:
        module.train(was_training)
        for handle in handles:
            handle.remove()
    return spans, outputs


def output_of(module: nn.Module, name: str, inputs: Tensor) -> Tensor:
    """Return a layer's output, (n, …), for ready inputs."""
    read: list[Any] = []
    handle = module.get_submodule(name).register_forward_hook(lambda _module, _inputs, out: read.append(out))
    try:
        with torch.no_grad():
            module(inputs)
    finally:
        handle.remove()
    if not isinstance(read[-1], Tensor):
        raise RequestError(f"layer {name} gives no single tensor")
    return read[-1]
