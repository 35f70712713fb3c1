"""Metrics of the layers' features against the plain ways, all on the same features.

CKA of all pairs against n × n Gram matrices built once each; numerical rank against the Gram matrix and its
eigenvalues; TwoNN's neighbours against the whole matrix of distances.
"""

from collections.abc import Iterator, Sequence

import torch
from benchmarks.harness import Row, Timing, in_turn, ratio_row
from torch import Tensor

from tunnelscope.metrics import numerical_rank, twonn, unbiased_cka
from tunnelscope.metrics.dimension import two_nearest

RESNET56 = [64] * 10 + [128] * 9 + [256] * 9  # widths of its 28 blocks, each pooled to 2 × 2
TOLERANCE = 1e-3


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this group."""
    count = 1_000 if quick else 5_000
    yield from _cka(count, RESNET56[::2])
    yield from _cka(count, RESNET56)
    yield from _rank(1_250, 1_000) if quick else _rank(10_000, 8_000)
    yield from _neighbours(2_000 if quick else 10_000, 256)


def layers(count: int, widths: Sequence[int], seed: int = 0) -> list[Tensor]:
    """Return features of a chain of random ReLU layers, each with a mean, an uneven spectrum and noise."""
    draws = torch.Generator().manual_seed(seed)
    here, made = torch.randn(count, 64, generator=draws), []
    for width in widths:
        weights = torch.randn(here.shape[1], width, generator=draws) / here.shape[1] ** 0.5
        scales = torch.logspace(0.2, -1, width)[torch.randperm(width, generator=draws)]
        here = torch.relu(here @ weights + 0.3 * torch.randn(count, width, generator=draws)) * scales
        here = here / here.std()
        made.append(here)
    return made


def _cka(count: int, widths: Sequence[int]) -> Iterator[Row]:
    given = layers(count, widths)
    what = f"unbiased CKA of all pairs, {len(widths)} layers of {min(widths)}-{max(widths)}, {count:,} rows"
    sides = {
        "Gram matrices": lambda: gram_cka(given, by_dot=False),
        "dot products": lambda: gram_cka(given, by_dot=True),
        "tunnelscope": lambda: unbiased_cka(given),
    }
    timing = in_turn(sides)
    some = slice(None, None, len(widths) // 7)  # in float64 a Gram matrix takes 200 MB
    exact = gram_cka([layer.double() for layer in given[some]], by_dot=True)
    errors = {name: float((timing.results[name][some, some].double() - exact).abs().max()) for name in sides}
    told = f"error against float64 {errors['tunnelscope']:.0e}"
    plain = f"{told}, Gram matrices {errors['Gram matrices']:.0e}"
    note = "n × n Gram matrices once each, in float32; a pair is the sum of their product"
    yield ratio_row(what, timing, "Gram matrices", "tunnelscope", 12, accuracy=plain, note=note)
    note = "the same, a pair by torch.dot of the flat matrices: no temporary, the quickest such way"
    dots = f"{told}, dot products {errors['dot products']:.0e}"
    yield ratio_row(f"{what}, by torch.dot", timing, "dot products", "tunnelscope", accuracy=dots, note=note)
    yield Row(
        f"error of CKA, {len(widths)} layers",
        errors["tunnelscope"],
        1e-6,
        "<=",
        note="over the pairs of 7 layers",
    )


def gram_cka(features: Sequence[Tensor], *, by_dot: bool) -> Tensor:
    """CKA as it is written down: n × n Gram matrices without their diagonals, once each, then all pairs."""
    n = len(features[0])
    grams, sums = [], []
    for layer in features:
        centred = layer - layer.mean(dim=0)
        grams.append((centred @ centred.T).fill_diagonal_(0))
        sums.append(grams[-1].sum(dim=1))
    hsic = torch.zeros(len(grams), len(grams), dtype=features[0].dtype)
    for i, (one, one_sums) in enumerate(zip(grams, sums, strict=True)):
        for j, (other, other_sums) in enumerate(zip(grams[i:], sums[i:], strict=True), start=i):
            trace = torch.dot(one.view(-1), other.view(-1)) if by_dot else (one * other).sum()
            level = one_sums.sum() * other_sums.sum() / ((n - 1) * (n - 2))
            hsic[i, j] = hsic[j, i] = trace + level - 2 / (n - 2) * (one_sums @ other_sums)
    own = hsic.diagonal()
    return hsic / torch.outer(own, own).sqrt()


def _rank(count: int, width: int) -> Iterator[Row]:
    features = with_decay(count, width)
    what = f"numerical rank, {count:,} × {width:,}"
    sides = {
        "tunnelscope": lambda: numerical_rank(features, TOLERANCE),
        "Gram and eigvalsh": lambda: plain_rank(features, torch.float64),
        "in float32": lambda: plain_rank(features, torch.float32),
    }
    timing = in_turn(sides)
    counts = ", ".join(f"{name} {timing.results[name]}" for name in sides)
    ours, plain = timing.results["tunnelscope"], timing.results["Gram and eigvalsh"]
    told = f"count {ours}, the same" if ours == plain else f"COUNTS DIFFER: {counts}"
    yield _at_most(what, timing, "Gram and eigvalsh", 0.75, told, "the eigenvalues in float64")
    note = "against a Gram matrix and eigenvalues in float32; tunnelscope's count is checked in float64"
    yield _at_most(f"{what}, float32 beside it", timing, "in float32", 0.75, counts, note)


def _at_most(what: str, timing: Timing, other: str, bar: float | None, accuracy: str, note: str) -> Row:
    return ratio_row(what, timing, "tunnelscope", other, bar, sense="<=", accuracy=accuracy, note=note)


def with_decay(count: int, width: int) -> Tensor:
    """Return features whose k-th direction has variance about k^-1.08, in a basis that is not theirs."""
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(count, width, generator=draws) * torch.arange(1, width + 1) ** -0.54
    for _ in range(4):  # reflections: a rotation of 8,000 columns would take longer than all that is timed
        axis = torch.nn.functional.normalize(torch.randn(width, generator=draws), dim=0)
        features -= 2 * torch.outer(features @ axis, axis)
    return features + 0.5


def plain_rank(features: Tensor, dtype: torch.dtype) -> int:
    """The count from all eigenvalues of the covariance."""
    centred = features.to(dtype) - features.to(dtype).mean(dim=0)
    variances = torch.linalg.eigvalsh(centred.T @ centred)
    return int((variances > TOLERANCE * variances[-1]).sum())


def _neighbours(count: int, width: int) -> Iterator[Row]:
    features = layers(count, [width])[0]
    draws = torch.Generator().manual_seed(1)
    twins = features[: count // 20]
    near = features.clone()
    near[-len(twins) :] = twins + 1e-4 * torch.randn(twins.shape, generator=draws)
    for name, given in (("", features), (", 5 % near-duplicates", near)):
        sides = {"cdist": lambda x=given: direct_neighbours(x), "tunnelscope": lambda x=given: twonn(x)}
        timing = in_turn(sides)
        exact, ours = timing.results["cdist"], two_nearest(given)
        error = float(((ours - exact).abs() / exact).max())
        told = f"dimension {timing.results['tunnelscope']:.4f}, distances differ by {error:.0e} at most"
        what = f"TwoNN, {count:,} × {width}{name}"
        yield ratio_row(what, timing, "cdist", "tunnelscope", 10, accuracy=told)
        yield Row(f"distances of {what}", error, 1e-5, "<=", note="relative, against direct differences")


def direct_neighbours(features: Tensor) -> Tensor:
    """Distances to the two nearest rows from the whole matrix of distances, without products."""
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.fill_diagonal_(float("inf")).topk(2, largest=False).values.double()
