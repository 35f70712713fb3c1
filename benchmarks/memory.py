"""Memory that probing one layer takes at its peak, measured against `planning.probing_bytes`.

    python benchmarks/memory.py            # one process a row; prints a Markdown table

Linux only: the peak is counted by the kernel (`VmHWM`, reset before each measurement).
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # each row is a process of its own

from benchmarks.harness import Row

SHAPES = [  # what the plan's factors were fitted to
    (2_000, 1_000, 256, 10),
    (20_000, 2_000, 256, 10),
    (8_000, 2_000, 1_024, 10),
    (20_000, 2_000, 1_024, 10),
    (2_000, 1_000, 4_096, 10),
    (20_000, 10_000, 256, 10),
    (2_000, 1_000, 256, 100),
    (10_000, 1_000, 512, 100),
]
PROTOCOL_SHAPES = [(20_000, 2_000, 256, 10), (3_000, 1_000, 1_024, 10), (1_500, 1_000, 3_000, 10)]
OTHER_PROTOCOLS = ["ridge", "knn", "regression"]
OTHER_SHAPES = [  # what they were not
    (3_000, 1_000, 128, 10),
    (30_000, 3_000, 768, 20),
    (12_000, 4_000, 384, 50),
    (1_500, 1_000, 3_000, 10),
    (20_000, 2_000, 512, 200),
]


def measure(train: int, test: int, width: int, classes: int, kind: str = "exact") -> None:
    """Print one row: the shape, planned and observed bytes in MB, their ratio.

    Args:
        kind: a protocol, or `regression`: a column of numbers.
    """
    import torch

    from tunnelscope.memory import forget_peak, peak, resident
    from tunnelscope.outcome import measure_layer
    from tunnelscope.planning import probing_bytes
    from tunnelscope.tasks import CLASSIFICATION, REGRESSION

    draws = torch.Generator().manual_seed(0)
    means = 0.3 * torch.randn(classes, width, generator=draws)
    before = resident()
    parts = []
    for rows in (train, test):
        labels = torch.arange(rows) % classes
        features = torch.randn(rows, width, generator=draws).add_(means[labels])
        parts.append((features, labels[:, None].double() if kind == REGRESSION else labels))
    forget_peak()
    measure_layer(
        *parts,
        protocol="exact" if kind == REGRESSION else kind,
        tolerance=1e-2,
        seed=0,
        class_names=("number",) if kind == REGRESSION else tuple(map(str, range(classes))),
        layer="layer",
        task=REGRESSION if kind == REGRESSION else CLASSIFICATION,
    )
    observed, planned = peak() - before, probing_bytes(train, test, width, classes, kind)
    shape = f"{train:,} + {test:,} × {width:,}, {classes} classes, {kind}"
    print(f"| {shape} | {planned / 2**20:.0f} | {observed / 2**20:.0f} | {planned / observed:.2f} |")


def fit(train: int, width: int, classes: int) -> None:
    """Print the bytes that one exact probe takes at its peak beside its features, over these."""
    import torch

    from tunnelscope.memory import forget_peak, peak, resident
    from tunnelscope.probes import fit_probe

    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(train) % classes
    features = torch.randn(train, width, generator=draws)
    features += 0.3 * torch.randn(classes, width, generator=draws)[labels]
    fit_probe(features[:500], labels[:500])  # what is loaded on first use is no probe's
    before = resident()
    forget_peak()
    fit_probe(features, labels)
    print((peak() - before) / (4 * features.numel()))


class Repeated:
    """So many images, made from a few and no two alike: a data set that takes no memory."""

    def __init__(self, count: int) -> None:
        import torch

        draws = torch.Generator().manual_seed(0)
        self.count, self.images = count, torch.rand(512, 3, 16, 16, generator=draws)
        self.labels = (self.images.mean(dim=(1, 2, 3)).argsort().argsort() * 10 // 512).tolist()
        self.targets = [self.labels[number % 512] for number in range(count)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int):
        image = self.images[index % 512].clone()
        image[0, 0, 0] = index / self.count
        return image, self.targets[index]


def whole_scan(images: int, budget: str) -> None:
    """Print the peak of a scan of so many images at 28 layers, over the budget and the model's size."""
    import torch
    from torch.utils.data import Dataset

    import tunnelscope as ts
    from tunnelscope.memory import peak, read_size

    class Images(Repeated, Dataset):
        pass

    torch.manual_seed(0)
    blocks = [torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3, padding=1), torch.nn.ReLU())]
    blocks += [torch.nn.Sequential(torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.ReLU()) for _ in range(27)]
    for block in blocks:
        torch.nn.init.kaiming_normal_(block[0].weight, nonlinearity="relu")  # the signal reaches the last one
    network = torch.nn.Sequential(*blocks, torch.nn.Flatten(), torch.nn.Linear(8192, 10))
    scan = ts.scan(
        network,
        id={"train": Images(images), "test": Images(2_000)},
        memory=budget,
        cache=False,
        layers=r"^(\d|1\d|2[0-7])$",
    )
    assert len(scan.run["layers"]) == 28
    model = sum(parameter.numel() for parameter in network.parameters()) * 4
    print(peak() / (read_size(budget) + model))


def rows(quick: bool) -> Iterator[Row]:
    """Memory by the operating system's figure, each in a process of its own."""
    sizes = [(20_000, 256, 10), (20_000, 256, 100), (50_000, 512, 10), (50_000, 512, 100)]
    for size in [(4_000, 64, 10)] if quick else sizes:
        what = f"probe's memory over its features', {size[0]:,} × {size[1]}, {size[2]} classes"
        yield Row(what, _ask("fit", *size), 3.0, "<=")
    for shape in SHAPES[:3] if quick else every_layer():
        planned, observed = (float(cell) for cell in _ask_line("layer", *shape).split("|")[2:4])
        off = max(planned / observed, observed / planned)
        train, test, width, classes, *kind = shape
        what = f"plan against peak of a layer, {train:,} + {test:,} × {width:,}, {classes} classes"
        what += f", {kind[0]}" if kind else ""
        yield Row(what, off, 1.2, "<=", note=f"planned {planned:.0f} MB, observed {observed:.0f} MB")
    images, budget = (2_000, "1.5GB") if quick else (100_000, "2GB")
    what = f"scan's peak over --memory {budget} and model, {images:,} images × 28 layers"
    yield Row(
        what,
        _ask("scan", images, budget),
        1.0,
        "<=",
        note="512 images 16×16, each copy with a pixel of its own, no cache",
    )


def every_layer() -> list[tuple[Any, ...]]:
    """Shapes, and after some of them the protocol where it is another than `exact`."""
    return SHAPES + OTHER_SHAPES + [(*shape, kind) for kind in OTHER_PROTOCOLS for shape in PROTOCOL_SHAPES]


def _ask(*arguments: Any) -> float:
    return float(_ask_line(*arguments))


def _ask_line(*arguments: Any) -> str:
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]


if __name__ == "__main__":
    what, *arguments = sys.argv[1:] or ["table"]
    if what == "layer":
        measure(*map(int, arguments[:4]), *arguments[4:])
    elif what == "fit":
        fit(*map(int, arguments))
    elif what == "scan":
        whole_scan(int(arguments[0]), arguments[1])
    else:
        print("| rows × width | planned, MB | observed, MB | planned / observed |", flush=True)
        print("|---|---|---|---|", flush=True)
        for shape in every_layer():
            print(_ask_line("layer", *shape), flush=True)
