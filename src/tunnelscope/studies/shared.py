"""Decoded data that all workers of a machine map into memory: a set is decoded once for a whole study."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from tunnelscope.data import DataSet, Split, load_data
from tunnelscope.data.images import naming
from tunnelscope.data.transforms import as_eight_bit
from tunnelscope.files import write_whole
from tunnelscope.store import key_of
from tunnelscope.tasks import CLASSIFICATION

FOLDER = "data"  # of a study, for decoded sets
MOST_BYTES = 2 * 2**30  # of a split; larger ones are decoded as they are read
LARGEST_SIDE = 128  # of images that are kept decoded
KEY_LENGTH = 24


class Mapped:
    """Decoded images of one shape as uint8 arrays (H, W[, C]), in a file that processes share."""

    def __init__(self, path: Path):
        self.path = path
        self.images = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> np.ndarray:
        return np.asarray(self.images[index])


def shared_data(
    source: str, name: str, study: Path, announce: Callable[[str], None] = lambda line: None
) -> DataSet:
    """A data set under its name in the study, its images mapped from a decoded copy where that can be.

    Sets in memory already, texts, and images that are large or of several shapes stay as they are.

    Args:
        source: as for `ts.load_data`.
        study: folder of the study, which keeps the copy.
    """
    told = replace(load_data(source), key=name)
    if not told.stamp or told.task != CLASSIFICATION:
        return told
    parts = {}
    for role in ("train", "test"):
        split: Split = getattr(told, role)
        path = study / FOLDER / f"{key_of(source, told.stamp, role)[:KEY_LENGTH]}.npy"
        mapped = _mapped(
            split, path, lambda role=role: announce(f"decoding {name} ({role}) for the whole study")
        )
        if mapped is None:
            return told
        parts[role] = replace(split, images=mapped)
    return replace(told, **parts)


def _mapped(split: Split, path: Path, announce: Callable[[], None]) -> Mapped | None:
    """A split's decoded copy, made where it is not there; None where there can be none."""
    if path.exists():
        return Mapped(path)
    if not _can_be_kept(split):
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"), suppress(_Uneven):
        if not path.exists():
            announce()
            write_whole(path, lambda partial: _write(split, partial))
        return Mapped(path)
    return None


class _Uneven(Exception):
    """Images of several shapes."""


def _can_be_kept(split: Split) -> bool:
    first = _pixels(split, 0)
    return (
        first is not None and max(first.shape[:2]) <= LARGEST_SIDE and first.nbytes * len(split) <= MOST_BYTES
    )


def _pixels(split: Split, index: int) -> np.ndarray | None:
    with naming(split.images, index):
        image: Any = split.images[index]
        return None if isinstance(image, str) or hasattr(image, "detach") else np.asarray(as_eight_bit(image))


def _write(split: Split, partial: Path) -> None:
    first = _pixels(split, 0)
    assert first is not None
    with partial.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(split), *first.shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for index in range(len(split)):
            pixels = _pixels(split, index)
            if pixels is None or pixels.shape != first.shape or pixels.dtype != np.uint8:
                raise _Uneven
            file.write(np.ascontiguousarray(pixels).data)
        file.flush()
        os.fsync(file.fileno())
