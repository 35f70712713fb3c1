"""Batches of ready inputs, decoded and preprocessed ahead of the network in threads, in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tunnelscope.data.dataset import Images, Split
from tunnelscope.data.images import UnreadableImage, naming, place_of
from tunnelscope.data.rows import spread_rows
from tunnelscope.data.transforms import Preprocessing, as_eight_bit, fit_image, normalise
from tunnelscope.errors import RequestError

CHUNK = 8  # images a thread takes at a time: enough for a cheap hand-over, few enough to spread a batch

Look = Callable[[Any], Any] | None


class Prepared(NamedTuple):
    """One image before it joins a batch."""

    seen: Any  # what `look` gave; None when nobody asks for it
    ready: np.ndarray | Tensor  # (H, W, C) uint8, or the float tensor as it came


def batches(
    images: Images,
    preprocessing: Preprocessing | None,
    *,
    batch_size: int,
    workers: int,
    on_image: Callable[[int, Any], None] | None = None,
    look: Callable[[Any], Any] = lambda image: image,
    on_corrupt: Callable[[int, UnreadableImage], None] | None = None,
) -> Iterator[Tensor]:
    """Yield the images as batches (b, C, H, W) float32, in order; the last may be smaller.

    About one batch is decoded ahead. The threads end when the iterator is exhausted, closed, or left by an
    exception or Ctrl-C.

    Args:
        images: of one split; float tensors pass unchanged.
        preprocessing: the network's; None only where all images are float tensors.
        batch_size: at least 1.
        workers: threads; 0 does everything in the caller's.
        on_image: called with (index, what `look` gives) in order, in the caller's thread.
        look: called in the threads with an image before preprocessing.
        on_corrupt: called likewise with (index, error) for an image that cannot be decoded, then left
            out; without it the first such error is raised.

    Raises:
        RequestError: an image that cannot be read, resized or stacked, with its place and set.
    """
    if batch_size < 1 or workers < 0:
        raise RequestError(
            f"batch size must be at least 1 and workers at least 0, got {batch_size} and {workers}"
        )
    collected: list[np.ndarray | Tensor] = []
    ready = _in_order(images, preprocessing, batch_size, workers, look=look if on_image else None)
    try:
        for index, one in enumerate(ready):
            if isinstance(one, UnreadableImage):
                if on_corrupt is None:
                    raise one
                on_corrupt(index, one)
                continue
            if on_image is not None:
                on_image(index, one.seen)
            collected.append(one.ready)
            if len(collected) == batch_size:
                yield _collate(collected, preprocessing, images, index)
                collected = []
        if collected:
            yield _collate(collected, preprocessing, images, len(images) - 1)
    finally:
        ready.close()


def prepared(
    images: Images, preprocessing: Preprocessing | None, workers: int, look: Callable[[Any], Any]
) -> Iterator[Prepared]:
    """Yield what `look` gave for each image, and the image at the network's size, in order.

    Raises:
        RequestError: an image that cannot be read, with its place.
    """
    for one in _in_order(images, preprocessing, CHUNK * max(1, workers), workers, look=look):
        if isinstance(one, UnreadableImage):
            raise one
        yield one


def image_shape(split: Split) -> tuple[int, int, int] | None:
    """Return the (C, H, W) that all images share, judged by at most 64 evenly spread; None when sizes differ.

    C is 1 when all of them are grey, else 3; float tensors (C, H, W) say it themselves. Images that cannot be
    decoded have no say: the pass over all images names the first of them, or leaves them out.
    """
    shapes = set()
    for index in spread_rows(len(split), 64):
        with suppress(UnreadableImage), naming(split.images, int(index)):
            item = split.images[int(index)]
            if isinstance(item, str):
                return None
            shapes.add(_shape(item))
    if not shapes:
        return None
    channels = max(shape[0] for shape in shapes)
    sizes = {shape[1:] for shape in shapes}
    size = sizes.pop()
    return None if sizes or len(size) != 2 else (channels, *size)


def _shape(image: Any) -> tuple[int, ...]:
    if isinstance(image, Tensor):
        return tuple(image.shape)
    eight_bit = as_eight_bit(image)
    return 1 if eight_bit.mode == "L" else 3, eight_bit.height, eight_bit.width


def _in_order(
    images: Images, preprocessing: Preprocessing | None, batch_size: int, workers: int, look: Look
) -> Generator[Prepared | UnreadableImage, None, None]:
    starts = range(0, len(images), CHUNK)
    if workers == 0:
        for start in starts:
            yield from _prepare(images, preprocessing, start, look)
        return
    ahead = workers + -(-batch_size // CHUNK)
    executor = ThreadPoolExecutor(workers, thread_name_prefix="tunnelscope-decode")
    try:
        pending = deque()
        for start in starts:
            pending.append(executor.submit(_prepare, images, preprocessing, start, look))
            if len(pending) > ahead:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _prepare(
    images: Images, preprocessing: Preprocessing | None, start: int, look: Look
) -> list[Prepared | UnreadableImage]:
    stop = min(start + CHUNK, len(images))
    return [_prepare_one(images, preprocessing, index, look) for index in range(start, stop)]


def _prepare_one(
    images: Images, preprocessing: Preprocessing | None, index: int, look: Look
) -> Prepared | UnreadableImage:
    try:
        with naming(images, index):
            return _ready(images[index], preprocessing, look)
    except UnreadableImage as error:
        return error


def _ready(image: Any, preprocessing: Preprocessing | None, look: Look) -> Prepared:
    seen = look(image) if look else None
    if isinstance(image, Tensor):
        return Prepared(seen, image.to(torch.float32))
    if preprocessing is None:
        raise RequestError(
            "the network has no preprocessing and the image is no float tensor; give mean, std, size"
        )
    return Prepared(seen, fit_image(image, preprocessing))


def _collate(
    collected: list[np.ndarray | Tensor], preprocessing: Preprocessing | None, images: Images, last: int
) -> Tensor:
    if preprocessing is not None and not any(isinstance(one, Tensor) for one in collected):
        return normalise(np.stack(collected), preprocessing)  # type: ignore[arg-type]
    tensors = [
        one if isinstance(one, Tensor) else normalise(np.stack([one]), _given(preprocessing))[0]
        for one in collected
    ]
    shapes = {tuple(one.shape) for one in tensors}
    if len(shapes) > 1:
        listed = ", ".join(map(str, sorted(shapes)[:3])) + (", …" if len(shapes) > 3 else "")
        raise RequestError(
            f"inputs up to {place_of(images, last)} have {len(shapes)} different shapes: {listed}; "
            "bring them to one"
        )
    return torch.stack(tensors)


def _given(preprocessing: Preprocessing | None) -> Preprocessing:
    assert preprocessing is not None  # `_prepare_one` has refused images otherwise
    return preprocessing
