"""From the long table and run.json to one tidy table per figure, and what all figures share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunnelscope.errors import RequestError
from tunnelscope.tasks import SCORE_TITLES

if TYPE_CHECKING:
    import pandas as pd

RANKS = {  # quantity -> the threshold as a reader calls it, the default first
    "numerical_rank": "0.001",
    "numerical_rank_1e-2": "0.01",
    "numerical_rank_1e-4": "0.0001",
}


@dataclass(frozen=True)
class Frame:
    """What every figure of one scan shares: the depth axis, the data sets and where the tunnel lies.

    `names` has the layers in forward order, so `names[i - 1]` is layer i. `start` is the index of the
    extractor's last layer, `start_interval` its interval; both None when there is no tunnel to show.
    `control` is what the column `weights` holds in rows of the same network untrained; None without them.
    """

    names: tuple[str, ...]
    sets: tuple[str, ...]
    id_set: str | None
    start: int | None
    start_interval: tuple[int, int] | None
    control: str | None = None

    @property
    def count(self) -> int:
        """How many layers there are."""
        return len(self.names)


def number(value: Any) -> float | None:
    """A finite float, or None for everything that is none (null, NaN, infinity, a missing key)."""
    if value is None or isinstance(value, str):
        return None
    return float(value) if math.isfinite(value) else None


def shared_frame(table: pd.DataFrame, run: dict[str, Any]) -> Frame:
    """Read layers, data sets (the ID set first) and the tunnel of one scan.

    Raises:
        RequestError: neither `run["layers"]` nor the table names a layer.
    """
    names = [str(layer["name"]) for layer in run.get("layers") or []]
    if not names:
        rows = table.loc[table["layer"].notna() & (table["layer_index"] > 0)]
        names = [str(name) for name in rows.sort_values("layer_index")["layer"].unique()]
    if not names:
        raise RequestError(
            "these results name no layer, so there is nothing to report; scan the network again"
        )
    roles = {str(entry["key"]): entry.get("role") for entry in run.get("data") or []}
    of_layers = table["dataset"].notna() & table["layer"].notna()  # draws pooled have no layers
    for key, role in table.loc[of_layers, ["dataset", "role"]].drop_duplicates().to_numpy():
        roles.setdefault(str(key), role)
    id_set = next((key for key, role in roles.items() if role == "id"), None)
    tunnel = run.get("tunnel") or {}
    place = {name: index for index, name in enumerate(names, start=1)}
    start = place.get(tunnel.get("start_95") or "")
    ends = [place.get(name) for name in tunnel.get("start_95_interval") or []]
    interval = (ends[0], ends[1]) if start and len(ends) == 2 and ends[0] and ends[1] else None
    sets = sorted(roles, key=lambda key: key != id_set)
    control = (run.get("control") or {}).get("weights")
    return Frame(tuple(names), tuple(sets), id_set, start, interval, control)


def by_layer(table: pd.DataFrame, quantity: str, frame: Frame) -> pd.DataFrame:
    """One row a data set and layer: dataset, role, layer, layer_index, value, low, high.

    Several seeds become their mean, with the interval of that mean where the table has one (a quantity
    `…_mean`: over test rows and seeds), else the outermost ends; where a quantity was read on both
    splits the test rows are taken. Rows are sorted so that the ID set comes last and is drawn on top.
    Where the results have a control there is a column `untrained` with its value at the same place.
    """
    rows = table.loc[(table["quantity"] == quantity) & table["layer"].notna()]
    over_seeds = table.loc[table["quantity"] == f"{quantity}_mean"]
    if frame.control is None:
        return with_intervals(means(rows, frame), over_seeds)
    is_control = rows["weights"] == frame.control
    place = ["dataset", "layer"]
    beside = means(rows.loc[is_control & (rows["layer_index"] > 0)], frame)  # both see the same pixels
    beside = beside.rename(columns={"value": "untrained"})[[*place, "untrained"]]
    own = with_intervals(means(rows.loc[~is_control], frame), over_seeds)
    return own.merge(beside, on=place, how="left")


def scores_by_layer(table: pd.DataFrame, frame: Frame) -> pd.DataFrame:
    """What probes are scored by on each set, whatever it is: `by_layer` of accuracy, R² and mAP together."""
    import pandas as pd

    parts = [by_layer(table, f"probe_{name}", frame) for name in score_names(table)]
    return pd.concat(parts, ignore_index=True) if parts else by_layer(table, "probe_accuracy", frame)


def score_names(table: pd.DataFrame) -> list[str]:
    """What probes are scored by in these results, accuracy first."""
    there = set(table["quantity"])
    return [name for name in SCORE_TITLES if f"probe_{name}" in there]


def with_intervals(tidy: pd.DataFrame, over_seeds: pd.DataFrame) -> pd.DataFrame:
    """Means with the intervals that hold their seeds, where there are such."""
    if over_seeds.empty:
        return tidy
    place = ["dataset", "layer"]
    ends = over_seeds.astype({"low": float, "high": float})[[*place, "low", "high"]]
    joined = tidy.merge(ends, on=place, how="left", suffixes=("", "_mean"))
    return tidy.assign(**{end: joined[f"{end}_mean"].fillna(joined[end]) for end in ("low", "high")})


def means(rows: pd.DataFrame, frame: Frame) -> pd.DataFrame:
    """Rows of one quantity as `by_layer` gives them."""
    rows = rows.loc[rows["value"].notna()]
    if "test" in set(rows["split"]):
        rows = rows.loc[rows["split"] == "test"]
    keys = ["dataset", "role", "layer", "layer_index"]
    tidy = rows.astype({"layer_index": int, "value": float, "low": float, "high": float})
    tidy = (
        tidy.groupby(keys, sort=False, dropna=False)
        .agg({"value": "mean", "low": "min", "high": "max"})
        .reset_index()
    )
    drawn = {key: place for place, key in enumerate(reversed(frame.sets))}
    return tidy.sort_values(
        ["dataset", "layer_index"],
        key=lambda column: column.map(drawn) if column.name == "dataset" else column,
        ignore_index=True,
    )


def accuracies(table: pd.DataFrame, run: dict[str, Any], frame: Frame) -> pd.DataFrame:
    """Probe accuracy (R², mAP) by depth: `by_layer` with it as `accuracy` and the columns `best`, `label_at`.

    Index 0 is the probe on the input pixels. `best` marks the layer `run` recommends for the set, `label_at`
    says whether its name goes above or below the point ("" for none: the ID set's, where there are others).
    """
    tidy = scores_by_layer(table, frame).rename(columns={"value": "accuracy"})
    best = {(key, layer.get("layer")) for key, layer in (run.get("best_layer") or {}).items() if layer}
    pairs = zip(tidy["dataset"], tidy["layer"], tidy["layer_index"], strict=True)
    tidy = tidy.assign(best=[index > 0 and (key, layer) in best for key, layer, index in pairs], label_at="")
    named = tidy.loc[tidy["best"] & ((tidy["role"] != "id") | (len(frame.sets) == 1))]
    for row in named.index:
        tidy.loc[row, "label_at"] = label_place(tidy, row, frame)
    return tidy


def label_place(tidy: pd.DataFrame, row: Any, frame: Frame) -> str:
    """Above a point, but below it where another set's curve runs just over it and is further away below."""
    point: Any = tidy.loc[row]
    near = (tidy["layer_index"] - point["layer_index"]).abs() <= max(1, 0.08 * frame.count)
    others = tidy.loc[near & (tidy["dataset"] != point["dataset"]), "accuracy"] - point["accuracy"]
    room_above, room_below = others[others >= 0].min(), -others[others <= 0].max()  # NaN: nothing there
    crowded = room_above < 0.08 * (tidy["accuracy"].max() - tidy["accuracy"].min())
    return "below" if crowded and not room_below <= room_above else "above"


def ranks(table: pd.DataFrame, frame: Frame) -> pd.DataFrame:
    """Numerical rank by depth at each threshold: `by_layer` with a column `threshold`, the default first."""
    import pandas as pd

    parts = [by_layer(table, name, frame).assign(threshold=label) for name, label in RANKS.items()]
    parts = [part for part in parts if len(part)] or parts[:1]
    return pd.concat(parts, ignore_index=True)


def similarities(table: pd.DataFrame, frame: Frame) -> pd.DataFrame:
    """CKA of each pair of layers once: dataset, layer, layer_b, index, index_b (index ≤ index_b), cka."""
    is_own = True if frame.control is None else table["weights"] != frame.control
    rows = table.loc[(table["quantity"] == "cka") & table["value"].notna() & is_own]
    place = {name: index for index, name in enumerate(frame.names, start=1)}
    tidy = rows.loc[:, ["dataset", "layer", "layer_b"]].assign(
        index=rows["layer"].map(place),
        index_b=rows["layer_b"].map(place),
        cka=rows["value"].astype(float).round(4),
    )
    tidy = tidy.dropna(subset=["index", "index_b"]).astype({"index": int, "index_b": int})
    return tidy.drop_duplicates(["dataset", "index", "index_b"]).reset_index(drop=True)
