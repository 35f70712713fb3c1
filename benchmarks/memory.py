"""Memory that probing one layer takes at its peak, measured against `planning.probing_bytes`.

    python benchmarks/memory.py            # one process a row; prints a Markdown table

Linux only: the peak is counted by the kernel (`VmHWM`, reset before each measurement).
"""

import subprocess
import sys

SHAPES = [
    (2_000, 1_000, 256, 10),
    (20_000, 2_000, 256, 10),
    (8_000, 2_000, 1_024, 10),
    (20_000, 2_000, 1_024, 10),
    (2_000, 1_000, 4_096, 10),
    (20_000, 10_000, 256, 10),
    (2_000, 1_000, 256, 100),
    (10_000, 1_000, 512, 100),
    (2_000, 1_000, 4_096, 100),
    (10_000, 1_000, 256, 1_000),
    (4_000, 1_000, 1_024, 1_000),  # half an hour: ten fits on rows that 1,000 classes part entirely
]


def measure(train: int, test: int, width: int, classes: int) -> None:
    """Print one row: the shape, planned and observed bytes in MB, their ratio."""
    import torch

    from tunnelscope.memory import forget_peak, peak, resident
    from tunnelscope.outcome import measure_layer
    from tunnelscope.planning import probing_bytes

    draws = torch.Generator().manual_seed(0)
    means = 0.3 * torch.randn(classes, width, generator=draws)
    before = resident()
    parts = []
    for rows in (train, test):
        labels = torch.arange(rows) % classes
        parts.append((torch.randn(rows, width, generator=draws).add_(means[labels]), labels))
    forget_peak()
    names = tuple(map(str, range(classes)))
    measure_layer(*parts, protocol="exact", tolerance=1e-2, seed=0, class_names=names, layer="layer")
    observed, planned = peak() - before, probing_bytes(train, test, width, classes)
    shape = f"{train:,} + {test:,} × {width:,}, {classes} classes"
    print(f"| {shape} | {planned / 2**20:.0f} | {observed / 2**20:.0f} | {planned / observed:.2f} |")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(*map(int, sys.argv[1:]))
    else:
        print(
            "| rows × width | planned, MB | observed, MB | planned / observed |\n|---|---|---|---|",
            flush=True,
        )
        for shape in SHAPES:
            subprocess.run([sys.executable, __file__, *map(str, shape)], check=True)
