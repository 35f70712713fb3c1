"""From labels to a DataSet: classes, splits and rows are chosen on labels alone, then images are taken."""

from dataclasses import replace

import numpy as np

from tunnelscope.data.classes import check_classes, check_targets
from tunnelscope.data.dataset import DataSet, Split
from tunnelscope.data.images import ChosenImages, ResizedImages
from tunnelscope.data.labelled import Labelled, Part, canonical
from tunnelscope.data.query import RANDOM, Options, choose_classes
from tunnelscope.data.rows import balanced_rows, first_rows, split_groups, split_rows
from tunnelscope.data.targets import strata, told
from tunnelscope.errors import RequestError
from tunnelscope.tasks import CLASSIFICATION


def assemble(labelled: Labelled, key: str, source: str, options: Options, seed: int) -> DataSet:
    """Choose classes, splits and rows, in this order, and say so in the notes.

    Raises:
        RequestError: an unknown class, fewer than 2 classes left to fit, an empty split, or labels of another
            task than was asked for.
    """
    names, task, notes = labelled.class_names, labelled.task, list(labelled.notes)
    if options.task not in (None, task):
        raise RequestError(
            f"{key}: task={options.task} takes columns of integers or floats (parquet, hub) as numbers "
            f"to predict; these labels ask for {task}: leave it out, or choose other labels"
        )
    chosen, said, warnings = _chosen_classes(labelled, options, key, seed)
    notes += said
    new_label = np.full(len(names), -1, dtype=np.int64)
    new_label[chosen] = np.arange(len(chosen))

    parts = labelled.parts
    rows = [_rows_of(part, new_label, task) for part in parts]
    if len(parts) == 1:
        only = parts[0]
        rows, said = _cut(only, rows[0], options, task, seed, key)
        parts = (only, only)
        notes.append(said)
        scores = "accuracies" if task == CLASSIFICATION else "scores"
        warnings.append(f"{said}; {scores} are read on that part, not on an official test split")

    splits = []
    for role, part, part_rows in zip(("train", "test"), parts, rows, strict=True):
        taken, said = _choose_rows(part, part_rows, options, task, seed, f"{key}: the {role} split")
        notes += [f"{role}: {words}" for words in said]
        labels = new_label[part.labels[taken]] if task == CLASSIFICATION else part.labels[taken]
        splits.append(_split(part, taken, labels, options, key))
    if options.size:
        notes.append(f"images resized to {options.size} × {options.size} on reading")
    class_names = tuple(names[index] for index in chosen)
    warnings += _label_warnings(splits[0], splits[1], class_names, task, key)
    warnings += _group_warnings(splits[0], splits[1], options.group)
    return DataSet(
        key,
        source,
        splits[0],
        splits[1],
        class_names,
        notes=tuple(notes),
        class_indices=tuple(chosen),
        source_classes=len(names),
        warnings=tuple(warnings),
        task=task,
    )


def _chosen_classes(
    labelled: Labelled, options: Options, key: str, seed: int
) -> tuple[list[int], list[str], list[str]]:
    """The classes (targets, labels) that are kept, notes and warnings on them."""
    names = labelled.class_names
    everything = list(range(len(names)))
    if labelled.task != CLASSIFICATION:
        asked = next((name for name in ("classes", "per_class") if getattr(options, name)), None)
        if asked:
            raise RequestError(
                f"{key}: {asked}= is for classes; the task here is {labelled.task}, leave it out"
            )
        return everything, *told(labelled.task, names, [part.labels for part in labelled.parts])
    if not options.classes:
        return everything, [], []
    chosen = choose_classes(options.classes, names, key, seed, options.draw or 1)
    if len(chosen) == len(names):
        return chosen, [], []
    shown = ", ".join(names[index] for index in chosen[:10]) + (", …" if len(chosen) > 10 else "")
    drawn = f", draw {options.draw or 1}, seed {seed}" if RANDOM.fullmatch(options.classes[0]) else ""
    return chosen, [f"classes: {len(chosen)} of {len(names)} ({shown}){drawn}"], []


def _rows_of(part: Part, new_label: np.ndarray, task: str) -> np.ndarray:
    """The rows of the chosen classes; all rows of another task."""
    if task != CLASSIFICATION:
        return np.arange(len(part.labels))
    return np.flatnonzero(new_label[part.labels] >= 0)


def _label_warnings(
    train: Split, test: Split, names: tuple[str, ...], task: str, key: str
) -> tuple[str, ...]:
    """A warning for each way in which the splits' labels differ, or tell nothing."""
    if task == CLASSIFICATION:
        return check_classes(train.labels, test.labels, names, key)
    return check_targets(train.labels, test.labels, names, key, task)


def fewer_rows(data: DataSet, max_samples: int, seed: int) -> DataSet:
    """Return the same set with at most `max_samples` rows a split, balanced by class."""
    notes, splits = list(data.notes), {}
    for role, split in (("train", data.train), ("test", data.test)):
        splits[role] = split
        if len(split) > max_samples:
            rows = balanced_rows(strata(split.labels, data.task), max_samples, seed)
            splits[role] = take_rows(split, rows)
            notes.append(f"{role}: {_fewer(max_samples, len(split), data.task, seed)}")
    train, test = splits["train"], splits["test"]
    doubts = _label_warnings(train, test, data.class_names, data.task, data.key)
    return replace(
        data,
        train=train,
        test=test,
        notes=tuple(notes),
        warnings=tuple(dict.fromkeys([*data.warnings, *doubts])),
        stamp=data.stamp and f"{data.stamp} {max_samples} {seed}",
    )


def take_rows(split: Split, rows: np.ndarray) -> Split:
    """Return some rows of a split, in the order given, (n,) int64."""
    groups = None if split.groups is None else split.groups[rows]
    chosen = ChosenImages(split.images, rows)
    return replace(split, images=chosen, labels=split.labels[rows], groups=groups)


def _cut(
    part: Part, rows: np.ndarray, options: Options, task: str, seed: int, key: str
) -> tuple[list[np.ndarray], str]:
    """Cut the chosen rows of the only split into training and test rows, and say by what rule."""
    labels = strata(part.labels[rows], task)
    if part.groups is None:
        train, test = split_rows(labels, seed)
        alone = "each class has a single row" if task == CLASSIFICATION else "there is a single row"
    else:
        train, test = split_groups(labels, part.groups[rows], seed)
        alone = "no group can be spared from the training rows"
    if len(rows) and not len(test):
        raise RequestError(
            f"{key}: the test split is empty, {alone}; give more rows, or a test split of its own"
        )
    is_chosen = options.split or (part.name and canonical(part.name) not in (None, "train"))
    why = f"only the {part.name} split" if is_chosen else "no test split"
    whole = f", whole groups of {options.group}" if options.group else ""
    of = "each class" if task == CLASSIFICATION else "the rows"
    return [rows[train], rows[test]], f"{why}: 20 % of {of}{whole}, seed {seed}"


def _group_warnings(train: Split, test: Split, column: str | None) -> list[str]:
    if train.groups is None or test.groups is None:
        return []
    shared = np.intersect1d(train.groups, test.groups)
    if not len(shared):
        return []
    return [
        f"{len(shared)} groups of {column} are in both splits; test accuracies are too high for new groups"
    ]


def _choose_rows(
    part: Part, rows: np.ndarray, options: Options, task: str, seed: int, place: str
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
        notes.append(_fewer(options.max_samples, len(rows), task, seed))
        rows = rows[balanced_rows(strata(part.labels[rows], task), options.max_samples, seed)]
    return rows, notes


def _fewer(count: int, of: int, task: str, seed: int) -> str:
    how = "balanced by class" if task == CLASSIFICATION else "drawn at random"
    return f"{count:,} of {of:,} rows, {how}, seed {seed}"


def _split(part: Part, rows: np.ndarray, labels: np.ndarray, options: Options, key: str) -> Split:
    images = part.read(rows)
    groups = None if part.groups is None else part.groups[rows]
    split = Split(images, labels, groups, options.max_length)
    if options.size and split.kind == "texts":
        raise RequestError(f"size= is for images; {key} holds texts, leave it out or say max_length=TOKENS")
    if options.max_length and split.kind == "images":
        raise RequestError(f"max_length= is for texts; {key} holds images, leave it out or say size=PIXELS")
    return replace(split, images=ResizedImages(images, options.size)) if options.size else split
