"""The forms in which features that exist already come: safetensors, NumPy files, parquet, arrays."""

import json
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tunnelscope.data import parquet, tables
from tunnelscope.data.labelled import canonical, choose_roles
from tunnelscope.errors import RequestError, unknown_name

SUFFIXES = (".safetensors", ".npz", ".npy", ".parquet")
LABELS = ("labels", "label", "y")  # what labels are called beside the layers
LONE = "features"  # the layer's name where there is one matrix and no name

Arrays = Mapping[str, Any]  # by layer: (n, width)


@dataclass(frozen=True)
class Given:
    """What a source holds, as it stands there.

    Attributes:
        parts: by split (its name empty where there is one without), by layer.
        labels: by split; a split without labels is missing.
        class_names: by label; None where they are not told.
        layers: their order, where the source tells it; else they are in the order of a part.
        notes, warnings: what was chosen when they were made, and what is doubtful of them.
        about: what is told of the network.
        code: lines that leave the features of a layer's rows in `features`, with {split} and {layer}.
    """

    parts: Mapping[str, Arrays]
    labels: Mapping[str, Any]
    class_names: tuple[str, ...] | None = None
    layers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    code: tuple[str, ...] = ()


def read_path(path: Path, label: str | None, is_labelled: bool) -> Given:
    """Read a file of features, or a folder of parquet shards.

    Args:
        label: label column of parquet, or the labels' name in the file; None: a usual one.
        is_labelled: labels come from elsewhere, so none are looked for.

    Raises:
        RequestError: there is no such file, it is damaged, of another kind, or opens only by running code.
    """
    if path.is_dir() and any(path.rglob("*.parquet")):
        return _read_parquet(path, label, is_labelled)
    if path.suffix.lower() not in SUFFIXES:
        listed = ", ".join(SUFFIXES[:-1])
        raise RequestError(
            f"{path}: features are read from {listed} and {SUFFIXES[-1]} files; save them as one"
        )
    if not path.is_file():
        raise RequestError(f"no features at {path}; `tunnelscope record MODEL DATA --out {path}` writes some")
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path, label, is_labelled)
    try:
        if path.suffix.lower() == ".safetensors":
            return _read_safetensors(path, label)
        return _read_numpy(path, label)
    except PermissionError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from error


def by_split(
    arrays: Arrays, label: str | None, name: str
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Sort arrays named `train/LAYER` or `LAYER` into layers and labels, by split, in the order given.

    Args:
        label: what the labels are called; None: the first of `LABELS` that is there.
        name: of the source, for messages.

    Raises:
        RequestError: some names tell a split and others do not, or nothing has the labels' name.
    """
    splits = {key: _split_of(key) for key in arrays}
    loose = [key for key, split in splits.items() if not split]
    if loose and len(loose) < len(splits):
        split = next(split for split in splits.values() if split)
        raise RequestError(f"{name}: {loose[0]!r} is of no split, others are; name it {split}/{loose[0]}")
    parts: dict[str, dict[str, Any]] = {}
    for key, split in splits.items():
        parts.setdefault(split, {})[key.removeprefix(f"{split}/") if split else key] = arrays[key]
    labels = {}
    for split, part in parts.items():
        if label is not None and label not in part:
            raise unknown_name("array", label, part, f"--label names the labels in {name}.")
        usual = next((known for known in ((label,) if label else LABELS) if known in part), None)
        if usual is not None:
            labels[split] = part.pop(usual)
    return parts, labels


def _split_of(key: str) -> str:
    first, slash, _ = key.partition("/")
    return first if slash and canonical(first) else ""


def _read_safetensors(path: Path, label: str | None) -> Given:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            # the file keeps its tensors by name: 10 before 2
            arrays = {key: file.get_tensor(key) for key in sorted(file.keys(), key=_by_number)}
    except (SafetensorError, OSError) as error:
        raise RequestError(f"{path} is no readable safetensors file ({error})") from error
    parts, labels = by_split(arrays, label, str(path))
    return Given(
        parts,
        labels,
        class_names=_names(about, "class_names"),
        layers=_names(about, "layers") or (),
        warnings=_names(about, "warnings") or (),
        about={name: about[name] for name in ("model", "weights", "pool") if about.get(name)},
        code=("from safetensors.torch import load_file", f"features = load_file({_quoted(path)})[{{key}}]"),
    )


def _by_number(key: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", key)]


def _names(about: Mapping[str, str], name: str) -> tuple[str, ...] | None:
    """A list of strings in a file's metadata; None where there is none to be read."""
    try:
        names = json.loads(about[name])
    except (KeyError, ValueError):
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(one, str) for one in names) else None


def _read_numpy(path: Path, label: str | None) -> Given:
    arrays = load_numpy(path)
    load = f"features = np.load({_quoted(path)})"
    if isinstance(arrays, np.ndarray):
        return Given({"": {LONE: arrays}}, {}, code=("import numpy as np", load))
    names = arrays.pop("class_names", None)
    parts, labels = by_split(arrays, label, str(path))
    if names is not None and (names.ndim != 1 or names.dtype.kind != "U"):
        raise RequestError(
            f"{path}: class_names are {names.dtype} of shape {names.shape}; give strings, (classes,)"
        )
    class_names = None if names is None else tuple(str(one) for one in names)
    return Given(parts, labels, class_names=class_names, code=("import numpy as np", f"{load}[{{key}}]"))


def load_numpy(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    """Read a .npy or .npz file whole, never a pickle.

    Raises:
        RequestError: it is damaged, or holds Python objects.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except PermissionError:
        raise
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise RequestError(
                f"{path} holds Python objects, which could run code when opened; save arrays of numbers"
            ) from error
        raise RequestError(f"{path} is no readable NumPy file ({error or type(error).__name__})") from error


def _read_parquet(path: Path, label: str | None, is_labelled: bool) -> Given:
    """Read list columns, each a layer, or else all columns of numbers as one layer."""
    shards = parquet.find_splits(path)
    name = path.name or path.resolve().name
    roles = choose_roles(list(shards), (), name)
    splits = [parquet.open_split(part, shards[part]) for part in roles.names]
    schema = splits[0].schema
    lists = [one.name for one in schema if _is_list_of_numbers(one.type)]
    chosen = [] if is_labelled else _label_columns(schema, label, lists, name)
    lists = [one for one in lists if one not in chosen]
    numbers = [one.name for one in schema if _is_number(one.type) and not _is_beside(one.name, chosen)]
    for split in splits[1:]:
        lacking = [one for one in [*chosen, *(lists or numbers)] if one not in split.schema.names]
        if lacking:
            raise RequestError(f"{name}: the {split.name} split lacks column {lacking[0]!r}")
    notes = [f"label column{'s' if len(chosen) > 1 else ''}: {', '.join(chosen)}"] if chosen else []
    if numbers and not lists:
        notes.append(f"{len(numbers)} columns of numbers are the features, {numbers[0]} to {numbers[-1]}")
    names, labels = tables.read_labels(splits, chosen, name) if chosen else (None, [])
    return Given(
        parts={split.name: _columns(split, lists, numbers, name) for split in splits},
        labels={split.name: values for split, values in zip(splits, labels, strict=bool(chosen))},
        class_names=None if names is None else tuple(names),
        notes=(*notes, *roles.notes),
        code=_parquet_code(path, schema, lists, numbers),
    )


def _is_beside(name: str, labels: Sequence[str]) -> bool:
    """Whether a column of numbers is no feature: labels, also where others are read, and pandas' index."""
    return name in (*labels, *LABELS) or name.startswith("__index_level_")


def _parquet_code(
    path: Path, schema: pa.Schema, lists: Sequence[str], numbers: Sequence[str]
) -> tuple[str, ...]:
    read = f"pd.read_parquet({_quoted(path)}"
    if lists:
        line = f"features = np.stack({read}, columns=[{{layer}}])[{{layer}}])"
        return "import numpy as np", "import pandas as pd", line
    others = [one.name for one in schema if _is_number(one.type) and one.name not in numbers]
    left_out = f'.drop(columns={json.dumps(others, ensure_ascii=False)}, errors="ignore")' if others else ""
    return "import pandas as pd", f'features = {read}).select_dtypes("number"){left_out}.to_numpy()'


def _label_columns(schema: pa.Schema, wanted: str | None, lists: Sequence[str], key: str) -> list[str]:
    """Find the label column: those named, a usual name, the only class label, or the only one it can be."""
    if wanted is not None:
        return tables.label_columns(schema, wanted, "", key, "--label")
    usual = [name for name in (*LABELS, "fine_label") if name in schema.names]
    if usual:
        return usual[:1]
    able = [one for one in schema if one.name not in lists and not pa.types.is_floating(one.type)]
    names = [one.name for one in able]
    classed = [name for name in names if tables.class_names(schema, name) is not None]
    left = names if lists else [one.name for one in able if not _is_number(one.type)]
    alone = next((found for found in (classed, left) if len(found) == 1), None)
    if alone is None:
        shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        choice = (
            f"choose one of {shown} with --label COLUMN" if names else "add a column of integers or strings"
        )
        raise RequestError(f"{key} has no column called labels, label or y; {choice}, or give --labels FILE")
    return alone


def _columns(
    split: tables.Table, lists: Sequence[str], numbers: Sequence[str], key: str
) -> dict[str, np.ndarray]:
    if lists:
        return {name: _stacked(split.column(name, None), f"{key}: column {name!r}") for name in lists}
    if not numbers:
        return {}
    return {LONE: np.stack([split.column(name, None).to_numpy() for name in numbers], axis=1)}


def _stacked(column: pa.ChunkedArray, where: str) -> np.ndarray:
    """A column of lists of one length as a matrix."""
    lengths = np.asarray(pc.call_function("list_value_length", [column]).to_numpy(), dtype=float)
    odd = np.flatnonzero(~(lengths == lengths[:1]))
    if len(odd):
        said = "null" if np.isnan(lengths[odd[0]]) else f"a list of {lengths[odd[0]]:.0f}"
        raise RequestError(
            f"{where}: row {odd[0]} is {said}, row 0 has {lengths[0]:.0f} numbers; give lists of one length"
        )
    values = np.concatenate(
        [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks] or [np.empty(0)]
    )
    return values.reshape(len(column), -1) if len(column) else values.reshape(0, 0)


def _is_list_of_numbers(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and _is_number(kind.value_type)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)
