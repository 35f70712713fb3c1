"""All figures of a report in the order of the page: which there are, what their captions say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from tunnelscope.report import charts, tidy
from tunnelscope.report.accuracy import accuracy_chart, under_the_axis
from tunnelscope.report.tidy import Frame
from tunnelscope.tasks import SCORE_TITLES, heading, score_title


@dataclass(frozen=True)
class Figure:
    """A chart with the words around it; `square`: both axes are layers, `wide`: it takes the whole page."""

    key: str
    title: str
    caption: str
    chart: alt.LayerChart
    choices: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    square: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Measure:
    """A quantity by depth: its name in the table, how it is drawn and how it is read."""

    quantity: str
    title: str
    axis: str
    caption: str
    log: bool = False


MEASURES = (
    Measure(
        "effective_rank",
        "Effective rank",
        "Effective rank",
        "How many directions the spread of the examples really uses: the exponential of the entropy of the "
        "covariance eigenvalues. Higher: spread over more directions. A fall towards the number of classes "
        "is compression.",
    ),
    Measure(
        "within_variance",
        "Variance within classes",
        "Within-class variance",
        "How far examples lie from the mean of their own class. Lower: those of a class are drawn together. "
        "Logarithmic axis.",
        log=True,
    ),
    Measure(
        "between_variance",
        "Variance between classes",
        "Between-class variance",
        "How far the class means lie from their common mean. Higher: classes are further apart, to be read "
        "against the variance within classes. Logarithmic axis.",
        log=True,
    ),
    Measure(
        "nc1",
        "Neural collapse",
        "NC1",
        "Spread within classes relative to the spread between them (NC1, Papyan et al. 2020). Lower: classes "
        "shrink towards points; 0 is full collapse. Logarithmic axis.",
        log=True,
    ),
    Measure(
        "twonn",
        "Intrinsic dimension",
        "TwoNN dimension",
        "How many coordinates the examples need locally, from the distances to their two nearest neighbours. "
        "Lower: they lie on a thinner sheet.",
    ),
)


def build_figures(table: pd.DataFrame, run: dict[str, Any]) -> list[Figure]:
    """Every figure the results have numbers for; a quantity without values gives no figure."""
    frame = tidy.shared_frame(table, run)
    figures = [accuracy_figure(table, run, frame), rank_figure(table, frame)]
    figures += [measure_figure(measure, table, frame) for measure in MEASURES]
    figures.append(cka_figure(table, frame))
    return [figure for figure in figures if figure is not None]


def accuracy_figure(table: pd.DataFrame, run: dict[str, Any], frame: Frame) -> Figure | None:
    """Accuracy by depth, the report's main figure."""
    rows = tidy.accuracies(table, run, frame)
    if rows.empty:
        return None
    own = tidy.number((run.get("network_accuracy") or {}).get("value"))
    score = score_title(tidy.score_names(table))
    what = "classes" if score == "accuracy" else "labels"
    caption = (
        f"How well a linear probe reads the {what} from each layer; higher means more of what the {what} "
        "need is there in a linear form. Bands are 95 % intervals, a ring marks the best layer of each "
        "data set."
    )
    if score == "score":
        caption += f" Sets are scored by {' or '.join(SCORE_TITLES[one] for one in tidy.score_names(table))}."
    baseline = baseline_name(table)
    if baseline:
        caption += f" The points over “{baseline}” are the same classifier on the input itself."
    if frame.id_set:
        caption += f" The strong line is {frame.id_set}, the data the network was trained for (ID)."
    if frame.start is not None and frame.start < frame.count:
        caption += (
            " Shaded is the tunnel: the layers after the first that reaches 95 % of the last layer’s ID "
            f"{score}. A coloured line that falls there loses what other data would need."
        )
    probes = table["quantity"].isin([f"probe_{name}" for name in tidy.score_names(table)])
    seeds = table.loc[probes, "seed"].nunique()
    if seeds > 1:
        caption += (
            f" Lines are means over {seeds} probe seeds; bands hold the doubt of test images and of seeds."
        )
    chart = accuracy_chart(rows, frame, own, baseline=baseline, score=score)
    title, notes = f"{heading(score)} by depth", tunnel_notes(run, frame) + under_the_axis(rows)
    return Figure("accuracy", title, caption, chart, notes=notes, wide=True)


def baseline_name(table: pd.DataFrame) -> str:
    """What layer 0 is called: the pixels of images, else what was read there; empty where there is none."""
    read = set(table.loc[table["layer_index"] == 0, "read_point"])
    if not read:
        return ""
    return {"features": "input", "embedding": "embeddings"}.get(str(read.pop()), "pixels")


def tunnel_notes(run: dict[str, Any], frame: Frame) -> tuple[str, ...]:
    """Why no tunnel is shaded, where none is."""
    if frame.start is None:
        reason = (run.get("tunnel") or {}).get("reason")
        return (f"No tunnel is shaded: {reason or 'its start is not known'}.",)
    if frame.start >= frame.count:
        return ("No tunnel is shaded: only the last layer reaches 95 % of its own ID accuracy.",)
    return ()


def rank_figure(table: pd.DataFrame, frame: Frame) -> Figure | None:
    """Numerical rank by depth with a choice of thresholds."""
    rows, notes = above_zero(tidy.ranks(table, frame))
    if rows.empty:
        return None
    caption = (
        "How many directions carry a noticeable share of the variance: covariance eigenvalues above the "
        "threshold times the largest. Higher: features spread over more directions; inside a tunnel the rank "
        "falls. Logarithmic axis."
    )
    chart = charts.depth_chart(rows, frame, "Numerical rank", log=True, chooser=("threshold", "Threshold"))
    return Figure("numerical_rank", "Numerical rank", caption, chart, notes=notes)


def measure_figure(measure: Measure, table: pd.DataFrame, frame: Frame) -> Figure | None:
    """A measure by depth, or None where the table has no value of it."""
    rows, notes = tidy.by_layer(table, measure.quantity, frame), ()
    if measure.log:
        rows, notes = above_zero(rows)
    if rows.empty:
        return None
    chart = charts.depth_chart(rows, frame, measure.axis, log=measure.log)
    return Figure(measure.quantity, measure.title, measure.caption, chart, notes=notes)


def above_zero(rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows a log axis can show, and a note on those it cannot."""
    shown = rows.loc[rows["value"] > 0].reset_index(drop=True)
    if "untrained" in shown:
        shown["untrained"] = shown["untrained"].where(shown["untrained"] > 0)
    hidden = len(rows) - len(shown)
    return shown, (f"{hidden} values of 0 or less do not appear on a logarithmic axis.",) if hidden else ()


def cka_figure(table: pd.DataFrame, frame: Frame) -> Figure | None:
    """The CKA matrix with a choice of data sets; a single layer has none."""
    rows = tidy.similarities(table, frame)
    if rows.empty or frame.count < 2:
        return None
    order = {key: place for place, key in enumerate(frame.sets)}
    rows = rows.sort_values(
        ["dataset"], key=lambda column: column.map(order), kind="stable", ignore_index=True
    )
    caption = (
        "How alike two layers arrange the same examples (linear CKA, unbiased): 1 is the same up to rotation "
        "and scale, 0 unrelated. Layers run from bottom left to top right; a block of high values in the "
        "upper right corner is a stretch of layers that change little any more."
    )
    choices = tuple(str(key) for key in rows["dataset"].unique())
    return Figure(
        "cka", "Similarity of layers", caption, charts.cka_chart(rows, frame), choices, square=True, wide=True
    )
