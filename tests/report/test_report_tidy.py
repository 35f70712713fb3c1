import numpy as np
import pandas as pd
import pytest
from synthetic_results import synthetic_results

from tunnelscope.errors import RequestError
from tunnelscope.report.tidy import accuracies, by_layer, number, ranks, shared_frame, similarities


def test_frame_puts_the_id_set_first_and_finds_the_tunnel():
    table, run = synthetic_results(["a", "b", "c", "d"], ood_sets=("x", "y"))
    run["data"].reverse()
    run["tunnel"] |= {"start_95": "b", "start_95_interval": ["a", "c"]}
    frame = shared_frame(table, run)
    assert frame.sets == ("cifar10", "y", "x")
    assert (frame.id_set, frame.start, frame.start_interval) == ("cifar10", 2, (1, 3))


def test_frame_reads_layers_and_sets_from_the_table_when_run_has_none():
    table, run = synthetic_results(["first", "second"])
    frame = shared_frame(table, {"tunnel": run["tunnel"]})
    assert frame.names == ("first", "second")
    assert frame.sets == ("cifar10", "cifar100", "gtsrb")


def test_results_without_layers_are_refused():
    table, _ = synthetic_results(["a"])
    with pytest.raises(RequestError, match="name no layer"):
        shared_frame(table.iloc[:0], {})


def test_id_set_is_drawn_last():
    table, run = synthetic_results()
    rows = by_layer(table, "effective_rank", shared_frame(table, run))
    assert list(dict.fromkeys(rows["dataset"])) == ["gtsrb", "cifar100", "cifar10"]
    assert rows.groupby("dataset")["layer_index"].apply(lambda index: index.is_monotonic_increasing).all()


def test_seeds_become_a_mean_with_the_outermost_interval():
    table, run = synthetic_results(["a"], ood_sets=())
    one = table[(table["quantity"] == "probe_accuracy") & (table["layer"] == "a")]
    one = one.assign(value=0.6, low=0.5, high=0.7)
    again = one.assign(seed=1, value=0.8, low=0.75, high=0.85)
    rows = by_layer(pd.concat([one, again]), "probe_accuracy", shared_frame(table, run))
    assert rows[["value", "low", "high"]].to_numpy() == pytest.approx(np.array([[0.7, 0.5, 0.85]]))


def test_a_mean_over_seeds_takes_the_interval_that_holds_them():
    table, run = synthetic_results(["a", "b"], ood_sets=())
    one = table[table["quantity"] == "probe_accuracy"].assign(value=0.6, low=0.5, high=0.7)
    mean = one[one["layer"] == "b"].assign(quantity="probe_accuracy_mean", value=0.7, low=0.4, high=0.9)
    again = one.assign(seed=1, value=0.8, low=0.75, high=0.85)
    rows = by_layer(pd.concat([one, again, mean]), "probe_accuracy", shared_frame(table, run))
    ends = dict(zip(rows["layer"], rows[["low", "high"]].to_numpy().tolist(), strict=True))
    assert ends == {"input": [0.5, 0.85], "a": [0.5, 0.85], "b": [0.4, 0.9]}
    assert rows["value"].to_numpy() == pytest.approx(np.full(3, 0.7))


def test_test_rows_are_taken_where_both_splits_were_read():
    table, run = synthetic_results(["a", "b"], ood_sets=())
    twice = pd.concat([table, table[table["quantity"] == "twonn"].assign(split="train", value=-1.0)])
    assert (by_layer(twice, "twonn", shared_frame(table, run))["value"] > 0).all()


def test_best_layers_are_those_of_run_and_never_the_input():
    table, run = synthetic_results(["input", "b", "c"], ood_sets=("x",))
    run["best_layer"] = {"x": {"layer": "c"}, "cifar10": None}
    rows = accuracies(table, run, shared_frame(table, run))
    assert rows.loc[rows["best"], ["dataset", "layer"]].to_numpy().tolist() == [["x", "c"]]
    assert (rows["layer_index"] == 0).sum() == 2


def test_label_goes_below_a_point_that_has_the_id_curve_just_over_it():
    table, run = synthetic_results([f"l{i}" for i in range(10)], ood_sets=("x",))
    table.loc[table["quantity"] == "probe_accuracy", "value"] = 0.9
    table.loc[table["dataset"] == "x", "value"] = 0.2
    table.loc[(table["dataset"] == "x") & (table["layer"] == "l5"), "value"] = 0.87
    run["best_layer"] = {"x": {"layer": "l5"}}
    rows = accuracies(table, run, shared_frame(table, run))
    assert rows.loc[rows["best"], "label_at"].tolist() == ["below"]
    table.loc[(table["dataset"] == "x") & (table["layer"] == "l5"), "value"] = 0.6
    rows = accuracies(table, run, shared_frame(table, run))
    assert rows.loc[rows["best"], "label_at"].tolist() == ["above"]


def test_labels_of_close_best_layers_go_to_different_sides():
    table, run = synthetic_results([f"l{i}" for i in range(10)], ood_sets=("x", "y"))
    for key, accuracy in {"cifar10": 0.9, "x": 0.5, "y": 0.47}.items():
        table.loc[(table["quantity"] == "probe_accuracy") & (table["dataset"] == key), "value"] = accuracy
    run["best_layer"] = {"x": {"layer": "l5"}, "y": {"layer": "l5"}, "cifar10": {"layer": "l9"}}
    rows = accuracies(table, run, shared_frame(table, run))
    assert dict(rows.loc[rows["best"], ["dataset", "label_at"]].to_numpy()) == {
        "x": "above",
        "y": "below",
        "cifar10": "",
    }


def test_ranks_hold_every_threshold_with_the_default_first():
    table, run = synthetic_results(["a", "b"])
    rows = ranks(table, shared_frame(table, run))
    assert list(rows["threshold"].unique()) == ["0.001", "0.01", "0.0001"]
    only = ranks(table[table["quantity"] != "numerical_rank_1e-2"], shared_frame(table, run))
    assert list(only["threshold"].unique()) == ["0.001", "0.0001"]


def test_each_pair_of_layers_comes_once():
    table, run = synthetic_results(["a", "b", "c"], ood_sets=())
    rows = similarities(pd.concat([table, table]), shared_frame(table, run))
    assert len(rows) == 6
    assert (rows["index"] <= rows["index_b"]).all()
    assert rows.loc[(rows["index"] == 1) & (rows["index_b"] == 3), "layer_b"].item() == "c"


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "text"])
def test_what_is_no_number_is_none(value):
    assert number(value) is None
