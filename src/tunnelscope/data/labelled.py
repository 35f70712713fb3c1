"""What every source gives before rows are chosen: class names, and per split labels and a way to images."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tunnelscope.data.dataset import Images
from tunnelscope.data.targets import are_targets, read_targets
from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.tasks import CLASSIFICATION


@dataclass(frozen=True)
class Part:
    """One split before rows are chosen.

    Args:
        name: the split's own name, empty when it has none.
        labels: over all class names of the set, (n,) int64; of other tasks as a `Split` has them.
        read: gives the images of the rows asked for, none of them decoded yet.
        groups: of each row, (n,) int64, numbered over all splits; None where no column was asked for.
    """

    name: str
    labels: np.ndarray
    read: Callable[[np.ndarray], Images]
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class Labelled:
    """Class names, the training part, and the test part where there is one.

    Args:
        task: what the labels ask for; of other tasks than classification `class_names` are the names of the
            targets or labels.
    """

    class_names: tuple[str, ...]
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    task: str = CLASSIFICATION


@dataclass(frozen=True)
class Roles:
    """The split to fit on, the one to read on (none: it is cut from the first), and what was decided."""

    train: str
    test: str | None
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The splits that are used."""
        return (self.train,) if self.test is None else (self.train, self.test)


_ALIASES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}


def canonical(name: str) -> str | None:
    """Return train, test or validation for the usual spellings of a split's name, None for any other word."""
    return _ALIASES.get(name.lower())


def split_name(path: Path) -> str:
    """Return the split that a shard's path inside its folder tells, empty when it tells none.

    It is a word of the path (`train-00000-of-00002.parquet`, `text/train/0000.parquet`) or what stands before
    the shard's number (`extra-00000-of-00001.parquet`).
    """
    for part in reversed([*path.parts[:-1], path.stem]):
        for word in re.split(r"[^A-Za-z]+", part):
            if canonical(word):
                return canonical(word) or ""
    shard = re.fullmatch(r"(.+)-\d+-of-\d+", path.stem)
    return shard[1] if shard else ""


def group_shards(files: Iterable[Path], root: Path) -> dict[str, list[Path]]:
    """Return shards by split, in order; hidden files and those in hidden folders are left out."""
    splits: dict[str, list[Path]] = {}
    for file in sorted(files):
        inside = file.relative_to(root)
        if not any(part.startswith(".") for part in inside.parts):
            splits.setdefault(split_name(inside), []).append(file)
    return splits


def choose_roles(names: Sequence[str], wanted: Sequence[str], key: str) -> Roles:
    """Decide which split is fitted on and which is read.

    Args:
        names: the splits there are; the empty name is a split without one.
        wanted: `split=`: none, one (then cut by the rule), or two.
        key: the set, for messages.

    Raises:
        RequestError: an unknown split, or no training split and none chosen.
    """
    if wanted:
        chosen = [_find(name, names, key) for name in wanted]
        if len(set(chosen)) < len(chosen):
            raise RequestError(
                f"{key}: split={','.join(wanted)} names one split twice; name two different ones"
            )
        return Roles(chosen[0], chosen[1] if len(chosen) == 2 else None)
    by_role = {canonical(name): name for name in reversed(names)}
    if len(names) == 1:
        return Roles(names[0], None)
    if "train" not in by_role:
        listed = ", ".join(name or "(files without a split's name)" for name in names)
        raise RequestError(
            f"{key} has no train split, it has: {listed}; choose with ?split=NAME or ?split=FIT,READ"
        )
    train, test = by_role["train"], by_role.get("test", by_role.get("validation"))
    notes = []
    if test is not None and "test" not in by_role:
        notes.append(f"test: the {test} split (there is no test split)")
    unused = [name for name in names if name not in (train, test)]
    if unused:
        notes.append(f"splits not used: {', '.join(name or '(files without a name)' for name in unused)}")
    return Roles(train, test, tuple(notes))


def _find(wanted: str, names: Sequence[str], key: str) -> str:
    if wanted in names:
        return wanted
    for name in names:
        if canonical(name) is not None and canonical(name) == canonical(wanted):
            return name
    if set(names) <= {""}:
        raise RequestError(f"{key} has no named splits; leave split= out")
    raise unknown_name("split", wanted, filter(None, names), f"Splits of {key}.")


def number_values(values: Iterable[np.ndarray]) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Number label values in sorted order: names, and each array as labels from 0.

    Args:
        values: integers, or strings; one array a split.
    """
    arrays = list(values)
    known, numbered = np.unique(np.concatenate(arrays), return_inverse=True)
    cuts = np.cumsum([len(array) for array in arrays])[:-1]
    return tuple(str(value) for value in known), np.split(numbered.astype(np.int64).reshape(-1), cuts)


def number_labels(
    arrays: Sequence[np.ndarray], names: Sequence[str] | None, key: str
) -> tuple[str, tuple[str, ...], list[np.ndarray]]:
    """Tell what labels ask for and number them: the task, names, and labels as a `Split` has them.

    Args:
        arrays: of each split: integers or strings (n,), classes; floats or (n, C) as `read_targets` takes
            them.
        names: of the targets or labels, where they are known; classes are named by their values.
        key: the set, for messages.
    """
    if len({are_targets(array) for array in arrays}) > 1:
        raise RequestError(f"{key}: labels of one split are classes, of the other numbers; give one kind")
    if are_targets(arrays[0]):
        return read_targets(arrays, names, key)
    if len({array.dtype.kind for array in arrays}) > 1:
        raise RequestError(f"{key}: labels of one split are strings, of the other integers; give one kind")
    return CLASSIFICATION, *number_values(arrays)
