"""The table of layers: one row a layer, every measure a column, and the same as numbers for the CSV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunnelscope.report import words
from tunnelscope.report.tidy import Frame, number, scores_by_layer

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Row:
    """A layer's cells as text, and whether it lies in the tunnel."""

    cells: tuple[str, ...]
    in_tunnel: bool


@dataclass(frozen=True)
class LayerTable:
    """Column titles, rows as read on the page, the same as numbers; `classes` are the columns' in CSS."""

    titles: tuple[str, ...]
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    csv_columns: tuple[str, ...]
    csv_rows: tuple[tuple[Any, ...], ...]


# key in run["layers"], title, how a value is written
COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("index", "#", words.count),
    ("name", "Layer", str),
    ("read_point", "Read at", lambda value: str(value or words.UNKNOWN)),
    ("shape", "Shape", words.shape),
    ("width", "Features", words.count),
    ("parameters", "Parameters so far", words.count),
    ("flops", "FLOPs so far", words.count),
    ("depth_fraction", "Depth", lambda value: words.percent(value, 0)),
)
TEXTS = frozenset({"name", "read_point", "shape"})
AFTER_ACCURACIES: tuple[tuple[str, str], ...] = (
    ("numerical_rank", "Numerical rank"),
    ("numerical_rank_1e-2", "Rank at 0.01"),
    ("numerical_rank_1e-4", "Rank at 0.0001"),
    ("effective_rank", "Effective rank"),
    ("rankme", "RankMe"),
    ("within_variance", "Within variance"),
    ("between_variance", "Between variance"),
    ("variance_ratio", "Variance ratio"),
    ("nc1", "NC1"),
    ("nc2", "NC2"),
    ("nc3", "NC3"),
    ("nc4", "NC4"),
    ("nc2_harun", "NC2 (2024)"),
    ("nc4_harun", "NC4 (2024)"),
    ("twonn", "TwoNN"),
)


def layer_table(table: pd.DataFrame, run: dict[str, Any], frame: Frame) -> LayerTable:
    """All layers with their accuracies on every set and their measures, without columns that are empty."""
    layers = run.get("layers") or [{"name": name, "index": i} for i, name in enumerate(frame.names, start=1)]
    columns: list[tuple[str, str, Callable[[Any], str], list[Any]]] = [
        (key, title, write, [layer.get(key) for layer in layers]) for key, title, write in COLUMNS
    ]
    numbers = set(table.loc[table["quantity"] == "probe_r2", "dataset"])  # R² is no share
    for key, values in accuracy_columns(table, frame).items():
        shown = [values.get(str(layer["name"])) for layer in layers]
        write = words.decimal if key in numbers else words.percent
        columns.append((f"accuracy_{key}", key, write, shown))
    for key, title in AFTER_ACCURACIES:
        write = words.count if "numerical_rank" in key else words.significant
        columns.append((key, title, write, [layer.get(key) for layer in layers]))
    columns = [column for column in columns if any(value is not None for value in column[3])]
    text = [[write(value) for value in values] for _, _, write, values in columns]
    values = [values for *_, values in columns]
    return LayerTable(
        titles=tuple(title for _, title, _, _ in columns),
        classes=tuple(column_classes(key) for key, *_ in columns),
        rows=tuple(
            Row(cells, frame.start is not None and place > frame.start)
            for place, cells in enumerate(zip(*text, strict=True), start=1)
        ),
        csv_columns=tuple(key for key, *_ in columns),
        csv_rows=tuple(tuple(csv_value(value) for value in row) for row in zip(*values, strict=True)),
    )


def column_classes(key: str) -> str:
    """`number` is set to the right; `lesser` has no room on a phone."""
    is_kept = key in ("name", "numerical_rank") or key.startswith("accuracy_")
    return " ".join(["number"] * (key not in TEXTS) + ["lesser"] * (not is_kept))


def accuracy_columns(table: pd.DataFrame, frame: Frame) -> dict[str, dict[str, float]]:
    """Per data set, in the order of the legend: layer name to probe accuracy (R², mAP)."""
    tidy = scores_by_layer(table, frame)
    return {
        key: dict(zip(rows["layer"], rows["value"], strict=True))
        for key in frame.sets
        if len(rows := tidy[tidy["dataset"] == key])
    }


def csv_value(value: Any) -> Any:
    """A cell of the CSV: shapes as text, numbers as they are, null for those that are not finite."""
    if isinstance(value, list | tuple):
        return words.shape(value)
    return value if value is None or isinstance(value, str) else number(value)
