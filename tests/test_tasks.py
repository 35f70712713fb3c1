"""Numbers to predict and several labels a row go the whole way that classes go."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score, r2_score

import tunnelscope as ts
from tunnelscope.cli import main
from tunnelscope.data import load_data
from tunnelscope.errors import RequestError


def planted(rows=300, seed=0):
    """Layers of three kinds: all of the signal, a fifth of it, and noise alone; targets and labels."""
    draws = np.random.default_rng(seed)
    signal = draws.normal(size=(rows, 4))
    layers = {
        "early": np.hstack([signal, draws.normal(size=(rows, 4))]),
        "middle": np.hstack([signal + 2 * draws.normal(size=(rows, 4)), draws.normal(size=(rows, 4))]),
        "last": np.hstack([signal[:, :1], draws.normal(size=(rows, 7))]),
    }
    numbers = signal @ np.array([[1.0, 0.0], [1.0, 2.0], [0.5, 1.0], [0.0, 0.5]]) + 5
    numbers += 0.1 * draws.normal(size=numbers.shape)
    labels = (signal[:, 1:] + 0.3 * draws.normal(size=(rows, 3)) > 0).astype(np.int64)
    return {name: values.astype(np.float32) for name, values in layers.items()}, numbers, labels


def test_numbers_are_read_by_r2_and_the_tunnel_with_them(tmp_path):
    layers, numbers, _ = planted()
    test, test_numbers, _ = planted(seed=1)
    given = {"train": (layers, numbers), "test": (test, test_numbers)}
    scan = ts.scan_features(id=given, ood={"more": given}, out=tmp_path / "run")
    best = scan.best_layer("more")
    assert (best["layer"], best["accuracy"], best["score_name"]) == ("early", None, "r2")
    assert best["low"] < best["score"] < best["high"]
    by_layer = {p["layer"]: p["score"] for p in scan.run["probes"] if p["dataset"] == "more"}
    assert best["score"] == pytest.approx(by_layer["early"], abs=1e-12)
    assert by_layer["early"] > by_layer["middle"] > by_layer["last"]
    kept = scan.tunnel["ood"]["more"]["retained"]
    assert kept["value"] == pytest.approx(by_layer["last"] / by_layer["early"])
    assert kept["high"] < 1
    assert scan.tunnel["start_95"] == "early"
    assert scan.tunnel["ood"]["more"]["alignment"]["value"] == pytest.approx(by_layer["last"] ** 2)
    table = scan.table()
    assert set(table.loc[table["quantity"] == "probe_r2", "protocol"]) == {"ridge_regression/v1"}
    assert not {"probe_accuracy", "nc1", "within_variance"} & set(table["quantity"])
    assert "best layer's R²" in scan.verdict
    assert "Probe R² on test examples" in (tmp_path / "run" / "report.html").read_text()
    assert ts.load(tmp_path / "run").best_layer("more") == best


def test_the_r2_of_a_scan_is_scikit_learns():
    layers, numbers, _ = planted()
    test, test_numbers, _ = planted(seed=1)
    scan = ts.scan_features(
        ood={"x": {"train": (layers, numbers), "test": (test, test_numbers)}}, cache=False
    )
    for told in scan.run["probes"]:
        x, y = layers[told["layer"]], test[told["layer"]]
        centre, spread = x.mean(axis=0, dtype=float), x.std(axis=0, dtype=float)
        units = numbers.std(axis=0)
        twin = Ridge(alpha=told["penalty"] * len(x)).fit((x - centre) / spread, numbers / units)
        expected = r2_score(test_numbers, twin.predict((y - centre) / spread) * units)
        assert told["score"] == pytest.approx(expected, abs=1e-6)


def test_several_labels_are_read_by_mean_average_precision():
    layers, _, labels = planted()
    test, _, test_labels = planted(seed=1)
    scan = ts.scan_features(
        ood={"x": {"train": (layers, labels), "test": (test, test_labels)}}, seeds=2, tolerance=1e-3
    )
    best = scan.best_layer("x")
    assert (best["layer"], best["score_name"]) == ("early", "map")
    probe = scan.probes["x--early--0"]
    ranked = probe.predict(test["early"]).numpy()
    expected = np.mean([average_precision_score(test_labels[:, c], ranked[:, c]) for c in range(3)])
    assert probe.value == pytest.approx(expected, abs=1e-12)
    assert scan.run["data"][0]["chance"] == pytest.approx(test_labels.mean())
    means = scan.table().query("quantity == 'probe_map_mean' and layer == 'early'")
    assert means["value"].item() == pytest.approx(best["score"])
    assert (means["low"].item(), means["high"].item()) == (best["low"], best["high"])


def test_a_network_is_scanned_on_numbers_and_labels_of_images(tmp_path, capsys):
    digits = load_digits()
    images = digits.images[:300, None].astype(np.float32) / 16
    labels = np.stack([digits.target[:300] % 2 == 0, digits.target[:300] >= 5], axis=1)
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Flatten(),
        *(part for _ in range(3) for part in (torch.nn.Linear(64, 64), torch.nn.ReLU())),
        torch.nn.Linear(64, 10),
    )
    ood = {"ink": (images, images.mean(axis=(1, 2, 3))), "traits": (images, labels)}
    scan = ts.scan(network, id=(images, digits.target[:300]), ood=ood, control=True, out=tmp_path / "run")
    names = {p["dataset"]: p["score_name"] for p in scan.run["probes"]}
    assert names == {"arrays": "accuracy", "ink": "r2", "traits": "map"}
    assert {entry["key"]: entry["task"] for entry in scan.run["data"]} == {
        "arrays": "classification",
        "ink": "regression",
        "traits": "multi-label",
    }
    assert scan.run["network_accuracy"] is not None
    assert not any("normalised" in line for line in scan.run["warnings"])  # ready inputs go in as they are
    assert "best layer's score" in scan.verdict
    from tunnelscope.cli.output import print_scan

    print_scan(scan)
    head = capsys.readouterr().out.splitlines()[0]
    assert "ink OOD R²" in head
    assert "traits OOD mAP" in head
    other = ts.scan(network, id=(images, digits.target[:300]), ood=ood, out=tmp_path / "other")
    comparison = ts.compare([scan, other])
    quantities = {
        entry["key"]: {row["quantity"] for row in entry["comparisons"]} for entry in comparison.sets
    }
    assert "best_r2" in quantities["ink"]
    assert "best_map" in quantities["traits"]
    comparison.save(tmp_path / "both")


def write_table(path, **columns):
    layers, numbers, labels = planted(60)
    rows = {"early": [list(row) for row in layers["early"].astype(float)]}
    made = {
        "age": numbers[:, 0],
        "weight": numbers[:, 1],
        "years": np.round(10 * numbers[:, 0]).astype(int),
        "is_wet": labels[:, 0].astype(bool),
        "is_red": labels[:, 1].astype(bool),
        "tags": [[name for name, there in zip("abc", row, strict=True) if there] for row in labels],
        "both": [list(row) for row in numbers],
    }
    pq.write_table(pa.table(rows | made), path)
    return made


@pytest.mark.parametrize(
    ("column", "task", "count"),
    [
        ("age", "regression", 1),
        ("age,weight", "regression", 2),
        ("is_wet,is_red", "multi-label", 2),
        ("tags", "multi-label", 3),
    ],
)
def test_columns_tell_their_task(tmp_path, capsys, column, task, count):
    write_table(tmp_path / "x.parquet")
    asked = ["--label", column, "--layer", "early", "--json", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as ended:
        main(["probe", str(tmp_path / "x.parquet"), *asked])
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)["data"][0]
    assert (told["task"], told["classes"]) == (task, count)


def test_whole_numbers_as_floats_are_doubted_and_bad_requests_refused():
    layers, numbers, labels = planted(60)
    scan = ts.scan_features(ood={"x": (layers, labels.sum(axis=1).astype(float))})
    assert any("4 whole numbers stored as floats" in line for line in scan.run["warnings"])
    with pytest.raises(RequestError, match="x: probe knn is for classes, the labels here are regression"):
        ts.scan_features(ood={"x": (layers, numbers)}, probe="knn")
    with pytest.raises(RequestError, match="x: probe ridge is for classes, the labels here are multi-label"):
        ts.scan_features(ood={"x": (layers, labels)}, probe="ridge")


def test_nothing_is_read_where_the_last_layer_predicts_nothing():
    layers, numbers, _ = planted()
    draws = np.random.default_rng(3)
    layers["last"] = draws.normal(size=(300, 200)).astype(np.float32)
    numbers = numbers[:, :1] + draws.standard_cauchy(size=(300, 1))
    scan = ts.scan_features(id=(layers, numbers))
    last = next(p for p in scan.run["probes"] if p["layer"] == "last")
    if last["score"] > 0:
        pytest.skip("the draw let noise predict")
    assert scan.tunnel["start_95"] is None
    assert "not above 0" in scan.tunnel["reason"]
    assert any("surely above chance (R² 0.00)" in line for line in scan.run["warnings"])


def test_a_last_layer_below_chance_keeps_nothing_in_words():
    layers, numbers, _ = planted()
    layers["last"] = np.random.default_rng(3).normal(size=(300, 200)).astype(np.float32)
    scan = ts.scan_features(ood={"x": (layers, numbers)})
    last = next(p for p in scan.run["probes"] if p["layer"] == "last")
    assert last["score"] < 0
    assert scan.tunnel["ood"]["x"]["retained"]["value"] == 0
    assert "keeps nothing on x (take early)" in scan.verdict


def test_two_scores_below_0_do_not_align_and_do_not_leave_the_plot(tmp_path):
    draws = np.random.default_rng(0)
    hidden = draws.normal(size=(200, 6))
    good = hidden + 0.1 * draws.normal(size=hidden.shape)
    off = hidden + draws.normal(size=hidden.shape)
    off[160:] = 4 * off[160:] + 5  # test rows of another scale
    numbers = hidden @ draws.normal(size=(6, 2))

    def both(values):
        layers = {"good": good, "off": off}
        parts = {"train": slice(0, 160), "test": slice(160, None)}
        return {s: ({n: f[rows] for n, f in layers.items()}, values[rows]) for s, rows in parts.items()}

    scan = ts.scan_features(id=both(numbers[:, 0]), ood={"x": both(numbers[:, 1])})
    assert all(probe["score"] < -1 for probe in scan.run["probes"] if probe["layer"] == "off")
    reading = scan.tunnel["ood"]["x"]
    assert reading["alignment"]["value"] == reading["alignment"]["high"] == 0
    assert reading["retained"]["value"] == reading["retained_paper"] == 0
    page = scan.report(tmp_path / "report.html").read_text()
    assert "R² below −1 lies under the axis: off." in page
    assert "R² by depth" in page


def test_sets_are_compared_by_their_own_protocols(tmp_path):
    layers, numbers, labels = planted()
    several, other = (layers, labels), (layers, numbers)
    with_numbers = ts.scan_features(ood={"x": several, "y": other}, out=tmp_path / "a")
    alone = ts.scan_features(ood={"x": several}, out=tmp_path / "b")
    both = ts.compare([with_numbers, alone])
    assert not any("protocols" in line for line in both.warnings)
    assert next(found for found in both.sets if found["key"] == "x")["comparisons"]
    page = both.report(tmp_path / "compare.html").read_text()
    assert "mAP on x" in page
    assert "R² on y" in page


def test_few_positives_are_warned_of_and_widen_the_interval():
    draws = np.random.default_rng(0)
    features = draws.normal(size=(400, 5)).astype(np.float32)
    labels = np.stack([features[:, 0] > 2.2, features[:, 1] > 0], axis=1).astype(int)
    scan = ts.scan_features(ood={"x": (features, labels)})
    assert any("1 of 2 labels (label 0) tell fewer than 20 test rows" in one for one in scan.run["warnings"])
    best = scan.best_layer()
    assert best["high"] - best["low"] > 0.1  # what few rows tell is no certainty


def test_floats_that_are_all_0_or_1_are_doubted():
    draws = np.random.default_rng(0)
    labels, images = draws.integers(0, 2, (60, 3)).astype(np.float32), draws.normal(size=(60, 8))
    others = labels + images[:, :3]
    warned, silent = (ts.scan_features(ood=(images, values)).run for values in (labels, others))
    assert any("3 floats a row that are all 0 or 1" in line for line in warned["warnings"])
    assert not any("all 0 or 1" in line for line in silent["warnings"])


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ([True, False] * 10, "classification"),
        (["a", "b"] * 10, "classification"),
        ([["x"], []] * 10, "multi-label"),
    ],
)
def test_a_task_that_the_labels_do_not_ask_for_is_refused(tmp_path, values, task):
    table = pa.table({"text": ["one", "two"] * 10, "label": values})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(RequestError, match=f"task=regression takes .*; these labels ask for {task}"):
        load_data(f"{tmp_path / 'x.parquet'}?task=regression")


def test_ts_probe_names_the_tasks_there_are():
    layers, numbers, labels = planted(60)
    for values in (numbers[:, 0], labels):
        with pytest.raises(RequestError, match='task="regression" or "multi-label"'):
            ts.probe(layers, values)
    with pytest.raises(RequestError, match="nearest: regression"):
        ts.probe(layers, numbers, task="regresion")
