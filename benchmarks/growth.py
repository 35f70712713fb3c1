"""How the cost of probing and measuring layers grows with images, width, classes and layers.

Each figure is the exponent e of cost ∝ size^e, the slope of a straight line through (log size, log seconds).
Seconds are the process's own on one thread, so that neighbours on the machine do not count.
"""

import math
import statistics
import time
from collections.abc import Iterator, Sequence

import torch
from benchmarks.harness import Row
from torch import Tensor

from tunnelscope.metrics import unbiased_cka
from tunnelscope.outcome import measure_layer

BASE = {"images": 12_000, "width": 128, "classes": 20, "layers": 4}
SIZES = {
    "images": (12_000, 24_000, 48_000),
    "width": (64, 128, 256),
    "classes": (10, 20, 40, 80),
    "layers": (2, 4, 8),
}
QUICK = {"images": (3_000, 6_000), "width": (32, 64), "classes": (5, 10), "layers": (1, 2)}
LINEAR = 1.15  # a fit through three noisy points that are linear lies below
TEST_ROWS = 0.1  # of the images


def rows(quick: bool) -> Iterator[Row]:
    """The rows of this group."""
    for name, sizes in (QUICK if quick else SIZES).items():
        base = {key: values[0] for key, values in QUICK.items()} if quick else BASE
        seconds = {size: _seconds(base | {name: size}, repeats=1 if quick else 3) for size in sizes}
        bar = LINEAR if name in ("images", "layers") else None
        fixed = ", ".join(f"{key} {value:,}" for key, value in base.items() if key != name)
        told = ", ".join(f"{size:,}: {taken:.2f} s" for size, taken in seconds.items())
        yield Row(
            f"probes and metrics, cost ∝ {name}^e",
            slope(list(seconds), list(seconds.values())),
            bar,
            "<=",
            seconds={f"{name} {size}": taken for size, taken in seconds.items()},
            rounds=1 if quick else 3,
            note=f"{fixed}; {told}; one thread, process seconds; TwoNN alone grows with test rows squared",
        )


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The exponent of the power law through the points, by least squares in logarithms."""
    fitted = statistics.linear_regression([math.log(x) for x in sizes], [math.log(y) for y in seconds])
    return fitted.slope


def _seconds(size: dict[str, int], repeats: int) -> float:
    train, test = (_part(size, rows, seed) for seed, rows in enumerate(_split(size["images"])))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return min(_once(train, test, size["classes"]) for _ in range(repeats))
    finally:
        torch.set_num_threads(threads)


def _split(images: int) -> tuple[int, int]:
    return images - int(TEST_ROWS * images), int(TEST_ROWS * images)


def _part(size: dict[str, int], count: int, seed: int) -> tuple[list[Tensor], Tensor]:
    """Layers of noisy classes; the means are those of both parts, the noise is its own."""
    means, draws = torch.Generator().manual_seed(7), torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % size["classes"]
    centres = [
        0.5 * torch.randn(size["classes"], size["width"], generator=means) for _ in range(size["layers"])
    ]
    return [c[labels] + torch.randn(count, size["width"], generator=draws) for c in centres], labels


def _once(train: tuple[list[Tensor], Tensor], test: tuple[list[Tensor], Tensor], classes: int) -> float:
    names = tuple(map(str, range(classes)))
    start = time.process_time()
    for fit, read in zip(train[0], test[0], strict=True):
        measure_layer(
            (fit, train[1]),
            (read, test[1]),
            protocol="exact",
            tolerance=1e-2,
            seed=0,
            class_names=names,
            layer="layer",
        )
    unbiased_cka(test[0])
    return time.process_time() - start
