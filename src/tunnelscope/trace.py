"""What happens in one forward pass: which modules are called, in which order, on which tensors."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from tunnelscope.errors import RequestError

CONTAINERS = (nn.ModuleList, nn.ModuleDict)
PASSING = ("Dropout", "Identity", "DropPath")  # change nothing in eval mode
RESHAPING = ("Pool", "Flatten", "Upsample", "Pad", "Unfold", "Shuffle", "Permute")


@dataclass(frozen=True, eq=False)
class Call:
    """One call of one module, with what the network had used when it returned."""

    module: str
    number: int  # 1 for the module's first call in this pass
    calls: int  # how many times the module is called in all
    order: int  # position among all returns
    input_id: int  # identity of the first tensor that went in; 0 when there was none
    output_id: int
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
    calls: list[Call] = field(default_factory=list)
    output_shape: tuple[int, ...] = ()
    reads_tokens: bool = False  # the input is the numbers of a text's tokens

    @cached_property
    def readable(self) -> list[Call]:
        """Calls that return a tensor with features, the network itself and its classifier left out."""
        return [call for call in self.calls if call.module and call is not self.classifier and call.shape]

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
    def classifier(self) -> Call | None:
        """The last layer with weights, when the network's output is its output (pooled or not)."""
        weighted = self.weighted_calls
        if not weighted or len(self.output_shape) != 1:
            return None
        last = weighted[-1]
        module = self.modules[last.module]
        width = getattr(module, "out_features", None) or getattr(module, "out_channels", None)
        is_only_layer = len(weighted) == 1 and not isinstance(module, nn.Linear)
        return (
            last if width == self.output_shape[0] and not is_only_layer and not self._in_block(last) else None
        )

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
        """The module that turns this layer's map into tokens, such as a ViT's patch embedding."""
        if len(call.shape) != 3:
            return None
        for outer in self.calls:
            holds = call.module.startswith(f"{outer.module}.") and outer.module
            if holds and len(outer.shape) == 2 and self.weighted_inside(outer.module) == 1:
                return outer
        return None

    def _in_block(self, call: Call) -> bool:
        """A layer inside a module that adds its input to its output is no classifier."""
        parent = call.module.rpartition(".")[0]
        while parent:
            outer = next((other for other in self.calls if other.module == parent), None)
            if outer is not None and self.is_composite(parent) and len(outer.shape) > 1:
                return True
            parent = parent.rpartition(".")[0]
        return False


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
    kept: list[Tensor] = []  # tensors stay alive during the pass, so that their ids stay theirs alone
    used: dict[int, int] = {}

    def before(submodule: nn.Module, inputs: tuple) -> None:
        used.update({id(p): p.numel() for p in submodule.parameters(recurse=False)})
        if type(submodule) is nn.MultiheadAttention:  # its projections are read without being called
            used.update({id(p): p.numel() for p in submodule.parameters()})

    def after(name: str, submodule: nn.Module, inputs: tuple, output: object) -> None:
        tensor_in, tensor_out = first_tensor(inputs), first_tensor(output)
        kept.extend(tensor for tensor in (tensor_in, tensor_out) if tensor is not None)
        observed.append(
            {
                "module": name,
                "order": len(observed),
                "input_id": id(tensor_in) if tensor_in is not None else 0,
                "output_id": id(tensor_out) if tensor_out is not None else 0,
                "shape": tuple(tensor_out.shape[1:]) if tensor_out is not None else (),
                "parameters": sum(used.values()),
                "flops": counter.get_total_flops(),
                "role": _role(submodule),
                "is_convolution": isinstance(submodule, nn.modules.conv._ConvNd),
            }
        )

    with _counter() as counter, torch.no_grad(), _hooked(modules, before, after):
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
    trace = Trace(modules, reads_tokens=not example.is_floating_point())
    for entry in observed:
        seen[entry["module"]] += 1
        trace.calls.append(Call(**entry, number=seen[entry["module"]], calls=total[entry["module"]]))
    final = first_tensor(output)
    trace.output_shape = tuple(final.shape[1:]) if final is not None else ()
    return trace


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
            handles.append(submodule.register_forward_pre_hook(before))
            handles.append(submodule.register_forward_hook(partial(after, name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(value: object) -> Tensor | None:
    """The tensor in a module's input or output, the first one of a tuple, list or dict."""
    if isinstance(value, Tensor):
        return value if value.is_floating_point() and value.dim() >= 1 else None
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return next((tensor for tensor in map(first_tensor, value) if tensor is not None), None)
    return None


def _is_unit(module: nn.Module) -> bool:
    return _role(module) != "composite"


def _role(module: nn.Module) -> str:
    kind = type(module).__name__
    if "Norm" in kind and not (kind.startswith("Conv") and next(module.children(), None) is not None):
        # timm's BatchNormAct2d holds its activation inside
        return "activation" if any("act" in name for name in _acting_children(module)) else "norm"
    if isinstance(module, (nn.MultiheadAttention, nn.modules.conv._ConvNd, nn.Linear)):
        return "weighted"
    if next(module.children(), None) is not None:
        return "composite"
    if any(parameter.dim() >= 2 for parameter in module.parameters(recurse=False)):
        return "weighted"
    if any(word in kind for word in PASSING):
        return "pass"
    return "other" if any(word in kind for word in RESHAPING) else "activation"


def _acting_children(module: nn.Module) -> list[str]:
    return [name for name, child in module.named_children() if not isinstance(child, nn.Identity)]
