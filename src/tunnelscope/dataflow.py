"""Which tensor is computed from which: every operation of one forward pass."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

# What an operation says about its maps: the axis of the channels, in its input and its output alike.
CHANNELS_SECOND = (
    "convolution",
    "conv1d",
    "conv2d",
    "batch_norm",
    "group_norm",
    "max_pool",
    "avg_pool",
    "upsample",
    "pixel_shuffle",
)
CHANNELS_LAST = ("layer_norm", "rms_norm")
RESHAPES = (
    "view",
    "reshape",
    "expand",
    "unfold",
    "as_strided",
    "bmm",
    "mm",
    "select",
    "unsqueeze",
    "squeeze",
)
ACTIVATIONS = (
    "relu",
    "relu6",
    "hardtanh",
    "leaky_relu",
    "elu",
    "gelu",
    "silu",
    "mish",
    "hardswish",
    "hardsigmoid",
    "sigmoid",
    "tanh",
    "softplus",
    "celu",
    "prelu",
)


Axes = tuple[int | None, ...]  # where each axis of one tensor is in another; None where it is no axis


@dataclass(frozen=True, eq=False)
class Operation:
    """One ATen operation: what went in, what came out, in which module it ran.

    Tensors are named by values: numbers that a tensor's contents get once; an operation in place
    gives its tensor a new one.
    """

    name: str  # "relu" for relu_ too
    module: str  # the innermost one that was running
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    order: tuple[int, ...] | None  # of the axes, where it only moves them

    @property
    def is_activation(self) -> bool:
        return self.name in ACTIVATIONS


class Dataflow(TorchDispatchMode):
    """Note every operation inside the `with` block.

    Args:
        running: tells the name of the innermost module that is running.
    """

    def __init__(self, running: Callable[[], str]):
        super().__init__()
        self.operations: list[Operation] = []
        self.shapes: list[tuple[int, ...]] = [()]  # by value; value 0 is no tensor
        self._running = running
        self._values = WeakTensorKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        inputs = tuple(self.value(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        result = func(*args, **(kwargs or {}))
        outputs = tuple(self._new_value(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        name = func.overloadpacket.__name__
        order = _axes_order(name, args)
        self.operations.append(Operation(name.rstrip("_"), self._running(), inputs, outputs, order))
        return result

    def value(self, tensor: Tensor | None) -> int:
        """The number of a tensor's present contents; 0 for no tensor."""
        if tensor is None:
            return 0
        return self._values[tensor] if tensor in self._values else self._new_value(tensor)

    def known_value(self, tensor: Tensor) -> int:
        """The number of a tensor that the pass used; 0 for any other."""
        return self._values.get(tensor, 0) or 0

    def _new_value(self, tensor: Tensor) -> int:
        self._values[tensor] = len(self.shapes)
        self.shapes.append(tuple(tensor.shape))
        return self._values[tensor]

    @cached_property
    def _ancestors(self) -> list[int]:
        """For each value the set of values it was computed from, itself too, as bits."""
        bits = [1 << value for value in range(len(self.shapes))]
        for operation in self.operations:
            known = 0
            for value in operation.inputs:
                known |= bits[value]
            for value in operation.outputs:
                bits[value] |= known
        return bits

    def feeds(self, earlier: int, later: int) -> bool:
        """Whether one value is computed from another (a value feeds itself)."""
        return bool(self._ancestors[later] >> earlier & 1)

    @cached_property
    def _producers(self) -> dict[int, Operation]:
        return {value: operation for operation in self.operations for value in operation.outputs}

    @cached_property
    def _consumers(self) -> dict[int, list[Operation]]:
        found: dict[int, list[Operation]] = {}
        for operation in self.operations:
            for value in operation.inputs:
                found.setdefault(value, []).append(operation)
        return found

    def producer(self, value: int) -> Operation | None:
        """The operation that a value came out of; None for inputs and parameters."""
        return self._producers.get(value)

    def consumers(self, value: int) -> list[Operation]:
        """The operations that a value went into, in order."""
        return self._consumers.get(value, [])

    def channel_axis(self, value: int) -> int | None:
        """The axis of a map's or sequence's channels (batch is 0), None where nothing near tells.

        The nearest convolution, norm or pooling tells, through whatever keeps or moves the axes.
        """
        start: Axes = tuple(range(len(self.shapes[value])))
        queue: deque[tuple[int, Axes]] = deque([(value, start)])
        seen = {value}
        while queue:
            current, axes = queue.popleft()
            for operation, neighbour, moved in self._neighbours(current, axes):
                axis = self._told_axis(operation, current, neighbour)
                if axis is not None and axis in axes:
                    return axes.index(axis)
                if neighbour not in seen and moved is not None:
                    seen.add(neighbour)
                    queue.append((neighbour, moved))
        return None

    def _neighbours(self, value: int, axes: Axes) -> Iterator[tuple[Operation, int, Axes | None]]:
        """Values one operation away, with the axes as they lie there."""
        source = self.producer(value)
        for operation in self.consumers(value):
            for other in operation.outputs[:1]:
                yield operation, other, self._carried(operation, value, other, axes, forward=True)
        if source is not None:
            for other in source.inputs:
                yield source, other, self._carried(source, other, value, axes, forward=False)

    def _carried(
        self, operation: Operation, before: int, after: int, axes: Axes, *, forward: bool
    ) -> Axes | None:
        one, two = (before, after) if forward else (after, before)
        here, there = self.shapes[one], self.shapes[two]
        if operation.order is not None:
            moved = operation.order
            return tuple(
                None if axis is None else moved.index(axis) if forward else moved[axis] for axis in axes
            )
        if here == there:
            return axes
        if not any(word in operation.name for word in RESHAPES):
            return axes if len(here) == len(there) else None
        if "view" in operation.name and len(there) >= 3 and here[-1] == there[-1]:
            # positions joined or parted: of the last axis alone it is known where it went
            return tuple(len(there) - 1 if axis == len(here) - 1 else None for axis in axes)
        return None

    def _told_axis(self, operation: Operation, value: int, neighbour: int) -> int | None:
        shape, other = self.shapes[value], self.shapes[neighbour]
        if any(word in operation.name for word in CHANNELS_SECOND):
            return 1
        if any(word in operation.name for word in CHANNELS_LAST):
            return len(shape) - 1
        flattens = "view" in operation.name and len(other) == 2 < len(shape) and other[1] == shape[-1]
        beside = (self.producer(neighbour), *self.consumers(neighbour))
        # a linear layer sees all positions as rows of one matrix
        if flattens and any(near is not None and near.name in ("mm", "addmm") for near in beside):
            return len(shape) - 1
        return None


def _axes_order(name: str, args: tuple) -> tuple[int, ...] | None:
    """Which input axis each output axis was, for operations that only move axes."""
    if name == "permute":
        return tuple(axis % args[0].dim() for axis in args[1])
    if name in ("transpose", "t"):
        axes = list(range(args[0].dim()))
        first, second = (axis % len(axes) for axis in (args[1:3] if name == "transpose" else (0, 1)))
        axes[first], axes[second] = axes[second], axes[first]
        return tuple(axes)
    return None
