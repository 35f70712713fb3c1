"""Figures beside the untrained network: its rows are a line of their own, never taken for the network's."""

import numpy as np
import pandas as pd
from synthetic_results import synthetic_results, with_control

from tunnelscope.report.comparison import by_run
from tunnelscope.report.figures import build_figures
from tunnelscope.report.layer_table import accuracy_columns
from tunnelscope.report.tidy import accuracies, ranks, scores_by_layer, shared_frame, similarities


def test_the_reports_numbers_are_the_networks_own():
    table, run = synthetic_results(["a", "b", "c"])
    both, controlled = with_control(table, run)
    frame, plain = shared_frame(both, controlled), shared_frame(table, run)
    curve, alone = accuracies(both, controlled, frame), accuracies(table, run, plain)
    pd.testing.assert_frame_equal(curve.drop(columns="untrained"), alone)
    layers = curve["layer_index"] > 0
    np.testing.assert_allclose(curve.loc[layers, "untrained"], curve.loc[layers, "accuracy"] - 0.1)
    assert curve.loc[~layers, "untrained"].isna().all()
    rank = ranks(both, frame)
    assert (rank["untrained"] == 2 * rank["value"]).all()
    assert len(similarities(both, frame)) == len(similarities(table, plain))
    assert accuracy_columns(both, frame) == accuracy_columns(table, plain)


def test_every_figure_but_cka_has_the_untrained_line():
    figures = {
        figure.key: figure.chart.to_json() for figure in build_figures(*with_control(*synthetic_results()))
    }
    assert {key for key, spec in figures.items() if "untrained" not in spec} == {"cka"}
    plain = [figure.chart.to_json() for figure in build_figures(*synthetic_results())]
    assert not any("untrained" in spec for spec in plain)


def test_a_comparison_reads_the_networks_own_rows():
    table, run = synthetic_results(["a", "b"])
    both, controlled = with_control(table, run)
    compared = by_run({"x": both, "y": table}, {"x": controlled, "y": run}, scores_by_layer)
    x, y = (compared[compared["run"] == label].drop(columns="run") for label in "xy")
    pd.testing.assert_frame_equal(x.reset_index(drop=True), y.reset_index(drop=True))
