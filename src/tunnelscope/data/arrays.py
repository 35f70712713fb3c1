"""Data that is in memory already: arrays, torch Datasets, scikit-learn's digits."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset

from tunnelscope.data.dataset import Images
from tunnelscope.data.images import ChosenImages
from tunnelscope.data.labelled import Labelled, Part, number_values
from tunnelscope.errors import RequestError, unknown_name


class DatasetImages:
    """The images of a torch Dataset whose items are images or (image, label, …); float arrays become ready tensors."""

    def __init__(self, dataset: Any, origin: str) -> None:
        self.dataset, self.origin = dataset, origin

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        item = self.dataset[index]
        return _as_image(item[0] if isinstance(item, (tuple, list)) else item)

    def where(self, index: int) -> str:
        """Say which image that is."""
        return f"image {index} of {self.origin}"


class ArrayImages:
    """The images of an array (n, …) or any sequence: uint8 (H, W[, C]) or (C, H, W), floats, PIL images."""

    def __init__(self, images: Any, origin: str) -> None:
        self.images, self.origin = images, origin

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return _as_image(self.images[index])

    def where(self, index: int) -> str:
        """Say which image that is."""
        return f"image {index} of {self.origin}"


def read_parts(parts: dict[str, Any], key: str) -> Labelled:
    """Label one or two splits, each a torch Dataset or a pair (images, labels).

    Integer and string labels are numbered in sorted order over both splits; a torchvision-like Dataset's
    `classes` name them.

    Raises:
        RequestError: what is neither, unequal lengths, labels that are no integers or strings.
    """
    images, labels, names = {}, {}, None
    for split, source in parts.items():
        origin = f"{key} ({split})" if split else key
        if isinstance(source, Dataset):
            images[split], labels[split] = DatasetImages(source, origin), _dataset_labels(source, origin)
            names = names or _dataset_classes(source)
        else:
            images[split], labels[split] = _pair(source, origin)
    if len({values.dtype.kind in "US" for values in labels.values()}) > 1:
        raise RequestError(
            f"{key}: the labels of one split are strings, of the other integers; give one kind"
        )
    values = list(labels.values())
    fits = names is not None and all(
        v.dtype.kind == "i" and v.min() >= 0 and v.max() < len(names) for v in values
    )
    if names is None or not fits:
        names, values = number_values(values)
    return Labelled(
        names,
        tuple(
            Part(split, numbered, partial(ChosenImages, images[split]))
            for split, numbered in zip(labels, values, strict=True)
        ),
    )


def read_sklearn(name: str) -> Labelled:
    """Return scikit-learn's digits: 1,797 images of 8 × 8 grey pixels, its 17 levels spread over 0..255.

    Raises:
        RequestError: any other name.
    """
    if name != "digits":
        raise unknown_name("scikit-learn data set", name, ["digits"])
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    images = ArrayImages(pixels, "digits")
    part = Part("", digits.target.astype(np.int64), partial(ChosenImages, images))
    return Labelled(tuple(str(digit) for digit in digits.target_names), (part,))


def _as_image(image: Any) -> Any:
    """Float arrays and tensors are ready inputs; 8-bit tensors and channels-first arrays become (H, W, C)."""
    if isinstance(image, Tensor):
        if image.is_floating_point():
            return image.float()
        image = image.numpy()
    if not isinstance(image, np.ndarray):
        return image
    if image.dtype.kind == "f":
        return torch.from_numpy(image).float()
    if image.ndim == 3 and image.shape[2] not in (1, 3, 4) and image.shape[0] in (1, 3, 4):
        return image.transpose(1, 2, 0)
    return image


def _pair(source: Any, origin: str) -> tuple[Images, np.ndarray]:
    if not isinstance(source, (tuple, list)) or len(source) != 2:
        raise RequestError(
            f"{origin}: a {type(source).__name__} is no data source; give a path, a hub id, a torch Dataset, "
            'a pair (images, labels), or {"train": …, "test": …} of these'
        )
    images, labels = source
    if isinstance(images, (np.ndarray, Tensor)):
        kind = str(images.dtype).removeprefix("torch.")
        if kind != "uint8" and not kind.startswith(("float", "bfloat")):
            raise RequestError(
                f"{origin}: images are {kind}; give uint8 (0 to 255), or floats that are ready inputs"
            )
        if kind == "uint8" and images.ndim not in (3, 4):
            raise RequestError(
                f"{origin}: image shape {tuple(images.shape)}; wanted (n, H, W), (n, H, W, C) or (n, C, H, W)"
            )
    elif not (hasattr(images, "__len__") and hasattr(images, "__getitem__")):
        raise RequestError(f"{origin}: a {type(images).__name__} is no array or list of images")
    values = _label_values(labels, origin)
    if len(values) != len(images):
        raise RequestError(f"{origin}: {len(images)} images, but {len(values)} labels; one label an image")
    return ArrayImages(images, origin), values


def _label_values(labels: Any, origin: str) -> np.ndarray:
    values = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if values.ndim != 1 or not len(values):
        raise RequestError(f"{origin}: labels have shape {values.shape}; wanted one a row, (n,), n above 0")
    if values.dtype.kind == "O" and all(isinstance(value, str) for value in values):
        values = values.astype(str)
    if values.dtype.kind not in "iuUS":
        raise RequestError(f"{origin}: labels are {values.dtype}; labels are integers or strings")
    return values.astype(np.int64) if values.dtype.kind in "iu" else values.astype(str)


def _dataset_labels(dataset: Any, origin: str) -> np.ndarray:
    """Labels as the Dataset lists them, where it does and item 0 agrees, else by reading all items."""
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise RequestError(
            f"{origin}: a Dataset without a length cannot be split or counted; give one with __len__"
        )
    if not len(dataset):
        raise RequestError(f"{origin} is empty; it needs rows")
    listed = _listed_labels(dataset)
    if (
        listed is not None
        and len(listed) == len(dataset)
        and int(listed[0]) == int(_item(dataset, 0, origin))
    ):
        return _label_values(listed, origin)
    return _label_values([_item(dataset, index, origin) for index in range(len(dataset))], origin)


def _item(dataset: Any, index: int, origin: str) -> Any:
    try:
        label = dataset[index][1]
    except Exception as error:  # a user's Dataset raises what it likes
        said = f"{type(error).__name__}: {error}"
        raise RequestError(f"{origin}: item {index} is no (image, label): {said}") from error
    return label.item() if isinstance(label, (Tensor, np.generic)) else label


def _listed_labels(dataset: Any) -> Sequence[int] | np.ndarray | None:
    if isinstance(dataset, Subset):
        inner = _listed_labels(dataset.dataset)
        return None if inner is None else np.asarray(inner)[np.asarray(dataset.indices, dtype=np.int64)]
    if getattr(dataset, "target_transform", None) is not None:
        return None
    for name in ("targets", "labels"):
        listed = getattr(dataset, name, None)
        if isinstance(listed, (list, tuple, np.ndarray, Tensor)):
            values = np.asarray(listed)
            return values if values.ndim == 1 and values.dtype.kind in "iu" else None
    return None


def _dataset_classes(dataset: Any) -> tuple[str, ...] | None:
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    classes = getattr(dataset, "classes", None)
    return tuple(map(str, classes)) if isinstance(classes, (list, tuple)) and classes else None
