"""Sets on the Hugging Face hub, by id, through the `datasets` library (extra `hf`)."""

import re
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from tunnelscope.data.tables import Table
from tunnelscope.errors import MachineError, RequestError, unknown_name
from tunnelscope.hub_access import hub_asked_once

_OTHER_WAYS = "give a local parquet folder or class folders instead, or go online"


def load_splits(hub_id: str, config: str | None, hint: str = "") -> dict[str, Any]:
    """Return the set's splits as `datasets.Dataset`s, in the hub's order, downloaded when not yet cached.

    Args:
        hub_id: `organisation/name`.
        config: the configuration, where the set has several.
        hint: a last sentence for messages.

    Raises:
        RequestError: the extra is missing, there is no such set or configuration.
        MachineError: the hub cannot be reached.
    """
    try:
        import datasets
        from datasets.exceptions import DatasetNotFoundError
    except ImportError as error:
        raise RequestError(
            f"{hub_id} looks like a Hugging Face hub id, which needs the `datasets` library: "
            f'pip install "tunnelscope[hf]".{hint}'
        ) from error
    no_answer = ""
    try:
        with hub_asked_once() as no_answer:
            loaded: Any = datasets.load_dataset(hub_id, config)
    except DatasetNotFoundError as error:
        raise RequestError(
            f"no data set {hub_id} on the hub, or no access to it: {_line(error)}.{hint}"
        ) from error
    except ConnectionError as error:
        raise MachineError(
            f"{hint.strip()[:-1] + ', and the' if hint else 'the'} hub cannot be reached for {hub_id}: "
            f"{no_answer or _line(error)}; {_OTHER_WAYS}"
        ) from error
    except ValueError as error:  # an unknown configuration, or one that must be named
        raise _configuration_error(hub_id, config, error) from error
    except RuntimeError as error:  # code on the hub, which the library no longer runs
        if "scripts are no longer supported" not in str(error):
            raise _not_loaded(hub_id, error, hint) from error
        raise RequestError(
            f"{hub_id} is a Python script, which the `datasets` library no longer runs; download the parquet "
            f"files of its branch refs/convert/parquet and give their folder.{hint}"
        ) from error
    except Exception as error:  # the library hands on whatever its parts raise: http, parsing, disk
        raise _not_loaded(hub_id, error, hint) from error
    return dict(loaded)


def _configuration_error(hub_id: str, config: str | None, error: ValueError) -> RequestError:
    """Name the configurations, which the library lists in its message."""
    listed = re.search(r"(?:available configs|Available): *\[(.*?)\]", str(error))
    names = re.findall(r"'([^']*)'", listed[1]) if listed else []
    if not names:
        return RequestError(f"{hub_id}: {_line(error)} (?config=NAME)")
    if config is not None:
        return unknown_name("configuration", config, names, f"{hub_id} has them; choose with ?config=NAME.")
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return RequestError(
        f"{hub_id} has {len(names)} configurations: {shown}; choose one with {hub_id}?config={names[0]}"
    )


def _not_loaded(hub_id: str, error: Exception, hint: str) -> MachineError:
    said = f"{type(error).__name__}: {_line(error)}"
    return MachineError(f"{hub_id} could not be loaded from the hub: {said}; {_OTHER_WAYS}.{hint}")


def open_split(name: str, dataset: Any) -> Table:
    """Return a split as columns; images stay encoded, and on disk until their rows are taken."""
    return Table(name, dataset.features.arrow_schema, partial(_column, dataset))


def _column(dataset: Any, name: str, rows: np.ndarray | None) -> pa.ChunkedArray:
    # in the arrow format nothing is decoded: images come as struct {bytes, path}, as in a parquet file
    column = dataset.select_columns([name]).with_format("arrow")[:].column(name)
    if rows is None or len(rows) == len(column):
        return column
    return column.take(pa.array(rows))


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
