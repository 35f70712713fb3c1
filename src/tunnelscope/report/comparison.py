"""The report of several scans beside each other: its figures, its tables and the page around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunnelscope.report import words
from tunnelscope.report.page import render_template
from tunnelscope.report.specs import file_name, write_file
from tunnelscope.report.tidy import Frame, by_layer, number, scores_by_layer, shared_frame
from tunnelscope.tasks import SCORE_TITLES, heading, score_of, score_title

if TYPE_CHECKING:
    import pandas as pd

    from tunnelscope.report.figures import Figure

QUANTITIES = {
    "retained": "Retained, r",
    **{f"best_{name}": f"{heading(title)} at the layer to take" for name, title in SCORE_TITLES.items()},
    "extractor_share": "Depth at which the tunnel starts",
}


def write_comparison(
    frames: dict[str, pd.DataFrame], runs: dict[str, dict[str, Any]], comparison: dict[str, Any], path: Path
) -> None:
    """Write the report of a comparison, a single HTML file with everything it needs inside.

    Args:
        frames: the long table of results of each run, by label.
        runs: the objects of `run.json`, by label.
        comparison: the object of `compare.json`.
        path: the file to write; its folder is made if it is not there.

    Raises:
        RequestError: a run's results name no layer, or the file cannot be written.
    """
    labels = list(runs)
    columns, rows = reading_csv(comparison)
    page = render_template(
        "compare.html.j2",
        build_figures(frames, runs, comparison),
        colours=(len(labels), False),
        tables={"readings": {"columns": columns, "rows": rows}},
        name="compare",
        score=score_word(comparison["sets"]),
        version=next(iter(runs.values())).get("tunnelscope") or "",
        title=" · ".join(labels) if len(labels) <= 4 else f"{len(labels)} scans",
        verdict=comparison["verdict"].replace(" %", "\u00a0%").splitlines(),
        warnings=comparison["warnings"],
        method=comparison["method"],
        runs=[run_row(run) for run in comparison["runs"]],
        sets=[set_table(entry, labels) for entry in in_order(comparison)],
        differences=difference_rows(comparison),
        made_by=[made_by(label, run) for label, run in runs.items()],
    )
    write_file(path, page.encode())


def in_order(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """The data sets, other data first: what a tunnel costs is the question."""
    return sorted(
        comparison["sets"],
        key=lambda entry: all(reading["role"] == "id" for reading in entry["readings"].values()),
    )


# -- figures -------------------------------------------------------------------------------------------------


def build_figures(
    frames: dict[str, pd.DataFrame], runs: dict[str, dict[str, Any]], comparison: dict[str, Any]
) -> list[Figure]:
    """What the last layer keeps, one panel of accuracies a data set, and the rank."""
    labels = list(runs)
    accuracies = by_run(frames, runs, scores_by_layer).rename(columns={"value": "accuracy"})
    best = {
        (label, entry["key"], reading["best_layer"]["layer"])
        for entry in comparison["sets"]
        for label, reading in entry["readings"].items()
    }
    places = zip(accuracies["run"], accuracies["dataset"], accuracies["layer"], strict=True)
    accuracies = accuracies.assign(best=[place in best for place in places])
    figures = [retained_figure(comparison, labels)]
    taken: list[str] = []
    for entry in in_order(comparison):
        figures.append(accuracy_figure(entry, accuracies, comparison, labels, taken))
    rank_rows = by_run(frames, runs, lambda table, frame: by_layer(table, "numerical_rank", frame))
    figures.append(rank_figure(rank_rows, comparison, labels, wide=len(taken) % 2 == 0))
    return [figure for figure in figures if figure is not None]


def by_run(
    frames: dict[str, pd.DataFrame],
    runs: dict[str, dict[str, Any]],
    read: Callable[[pd.DataFrame, Frame], pd.DataFrame],
) -> pd.DataFrame:
    """What `read` takes from every run, by layer, with the columns `run` and `depth_fraction`."""
    import pandas as pd

    parts = []
    for label, frame in frames.items():
        shared = shared_frame(frame, runs[label])
        rows = read(frame, shared)
        rows = rows.loc[rows["layer_index"] > 0].drop(columns="untrained", errors="ignore")
        parts.append(rows.assign(run=label, depth_fraction=rows["layer_index"] / shared.count))
    return pd.concat(parts, ignore_index=True)


def accuracy_figure(
    entry: dict[str, Any],
    accuracies: pd.DataFrame,
    comparison: dict[str, Any],
    labels: list[str],
    taken: list[str],
) -> Figure:
    """Accuracy by relative depth on one data set; `taken` are the keys of the figures before it."""
    from tunnelscope.report.accuracy import under_the_axis
    from tunnelscope.report.figures import Figure
    from tunnelscope.report.run_charts import accuracy_panel

    name = f"accuracy-{file_name(entry['key'])}"
    name += f"-{len(taken)}" if name in taken else ""
    taken.append(name)
    rows = accuracies.loc[accuracies["dataset"] == entry["key"]].reset_index(drop=True)
    starts = start_rows([run for run in comparison["runs"] if run["label"] in entry["runs"]])
    roles = {reading["role"] for reading in entry["readings"].values()}
    role = "its own data" if roles == {"id"} else "other data" if roles == {"ood"} else "own or other data"
    absent = [label for label in labels if label not in entry["runs"]]
    notes = (f"Not scanned on it: {', '.join(absent)}.",) if absent else ()
    caption = f"{role[0].upper()}{role[1:]}. A ring marks the layer to take"
    caption += ", ticks above the plot the tunnels’ starts with their intervals." if len(starts) else "."
    score = score_word([entry])
    chart = accuracy_panel(rows, starts, labels, score)
    notes += under_the_axis(rows)
    return Figure(name, f"{heading(score)} on {entry['key']}", caption, chart, notes=notes)


def score_word(sets: list[dict[str, Any]]) -> str:
    """What probes are scored by on some data sets, in a word."""
    readings = [reading for entry in sets for reading in entry["readings"].values()]
    return score_title(score_of(reading["best_layer"])[0] for reading in readings)


def start_rows(runs: list[dict[str, Any]]) -> pd.DataFrame:
    """Where each run's tunnel starts in relative depth, a lane above the plot for each."""
    import pandas as pd

    from tunnelscope.report.run_charts import LANE

    known = [run for run in runs if run["start_95"]]
    rows = [
        {
            "run": run["label"],
            "layer": run["start_95"]["layer"],
            "depth": run["start_95"]["extractor_share"],
            "low": run["start_95"]["low"] / run["layers"],
            "high": run["start_95"]["high"] / run["layers"],
            "lane": -LANE * (len(known) - place) + 1,
        }
        for place, run in enumerate(known)
    ]
    return pd.DataFrame(rows, columns=["run", "layer", "depth", "low", "high", "lane"])


def retained_figure(comparison: dict[str, Any], labels: list[str]) -> Figure | None:
    """r of every run on every other data set, with its interval."""
    import pandas as pd

    from tunnelscope.report.figures import Figure
    from tunnelscope.report.run_charts import retained_chart

    rows = [
        {"run": label, "dataset": entry["key"]}
        | {name: number(reading["retained"][name]) for name in ("value", "low", "high")}
        for entry in comparison["sets"]
        for label, reading in entry["readings"].items()
        if reading["retained"] and number(reading["retained"]["value"]) is not None
    ]
    if not rows:
        return None
    score = score_word([entry for entry in comparison["sets"] if _has_retained(entry)])
    caption = (
        f"The last layer’s {score} as a share of that of the layer to take: further right is a weaker "
        "tunnel, at 100\u00a0% (dotted) the last layer is as good. Bars are each run’s own 95\u00a0% "
        "interval; whether two runs differ is judged below."
    )
    tidy = pd.DataFrame(rows).astype({"value": float, "low": float, "high": float})
    return Figure(
        "retained", "What the last layer keeps", caption, retained_chart(tidy, labels, score), wide=True
    )


def _has_retained(entry: dict[str, Any]) -> bool:
    return any(reading["retained"] for reading in entry["readings"].values())


def rank_figure(
    rows: pd.DataFrame, comparison: dict[str, Any], labels: list[str], wide: bool
) -> Figure | None:
    """Numerical rank by relative depth, with a choice of data sets; beside a panel or `wide` below them."""
    from tunnelscope.report.figures import Figure, above_zero
    from tunnelscope.report.run_charts import rank_chart

    rows, notes = above_zero(rows)
    if rows.empty:
        return None
    order = {entry["key"]: place for place, entry in enumerate(comparison["sets"])}
    rows = rows.sort_values(["dataset"], key=lambda keys: keys.map(order), kind="stable", ignore_index=True)
    caption = (
        "How many directions carry more than a thousandth of the largest variance. A fall at the end is the "
        "tunnel’s compression. Wider layers can have more: networks of one width compare best. Logarithmic "
        "axis."
    )
    chart = rank_chart(rows, labels)
    return Figure("numerical_rank", "Numerical rank", caption, chart, notes=notes, wide=wide)


# -- tables --------------------------------------------------------------------------------------------------


def run_row(run: dict[str, Any]) -> dict[str, str]:
    """A run's row in the table of networks."""
    start, own = run["start_95"], run["network_accuracy"] or {}
    where = ""
    if start:
        interval = (
            f", 95 % interval {start['low']} to {start['high']}" if start["low"] < start["high"] else ""
        )
        where = f"layer {start['index']} of {run['layers']}{interval}"
    return {
        "label": run["label"],
        "network": run["network"],
        "weights": run["weights"],
        "id_set": run["id_set"] or words.UNKNOWN,
        "layers": words.count(run["layers"]),
        "parameters": words.count(run["parameters"]),
        "accuracy": words.percent(own.get("value")),
        "accuracy_range": words.percent_range(own),
        "start": start["layer"] if start else words.UNKNOWN,
        "where": where,
        "share": words.percent(start["extractor_share"], 0) if start else words.UNKNOWN,
        "length": words.count(run["length"]),
    }


def set_table(entry: dict[str, Any], labels: list[str]) -> dict[str, Any]:
    """A data set's readings, a row a run; dashes where a run does not have the set."""
    return {"key": entry["key"], "rows": [set_row(label, entry["readings"].get(label)) for label in labels]}


def set_row(label: str, reading: dict[str, Any] | None) -> dict[str, Any]:
    best = reading["best_layer"] if reading else {}
    kept = (reading["retained"] if reading else None) or {}
    milliseconds = number(best.get("milliseconds_saved"))
    return {
        "label": label,
        "role": reading["role"].upper() if reading else "",
        "at_chance": bool(reading and reading["at_chance"]),
        "retained": words.percent(kept.get("value")),
        "retained_range": words.percent_range(kept),
        "last": words.score(
            {"score_name": reading["score_name"], "score": reading["last_score"]} if reading else {}
        ),
        "layer": best.get("layer") or words.UNKNOWN,
        "index": f"layer {best['index']}" if best else "",
        "accuracy": words.score(best),
        "accuracy_range": words.score_range(best),
        "flops": words.percent(best.get("flops_saved_share"), 0),
        "parameters": words.percent(best.get("parameters_saved_share"), 0),
        "milliseconds": words.UNKNOWN if milliseconds is None else f"{words.decimal(milliseconds, 1)} ms",
    }


def difference_rows(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """Every pair of runs that was compared: a less b, in percentage points."""
    rows = [
        {
            "key": entry["key"],
            "quantity": QUANTITIES[row["quantity"]],
            "pair": f"{row['a']} − {row['b']}",
            "difference": words.decimal(100 * row["difference"], 1),
            "range": f"{words.decimal(100 * row['low'], 1)} to {words.decimal(100 * row['high'], 1)}",
            "differs": row["differs"],
            "order": list(QUANTITIES).index(row["quantity"]),
        }
        for entry in in_order(comparison)
        for row in entry["comparisons"]
    ]
    return sorted(rows, key=lambda row: row["order"])


def reading_csv(comparison: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """The readings as numbers: one row a data set and run."""
    columns = ["dataset", "run", "role", "retained", "low", "high", "score_name", "last_score"]
    columns += [
        "layer",
        "score",
        "score_low",
        "score_high",
        "flops_saved",
        "parameters_saved",
        "milliseconds_saved",
    ]
    rows = []
    for entry in comparison["sets"]:
        for label, reading in entry["readings"].items():
            best, kept = reading["best_layer"], reading["retained"] or {}
            row = [
                entry["key"],
                label,
                reading["role"],
                *(kept.get(name) for name in ("value", "low", "high")),
            ]
            at_best = (best["layer"], score_of(best)[1], best["low"], best["high"])
            row += [reading["score_name"], reading["last_score"], *at_best]
            saved = ("flops_saved", "parameters_saved", "milliseconds_saved")
            rows.append(row + [best.get(name) for name in saved])
    return columns, rows


def made_by(label: str, run: dict[str, Any]) -> dict[str, Any]:
    """How a run was made: its command, its version, the fingerprint of its network, its own warnings."""
    fingerprint = str((run.get("fingerprints") or {}).get("model") or words.UNKNOWN)
    return {
        "label": label,
        "command": run.get("command") or words.UNKNOWN,
        "detail": f"tunnelscope {run.get('tunnelscope') or words.UNKNOWN}, network {fingerprint[:12]}",
        "warnings": run.get("warnings") or [],
    }
