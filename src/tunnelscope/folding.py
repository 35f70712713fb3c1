"""Batch norms folded into the layer before them: the same function, fewer tensors written and read."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tunnelscope.layers import ReadPoint
from tunnelscope.models.network import without_graphs
from tunnelscope.trace import Call, Trace

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)  # no subclass: it may compute its weights anew
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Fold:
    """A batch norm that can go into the layer before it, by the names of both."""

    layer: str
    norm: str


def find_folds(trace: Trace, points: Sequence[ReadPoint]) -> list[Fold]:
    """List the batch norms that can be folded: nothing else reads what stands between layer and norm.

    Args:
        trace: of one forward pass.
        points: read points; the tensor of none is lost.
    """
    read = {point.value for point in points}
    given = {call.output_value: call for call in trace.calls if _is_layer(trace, call)}
    folds = []
    for norm in trace.calls:
        layer = given.get(norm.input_value)
        if layer is None or layer.output_value in read or not _is_norm(trace, norm):
            continue
        # of a sequence a linear layer's features are the last axis, a batch norm's channels the first
        is_aligned = type(trace.modules[layer.module]) is not nn.Linear or len(layer.shape) == 1
        consumers = trace.flow.consumers(layer.output_value)
        if is_aligned and [operation.module for operation in consumers] == [norm.module]:
            folds.append(Fold(layer.module, norm.module))
    return folds


def fold(module: nn.Module, folds: Sequence[Fold]) -> nn.Module:
    """Return a copy of a network with its batch norms folded; tensors that stay as they are are shared.

    A norm stays in its place and hands its input on, so that it is read as before.
    """
    folded = sharing_copy(module)
    for one in folds:
        layer, norm = folded.get_submodule(one.layer), folded.get_submodule(one.norm)
        layer.weight, layer.bias = map(_parameter, _fused(layer, norm))
        norm.forward = partial(_act, norm) if _is_timms(norm) else _hand_on
    return folded


def sharing_copy(module: nn.Module) -> nn.Module:
    """A copy of a network whose parameters and buffers are the very same tensors."""
    shared: dict[int, Tensor] = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, shared | without_graphs(module))


def _is_layer(trace: Trace, call: Call) -> bool:
    module = trace.modules[call.module]
    return call.calls == 1 and type(module) in LAYERS and _is_plain(module)


def _is_norm(trace: Trace, call: Call) -> bool:
    norm = trace.modules[call.module]
    remembers = isinstance(getattr(norm, "running_var", None), Tensor) and not norm.training
    return call.calls == 1 and (type(norm) in NORMS or _is_timms(norm)) and remembers and _is_plain(norm)


def _is_plain(module: nn.Module) -> bool:
    """Whether a module does what its class says: no hook looks at it or changes it."""
    return not module._forward_hooks and not module._forward_pre_hooks and "forward" not in vars(module)


def _is_timms(norm: nn.Module) -> bool:
    """timm's batch norm with its activation inside."""
    kind = type(norm)
    return kind.__name__ == "BatchNormAct2d" and kind.__module__.startswith("timm.")


def _fused(layer: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of both together, computed in double precision."""
    weight = _double(layer.weight, 1.0)
    epsilon: float = norm.eps  # type: ignore[assignment]
    scale = _double(norm.weight, 1.0) / (_double(norm.running_var, 1.0) + epsilon).sqrt()
    bias = (_double(layer.bias, 0.0) - _double(norm.running_mean, 0.0)) * scale + _double(norm.bias, 0.0)
    return (weight * scale.reshape(-1, *[1] * (weight.dim() - 1))).float(), bias.float()


def _double(values: Any, absent: float) -> Tensor:
    return values.double() if isinstance(values, Tensor) else torch.tensor(absent, dtype=torch.float64)


def _parameter(values: Tensor) -> nn.Parameter:
    if values.dim() == 4:
        values = values.contiguous(memory_format=torch.channels_last)
    return nn.Parameter(values, requires_grad=False)


def _hand_on(values: Tensor) -> Tensor:
    return values


def _act(norm: nn.Module, values: Tensor) -> Tensor:
    """What timm's norm does besides."""
    drop: Callable[[Tensor], Tensor] = norm.drop  # type: ignore[assignment]
    act: Callable[[Tensor], Tensor] = norm.act  # type: ignore[assignment]
    return act(drop(values))
