"""The report of an analysis of many networks: slopes with intervals, SHAP values, levels compared."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np

from tunnelscope.report.figures import Figure
from tunnelscope.report.page import render_template
from tunnelscope.report.specs import (
    FILE_WIDTH,
    file_config,
    file_name,
    spec_of,
    vegalite_version,
    write_drawing,
    write_file,
)
from tunnelscope.report.words import UNKNOWN

if TYPE_CHECKING:
    import pandas as pd

TITLES = {"r": "OOD accuracy retained r", "rho": "correlation ρ", "A": "alignment A"}
ROW = 30  # pixels of a variable
HEIGHT = 260


def write_effects(
    told: dict[str, Any], values: pd.DataFrame, shap: pd.DataFrame, path: Path, command: str
) -> None:
    """Write the report, a single HTML file with everything it needs inside.

    Args:
        told: the object that `tunnelscope effects --json` prints.
        values: one row an observation: network, ood, the variables, r, rho, A.
        shap: one row a SHAP value: target, variable, level, code (0 to 1), value; empty without slopes.
        path: the file to write; its folder is made if it is not there.
        command: for the record.
    """
    rows = pair_rows(told)
    columns = ["variable", "levels", "target", "n", "mean", "δ", "size", "p", "p, Holm", "p, networks"]
    page = render_template(
        "effects.html.j2",
        figures_of(told, values, shap),
        colours=(3, False),
        tables={"pairs": {"columns": columns, "rows": rows}},
        name=file_name("effects"),
        version=told["tunnelscope"],
        title=f"{len(told['variables'])} variables, {told['networks']} networks",
        warnings=told["warnings"],
        fits=fit_rows(told),
        left_out=left_out_rows(told),
        columns=columns,
        rows=rows,
        command=command,
    )
    write_file(path, page.encode())


def figures_of(told: dict[str, Any], values: pd.DataFrame, shap: pd.DataFrame) -> list[Figure]:
    """The charts that the analysis has numbers for."""
    figures = []
    if told["slopes"]:
        caption = (
            "How far a target moves over a variable's whole range, by a tree model (SHAP slopes). Bars: 95 % "
            "of resamples of networks. A variable whose bar crosses 0 is not shown to matter."
        )
        figures.append(Figure("slopes", "Slopes", caption, forest(told), wide=True))
    if len(shap):
        caption = (
            "One point an observation: what a variable's level adds to the prediction, left and right of 0."
        )
        figures.append(Figure("beeswarm", "SHAP values", caption, beeswarm(shap), wide=True))
        caption = "The same by level, with the line that the slope is of."
        figures.append(Figure("dependence", "Dependence", caption, dependence(shap)))
    caption = (
        "All observations at each level: median, quartiles, range. Not matched: see the table for pairs."
    )
    figures.append(Figure("boxes", "By level", caption, boxes(told, values)))
    if told["pairs"]:
        caption = "Means of matched networks at both levels of a pair, 95 % intervals over observations."
        figures.append(Figure("pairs", "Pairs", caption, paired(told)))
    return figures


def write_effects_figures(
    told: dict[str, Any], values: pd.DataFrame, shap: pd.DataFrame, folder: Path
) -> list[Path]:
    """Draw every figure as SVG and PDF, once for each choice in its menus.

    Args:
        told, values, shap: as for `write_effects`.

    Returns:
        The files, SVG before PDF.

    Raises:
        MachineError: the folder cannot be written.
    """
    import vl_convert

    how: Any = {"vl_version": vegalite_version(), "config": file_config(3, False)}
    paths: list[Path] = []
    for figure in figures_of(told, values, shap):
        spec = spec_of(figure.chart)
        spec["width"] = FILE_WIDTH
        menus = [param for param in spec["params"] if "bind" in param]
        for choice in product(*(param["bind"]["options"] for param in menus)):
            for param, value in zip(menus, choice, strict=True):
                param["value"] = value
            svg = vl_convert.vegalite_to_svg(spec, **how)
            name = "-".join([figure.key, *map(short_name, choice)])
            paths += write_drawing(svg, folder / name)
    return paths


def short_name(text: str) -> str:
    """A target's or variable's name as part of a file's."""
    by_title = {title: target for target, title in TITLES.items()}
    return re.sub(r"[^a-z0-9]+", "-", by_title.get(text, text).lower()).strip("-")


def menu(tidy: pd.DataFrame, column: str, label: str) -> alt.Parameter:
    """A parameter that holds one of a column's values, with a menu where there is more than one."""
    options = [str(value) for value in tidy[column].unique()]
    bind = alt.binding_select(options=options, name=f"{label} ") if len(options) > 1 else alt.Undefined
    return alt.param(name=f"chosen_{column}", value=options[0], bind=bind)


def forest(told: dict[str, Any]) -> Any:
    """Slopes with their intervals, one row a variable."""
    import pandas as pd

    rows = []
    for target, slopes in told["slopes"].items():
        for name, value in slopes.items():
            low, high = told["intervals"].get(target, {}).get(name, (None, None))
            rows.append(
                {"target": TITLES[target], "variable": name, "slope": value, "low": low, "high": high}
            )
    tidy = pd.DataFrame(rows)
    order = sorted(told["slopes"][next(iter(told["slopes"]))].items(), key=lambda one: -abs(one[1]))
    choice = menu(tidy, "target", "Target")
    y = alt.Y("variable:N", sort=[name for name, _ in order], title=None, axis=alt.Axis(labelLimit=200))
    base = alt.Chart().transform_filter(f"datum.target == {choice.name}").encode(y=y)
    zero = base.mark_rule(strokeDash=[3, 3], aria=False).encode(x=alt.datum(0), y=alt.Y())
    bars = base.mark_rule(strokeWidth=2, aria=False).encode(x=alt.X("low:Q", title="slope"), x2="high:Q")
    tooltip = [alt.Tooltip(f"{name}:Q", format="+.3f") for name in ("slope", "low", "high")]
    points = base.mark_point(filled=True, size=70, aria=False).encode(
        x="slope:Q", tooltip=["variable:N", *tooltip]
    )
    chart: Any = alt.layer(zero, bars, points, data=tidy)
    return chart.properties(width="container", height=ROW * len(order)).add_params(choice)


def beeswarm(shap: pd.DataFrame) -> Any:
    """SHAP values of all observations, spread by chance within a variable's row."""
    tidy = shap.assign(target=shap["target"].map(lambda target: TITLES[target]))
    choice = menu(tidy, "target", "Target")
    points: Any = (
        alt.Chart()
        .transform_filter(f"datum.target == {choice.name}")
        .transform_calculate(jitter="random()")
        .mark_circle(size=14, opacity=0.6, aria=False)
        .encode(
            x=alt.X("value:Q", title="adds to the prediction"),
            y=alt.Y("variable:N", title=None, axis=alt.Axis(labelLimit=200)),
            yOffset=alt.YOffset("jitter:Q"),
            color=alt.Color(
                "code:Q", title="level, of its range", legend=alt.Legend(orient="bottom", tickCount=3)
            ),
            tooltip=["variable:N", "level:N", alt.Tooltip("value:Q", format="+.3f")],
        )
    )
    chart: Any = alt.layer(points, data=tidy)
    return chart.properties(width="container", height=ROW * tidy["variable"].nunique()).add_params(choice)


def dependence(shap: pd.DataFrame) -> Any:
    """SHAP values by level of one variable."""
    tidy = shap.assign(target=shap["target"].map(lambda target: TITLES[target]))
    target, variable = menu(tidy, "target", "Target"), menu(tidy, "variable", "Variable")
    base = alt.Chart().transform_filter(f"datum.target == {target.name} && datum.variable == {variable.name}")
    x = alt.X("code:Q", title="level, as a share of its range")
    points = base.mark_circle(size=14, opacity=0.5, aria=False).encode(x=x, y=alt.Y("value:Q", title="adds"))
    fitted = base.transform_regression("code", "value").mark_line(aria=False).encode(x=x, y="value:Q")
    chart: Any = alt.layer(points, fitted, data=tidy)
    return chart.properties(width="container", height=HEIGHT).add_params(target, variable)


def in_order(level: Any) -> tuple[int, Any]:
    """Numbers by size before words by letter."""
    is_number = isinstance(level, (int, float, np.number))
    return (0, float(level)) if is_number else (1, str(level))


def boxes(told: dict[str, Any], values: pd.DataFrame) -> Any:
    """Observations by level of one variable."""
    import pandas as pd

    parts = [
        pd.DataFrame(
            {
                "target": TITLES[target],
                "variable": name,
                "level": values[name].map(str, na_action="ignore"),
                "value": values[target],
            }
        )
        for target in TITLES
        if target in values
        for name in told["variables"]
    ]
    tidy = pd.concat(parts, ignore_index=True).dropna(subset=["level", "value"])
    levels = {level for name in told["variables"] for level in values[name].dropna().unique()}
    order = [str(level) for level in sorted(levels, key=in_order)]  # a box has no field to sort by
    target, variable = menu(tidy, "target", "Target"), menu(tidy, "variable", "Variable")
    drawn: Any = (
        alt.Chart()
        .transform_filter(f"datum.target == {target.name} && datum.variable == {variable.name}")
        .mark_boxplot(extent="min-max", size=24)
        .encode(
            x=alt.X("level:N", sort=order, title="level"),
            y=alt.Y("value:Q", title="value"),
        )
    )
    chart: Any = alt.layer(drawn, data=tidy)
    return chart.properties(width="container", height=HEIGHT).add_params(target, variable)


def paired(told: dict[str, Any]) -> Any:
    """Means of both levels of every pair, joined by a line."""
    import pandas as pd

    rows = []
    for pair in told["pairs"]:
        for place, (level, mean) in enumerate(zip(pair["levels"], pair["means"], strict=True)):
            told_of = {"target": TITLES[pair["target"]], "variable": pair["variable"]}
            rows.append(
                told_of | {"pair": " → ".join(pair["levels"]), "level": level, "place": place, **mean}
            )
    tidy = pd.DataFrame(rows)
    target, variable = menu(tidy, "target", "Target"), menu(tidy, "variable", "Variable")
    base = alt.Chart().transform_filter(f"datum.target == {target.name} && datum.variable == {variable.name}")
    x = alt.X(
        "place:O", title=None, axis=alt.Axis(labelExpr="datum.value == 0 ? 'from' : 'to'", labelAngle=0)
    )
    lines = base.mark_line(point=True, aria=False).encode(
        x=x,
        y=alt.Y("value:Q", title="mean"),
        detail="pair:N",
        tooltip=["pair:N", alt.Tooltip("value:Q", format=".3f")],
    )
    bars = base.mark_rule(aria=False).encode(x=x, y="low:Q", y2="high:Q", detail="pair:N")
    chart: Any = alt.layer(bars, lines, data=tidy)
    return chart.properties(width="container", height=HEIGHT).add_params(target, variable)


def pair_rows(told: dict[str, Any]) -> list[list[str]]:
    """A row of text a pair."""
    return [
        [
            pair["variable"],
            " → ".join(pair["levels"]),
            pair["target"],
            str(pair["n"]),
            " → ".join(f"{mean['value']:.3f}" for mean in pair["means"]),
            f"{pair['cliffs_delta']:+.3f}",
            pair["band"],
            p_text(pair["p"]),
            p_text(pair["p_corrected"]),
            p_text(pair["p_network"]),
        ]
        for pair in told["pairs"]
    ]


def left_out_rows(told: dict[str, Any]) -> list[list[str]]:
    """What was left out as not wholly other data: an OOD set, why, and of which networks."""
    networks: dict[tuple[str, str], list[str]] = {}
    for one in told.get("left_out") or []:
        networks.setdefault((one["ood"], one["reason"]), []).append(one["network"])
    return [[ood, reason, ", ".join(names)] for (ood, reason), names in networks.items()]


def fit_rows(told: dict[str, Any]) -> list[list[str]]:
    """How well the model fits each target: in sample, on networks and architectures left out, at most.

    Last how far off it is for the mean of a network, and of a network of an architecture, it was not shown.
    """
    rows = []
    for target, r2 in told["r2"].items():
        grouped, error = told["r2_grouped"][target], told["prediction_error"][target]
        values = (
            *(r2, grouped["network"], grouped.get("architecture"), told["r2_ceiling"][target]),
            *(error["network"], error.get("architecture")),
        )
        rows.append([TITLES[target], *(UNKNOWN if value is None else f"{value:.3f}" for value in values)])
    return rows


def p_text(p: float | None) -> str:
    """A p-value in three decimals."""
    return UNKNOWN if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
