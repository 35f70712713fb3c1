"""From labels to a DataSet: classes, splits and rows are chosen on labels alone, then images are taken."""

from dataclasses import replace

import numpy as np

from tunnelscope.data.dataset import DataSet, Images, Split
from tunnelscope.data.images import ChosenImages, ResizedImages
from tunnelscope.data.labelled import Labelled, Part, canonical
from tunnelscope.data.query import Options, choose_classes
from tunnelscope.data.rows import balanced_rows, first_rows, split_rows
from tunnelscope.errors import RequestError


def assemble(labelled: Labelled, key: str, source: str, options: Options, seed: int) -> DataSet:
    """Choose classes, splits and rows, in this order, and say so in the notes.

    Raises:
        RequestError: an unknown class, fewer than 2 classes left to fit, or an empty split.
    """
    names, notes = labelled.class_names, list(labelled.notes)
    chosen = choose_classes(options.classes, names, key) if options.classes else list(range(len(names)))
    if len(chosen) < len(names):
        shown = ", ".join(names[index] for index in chosen[:10]) + (", …" if len(chosen) > 10 else "")
        notes.append(f"classes: {len(chosen)} of {len(names)} ({shown})")
    new_label = np.full(len(names), -1, dtype=np.int64)
    new_label[chosen] = np.arange(len(chosen))

    parts = labelled.parts
    rows = [np.flatnonzero(new_label[part.labels] >= 0) for part in parts]
    if len(parts) == 1:
        only = parts[0]
        train, test = split_rows(only.labels[rows[0]], seed)
        parts, rows = (only, only), [rows[0][train], rows[0][test]]
        is_chosen = options.split or (only.name and canonical(only.name) not in (None, "train"))
        why = f"only the {only.name} split" if is_chosen else "no test split"
        notes.append(f"{why}: 20 % of each class, seed {seed}")

    splits = []
    for role, part, part_rows in zip(("train", "test"), parts, rows, strict=True):
        taken, said = _choose_rows(part, part_rows, options, seed, f"{key}: the {role} split")
        notes += [f"{role}: {words}" for words in said]
        splits.append(_split(part.read(taken), new_label[part.labels[taken]], options, key))
    present = len(np.unique(splits[0].labels))
    if present < 2:
        only_class = names[chosen[int(splits[0].labels[0])]]
        raise RequestError(
            f"{key}: {only_class} is the only class in the training rows; a probe needs at least 2"
        )
    if options.size:
        notes.append(f"images resized to {options.size} × {options.size} on reading")
    class_names = tuple(names[index] for index in chosen)
    return DataSet(key, source, splits[0], splits[1], class_names, tuple(notes), tuple(chosen), len(names))


def fewer_rows(data: DataSet, max_samples: int, seed: int) -> DataSet:
    """Return the same set with at most `max_samples` rows a split, balanced by class."""
    notes, splits = list(data.notes), {}
    for role, split in (("train", data.train), ("test", data.test)):
        splits[role] = split
        if len(split) > max_samples:
            rows = balanced_rows(split.labels, max_samples, seed)
            chosen = ChosenImages(split.images, rows)
            splits[role] = replace(split, images=chosen, labels=split.labels[rows])
            notes.append(f"{role}: {_fewer(max_samples, len(split), seed)}")
    return replace(data, train=splits["train"], test=splits["test"], notes=tuple(notes))


def _choose_rows(
    part: Part, rows: np.ndarray, options: Options, seed: int, place: str
) -> tuple[np.ndarray, list[str]]:
    if not len(rows):
        raise RequestError(
            f"{place} is empty: it has no rows of the chosen classes (see classes= and split=)"
        )
    notes = []
    if options.per_class is not None:
        rows = rows[first_rows(part.labels[rows], options.per_class)]
        notes.append(f"the first {options.per_class:,} rows of each class, {len(rows):,} in all")
    if options.max_samples is not None and len(rows) > options.max_samples:
        notes.append(_fewer(options.max_samples, len(rows), seed))
        rows = rows[balanced_rows(part.labels[rows], options.max_samples, seed)]
    return rows, notes


def _fewer(count: int, of: int, seed: int) -> str:
    return f"{count:,} of {of:,} rows, balanced by class, seed {seed}"


def _split(images: Images, labels: np.ndarray, options: Options, key: str) -> Split:
    split = Split(images, labels, options.max_length)
    if options.size and split.kind == "texts":
        raise RequestError(f"size= is for images; {key} holds texts, leave it out or say max_length=TOKENS")
    if options.max_length and split.kind == "images":
        raise RequestError(f"max_length= is for texts; {key} holds images, leave it out or say size=PIXELS")
    return replace(split, images=ResizedImages(images, options.size)) if options.size else split
