"""From what the user gives to a DataSet: find the source and let it list labels; `assemble` does the rest."""

import difflib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from tunnelscope.data import folders, hub, parquet, tars
from tunnelscope.data.arrays import read_parts, read_sklearn
from tunnelscope.data.assemble import assemble, fewer_rows
from tunnelscope.data.dataset import DataSet
from tunnelscope.data.labelled import Labelled, choose_roles, group_shards
from tunnelscope.data.listing import Listing
from tunnelscope.data.patterns import is_pattern, matching_files
from tunnelscope.data.query import Options, one_draw, parse_query, positive
from tunnelscope.data.stamp import stamp_of
from tunnelscope.data.tables import read_tables
from tunnelscope.errors import RequestError

Shards = dict[str, list[Path]]  # by split, in order

_FILE_SUFFIXES = frozenset(
    (
        ".parquet",
        ".zip",
        ".gz",
        ".tar",
        ".tgz",
        ".csv",
        ".json",
        ".jsonl",
        ".txt",
        ".npz",
        ".npy",
        ".h5",
        ".arrow",
    )
)


def load_data(
    source: Any,
    *,
    label: str | None = None,
    image: str | None = None,
    max_samples: int | None = None,
    seed: int = 0,
    announce: Callable[[str], None] | None = None,
) -> DataSet:
    """Load a labelled set of images or texts.

    Rows are chosen before anything is decoded; images are decoded when they are used.

    Args:
        source: parquet or tar (WebDataset) shards, by file, folder or pattern; a folder of class folders; a
            hub id; `sklearn:digits`; each with a query (`?split=&label=&image=&text=&classes=&per_class=
            &max_samples=&size=&max_length=&config=&group=&task=`); a DataSet; a torch Dataset; a pair
            (images, labels) of arrays or lists; or {"train": …, "test": …} of Datasets or pairs.
        label: label column, where the query names none.
        image: image column, where the query names none.
        max_samples: rows per split, balanced by class, where the query says nothing.
        seed: of the rows drawn, 0 or more.
        announce: takes a line now and then when listing many files or members takes over two seconds.

    Raises:
        RequestError: an unknown path, column, class, split or option, unreadable input, impossible labels.
        MachineError: the hub cannot be reached.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise RequestError(f"seed must be an integer of 0 or more, got {seed!r}")
    if max_samples is not None:
        max_samples = positive("max_samples", max_samples)
    if isinstance(source, DataSet):
        return source if max_samples is None else fewer_rows(source, max_samples, int(seed))
    defaults = Options(label=label, image=image, max_samples=max_samples)
    if isinstance(source, (str, Path)):
        return _load_named(str(source), defaults, int(seed), announce)
    if label or image:
        raise RequestError("label= and image= name columns; arrays and Datasets have none, leave them out")
    return _load_memory(source, defaults, int(seed))


def load_draws(source: Any, **settings: Any) -> list[DataSet]:
    """Load a set, or each of the draws of its classes that `draws=` in its query asks for.

    Args:
        source, settings: as for `load_data`.
    """
    if not isinstance(source, (str, Path)):
        return [load_data(source, **settings)]
    location, query = _parted(str(source))
    draws = parse_query(query, str(source)).draws
    if draws is None:
        return [load_data(source, **settings)]
    numbers = range(1, draws + 1)
    drawn = [load_data(f"{location}?{one_draw(query, number)}", **settings) for number in numbers]
    return [replace(one, draw=number) for number, one in zip(numbers, drawn, strict=True)]


def unique_keys(data_sets: Sequence[DataSet]) -> list[DataSet]:
    """Return the sets with keys that differ: the second `cifar10` becomes `cifar10-2`."""
    given = {data.key for data in data_sets}
    taken: set[str] = set()
    renamed = []
    for data in data_sets:
        key, number = data.key, 1
        while key in taken or (number > 1 and key in given):
            number += 1
            key = f"{data.key}-{number}"
        taken.add(key)
        renamed.append(data if key == data.key else replace(data, key=key))
    return renamed


def _load_memory(source: Any, options: Options, seed: int) -> DataSet:
    parts = source if isinstance(source, dict) else {"": source}
    if isinstance(source, dict) and set(source) not in ({"train"}, {"train", "test"}):
        listed = ", ".join(map(repr, source)) or "none"
        raise RequestError(f'a dict of data has the keys "train" and, if there is one, "test"; got {listed}')
    ordered = {name: parts[name] for name in ("", "train", "test") if name in parts}
    first = next(iter(ordered.values()))
    key = type(first).__name__.lower() if isinstance(first, Dataset) else "arrays"
    return assemble(read_parts(ordered, key), key, f"({type(first).__name__})", options, seed)


def _load_named(source: str, defaults: Options, seed: int, announce: Callable[[str], None] | None) -> DataSet:
    location, query = _parted(source)
    options = parse_query(query, source)
    if options.draws:
        raise RequestError(
            f"{source}: draws= makes several sets, as only --ood of a scan takes; write draw=1 for the first"
        )
    for name in ("label", "image", "max_samples"):
        if getattr(options, name) is None:
            options = replace(options, **{name: getattr(defaults, name)})
    if not location:
        raise RequestError(
            "the data source is empty; give a path, a hub id (organisation/name) or sklearn:digits"
        )
    path = _as_path(location)
    if _exists(path) or is_pattern(location):
        key = path.name or path.resolve().name or "data"
        try:
            labelled = _read_path(path, options, key, Listing(announce, key))
        except OSError as error:
            raise RequestError(
                f"{error.filename or path} cannot be read: {error.strerror or error}"
            ) from error
    elif location.startswith("sklearn:"):
        key = location.removeprefix("sklearn:")
        labelled = read_sklearn(key)
        _refuse_columns(options, key)
        choose_roles([part.name for part in labelled.parts], options.split, key)
    else:
        key = location
        labelled = _read_hub(location, _check_hub_id(location, path), options)
    is_here = _exists(path) or is_pattern(location)
    stamp = stamp_of(path, f"{options} {seed}") if is_here else ""
    return replace(assemble(labelled, key, source, options, seed), stamp=stamp)


def _parted(source: str) -> tuple[str, str]:
    """Where a source lies, and its query."""
    if _exists(_as_path(source)):
        return source, ""
    location, _, query = source.partition("?")
    return location, query


def _read_path(path: Path, options: Options, key: str, listed: Listing) -> Labelled:
    """Read what is there: parquet, else class folders, else tar shards (one may lie beside what it held)."""
    if options.config is not None:
        raise RequestError(f"config= is for hub ids; {path} is a local path, leave it out")
    shards, tables_of = _find_shards(path)
    if tables_of:
        roles = choose_roles(list(tables_of), options.split, key)
        tables = [parquet.open_split(name, tables_of[name]) for name in roles.names]
        return _with_notes(read_tables(tables, options, key), roles.notes)
    found = {} if shards else folders.find_splits(path)
    if found:
        _refuse_columns(options, key)
        roles = choose_roles(list(found), options.split, key)
        used = {name: found[name] for name in roles.names}
        return _with_notes(folders.read_folders(used, key, listed), roles.notes)
    shards = shards or tars.find_splits(path)
    if not shards:
        raise folders.no_data_in(path)
    roles = choose_roles(list(shards), options.split, key)
    return _with_notes(
        tars.read_tars({name: shards[name] for name in roles.names}, options, key, listed), roles.notes
    )


def _find_shards(path: Path) -> tuple[Shards, Shards]:
    """Return the tar and the parquet shards by split that a file, pattern or folder means.

    A folder's tar shards are not among them: class folders come first there.
    """
    if _exists(path):
        is_tar = path.is_file() and bool(tars.find_splits(path))
        return (tars.find_splits(path), {}) if is_tar else ({}, parquet.find_splits(path))
    files = matching_files(str(path))
    tars.refuse_compressed(files)
    kinds = {file.suffix.lower() for file in files}
    if kinds not in ({".tar"}, {".parquet"}):
        raise RequestError(
            f"{path} means files that end in {', '.join(sorted(kinds)) or 'nothing'}; "
            "a pattern is for .tar or for .parquet shards"
        )
    root = Path(os.path.commonpath([file.parent for file in files]))
    splits = group_shards(files, root)
    return (splits, {}) if kinds == {".tar"} else ({}, splits)


def _read_hub(hub_id: str, hint: str, options: Options) -> Labelled:
    splits = hub.load_splits(hub_id, options.config, hint)
    roles = choose_roles(list(splits), options.split, hub_id)
    tables = [hub.open_split(name, splits[name]) for name in roles.names]
    return _with_notes(read_tables(tables, options, hub_id), roles.notes)


def _refuse_columns(options: Options, key: str) -> None:
    for name in ("label", "image", "text", "config", "group", "task"):
        if getattr(options, name) is not None:
            raise RequestError(f"{name}= is for parquet and hub sets; {key} has no columns, leave it out")


def _with_notes(labelled: Labelled, notes: tuple[str, ...]) -> Labelled:
    return replace(labelled, notes=labelled.notes + notes)


def _check_hub_id(location: str, path: Path) -> str:
    """Return a hint for messages when this may be a hub id; raise when it is a path that does not exist."""
    siblings = _nearest_siblings(path)
    is_path = location.startswith((".", "/", "~")) or path.suffix.lower() in _FILE_SUFFIXES
    # a mistyped `data/cifr10` is not worth a minute of asking the hub
    if is_path or siblings or not re.fullmatch(r"[\w.-]+/[\w.-]+", location):
        missing = _first_missing(path)
        at = "" if missing == path else f" (there is no {missing})"
        near = f"; nearest: {', '.join(siblings)}" if siblings else ""
        raise RequestError(f"no data at {location}{at}{near}. Hub ids are written organisation/name.")
    return f" There is no local path {location} either." if _exists(path.parent) else ""


def _nearest_siblings(path: Path) -> list[str]:
    """Existing paths written almost like this one, compared at its first part that does not exist."""
    missing = _first_missing(path)
    if not missing.parent.is_dir():
        return []
    names = [entry.name for entry in missing.parent.iterdir()]
    return [
        str(missing.parent / name) for name in difflib.get_close_matches(missing.name, names, n=3, cutoff=0.6)
    ]


def _first_missing(path: Path) -> Path:
    return next(part for part in [*reversed(path.parents), path] if not _exists(part))


def _as_path(location: str) -> Path:
    try:
        return Path(location).expanduser()
    except RuntimeError:  # ~name of nobody here
        return Path(location)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long, a folder that may not be looked into
        return False
