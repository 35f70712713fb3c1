"""The report of a study: curves by relative depth, r, ρ and A by variable, networks, failures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np

from tunnelscope import __version__
from tunnelscope.report.effects import HEIGHT, boxes, in_order, menu
from tunnelscope.report.figures import Figure
from tunnelscope.report.page import render_template
from tunnelscope.report.specs import file_name, write_file
from tunnelscope.report.words import UNKNOWN
from tunnelscope.results import targets_of, without_controls

if TYPE_CHECKING:
    import pandas as pd

GRID = np.linspace(0, 1, 21)  # relative depths at which networks of several depths are averaged
MOST_LEVELS = 8  # lines of a chart
SCAN = "scan "  # how a network's states call one, before its probe


def write_study(told: dict[str, Any], frame: pd.DataFrame, variables: pd.DataFrame, path: Path) -> None:
    """Write the report, a single HTML file with everything it needs inside.

    Args:
        told: the object of `study.json`.
        frame: the long table of all scans.
        variables: one row a network.
        path: the file to write; reports of scans are linked from where it lies.
    """
    frame = with_first_probes(told, frame)
    rows = network_rows(told, frame)
    columns = list(rows[0]) if rows else []
    shown = [name for name in columns if name != "link"]
    page = render_template(
        "study.html.j2",
        figures_of(told, frame, variables),
        colours=(MOST_LEVELS, False),
        tables={"networks": {"columns": shown, "rows": [[row[name] for name in shown] for row in rows]}},
        name=file_name("study", told["study"]),
        version=__version__,
        title=f"{told['study']}: {len(told['networks'])} networks",
        columns=shown,
        rows=rows,
        probe_note=probe_note(told),
        warning_rows=warning_rows(told),
        leakage_rows=leakage_rows(told),
        failures=told["failures"],
        damaged=told["damaged"],
    )
    write_file(path, page.encode())


def figures_of(told: dict[str, Any], frame: pd.DataFrame, variables: pd.DataFrame) -> list[Figure]:
    """The charts that the study has numbers for."""
    figures, names = [], told["variables"]
    curves = curve_rows(frame, variables, names)
    if len(curves):
        caption = (
            "Accuracy of linear probes over relative depth, networks of one level averaged (shaded: from the "
            "lowest to the highest network). On other data, a fall towards the end is what the tunnel costs."
        )
        figures.append(Figure("curves", "Accuracy by depth", caption, curve_chart(curves), wide=True))
    values = targets_of(frame)[0].merge(variables, on="run", how="left")
    if len(values) and names:
        caption = (
            "r, ρ and A of every network on every OOD set by level: median, quartiles, range. Not matched: "
        )
        caption += "tunnelscope effects on this folder compares matched networks."
        chart = boxes({"variables": names}, values)
        figures.append(Figure("boxes", "r, ρ and A by variable", caption, chart, wide=True))
    return figures


def curve_rows(frame: Any, variables: Any, names: list[str]) -> pd.DataFrame:
    """Accuracies by relative depth: one row a data set, variable, level and depth."""
    import pandas as pd

    curves = curves_of(frame)
    told = variables.set_index("run")
    levels = {name: told[name].to_dict() for name in names} | {"network": {run: run for run in told.index}}
    parts = []
    for variable in ["network", *names]:
        there = [level for level in levels[variable].values() if level == level and level is not None]
        order = sorted(set(there), key=in_order)  # networks that lack the variable are left out
        if len(order) > MOST_LEVELS:
            continue
        for dataset in dict.fromkeys(dataset for _, dataset in curves):
            for place, level in enumerate(order):
                own = [
                    curve
                    for (run, name), curve in curves.items()
                    if name == dataset and levels[variable][run] == level
                ]
                if own:
                    about = {"dataset": dataset, "variable": variable, "level": str(level), "order": place}
                    drawn = one_curve(*own[0]) if variable == "network" else band_of(own)
                    parts.append(pd.DataFrame(about | drawn))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def curves_of(frame: Any) -> dict[tuple[str, str], tuple[Any, Any]]:
    """Relative depths and accuracies by network and data set; of several probes those of the first."""
    is_curve = (frame["quantity"] == "probe_accuracy") & (frame["split"] == "test")
    rows = frame[is_curve & (frame["layer_index"] > 0)]
    if rows.empty:
        return {}
    first = rows.groupby("run")["protocol"].transform("first")
    rows = without_controls(rows[rows["protocol"] == first])
    found = {}
    for (run, dataset), own in rows.groupby(["run", "dataset"], sort=False):
        means = own.groupby("depth_fraction")["value"].mean()
        found[run, dataset] = (means.index.to_numpy(float), means.to_numpy(float))
    return found


def one_curve(depths: Any, accuracies: Any) -> dict[str, Any]:
    """A network's own layers, with nothing between them."""
    return {"depth": depths, "accuracy": accuracies, "low": accuracies, "high": accuracies}


def band_of(curves: list[tuple[Any, Any]]) -> dict[str, Any]:
    """The mean of several curves on a grid of depths, the lowest and the highest."""
    stack = np.stack([np.interp(GRID, *curve, left=np.nan) for curve in curves])  # no layer before the first
    there = np.isfinite(stack).all(axis=0)
    stack = stack[:, there]
    return {
        "depth": GRID[there],
        "accuracy": stack.mean(axis=0),
        "low": stack.min(axis=0),
        "high": stack.max(axis=0),
    }


def curve_chart(curves: pd.DataFrame) -> Any:
    """Lines of the levels of one variable on one data set."""
    dataset, variable = menu(curves, "dataset", "Data"), menu(curves, "variable", "Variable")
    base = alt.Chart().transform_filter(
        f"datum.dataset == {dataset.name} && datum.variable == {variable.name}"
    )
    x = alt.X("depth:Q", title="relative depth", axis=alt.Axis(format="%", tickCount=5))
    legend = alt.Legend(title=None, symbolOpacity=1, symbolType="stroke")
    colour = alt.Color("level:N", sort=alt.EncodingSortField("order"), legend=legend)
    band = base.mark_area(opacity=0.15, aria=False).encode(x=x, y="low:Q", y2="high:Q", color=colour)
    lines = base.mark_line(aria=False).encode(
        x=x,
        y=alt.Y("accuracy:Q", title="accuracy", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False)),
        color=colour,
        tooltip=["level:N", alt.Tooltip("depth:Q", format=".0%"), alt.Tooltip("accuracy:Q", format=".1%")],
    )
    chart: Any = alt.layer(band, lines, data=curves)
    return chart.properties(width="container", height=HEIGHT).add_params(dataset, variable)


def network_rows(told: dict[str, Any], frame: Any) -> list[dict[str, Any]]:
    """A row of text a network: how it stands, its accuracy, where its tunnel starts, r by OOD set."""
    others = list(dict.fromkeys(frame.loc[frame["role"] == "ood", "dataset"].dropna()))
    frame = without_controls(frame)
    retained = frame[(frame["quantity"] == "retained_paper") & frame["layer"].isna()]
    retained = retained.drop_duplicates(["run", "dataset"]).set_index(["run", "dataset"])["value"]
    own = frame[frame["quantity"] == "network_accuracy"].drop_duplicates("run").set_index("run")["value"]
    start = frame[frame["quantity"] == "start_95"].dropna(subset="value")
    start = start.drop_duplicates("run").set_index("run")["value"]
    layers = frame.groupby("run")["layer_index"].max()
    rows = []
    for entry in told["networks"]:
        name, scans = entry["network"], list(entry["scans"].values())
        states = set(entry["states"].values())
        state = "failed" if "failed" in states else "done" if states == {"done"} else "not done"
        row = {
            "network": name,
            "state": state,
            "accuracy, %": _percent(own.get(name)),
            "tunnel after": UNKNOWN,
        }
        if name in start.index:
            row["tunnel after"] = f"{start[name]:.0f}/{layers[name]}"
        for other in others:
            row[f"r {other}, %"] = _percent(retained.get((name, other)))
        rows.append(row | {"link": f"{scans[0]}/report.html" if scans else ""})
    return rows


def first_probe(entry: dict[str, Any]) -> str:
    """The first of the probes that a network is asked to be read by."""
    return next((title.removeprefix(SCAN) for title in entry["states"] if title.startswith(SCAN)), "")


def with_first_probes(told: dict[str, Any], frame: Any) -> Any:
    """The table without networks whose first probe is not there: another's would stand in its place."""
    lacking = [
        entry["network"] for entry in told["networks"] if first_probe(entry) not in ("", *entry["scans"])
    ]
    return frame[~frame["run"].isin(lacking)]


def probe_note(told: dict[str, Any]) -> str:
    """Of a study with several probes: whose numbers are shown."""
    if all(sum(title.startswith(SCAN) for title in entry["states"]) < 2 for entry in told["networks"]):
        return ""
    first = ", ".join(dict.fromkeys(map(first_probe, told["networks"])))
    return f"Of several probes the first is shown ({first}); tunnelscope effects --probe names another."


def warning_rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    """Each warning of the scans once: of which network, or of how many, and what it says."""
    whose: dict[str, list[str]] = {}
    for entry in told["networks"]:
        for text in entry.get("warnings", ()):  # none in studies that an earlier version gathered
            whose.setdefault(text, []).append(entry["network"])
    return [
        (names[0] if len(names) == 1 else f"{len(names)} networks", text) for text, names in whose.items()
    ]


def leakage_rows(told: dict[str, Any]) -> list[list[str]]:
    """A row for each ID set and OOD set that share something: what it is, and how many networks."""
    networks: dict[tuple[str, str, str], list[str]] = {}
    for entry in told["networks"]:
        for ood, found in (entry.get("leakage") or {}).items():
            if found["reasons"]:
                key = (entry["id"], ood, "; ".join(found["reasons"]))
                networks.setdefault(key, []).append(entry["network"])
    return [[*key, str(len(names))] for key, names in networks.items()]


def _percent(value: Any) -> str:
    return UNKNOWN if value is None or not np.isfinite(value) else f"{100 * float(value):.1f}"
