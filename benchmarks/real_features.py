"""Features of real images in trained networks, recorded once by tunnelscope and kept in a temporary folder.

CIFAR ResNets trained on CIFAR-10 read CIFAR-10, and CIFAR-100 as data they were not trained on. The maps are
averaged to 2×2, as `scan` does: 64 features in the first stage, 128 in the second, 256 in the third.
"""

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.harness import data_folder
from safetensors.torch import load_file, save_file
from torch import Tensor

import tunnelscope as ts
from tunnelscope.files import write_whole

FOLDER = Path(tempfile.gettempdir()) / "tunnelscope-benchmarks"
TEST_IMAGES = 3000  # of CIFAR-100's 20,000; the others, and their mirror images, are the training rows


@dataclass(frozen=True, eq=False)
class Case:
    """One layer's features with labels.

    Attributes:
        name: rows × width, classes.
        train, test: (rows, width), float32.
        labels, test_labels: (rows,), int64.
        classes: how many there are.
    """

    name: str
    train: Tensor
    labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: int


def cifar10_cases(quick: bool = False) -> list[Case]:
    """Three layers of ResNet-20 on the 20,000 training images of CIFAR-10: early, middle, last."""
    kept = _recorded("cifar10", "resnet20", ("layer1.1", "layer3.0", "layer3.2"), 2000 if quick else 20000)
    notes = {"layer1.1": "", "layer3.0": ", middle", "layer3.2": ", last"}
    return [_case(kept, layer, 10, note) for layer, note in notes.items()]


def cifar100_cases(quick: bool = False) -> list[Case]:
    """Two layers of ResNet-20 on 17,000 images of CIFAR-100 and their mirror images."""
    kept = _recorded("cifar100", "resnet20", ("layer2.2", "layer3.1"), 4000 if quick else 34000)
    return [_case(kept, layer, 100, "") for layer in ("layer2.2", "layer3.1")]


def wide_case(quick: bool = False) -> Case:
    """Eight blocks of ResNet-56's third stage side by side: 2,048 features of 8,000 images of CIFAR-100."""
    layers = tuple(f"layer3.{block}" for block in range(8))
    kept = _recorded("cifar100", "resnet56", layers, 2000 if quick else 8000)
    joined = {part: torch.cat([kept[f"{part}/{layer}"] for layer in layers], dim=1) for part in _PARTS}
    labels = {f"{part}/labels": kept[f"{part}/labels"] for part in _PARTS}
    return _case({f"{part}/joined": rows for part, rows in joined.items()} | labels, "joined", 100, "")


def clustered_case(quick: bool = False) -> Case:
    """1,000 synthetic classes: Gaussian clusters in 512 dimensions, a tenth of the labels drawn anew."""
    rows, tests, classes, width = (2000 if quick else 20000), 2000, (200 if quick else 1000), 512
    draws = np.random.default_rng(0)
    # One of the classes has no cluster of its own: only flipped labels name it.
    labels = np.arange(rows + tests) % (classes - 1)
    mixing = draws.normal(size=(width, width)) / np.sqrt(width)
    means = 0.22 * draws.normal(size=(classes, width))
    features = (means[labels] + draws.normal(size=(rows + tests, width)) @ mixing).astype(np.float32)
    flipped = draws.random(rows + tests) < 0.1
    labels[flipped] = draws.integers(0, classes, flipped.sum())
    order = draws.permutation(rows + tests)
    values, numbers = torch.from_numpy(features[order]), torch.from_numpy(labels[order])
    name = f"{_thousands(rows)}×{width}, {classes:,} synthetic classes"
    return Case(name, values[:rows], numbers[:rows], values[rows:], numbers[rows:], classes)


_PARTS = ("train", "test")


def _case(kept: dict[str, Tensor], layer: str, classes: int, note: str) -> Case:
    train, test = (kept[f"{part}/{layer}"] for part in _PARTS)
    name = f"{_thousands(len(train))}×{train.shape[1]}, {classes} classes{note}"
    return Case(name, train, kept["train/labels"], test, kept["test/labels"], classes)


def _thousands(rows: int) -> str:
    return f"{rows / 1000:g}k"


@cache
def _recorded(data: str, network: str, layers: tuple[str, ...], rows: int) -> dict[str, Tensor]:
    """Read a network's features, from the file if there is one: `train/LAYER`, `train/labels`, …"""
    file = FOLDER / f"{data}-{network}-{layers[0]}-{layers[-1]}-{rows}.safetensors"
    if not file.exists():
        kept: dict[str, Tensor] = {}
        for part, (images, labels) in _images(data, rows).items():
            weights = str(data_folder() / "weights" / f"{network}_cifar10.safetensors")
            read = ts.record(f"zoo:cifar_{network}?classes=10", images, layers=layers, weights=weights)
            kept |= {f"{part}/{layer}": features.contiguous() for layer, features in read.items()}
            kept[f"{part}/labels"] = torch.from_numpy(labels)
        FOLDER.mkdir(parents=True, exist_ok=True)
        write_whole(file, lambda fresh: save_file(kept, fresh))
    return load_file(file)


def _images(data: str, rows: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    if data == "cifar10":
        dataset = ts.load_data(str(data_folder() / data), max_samples=rows)
        parts = {"train": dataset.train, "test": dataset.test}
        return {name: (_decoded(part.images), np.asarray(part.labels)) for name, part in parts.items()}
    dataset = ts.load_data(str(data_folder() / data), label="fine_label")
    images = np.concatenate([_decoded(dataset.train.images), _decoded(dataset.test.images)])
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    test = (images[-TEST_IMAGES:], labels[-TEST_IMAGES:])
    images, labels = images[:-TEST_IMAGES], labels[:-TEST_IMAGES]
    if rows > len(images):
        images, labels = np.concatenate([images, images[:, :, ::-1]]), np.concatenate([labels, labels])
    order = np.random.default_rng(0).permutation(len(images))[:rows]
    return {"train": (images[order], labels[order]), "test": test}


def _decoded(images: Any) -> np.ndarray:
    return np.stack([np.asarray(images[index]) for index in range(len(images))])
