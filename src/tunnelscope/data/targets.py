"""What the labels of a set ask for: one class a row, numbers to predict, or any number of labels a row."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tunnelscope.errors import RequestError
from tunnelscope.tasks import CLASSIFICATION, MULTI_LABEL, REGRESSION

MOST_CLASSES_AS_FLOATS = 100  # distinct whole numbers, from which on nobody means classes by them


def are_targets(values: np.ndarray) -> bool:
    """Whether labels are no classes: floats (n,) or (n, t), or a matrix of 0 and 1."""
    return values.ndim == 2 or values.dtype.kind == "f"


def read_targets(
    arrays: Sequence[np.ndarray], names: Sequence[str] | None, key: str
) -> tuple[str, tuple[str, ...], list[np.ndarray]]:
    """Tell numbers to predict from several labels a row.

    Args:
        arrays: labels of each split: floats (n,) or (n, t), or integers or booleans (n, C), 0 and 1.
        names: of the targets or labels, where they are known.
        key: the set, for messages.

    Returns:
        The task, the names (numbered where there are none), and the labels: float64 (n, t), or int64 (n, C).

    Raises:
        RequestError: splits of different widths, numbers that are not finite, labels other than 0 and 1, or
            nothing that varies.
    """
    columns = [array[:, None] if array.ndim == 1 else array for array in arrays]
    if len({array.shape[1] for array in columns}) > 1:
        widths = " and ".join(str(array.shape[1]) for array in columns)
        raise RequestError(f"{key}: the splits have {widths} labels a row; give both the same")
    is_numbers = any(array.dtype.kind == "f" for array in columns)
    check = _numbers if is_numbers else _zeros_and_ones
    checked = [check(array, key) for array in columns]
    width = checked[0].shape[1]
    if all((array == checked[0][0]).all() for array in checked):
        raise RequestError(f"{key}: all rows have the same labels, so there is nothing to predict")
    kind = "target" if is_numbers else "label"
    known = (
        tuple(names)
        if names is not None and len(names) == width
        else tuple(f"{kind} {i}" for i in range(width))
    )
    return (REGRESSION if is_numbers else MULTI_LABEL), known, checked


def from_lists(
    splits: Sequence[Sequence[Sequence[Any]]], names: Sequence[str] | None, key: str
) -> tuple[Sequence[str] | None, list[np.ndarray]]:
    """Labels that come as a list a row: numbers, 0 and 1, or which labels a row has (indices or strings).

    Lists of one length that hold only 0 and 1, one of them twice in some row, are read as 0 and 1.

    Args:
        splits: by split, the list of each row.
        names: of labels, where lists hold their indices.
        key: the set, for messages.

    Returns:
        The labels' names, where they are known now, and a matrix a split, (n, columns).
    """
    every = [row for rows in splits for row in rows]
    kinds = {type(value) for row in every for value in row}
    is_matrix = len({len(row) for row in every}) == 1
    if float in kinds or kinds == {bool}:
        if not is_matrix:
            raise RequestError(f"{key}: rows have different numbers of labels; give all the same")
        return None, [np.array(rows, dtype=np.float64 if float in kinds else np.int64) for rows in splits]
    if kinds == {int} and is_matrix and _are_zeros_and_ones(every):
        return None, [np.array(rows, dtype=np.int64) for rows in splits]
    if kinds not in ({int}, {str}):
        found = " and ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
        raise RequestError(f"{key}: lists of labels hold {found}; give floats, 0 and 1, indices or names")
    if names is not None and kinds == {int}:
        return names, [_there(rows, range(len(names)), key) for rows in splits]
    found = sorted({value for row in every for value in row})
    return [str(value) for value in found], [_there(rows, found, key) for rows in splits]


def _are_zeros_and_ones(rows: Sequence[Sequence[int]]) -> bool:
    """Whether lists are no indices: 0 and 1 alone, one of them more than once in some row."""
    repeats = any(len(set(row)) < len(row) for row in rows) or len(rows[0]) == 1
    return repeats and {value for row in rows for value in row} <= {0, 1}


def _there(rows: Sequence[Sequence[Any]], labels: Sequence[Any], key: str) -> np.ndarray:
    """Which of the labels each row has, (n, labels) of 0 and 1."""
    column = {label: place for place, label in enumerate(labels)}
    matrix = np.zeros((len(rows), len(labels)), dtype=np.int64)
    for number, row in enumerate(rows):
        strange = [value for value in row if value not in column]
        if strange:
            raise RequestError(f"{key}: label {strange[0]} in row {number} is none of {len(labels)} labels")
        matrix[number, [column[value] for value in row]] = 1
    return matrix


def told(task: str, names: Sequence[str], arrays: Sequence[np.ndarray]) -> tuple[list[str], list[str]]:
    """What to say of labels that are no classes: a note, and a warning where classes may be meant."""
    many = f"{len(names)} numbers" if len(names) > 1 else "a number"
    if task == MULTI_LABEL:
        return [f"{len(names)} labels, each there or not: probes are scored by mean average precision"], []
    note = f"labels are {many} a row: probes are scored by R²"
    distinct = np.unique(np.concatenate(list(arrays)))
    if len(names) > 1 and np.isin(distinct, (0, 1)).all():
        return [note], [
            f"labels are {len(names)} floats a row that are all 0 or 1, taken as numbers to predict; store "
            "them as integers if they are labels that a row has or not"
        ]
    if len(names) > 1 or len(distinct) > MOST_CLASSES_AS_FLOATS or (distinct != distinct.round()).any():
        return [note], []
    return [note], [
        f"labels are {len(distinct)} whole numbers stored as floats, taken as numbers to predict; "
        "store them as integers if they are classes"
    ]


def strata(labels: np.ndarray, task: str) -> np.ndarray:
    """What rows are balanced by when some are chosen, (n,) int64: their class; nothing for other tasks."""
    return labels if task == CLASSIFICATION else np.zeros(len(labels), dtype=np.int64)


def _numbers(array: np.ndarray, key: str) -> np.ndarray:
    values = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise RequestError(
            f"{key}: labels are not finite in {len(bad)} rows (first: {bad[0]}); leave these rows out"
        )
    return values


def _zeros_and_ones(array: np.ndarray, key: str) -> np.ndarray:
    odd = np.argwhere((array != 0) & (array != 1)) if array.dtype.kind in "iub" else np.zeros((1, 2), int)
    if len(odd):
        row, column = odd[0]
        raise RequestError(
            f"{key}: label {column} of row {row} is {array[row, column]!s}; several labels a row are 0 or 1 "
            "(floats are numbers to predict)"
        )
    return array.astype(np.int64)
