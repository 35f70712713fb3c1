"""The report's main chart: probe accuracy by depth, with what it is to be compared with."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import pandas as pd

from tunnelscope.report import parts
from tunnelscope.report.tidy import Frame

LOWEST = -1.0  # of an axis of R², so that one layer far off does not press all others flat
INTERVAL = "isValid(row.low) ? format(row.low, '.1%') + ' – ' + format(row.high, '.1%') : '–'"


def accuracy_chart(
    tidy: pd.DataFrame,
    frame: Frame,
    network_accuracy: float | None = None,
    height: int = 380,
    baseline: str = "pixels",
    score: str = "accuracy",
) -> alt.LayerChart:
    """Probe accuracy by depth: lines with intervals, the baseline at 0, best layers ringed, tunnel shaded.

    Args:
        tidy: from `tidy.accuracies`.
        frame: what all charts of the scan share.
        network_accuracy: the network's own accuracy on the ID set, drawn as a line.
        height: of the plot, in pixels.
        baseline: what layer 0 is called, where there is one.
        score: what probes are scored by, in words.
    """
    first = 0 if 0 in set(tidy["layer_index"]) else 1
    sets, hover = parts.shown_sets(frame), parts.hover()
    colour, shape = parts.set_colour(frame), parts.set_shape(frame)
    domain = accuracy_domain(tidy, network_accuracy)
    y = alt.Y(
        "accuracy:Q",
        title=f"Probe {score} on test examples",
        scale=alt.Scale(domain=domain, nice=False, zero=False),
        axis=alt.Axis(format=axis_format(score), tickCount=6),
    )
    base = alt.Chart().transform_filter(sets).encode(x=parts.depth_axis(frame, first=first), y=y)
    layers = base.transform_filter("datum.layer_index > 0")
    lines = layers.mark_line(clip=True).encode(color=colour, strokeWidth=parts.line_width()).add_params(sets)
    from_pixels = (
        base.transform_filter("datum.layer_index <= 1")
        .mark_line(strokeDash=[2, 3], strokeWidth=1.25, opacity=0.7, clip=True)
        .encode(color=colour)
    )
    shows = {score: "format(row.accuracy, '.1%')", "95 % interval": INTERVAL}
    if frame.control is not None:
        shows["untrained"] = "isValid(row.untrained) ? format(row.untrained, '.1%') : '–'"
    shows = {title: written(expression, score) for title, expression in shows.items()}
    base = base.transform_filter(f"datum.accuracy >= {domain[0]}")  # a point is not clipped, lines are
    points = (
        base.mark_point(filled=True, opacity=1)
        .encode(
            color=colour,
            shape=shape,
            size=alt.condition(hover, alt.value(110), alt.value(alt.ExprRef("dot"))),
            tooltip=parts.tooltip(shows),
        )
        .add_params(hover)
    )
    marks = [
        *parts.tunnel_marks(frame),
        *network_marks(network_accuracy),
        parts.interval_marks(layers, frame, colour),
        *parts.untrained_marks(layers, frame, colour),
        from_pixels,
        lines,
        points,
        *best_marks(base, frame, colour),
    ]
    return parts.layered(marks, tidy, height, [parts.layer_names(frame, baseline), parts.point_size(frame)])


def axis_format(score: str) -> str:
    """How an axis writes a score: in percent, R² (and R² beside others) as a number."""
    return "%" if score in ("accuracy", "mAP") else ".2f"


def written(expression: str, score: str) -> str:
    """An expression that writes an accuracy, writing the score instead."""
    return expression if score in ("accuracy", "mAP") else expression.replace("'.1%'", "'.3f'")


def accuracy_domain(tidy: pd.DataFrame, network_accuracy: float | None) -> list[float]:
    """Ends of the accuracy axis: from 0, or from the ten per cent below everything when all is high.

    R² has no least value: what lies below −1 is not drawn (`under_the_axis`).
    """
    shown = [name for name in ("accuracy", "low", "high", "untrained") if name in tidy]
    values = tidy[shown].to_numpy(dtype=float).ravel().tolist()
    values = [value for value in [*values, network_accuracy] if value is not None and not math.isnan(value)]
    if not values:
        return [0.0, 1.0]
    bottom = math.floor((min(values) - 0.02) * 10) / 10
    top = min(1.0, max(0.1, math.ceil((max(values) + 0.03) * 20) / 20))
    lowest = max(LOWEST, math.floor(min(*values, 0.0) * 10) / 10)  # R² may be below 0
    return [round(bottom, 2) if bottom >= 0.4 else lowest, round(top, 2)]


def under_the_axis(tidy: pd.DataFrame) -> tuple[str, ...]:
    """A note that names what lies below the axis: R² under −1."""
    rows = tidy.loc[tidy["accuracy"] < LOWEST].drop_duplicates("layer")
    if rows.empty:
        return ()
    listed = ", ".join(map(str, rows["layer"][:5])) + (", …" if len(rows) > 5 else "")
    return (f"R² below −1 lies under the axis: {listed}.",)


def network_marks(network_accuracy: float | None) -> list[alt.Chart]:
    """The network's own accuracy as a dotted line, which is named above the plot where no curve can be."""
    if network_accuracy is None:
        return []
    base = alt.Chart(pd.DataFrame({"accuracy": [network_accuracy]}))
    label = f"the network itself {network_accuracy:.1%}"
    key = {"x": alt.value(0), "x2": alt.value(18), "y": alt.value(-12)}
    return [
        base.mark_rule(style="network").encode(y="accuracy:Q", tooltip=alt.value(label)),
        base.mark_rule(style="network", aria=False).encode(**key),
        base.mark_text(style="network-label", align="left", baseline="bottom", aria=False).encode(
            x=alt.value(24), y=alt.value(-6), text=alt.value(label)
        ),
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
