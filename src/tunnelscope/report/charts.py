"""One function per kind of chart: a tidy table in, an Altair chart without colours of its own out.

Charts are as wide as their container; colours, fonts and lines come from `theme.vega_config`.
"""

from __future__ import annotations

import math

import altair as alt
import pandas as pd

from tunnelscope.report import parts
from tunnelscope.report.tidy import Frame


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
        log_axis([*tidy["value"], *(tidy["untrained"].dropna() if "untrained" in tidy else ())], title)
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
    shows = {title: f"format(row.value, '{number_format}')"}
    if frame.control is not None:
        shows["untrained"] = f"isValid(row.untrained) ? format(row.untrained, '{number_format}') : '–'"
    points = (
        base.mark_point(filled=True, opacity=1)
        .encode(
            shape=shape,
            size=alt.condition(hover, alt.value(110), alt.value(alt.ExprRef("dot"))),
            tooltip=parts.tooltip(shows),
        )
        .add_params(hover)
    )
    untrained = parts.untrained_marks(base, frame, colour)
    return parts.layered([*parts.tunnel_marks(frame), *untrained, lines, points], tidy, height, params)


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
