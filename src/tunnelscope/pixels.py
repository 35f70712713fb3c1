"""A whole split of small images as one tensor, for training: decoded and resized once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunnelscope.data.dataset import DataSet, Fingerprint, Split, digest_of
from tunnelscope.data.images import naming
from tunnelscope.data.loader import prepared
from tunnelscope.data.transforms import Preprocessing
from tunnelscope.errors import MachineError, RequestError
from tunnelscope.memory import available, size

SPARE = 0.8  # of the free memory that images may take


def as_pixels(
    split: Split,
    preprocessing: Preprocessing | None,
    *,
    workers: int = 2,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Tensor, str]:
    """Return all images of a split and their fingerprint.

    Args:
        split: of images.
        preprocessing: the network's; None where the images are float tensors.
        workers: decoding threads.
        progress: called with the number of images done.

    Returns:
        (n, H, W, C) uint8 at the network's size; or, where the images are float tensors, ready inputs
        (n, C, H, W) float32.

    Raises:
        RequestError: an image that cannot be read, or of another shape than the first.
        MachineError: they do not fit into the free memory.
    """
    with naming(split.images, 0):
        first = split.images[0]
    if isinstance(first, str):
        raise RequestError("texts cannot be trained on; give images")
    fingerprint = Fingerprint()
    result: np.ndarray | None = None
    for index, one in enumerate(prepared(split.images, preprocessing, workers, digest_of)):
        ready = one.ready.numpy() if isinstance(one.ready, Tensor) else one.ready
        if result is None:
            _check_room(len(split) * ready.nbytes, len(split))
            result = np.empty((len(split), *ready.shape), dtype=ready.dtype)
        if ready.shape != result.shape[1:] or ready.dtype != result.dtype:
            raise RequestError(
                f"image {index} is {ready.shape} where the first is {result.shape[1:]}; "
                "bring them to one shape"
            )
        result[index] = ready
        fingerprint.add(one.seen, split.labels[index])
        progress(index + 1)
    assert result is not None
    return torch.from_numpy(result), fingerprint.hexdigest()


def decoded(
    dataset: DataSet, preprocessing: Any, workers: int, notify: Callable[[str, int, int], None]
) -> DataSet:
    """The set with its images decoded, and resized as a network's preprocessing says, in memory."""
    if not (preprocessing is None or isinstance(preprocessing, Preprocessing)):
        raise RequestError(
            "the network reads no images; only the training of networks of images is looked at"
        )

    def held(split: Split, role: str) -> Split:
        images, _ = as_pixels(
            split,
            preprocessing,
            workers=workers,
            progress=lambda done: notify(f"{dataset.key} ({role}): decoding", done, len(split)),
        )
        return replace(split, images=_Held(images))

    # Without its stamp: what is read now is not what the files hold, where images were resized.
    return replace(dataset, train=held(dataset.train, "train"), test=held(dataset.test, "test"), stamp="")


class _Held:
    """Decoded images as a sequence: uint8 arrays (H, W, C), or ready inputs."""

    def __init__(self, images: Tensor):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> Any:
        one = self.images[index]
        return one.numpy() if one.dtype == torch.uint8 else one


def _check_room(needed: int, images: int) -> None:
    free = available()
    if free is None or needed <= SPARE * free:
        return
    fit = int(images * SPARE * free / needed)
    raise MachineError(
        f"{images:,} training images take {size(needed)} of memory, {size(free)} are free; "
        f"--max-samples {fit} would fit"
    )
