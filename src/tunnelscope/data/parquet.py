"""Local parquet: one file, or a folder of shards named after their splits, as the hub lays them out."""

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tunnelscope.data.labelled import group_shards
from tunnelscope.data.sniff import looks_like
from tunnelscope.data.tables import Table
from tunnelscope.errors import RequestError


def find_splits(path: Path) -> dict[str, list[Path]]:
    """Return a file's or folder's parquet files by split (`split_name`); a lone file is one split."""
    if path.is_file():
        return {"": [path]}
    return group_shards((file for file in path.rglob("*.parquet") if file.is_file()), path)


def open_split(name: str, files: list[Path]) -> Table:
    """Read the schemas of a split's shards.

    Raises:
        RequestError: a file that is no parquet (what it looks like), or shards whose columns differ.
    """
    schema = _open(files[0]).schema_arrow
    for file in files[1:]:
        other = _open(file).schema_arrow
        if not other.equals(schema) or _feature_types(other) != _feature_types(schema):
            raise RequestError(
                f"{file} has other columns or class names than {files[0]}, it has: {_describe(other)}; "
                "a folder holds one data set"
            )
    return Table(name, schema, partial(_column, files), files[0].parent)


def _column(files: list[Path], name: str, rows: np.ndarray | None) -> pa.ChunkedArray:
    """Read some rows (ascending) of a column, a row group at a time, row groups without any left out."""
    chunks: list[pa.Array] = []
    kind: pa.DataType | None = None
    start = 0
    for file in files:
        parquet = _open(file)
        kind = parquet.schema_arrow.field(name).type
        for group in range(parquet.num_row_groups):
            count = parquet.metadata.row_group(group).num_rows
            if rows is None:
                inside = None
            else:
                first, last = np.searchsorted(rows, [start, start + count])
                inside = rows[first:last] - start
            start += count
            if inside is None or len(inside):
                chunks += _read_group(parquet, file, group, name, inside)
    return pa.chunked_array(chunks, type=kind)


def _read_group(
    parquet: pq.ParquetFile, file: Path, group: int, name: str, rows: np.ndarray | None
) -> list[pa.Array]:
    try:
        column = parquet.read_row_group(group, columns=[name]).column(name)
    except (pa.ArrowException, OSError) as error:
        raise RequestError(f"{file} is damaged in row group {group}: {_first_line(error)}") from error
    if rows is None or len(rows) == len(column):
        return column.chunks
    return column.take(pa.array(rows)).chunks


def _open(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except PermissionError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror}") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        with file.open("rb") as stream:
            looks = looks_like(stream.read(512))
        raise RequestError(
            f"{file} is no readable parquet file: it looks like {looks}; give a .parquet file, "
            "a folder of them, or a folder of class folders"
        ) from error


def _feature_types(schema: pa.Schema) -> bytes | None:
    """What the Hugging Face library says of the columns: two sets in one folder differ in it."""
    return (schema.metadata or {}).get(b"huggingface")


def _describe(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
