"""Sequences of images that are decoded only when one is asked for."""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from tunnelscope.data.dataset import Images
from tunnelscope.data.sniff import looks_like
from tunnelscope.data.transforms import as_eight_bit
from tunnelscope.errors import RequestError, TunnelscopeError

# A photo of 100 megapixels is no attack; one of 180 or more stays an error, which is one line.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def place_of(images: Images, index: int) -> str:
    """Say which image that is: `row 17 of cifar10 (train)`, or its path."""
    says: Callable[[int], str] | None = getattr(images, "place", None)
    return says(index) if says else f"image {index}"


HEADS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"RIFF": "WEBP"}


@contextmanager
def naming(images: Images, index: int) -> Iterator[None]:
    """Make an error in the block say which image it is about; a user's Dataset raises what it likes."""
    try:
        yield
    except (MemoryError, UnreadableImage):
        raise
    except Exception as error:
        place = place_of(images, index)
        said = str(error) if isinstance(error, RequestError) else f"{type(error).__name__}: {error}"
        raise RequestError(said if said.startswith(place) else f"{place}: {said}") from error


class UnreadableImage(RequestError):
    """One image that is damaged, empty or not there; `--skip-corrupt` leaves it out.

    Args:
        said: which image and why, without advice.
    """

    def __init__(self, said: str) -> None:
        self.said = said
        super().__init__(f"{said}; mend or remove it, or leave such images out with --skip-corrupt")


class EncodedImages:
    """Rows of an Arrow column that holds encoded images: binary, or struct {bytes, path}.

    Args:
        column: one entry an image.
        rows: each entry's row number in its split, for messages, (n,).
        origin: the set and split, for messages.
        folder: what relative paths in the column are relative to.
    """

    def __init__(
        self, column: pa.ChunkedArray, rows: np.ndarray, origin: str, folder: Path | None = None
    ) -> None:
        self.column, self.rows, self.origin, self.folder = column, rows, origin, folder
        self._is_struct = pa.types.is_struct(column.type)

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, index: int) -> Image.Image:
        data = self._data(index)
        if data is None:
            raise UnreadableImage(f"{self.place(index)} holds no image (null)")
        return decode(data, self.place(index))

    def place(self, index: int) -> str:
        """Say which image that is."""
        return f"row {self.rows[index]} of {self.origin}"

    def _data(self, index: int) -> bytes | Path | None:
        entry = self.column[index].as_py()
        if not self._is_struct or entry is None:
            return entry
        if entry["bytes"] is not None:
            return entry["bytes"]
        path = entry.get("path")
        return None if path is None else (self.folder or Path()) / path


class ImageFiles:
    """Images in files of their own."""

    def __init__(self, paths: Sequence[Path], origin: str) -> None:
        self.paths, self.origin = paths, origin

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:
        return decode(self.paths[index], self.place(index))

    def place(self, index: int) -> str:
        """Say which image that is."""
        return f"{self.paths[index]} of {self.origin}"


class ChosenImages:
    """Some rows of other images, in the order given."""

    def __init__(self, images: Images, rows: np.ndarray, origin: str | None = None) -> None:
        self.images, self.rows, self.origin = images, rows, origin

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.images[int(self.rows[index])]

    def place(self, index: int) -> str:
        """Say which image that is."""
        row = int(self.rows[index])
        return f"image {row} of {self.origin}" if self.origin else place_of(self.images, row)


class ResizedImages:
    """Other images, each resized to size × size pixels (bicubic, aspect not kept) when it is read."""

    def __init__(self, images: Images, size: int) -> None:
        self.images, self.size = images, size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Image.Image:
        image = self.images[index]
        if isinstance(image, torch.Tensor):
            raise RequestError(f"{self.place(index)} is a ready model input; size= is for images")
        return as_eight_bit(image).resize((self.size, self.size), Image.Resampling.BICUBIC)

    def place(self, index: int) -> str:
        """Say which image that is."""
        return place_of(self.images, index)


def decode(data: bytes | Path, place: str) -> Image.Image:
    """Decode one image. It is not turned by its EXIF orientation: timm and torchvision do not turn it either.

    Raises:
        UnreadableImage: what Pillow said, and what the data looks like instead.
    """
    try:
        encoded = data if isinstance(data, bytes) else data.read_bytes()
        image = Image.open(BytesIO(encoded), formats=_formats(encoded))
        image.load()
        return image
    except (TunnelscopeError, MemoryError):
        raise
    except Exception as error:  # Pillow's plugins raise whatever a broken file makes them raise
        raise UnreadableImage(f"{place}: the image cannot be decoded: {_reason(error, data)}") from error


def _formats(encoded: bytes) -> tuple[str, ...] | None:
    """What Pillow needs to try, by the first bytes; to try all it knows takes as long as to decode."""
    known = (name for head, name in HEADS.items() if encoded.startswith(head))
    name = next(known, None)
    return None if name is None or (name == "WEBP" and encoded[8:12] != b"WEBP") else (name,)


def _reason(error: Exception, data: bytes | Path) -> str:
    if isinstance(error, FileNotFoundError):
        return f"no file {data}"
    said = re.sub(r" <_io\.BytesIO object at \w+>| '[^']*'$", "", str(error)) or type(error).__name__
    if not said.startswith("cannot identify"):
        return said
    try:
        head = data[:512] if isinstance(data, bytes) else data.open("rb").read(512)
    except OSError:
        return said
    return f"{said}: it looks like {looks_like(head).replace('an empty file', 'no data at all')}"


def as_image(image: Any) -> Any:
    """Return what a user's sequence holds in one of the forms that the loader takes.

    Float arrays and tensors are ready inputs and become float32 tensors; 8-bit tensors and channels-first
    arrays become arrays (H, W, C); anything else (PIL images, arrays (H, W[, C])) stays what it is.
    """
    if isinstance(image, torch.Tensor):
        if image.is_floating_point():
            return image.float()
        image = image.cpu().numpy()
    if not isinstance(image, np.ndarray):
        return image
    if image.dtype.kind == "f":
        return torch.from_numpy(image).float()
    if image.ndim == 3 and image.shape[2] not in (1, 3, 4) and image.shape[0] in (1, 3, 4):
        return image.transpose(1, 2, 0)
    return image
