"""The numbers a network runs in: single precision, or bfloat16 where that is near enough."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from tunnelscope.errors import unknown_name
from tunnelscope.folding import LAYERS, sharing_copy

PRECISIONS = ("auto", "f32", "bf16")
MOST_ERROR = 0.05  # of a layer's features: a tenth of the spread that a probe's error would show
WITHIN = 0.9  # share of a layer's features; those that hardly ever fire differ more, and tell little
FEW = 32  # inputs that the error is measured on at least


@dataclass(frozen=True)
class Precision:
    """The numbers a network was run in.

    Attributes:
        asked: `auto`, `f32` or `bf16`.
        used: `f32` or `bf16`.
        error: of each layer's features in bf16 on the first inputs of each set, the largest, as a share of
            their spread; empty where bf16 was not tried.
        reason: why bf16 was not used though it was tried, or asked for.
    """

    asked: str = "f32"
    used: str = "f32"
    error: Mapping[str, float] | None = None
    reason: str = ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line where bf16 was asked for and not used."""
        if self.asked == "bf16" and self.reason:
            return (f"--precision bf16: f32 was used; {self.reason}",)
        return ()

    @property
    def _words(self) -> str:
        errors = self.error or {}
        worst = max(errors, key=errors.__getitem__)
        middle = f"{median(errors.values()):.1%} of their spread (median over layers)"
        return f"features are off by {middle}, {errors[worst]:.1%} at worst ({worst})"

    def describe(self) -> str | None:
        """What was decided, in words; None where nothing was to be decided."""
        if self.reason:
            return f"precision {self.asked}: f32 is used; {self.reason}"
        if self.used == "f32":
            return None
        return f"precision {self.asked}: bf16 is used; {self._words}"

    def as_dict(self) -> dict[str, Any]:
        """The object `precision` of run.json."""
        errors = self.error or {}
        worst = max(errors, key=errors.__getitem__) if errors else None
        return {
            "asked": self.asked,
            "used": self.used,
            "error_median": median(errors.values()) if errors else None,
            "error_worst": errors[worst] if worst is not None else None,
            "worst_layer": worst,
            "reason": self.reason or None,
        }


AS_LOADED = Precision()


def check_precision(name: str) -> str:
    """Return the name of a precision.

    Raises:
        RequestError: there is none of that name.
    """
    if name not in PRECISIONS:
        raise unknown_name("precision", name, PRECISIONS, f"Choices: {', '.join(PRECISIONS)}.")
    return name


def has_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware (AVX-512 BF16 or AMX; CUDA from compute 8.0)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "amx_tile"))


def in_bf16(module: nn.Module) -> nn.Module:
    """Return a copy whose convolutions and linear layers hold their weights in bfloat16; the rest is shared.

    It is to be run inside `numbers("bf16", …)`, which casts what goes into them.
    """
    rounded = sharing_copy(module)
    for layer in rounded.modules():
        if type(layer) in LAYERS:
            layer.weight = nn.Parameter(layer.weight.bfloat16(), requires_grad=False)  # type: ignore[operator]
            if isinstance(layer.bias, Tensor):
                layer.bias = nn.Parameter(layer.bias.bfloat16(), requires_grad=False)
    return rounded


@contextmanager
def numbers(used: str, device: torch.device) -> Iterator[None]:
    """Run what is inside in these numbers: in bf16 products are, sums and norms as PyTorch finds safe."""
    with torch.autocast(device.type, torch.bfloat16, enabled=used == "bf16"):
        yield


def relative_errors(plain: Mapping[str, Tensor], rounded: Mapping[str, Tensor]) -> dict[str, float]:
    """How far each layer's features are from the plain ones, as a share of those features' spread.

    Args:
        plain: layer → features (n, width) in single precision.
        rounded: the same in bfloat16.

    Returns:
        Root mean square of the difference over that of the plain features' deviation from their mean over
        the inputs: of the layer as a whole, as distances and variances see it, or what nine in ten of its
        features stay within one by one, as probes see them, whichever is larger. Features without any spread
        do not count; infinite where nothing has one and something differs.
    """
    return {layer: _relative_error(values, rounded[layer]) for layer, values in plain.items()}


def _relative_error(plain: Tensor, rounded: Tensor) -> float:
    differences = (rounded.double() - plain.double()).square().mean(dim=0)
    spreads = (plain.double() - plain.double().mean(dim=0)).square().mean(dim=0)
    if not differences.any():
        return 0.0
    varied = spreads > 0
    if not varied.any():
        return float("inf")
    single = (differences[varied] / spreads[varied]).sort().values
    most = single[math.ceil(WITHIN * len(single)) - 1]
    return float(torch.maximum(most, differences.mean() / spreads.mean()).sqrt())
