"""Images or texts, and labels, in Arrow columns: the one form in which parquet files and the hub arrive.

Which column holds them and which the labels is found in the schema, with the feature types that the Hugging
Face library writes into it (metadata key `huggingface`), or named by the user.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunnelscope.data.dataset import Images
from tunnelscope.data.images import EncodedImages
from tunnelscope.data.labelled import Labelled, Part, number_values
from tunnelscope.data.query import Options
from tunnelscope.data.targets import from_lists, read_targets
from tunnelscope.data.text import TextColumn
from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.tasks import CLASSIFICATION, REGRESSION


@dataclass(frozen=True)
class Table:
    """One split as columns.

    Args:
        name: the split's.
        schema: with the metadata.
        column: gives the rows asked for (all: None) of a named column.
        folder: what relative image paths are relative to.
    """

    name: str
    schema: pa.Schema
    column: Callable[[str, np.ndarray | None], pa.ChunkedArray]
    folder: Path | None = None


def read_tables(tables: Sequence[Table], options: Options, key: str) -> Labelled:
    """Find the image or text column and the label column and read the labels; the rest when rows are chosen.

    Raises:
        RequestError: a column that is missing or unknown, labels that are no integers or strings, null, or
            outside the class names.
    """
    schema = tables[0].schema
    content, read = _content_column(schema, options, key)
    chosen = label_columns(schema, options.label, content, key)
    for table in tables[1:]:
        lacking = [name for name in (content, *chosen) if name not in table.schema.names]
        if lacking:
            has = _list(table.schema.names)
            raise RequestError(f"{key}: the {table.name} split lacks column {lacking[0]!r}; it has: {has}")
    notes = [f"label column{'s' if len(chosen) > 1 else ''}: {', '.join(chosen)}"]
    if read is _read_texts:
        notes.insert(0, f"text column: {content}")
    if len(chosen) == 1 and not _are_targets(schema.field(chosen[0]).type, options.task):
        task = CLASSIFICATION
        names, labels = _classes(tables, chosen[0], key, notes)
    else:
        known, arrays = _target_values(tables, chosen, options.task, key)
        task, names, labels = read_targets(arrays, known, key)
    groups = _groups(tables, options.group, key) if options.group else [None] * len(tables)
    parts = [
        Part(table.name, values, partial(read, table, content, key), group)
        for table, values, group in zip(tables, labels, groups, strict=True)
    ]
    return Labelled(names, tuple(parts), tuple(notes), task)


def _classes(
    tables: Sequence[Table], label: str, key: str, notes: list[str]
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Class names and the class of each row by split; adds to the notes where classes are renumbered."""
    columns = [_checked(table, label, key, "labels", "label") for table in tables]
    names = class_names(tables[0].schema, label)
    if any(class_names(table.schema, label) != names for table in tables[1:]):
        raise RequestError(
            f"{key}: the splits' class names in column {label!r} differ; choose one with ?split=NAME"
        )
    if names is None:
        names, labels = number_values([_values(column) for column in columns])
        if pa.types.is_integer(columns[0].type) and names != tuple(map(str, range(len(names)))):
            notes.append(f"label values {names[0]} to {names[-1]} are numbered 0 to {len(names) - 1}")
        return names, labels
    labels = [_values(column) for column in columns]
    for table, values in zip(tables, labels, strict=True):
        _check_range(values, names, label, f"{key} ({table.name})" if table.name else key)
    return names, labels


def _are_targets(kind: pa.DataType, task: str | None) -> bool:
    """Whether a column's labels are no classes: floats, lists, or numbers where the task says so."""
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return pa.types.is_floating(kind) or is_list(kind) or (task == REGRESSION and is_number)


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds a list a row."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _target_values(
    tables: Sequence[Table], chosen: Sequence[str], task: str | None, key: str
) -> tuple[Sequence[str] | None, list[np.ndarray]]:
    """Names and a matrix (n, columns) a split, of numbers or of 0 and 1, from one or several columns."""
    held = [[_without_nulls(table.column(name, None), name, key) for name in chosen] for table in tables]
    if len(chosen) == 1 and is_list(held[0][0].type):
        names = list_names(tables[0].schema, chosen[0])
        return from_lists([columns[0].to_pylist() for columns in held], names, key)
    for name, column in zip(chosen, held[0], strict=True):
        kind = column.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise RequestError(
                f"column {name!r} of {key} holds {kind}; several label columns are numbers, or 0 and 1"
            )
    arrays = [np.stack([np.asarray(column.to_numpy()) for column in columns], axis=1) for columns in held]
    if task == REGRESSION:
        arrays = [array.astype(np.float64) for array in arrays]
    return chosen, arrays


def list_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """The names that the Hugging Face library wrote for lists of labels; None where it did not."""
    feature = _features(schema).get(column)
    inner = feature[0] if isinstance(feature, list) and feature else feature
    if isinstance(inner, dict) and isinstance(inner.get("feature"), dict):
        inner = inner["feature"]
    if not isinstance(inner, dict) or inner.get("_type") != "ClassLabel":
        return None
    names = inner.get("names")
    return tuple(map(str, names)) if isinstance(names, list) else None


def _without_nulls(values: pa.ChunkedArray, column: str, key: str) -> pa.ChunkedArray:
    if values.null_count:
        row = pc.index(values.is_null(), True).as_py()
        raise RequestError(
            f"{key}: {values.null_count} labels in column {column!r} are null, the first in row {row}"
        )
    return values


def _read_images(table: Table, column: str, key: str, rows: np.ndarray) -> Images:
    origin = f"{key} ({table.name})" if table.name else key
    return EncodedImages(table.column(column, rows), rows, origin, table.folder)


def _read_texts(table: Table, column: str, key: str, rows: np.ndarray) -> Images:
    origin = f"{key} ({table.name})" if table.name else key
    return TextColumn(table.column(column, rows), rows, origin)


def _content_column(schema: pa.Schema, options: Options, key: str) -> tuple[str, Callable[..., Images]]:
    """Find the column that is read, and how: images where there are any, unless a text column is named."""
    if options.text is not None and options.image is not None:
        raise RequestError(f"{key}: text= and image= both name a column; a network reads one, leave one out")
    texts = _text_columns(schema, options.label)
    if options.text is not None:
        return _text_column(schema, options.text, texts, key), _read_texts
    has_images = any(_holds_images(field, _features(schema)) for field in schema)
    if options.image is None and not has_images and texts:
        return _text_column(schema, None, texts, key), _read_texts
    return _image_column(schema, options.image, key), _read_images


def _text_columns(schema: pa.Schema, label: str | None) -> list[str]:
    """Columns of strings that are no labels."""
    labels = (label,) if label is not None else ("label", "fine_label")
    return [field.name for field in schema if _is_text(field.type) and field.name not in labels]


def _text_column(schema: pa.Schema, wanted: str | None, found: Sequence[str], key: str) -> str:
    if wanted is None:
        usual = [name for name in ("text", "sentence") if name in found]
        if not usual and len(found) > 1:
            raise RequestError(
                f"{key} has several text columns: {_list(found)}; choose one with ?text=COLUMN"
            )
        return usual[0] if usual else found[0]
    if wanted not in schema.names:
        raise unknown_name("column", wanted, schema.names, f"text= names the text column of {key}.")
    if not _is_text(schema.field(wanted).type):
        held = schema.field(wanted).type
        raise RequestError(f"column {wanted!r} of {key} holds {held}, not text; text columns: {_list(found)}")
    return wanted


def _image_column(schema: pa.Schema, wanted: str | None, key: str) -> str:
    found = [field.name for field in schema if _holds_images(field, _features(schema))]
    if wanted is not None:
        if wanted not in schema.names:
            raise unknown_name("column", wanted, schema.names, f"image= names the image column of {key}.")
        if wanted not in found:
            held = schema.field(wanted).type
            raise RequestError(
                f"column {wanted!r} of {key} holds {held}, not encoded images; image columns: {_list(found)}"
            )
        return wanted
    if not found:
        raise RequestError(
            f"{key} has no column of images (binary, or struct of bytes and path) or texts (string); "
            f"it has: {_list(schema.names)}"
        )
    if len(found) > 1:
        raise RequestError(f"{key} has several image columns: {_list(found)}; choose one with ?image=COLUMN")
    return found[0]


def _holds_images(field: pa.Field, features: dict[str, Any]) -> bool:
    kind = field.type
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return (
            index >= 0
            and _is_binary(kind.field(index).type)
            and not _is_other_feature(features.get(field.name))
        )
    return _is_binary(kind)


def _is_other_feature(feature: Any) -> bool:
    """Audio and video have the same columns as images."""
    return isinstance(feature, dict) and feature.get("_type") not in (None, "Image")


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def label_columns(
    schema: pa.Schema, wanted: str | None, content: str, key: str, option: str = "label="
) -> list[str]:
    """The label column, or the columns that a list `a,b` names; found where none is named."""
    others = [name for name in schema.names if name != content]
    if wanted is None:
        return [_label_column(schema, content, key)]
    several = [wanted] if wanted in others else [name.strip() for name in wanted.split(",") if name.strip()]
    for name in several or [wanted]:
        if name not in others:
            raise unknown_name("column", name, others, f"{option} names the label column of {key}.")
    return several


def _label_column(schema: pa.Schema, content: str, key: str) -> str:
    others = [name for name in schema.names if name != content]
    for usual in ("label", "fine_label"):
        if usual in others:
            return usual
    labelled = [name for name in others if class_names(schema, name) is not None]
    if len(labelled) == 1:
        return labelled[0]
    if not others:
        raise RequestError(
            f"{key} has no label column, only {content!r}; add a column of integers or strings"
        )
    what = (
        f"several class-label columns: {_list(labelled)}"
        if labelled
        else f"no label column, but: {_list(others)}"
    )
    raise RequestError(f"{key} has {what}; choose one with ?label=COLUMN")


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The feature types that the Hugging Face library wrote, empty when there are none to be read."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def class_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """The class names that the Hugging Face library wrote for a label column; None where it did not."""
    feature = _features(schema).get(column)
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    if isinstance(names, dict):
        names = [names[number] for number in sorted(names, key=int)]
    integers = pa.types.is_integer(schema.field(column).type)
    return tuple(map(str, names)) if isinstance(names, list) and integers else None


def _checked(table: Table, column: str, key: str, what: str, option: str) -> pa.ChunkedArray:
    """Read a column of integers or strings: labels or groups."""
    kind = table.schema.field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_integer(kind) or _is_text(kind) or pa.types.is_boolean(kind)):
        raise RequestError(
            f"column {column!r} of {key} holds {kind}; {what} are integers or strings (?{option}=COLUMN)"
        )
    values = table.column(column, None)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if values.null_count:
        row = pc.index(values.is_null(), True).as_py()
        raise RequestError(
            f"{key}: {values.null_count} {what} in column {column!r} are null, the first in row {row}"
        )
    if not len(values):
        raise RequestError(f"{key}: the {table.name or 'only'} split is empty; it needs rows")
    return values


def read_labels(
    tables: Sequence[Table], columns: Sequence[str], key: str
) -> tuple[Sequence[str] | None, list[np.ndarray]]:
    """Names, where they are told, and the labels of each split as `number_labels` takes them.

    Raises:
        RequestError: they are no labels, or null.
    """
    schema = tables[0].schema
    if len(columns) > 1 or _are_targets(schema.field(columns[0]).type, None):
        return _target_values(tables, columns, None, key)
    labels = [_values(_checked(table, columns[0], key, "labels", "label")) for table in tables]
    return class_names(schema, columns[0]), labels


def _groups(tables: Sequence[Table], column: str, key: str) -> list[np.ndarray]:
    """Read what each row belongs to, numbered over all splits."""
    for table in tables:
        if column not in table.schema.names:
            raise unknown_name("column", column, table.schema.names, f"group= names a column of {key}.")
    values = [_checked(table, column, key, "groups", "group") for table in tables]
    return number_values([_values(column) for column in values])[1]


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _values(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_integer(column.type):
        return column.to_numpy().astype(np.int64)
    return np.array([str(value) for value in column.to_pylist()])


def _check_range(labels: np.ndarray, names: tuple[str, ...], column: str, place: str) -> None:
    outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(outside):
        value = labels[outside[0]]
        why = (
            "it marks rows without a label; choose other splits with ?split="
            if value == -1
            else "mend the file"
        )
        raise RequestError(
            f"{place}: label {value} in row {outside[0]} is none of the {len(names)} classes of {column!r}; "
            f"{why}"
        )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
