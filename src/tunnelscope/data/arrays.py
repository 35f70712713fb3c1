"""Data that is in memory already: arrays, lists of images, torch Datasets, scikit-learn's digits."""

from functools import partial
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from tunnelscope.data.dataset import Images, Split
from tunnelscope.data.images import ChosenImages, as_image, naming
from tunnelscope.data.labelled import Labelled, Part, number_labels
from tunnelscope.data.torch_data import DatasetImages, dataset_classes, dataset_labels
from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.tasks import CLASSIFICATION


class ArrayImages:
    """The images of an array (n, …) or any sequence: uint8 (H, W[, C]) or (C, H, W), floats, PIL images."""

    def __init__(self, images: Any, origin: str) -> None:
        self.images, self.origin = images, origin
        self.are_texts = type(images) in (list, tuple) and isinstance(images[0], str)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return as_image(self.images[index])

    def place(self, index: int) -> str:
        """Say which image or text that is."""
        return f"{'text' if self.are_texts else 'image'} {index} of {self.origin}"


def as_split(images: Any) -> Split:
    """Return images as they come, to be read without a test split.

    Args:
        images: a Split; a torch Dataset; floats that are ready inputs (n, C, H, W) or (n, d); uint8
            (n, H, W[, C]) or (n, C, H, W); a list of PIL images or of texts; or a tuple (images, labels).
            Labels are 0 where none are given.

    Raises:
        RequestError: what is none of these, or is empty.
    """
    if isinstance(images, Split):
        return images
    if isinstance(images, Dataset):
        read = DatasetImages(images, type(images).__name__)
        return Split(read, np.zeros(len(read), dtype=np.int64))
    if isinstance(images, tuple) and len(images) == 2:
        part = read_parts({"": images}, "images").parts[0]
        return Split(part.read(np.arange(len(part.labels))), part.labels)
    is_texts = isinstance(images, list) and bool(images) and isinstance(images[0], str)
    read = _array_images(images, "texts" if is_texts else "images")
    return Split(read, np.zeros(len(read), dtype=np.int64))


def read_parts(parts: dict[str, Any], key: str) -> Labelled:
    """Label one or two splits, each a torch Dataset or a pair (images, labels).

    Integer and string labels are numbered in sorted order over both splits; a torchvision-like Dataset's
    `classes` name them. Floats are numbers to predict, a matrix of 0 and 1 is several labels a row.

    Raises:
        RequestError: what is neither, unequal lengths, labels of another kind.
    """
    images: dict[str, Images] = {}
    labels: list[np.ndarray] = []
    names = None
    for split, source in parts.items():
        origin = f"{key} ({split})" if split else key
        if isinstance(source, Dataset):
            images[split] = DatasetImages(source, origin)
            values = label_values(dataset_labels(source, origin), origin)
            names = names or dataset_classes(source)
        else:
            images[split], values = _pair(source, origin)
        labels.append(values)
    task = CLASSIFICATION
    if names is None or not all(_are_numbers_of(values, names) for values in labels):
        task, names, labels = number_labels(labels, names, key)
    notes = ()
    first = next(iter(images.values()))
    with naming(first, 0):
        is_ready = isinstance(first[0], Tensor)
    if is_ready:
        notes = ("images are floats: taken as ready inputs, without preprocessing",)
    cut = [
        Part(split, values, partial(ChosenImages, images[split]))
        for split, values in zip(images, labels, strict=True)
    ]
    return Labelled(names, tuple(cut), notes, task)


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


def _are_numbers_of(labels: np.ndarray, names: tuple[str, ...]) -> bool:
    return (
        labels.ndim == 1
        and labels.dtype.kind == "i"
        and int(labels.min()) >= 0
        and int(labels.max()) < len(names)
    )


def _pair(source: Any, origin: str) -> tuple[Images, np.ndarray]:
    if not isinstance(source, (tuple, list)) or len(source) != 2:
        raise RequestError(
            f"{origin}: a {type(source).__name__} is no data source; give a path, a hub id, a torch Dataset, "
            'a pair (images, labels), or {"train": …, "test": …} of these'
        )
    images, values = _array_images(source[0], origin), label_values(source[1], origin)
    if len(values) != len(images):
        raise RequestError(f"{origin}: {len(images)} images, but {len(values)} labels; one label an image")
    return images, values


def _array_images(images: Any, origin: str) -> Images:
    if isinstance(images, (np.ndarray, Tensor)):
        kind = str(images.dtype).removeprefix("torch.")
        if kind != "uint8" and not kind.startswith(("float", "bfloat")):
            raise RequestError(f"{origin}: {kind} images; give uint8 (0 to 255), or floats as ready inputs")
        if images.ndim not in ((3, 4) if kind == "uint8" else (2, 3, 4)):
            wanted = (
                "(n, H, W), (n, H, W, C) or (n, C, H, W)" if kind == "uint8" else "(n, C, H, W) or (n, d)"
            )
            raise RequestError(f"{origin}: images of shape {tuple(images.shape)}; wanted {wanted}")
    elif isinstance(images, (str, dict)) or not (
        hasattr(images, "__len__") and hasattr(images, "__getitem__")
    ):
        raise RequestError(
            f"{origin}: a {type(images).__name__} is no array, list of images or torch Dataset"
        )
    if not len(images):
        raise RequestError(f"{origin}: there are no images; at least one is needed")
    return ArrayImages(images, origin)


def label_values(labels: Any, origin: str) -> np.ndarray:
    """Labels as an array: int64 or strings (n,), classes; floats (n,) or (n, t), numbers; 0 and 1 (n, C).

    Raises:
        RequestError: anything else.
    """
    values = labels.detach().cpu() if isinstance(labels, Tensor) else labels
    try:
        values = values.numpy() if isinstance(values, Tensor) else np.asarray(values)
    except (TypeError, ValueError) as error:  # bfloat16; rows of different lengths
        said = " ".join(str(error).split())
        raise RequestError(f"{origin}: labels are no array ({said}); give (n,) or (n, columns)") from error
    if values.ndim not in (1, 2) or 0 in values.shape:
        raise RequestError(
            f"{origin}: labels have shape {values.shape}; wanted one class a row, (n,), or several numbers "
            "or labels, (n, columns)"
        )
    if values.dtype.kind in "OT" and all(isinstance(value, str) for value in values.flat):
        values = values.astype(str)
    is_known = values.dtype.kind in ("iuUf" if values.ndim == 1 else "iubf")
    if not is_known:
        raise RequestError(
            f"{origin}: labels are {values.dtype}; classes are integers or strings (n,), numbers to predict "
            "floats, several labels a row 0 or 1 (n, labels)"
        )
    return values.astype(np.int64) if values.dtype.kind in "iu" else values
