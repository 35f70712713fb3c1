"""Charts that lay several scans over each other by relative depth: a tidy table in, an Altair chart out.

As in `charts`, they have no colours of their own and are as wide as their container.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from tunnelscope.report import parts
from tunnelscope.report.accuracy import INTERVAL, accuracy_domain, axis_format, written
from tunnelscope.report.charts import choice_param, log_axis
from tunnelscope.tasks import heading

LANE = 8  # pixels a run's tunnel start takes above the plot


def accuracy_panel(
    tidy: pd.DataFrame,
    starts: pd.DataFrame,
    labels: Sequence[str],
    score: str = "accuracy",
    height: int = 300,
) -> Any:
    """Accuracy (R², mAP) on one data set by relative depth, a line a run; best layers ringed, starts on top.

    Args:
        tidy: run, layer, layer_index, depth_fraction, accuracy, low, high, best.
        starts: run, lane, depth, low, high: where each run's tunnel starts; empty where none is known.
        labels: all runs in the order of the legend.
        score: what probes are scored by, in words.
        height: of the plot, in pixels.
    """
    lanes = LANE * len(starts) + 6 if len(starts) else 0
    domain = accuracy_domain(tidy, None)
    y = alt.Y(
        "accuracy:Q",
        title=f"Probe {score} on test examples",
        scale=alt.Scale(domain=domain, nice=False, zero=False),
        axis=alt.Axis(format=axis_format(score), tickCount=6, titleY=-12 - max(lanes, 15)),
    )
    shown, hover, colour = shown_runs(labels), hovered(), run_colour(labels, 34 + max(lanes, 15))
    base = alt.Chart().transform_filter(shown).encode(x=depth_axis(), y=y)
    ring: dict[str, Any] = {"filled": False, "shape": "circle", "size": 170, "strokeWidth": 2, "opacity": 1}
    band = base.mark_area(opacity=0.1, strokeWidth=0, clip=True).encode(y="low:Q", y2="high:Q", color=colour)
    lines = base.mark_line(strokeWidth=2, clip=True).encode(color=colour).add_params(shown)
    shows = {score: written("format(row.accuracy, '.1%')", score), "95 % interval": written(INTERVAL, score)}
    base = base.transform_filter(f"datum.accuracy >= {domain[0]}")  # a point is not clipped, lines are
    marks = [
        *start_marks(starts, colour, shown),
        band,
        lines,
        points(base, labels, colour, hover, shows),
        base.transform_filter("datum.best").mark_point(**ring, aria=False).encode(color=colour),
    ]
    return parts.layered(marks, tidy, height, [])


def start_marks(starts: pd.DataFrame, colour: alt.Color, shown: alt.Parameter) -> list[Any]:
    """A lane a run above the plot: a tick where its tunnel starts, on a bar of its interval."""
    if starts.empty:
        return []
    base = alt.Chart(starts).transform_filter(shown)
    lane = alt.Y("lane:Q", scale=None)
    told = "datum.run + ': tunnel after ' + datum.layer + ', ' + format(datum.depth, '.0%') + ' of the depth'"
    tip = alt.value(alt.ExprRef(told))
    bar = base.mark_rule(strokeWidth=3, strokeCap="round", opacity=0.5)
    tick = base.mark_rect(width=3, height=LANE)
    line = base.mark_rule(strokeDash=[2, 4], strokeWidth=1, opacity=0.7, aria=False)
    return [
        line.encode(x="depth:Q", color=colour),
        bar.encode(x="low:Q", x2="high:Q", y=lane, color=colour, tooltip=tip),
        tick.encode(x="depth:Q", y=lane, color=colour, tooltip=tip),
    ]


def rank_chart(tidy: pd.DataFrame, labels: Sequence[str], height: int = 300) -> Any:
    """Numerical rank by relative depth, a line a run, with a choice of data sets; all values above 0.

    Args:
        tidy: run, dataset, layer, layer_index, depth_fraction, value.
    """
    shown, hover, colour = shown_runs(labels), hovered(), run_colour(labels)
    choice = choice_param(tidy, "dataset", "Data set")
    base = alt.Chart().transform_filter(f"datum.dataset == {choice.name}").transform_filter(shown)
    base = base.encode(x=depth_axis(), y=log_axis(tidy["value"].tolist(), "Numerical rank"))
    lines = base.mark_line(strokeWidth=2).encode(color=colour).add_params(shown)
    shows = {"numerical rank": "format(row.value, ',')"}
    return parts.layered([lines, points(base, labels, colour, hover, shows)], tidy, height, [choice])


def retained_chart(tidy: pd.DataFrame, labels: Sequence[str], score: str = "accuracy") -> Any:
    """What the last layer keeps on each data set: a point and its interval a run.

    Args:
        tidy: run, dataset, value, low, high.
        labels: all runs in the order of the legend.
        score: what probes are scored by, in words.
    """
    shown, colour = shown_runs(labels), run_colour(labels, offset=16)
    ends = [*tidy["low"].dropna(), *tidy["high"].dropna(), *tidy["value"], 1.0]
    scale = alt.Scale(domain=[min(ends) - 0.02, max(ends) + 0.02], nice=False, zero=False)
    x = alt.X(
        "value:Q",
        title=f"{heading(score)} retained, r",
        scale=scale,
        axis=alt.Axis(format="%", tickCount=6, grid=True),
    )
    y = alt.Y(
        "dataset:N",
        title=None,
        sort=None,
        axis=alt.Axis(domain=False, ticks=False, labelLimit=130),
        scale=alt.Scale(paddingInner=0.25, paddingOuter=0.1),
    )
    base = (
        alt.Chart()
        .transform_filter(shown)
        .encode(y=y, yOffset=alt.YOffset("run:N", sort=list(labels), scale=alt.Scale(domain=list(labels))))
    )
    whole = (
        alt.Chart(pd.DataFrame({"value": [1.0]})).mark_rule(style="network", aria=False).encode(x="value:Q")
    )
    bars = base.mark_rule(strokeWidth=2, opacity=0.6).encode(
        x=alt.X("low:Q", scale=scale), x2="high:Q", color=colour
    )
    dots = (
        base.mark_point(filled=True, opacity=1, size=60)
        .encode(
            x=x,
            color=colour,
            shape=run_shape(labels),
            tooltip=tooltip({"r": "format(row.value, '.1%')", "95 % interval": INTERVAL}, layer=False),
        )
        .add_params(shown)
    )
    rows = len(labels) * len(set(tidy["dataset"]))
    return parts.layered([whole, bars, dots], tidy, max(120, 17 * rows + 24), [])


def points(
    base: alt.Chart, labels: Sequence[str], colour: alt.Color, hover: Any, shows: dict[str, str]
) -> Any:
    """A small point a layer that grows under the pointer and tells its values."""
    return (
        base.mark_point(filled=True, opacity=1)
        .encode(
            color=colour,
            shape=run_shape(labels),
            size=alt.condition(hover, alt.value(110), alt.value(26)),
            tooltip=tooltip(shows),
        )
        .add_params(hover)
    )


def depth_axis() -> alt.X:
    """The horizontal axis: a layer's index as a share of the run's layers."""
    scale = alt.Scale(domain=[0, 1.02], nice=False, zero=False)
    axis = alt.Axis(format="%", values=[0, 0.2, 0.4, 0.6, 0.8, 1], grid=False)
    return alt.X("depth_fraction:Q", title="Relative depth, from input to output", scale=scale, axis=axis)


def shown_runs(labels: Sequence[str]) -> alt.Parameter:
    """Which runs are drawn; the page's script keeps parameters of the name `sets` alike in all figures."""
    every: Any = [{"run": label} for label in labels]
    return alt.selection_point(
        name="sets", fields=["run"], bind="legend", toggle="true", value=every, empty=False, clear=False
    )


def hovered() -> alt.Parameter:
    """The point nearest to the pointer."""
    return alt.selection_point(
        name="hover",
        fields=["run", "layer_index"],
        on="pointerover",
        nearest=True,
        empty=False,
        clear="pointerout",
    )


def run_colour(labels: Sequence[str], offset: int = 49) -> alt.Color:
    """Colour by run, with the legend above the chart."""
    return alt.Color(
        "run:N", scale=alt.Scale(domain=list(labels)), legend=parts.columned_legend(labels, offset)
    )


def run_shape(labels: Sequence[str]) -> alt.Shape:
    """Point shape by run, merged into the legend of the colours."""
    return alt.Shape("run:N", scale=alt.Scale(domain=list(labels)), legend=None)


def tooltip(values: dict[str, str], layer: bool = True) -> Any:
    """What the pointer shows of a point (see `parts.tooltip`)."""
    place = {"layer": "row.layer", "depth": "format(row.depth_fraction, '.0%')"} if layer else {}
    pairs = (
        f"{json.dumps(title)}: {expression}"
        for title, expression in ({"run": "row.run"} | place | values).items()
    )
    return alt.value(alt.ExprRef(f"{{{', '.join(pairs)}}}".replace("row.", "(datum.datum || datum).")))
