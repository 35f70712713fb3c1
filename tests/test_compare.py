"""Several scans beside each other: labels, what is refused and warned of, and what is claimed to differ."""

import copy
import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tunnelscope as ts
from tunnelscope import differences
from tunnelscope.comparability import asked, comparable, warnings


def changed(scan, change):
    """A copy of a scan with its run.json changed, as another scan would have it."""
    run = copy.deepcopy(scan.run)
    change(run)
    return ts.Scan(run=run, frame=scan.frame)


def pair(scans, change):
    first = ts.load(scans / "two")
    return {"a": first.run, "b": changed(ts.load(scans / "four"), change).run}


def number(value, low, high):
    return {"value": value, "low": low, "high": high}


def reading(r, accuracy, at_chance=False):
    best = {"layer": "x", "accuracy": accuracy[0], "low": accuracy[1], "high": accuracy[2]}
    kept = number(*r)
    return {"retained": kept, "best_layer": best, "at_chance": at_chance, "start": None, "role": "ood"}


def entry(**readings):
    labels = list(readings)
    rows = [
        row
        for at, a in enumerate(labels)
        for b in labels[at + 1 :]
        for row in differences.compared(a, readings[a], b, readings[b])
    ]
    return {"key": "pets", "runs": labels, "readings": readings, "comparisons": rows}


# -- numbers -------------------------------------------------------------------------------------------------


def test_a_difference_of_proportions_is_newcombes_tenth_method():
    # Newcombe 1998, Statistics in Medicine 17:873, table II: 56/70 less 48/80, method 10
    from tunnelscope.probes import wilson

    (low_a, high_a), (low_b, high_b) = wilson(56, 70), wilson(48, 80)
    low, high = differences.interval_of_difference(number(0.8, low_a, high_a), number(0.6, low_b, high_b))
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


@given(
    st.tuples(*[st.floats(0, 1)] * 3).map(sorted),
    st.tuples(*[st.floats(0, 1)] * 3).map(sorted),
)
def test_the_interval_of_a_difference_holds_it_and_turns_its_sign_with_the_order(a, b):
    first, second = number(a[1], a[0], a[2]), number(b[1], b[0], b[2])
    low, high = differences.interval_of_difference(first, second)
    assert low <= a[1] - b[1] <= high
    assert differences.interval_of_difference(second, first) == pytest.approx((-high, -low))


def test_many_equal_networks_are_seldom_said_to_differ():
    draws = np.random.default_rng(0)
    said = 0
    for _ in range(200):
        values = draws.normal(0.8, 0.02, 8)
        numbers = [(value, value - 0.0392, value + 0.0392) for value in values]
        sets = [entry(**{f"n{at}": reading(r, (0.5, 0.4, 0.6)) for at, r in enumerate(numbers)})]
        differences.widen(sets)
        said += any(row["differs"] for row in sets[0]["comparisons"])
    assert said <= 16  # 10 expected of 200 at most; without widening more than half


def test_starts_differ_only_by_more_than_their_intervals_and_a_layer():
    def at(index, layers, low=None, high=None):
        share = index / layers
        return {
            "index": index,
            "layers": layers,
            "low": low or index,
            "high": high or index,
            "extractor_share": share,
        }

    def differs(a, b):
        return differences._start_entry("a", a, "b", b)["differs"]

    assert not differs(at(5, 10), at(9, 20))  # (40, 50 %] and (40, 45 %]
    assert not differs(at(5, 10), at(4, 10, 4, 5))
    assert not differs(at(5, 10), at(6, 10))  # they touch
    assert differs(at(5, 10), at(7, 10))


def test_each_run_is_read_as_its_scan_says(scans):
    comparison = ts.compare([scans / "two", scans / "four", scans / "three"])
    assert [run["label"] for run in comparison.runs] == ["two", "four", "three"]
    for run in comparison.runs:
        scan = ts.load(scans / run["label"])
        assert run["layers"] == len(scan.run["layers"])
        assert run["parameters"] == scan.run["model"]["parameters"]
        assert run["start_95"]["layer"] == scan.tunnel["start_95"]
        assert run["start_95"]["index"] == run["layers"] - scan.tunnel["length"]
    fives = next(found for found in comparison.sets if found["key"] == "fives")
    for label in ("two", "four", "three"):
        scan, read = ts.load(scans / label), fives["readings"][label]
        assert read["retained"] == scan.tunnel["ood"]["fives"]["retained"]
        assert read["best_layer"]["layer"] == scan.best_layer("fives")["layer"]
        table = scan.table().query("quantity == 'probe_accuracy' and dataset == 'fives'")
        table = table[table["layer"] == scan.run["layers"][-1]["name"]]
        assert read["last_accuracy"] == pytest.approx(table["value"].item())


def test_a_set_that_a_run_lacks_is_left_out_of_its_readings(scans):
    comparison = ts.compare([scans / "two", scans / "three", scans / "four"])
    everything = next(found for found in comparison.sets if found["key"] == "all")
    assert everything["runs"] == ["two", "four"]
    assert {(row["a"], row["b"]) for row in everything["comparisons"]} == {("two", "four")}


# -- words ---------------------------------------------------------------------------------------------------


def words(found):
    from tunnelscope.comparison_words import verdict

    differences.widen([found])
    return verdict([{}, {}], [found])


def test_a_sure_difference_is_claimed_and_an_unsure_one_is_not():
    high = (0.5, 0.49, 0.51)
    text = words(entry(A=reading((0.845, 0.827, 0.865), high), B=reading((0.93, 0.91, 0.95), high)))
    assert "the last layer of A keeps 84.5 % [82.7–86.5] of its best layer's accuracy and B 93.0 %" in text
    assert ": A loses more than B, beyond the sampling error of the test images" in text
    text = words(entry(A=reading((0.845, 0.80, 0.89), high), B=reading((0.88, 0.83, 0.92), high)))
    assert "no difference is beyond the sampling error of the test images" in text
    assert "surely above no other" in text


def test_the_run_to_take_is_named_with_those_it_surely_beats():
    r = (0.9, 0.88, 0.92)
    found = entry(
        A=reading(r, (0.6, 0.57, 0.63)), B=reading(r, (0.7, 0.67, 0.73)), C=reading(r, (0.69, 0.66, 0.72))
    )
    text = words(found)
    assert "the highest accuracy at a layer to take is B's, 70.0 % [67.0–73.0] at x, surely above A." in text


def test_of_many_runs_the_ends_are_named():
    runs = {f"n{at}": reading((0.8 + at / 100, 0.7, 0.95), (0.5, 0.4, 0.6)) for at in range(6)}
    text = words(entry(**runs))
    assert "n0 keeps 80.0 %" in text
    assert "n5 85.0 %" in text
    assert "n3" not in text


def test_nothing_is_said_of_r_at_chance():
    r = (0.9, 0.88, 0.92)
    low = (0.2, 0.1, 0.3)
    text = words(entry(A=reading(r, low, at_chance=True), B=reading((0.5, 0.48, 0.52), (0.5, 0.4, 0.6))))
    assert text == "The probes of A are at chance on pets."


# -- what cannot be compared ---------------------------------------------------------------------------------


def test_same_data_and_probes_give_no_warning(scans):
    runs = pair(scans, lambda run: None)
    assert warnings(runs) == []
    assert comparable(runs["a"], runs["b"], "fives")


def other_probe(run):
    for probe in run["probes"]:
        probe["protocol"] = "exact/v2"


def other_penalty(run):
    run["settings"]["penalty"] = 0.1


def other_pool(run):
    run["settings"]["pool"] = "2x2"
    for layer in run["layers"]:
        layer["pool"] = "2x2"


def other_data(run):
    run["fingerprints"]["data"]["fives"]["test"] = "0" * 64


def other_rows(run):
    other_data(run)
    next(data for data in run["data"] if data["key"] == "fives")["n_test"] = 7


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (other_probe, "the probes follow different protocols: a ridge/v1; b exact/v2"),
        (other_penalty, "the probes' penalties differ: a chosen on held-out rows; b 0.1"),
        (other_pool, "features are pooled differently: a"),
        (other_data, "fives is not the same data in a and b"),
        (other_rows, "fives has not the same rows: a 300 train and"),
    ],
)
def test_what_is_not_alike_is_warned_of_in_one_line_and_not_judged(scans, change, line):
    runs = pair(scans, change)
    assert len([warning for warning in warnings(runs) if warning.startswith(line)]) == 1
    assert not comparable(runs["a"], runs["b"], "fives")
    comparison = ts.compare(
        [ts.load(scans / "two"), changed(ts.load(scans / "four"), change)], labels=["a", "b"]
    )
    fives = next(found for found in comparison.sets if found["key"] == "fives")
    assert fives["comparisons"] == []
    assert "not compared, see the warnings" in comparison.verdict


def test_the_choice_of_layers_is_read_from_the_command(scans):
    def command(run):
        del run["settings"]  # as runs were written before they had any
        run["command"] = "tunnelscope scan zoo:mlp --id x --layers 'relu$' --pool=avg"

    run = pair(scans, command)["b"]
    assert (asked(run, "layers", "blocks"), asked(run, "pool", "auto")) == ("relu$", "avg")
    assert asked(run, "probe", "exact") == "exact"
    assert asked({"command": "ts.scan"}, "layers", "blocks") is None  # from Python
    both = {"a": {**run, "command": "tunnelscope scan zoo:mlp --pool avg"}, "b": run}
    assert any(
        line.startswith("layers were chosen differently: a blocks; b relu$") for line in warnings(both)
    )


def test_the_choice_of_layers_is_read_from_the_settings(scans):
    def ask(run):
        run["settings"]["layers"] = ["hidden.0.relu", "hidden.1.relu"]

    runs = pair(scans, ask)
    assert not comparable(runs["a"], runs["b"], "fives")
    line = "layers were chosen differently: a blocks; b hidden.0.relu, hidden.1.relu"
    assert any(warning.startswith(line) for warning in warnings(runs))


def test_no_common_set_is_warned_of(scans):
    def rename(run):
        for entry in run["data"]:
            entry["key"] += "-x"
        for table in (run["best_layer"], run["tunnel"]["ood"], run["fingerprints"]["data"]):
            for key in list(table):
                table[f"{key}-x"] = table.pop(key)
        for probe in run["probes"]:
            probe["dataset"] += "-x"

    comparison = ts.compare([ts.load(scans / "two"), changed(ts.load(scans / "four"), rename)])
    assert any("no data set is in two of these runs" in line for line in comparison.warnings)
    assert "nothing is compared" in comparison.verdict


def test_the_same_network_twice_is_warned_of(scans, tmp_path):
    shutil.copytree(scans / "two", tmp_path / "copy")
    comparison = ts.compare([scans / "two", tmp_path / "copy"])
    assert "two and copy are the same network with the same weights" in comparison.warnings


# -- labels and bad input ------------------------------------------------------------------------------------


def test_names_that_clash_get_their_parents(scans, tmp_path):
    for parent in ("x", "y"):
        shutil.copytree(scans / "two", tmp_path / parent / "run")
    labels = [
        run["label"]
        for run in ts.compare([tmp_path / "x" / "run", scans / "four", tmp_path / "y" / "run"]).runs
    ]
    assert labels == ["x/run", "four", "y/run"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{scans}/two"], "a comparison needs two scans or more, 1 given"),
        (["{scans}/two", "{scans}/four/../two"], "is given twice"),
        (["{scans}/two", "{scans}"], "holds no scan (no run.json)"),
        (["{scans}/two", "{scans}/two/run.json"], "is a file; a scan is a folder"),
        (["{scans}/two", "{scans}/four", "--label", "a"], "--label is given 1 times for 2 scans"),
        (["{scans}/two", "{scans}/four", "--label", "a", "--label", "a"], "the label 'a' is given to two"),
        (["{scans}/two", "{scans}/four", "--out", "{scans}/two/run.json"], "is a file"),
    ],
)
def test_bad_requests_end_with_one_line(tunnelscope, scans, tmp_path, arguments, message):
    out = [] if "--out" in arguments else ["--out", tmp_path / "c"]
    ended = tunnelscope("compare", *(word.format(scans=scans) for word in arguments), *out)
    assert ended.code == 2
    assert ended.out == ""
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1


# -- the command ---------------------------------------------------------------------------------------------


def test_json_is_what_the_folder_keeps_and_all_that_stdout_has(tunnelscope, scans, tmp_path):
    ended = tunnelscope("compare", scans / "two", scans / "four", "--out", tmp_path / "c", "--json")
    assert ended.code == 0, ended.err
    assert set(ended.json) == {"runs", "sets", "method", "verdict", "warnings"}
    assert ended.json == json.loads((tmp_path / "c" / "compare.json").read_text())
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"compare.html", "compare.json"}
    assert ended.json["verdict"] in ended.err
    assert f"Report: {tmp_path}/c/compare.html" in ended.err


def test_the_table_has_a_row_a_run_within_80_columns(tunnelscope, scans, tmp_path):
    folders = [scans / name for name in ("two", "three", "four")]
    ended = tunnelscope("compare", *folders, "--out", tmp_path / "c")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["two", "three", "four"]
    assert lines[2].split()[-1] == "–"  # no `all` in three
    assert max(map(len, lines)) <= 80


def test_long_names_and_many_sets_still_fit_80_columns(scans):
    from tunnelscope.cli.compare import comparison_table

    labels = ["a_checkpoint_with_a_very_long_name_100", "a_checkpoint_with_a_very_long_name_200"]
    comparison = ts.compare([scans / "two", scans / "four"], labels=labels)
    for at, found in enumerate(comparison.sets):
        found["key"] = f"{at}_a_data_set_with_a_very_long_name"
    text = comparison_table(comparison.runs, comparison.sets)
    assert max(map(len, text.splitlines())) <= 80
    assert "name_100" in text
    assert "name_200" in text
