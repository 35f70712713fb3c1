"""One forward pass: its layers read and pooled in hooks, on which device, and how long it takes."""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import quantiles

import torch
from torch import Tensor, nn

from tunnelscope.errors import MachineError, unknown_name
from tunnelscope.features import Pooling
from tunnelscope.layers import ReadPoint
from tunnelscope.trace import read_tensor

NARROW = 16  # channels in a vector of the widest processors


def lay_channels_last(module: nn.Module) -> None:
    """Lay a pixel's channels beside each other, as images lie, where a network convolves planes; in place.

    PyTorch refuses the layout to five axes (a 3-D convolution), and a narrow shortcut is not safe in it.
    """
    has_planes = any(isinstance(child, nn.Conv2d) for child in module.modules())
    has_volumes = any(tensor.dim() == 5 for tensor in (*module.parameters(), *module.buffers()))
    if has_planes and not has_volumes and not has_narrow_shortcut(module):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def has_narrow_shortcut(module: nn.Module) -> bool:
    """Whether a network has a strided 1×1 convolution of fewer channels than a processor's vector takes.

    With channels last oneDNN writes past its workspace where it computes the gradient of such weights, which
    crashes or gives wrong numbers (uxlfoundation/oneDNN#6035, seen with PyTorch 2.13 on AVX2).
    """
    return any(
        set(child.kernel_size) == {1} and max(child.stride) > 1 and child.in_channels // child.groups < NARROW
        for child in module.modules()
        if isinstance(child, nn.Conv2d)
    )


@contextmanager
def reading(
    module: nn.Module,
    points: Sequence[ReadPoint],
    poolings: dict[str, Pooling],
    *,
    stop: bool = False,
) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that the forward pass inside the block fills with each layer's pooled features.

    Args:
        stop: end the pass once every layer is read, by raising `Reached`.
    """
    wanted: dict[str, list[ReadPoint]] = {}
    for point in points:
        wanted.setdefault(point.module, []).append(point)
    pooled: dict[str, Tensor] = {}
    calls = dict.fromkeys(wanted, 0)

    def hook(name: str):
        def read(_module: nn.Module, inputs: tuple, output: object) -> None:
            calls[name] += 1
            tensor = read_tensor(output, images, inputs)
            for point in wanted[name]:
                if point.call != calls[name] or tensor is None:
                    continue
                # pooled (or copied) at once: an in-place activation may overwrite the tensor next; left on
                # the device, since a copy from there would wait for it at every layer
                with torch.autocast(tensor.device.type, enabled=False):  # it would cast what is pooled
                    values = poolings[point.name](tensor)
                is_view = values.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
                pooled[point.name] = values.clone() if is_view else values
                if stop and len(pooled) == len(points):
                    raise Reached

        return read

    def count(_module: nn.Module, inputs: tuple) -> None:
        nonlocal images
        images = len(inputs[0])

    images = 0
    handles = [module.register_forward_pre_hook(count)]
    handles += [module.get_submodule(name).register_forward_hook(hook(name)) for name in wanted]
    try:
        yield pooled
    finally:
        for handle in handles:
            handle.remove()


class Reached(Exception):
    """Raised inside a hook to end a forward pass at a layer."""


def milliseconds_saved(
    module: nn.Module, example: Tensor, point: ReadPoint, repeats: int = 9
) -> tuple[float, float, float]:
    """Time one image through the whole network and up to a layer: the difference in ms.

    The two are measured in turn, so that a drift of the machine's speed meets both. Given are the median
    and the quartiles of the differences; never below 0.

    Args:
        example: one input, on the network's device.
    """
    target = dict(module.named_modules())[point.module]

    calls = 0

    def stop(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == point.call:
            raise Reached

    def timed(cut: bool) -> float:
        nonlocal calls
        calls = 0
        handle = target.register_forward_hook(stop) if cut else None
        start = time.perf_counter()
        try:
            module(example)
        except Reached:
            pass
        finally:
            if handle is not None:
                handle.remove()
        if example.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    with torch.inference_mode():
        timed(False)  # the first passes choose kernels
        timed(True)
        differences = [timed(False) - timed(True) for _ in range(repeats)]
    low, middle, high = (max(0.0, 1000 * cut) for cut in quantiles(differences, n=4, method="inclusive"))
    return middle, low, high


def choose_device(device: str) -> torch.device:
    """`auto` is a CUDA device where there is one, else the CPU; a named device must exist.

    Raises:
        RequestError: none of auto, cpu, cuda, cuda:N.
        MachineError: there is no such CUDA device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,4})?", device):
        raise unknown_name("device", device, ["auto", "cpu", "cuda"], "Use auto, cpu, cuda or cuda:N.")
    chosen = torch.device(device)
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise MachineError(
                f"--device {device}: PyTorch finds no CUDA device here; use --device cpu or auto"
            )
        if (chosen.index or 0) >= count:
            there = f"cuda:0 to cuda:{count - 1}" if count > 1 else "cuda:0"
            raise MachineError(
                f"--device {device}: PyTorch finds {count} CUDA device{'s' if count > 1 else ''} here; "
                f"use {there}, or auto"
            )
    return chosen


def on_device(batch: Tensor, device: torch.device) -> Tensor:
    """A batch on the device, a pixel's channels beside each other; a copy to a GPU is not waited for."""
    layout = torch.channels_last if batch.dim() == 4 else torch.preserve_format
    if device.type == "cuda":
        batch = batch.pin_memory()
    return batch.to(device, non_blocking=True, memory_format=layout)
