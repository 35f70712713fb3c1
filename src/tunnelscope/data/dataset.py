"""A labelled set of images or texts with a train and a test split, and the fingerprint of what is in it."""

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from tunnelscope.data.transforms import as_eight_bit
from tunnelscope.errors import RequestError
from tunnelscope.tasks import CLASSIFICATION, REGRESSION


class Images(Protocol):
    """Images by number: a PIL image, a uint8 array (H, W[, C]), or a float tensor: a ready model input.

    Or texts, each a string. A sequence may also have `place(index) -> str`, which says in words which one
    that is, and `kind`, what its items are called where they are neither.
    """

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """Return one image, decoded now."""
        ...


@dataclass(frozen=True)
class Split:
    """Images or texts and the labels of each.

    Args:
        labels: the class, counted from 0, int64 (n,); for regression numbers, float64 (n, t); of several
            labels a row whether each is there, int64 (n, C).
        groups: what each item belongs to (a patient, a video), numbered, int64 (n,), where `group=` says so.
        max_length: tokens of a text to be read, where `max_length=` says it.
    """

    images: Images
    labels: np.ndarray
    groups: np.ndarray | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise RequestError(
                f"{len(self.images)} images, but {len(self.labels)} labels; one label an image"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def kind(self) -> str:
        """What the items are: "images" or "texts"; "rows" of features."""
        if isinstance(kind := getattr(self.images, "kind", None), str):
            return kind
        try:
            return "texts" if isinstance(self.images[0], str) else "images"
        except Exception:  # a damaged image, which is named (or left out) when the split is read
            return "images"


@dataclass(frozen=True)
class DataSet:
    """A labelled set with its official splits, or those of the stated rule.

    Args:
        key: its name in every table.
        source: what the user wrote.
        train: what probes are fitted on.
        test: what they are scored on, once.
        class_names: by label; labels run from 0 to len(class_names) − 1. For other tasks the names of the
            targets or labels, by column.
        notes: the choices made on the way (label column, split rule, rows chosen), to be shown.
        class_indices: for each class its number before `classes=` chose some; empty when not known.
        source_classes: how many classes there were before; 0 when not known.
        stamp: changes whenever the files that the set comes from do, or what was chosen of them; empty for
            data in memory and from a hub.
        warnings: what makes the accuracies read on it doubtful; shown, and kept with the results.
        draw: which of several draws of its classes it is, counted from 1; 0 where there are none.
        draw_of: the key that its draws share in a scan; empty where there are none.
        task: what the labels ask for: "classification", "regression" or "multi-label".
    """

    key: str
    source: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    class_indices: tuple[int, ...] = ()
    source_classes: int = 0
    warnings: tuple[str, ...] = ()
    stamp: str = ""
    draw: int = 0
    draw_of: str = ""
    task: str = CLASSIFICATION

    @property
    def chance(self) -> float:
        """What a probe scores that knows nothing: 1 / classes, R² 0, the mean share of rows with a label."""
        if self.task == CLASSIFICATION:
            return 1 / len(self.class_names)
        shares = self.test.labels.mean(axis=0)
        return 0.0 if self.task == REGRESSION else float(shares[(shares > 0) & (shares < 1)].mean())


class Fingerprint:
    """SHA-256 over the digests of decoded images, or texts, and labels in order, taken as they pass.

    Two sets with the same pixels and labels in the same order have the same fingerprint, whatever file format
    or colour mode holds them: palettes are resolved, transparency is dropped, (H, W, 1) is (H, W).

    Attributes:
        digests: 16 bytes for each item alone, without its label.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.digests = bytearray()

    def update(self, item: Any, label: Any) -> None:
        """Add the next image (PIL image, uint8 array or float tensor) or text, and its label or labels."""
        self.add(digest_of(item), label)

    def add(self, digest: bytes, label: Any) -> None:
        """Add the next item by what `digest_of` gives for it, and its label or labels."""
        said = int(label) if np.ndim(label) == 0 else np.ascontiguousarray(label).tobytes().hex()
        self._hash.update(digest + f" {said}\n".encode())
        self.digests += digest[:16]

    def hexdigest(self) -> str:
        """Return the fingerprint of what has passed so far, 64 hexadecimal digits."""
        return self._hash.hexdigest()


def digest_of(item: Any) -> bytes:
    """SHA-256 of what an image (PIL image, uint8 array or float tensor) shows, or of a text, 32 bytes."""
    if isinstance(item, str):
        return hashlib.sha256(item.encode("utf-8", "surrogatepass")).digest()
    if isinstance(item, torch.Tensor):
        pixels = item.detach().cpu().to(torch.float32).numpy()
    else:
        pixels = np.asarray(as_eight_bit(item))
    digest = hashlib.sha256(f"{pixels.dtype} {pixels.shape}\n".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()
