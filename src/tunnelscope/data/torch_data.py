"""torch Datasets whose items are (image, label, …): their images, their labels, their class names."""

from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import IterableDataset, Subset

from tunnelscope.data.images import as_image
from tunnelscope.data.rows import spread_rows
from tunnelscope.errors import RequestError

CHECKED_ITEMS = 16  # read to see whether a Dataset's list of labels is in the order of its items


class DatasetImages:
    """The images of a torch Dataset; an item may also be the image alone."""

    def __init__(self, dataset: Any, origin: str) -> None:
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
            raise RequestError(f"{origin}: a Dataset without a length cannot be split; give one with __len__")
        if not len(dataset):
            raise RequestError(f"{origin} is empty; it needs rows")
        self.dataset, self.origin = dataset, origin

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        item = self.dataset[index]
        return as_image(item[0] if isinstance(item, (tuple, list)) else item)

    def place(self, index: int) -> str:
        """Say which image that is."""
        return f"image {index} of {self.origin}"


def dataset_labels(dataset: Any, origin: str) -> list[Any]:
    """Return the label of each item.

    They are taken from the Dataset's own list (`targets` or `labels`, as in torchvision) where some items
    agree with it, else from all items, which decodes every image once.

    Raises:
        RequestError: an item that is no (image, label).
    """
    count = len(dataset)
    listed = _listed_labels(dataset)
    if listed is not None and len(listed) == count:
        checked = spread_rows(count, CHECKED_ITEMS)
        if all(np.array_equal(_label(dataset, int(index), origin), listed[index]) for index in checked):
            return list(listed)
    return [_label(dataset, index, origin) for index in range(count)]


def dataset_classes(dataset: Any) -> tuple[str, ...] | None:
    """Return the names in a torchvision-like Dataset's `classes`, None when it has none."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    classes = getattr(dataset, "classes", None)
    return tuple(map(str, classes)) if isinstance(classes, (list, tuple)) and classes else None


def _listed_labels(dataset: Any) -> np.ndarray | None:
    if isinstance(dataset, Subset):
        inner = _listed_labels(dataset.dataset)
        return None if inner is None else inner[np.asarray(dataset.indices, dtype=np.int64)]
    for name in ("targets", "labels"):
        listed = getattr(dataset, name, None)
        if isinstance(listed, (list, tuple, np.ndarray, Tensor)):
            values = np.asarray(listed)
            is_known = values.dtype.kind in "iuf" and values.ndim in (1, 2)
            return values if is_known else None
    return None


def _label(dataset: Any, index: int, origin: str) -> Any:
    try:
        item = dataset[index]
        if not isinstance(item, (tuple, list)):
            raise TypeError(f"it is a {type(item).__name__}")
        label = item[1]
        if isinstance(label, Tensor):
            label = label.detach().cpu().numpy()
        is_one = isinstance(label, (np.generic, np.ndarray)) and label.size == 1
        return label.item() if is_one else label
    except Exception as error:  # a user's Dataset raises what it likes
        said = f"{type(error).__name__}: {error}"
        raise RequestError(f"{origin}: item {index} is no (image, label): {said}") from error
