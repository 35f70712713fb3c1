"""The papers' probes: a linear layer trained by mini-batches on raw features for a fixed number of epochs.

`masarczyk2023/v1`: Masarczyk et al., NeurIPS 2023 (arXiv:2305.19753), the settings on which two independent
replications agree. `harun2024/v1`: Harun et al., NeurIPS 2024 (arXiv:2405.15018), convolutional networks, as
printed; the paper reports the best test epoch, this the last one, so the test rows are read once.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tunnelscope.probes.linear import LinearProbe
from tunnelscope.probes.rows import Rows
from tunnelscope.randomness import named_generator


@dataclass(frozen=True)
class Recipe:
    """All settings of a probe trained by mini-batches.

    Attributes:
        protocol: its full name.
        optimiser: Adam, or AdamW (they differ when there is weight decay).
        initial: `uniform`, torch's default of a linear layer, or `normal` with `initial_sd` and bias 0.
        label_smoothing: in the training loss only.
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


MASARCZYK2023 = Recipe("masarczyk2023/v1", optimiser="adam", batch=512)
HARUN2024 = Recipe("harun2024/v1", optimiser="adamw", batch=128, label_smoothing=0.1, initial="normal")


def fit_recipe(rows: Rows, recipe: Recipe, seed: int, layer: str = "") -> LinearProbe:
    """Train on all rows; the held-out rows are judged by the same training without them."""
    parts = rows.held_out(seed)
    if not len(parts.heldout):
        return _probe(rows, recipe, seed, layer)
    judged = rows.take(parts.heldout)
    judge = _probe(rows.take(parts.fit), recipe, seed, layer)
    right = (judge.predict(judged.features) == judged.labels).cpu()
    return _probe(rows, recipe, seed, layer, right, judge.scores(judged.features, judged.labels).loss)


def _probe(
    rows: Rows,
    recipe: Recipe,
    seed: int,
    layer: str,
    heldout_right: Tensor | None = None,
    heldout_loss: float | None = None,
) -> LinearProbe:
    weights, bias = train(rows, recipe, seed)
    width = rows.features.shape[1]
    return LinearProbe(
        weights=weights,
        bias=bias,
        mean=torch.zeros(width, dtype=torch.float64, device=weights.device),
        scale=torch.ones(width, dtype=torch.float64, device=weights.device),
        class_names=rows.class_names,
        protocol=recipe.protocol,
        n_train=len(rows.labels),
        seed=seed,
        layer=layer,
        converged=bool(weights.isfinite().all() and bias.isfinite().all()),
        heldout_right=heldout_right,
        heldout_loss=heldout_loss,
    )


def train(rows: Rows, recipe: Recipe, seed: int) -> tuple[Tensor, Tensor]:
    """Return weights (classes, features) and bias (classes,) after the last epoch, float32."""
    features, classes = rows.features.float(), len(rows.class_names)
    weights, bias = (start.to(features.device) for start in initial(features.shape[1], classes, recipe, seed))
    optimiser = _optimiser(recipe, [weights, bias])
    smooth = recipe.label_smoothing
    targets = F.one_hot(rows.labels, classes).float() * (1 - smooth) + smooth / classes
    draws = named_generator(seed, "probe batches")
    for _ in range(recipe.epochs):
        order = torch.randperm(len(features), generator=draws).to(features.device)
        for batch in order.split(recipe.batch):
            inputs = features[batch]
            residual = torch.softmax(torch.addmm(bias, inputs, weights.T), dim=1)
            residual.sub_(targets[batch]).div_(len(batch))  # the gradient of the mean cross-entropy
            weights.grad, bias.grad = residual.T @ inputs, residual.sum(dim=0)
            optimiser.step()
    return weights, bias


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
