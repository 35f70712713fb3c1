"""The report of a training's checkpoints: heat maps of layer by step, and a table of the readings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt

from tunnelscope.report.charts import choice_param
from tunnelscope.report.figures import Figure
from tunnelscope.report.page import render_template
from tunnelscope.report.specs import file_name, write_file
from tunnelscope.report.words import UNKNOWN

if TYPE_CHECKING:
    import pandas as pd

CELL = 15  # pixels of a layer's row, at most
HEIGHTS = (150, 560)


@dataclass(frozen=True)
class Map:
    """A quantity as a heat map: its names in the table, how it is drawn and how it is read."""

    quantities: dict[str, str]  # as in the table → as a reader chooses it
    key: str
    title: str
    caption: str
    log: bool = False
    percent: bool = False


MAPS = (
    Map(
        {"probe_accuracy": "accuracy"},
        "probe_accuracy",
        "Probe accuracy",
        "How well a linear probe reads the classes from each layer, after each step. On the data that the "
        "network is trained on it rises in ever earlier layers; on other data the last rows fall behind "
        "where a tunnel forms.",
        percent=True,
    ),
    Map(
        {"numerical_rank": "rank"},
        "numerical_rank",
        "Numerical rank",
        "Directions that carry a noticeable share of the variance. The tunnel is where it falls. Logarithmic "
        "colours.",
        log=True,
    ),
    Map(
        {"nc1": "NC1"},
        "nc1",
        "Neural collapse",
        "Spread within classes relative to the spread between them (NC1). Lower: classes shrink towards "
        "points. Logarithmic colours.",
        log=True,
    ),
    Map(
        {"cka_to_last": "CKA"},
        "cka_to_last",
        "Similarity to the last checkpoint",
        "How alike a layer arranges the test images after this step and after the last one (unbiased linear "
        "CKA): 1 means that it is settled.",
    ),
    Map(
        {"weight_change_relative": "relative to the norm before", "weight_change_rms": "RMS"},
        "weight_change",
        "Weights that move",
        "How far each weight matrix moved since the checkpoint before, which lies further back in later "
        "columns. Logarithmic colours.",
        log=True,
    ),
)


def write_over_training(table: pd.DataFrame, run: dict[str, Any], path: Path) -> None:
    """Write the report, a single HTML file with everything it needs inside.

    Args:
        table: the results table of all checkpoints.
        run: the object of `run.json`.
        path: the file to write; its folder is made if it is not there.
    """
    rows = readings(run)
    columns = [
        "step",
        "epoch",
        "network accuracy",
        "tunnel starts after",
        *(f"r {key}" for key in others(run)),
    ]
    page = render_template(
        "over_training.html.j2",
        build_maps(table, run),
        colours=(len(run["data"]), True),
        tables={"readings": {"columns": columns, "rows": rows}},
        name=file_name(str(run["model"]), "over-training"),
        version=run.get("tunnelscope") or "",
        title=f"{run['model']} over its training",
        verdict=run["verdict"],
        warnings=run["warnings"],
        columns=columns,
        rows=rows,
        command=run.get("command") or "",
    )
    write_file(path, page.encode())


def build_maps(table: pd.DataFrame, run: dict[str, Any]) -> list[Figure]:
    """Every heat map the results have numbers for."""
    figures = []
    for one in MAPS:
        rows = tidy_map(table, run, one)
        if not rows.empty:
            figures.append(Figure(one.key, one.title, one.caption, heat_map(rows, one), wide=True))
    return figures


def tidy_map(table: pd.DataFrame, run: dict[str, Any], one: Map) -> pd.DataFrame:
    """One row a cell: choice (data set, or kind of change), step, place (row from below), layer, value."""
    import pandas as pd

    rows: Any = table.loc[table["quantity"].isin(list(one.quantities)) & table["layer"].notna()]
    rows = rows.loc[rows["value"].notna() & ~(rows["layer_index"] == 0).fillna(False)]
    if "test" in set(rows["split"].dropna()):
        rows = rows.loc[rows["split"] == "test"]
    if one.log:
        rows = rows.loc[rows["value"] > 0]
    choice = rows["dataset"] if len(one.quantities) == 1 else rows["quantity"].map(one.quantities)
    places = {name: place for place, name in enumerate(dict.fromkeys(rows["layer"]), start=1)}
    tidy: Any = pd.DataFrame(
        {
            "choice": choice.astype(str),
            "step": rows["run"].str.removeprefix("step-").astype(int),
            "place": rows["layer"].map(places).astype(int),
            "layer": rows["layer"].astype(str),
            "value": rows["value"].astype(float),
        }
    )
    tidy = tidy.groupby(["choice", "step", "place", "layer"], sort=False).agg({"value": "mean"}).reset_index()
    order = {str(entry["key"]): number for number, entry in enumerate(run["data"])}
    tidy = tidy.assign(order=tidy["choice"].map(lambda key: order.get(key, 0)))
    tidy = tidy.sort_values(["order", "step", "place"], kind="stable", ignore_index=True)
    return tidy.drop(columns="order")


def heat_map(tidy: pd.DataFrame, one: Map) -> alt.LayerChart:
    """Layers from the input (below) to the output (above), checkpoints from left to right."""
    places = dict(zip(tidy["place"], tidy["layer"], strict=True))
    names = [places[place] for place in sorted(places, reverse=True)]
    choice = choice_param(tidy, "choice", "Data set" if len(one.quantities) == 1 else "Change")
    form = ".0%" if one.percent else ",.3~g"
    scale = alt.Scale(type="log") if one.log else alt.Scale()
    cells: Any = (
        alt.Chart()
        .transform_filter(f"datum.choice == {choice.name}")
        .mark_rect(aria=False)
        .encode(
            x=alt.X("step:O", title="After step", axis=alt.Axis(labelAngle=0, labelOverlap=True, grid=False)),
            y=alt.Y(
                "layer:N",
                sort=names,
                title=None,
                axis=alt.Axis(labelLimit=130, labelOverlap=True, grid=False),
            ),
            color=alt.Color(
                "value:Q",
                scale=scale,
                legend=alt.Legend(orient="right", title=None, format=form, tickCount=4, gradientLength=120),
            ),
            tooltip=[
                alt.Tooltip("layer:N"),
                alt.Tooltip("step:Q", title="after step", format=","),
                alt.Tooltip("value:Q", title=one.title, format=".1%" if one.percent else ",.4~g"),
            ],
        )
    )
    height = min(max(HEIGHTS[0], CELL * len(names)), HEIGHTS[1])
    chart: Any = alt.layer(cells, data=tidy).properties(width="container", height=height)
    return chart.add_params(choice)


def others(run: dict[str, Any]) -> list[str]:
    """Keys of the OOD sets."""
    return [str(entry["key"]) for entry in run["data"] if entry["role"] == "ood"]


def readings(run: dict[str, Any]) -> list[list[str]]:
    """A row of text a checkpoint: step, epoch, network accuracy, start of the tunnel, r of each OOD set."""
    index = {layer["name"]: layer["index"] for layer in run["layers"]}
    rows = []
    for one in run["checkpoints"]:
        own, start = one["network_accuracy"], one["tunnel"]["start_95"]
        kept = [one["tunnel"]["ood"][key]["retained"]["value"] for key in others(run)]
        rows.append(
            [
                f"{one['step']:,}",
                UNKNOWN if one["epoch"] is None else f"{one['epoch']:.3g}",
                UNKNOWN if own is None else f"{own['value']:.1%}",
                UNKNOWN if start is None else f"{start} ({index[start]} of {len(index)})",
                *(UNKNOWN if value is None else f"{value:.1%}" for value in kept),
            ]
        )
    return rows
