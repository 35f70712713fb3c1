"""The papers' training loops, layers side by side, against one loop a layer with torch.optim.

Neither side has a DataLoader: both index the same features by the same permutations.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from benchmarks.harness import Row, in_turn, ratio_row
from torch import Tensor
from torch.nn import functional as F

from tunnelscope.probes.heldout import heldout_rows
from tunnelscope.probes.linear import LinearProbe
from tunnelscope.probes.protocols import training_rows
from tunnelscope.probes.recipes import HARUN2024, Recipe, fit_recipes, initial
from tunnelscope.probes.rows import Rows
from tunnelscope.randomness import named_generator

SIZES = [  # layers, width, classes, batch, rows, what the ratio must reach
    (28, 64, 10, 128, 6_400, 8),
    (28, 256, 10, 128, 6_400, 4),
    (28, 256, 100, 128, 3_840, None),
    (16, 512, 100, 128, 3_840, 1),
    (16, 2_048, 100, 128, 2_560, 1),
]


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this group."""
    for layers, width, classes, batch, count, bar in SIZES:
        recipe = replace(HARUN2024, batch=batch, epochs=1 if quick else 3)
        yield _row(layers, width, classes, count // 10 if quick else count, recipe, bar)


def _row(layers: int, width: int, classes: int, count: int, recipe: Recipe, bar: float | None) -> Row:
    train = planted(layers, width, classes, count)
    sides = {
        "a loop a layer": lambda: {name: loop(one, recipe) for name, one in train.items()},
        "tunnelscope": lambda: dict(fit_recipes(train, recipe, seed=0)),
    }
    timing = in_turn(sides)
    theirs, ours = timing.results["a loop a layer"], timing.results["tunnelscope"]
    apart = max(float((ours[name].weights - theirs[name][0]).abs().max()) for name in train)
    right = {name: (_right(one, *theirs[name]), _accuracy(ours[name], one)) for name, one in train.items()}
    differ = max(abs(one - other) for one, other in right.values())
    told = f"weights differ by {apart:.0e}, training accuracy by {100 * differ:.2g} points at most"
    what = f"recipe {recipe.protocol}, {layers} × {width}, {classes} classes, batch {recipe.batch}"
    note = f"{count:,} rows, {recipe.epochs} epochs; both train twice: without the held-out rows, on all"
    return ratio_row(what, timing, "a loop a layer", "tunnelscope", bar, accuracy=told, note=note)


def planted(layers: int, width: int, classes: int, count: int) -> Mapping[str, Rows]:
    """Return layers of noisy classes behind a ReLU, the later the less noise."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    made = {}
    for layer in range(layers):
        means = torch.randn(classes, width, generator=draws) * (0.1 + layer / layers)
        features = torch.relu(means[labels] + torch.randn(count, width, generator=draws))
        made[f"layer{layer}"] = training_rows(features, labels, classes)
    return made


def loop(rows: Rows, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """One layer's probe as one writes it in torch; as the other side, without the held-out rows before."""
    _train(rows.take(heldout_rows(rows.labels, 0).fit), recipe)
    return _train(rows, recipe)


def _train(rows: Rows, recipe: Recipe) -> tuple[Tensor, Tensor]:
    features, labels = rows.features, rows.labels
    layer = torch.nn.Linear(features.shape[1], len(rows.class_names))
    with torch.no_grad():
        for own, start in zip(
            (layer.weight, layer.bias), initial(layer.in_features, layer.out_features, recipe, 0), strict=True
        ):
            own.copy_(start)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=recipe.learning_rate, weight_decay=0)
    draws = named_generator(0, "probe batches")
    for _ in range(recipe.epochs):
        for batch in torch.randperm(len(features), generator=draws).split(recipe.batch):
            optimiser.zero_grad()
            loss = F.cross_entropy(
                layer(features[batch]), labels[batch], label_smoothing=recipe.label_smoothing
            )
            loss.backward()
            optimiser.step()
    return layer.weight.detach(), layer.bias.detach()


def _right(rows: Rows, weights: Tensor, bias: Tensor) -> float:
    return float(((rows.features @ weights.T + bias).argmax(dim=1) == rows.labels).double().mean())


def _accuracy(probe: LinearProbe, rows: Rows) -> float:
    return float((probe.predict(rows.features) == rows.labels).double().mean())
