"""The embedded example: train a small network on half of the digits, to be scanned on both halves."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunnelscope.data import Preprocessing, Split, batches, load_data
from tunnelscope.files import check_writable
from tunnelscope.linalg.threads import threads_for
from tunnelscope.models import load_network
from tunnelscope.models.weights import save_weights
from tunnelscope.randomness import named_generator

MODEL = "zoo:mlp?depth=12&width=256"
ID = "sklearn:digits?classes=0-4"
OOD = "sklearn:digits?classes=5-9"
EPOCHS = 100
BATCH = 64
LEARNING_RATE, MOMENTUM = 0.01, 0.9


def train_demo(path: Path, seed: int = 0, progress: Callable[[str, int, int], None] | None = None) -> None:
    """Train an MLP of 12 hidden ReLU layers on the digits 0–4 and write its weights.

    Plain SGD (rate 0.01, momentum 0.9), batches of 64, 100 epochs, no augmentation, no decay.

    Args:
        path: of the safetensors file to write.
        seed: of the initial weights and of the order of the images.

    Raises:
        MachineError: the file cannot be written; found out before the training where it can be.
    """
    check_writable(path.parent)
    dataset = load_data(ID, seed=seed)
    network = load_network(
        MODEL, weights="random", image_shape=(1, 8, 8), classes=len(dataset.class_names), seed=seed
    )
    assert isinstance(network.preprocessing, Preprocessing)  # zoo networks always have one
    images, labels = as_tensors(dataset.train, network.preprocessing)
    module = network.module.requires_grad_(True).train()
    with threads_for(BATCH * 256 * 256):
        train(module, images, labels, seed, progress)
    save_weights(path, module, {})


def as_tensors(split: Split, preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    """A small split as one tensor of preprocessed images and one of labels."""
    images = torch.cat(list(batches(split.images, preprocessing, batch_size=256, workers=1)))
    return images, torch.as_tensor(split.labels)


def train(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    seed: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Minimise the cross-entropy by SGD, in place."""
    optimizer = torch.optim.SGD(module.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    order = named_generator(seed, "order of training images")
    for epoch in range(1, EPOCHS + 1):
        for rows in torch.randperm(len(images), generator=order).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(module(images[rows]), labels[rows]).backward()
            optimizer.step()
        if progress:
            progress("training on digits 0–4, epochs", epoch, EPOCHS)
