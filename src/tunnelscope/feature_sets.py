"""Features that someone has already, as labelled sets: checked where they enter, cut by the rule."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunnelscope.data import DataSet, Split
from tunnelscope.data.arrays import label_values
from tunnelscope.data.assemble import assemble
from tunnelscope.data.duplicates import as_digests
from tunnelscope.data.labelled import Labelled, Part, choose_roles, number_labels
from tunnelscope.data.query import Options
from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.feature_forms import LONE, Given, by_split, load_numpy, read_path
from tunnelscope.probes.rows import finite_features
from tunnelscope.recording import Recorded
from tunnelscope.tasks import CLASSIFICATION


@dataclass(frozen=True)
class Asked:
    """How features are read.

    Attributes:
        labels, test, test_labels: labels of the training rows, a set of test rows, its labels; where a source
            has none.
        label: label column of parquet, or the labels' name in a file.
        layers: which matrices, in this order; None: all.
        max_samples: rows per split at most, balanced by class.
        seed: of the rows drawn.
    """

    labels: Any = None
    test: Any = None
    test_labels: Any = None
    label: str | None = None
    layers: Sequence[str] | None = None
    max_samples: int | None = None
    seed: int = 0


class FeatureRows:
    """Some rows of several layers' features, held by a `Split` in the place of images.

    Args:
        layers: by name: (n, width).
        rows: of them, in order, (m,) int64.
        origin: what they are rows of, in words.
    """

    kind = "rows"

    def __init__(self, layers: Mapping[str, Tensor], rows: np.ndarray, origin: str) -> None:
        self.layers, self.rows, self.origin = layers, torch.from_numpy(rows), origin

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: features[self.rows[index]] for name, features in self.layers.items()}

    def place(self, index: int) -> str:
        """Say which row that is."""
        return f"row {int(self.rows[index])} of {self.origin}"


@dataclass(frozen=True)
class FeatureSet:
    """A labelled set whose splits hold `FeatureRows`.

    Attributes:
        file: where they are from, for messages.
        widths: of the layers, in order.
        about: what the file tells of the network.
        code: by layer, the lines that load its features.
    """

    dataset: DataSet
    file: str
    widths: Mapping[str, int]
    about: Mapping[str, str]
    code: Mapping[str, list[str]]


def load_features(source: Any, asked: Asked) -> FeatureSet:
    """Read one set of features.

    Args:
        source: a file (.safetensors, .npz, .npy, .parquet) or a folder of parquet shards; a pair (features,
            labels); or {"train": pair, "test": pair}. Features are (n, width), or {layer: (n, width)}.

    Raises:
        RequestError: unreadable or unknown input, no labels, rows that do not fit together or are not finite.
    """
    file, key, given = _given(source, asked, asked.labels)
    if asked.test is not None:
        given = _with_test(given, asked, file)
    roles = choose_roles(list(given.parts), (), file)
    names = _layer_names(given, roles.names, asked.layers, file)
    features = {
        split: {name: _features(given.parts[split][name], name, _place(file, split)) for name in names}
        for split in roles.names
    }
    for split in roles.names:
        _check_rows(features[split], given.labels, split, _place(file, split))
    widths = {name: whole.shape[1] for name, whole in features[roles.train].items()}
    _check_widths(features, widths, file)
    task, class_names, labels = _numbered(given, roles.names, file)
    parts = [
        Part(split, values, partial(FeatureRows, features[split], origin=_place(file, split)))
        for split, values in zip(roles.names, labels, strict=True)
    ]
    notes = (*given.notes, *roles.notes, *_about(given.about))
    labelled = Labelled(class_names, tuple(parts), notes, task)
    dataset = assemble(labelled, key, str(file), Options(max_samples=asked.max_samples), asked.seed)
    dataset = replace(dataset, warnings=tuple(dict.fromkeys((*given.warnings, *dataset.warnings))))
    code = {name: _code(given, roles.train, name) for name in names}
    return FeatureSet(dataset, file, widths, given.about, code)


def recorded(split: Split) -> Recorded:
    """A split's features as if a network had given them now."""
    rows = split.images
    assert isinstance(rows, FeatureRows), "load_features makes no other splits"
    features = {name: whole[rows.rows] for name, whole in rows.layers.items()}
    keys = {name: _fingerprint({name: whole}, split.labels) for name, whole in features.items()}
    labels = torch.from_numpy(split.labels)
    return Recorded(features, labels, _fingerprint(features, split.labels), keys=keys)


def row_digests(features: Mapping[str, Tensor]) -> Tensor:
    """16 bytes for each row, of its numbers in all layers, (n, 16) uint8; equal rows have equal ones.

    The number −0 counts as 0, as it does in every probe.
    """
    rows = [(whole + 0.0).contiguous().numpy() for whole in features.values()]
    return as_digests(
        b"".join(
            hashlib.sha256(b"".join(one[row].tobytes() for one in rows)).digest()[:16]
            for row in range(len(rows[0]))
        )
    )


def _given(source: Any, asked: Asked, labels: Any) -> tuple[str, str, Given]:
    """What a source holds, with labels given beside it; its name in messages and its key."""
    if isinstance(source, (str, Path)):
        path = Path(source)
        given = read_path(path, asked.label, labels is not None)
        file, key = str(source), path.resolve().name if path.is_dir() else path.stem
    else:
        file = key = "features"
        given = _from_memory(source, asked.label)
    if labels is not None:
        if len(given.parts) > 1:
            raise RequestError(
                f"{file} has {' and '.join(given.parts)} rows, --labels is for one part; put labels in it"
            )
        given = replace(given, labels={split: _labels(labels) for split in given.parts})
    if not any(given.parts.values()):
        raise RequestError(f"{file} holds no features: no matrix of numbers beside the labels")
    return file, key, given


def _from_memory(source: Any, label: str | None) -> Given:
    is_split = isinstance(source, Mapping) and "train" in source and set(source) <= {"train", "test"}
    pairs = dict(source) if is_split and isinstance(source["train"], (tuple, list)) else {"": source}
    parts, labels = {}, {}
    for split, pair in pairs.items():
        if isinstance(pair, (tuple, list)) and len(pair) == 2:
            pair, labels[split] = pair
        parts[split] = dict(pair) if isinstance(pair, Mapping) else {LONE: pair}
    if "" in parts:
        loose, theirs = by_split(parts[""], None if labels else label, "features")
        parts, labels = loose, theirs or labels
    return Given(parts, labels, code=("features = features[{key}]",))


def _with_test(given: Given, asked: Asked, file: str) -> Given:
    """Join the rows of the test file as the part `test`."""
    place, _, other = _given(asked.test, asked, asked.test_labels)
    if len(given.parts) > 1 or len(other.parts) > 1:
        whole = file if len(given.parts) > 1 else place
        raise RequestError(f"{whole} has parts of its own; --test joins two files of one part each")
    if given.class_names != other.class_names:
        raise RequestError(f"{file} and {place} have other class names; a test file is of the same classes")
    (rows,), (others,) = given.parts.values(), other.parts.values()
    labels = {
        "train": next(iter(given.labels.values()), None),
        "test": next(iter(other.labels.values()), None),
    }
    known = {split: values for split, values in labels.items() if values is not None}
    return replace(given, parts={"train": rows, "test": others}, labels=known)


def _layer_names(given: Given, splits: Sequence[str], wanted: Sequence[str] | None, file: str) -> list[str]:
    first = given.parts[splits[0]]
    told = given.layers if set(given.layers) == set(first) else ()
    names = list(wanted or told or first)
    for split in splits:
        part = given.parts[split]
        for name in names:
            if name not in part and wanted:
                raise unknown_name("layer", name, part, f"Layers of {_place(file, split)}.")
            if name not in part:
                raise RequestError(
                    f"{_place(file, split)} lacks layer {name!r}, which the {splits[0]} rows have"
                )
        more = [name for name in part if name not in first]
        if more and not wanted:
            raise RequestError(
                f"{_place(file, splits[0])} lacks layer {more[0]!r}, which the {split} rows have"
            )
    return names


def _features(values: Any, name: str, place: str) -> Tensor:
    """A matrix as the probes take it: float32 or float64, all finite."""
    where = f"{place}: layer {name!r}: "
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "fiub":
            raise RequestError(f"{where}features are {values.dtype}, not numbers; give floats")
        kind = np.float64 if values.dtype.itemsize >= 8 and values.dtype.kind == "f" else np.float32
        values = np.ascontiguousarray(values, dtype=kind)
    elif isinstance(values, Tensor) and values.is_complex():
        raise RequestError(f"{where}features are complex; give floats")
    return finite_features(values, where).cpu()


def _check_rows(layers: Mapping[str, Tensor], labels: Mapping[str, Any], split: str, place: str) -> None:
    if split not in labels:
        raise RequestError(
            f"{place} has no labels; put an array `labels` beside the layers, or give --labels FILE"
        )
    for name, features in layers.items():
        if len(features) != len(labels[split]):
            raise RequestError(
                f"{place}: layer {name!r} has {len(features)} rows, but there are {len(labels[split])} "
                "labels; give one label a row"
            )


def _check_widths(features: Mapping[str, Mapping[str, Tensor]], widths: Mapping[str, int], file: str) -> None:
    for split, layers in features.items():
        for name, whole in layers.items():
            if whole.shape[1] != widths[name]:
                first = next(iter(features))
                raise RequestError(
                    f"{file}: layer {name!r} is {widths[name]} wide in {first} and {whole.shape[1]} in "
                    f"{split}; record both with the same network and pooling"
                )


def _numbered(
    given: Given, splits: Sequence[str], file: str
) -> tuple[str, tuple[str, ...], list[np.ndarray]]:
    """The task, its names, and the labels of each split: of classes numbers from 0."""
    values = [label_values(given.labels[split], _place(file, split)) for split in splits]
    if given.class_names is None or any(one.dtype.kind != "i" or one.ndim > 1 for one in values):
        return number_labels(values, given.class_names, file)
    for split, one in zip(splits, values, strict=True):
        outside = np.flatnonzero((one < 0) | (one >= len(given.class_names)))
        if len(outside):
            raise RequestError(
                f"{_place(file, split)}: label {one[outside[0]]} in row {outside[0]} is none of the "
                f"{len(given.class_names)} class names; mend the file"
            )
    return CLASSIFICATION, given.class_names, values


def _labels(labels: Any) -> Any:
    """Labels as given, or those of a .npy file."""
    if not isinstance(labels, (str, Path)):
        return labels
    path = Path(labels)
    if path.suffix.lower() != ".npy" or not path.is_file():
        what = "is no .npy file" if path.is_file() else "is not there"
        raise RequestError(f"--labels {path} {what}; give a .npy file of one integer or string a row")
    values = load_numpy(path)
    if isinstance(values, dict):
        raise RequestError(
            f"--labels {path} holds several arrays; give a .npy file of one integer or string a row"
        )
    return values


def _about(about: Mapping[str, str]) -> list[str]:
    if "model" not in about:
        return []
    return [
        "recorded from "
        + ", ".join([about["model"], *(f"{k} {about[k]}" for k in ("weights", "pool") if k in about)])
    ]


def _code(given: Given, split: str, layer: str) -> list[str]:
    key = f"{split}/{layer}" if split else layer
    quoted = {"{key}": json.dumps(key, ensure_ascii=False), "{layer}": json.dumps(layer, ensure_ascii=False)}
    lines = list(given.code)
    for place, name in quoted.items():
        lines = [line.replace(place, name) for line in lines]
    return [*lines[:-1], f"{lines[-1]}  # (n, width)"]


def _place(file: str, split: str) -> str:
    return f"{file} ({split})" if split else file


def _fingerprint(features: Mapping[str, Tensor], labels: np.ndarray) -> str:
    """SHA-256 over names, shapes and values of the layers in order, and the labels."""
    seen = hashlib.sha256()
    for name, values in features.items():
        seen.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        seen.update(values.contiguous().numpy().data)
    seen.update(np.ascontiguousarray(labels).data)
    return seen.hexdigest()
