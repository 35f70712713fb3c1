"""The papers' probes: a linear layer trained by mini-batches on raw features for a fixed number of epochs.

`masarczyk2023/v1`: Masarczyk et al., NeurIPS 2023 (arXiv:2305.19753), the settings on which two independent
replications agree. `harun2024/v1`: Harun et al., NeurIPS 2024 (arXiv:2405.15018), convolutional networks, as
printed; the paper reports the best test epoch, this the last one, which does not choose by test rows. The
best one stands beside it as `best_test_accuracy`, for comparison with the paper.
`harun2024-vit/v1`: as printed for its vision transformers. `harun2024-code/v1`: as its released code trains
on convolutional networks, in batches of 256 in an order drawn once (cached features are not shuffled again).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tunnelscope.linalg.blocks import row_blocks
from tunnelscope.probes.linear import LinearProbe
from tunnelscope.probes.rows import Rows
from tunnelscope.randomness import named_generator

WORTH_STACKING = 1.6e7  # multiply-adds of a layer's step from which overhead is no more than its product
STACK_ELEMENTS = 2**27  # of layers side by side: 512 MB


@dataclass(frozen=True)
class Recipe:
    """All settings of a probe trained by mini-batches.

    Attributes:
        protocol: its full name.
        optimiser: Adam, or AdamW (they differ when there is weight decay).
        initial: `uniform`, torch's default of a linear layer, or `normal` with `initial_sd` and bias 0.
        label_smoothing: in the training loss only.
        is_reshuffled: the order of the rows is drawn anew in each epoch, not once.
    """

    protocol: str
    optimiser: Literal["adam", "adamw"]
    batch: int
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    epochs: int = 30
    label_smoothing: float = 0.0
    initial: Literal["uniform", "normal"] = "uniform"
    initial_sd: float = 0.01
    is_reshuffled: bool = True


MASARCZYK2023 = Recipe("masarczyk2023/v1", optimiser="adam", batch=512)
HARUN2024 = Recipe("harun2024/v1", optimiser="adamw", batch=128, label_smoothing=0.1, initial="normal")
HARUN2024_VIT = replace(
    HARUN2024, protocol="harun2024-vit/v1", batch=512, learning_rate=1e-2, weight_decay=1e-4
)
HARUN2024_CODE = replace(HARUN2024, protocol="harun2024-code/v1", batch=256, is_reshuffled=False)


def fit_recipe(
    rows: Rows, recipe: Recipe, seed: int, layer: str = "", test: Rows | None = None
) -> LinearProbe:
    """Train on all rows; the held-out rows are judged by the same training without them.

    Args:
        test: read after each epoch for `best_test_accuracy`, never for anything else.
    """
    return next(fit_recipes({layer: rows}, recipe, seed, None if test is None else {layer: test}))[1]


def fit_recipes(
    rows: Mapping[str, Rows], recipe: Recipe, seed: int, test: Mapping[str, Rows] | None = None
) -> Iterator[tuple[str, LinearProbe]]:
    """Train a probe on each layer: the same as one after another, layers of equal width side by side.

    Args:
        rows: layer → its training rows; the same labels and groups for all layers.
        test: layer → its test rows, as in `fit_recipe`; the same labels for all.

    Yields:
        each layer's name and probe when its stack is done, so not in the order of `rows`.
    """
    first = next(iter(rows.values()))
    fit, heldout = first.held_out(seed)
    widths = {name: one.features.shape[1] for name, one in rows.items()}
    for names in stacks(widths, len(first.labels), len(first.class_names), recipe):
        layers = [rows[name] for name in names]
        stacked, read = _stacked(layers), None
        if test is not None:
            read = (_stacked([test[name] for name in names]), test[names[0]].labels)
        judges = _probes(names, stacked, first, recipe, seed, among=fit) if len(heldout) else []
        fitted = _probes(names, stacked, first, recipe, seed, test=read)
        for one, probe, judge in zip_longest(layers, fitted, judges):
            yield probe.layer, probe if judge is None else _judged(probe, judge, one.take(heldout))


def fit_recipes_among(
    rows: Mapping[str, Rows], recipe: Recipe, seed: int, among: Tensor
) -> Iterator[tuple[str, LinearProbe]]:
    """Train a probe on some rows of each layer, numbered in `among`, to judge the others by.

    The same as `fit_recipes` on these rows alone, but for what that says of rows it holds out itself.
    """
    first = next(iter(rows.values()))
    widths = {name: one.features.shape[1] for name, one in rows.items()}
    for names in stacks(widths, len(first.labels), len(first.class_names), recipe):
        stacked = _stacked([rows[name] for name in names])
        for probe in _probes(names, stacked, first, recipe, seed, among=among):
            yield probe.layer, probe


def _judged(probe: LinearProbe, judge: LinearProbe, rows: Rows) -> LinearProbe:
    """Return the probe with what the training without the held-out rows says of them."""
    right = (judge.predict(rows.features) == rows.labels).cpu()
    loss = judge.scores(rows.features, rows.labels).loss
    return replace(probe, heldout_right=right, heldout_loss=loss)


def stacks(
    widths: Mapping[str, int], rows: int, classes: int, recipe: Recipe, elements: int | None = None
) -> Iterator[list[str]]:
    """Yield the layers that are trained side by side: equally wide, small enough to gain by it.

    Args:
        widths: layer → features.
        rows: training rows.
        elements: of the layers of a stack together, at most; one layer is always a stack.
    """
    elements = STACK_ELEMENTS if elements is None else elements
    by_width: dict[int, list[str]] = {}
    for name, width in widths.items():
        by_width.setdefault(width, []).append(name)
    for width, names in by_width.items():
        is_worth_it = width * classes * min(recipe.batch, rows) < WORTH_STACKING
        most = max(1, elements // (width * rows)) if is_worth_it else 1
        for start in range(0, len(names), most):
            yield names[start : start + most]


def _probes(
    names: Sequence[str],
    features: Tensor,
    rows: Rows,
    recipe: Recipe,
    seed: int,
    among: Tensor | None = None,
    test: tuple[Tensor, Tensor] | None = None,
) -> list[LinearProbe]:
    """Train on features (n, layers, d) with the labels of `rows`; `among` and `test` as in `train`."""
    trained = train(features, rows.labels, len(rows.class_names), recipe, seed, among, test)
    width = features.shape[2]
    return [
        LinearProbe(
            weights=weights,
            bias=bias,
            mean=torch.zeros(width, dtype=torch.float64, device=weights.device),
            scale=torch.ones(width, dtype=torch.float64, device=weights.device),
            class_names=rows.class_names,
            protocol=recipe.protocol,
            n_train=len(rows.labels) if among is None else len(among),
            seed=seed,
            layer=name,
            converged=bool(weights.isfinite().all() and bias.isfinite().all()),
            best_test_accuracy=best,
        )
        for name, weights, bias, best in zip(names, *trained, strict=True)
    ]


def _stacked(layers: Sequence[Rows]) -> Tensor:
    """Return (n, layers, d) float32, so that one gather of a mini-batch serves all layers."""
    if len(layers) == 1:
        return layers[0].features.float().unsqueeze(1)
    return torch.stack([layer.features.float() for layer in layers], dim=1)


def train(
    features: Tensor,
    labels: Tensor,
    classes: int,
    recipe: Recipe,
    seed: int,
    among: Tensor | None = None,
    test: tuple[Tensor, Tensor] | None = None,
) -> tuple[list[Tensor], list[Tensor], list[float | None]]:
    """Train one linear layer on each of several equally wide layers, all with the same batches.

    Logits are (layers, classes, batch): with few classes the products and the softmax are several times
    as fast that way round. There is no autograd, whose overhead is most of a small step.

    Args:
        features: (n, layers, d), float32.
        labels: (n,).
        among: numbers of the rows to train on; all without it.
        test: features (n_test, layers, d) and labels (n_test,), read after each epoch.

    Returns:
        weights (classes, d) and bias (classes,) of each layer after the last epoch, float32; and the best
        accuracy any epoch reached on the test rows, None without them.
    """
    device, count = features.device, features.shape[1]
    among = torch.arange(len(features)) if among is None else among
    start = (each.to(device) for each in initial(features.shape[2], classes, recipe, seed))
    weights, bias = (each.expand(count, *each.shape).contiguous() for each in start)
    optimiser = _optimiser(recipe, [weights, bias])
    smooth = recipe.label_smoothing
    targets = F.one_hot(labels, classes).float() * (1 - smooth) + smooth / classes
    draws = named_generator(seed, "probe batches")
    gathered = features.new_empty(min(recipe.batch, len(among)), *features.shape[1:])
    right = torch.zeros(count, dtype=torch.int64, device=device)
    order = among
    for epoch in range(recipe.epochs):
        if recipe.is_reshuffled or epoch == 0:
            order = among[torch.randperm(len(among), generator=draws)].to(device)
        for batch in order.split(recipe.batch):
            inputs = torch.index_select(features, 0, batch, out=gathered[: len(batch)]).transpose(0, 1)
            residual = torch.softmax(torch.baddbmm(bias[:, :, None], weights, inputs.transpose(1, 2)), dim=1)
            residual.sub_(targets[batch].T).div_(len(batch))  # the gradient of the mean cross-entropy
            weights.grad, bias.grad = torch.bmm(residual, inputs), residual.sum(dim=2)
            optimiser.step()
        if test is not None:
            right = torch.maximum(right, _count_right(*test, weights, bias))
    best = [None if test is None else hits / len(test[1]) for hits in right.tolist()]
    return list(weights.unbind()), list(bias.unbind()), best


def _count_right(features: Tensor, labels: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """Return how many rows each layer's classifier gets right, (layers,)."""
    right = torch.zeros(len(weights), dtype=torch.int64, device=features.device)
    for rows in row_blocks(len(features), features[0].numel()):
        inputs = features[rows].permute(1, 2, 0)
        predicted = torch.baddbmm(bias[:, :, None], weights, inputs).argmax(dim=1)
        right += (predicted == labels[rows]).sum(dim=1)
    return right


def initial(width: int, classes: int, recipe: Recipe, seed: int) -> tuple[Tensor, Tensor]:
    """Return the weights (classes, width) and the bias (classes,) that training starts from."""
    draws = named_generator(seed, "probe weights")
    weights, bias = torch.empty(classes, width), torch.zeros(classes)
    if recipe.initial == "normal":
        return weights.normal_(0, recipe.initial_sd, generator=draws), bias
    bound = 1 / math.sqrt(width)
    return weights.uniform_(-bound, bound, generator=draws), bias.uniform_(-bound, bound, generator=draws)


def _optimiser(recipe: Recipe, parameters: list[Tensor]) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
    return kind(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
