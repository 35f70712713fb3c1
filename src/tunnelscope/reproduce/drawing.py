"""An item's figure as SVG, in the colours of the reports, and what is drawn as a table beside it."""

from pathlib import Path
from typing import Any

import altair as alt

from tunnelscope.files import check_writable, write_whole
from tunnelscope.report.theme import TOKENS, vega_config
from tunnelscope.reproduce.found import Figure

WIDTH, HEIGHT = 250, 190  # pixels of a panel
COLUMNS = 3


def draw(figure: Figure, place: Path) -> None:
    """Write PLACE.svg and PLACE.csv."""
    import vl_convert

    check_writable(place.parent)
    place.parent.mkdir(parents=True, exist_ok=True)
    svg = vl_convert.vegalite_to_svg(spec_of(figure))
    write_whole(place.with_suffix(".svg"), lambda path: path.write_text(svg, encoding="utf-8"))
    table = figure.frame.to_csv(index=False, float_format="%.5g")
    write_whole(place.with_suffix(".csv"), lambda path: path.write_text(table, encoding="utf-8"))


def spec_of(figure: Figure) -> dict[str, Any]:
    """Return the figure's Vega-Lite specification."""
    panels = [_panel(figure, name) for name in dict.fromkeys(figure.frame["panel"])]
    joined = alt.concat(*panels, columns=COLUMNS).resolve_scale(
        color="shared" if figure.kind == "lines" else "independent"
    )
    spec = joined.to_dict()
    spec["config"] = vega_config("light", 3, True) | {"background": TOKENS["light"].paper, "padding": 12}
    return spec


def _panel(figure: Figure, name: str) -> Any:
    frame: Any = figure.frame[figure.frame["panel"] == name]
    if figure.kind == "heat":
        return _heat(figure, frame, name)
    if figure.kind == "points":
        return _points(figure, frame, name)
    scale = alt.Scale(type="log") if figure.log else alt.Scale()
    x = alt.X(
        "x:Q", title=figure.x, axis=alt.Axis(format=".4~r", tickMinStep=1 if frame["x"].max() > 2 else 0)
    )
    names = list(dict.fromkeys(figure.frame["series"]))
    color = alt.Color(
        "series:N",
        sort=names,
        legend=alt.Legend(title=None, orient="bottom", labelLimit=300, symbolOpacity=1),
        scale=alt.Scale(domain=names, range=list(TOKENS["light"].sets[: len(names)])),
    )
    base = alt.Chart(frame, title=name).encode(x=x, color=color)
    band = base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title=figure.y, scale=scale), y2="high:Q")
    line = base.mark_line(point=alt.OverlayMarkDef(size=18)).encode(
        y=alt.Y("y:Q", title=figure.y, scale=scale)
    )
    return alt.layer(*_shade(figure, name), band, line).properties(width=WIDTH, height=HEIGHT)


def _shade(figure: Figure, name: str) -> list[Any]:
    """The tunnel behind a panel's lines."""
    if name not in figure.shaded:
        return []
    start, end = figure.shaded[name]
    if start >= end:
        return []
    return [
        alt.Chart(alt.Data(values=[{"from": start, "to": end}]))
        .mark_rect(color=TOKENS["light"].tunnel, opacity=0.5)
        .encode(x=alt.X("from:Q", title=figure.x), x2="to:Q")
    ]


def _points(figure: Figure, frame: Any, name: str) -> Any:
    color = TOKENS["light"].sets[0]
    y = alt.Y(
        "series:N", title=None, sort=list(dict.fromkeys(frame["series"])), axis=alt.Axis(labelLimit=500)
    )
    base = alt.Chart(frame, title=name).encode(y=y)
    bar = base.mark_rule(color=color).encode(
        x=alt.X("low:Q", title=figure.x, scale=alt.Scale(zero=False)), x2="high:Q"
    )
    point = base.mark_point(color=color, filled=True, size=36).encode(x="x:Q")
    return alt.layer(bar, point).properties(width=WIDTH)


def _heat(figure: Figure, frame: Any, name: str) -> alt.Chart:
    scale = (
        alt.Scale(type="log", range=list(TOKENS["light"].heat))
        if figure.log
        else alt.Scale(range=list(TOKENS["light"].heat))
    )
    return (
        alt.Chart(frame, title=name)
        .mark_rect()
        .encode(
            x=alt.X("x:O", title=figure.x, axis=alt.Axis(labelOverlap=True)),
            y=alt.Y("y:O", title=figure.y, sort="descending", axis=alt.Axis(labelOverlap=True)),
            color=alt.Color(
                "value:Q", title=None, scale=scale, legend=alt.Legend(format="~g", orient="bottom")
            ),
        )
        .properties(width=WIDTH, height=WIDTH)
    )
