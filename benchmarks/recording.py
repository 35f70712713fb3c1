"""Recording against what the machine and the network itself allow: the pass with every layer read."""

from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from benchmarks.harness import Row, data_folder, in_turn, precisions, ratio_row
from torch import Tensor

SIDE = 2048  # of the matrices whose product is the machine's rate
PRODUCTS = 8
BATCH = 128


def rows(quick: bool) -> Iterator[Row]:
    """Rows of the group; both sides of each get the same preprocessed CIFAR-10 test images from memory."""
    yield from vgg_rows(ready_images(128 if quick else 1024))
    yield from resnet_rows(ready_images(128 if quick else 1024))


def vgg_rows(images: Tensor) -> Iterator[Row]:
    """VGG-19 (batch norm, random weights, 18 read points): the pass's rate, and its gain over the model."""
    blocks = {
        precision: vgg_recorder(images, layers="blocks", precision=precision) for precision in precisions()
    }
    convs = vgg_recorder(images, layers="convs", precision="f32")
    f32 = blocks["f32"]
    loaded = vgg_network()
    timing = in_turn(
        {
            "matrix products": lambda: multiply(*torch.ones(2, SIDE, SIDE)),
            "as loaded": lambda: forward(loaded.module, images.split(BATCH)),
            **{side: lambda recorder=recorder: record(recorder, images) for side, recorder in blocks.items()},
            "f32, convolutions read": lambda: record(convs, images),
        }
    )
    what = f"VGG-19, {len(images):,} images 32×32"
    flops = f32.flops * len(images)
    products = PRODUCTS * 2 * SIDE**3
    for side, bar in (("f32", 1.0), ("f32, convolutions read", None)):
        row = ratio_row(
            f"{what}, {side}: FLOP/s of the pass / matrix product's", timing, "matrix products", side
        )
        scale = flops / products
        yield replace(
            row,
            value=row.value * scale,
            spread=tuple(scale * end for end in row.spread or ()),
            bar=bar,
            accuracy=far_from(f32 if side == "f32" else convs, images),
            note=f"{flops / 1e9 / timing.median(side):.0f} GF/s of counted FLOPs against "
            f"{products / 1e9 / timing.median('matrix products'):.0f} of {SIDE}³ products in f32; "
            "3×3 convolutions may pass 1 (Winograd)",
        )
    for side, recorder in blocks.items():
        yield ratio_row(
            f"{what}: bare forward as loaded (f32, NCHW) / pass in {side}",
            timing,
            "as loaded",
            side,
            2.2 if side == "bf16" else None,
            accuracy=far_from(recorder, images),
        )


def resnet_rows(images: Tensor) -> Iterator[Row]:
    """ResNet-56 (trained, 28 read points): what reading costs, and what one pass for all layers saves."""
    for precision in precisions():
        recorder = resnet_recorder(images, precision)
        assert recorder.running is not None
        laid_out = [batch.to(memory_format=torch.channels_last) for batch in images.split(BATCH)]
        timing = in_turn(
            {
                "recorded": lambda recorder=recorder: record(recorder, images),
                "bare": lambda recorder=recorder, laid_out=laid_out, precision=precision: forward(
                    recorder.running, laid_out, precision
                ),
            }
        )
        yield ratio_row(
            f"ResNet-56, {len(images):,} images, {precision}: pass with 28 read points / bare forward of "
            "the same folded model",
            timing,
            "recorded",
            "bare",
            {"f32": 1.10, "bf16": 1.15}[precision],
            sense="<=",
            accuracy=far_from(recorder, images),
            note="ready images on both sides; the pass also hashes them and checks that all is finite",
        )
    yield from one_pass_rows(images)


def one_pass_rows(images: Tensor) -> Iterator[Row]:
    """One pass for all read points against a pass a layer, of which three are timed."""
    recorder = resnet_recorder(images, "f32")
    points = recorder.points
    some = [points[0], points[len(points) // 2], points[-1]]
    singles = [replace(recorder, points=[point]) for point in some]
    timing = in_turn(
        {
            "one pass": lambda: record(recorder, images),
            "whole passes": lambda: [record(one, images) for one in singles],
            "passes cut at the layer": lambda: [record(one, images, logits=False) for one in singles],
        }
    )
    for side, bar in (("whole passes", 20.0), ("passes cut at the layer", None)):
        yield scaled(
            ratio_row(
                f"ResNet-56, {len(images):,} images, f32: {len(points)} {side}, a layer each / one pass",
                timing,
                side,
                "one pass",
                bar,
                note=f"{len(some)} layers (first, middle, last) timed and scaled to {len(points)}",
            ),
            len(points) / len(some),
        )


def scaled(row: Row, factor: float) -> Row:
    """The row with its value and spread multiplied."""
    low, high = row.spread or (row.value, row.value)
    return replace(row, value=row.value * factor, spread=(low * factor, high * factor))


def ready_images(count: int) -> Tensor:
    """Test images of CIFAR-10 as the networks here read them, (count, 3, 32, 32)."""
    from tunnelscope.data import batches, load_data

    network = resnet_network()
    split = load_data(str(data_folder() / "cifar10"), max_samples=count, seed=0).test
    [images] = batches(split.images, preprocessing_of(network), batch_size=count, workers=2)
    return images


def preprocessing_of(network: Any) -> Any:
    """What a network of images does to them."""
    return network.preprocessing


def vgg_network() -> Any:
    """VGG-19 with batch norm, 0.80 GFLOP an image."""
    from tunnelscope import load_network

    return load_network("zoo:vgg19?size=32&channels=3&classes=10", weights="random")


def resnet_network() -> Any:
    """The trained ResNet-56 of the shared weights."""
    from tunnelscope import load_network

    weights = str(data_folder() / "weights" / "resnet56_cifar10.safetensors")
    return load_network("zoo:cifar_resnet56", weights=weights)


def vgg_recorder(images: Tensor, **settings: Any) -> Any:
    """A recorder of its own network (making one lays the network's weights out anew)."""
    return recorder_of(vgg_network(), images, **settings)


def resnet_recorder(images: Tensor, precision: str) -> Any:
    """A recorder of the 28 blocks of ResNet-56."""
    return recorder_of(resnet_network(), images, precision=precision)


def recorder_of(network: Any, images: Tensor, **settings: Any) -> Any:
    """A recorder whose precision is decided."""
    from tunnelscope.data import as_split
    from tunnelscope.recording import recorder_for

    return recorder_for(network, as_split(images), batch_size=BATCH, **settings)


def record(recorder: Any, images: Tensor, *, logits: bool = True) -> dict[str, Tensor]:
    """One pass with all read points, as a scan makes it, features kept in memory."""
    from tunnelscope.data import as_split

    return dict(recorder.record(as_split(images), logits=logits).features)


def forward(module: Any, batches: Any, precision: str = "f32") -> None:
    """The network alone."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        for batch in batches:
            module(batch)


def multiply(one: Tensor, other: Tensor) -> None:
    """Products of square matrices, one after another."""
    for _ in range(PRODUCTS):
        torch.mm(one, other)


def far_from(recorder: Any, images: Tensor) -> str:
    """How far the features are from those of the network as loaded, in words."""
    from tunnelscope.data import as_split
    from tunnelscope.precision import relative_errors

    few = as_split(images[:BATCH])
    plain, fast = (dict(one.record(few).features) for one in (recorder._as_loaded(), recorder))
    errors = relative_errors(plain, fast)
    worst = max(errors.values())
    return (
        f"{recorder.precision.used}: features off by {median(errors.values()):.2g} of their spread (median), "
        f"{worst:.2g} at worst"
    )
