"""The paper's figures in long form: what `reproduce/drawing.py` draws, from curves over layers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tunnelscope.reproduce.found import Figure, line_rows
from tunnelscope.reproduce.masarczyk2023.statistics import Curves

LAYER = "layer"
FIRST_STEPS = 75  # of which the paper tells the rank one by one
Panels = Mapping[str, Sequence[Curves]]


def accuracy_and_rank(panels: Panels) -> Figure:
    """ID accuracy (OOD accuracy where it was read) and rank, as a share of its largest, by layer."""
    rows = []
    for panel, curves in panels.items():
        shown = {
            "ID accuracy": [100 * one.id for one in curves],
            "OOD accuracy": [100 * one.ood.mean(axis=0) for one in curves if len(one.ood)],
            "rank (1e-3), % of its largest": [
                100 * one.ranks["1e-3"] / one.ranks["1e-3"].max() for one in curves
            ],
        }
        for name, values in shown.items():
            if values:
                rows += line_rows(panel, name, curves[0].numbers, values)
    return Figure(pd.DataFrame(rows), LAYER, "%", shaded=tunnels(panels))


def tunnels(panels: Panels) -> dict[str, tuple[float, float]]:
    """From where to where each panel's tunnel reaches, by the mean start over seeds."""
    return {
        panel: (float(np.mean([one.start() for one in curves])), float(curves[0].numbers[-1]))
        for panel, curves in panels.items()
    }


def variance_figure(panels: Panels) -> Figure:
    """Variances within and between classes and their ratio by layer, logarithmic."""
    rows = []
    for panel, curves in panels.items():
        for name, values in (
            ("intra-class", [one.within for one in curves]),
            ("inter-class", [one.between for one in curves]),
            ("intra over inter", [one.within / one.between for one in curves]),
        ):
            rows += line_rows(panel, name, curves[0].numbers, values)
    return Figure(pd.DataFrame(rows), LAYER, "variance", log=True, shaded=tunnels(panels))


def pairs_figure(panels: Mapping[str, tuple[np.ndarray, Sequence[np.ndarray]]]) -> Figure:
    """What is told of all pairs of layers, a mean over seeds: a panel has layers' numbers and matrices."""
    rows = []
    for panel, (numbers, matrices) in panels.items():
        mean = np.mean(matrices, axis=0)
        for place, number in enumerate(numbers.tolist()):
            for other, second in enumerate(numbers.tolist()):
                rows.append({"panel": panel, "x": number, "y": second, "value": float(mean[place, other])})
    return Figure(pd.DataFrame(rows), LAYER, LAYER, kind="heat")


def change_figure(frames: Sequence[pd.DataFrame]) -> Figure:
    """Change of each layer's weights between checkpoints, a mean over seeds."""
    table: Any = pd.concat(frames)
    table = table.assign(x=table["run"].str.removeprefix("step-").astype(int))
    if (table["x"] > FIRST_STEPS).any():  # epoch by epoch; what the first steps change stands beside nothing
        table = table[table["x"] > FIRST_STEPS]
    table = table[table["value"] > 0]
    mean = table.groupby(["x", "place"], as_index=False)["value"].mean()
    frame = mean.rename(columns={"place": "y"}).assign(panel="VGG-19, RMS change since the checkpoint before")
    return Figure(frame, "step", LAYER, kind="heat", log=True)


def rank_figure(tables: Sequence[pd.DataFrame]) -> Figure:
    """Rank by step and layer, a mean over seeds."""
    mean: Any = pd.concat(tables).groupby(level=0).mean()
    long = (
        mean.reset_index()
        .melt(id_vars="step", var_name="y", value_name="value")
        .rename(columns={"step": "x"})
    )
    return Figure(long.assign(panel="VGG-19, numerical rank (1e-3)"), "step", LAYER, kind="heat", log=True)
