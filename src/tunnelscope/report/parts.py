"""The parts charts are made of: the depth axis, the switchable data sets, the tunnel's shading, the hover."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from tunnelscope.report.tidy import Frame

FEW_LAYERS = 14  # up to here the axis shows the layers' names, above it their index
FEW_FOR_BANDS = 3  # up to here intervals are whiskers: a band needs some width


def layered(marks: Sequence[Any], tidy: pd.DataFrame, height: int, params: Sequence[Any]) -> alt.LayerChart:
    """Marks over each other from one table, as wide as the place they are put in."""
    chart: Any = alt.layer(*marks, data=tidy).properties(width="container", height=height)
    return chart.add_params(*params)


def layer_names(frame: Frame, at_zero: str = "") -> Any:
    """A chart parameter `names` that turns a layer's index into its name."""
    return alt.param(name="names", value=[at_zero, *frame.names])


def layer_ticks(frame: Frame, first: int, angle: int = -45) -> alt.Axis:
    """Ticks of an axis by layer index: with names where there are few layers, else with numbers.

    Needs the parameter of `layer_names`.
    """
    if frame.count <= FEW_LAYERS:
        return alt.Axis(
            values=list(range(first, frame.count + 1)),
            labelExpr="names[datum.value]",
            labelAngle=0 if sum(len(name) for name in frame.names) < 30 else angle,
            labelLimit=110,
            labelOverlap=False,
            grid=False,
        )
    return alt.Axis(
        tickMinStep=1, format="d", labelExpr="datum.value == 0 ? names[0] : datum.label", grid=False
    )


def depth_axis(frame: Frame, first: int = 1) -> alt.X:
    """The horizontal axis of every chart by depth; `first` is 0 where the input pixels are shown."""
    scale = alt.Scale(domain=[first - 0.5, frame.count + 0.5], nice=False, zero=False)
    return alt.X(
        "layer_index:Q", title="Layer, from input to output", scale=scale, axis=layer_ticks(frame, first)
    )


def shown_sets(frame: Frame) -> alt.Parameter:
    """Which data sets are drawn: all at first, each click on the legend switches one off or on."""
    every: Any = [{"dataset": key} for key in frame.sets]
    return alt.selection_point(
        name="sets", fields=["dataset"], bind="legend", toggle="true", value=every, empty=False, clear=False
    )


def set_colour(frame: Frame) -> alt.Color:
    """Colour by data set, with the legend above the chart in as many columns as fit."""
    legend = columned_legend(frame.sets)
    return alt.Color("dataset:N", scale=alt.Scale(domain=list(frame.sets)), legend=legend)


def columned_legend(names: Sequence[str], offset: int = 44) -> alt.Legend:
    """A legend above the chart in as many columns as fit."""
    column = 38 + 6.6 * min(24, max((len(name) for name in names), default=1))
    return alt.Legend(
        orient="top",
        title=None,
        labelLimit=180,
        offset=offset,
        symbolOpacity=1,
        direction="horizontal",
        columns=alt.ExprRef(f"max(1, floor(width / {column}))"),
    )


def set_shape(frame: Frame) -> alt.Shape:
    """Point shape by data set, merged into the legend of the colours."""
    return alt.Shape("dataset:N", scale=alt.Scale(domain=list(frame.sets)), legend=None)


def line_width() -> Any:
    """The ID set in a strong line, the others in a finer one."""
    return alt.condition("datum.role == 'id'", alt.value(2.75), alt.value(1.75))


def point_size(frame: Frame) -> Any:
    """A chart parameter `dot`: points shrink where many layers share a narrow chart."""
    return alt.param(name="dot", expr=f"clamp(2.4 * width / {frame.count + 1}, 5, 38)")


def hover() -> alt.Parameter:
    """The point nearest to the pointer."""
    return alt.selection_point(
        name="hover",
        fields=["dataset", "layer_index"],
        on="pointerover",
        nearest=True,
        empty=False,
        clear="pointerout",
    )


def tooltip(values: dict[str, str]) -> Any:
    """What the pointer shows of a point: its data set, layer and index, then values as expressions of `row`.

    A list of fields would do, but Vega-Lite 6.4 loses text fields of the point nearest to the pointer.
    """
    shown = {"data set": "row.dataset", "layer": "row.layer", "index": "row.layer_index", **values}
    pairs = (f"{json.dumps(title)}: {expression}" for title, expression in shown.items())
    # The cell around a point holds it as its datum.
    return alt.value(alt.ExprRef(f"{{{', '.join(pairs)}}}".replace("row.", "(datum.datum || datum).")))


def interval_marks(chart: alt.Chart, frame: Frame, colour: alt.Color) -> alt.Chart:
    """The 95 % intervals `low` to `high` as bands, or as whiskers where layers are too few for a band."""
    if frame.count <= FEW_FOR_BANDS:
        return chart.mark_rule(strokeWidth=1.5, clip=True).encode(y="low:Q", y2="high:Q", color=colour)
    return chart.mark_area(opacity=0.16, strokeWidth=0, clip=True).encode(
        y="low:Q", y2="high:Q", color=colour
    )


def untrained_marks(base: alt.Chart, frame: Frame, colour: alt.Color) -> list[alt.Chart]:
    """The same network untrained: a faint dashed line a data set, with one entry in the legend."""
    if frame.control is None:
        return []
    legend = alt.Legend(orient="top", title=None, symbolType="stroke", symbolSize=300, offset=52)
    dash = alt.StrokeDash("line:N", scale=alt.Scale(domain=["untrained"], range=[[5, 4]]), legend=legend)
    lines = base.transform_filter("isValid(datum.untrained)").transform_calculate(line="'untrained'")
    return [
        lines.mark_line(strokeWidth=1.5, opacity=0.6, aria=False).encode(
            y="untrained:Q", color=colour, strokeDash=dash
        )
    ]


def tunnel_marks(frame: Frame) -> list[alt.Chart]:
    """The tunnel as a shaded stretch with its name above it, and the interval of its start as a bar."""
    if frame.start is None or frame.start >= frame.count:
        return []
    tunnel = pd.DataFrame({"layer_index": [frame.start + 0.5], "end": [frame.count + 0.5]})
    base = alt.Chart(tunnel)
    where = {"x": "layer_index:Q", "x2": "end:Q"}
    label = f"tunnel: {frame.count - frame.start} of {frame.count}"
    marks = [
        base.mark_rect(style="tunnel", aria=False).encode(**where),
        base.mark_rule(style="tunnel-edge", aria=False).encode(x="layer_index:Q"),
        base.mark_text(style="tunnel-label", align="right", baseline="bottom", aria=False).encode(
            x="end:Q", y=alt.value(-6), text=alt.value(label)
        ),
    ]
    if frame.start_interval and frame.start_interval[0] < frame.start_interval[1]:
        low, high = frame.start_interval
        ends = pd.DataFrame({"layer_index": [low + 0.5], "end": [high + 0.5]})
        marks.append(
            alt.Chart(ends)
            .mark_rule(style="tunnel-interval", aria=False)
            .encode(**where, y=alt.value(0), tooltip=alt.value("Where the tunnel may start (95 % interval)"))
        )
    return marks
