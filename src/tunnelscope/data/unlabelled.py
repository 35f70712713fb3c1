"""Images without labels, for those who only want features."""

from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from tunnelscope.data.arrays import ArrayImages, DatasetImages
from tunnelscope.data.dataset import Split
from tunnelscope.errors import RequestError


def unlabelled(images: Any) -> Split:
    """Images as a split whose labels say nothing (all 0); a `Split` is returned as it is.

    Args:
        images: uint8 (n, H, W[, C]) or ready float inputs (n, …) as an array or tensor, a list of PIL
            images or arrays, or a torch Dataset whose items are images or (image, …).

    Raises:
        RequestError: something else, or no image at all.
    """
    if isinstance(images, Split):
        return images
    if isinstance(images, Dataset):
        found = DatasetImages(images, "the images")
    elif isinstance(images, (np.ndarray, Tensor, list, tuple)):
        found = ArrayImages(images, "the images")
    else:
        raise RequestError(
            f"a {type(images).__name__} is no set of images; give an array, a list, a torch Dataset or a data set's name"
        )
    if not len(found):
        raise RequestError("there are no images; at least one is needed")
    return Split(found, np.zeros(len(found), dtype=np.int64))
