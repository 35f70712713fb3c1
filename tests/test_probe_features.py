"""Features that exist already give what a scan gives, from every form they come in."""

import json
import pickle
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import tunnelscope as ts
from tunnelscope import examining
from tunnelscope.cli import main
from tunnelscope.feature_file import record_file
from tunnelscope.feature_forms import by_split

NETWORK = "zoo:mlp?depth=4&width=24&classes=5"
DATA = "sklearn:digits?classes=0-4"
OTHER = "sklearn:digits?classes=5-9"


def planted(classes=3, rows=90, spread=0.3, seed=0):
    """Two layers: one that tells the classes apart, one of noise; and labels."""
    draws = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    centres = draws.normal(size=(classes, 6))
    clear = centres[labels] + spread * draws.normal(size=(rows, 6))
    return {
        "clear": clear.astype(np.float32),
        "noise": draws.normal(size=(rows, 4)).astype(np.float32),
    }, labels


def accuracies(scan, dataset=None):
    table = scan.table().query("quantity == 'probe_accuracy' and layer != 'input'")
    table = table if dataset is None else table[table["dataset"] == dataset]
    return dict(zip(zip(table["dataset"], table["layer"], strict=True), table["value"], strict=True))


def values(scan):
    """Every value that does not need the network, in the order of the table."""
    table = scan.table().query("layer != 'input' and quantity != 'network_accuracy'")
    return table[["dataset", "layer", "layer_b", "quantity", "value", "low", "high"]].reset_index(drop=True)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    for name, data in (("digits", DATA), ("digits-2", OTHER)):
        record_file(NETWORK, data, folder / f"{name}.safetensors", max_samples=120)
    return folder


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        return stopped.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def refused(run):
    """Run a probe that ends in one line and exit code 2; the line."""

    def call(*arguments):
        code, out, err = run("probe", *arguments)
        assert (code, out) == (2, "")
        lines = err.strip().splitlines()
        assert len(lines) == 1, err
        return lines[0].removeprefix("tunnelscope: ")

    return call


def test_recorded_features_give_every_number_of_the_scan(recorded):
    whole = ts.scan(NETWORK, id=DATA, ood=OTHER, max_samples=120, cache=False)
    again = ts.scan_features(id=recorded / "digits.safetensors", ood=recorded / "digits-2.safetensors")
    assert len(accuracies(again)) == 2 * len(again.run["layers"]) == 8
    pd.testing.assert_frame_equal(values(again), values(whole), check_exact=True)
    assert again.tunnel == whole.tunnel | {"ood": again.tunnel["ood"]}
    of_network = "On its own data this untrained network has built its representation by"
    said = whole.verdict.replace(of_network, "On the network's own data these features are built by")
    assert again.verdict == said != whole.verdict
    cut = next(line for line in whole.run["warnings"] if line.startswith("digits-2: no test split"))
    assert cut in again.run["warnings"]


def test_recorded_layers_keep_forward_order(tmp_path):
    record_file("zoo:mlp?depth=12&width=8", DATA, tmp_path / "deep.safetensors", max_samples=60)
    layers = ts.scan_features(ood=tmp_path / "deep.safetensors", probe="ridge").run["layers"]
    assert [layer["name"] for layer in layers] == [f"hidden.{index}.relu" for index in range(12)]


def test_layers_of_a_file_without_their_order_are_ordered_by_number(tmp_path):
    features, labels = planted()
    layers = {f"block.{index}": torch.tensor(features["clear"]) for index in (10, 2, 1)}
    save_file({**layers, "labels": torch.tensor(labels)}, tmp_path / "a.safetensors")
    scan = ts.scan_features(ood=tmp_path / "a.safetensors", probe="ridge")
    assert [layer["name"] for layer in scan.run["layers"]] == ["block.1", "block.2", "block.10"]


def test_the_command_writes_the_folder_of_a_scan(recorded, run):
    code, out, err = run(
        *("probe", "--id", recorded / "digits.safetensors", "--ood", recorded / "digits-2.safetensors"),
        *("--out", "runs/features", "--json"),
    )
    assert code == 0
    told = json.loads(out)
    assert told["model"]["name"] == "digits.safetensors"
    assert told["model"]["parameters"] is told["model"]["flops"] is None
    assert [entry["role"] for entry in told["data"]] == ["id", "ood"]
    best = told["best_layer"]["digits-2"]
    assert best["parameters_saved"] is best["flops_saved"] is best["milliseconds_saved"] is None
    assert told["network_accuracy"] is None
    assert "features were given" in told["network_accuracy_reason"]
    scan = ts.load("runs/features")
    assert len(scan.probes) == 8
    page = (scan.folder / "report.html").read_text()
    assert "FLOPs saved" not in page
    assert "The points over" not in page
    assert '"pixels"' not in page
    assert "load_file" in page
    assert "ts.load_network" not in page
    assert "digits: 120 training and 120 test rows, 5 classes" in err


def test_one_of_the_files_can_be_the_id_set(recorded, run):
    files = [recorded / "digits-2.safetensors", recorded / "digits.safetensors"]
    code, out, _ = run("probe", *files, "--id", files[1], "--probe", "ridge", "--json")
    assert code == 0
    assert [(entry["key"], entry["role"]) for entry in json.loads(out)["data"]] == [
        ("digits", "id"),
        ("digits-2", "ood"),
    ]


def test_next_step_lines_load_the_features_probed(recorded):
    scan = ts.scan_features(ood=recorded / "digits.safetensors", probe="ridge")
    place = {}
    exec("\n".join(scan.run["next_step"]["digits"]), place)
    layer = scan.best_layer()["layer"]
    assert torch.equal(place["features"], load_file(recorded / "digits.safetensors")[f"train/{layer}"])


def forms(folder, features, labels):
    """The same features in every form, as the arguments of `scan_features`."""
    split = {f"train/{name}": values[:60] for name, values in features.items()}
    split |= {f"test/{name}": values[60:] for name, values in features.items()}
    split |= {"train/labels": labels[:60], "test/labels": labels[60:]}
    np.savez(folder / "split.npz", **split)
    save_file({name: torch.tensor(one) for name, one in split.items()}, folder / "split.safetensors")
    for part, rows in (("train", slice(0, 60)), ("test", slice(60, None))):
        columns = {name: list(values[rows]) for name, values in features.items()}
        (folder / "shards").mkdir(exist_ok=True)
        table = pa.table({**columns, "label": labels[rows]})
        pq.write_table(table, folder / "shards" / f"{part}-00000-of-00001.parquet")
    yield {"ood": folder / "split.npz"}
    yield {"ood": folder / "split.safetensors"}
    yield {"ood": folder / "shards"}
    yield {
        "ood": folder / "shards" / "train-00000-of-00001.parquet",
        "test": folder / "shards" / "test-00000-of-00001.parquet",
    }
    halves = [
        ({n: v[rows] for n, v in features.items()}, labels[rows]) for rows in (slice(60), slice(60, None))
    ]
    yield {"ood": {"train": halves[0], "test": halves[1]}}
    yield {"ood": {"mine": {"train": halves[0], "test": halves[1]}}}
    yield {"ood": [{n: torch.tensor(v) for n, v in split.items()}]}


def test_every_form_gives_the_same_probes(tmp_path):
    features, labels = planted()
    halves = [
        ({n: v[rows] for n, v in features.items()}, labels[rows]) for rows in (slice(60), slice(60, None))
    ]
    plain = ts.probe(*halves[0], test=halves[1], tolerance=1e-2)
    assert plain["clear"].accuracy > 0.9
    for arguments in forms(tmp_path, features, labels):
        scan = ts.scan_features(**arguments)
        got = {layer: value for (_, layer), value in accuracies(scan).items()}
        assert got == {name: one.accuracy for name, one in plain.items()}, arguments


def test_single_matrices_and_number_columns_give_one_layer(tmp_path, run):
    features, labels = planted()
    np.save(tmp_path / "x.npy", features["clear"])
    np.save(tmp_path / "y.npy", labels)
    frame = pd.DataFrame(features["clear"], columns=[f"f{index}" for index in range(6)])
    frame.assign(species=np.array(["ant", "bee", "cow"])[labels]).to_parquet(tmp_path / "x.parquet")
    pair = accuracies(ts.scan_features(ood=(features["clear"], labels)))
    for arguments in (["x.npy", "--labels", "y.npy"], ["x.parquet"]):
        code, out, _ = run("probe", *arguments, "--json", "--out", f"runs/{len(arguments)}")
        told = json.loads(out)
        assert code == 0
        assert [(p["layer"], p["accuracy"]) for p in told["probes"]] == [("features", *pair.values())]
        place = {}
        exec("\n".join(told["next_step"]["x"]), place)
        np.testing.assert_array_equal(place["features"], features["clear"])
    assert told["data"][0]["class_names"] == ["ant", "bee", "cow"]
    assert any("no test split: 20 % of each class" in line for line in told["warnings"])


def test_test_rows_come_from_a_file_of_their_own(tmp_path, run):
    features, labels = planted()
    for name, rows in (("a", slice(60)), ("b", slice(60, None))):
        np.save(tmp_path / f"{name}.npy", features["clear"][rows])
        np.save(tmp_path / f"{name}y.npy", labels[rows])
    code, out, _ = run(
        *("probe", "a.npy", "--labels", "ay.npy", "--test", "b.npy", "--test-labels", "by.npy", "--json")
    )
    assert code == 0
    entry = json.loads(out)["data"][0]
    assert (entry["n_train"], entry["n_test"]) == (60, 30)


def test_a_matrix_named_input_is_the_baseline(tmp_path):
    features, labels = planted()
    scan = ts.scan_features(ood=({"input": features["noise"], "clear": features["clear"]}, labels))
    assert [layer["name"] for layer in scan.run["layers"]] == ["clear"]
    assert [probe["layer"] for probe in scan.run["baselines"]] == ["input"]
    place = scan.table().query("layer == 'input'").iloc[0]
    assert (place["layer_index"], place["read_point"]) == (0, "features")
    page = scan.report(tmp_path / "report.html").read_text()
    assert "The points over “input”" in page
    assert "pixels" not in re.search(r"Accuracy by depth.*", page)[0]


def test_layers_are_chosen_and_ordered_by_name(tmp_path, run):
    features, labels = planted()
    np.savez(tmp_path / "x.npz", labels=labels, **features)
    code, out, _ = run("probe", "x.npz", "--layer", "noise", "--layer", "clear", "--json")
    assert code == 0
    assert [layer["name"] for layer in json.loads(out)["layers"]] == ["noise", "clear"]


def test_features_of_two_networks_are_doubted(tmp_path):
    record_file(NETWORK, DATA, tmp_path / "a.safetensors", max_samples=40)
    record_file(NETWORK, OTHER, tmp_path / "b.safetensors", max_samples=40, pool="flatten")
    scan = ts.scan_features(id=tmp_path / "a.safetensors", ood=tmp_path / "b.safetensors", probe="ridge")
    assert any("one and the same network" in line for line in scan.run["warnings"])


@pytest.fixture
def fits(monkeypatch, tmp_path):
    """A list that grows by a layer each time one is probed and measured, with a store of its own."""
    monkeypatch.setenv("TUNNELSCOPE_CACHE", str(tmp_path / "cache"))
    measured, measure = [], examining.measure_layer

    def counted(*arguments, **settings):
        measured.append(settings["layer"])
        return measure(*arguments, **settings)

    monkeypatch.setattr(examining, "measure_layer", counted)
    return measured


def test_a_second_run_reads_what_the_first_measured(fits):
    features, labels = planted()
    first = ts.scan_features(ood=(features, labels))
    assert fits == ["clear", "noise"]
    assert ts.scan_features(ood=(features, labels)).frame.equals(first.frame)
    assert fits == ["clear", "noise"]
    changed = {**features, "noise": features["noise"] + 1}
    ts.scan_features(ood=(changed, labels))
    assert fits[2:] == ["noise"]
    ts.scan_features(ood=(features, (labels + 1) % 3))
    ts.scan_features(ood=(features, labels), cache=False)
    assert fits[3:] == ["clear", "noise"] * 2


def test_an_interrupted_run_goes_on_where_it_was(fits):
    features, labels = planted()

    def stop(stage, done, total):
        if "probed" in stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ts.scan_features(ood=(features, labels), progress=stop)
    assert fits == ["clear"]
    went_on = ts.scan_features(ood=(features, labels))
    assert fits == ["clear", "noise"]
    assert went_on.frame.equals(ts.scan_features(ood=(features, labels), cache=False).frame)


def test_test_rows_that_are_training_rows_are_named(tmp_path, run):
    features, labels = planted()
    test = {name: whole[::3].copy() for name, whole in planted(seed=1)[0].items()}
    for name in test:
        test[name][4] = features[name][17]
    test["clear"][5] = features["clear"][20]  # the other layer's numbers differ: another row
    np.savez(tmp_path / "a.npz", labels=labels, **features)
    np.savez(tmp_path / "b.npz", labels=labels[::3], **test)
    code, out, err = run("probe", "a.npz", "--test", "b.npz", "--out", "r", "--json")
    assert code == 0, err
    lines = [line for line in json.loads(out)["warnings"] if "training rows too" in line]
    assert len(lines) == 1
    assert "1 of 30 test rows are training rows too (first: row 4 of a.npz (test) and row 17 of" in lines[0]


def damaged(change):
    """Features of two layers with something wrong, as the arrays of a .npz."""
    features, labels = planted(rows=30)
    arrays = {**features, "labels": labels}
    change(arrays)
    return {name: one for name, one in arrays.items() if one is not None}


def with_nan(arrays):
    arrays["noise"] = arrays["noise"].copy()
    arrays["noise"][7, 2] = np.nan


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_nan, r"x.npz: layer 'noise': features are not finite in 1 of 30 rows \(first: 7\)"),
        (lambda a: a.update(labels=None), r"x.npz has no labels; put an array `labels` .* or give --labels"),
        (lambda a: a.update(labels=np.zeros(30, int)), r"x: 0 is the only class in the training rows"),
        (lambda a: a.update(labels=np.zeros(29, int)), r"layer 'clear' has 30 rows, but there are 29 labels"),
        (
            lambda a: a.update(labels=np.ones(30)),
            r"all rows have the same labels, so there is nothing to pred",
        ),
        (lambda a: a.update(clear=a["clear"][:, 0]), r"'clear': features have shape \(30,\)"),
        (lambda a: a.update(clear=np.array(["a"] * 30)), r"'clear': features are <U1, not numbers"),
        (
            lambda a: a.update(clear=np.ones((30, 2), complex)),
            r"'clear': features are complex128, not numbers",
        ),
        (lambda a: a.update(clear=a["clear"][:0]), r"'clear': features of shape \(0, 6\) are empty"),
        (lambda a: a.update(clear=None, noise=None), r"x.npz holds no features"),
        (
            lambda a: a.update({"test/clear": a["clear"]}),
            r"'clear' is of no split, others are; name it test/clear",
        ),
        (
            lambda a: a.update(class_names=np.array(["a", "b"])),
            r"label 2 in row 2 is none of the 2 class names",
        ),
    ],
)
def test_damaged_features_are_refused_in_one_line(tmp_path, refused, change, said):
    np.savez(tmp_path / "x.npz", **damaged(change))
    line = refused("x.npz")
    assert re.search(said, line), line


def test_nothing_that_could_run_code_is_opened(tmp_path, refused):
    np.savez(tmp_path / "objects.npz", x=np.array([{"a": 1}], dtype=object), labels=np.zeros(1, int))
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps([1, 2]))
    np.save(tmp_path / "object.npy", np.array([print], dtype=object))
    for name in ("objects.npz", "object.npy", "pickle.npy"):
        assert "Python objects, which could run code" in refused(name), name


def test_files_that_are_none_are_refused(tmp_path, refused):
    for suffix in (".npz", ".npy", ".safetensors", ".parquet"):
        (tmp_path / f"empty{suffix}").write_bytes(b"")
        (tmp_path / f"text{suffix}").write_text("no features at all")
        assert "is no readable" in refused(f"empty{suffix}")
        assert f"text{suffix}" in refused(f"text{suffix}")
    (tmp_path / "a.pt").write_bytes(b"")
    assert "features are read from .safetensors, .npz, .npy and .parquet" in refused("a.pt")
    assert "no features at gone.npz" in refused("gone.npz")
    assert "no features to probe" in refused()


def test_layers_must_be_the_same_in_all_files_and_splits(tmp_path, refused):
    features, labels = planted()
    np.savez(tmp_path / "a.npz", labels=labels, **features)
    np.savez(tmp_path / "b.npz", labels=labels, clear=features["clear"])
    wide = {"clear": features["clear"][:, :5], "noise": features["noise"]}
    np.savez(tmp_path / "c.npz", labels=labels, **wide)
    split = {"train/labels": labels, "test/labels": labels, "train/clear": features["clear"]}
    np.savez(tmp_path / "d.npz", **split, **{"test/noise": features["noise"]})
    np.savez(tmp_path / "e.npz", **split, **{"test/clear": features["clear"][:, :5]})
    assert "b.npz lacks layer 'noise', which a.npz has" in refused("--id", "a.npz", "--ood", "b.npz")
    assert "b.npz lacks layer 'noise', which a.npz has" in refused("--id", "b.npz", "--ood", "a.npz")
    assert "layer 'clear' is 6 wide in a.npz and 5 in c.npz" in refused("a.npz", "c.npz")
    assert "d.npz (test) lacks layer 'clear', which the train rows have" in refused("d.npz")
    assert "layer 'clear' is 6 wide in train and 5 in test" in refused("e.npz")
    assert "no layer named 'claer'; nearest: clear" in refused("a.npz", "--layer", "claer")
    assert "--labels and --test are for one set" in refused("a.npz", "c.npz", "--labels", "y.npy")


def test_labels_beside_the_features_are_checked(tmp_path, refused):
    features, labels = planted()
    np.save(tmp_path / "x.npy", features["clear"])
    np.save(tmp_path / "y.npy", labels[:-1])
    np.savez(tmp_path / "s.npz", **{"train/a": features["clear"], "test/a": features["clear"]})
    np.savez(tmp_path / "l.npz", a=features["clear"], labels=labels)
    assert "x.npy has no labels" in refused("x.npy")
    assert "--labels gone.npy is not there" in refused("x.npy", "--labels", "gone.npy")
    assert "has 90 rows, but there are 89 labels" in refused("x.npy", "--labels", "y.npy")
    assert "s.npz has train and test rows, --labels is for one part" in refused("s.npz", "--labels", "y.npy")
    assert "no array named 'lables'; nearest: labels" in refused("l.npz", "--label", "lables")


def test_labels_and_indices_in_parquet_are_no_features(tmp_path):
    features, labels = planted()
    frame = pd.DataFrame(features["noise"], columns=list("abcd")).assign(label=labels, y=labels / 2)
    frame.index = pd.Index(labels + 0)
    frame.to_parquet(tmp_path / "x.parquet")
    for arguments in ({}, {"labels": labels}):
        scan = ts.scan_features(ood=tmp_path / "x.parquet", probe="ridge", **arguments)
        assert scan.run["layers"][0]["width"] == 4
        place = {}
        exec("\n".join(scan.run["next_step"]["x"]), place)
        np.testing.assert_array_equal(place["features"], features["noise"])


def test_parquet_says_what_its_columns_lack(tmp_path, refused):
    features, labels = planted()
    rows = [list(row) for row in features["clear"]]
    pq.write_table(pa.table({"a": rows, "u": labels, "v": labels}), tmp_path / "two.parquet")
    pq.write_table(pa.table({"a": rows}), tmp_path / "none.parquet")
    pq.write_table(pa.table({"a": [*rows[:-1], [1.0]], "label": labels}), tmp_path / "ragged.parquet")
    pq.write_table(pa.table({"a": [*rows[:-1], None], "label": labels}), tmp_path / "null.parquet")
    assert "choose one of u, v with --label COLUMN" in refused("two.parquet")
    assert "no column named 'w'; there are: a, u, v." in refused("two.parquet", "--label", "w")
    assert "add a column of integers or strings, or give --labels FILE" in refused("none.parquet")
    assert "row 89 is a list of 1, row 0 has 6 numbers" in refused("ragged.parquet")
    assert "row 89 is null" in refused("null.parquet")


@given(
    layers=st.lists(
        st.text(min_size=1, max_size=6).filter(lambda n: n not in ("labels", "label", "y")), unique=True
    ),
    splits=st.sampled_from([("",), ("train",), ("train", "test"), ("val", "train")]),
)
@settings(max_examples=100, deadline=None)
def test_names_go_apart_into_splits_and_layers_again(layers, splits):
    names = [name for name in layers if name.partition("/")[0].lower() not in ("train", "test", "val", "dev")]
    arrays = {
        f"{split}/{name}" if split else name: (split, name) for split in splits for name in [*names, "labels"]
    }
    parts, labels = by_split(arrays, None, "x")
    assert labels == {split: (split, "labels") for split in splits}
    assert parts == {split: {name: (split, name) for name in names} for split in splits}
    assert all(list(part) == names for part in parts.values())


def test_the_penalty_can_be_given(tmp_path, run, refused):
    features, labels = planted()
    one_each = np.array([0, 1, 2])
    np.savez(tmp_path / "a.npz", labels=labels, **features)
    np.savez(tmp_path / "few.npz", labels=one_each, **{name: rows[:3] for name, rows in features.items()})
    code, _, err = run("probe", "few.npz", "--test", "a.npz")
    assert code == 2
    assert "give a penalty (--penalty)" in err
    code, out, err = run("probe", "few.npz", "--test", "a.npz", "--penalty", 0.1, "--out", "few", "--json")
    assert code == 0, err
    code, out, err = run("probe", "a.npz", "--penalty", 0.1, "--out", "r", "--json")
    assert code == 0, err
    assert {probe["penalty"] for probe in json.loads(out)["probes"]} == {0.1}
    assert ts.load(tmp_path / "r").run["settings"]["penalty"] == 0.1
    assert json.loads(out)["best_layer"]["a"]["layer"] == "clear"  # the held-out rows say so, not the last
    assert "has no penalty" in refused("a.npz", "--penalty", 1, "--probe", "knn")
    assert "penalty 0 is not above 0" in refused("a.npz", "--penalty", 0)


@pytest.mark.parametrize(("protocol", "is_recipe"), [("harun2024", True), ("ridge", False)])
def test_a_recipe_tells_its_best_epoch_beside_the_last_one(protocol, is_recipe, tmp_path):
    features, labels = planted(spread=1.5)
    scan = ts.scan_features(id=(features, labels), probe=protocol, out=tmp_path / "run")
    table = scan.table()
    last = table.query("quantity == 'probe_accuracy'").set_index("layer")["value"]
    best = table.query("quantity == 'best_test_accuracy'").set_index("layer")
    told = {one["layer"]: one["best_test_accuracy"] for one in scan.json()["probes"]}
    assert set(last.index) == {"clear", "noise"} == set(told)
    if not is_recipe:
        assert best.empty
        assert set(told.values()) == {None}
        return
    assert set(best["protocol"]) == {"harun2024/v1, best epoch on test"}
    assert (best["value"] >= last[best.index]).all()
    assert told == best["value"].to_dict()
    fitted = {probe.layer: probe for probe in ts.load(tmp_path / "run").probes.values()}
    assert {name: probe.best_test_accuracy for name, probe in fitted.items()} == told


@pytest.mark.parametrize("is_named", [True, False])
def test_labels_in_lists_have_the_same_column_in_every_shard(tmp_path, is_named):
    draws = np.random.default_rng(0)
    has = draws.integers(0, 2, (90, 4))
    has[:60, 0], has[60:, 3] = 0, 0  # so that each split has three of the four labels
    features = has + 0.1 * draws.normal(size=has.shape)
    for split, rows in (("train", slice(0, 60)), ("test", slice(60, 90))):
        lists = [["abcd"[one] if is_named else int(one) for one in np.flatnonzero(row)] for row in has[rows]]
        table = pa.table({"layer": list(features[rows]), "label": lists})
        pq.write_table(table, tmp_path / f"{split}-00000-of-00001.parquet")
    found = ts.scan_features(ood=tmp_path)
    assert found.run["data"][0]["class_names"] == list("abcd" if is_named else "0123")
    assert (
        found.run["best_layer"][tmp_path.name]["score"] > 0.7
    )  # two of three labels perfectly, one not taught
