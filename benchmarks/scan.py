"""A whole scan against nothing but the network's own forward passes over the same images."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from benchmarks.harness import Row, Timing, data_folder, in_turn, precisions, ratio_row
from benchmarks.recording import BATCH, forward, resnet_network

TRAIN, TEST = 8_000, 1_600
BARS = {"f32": 1.15, "bf16": 0.80}


def rows(quick: bool) -> Iterator[Row]:
    """The scan, each precision over the forward of the model as loaded (f32, NCHW)."""
    train, test = (400, 200) if quick else (TRAIN, TEST)
    sets = [subset(name, train, test) for name in ("cifar10", "cifar100")]
    counted: dict[str, list[float]] = {}
    images = all_images(sets)
    loaded = resnet_network().module
    run_scan([subset(name, 100, 100) for name in ("cifar10", "cifar100")], "f32", {})  # loads libraries

    def bare() -> None:
        started = time.perf_counter()
        forward(loaded, images)
        counted.setdefault("forward", []).append(time.perf_counter() - started)

    timing = in_turn(
        {
            "forward": bare,
            **{
                precision: lambda precision=precision: run_scan(sets, precision, counted)
                for precision in precisions()
            },
        }
    )
    rounds = len(timing.seconds["forward"])
    timing = Timing({side: seconds[-rounds:] for side, seconds in counted.items()}, timing.results)
    for precision in precisions():
        result = timing.results[precision]
        yield ratio_row(
            f"ResNet-56, CIFAR-10 + CIFAR-100 ({train:,} + {test:,} images each), 28 layers, 56 exact "
            f"probes, all metrics, {precision}: scan / bare forward as loaded",
            timing,
            precision,
            "forward",
            BARS[precision],
            sense="<=",
            accuracy=accuracies(result, timing.results["f32"]),
            note=stages(result),
        )


def run_scan(sets: list[Any], precision: str, counted: dict[str, list[float]]) -> Any:
    """Scan without cache and report; seconds without those of the bootstrap."""
    import tunnelscope as ts

    result = ts.scan(resnet_network(), id=sets[0], ood=[sets[1]], cache=False, precision=precision)
    timings = result.run["timings"]
    counted.setdefault(precision, []).append(timings["total"] - timings["tunnel"])
    return result


def subset(name: str, train: int, test: int) -> Any:
    """A data set with that many rows of each split, spread evenly."""
    from tunnelscope.data import load_data
    from tunnelscope.data.assemble import take_rows
    from tunnelscope.data.rows import spread_rows

    whole = load_data(str(data_folder() / name))
    parts = {"train": (whole.train, train), "test": (whole.test, test)}
    return replace(
        whole,
        **{role: take_rows(split, spread_rows(len(split), count)) for role, (split, count) in parts.items()},
    )


def all_images(sets: list[Any]) -> list[torch.Tensor]:
    """All images of the sets, preprocessed, in batches."""
    from tunnelscope.data import batches

    preparation = resnet_network().preprocessing
    return [
        batch
        for one in sets
        for split in (one.train, one.test)
        for batch in batches(split.images, preparation, batch_size=BATCH, workers=2)
    ]


def accuracies(result: Any, plain: Any) -> str:
    """The network's accuracy, its best layers', and how far the probes are from those of the scan in f32."""
    own = result.run["network_accuracy"]["value"]
    best = ", ".join(
        f"{key} {one['layer']} {one['accuracy']:.3f}" for key, one in result.run["best_layer"].items()
    )
    told = f"network {own:.3f}; best layers: {best}"
    if result is plain:
        return told
    differences = [
        100 * (one["accuracy"] - other["accuracy"])
        for one, other in zip(result.run["probes"], plain.run["probes"], strict=True)
    ]
    mean = sum(differences) / len(differences)
    worst = max(map(abs, differences))
    return f"{told}; probes against f32: mean {mean:+.2f} points, worst {worst:.2f}"


def stages(result: Any) -> str:
    """Seconds of the last round by stage, and what was counted apart."""
    timings = result.run["timings"]
    counted = ("load", "plan", "record", "duplicates", "probes", "cka")
    told = ", ".join(f"{stage} {timings[stage]:.1f} s" for stage in counted if stage in timings)
    return f"{told}; bootstrap {timings['tunnel']:.1f} s not counted, no report drawn"
