"""One function per kind of chart: a tidy table in, an Altair chart without colours of its own out.

Charts are as wide as their container; colours, fonts and lines come from `theme.vega_config`.
"""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import pandas as pd

from tunnelscope.report import parts
from tunnelscope.report.tidy import Frame

INTERVAL = "isValid(row.low) ? format(row.low, '.1%') + ' – ' + format(row.high, '.1%') : '–'"


def accuracy_chart(
    tidy: pd.DataFrame, frame: Frame, network_accuracy: float | None = None, height: int = 380
) -> alt.LayerChart:
    """Probe accuracy by depth: lines with intervals, pixel baseline at 0, best layers ringed, tunnel shaded.

    Args:
        tidy: from `tidy.accuracies`.
        frame: what all charts of the scan share.
        network_accuracy: the network's own accuracy on the ID set, drawn as a line.
        height: of the plot, in pixels.
    """
    sets, hover = parts.shown_sets(frame), parts.hover()
    colour, shape = parts.set_colour(frame), parts.set_shape(frame)
    y = alt.Y(
        "accuracy:Q",
        title="Probe accuracy on test images",
        scale=alt.Scale(domain=accuracy_domain(tidy, network_accuracy), nice=False, zero=False),
        axis=alt.Axis(format="%", tickCount=6),
    )
    base = alt.Chart().transform_filter(sets).encode(x=parts.depth_axis(frame, first=0), y=y)
    layers = base.transform_filter("datum.layer_index > 0")
    lines = layers.mark_line().encode(color=colour, strokeWidth=parts.line_width()).add_params(sets)
    from_pixels = (
        base.transform_filter("datum.layer_index <= 1")
        .mark_line(strokeDash=[2, 3], strokeWidth=1.25, opacity=0.7)
        .encode(color=colour)
    )
    points = (
        base.mark_point(filled=True, opacity=1)
        .encode(
            color=colour,
            shape=shape,
            size=alt.condition(hover, alt.value(110), alt.value(alt.ExprRef("dot"))),
            tooltip=parts.tooltip({"accuracy": "format(row.accuracy, '.1%')", "95 % interval": INTERVAL}),
        )
        .add_params(hover)
    )
    marks = [
        *parts.tunnel_marks(frame),
        *network_marks(network_accuracy),
        parts.interval_marks(layers, frame, colour),
        from_pixels,
        lines,
        points,
        *best_marks(base, frame, colour),
    ]
    return parts.layered(marks, tidy, height, [parts.layer_names(frame, "pixels"), parts.point_size(frame)])


def accuracy_domain(tidy: pd.DataFrame, network_accuracy: float | None) -> list[float]:
    """Ends of the accuracy axis: from 0, or from the ten per cent below everything when all is high."""
    values = tidy[["accuracy", "low", "high"]].to_numpy(dtype=float).ravel().tolist()
    values = [value for value in [*values, network_accuracy] if value is not None and not math.isnan(value)]
    if not values:
        return [0.0, 1.0]
    bottom = math.floor((min(values) - 0.02) * 10) / 10
    top = min(1.0, math.ceil((max(values) + 0.03) * 20) / 20)
    return [round(bottom, 2) if bottom >= 0.4 else 0.0, round(top, 2)]


def network_marks(network_accuracy: float | None) -> list[alt.Chart]:
    """The network's own accuracy as a dotted line with its value written on it."""
    if network_accuracy is None:
        return []
    base = alt.Chart(pd.DataFrame({"accuracy": [network_accuracy]})).encode(y="accuracy:Q")
    label = f"the network itself {network_accuracy:.1%}"
    place: dict[str, Any] = {"align": "left", "baseline": "bottom", "dx": 4, "dy": -3, "aria": False}
    return [
        base.mark_rule(style="network").encode(tooltip=alt.value(label)),
        base.mark_text(style="network-label", **place).encode(x=alt.value(0), text=alt.value(label)),
    ]


def best_marks(base: alt.Chart, frame: Frame, colour: alt.Color) -> list[alt.Chart]:
    """A ring around each data set's best layer, with the layer's name where `label_at` says so."""
    ring: dict[str, Any] = {"filled": False, "shape": "circle", "size": 170, "strokeWidth": 2, "opacity": 1}
    best = base.transform_filter("datum.best")
    marks = [best.mark_point(**ring, aria=False).encode(color=colour)]
    name = "length(datum.layer) > 18 ? 'layer ' + datum.layer_index : datum.layer"
    edge = 0.08 * frame.count
    side = (
        f"datum.layer_index > {frame.count - edge} ? 'right' : datum.layer_index < {edge} ? 'left' : 'center'"
    )
    for where, baseline, dy in [("above", "bottom", -10), ("below", "top", 11)]:
        text = best.transform_filter(f"datum.label_at == '{where}'").transform_calculate(label=name)
        place: dict[str, Any] = {
            "baseline": baseline,
            "dy": dy,
            "fontSize": 11.5,
            "fontWeight": 600,
            "aria": False,
        }
        place["align"] = alt.ExprRef(side)
        marks.append(text.mark_text(style="halo", **place).encode(text="label:N"))
        marks.append(text.mark_text(**place).encode(text="label:N", color=colour))
    return marks


def depth_chart(
    tidy: pd.DataFrame,
    frame: Frame,
    title: str,
    *,
    log: bool = False,
    number_format: str = ",.3~g",
    chooser: tuple[str, str] | None = None,
    height: int = 250,
) -> alt.LayerChart:
    """A measure by depth, one line a data set, tunnel shaded.

    Args:
        tidy: from `tidy.by_layer`, column `value`; on a log axis all values must be above 0.
        frame: what all charts of the scan share.
        title: of the vertical axis.
        log: whether the vertical axis is logarithmic.
        number_format: of values in the tooltip (d3).
        chooser: a column of `tidy` to choose one value of, and what the reader sees before the choices.
        height: of the plot, in pixels.
    """
    sets, hover = parts.shown_sets(frame), parts.hover()
    colour, shape = parts.set_colour(frame), parts.set_shape(frame)
    y = (
        log_axis(tidy["value"].tolist(), title)
        if log
        else alt.Y("value:Q", title=title, axis=alt.Axis(tickCount=5))
    )
    base = alt.Chart().encode(x=parts.depth_axis(frame), y=y, color=colour)
    params = [parts.layer_names(frame), parts.point_size(frame)]
    if chooser:
        choice = choice_param(tidy, *chooser)
        params.append(choice)
        base = base.transform_filter(f"datum.{chooser[0]} == {choice.name}")
    base = base.transform_filter(sets)
    lines = base.mark_line().encode(strokeWidth=parts.line_width()).add_params(sets)
    points = (
        base.mark_point(filled=True, opacity=1)
        .encode(
            shape=shape,
            size=alt.condition(hover, alt.value(110), alt.value(alt.ExprRef("dot"))),
            tooltip=parts.tooltip({title: f"format(row.value, '{number_format}')"}),
        )
        .add_params(hover)
    )
    return parts.layered([*parts.tunnel_marks(frame), lines, points], tidy, height, params)


def log_axis(values: list[float], title: str) -> alt.Y:
    """A logarithmic axis that ends at the values; ticks at 1, 2, 5, or powers of ten over three decades."""
    low, high = min(values) / 1.2, max(values) * 1.2
    steps = (1,) if high / low > 1e3 else (1, 2, 5) if high / low > 4 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    ticks = [float(f"{tick:.3g}") for tick in ticks if low <= tick <= high]
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    return alt.Y("value:Q", title=title, scale=scale, axis=alt.Axis(values=ticks, format=",.4~g"))


def choice_param(tidy: pd.DataFrame, column: str, label: str) -> alt.Parameter:
    """A parameter `choice` holding one value of a column, with a menu where there is more than one."""
    options = [str(value) for value in tidy[column].unique()]
    bind = alt.binding_select(options=options, name=f"{label} ") if len(options) > 1 else alt.Undefined
    return alt.param(name="choice", value=options[0] if options else "", bind=bind)


def cka_chart(tidy: pd.DataFrame, frame: Frame, height: int = 420) -> alt.LayerChart:
    """The similarity of each pair of layers as a matrix from the first layer (bottom left) to the last.

    Args:
        tidy: from `tidy.similarities`, each pair once; the mirrored half is drawn from the same rows.
        frame: what all charts of the scan share.
        height: of the plot, in pixels.
    """
    choice = choice_param(tidy, "dataset", "Data set")
    scale = alt.Scale(domain=[0.5, frame.count + 0.5], nice=False, zero=False)
    colour = alt.Color(
        "cka:Q",
        scale=alt.Scale(domain=[0, 1], clamp=True),
        legend=alt.Legend(orient="top", title="CKA", format=".1f", tickCount=5, offset=14),
    )

    # Cells overlap by a hair, or the seams between them show.
    def half(across: str, up: str, name_across: str, name_up: str) -> alt.Chart:
        edges = {"left": f"datum.{across}-.52", "right": f"datum.{across}+.52"}
        edges |= {"bottom": f"datum.{up}-.52", "top": f"datum.{up}+.52"}
        ticks = parts.layer_ticks(frame, 1)
        return (
            alt.Chart()
            .transform_filter(f"datum.dataset == {choice.name}")
            .transform_calculate(**edges)
            .mark_rect(aria=False, strokeWidth=0)
            .encode(
                x=alt.X("left:Q", scale=scale, axis=ticks, title="Layer, from input to output"),
                x2="right:Q",
                y=alt.Y("bottom:Q", scale=scale, axis=parts.layer_ticks(frame, 1, angle=0), title=None),
                y2="top:Q",
                color=colour,
                tooltip=[
                    alt.Tooltip("dataset:N", title="data set"),
                    alt.Tooltip(f"{name_across}:N", title="layer across"),
                    alt.Tooltip(f"{name_up}:N", title="layer up"),
                    alt.Tooltip("cka:Q", title="CKA", format=".3f"),
                ],
            )
        )

    halves = [half("index", "index_b", "layer", "layer_b"), half("index_b", "index", "layer_b", "layer")]
    return parts.layered(halves, tidy, height, [parts.layer_names(frame), choice])
