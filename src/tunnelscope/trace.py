"""What happens in one forward pass: which modules are called, in which order, on which tensors."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from tunnelscope.dataflow import Dataflow
from tunnelscope.errors import RequestError

CONTAINERS = (nn.ModuleList, nn.ModuleDict)
PASSING = ("Dropout", "Identity", "DropPath", "StochasticDepth")  # change nothing in eval mode
WEIGHTED = (nn.MultiheadAttention, nn.modules.conv._ConvNd, nn.Linear)
RESHAPING = ("Pool", "Flatten", "Upsample", "Pad", "Unfold", "Shuffle", "Permute")


@dataclass(frozen=True, eq=False)
class Call:
    """One call of one module, with what the network had used when it returned."""

    module: str
    number: int  # 1 for the module's first call in this pass
    calls: int  # how many times the module is called in all
    order: int  # position among all returns
    inside: tuple[str, ...]  # the modules that were running around it, outermost first
    input_value: int  # of the first tensor that went in, as the dataflow counts; 0 when there was none
    output_value: int
    rows: int  # of the output; windows or patches may stand where images are expected
    shape: tuple[int, ...]  # one image's output, batch left out
    parameters: int
    flops: int
    role: str  # weighted, norm, activation, pass, other or composite
    is_convolution: bool

    @property
    def name(self) -> str:
        return self.module if self.calls == 1 else f"{self.module}:{self.number}"

    @property
    def is_weighted(self) -> bool:
        return self.role == "weighted"


@dataclass
class Trace:
    """All calls of a forward pass, in the order in which they returned."""

    modules: dict[str, nn.Module]
    flow: Dataflow
    input_value: int  # of the image
    calls: list[Call] = field(default_factory=list)
    output_shape: tuple[int, ...] = ()
    reads_tokens: bool = False  # the input is the numbers of a text's tokens

    @cached_property
    def readable(self) -> list[Call]:
        """Calls that return features of each image, the network itself and its classifier left out."""
        return [
            call
            for call in self.calls
            if call.module
            and call not in self.classifiers
            and call.shape
            and call.rows == self.flow.shapes[self.input_value][0]
            and self.flow.feeds(self.input_value, call.output_value)
        ]

    @property
    def flops(self) -> int:
        """FLOPs of the whole pass, a multiply-add counted twice."""
        return self.calls[-1].flops

    @cached_property
    def units(self) -> list[Call]:
        """Calls of modules that do one thing: layers, norms, activations, pooling."""
        inside_unit = tuple(f"{name}." for name, module in self.modules.items() if name and _is_unit(module))
        return [
            call
            for call in self.calls
            if call.role != "composite" and not call.module.startswith(inside_unit)
        ]

    @cached_property
    def weighted_calls(self) -> list[Call]:
        return [call for call in self.units if call.is_weighted]

    @cached_property
    def classifiers(self) -> list[Call]:
        """The last layers with weights, as wide as the network's output; several heads are averaged."""
        if len(self.output_shape) != 1:
            return []
        weighted = self.weighted_calls
        heads = []
        for call in weighted:
            module = self.modules[call.module]
            width = getattr(module, "out_features", None) or getattr(module, "out_channels", None)
            is_last = not any(
                other is not call and self.flow.feeds(call.output_value, other.output_value)
                for other in weighted
            )
            if is_last and width == self.output_shape[0] and not self._in_block(call):
                heads.append(call)
        is_only_layer = len(weighted) == 1 and weighted[0].is_convolution
        return [] if is_only_layer else heads

    def is_chain(self, calls: Sequence[Call]) -> bool:
        """Whether each call, in the order of the pass, is computed from the one before."""
        return all(self.flow.feeds(one.output_value, two.output_value) for one, two in pairwise(calls))

    def channel_axis(self, call: Call) -> int:
        """Which axis of a call's shape holds the features; the others are positions.

        What the operations around do tells; where none does, maps are taken for channels first and
        sequences for tokens.
        """
        axis = self.flow.channel_axis(call.output_value) if len(call.shape) in (2, 3) else None
        if axis and call.shape[axis - 1] > 1:  # CoaT joins its scales by a convolution over them
            return axis - 1
        return 0 if len(call.shape) == 3 else len(call.shape) - 1

    def positions(self, call: Call) -> int:
        """Places in a call's map or sequence."""
        return prod(call.shape) // call.shape[self.channel_axis(call)]

    def is_composite(self, name: str) -> bool:
        """Whether a module combines others by a forward of its own (a container does not)."""
        module = self.modules[name]
        if _is_unit(module) or isinstance(module, CONTAINERS):
            return False
        return type(module).forward is not nn.Sequential.forward

    def weighted_inside(self, name: str) -> int:
        """How many layers with weights a module holds."""
        inside = (module for other, module in self.modules.items() if other.startswith(f"{name}."))
        return sum(_role(module) == "weighted" for module in inside)

    def embedding_around(self, call: Call) -> Call | None:
        """The module that turns this layer's map into tokens, such as a patch embedding.

        Tokens are a sequence, or a map with its channels last (Swin).
        """
        if len(call.shape) != 3:
            return None
        channels, height, width = call.shape
        for outer in self.calls:
            holds = outer.module in call.inside and outer.module and outer.order > call.order
            gives_tokens = len(outer.shape) == 2 or outer.shape == (height, width, channels) != call.shape
            if holds and gives_tokens and self.weighted_inside(outer.module) == 1:
                return outer
        return None

    def in_gate(self, call: Call) -> bool:
        """A layer in a module that only scales its own input, as squeeze-and-excitation does."""
        return any(outer.module in call.inside and self.is_gate(outer) for outer in self.calls)

    def is_gate(self, call: Call) -> bool:
        """Whether a module only scales its own input."""
        last = self.flow.producer(call.output_value)
        is_product = last is not None and last.name == "mul" and call.input_value in last.inputs
        return call.role == "composite" and is_product

    def _in_block(self, call: Call) -> bool:
        """A layer inside a module that adds its input to its output is no classifier."""
        return any(
            outer.module in call.inside and self.is_composite(outer.module) and len(outer.shape) > 1
            for outer in self.calls
        )


def trace_forward(module: nn.Module, example: Tensor) -> Trace:
    """Run one example through a network and note every call.

    Args:
        module: the network, in eval mode; its parameters are not changed.
        example: (1, …), on the network's device; int64 where the network reads tokens.

    Raises:
        RequestError: the forward pass raises; the message names the input's shape.
    """
    modules = dict(module.named_modules())
    observed: list[dict] = []
    running: list[tuple[str, int]] = [("", 0)]  # modules inside one another, with what went into each
    used: dict[int, int] = {}

    def before(name: str, submodule: nn.Module, args: tuple, kwargs: dict) -> None:
        running.append((name, flow.value(first_tensor((args, kwargs)))))
        used.update({id(p): p.numel() for p in submodule.parameters(recurse=False)})
        if type(submodule) is nn.MultiheadAttention:  # its projections are read without being called
            used.update({id(p): p.numel() for p in submodule.parameters()})

    def after(name: str, submodule: nn.Module, inputs: tuple, output: object) -> None:
        tensor = read_tensor(output, len(example), inputs)
        observed.append(
            {
                "module": name,
                "order": len(observed),
                "input_value": running.pop()[1],
                "inside": tuple(outer for outer, _ in running[1:]),
                "output_value": flow.value(tensor),
                "rows": len(tensor) if tensor is not None else 0,
                "shape": tuple(tensor.shape[1:]) if tensor is not None else (),
                "parameters": sum(used.values()),
                "flops": counter.get_total_flops(),
                "role": _role(submodule),
                "is_convolution": isinstance(submodule, nn.modules.conv._ConvNd),
            }
        )

    flow = Dataflow(lambda: running[-1][0])
    image = flow.value(example)
    with _untrained(module), _counter() as counter, flow, torch.no_grad(), _hooked(modules, before, after):
        try:
            output = module(example)
        except Exception as error:
            shape = "×".join(map(str, example.shape[1:]))
            what = (
                f"an image of shape {shape}" if example.is_floating_point() else f"a text of {shape} tokens"
            )
            raise RequestError(f"the network cannot take {what}: {type(error).__name__}: {error}") from error
    total = Counter(entry["module"] for entry in observed)
    seen: Counter[str] = Counter()
    trace = Trace(modules, flow, image, reads_tokens=not example.is_floating_point())
    for entry in observed:
        seen[entry["module"]] += 1
        trace.calls.append(Call(**entry, number=seen[entry["module"]], calls=total[entry["module"]]))
    final = first_tensor(output)
    trace.output_shape = tuple(final.shape[1:]) if final is not None else ()
    return trace


@contextmanager
def _untrained(module: nn.Module) -> Iterator[None]:
    """Take the parameters out of training: the counter waits for gradients of those given to a module."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def _counter() -> Iterator[FlopCounterMode]:
    """Count FLOPs, attention on the CPU included, which PyTorch's own list leaves out."""

    def attention(query: tuple, key: tuple, value: tuple, *_: object, **__: object) -> int:
        return sdpa_flop_count(query, key, value)

    mapping = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it hides the projections of nn.MultiheadAttention
    try:
        with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _hooked(modules: dict[str, nn.Module], before, after) -> Iterator[None]:
    handles = []
    try:
        for name, submodule in modules.items():
            handles.append(submodule.register_forward_pre_hook(partial(before, name), with_kwargs=True))
            handles.append(submodule.register_forward_hook(partial(after, name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(value: object) -> Tensor | None:
    """The first tensor of numbers in a module's input or output: a tensor, tuple, list or dict."""
    return next(_tensors(value), None)


def read_tensor(output: object, images: int, inputs: object = ()) -> Tensor | None:
    """The tensor read at a module: of several outputs the first new one with a row per image.

    TNT's blocks, for one, give patches by pixels first, then images by patches; CoaT's parallel
    blocks hand their first input on.
    """
    given = {id(tensor) for tensor in _tensors(inputs)}
    of_images = [tensor for tensor in _tensors(output) if len(tensor) == images]
    new = (tensor for tensor in of_images if id(tensor) not in given)
    return next(new, of_images[0] if of_images else first_tensor(output))


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.dim() >= 1:
            yield value
    elif isinstance(value, (dict, tuple, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def _is_unit(module: nn.Module) -> bool:
    return _role(module) != "composite"


def _role(module: nn.Module) -> str:
    kind = type(module).__name__
    has_weighted = any(isinstance(child, WEIGHTED) for child in module.modules() if child is not module)
    if "Norm" in kind and not has_weighted:
        # timm's BatchNormAct2d holds its activation inside
        return "activation" if any("act" in name for name in _acting_children(module)) else "norm"
    if isinstance(module, WEIGHTED):
        return "weighted"
    if next(module.children(), None) is not None:
        return "composite"
    # a scale per channel is no layer, however many axes of size 1 it has
    if any(sum(side > 1 for side in p.shape) >= 2 for p in module.parameters(recurse=False)):
        return "weighted"
    if any(word in kind for word in PASSING):
        return "pass"
    return "other" if any(word in kind for word in RESHAPING) else "activation"


def _acting_children(module: nn.Module) -> list[str]:
    return [name for name, child in module.named_children() if not isinstance(child, nn.Identity)]
