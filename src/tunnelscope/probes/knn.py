"""`knn/v1`: the vote of the nearest training rows, a look at a layer that no fit can fail on.

Euclidean distance on standardised features, k = 20 neighbours (with fewer than 400 rows, the square root of
their number), majority vote, a tie goes to the class with the nearest row, equal distances to the row that
comes first. Exact: candidates come from float32 products, their order from float64 differences.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tunnelscope.linalg.blocks import row_blocks
from tunnelscope.linalg.standardise import Standardisation, measure
from tunnelscope.probes.linear import Probe
from tunnelscope.probes.rows import Rows

PROTOCOL = "knn/v1"
NEIGHBOURS = 20
SPARE = 12  # candidates beyond k, so that float32 rounding rarely calls for a full float64 search


@dataclass(frozen=True, eq=False, kw_only=True)
class KnnProbe(Probe):
    """The training rows themselves, and how many of them vote.

    Attributes:
        neighbours: k.
        examples: (n_train, features), raw.
        example_labels: (n_train,), int64.
        mean, scale: (features,), float64.
    """

    neighbours: int
    examples: Tensor = field(repr=False)
    example_labels: Tensor = field(repr=False)
    mean: Tensor = field(repr=False)
    scale: Tensor = field(repr=False)

    @property
    def width(self) -> int:
        """How many features it reads."""
        return self.examples.shape[1]

    def predict_proba(self, features: Any) -> Tensor:
        """Return each class's share of the votes, (n, classes)."""
        return self._votes(self._nearest_labels(self._checked(features))) / self.neighbours

    def _votes(self, nearest: Tensor) -> Tensor:
        votes = torch.zeros(len(nearest), len(self.class_names), device=nearest.device)
        return votes.scatter_add_(1, nearest, torch.ones_like(nearest, dtype=votes.dtype))

    def _nearest_labels(self, features: Tensor) -> Tensor:
        scaling = Standardisation(self.mean, self.scale)
        return self.example_labels[nearest_rows(self.examples, features, scaling, self.neighbours)]

    def _judge(self, features: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        nearest = self._nearest_labels(features)
        votes = self._votes(nearest)
        leads = votes.gather(1, nearest) == votes.max(dim=1, keepdim=True).values
        order = torch.arange(self.neighbours, device=nearest.device).expand_as(leads)
        first = torch.where(leads, order, self.neighbours).min(dim=1, keepdim=True).values
        return nearest.gather(1, first)[:, 0], None


def fit_knn(rows: Rows, seed: int, layer: str = "") -> KnnProbe:
    """Keep the rows; the held-out accuracy is that of the other rows' votes on held-out rows."""
    parts = rows.held_out(seed)
    right = None
    if len(parts.heldout):
        part, judged = rows.take(parts.fit), rows.take(parts.heldout)
        right = (_kept(part, rows, seed, layer).predict(judged.features) == judged.labels).cpu()
    return _kept(rows, rows, seed, layer, right)


def _kept(
    rows: Rows, scaled_by: Rows, seed: int, layer: str, heldout_right: Tensor | None = None
) -> KnnProbe:
    scaling = measure(scaled_by.features)
    return KnnProbe(
        neighbours=min(NEIGHBOURS, math.isqrt(len(rows.labels))),
        examples=rows.features,
        example_labels=rows.labels,
        mean=scaling.mean,
        scale=scaling.scale,
        class_names=rows.class_names,
        protocol=PROTOCOL,
        n_train=len(rows.labels),
        seed=seed,
        layer=layer,
        heldout_right=heldout_right,
    )


def nearest_rows(examples: Tensor, features: Tensor, scaling: Standardisation, neighbours: int) -> Tensor:
    """Return the nearest examples of each row, (n, neighbours), nearest first, equal ones by their number."""
    known = torch.empty(examples.shape, dtype=torch.float32, device=examples.device)
    for block in row_blocks(*examples.shape):
        known[block] = scaling.apply(examples[block])
    squares = known.square().sum(dim=1)
    candidates = min(neighbours + SPARE, len(examples))
    result = torch.empty(len(features), neighbours, dtype=torch.int64, device=features.device)
    for block in row_blocks(len(features), max(len(examples), candidates * examples.shape[1]), 1 << 23):
        rows = scaling.apply(features[block])
        near = torch.addmm(squares, rows.float(), known.T, alpha=-2)  # squared distance − ‖row‖²
        values, found = near.topk(candidates, dim=1, largest=False)
        found, distances = _sorted(rows, examples, scaling, found)
        result[block] = found[:, :neighbours]
        if candidates == len(examples):
            continue
        norms = rows.square().sum(dim=1)
        rounding = 1.2e-7 * (8 + math.sqrt(examples.shape[1])) * (norms + squares.max())
        unsure = distances[:, neighbours - 1] - norms + 2 * rounding >= values[:, -1]
        for row in unsure.nonzero().flatten().tolist():
            everyone = torch.arange(len(examples), device=features.device)[None]
            all_found, _ = _sorted(rows[row : row + 1], examples, scaling, everyone)
            result[block.start + row] = all_found[0, :neighbours]
    return result


def _sorted(rows: Tensor, examples: Tensor, scaling: Standardisation, found: Tensor) -> tuple[Tensor, Tensor]:
    """Sort candidates by squared distance in float64, equal distances by number."""
    found = found.sort(dim=1).values
    distances = torch.empty(found.shape, dtype=torch.float64, device=rows.device)
    for block in row_blocks(*found.T.shape, elements=1 << 10):
        differences = scaling.apply(examples[found[:, block]]) - rows[:, None]
        distances[:, block] = differences.square().sum(dim=2)
    distances, order = distances.sort(dim=1, stable=True)
    return found.gather(1, order), distances
