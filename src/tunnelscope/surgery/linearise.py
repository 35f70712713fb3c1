"""`ts.linearise`: is the tunnel more than a linear map? A run of blocks replaced by one, in closed form."""

import copy
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tunnelscope.errors import RequestError
from tunnelscope.probes.heldout import heldout_rows
from tunnelscope.scanning import scan
from tunnelscope.surgery.patient import Patient, Surgery, admit, surgery_of
from tunnelscope.surgery.stretch import Stretch, output_of, stretch_of

RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # times the mean variance of the inputs
REPEATS = 15
WIDEST = 8192  # inputs of the map: its normal equations take 8 · width² bytes


class LinearMap(nn.Module):
    """One affine map in the place of a run of blocks.

    Vectors and tokens are mapped each by itself. Maps are averaged to the grid of the run's output, then
    every cell's channels are mapped alike; a map that becomes a vector is averaged to 2×2 and flattened.
    """

    def __init__(self, inputs: int, outputs: int, grid: tuple[int, int] | None, is_flat: bool):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.grid, self.is_flat = grid, is_flat

    def rows(self, values: Tensor) -> Tensor:
        """Return what is mapped, the features last."""
        if self.grid is None:
            return values
        pooled = F.adaptive_avg_pool2d(values, self.grid)
        return pooled.flatten(1) if self.is_flat else pooled.permute(0, 2, 3, 1)

    def forward(self, values: Tensor) -> Tensor:
        """Return the run's output, from its input."""
        mapped = self.linear(self.rows(values))
        return mapped.permute(0, 3, 1, 2) if self.grid is not None and not self.is_flat else mapped


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over rows of [x 1]ᵀ[x 1], [x 1]ᵀy and y², float64."""

    inputs: Tensor
    products: Tensor
    squares: Tensor

    def error(self, weights: Tensor) -> float:
        """Return the sum of squared errors of y ≈ [x 1] weights, over all rows and outputs."""
        fitted = (weights * (self.inputs @ weights)).sum() - 2 * (weights * self.products).sum()
        return float(fitted + self.squares.sum())

    @property
    def spread(self) -> float:
        """Sum of squares of y around its mean."""
        return float(self.squares.sum() - self.products[-1].square().sum() / self.inputs[-1, -1])


def linearise(folder: str | Path, *, last: str | None = None, **settings: Any) -> Surgery:
    """Replace a run of blocks by one linear map and score the network before and after.

    The map is fitted by least squares to the run's output on training images, its ridge penalty chosen on a
    tenth of them; no label is used, and the head keeps its weights.

    Args:
        folder: of a training.
        last: the run's last layer; by default the network's last one, so that the run is the tunnel.
        settings: of `admit`: `layer` (the run starts after it; by default the extractor's last), `id`, `ood`,
            `max_samples`, and arguments of `ts.scan`.

    Returns:
        The surgery; its conditions also hold `parameters`, `milliseconds` (an image) and, of the linear one,
        `r2` on the images held out.

    Raises:
        RequestError: as in `admit`, or the run is no chain of modules.
    """
    patient = admit(folder, **settings)
    stretch, example = patient.stretch, next(patient.inputs([0]))
    if last is not None:
        stretch = stretch_of(patient.network.module, example, stretch.after, last)
    fitted, r2 = fit_map(patient, stretch)
    module = replaced(patient, stretch, fitted)
    network = replace(patient.network, module=module, weights="linearised", weights_file=None)
    final = patient.scan.run["layers"][-1]["name"]
    read = [stretch.after, stretch.modules[0], *([final] if stretch.last != final else [])]
    reading: dict[str, Any] = patient.settings | {"layers": read}
    after = scan(network, id=patient.sets[0], ood=patient.sets[1:], **reading)
    what = f"{len(stretch.modules)} modules after {stretch.after} replaced by one linear map"
    done = surgery_of(what, replace(patient, stretch=stretch), {"trained": patient.scan, "linear": after})
    for name, one in (("trained", patient.network), ("linear", network)):
        done.conditions[name]["parameters"] = one.parameters
        done.conditions[name]["milliseconds"] = _milliseconds(one.module, example)
    done.conditions["linear"]["r2"] = r2
    return done


def fit_map(patient: Patient, stretch: Stretch) -> tuple[LinearMap, float]:
    """Fit the map on the training images; return it and its R² on those held out."""
    labels = torch.as_tensor(patient.sets[0].train.labels)
    fit, heldout = heldout_rows(labels, patient.settings["seed"])
    shape = _map_for(patient, stretch)
    seen, judged = (_moments(patient, stretch, shape, rows.tolist()) for rows in (fit, heldout))
    width = len(seen.inputs) - 1
    scale = float(seen.inputs.diagonal()[:-1].mean())
    penalty = torch.ones(width + 1, dtype=torch.float64)
    penalty[-1] = 0  # the bias is free
    best: tuple[float, Tensor] | None = None
    for ridge in RIDGES:
        weights = torch.linalg.solve(seen.inputs + torch.diag(ridge * scale * penalty), seen.products)
        error = judged.error(weights)
        if best is None or error < best[0]:
            best = error, weights
    assert best is not None
    with torch.no_grad():
        shape.linear.weight.copy_(best[1][:-1].T)
        shape.linear.bias.copy_(best[1][-1])
    return shape.requires_grad_(False), 1 - best[0] / judged.spread


def _map_for(patient: Patient, stretch: Stretch) -> LinearMap:
    """Return a map of the right shape, its weights not fitted yet."""
    example = next(patient.inputs([0]))
    before, after = (
        output_of(patient.network.module, name, example) for name in (stretch.after, stretch.last)
    )
    if before.dim() == 4 and after.dim() == 4:
        size = before.shape[1], after.shape[1], (after.shape[2], after.shape[3]), False
    elif before.dim() == 4 and after.dim() == 2:
        grid = min(2, before.shape[2]), min(2, before.shape[3])
        size = before.shape[1] * grid[0] * grid[1], after.shape[1], grid, True
    elif before.dim() == after.dim() and before.shape[1:-1] == after.shape[1:-1]:
        size = before.shape[-1], after.shape[-1], None, False
    else:
        shapes = f"{tuple(before.shape[1:])} to {tuple(after.shape[1:])}"
        raise RequestError(
            f"the run from {stretch.after} to {stretch.last} leads from {shapes}: no one linear map"
        )
    if size[0] > WIDEST:
        raise RequestError(
            f"{stretch.after} gives {size[0]:,} numbers; a map of at most {WIDEST:,} is fitted"
        )
    return LinearMap(*size)


def _moments(patient: Patient, stretch: Stretch, shape: LinearMap, rows: list[int]) -> Moments:
    inputs: Any = 0.0
    products: Any = 0.0
    squares: Any = 0.0
    for batch in patient.inputs(rows):
        x = shape.rows(output_of(patient.network.module, stretch.after, batch)).double()
        y = output_of(patient.network.module, stretch.last, batch).double()
        if y.dim() == 4:
            y = y.permute(0, 2, 3, 1)
        x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
        x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
        inputs, products, squares = inputs + x.T @ x, products + x.T @ y, squares + y.square().sum(dim=0)
    return Moments(inputs, products, squares)


def replaced(patient: Patient, stretch: Stretch, fitted: LinearMap) -> nn.Module:
    """Return a copy of the network with the map in the place of the run's first module, the others taken out.

    Raises:
        RequestError: something else than the run's modules is computed between its ends.
    """
    module = copy.deepcopy(patient.network.module)
    for name in stretch.modules:
        module.set_submodule(name, nn.Identity())
    module.set_submodule(stretch.modules[0], fitted)
    example = next(patient.inputs([0, 1]))
    wanted = fitted(output_of(patient.network.module, stretch.after, example))
    try:
        got = output_of(module, stretch.modules[-1], example)
        is_chain = got.shape == wanted.shape and torch.allclose(got, wanted, rtol=1e-3, atol=1e-4)
    except RuntimeError:  # shapes that do not fit
        is_chain = False
    if not is_chain:
        raise RequestError(
            f"what runs from {stretch.after} to {stretch.last} is more than a chain of modules, so no one "
            "map can take its place; name other ends with --layer and --last"
        )
    return module.eval()


def _milliseconds(module: nn.Module, example: Tensor) -> float:
    """Median time of one image."""
    seconds = []
    with torch.inference_mode():
        for _ in range(REPEATS + 2):
            started = time.perf_counter()
            module(example)
            seconds.append(time.perf_counter() - started)
    return 1000 * median(seconds[2:])
