"""Training beside the usual loop of the same recipe, and beside nothing but forward and backward.

The usual loop: torchvision's transforms on PIL images decoded before, a DataLoader with two workers, the
same network, optimizer, rates and number format. The bare loop: the same batches, ready on the device.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from benchmarks.harness import Row, data_folder, in_turn, precisions, ratio_row
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from tunnelscope.data import Preprocessing
from tunnelscope.data.transforms import as_eight_bit
from tunnelscope.forward import lay_channels_last
from tunnelscope.models.vision import import_torchvision
from tunnelscope.pixels import as_pixels
from tunnelscope.precision import numbers
from tunnelscope.training.loop import Inputs, Labelled, Loop, Saves, make_optimizer
from tunnelscope.training.processes import Processes
from tunnelscope.training.recipe import Recipe, recipe_named
from tunnelscope.training.state import RunFolder

CASES = (  # network, recipe, augmentation, images, bar against the usual loop
    ("zoo:mlp?depth=12&width=1024", "masarczyk2023", "none", 20_000, 3.0),
    ("zoo:mlp?depth=12&width=1024", "masarczyk2023", "crop-flip", 20_000, 3.0),
    ("zoo:vgg19?width=0.25", "masarczyk2023", "crop-flip", 4_000, 1.3),
    ("zoo:resnet34?width=0.25", "masarczyk2023", "crop-flip", 4_000, 1.3),
)
BARE = 0.9
WORKERS = 2
WATCHED, WATCH_SHARE = "zoo:resnet18", 0.03  # of an epoch that one look takes at most


def rows(quick: bool) -> Iterator[Row]:
    """Two rows a case: against the usual loop, and against the bare one; then what watching costs."""
    for model, recipe, augmentation, images, bar in CASES[1:2] if quick else CASES:
        yield from case(model, recipe, augmentation, 1_000 if quick else images, bar)
    yield watched(500 if quick else 2_000)


def watched(images: int) -> Row:
    """The time of one look with 2,000 anchors over that of an epoch of CIFAR-10's 20,000 images here."""
    import tunnelscope as ts

    dataset = ts.load_data(str(data_folder() / "cifar10"))
    few = ts.load_data(str(data_folder() / "cifar10"), max_samples=images)
    used = precisions()[-1]
    own = our_loop(WATCHED, few, "masarczyk2023", "crop-flip", used)
    watch = ts.Watch(own.module, dataset, announce=None)
    timing = in_turn({"look": lambda: watch.look(0), "part": lambda: steps_of(own)})
    epoch = timing.median("part") * len(dataset.train) / images
    note = (
        f"look {timing.median('look'):.2f} s, epoch of {len(dataset.train):,} images {epoch:.0f} s; of "
        f"50,000 the share would be {timing.median('look') / epoch * len(dataset.train) / 50_000:.3f}"
    )
    what = f"Watch, 2,000 anchors of one set, {WATCHED.removeprefix('zoo:')}: a look over an epoch, {used}"
    return Row(what, timing.median("look") / epoch, WATCH_SHARE, "<=", note=note)


def case(model: str, recipe_name: str, augmentation: str, images: int, bar: float) -> Iterator[Row]:
    """Time one epoch of each loop in turn."""
    import tunnelscope as ts

    dataset = ts.load_data(str(data_folder() / "cifar10"), max_samples=images)
    used = precisions()[-1]
    own = our_loop(model, dataset, recipe_name, augmentation, used)
    pictures = [
        (as_eight_bit(dataset.train.images[row]).convert("RGB"), int(dataset.train.labels[row]))
        for row in range(len(dataset.train))
    ]
    theirs, alone = trainable(model), trainable(model)
    sides = {
        "tunnelscope": lambda: steps_of(own),
        "usual": lambda: usual(*theirs, pictures, own.recipe, used),
        "bare": lambda: bare(alone[0], own, used),
    }
    timing = in_turn(sides)
    what = f"{model.removeprefix('zoo:')}, {augmentation}, {images:,} images, {used}: images a second"
    speeds = {side: images / timing.median(side) for side in sides}
    note = ", ".join(f"{side} {speed:,.0f}" for side, speed in speeds.items())
    yield ratio_row(f"{what} over the usual loop's", timing, "usual", "tunnelscope", bar, note=note)
    yield ratio_row(f"{what} over bare forward and backward", timing, "bare", "tunnelscope", BARE, note=note)


def our_loop(model: str, dataset: Any, recipe_name: str, augmentation: str, used: str) -> Loop:
    """The loop of `ts.train` over images in memory."""
    network = fresh(model)
    assert isinstance(network.preprocessing, Preprocessing)
    recipe = recipe_named(recipe_name, network.name, {"augmentation": augmentation, "epochs": 1000})
    pixels, _ = as_pixels(dataset.train, network.preprocessing)
    lay_channels_last(network.module)
    return Loop(
        network.module,
        recipe,
        Labelled(pixels, torch.as_tensor(dataset.train.labels)),
        Inputs(network.preprocessing, torch.device("cpu")),
        RunFolder(Path(tempfile.mkdtemp())),
        Saves(frozenset(), frozenset()),
        seed=0,
        used=used,
        processes=Processes(),
    )


def steps_of(loop: Loop) -> None:
    """One epoch, without evaluation and saves, which the other sides do not do either."""
    for _ in range(loop.steps):
        loop.step()


def usual(
    module: nn.Module,
    preprocessing: Preprocessing,
    pictures: list[tuple[Any, int]],
    recipe: Recipe,
    used: str,
) -> None:
    """One epoch as tutorials have it: transforms in a DataLoader's workers, channels last, autocast."""
    v1 = import_torchvision().transforms
    steps = [v1.RandomCrop(32, padding=4), v1.RandomHorizontalFlip()] if recipe.augmentation != "none" else []
    transform = v1.Compose([*steps, v1.ToTensor(), v1.Normalize(preprocessing.mean, preprocessing.std)])

    class Pictures(Dataset):
        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            image, label = pictures[index]
            return transform(image), label

    loader = DataLoader(Pictures(), recipe.batch, shuffle=True, num_workers=WORKERS)
    optimizer = make_optimizer(module, recipe)
    for images, labels in loader:
        optimizer.zero_grad()
        with numbers(used, torch.device("cpu")):
            logits = module(images.contiguous(memory_format=torch.channels_last))
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()


def bare(module: nn.Module, own: Loop, used: str) -> None:
    """Forward and backward of as many ready batches; no optimizer, no augmentation."""
    images, labels = own.inputs(own.train.images[: own.recipe.batch]), own.train.labels[: own.recipe.batch]
    for step in range(own.steps):
        count = min(own.recipe.batch, len(own.train) - step * own.recipe.batch)
        for parameter in module.parameters():
            parameter.grad = None
        with numbers(used, torch.device("cpu")):
            logits = module(images[:count])
        F.cross_entropy(logits.float(), labels[:count]).backward()


def fresh(model: str) -> Any:
    """The network with random weights, for CIFAR-10."""
    import tunnelscope as ts

    return ts.load_network(model, weights="random", image_shape=(3, 32, 32), classes=10)


def trainable(model: str) -> tuple[nn.Module, Preprocessing]:
    """Another such network, to be trained."""
    network = fresh(model)
    assert isinstance(network.preprocessing, Preprocessing)
    lay_channels_last(network.module)
    return network.module.requires_grad_(True).train(), network.preprocessing
