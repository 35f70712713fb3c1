"""Class folders: `train/<class>/*.jpg` beside `test` or `val`, or one level of class folders."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from tunnelscope.data.dataset import Images
from tunnelscope.data.images import ImageFiles
from tunnelscope.data.labelled import Labelled, Part, canonical
from tunnelscope.errors import RequestError

EXTENSIONS = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".png",
        ".webp",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".jp2",
        ".avif",
    )
)


def find_splits(path: Path) -> dict[str, Path]:
    """Return the folders that hold class folders, by split; the empty name when there is a single level.

    Empty when there are no class folders with images in them.
    """
    named = {folder.name: folder for folder in _folders(path) if canonical(folder.name)}
    splits = {name: folder for name, folder in named.items() if _has_classes(folder)}
    if splits:
        return splits
    return {"": path} if _has_classes(path) else {}


def read_folders(splits: dict[str, Path], key: str, listed: Callable[[int], None]) -> Labelled:
    """List the image files of each class, sorted; a class is a folder with at least one image in it.

    Args:
        splits: the one or two that are used, by name.
        key: the set, for messages.
        listed: told how many files were just listed.
    """
    found = {
        name: {folder.name: _image_files(folder, listed) for folder in _folders(path)}
        for name, path in splits.items()
    }
    filled = {name for classes in found.values() for name, files in classes.items() if files}
    class_names = tuple(sorted(filled))
    parts = []
    for split, classes in found.items():
        files = [classes.get(name, []) for name in class_names]
        paths = [path for one_class in files for path in one_class]
        labels = np.repeat(np.arange(len(class_names)), [len(one_class) for one_class in files]).astype(
            np.int64
        )
        parts.append(Part(split, labels, partial(_read_images, paths, f"{key} ({split})" if split else key)))
    notes = [f"labels: the names of {len(class_names)} class folders"]
    empty = sorted({name for classes in found.values() for name in classes} - filled)
    if empty:
        notes.append(f"folders without images left out: {', '.join(empty)}")
    return Labelled(class_names, tuple(parts), tuple(notes))


def no_data_in(path: Path) -> RequestError:
    """Say what a folder holds that is neither parquet nor class folders."""
    entries = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in path.iterdir())
    loose = [name for name in entries if Path(name).suffix.lower() in EXTENSIONS]
    if loose:
        return RequestError(
            f"{path} holds images ({loose[0]}, …) but no class folders; sort them into <class>/ folders, at "
            "least two of them"
        )
    shown = ", ".join(entries[:6]) + (", …" if len(entries) > 6 else "") if entries else "nothing"
    return RequestError(
        f"{path} holds neither parquet files, class folders of images nor tar shards, but: {shown}; "
        "wanted: train-*.parquet, or <class>/*.jpg, or train/<class>/*.jpg, or train-*.tar"
    )


def _read_images(paths: list[Path], origin: str, rows: np.ndarray) -> Images:
    return ImageFiles([paths[row] for row in rows], origin)


def _has_classes(path: Path) -> bool:
    return any(next(_images_below(folder), None) for folder in _folders(path))


def _folders(path: Path) -> list[Path]:
    return sorted(
        entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__"))
    )


def _image_files(folder: Path, listed: Callable[[int], None]) -> list[Path]:
    files = sorted(_images_below(folder))
    listed(len(files))
    return files


def _images_below(folder: Path):
    for entry in folder.rglob("*"):
        if entry.suffix.lower() in EXTENSIONS and not entry.name.startswith(".") and entry.is_file():
            yield entry
