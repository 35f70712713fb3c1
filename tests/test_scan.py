"""Scans from end to end: network kinds, data given in Python, and probes against scikit-learn."""

import importlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import TensorDataset

import tunnelscope as ts
from tunnelscope.data import DataSet, Split
from tunnelscope.errors import RequestError
from tunnelscope.metrics import METRICS, Family, Metric, layer_metrics


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


TINY = {"max_samples": 120, "probe": "ridge"}


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        ("timm:vit_tiny_patch16_224?img_size=32", 13),
        ("zoo:vgg11?width=0.125", 10),
        ("torchvision:mobilenet_v3_small", 14),
    ],
)
def test_a_vit_a_vgg_and_a_mobilenet_with_random_weights(real_data, tmp_path, model, layers):
    own, other = f"{real_data}/cifar10", f"{real_data}/gtsrb?classes=0-9"
    scan = ts.scan(model, weights="random", id=own, ood=other, out=tmp_path / "run", **TINY)
    assert len(scan.run["layers"]) == layers
    assert any("random" in warning for warning in scan.run["warnings"])
    assert set(scan.run["best_layer"]) == {"cifar10", "gtsrb"}
    for probe in scan.run["probes"]:
        assert 0 <= probe["low"] <= probe["accuracy"] <= probe["high"] <= 1
    assert ts.load(tmp_path / "run").run == scan.run
    assert (tmp_path / "run" / "report.html").stat().st_size < 3_000_000


def arrays(rows=160, classes=3, seed=0):
    draws = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    images = draws.normal(size=(rows, 3, 8, 8)).astype(np.float32) + labels[:, None, None, None]
    return images, labels


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act1 = nn.Conv2d(3, 8, 3), nn.ReLU()
        self.second, self.act2 = nn.Conv2d(8, 8, 3), nn.ReLU()
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.act2(self.second(self.act1(self.first(x)))).mean(dim=(2, 3)))


def test_modules_arrays_and_torch_data_sets_go_in_wherever_a_name_does():
    images, labels = arrays()
    other_images, other_labels = arrays(seed=1)
    dataset = TensorDataset(torch.tensor(other_images), torch.tensor(other_labels))
    scan = ts.scan(Net(), id=(images, labels), ood=[{"train": dataset, "test": dataset}, (images, labels)])
    assert [entry["role"] for entry in scan.run["data"]] == ["id", "ood", "ood"]
    keys = [entry["key"] for entry in scan.run["data"]]
    assert len(set(keys)) == 3
    assert [layer["name"] for layer in scan.run["layers"]] == ["act1", "act2"]
    assert scan.run["network_accuracy"]["value"] is not None
    with pytest.raises(RequestError, match="several data sets were scanned"):
        scan.best_layer()


def test_a_pair_of_arrays_is_one_set():
    scan = ts.scan(Net(), ood=arrays())
    assert len(scan.run["data"]) == 1
    assert scan.best_layer()["layer"] in {"act1", "act2"}


def test_exact_probes_equal_scikit_learns_on_every_layer(real_data, tmp_path):
    """Within 0.2 points on the same features at the same penalty."""
    network = ts.load_network(
        "zoo:cifar_resnet20", weights=f"{real_data}/weights/resnet20_cifar10.safetensors"
    )
    data = ts.load_data(f"{real_data}/cifar10", max_samples=2000)
    every_test = ts.load_data(f"{real_data}/cifar10").test
    train, test = (ts.record(network, split) for split in (data.train, every_test))
    probes = ts.probe(train, data.train.labels, test=(test, every_test.labels))
    assert len(probes) == 10
    for layer, probe in probes.items():
        scaler = StandardScaler().fit(train[layer].double())
        reference = LogisticRegression(C=1 / (probe.penalty * len(train[layer])), tol=1e-8, max_iter=20000)
        reference.fit(scaler.transform(train[layer].double()), data.train.labels)
        expected = reference.score(scaler.transform(test[layer].double()), every_test.labels)
        assert probe.converged
        assert abs(probe.accuracy - expected) <= 0.002, layer


def test_the_best_layer_is_chosen_on_training_rows_alone():
    images, labels = arrays(rows=240)
    shuffled = np.random.default_rng(2).permutation(labels)
    train, net = (images, labels), Net()
    honest = ts.scan(net, ood={"train": train, "test": train}).best_layer()
    scrambled = ts.scan(net, ood={"train": train, "test": (images, shuffled)}).best_layer()
    assert honest["layer"] == scrambled["layer"]
    assert honest["accuracy"] > scrambled["accuracy"]


class Judge(nn.Module):
    """Ten outputs that say a class for sure: the mean pixel, rounded; `shift` makes it wrong."""

    def __init__(self, shift=0):
        super().__init__()
        self.body, self.act, self.head = nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Linear(4, 10)
        self.shift = shift

    def forward(self, x):
        hidden = self.act(self.body(x)).mean(dim=(2, 3))
        levels = torch.arange(10.0) + self.shift
        return self.head(hidden) * 0 - (x.mean(dim=(1, 2, 3))[:, None] - levels).square()


def levels(classes=10, rows=240):
    labels = np.arange(rows) % classes
    noise = np.random.default_rng(0).normal(scale=0.01, size=(rows, 3, 4, 4))
    return (noise + labels[:, None, None, None]).astype(np.float32), labels


def test_the_networks_own_accuracy_counts_its_own_classifier():
    images, labels = levels()
    wrong = labels.copy()
    wrong[:60] = (wrong[:60] + 1) % 10
    scan = ts.scan(Judge(), id={"train": (images, labels), "test": (images, wrong)}, probe="ridge")
    assert scan.run["network_accuracy"]["value"] == pytest.approx(1 - 60 / 240)
    low, high = scan.run["network_accuracy"]["low"], scan.run["network_accuracy"]["high"]
    assert low < 0.75 < high


def test_outputs_of_classes_that_were_not_chosen_do_not_compete():
    images, labels = levels()
    chosen = np.flatnonzero(np.isin(labels, [2, 5, 7]))
    split = Split(torch.tensor(images[chosen]), np.searchsorted([2, 5, 7], labels[chosen]))
    data = DataSet("some", "some", split, split, ("2", "5", "7"), class_indices=(2, 5, 7), source_classes=10)
    scan = ts.scan(Judge(), id=data, probe="ridge")
    assert scan.run["network_accuracy"]["value"] == 1.0


def test_other_outputs_than_the_sets_classes_give_no_accuracy():
    scan = ts.scan(Judge(), id=levels(classes=4), probe="ridge")
    assert scan.run["network_accuracy"] is None
    assert "the network's outputs are not the 4 classes" in scan.run["network_accuracy_reason"]


def test_a_network_far_under_its_probe_is_warned_of():
    scan = ts.scan(Judge(shift=1), id=levels(), probe="ridge")
    assert scan.run["network_accuracy"]["value"] < 0.2
    assert any("another order of classes" in warning for warning in scan.run["warnings"])


def test_ready_inputs_are_said_to_bypass_the_preprocessing():
    net = Net()
    net.preprocessing = {"mean": 0.5, "std": 0.25, "size": 8}
    scan = ts.scan(net, ood=arrays())
    assert scan.run["data"][0]["ready_inputs"]
    assert any("is not applied to them" in warning for warning in scan.run["warnings"])


def test_ten_seeds_give_accuracies_between_0_and_1():
    scan = ts.scan(Net(), ood=arrays(), seeds=10, probe="ridge")
    assert 0 <= scan.best_layer()["low"] <= scan.best_layer()["accuracy"] <= scan.best_layer()["high"] <= 1
    assert len({probe["seed"] for probe in scan.run["probes"]}) == 10


def test_sets_given_in_python_can_be_named():
    other = arrays(seed=1)
    named = {"near": other, "far": {"train": other, "test": arrays(seed=2)}}
    scan = ts.scan(Net(), id=arrays(), ood=named, probe="ridge")
    assert [entry["key"] for entry in scan.run["data"]] == ["arrays", "near", "far"]
    assert scan.best_layer("far")["layer"] in {"act1", "act2"}
    assert set(scan.table()["dataset"].dropna()) == {"arrays", "near", "far"}
    with pytest.raises(RequestError, match="a data set's name is a string"):
        ts.scan(Net(), ood={3: other})
    with pytest.raises(RequestError, match='a dict of data has the keys "train" and'):
        ts.scan(Net(), ood={"train": other, "val": other})


def test_a_scan_is_printed_in_one_line():
    scan = ts.scan(Net(), id=arrays(), ood={"near": arrays(seed=1)}, probe="ridge")
    assert str(scan) == repr(scan)
    assert str(scan).startswith("<Scan of Net on arrays (ID), near (OOD): 2 layers, tunnel after act")
    assert len(str(scan)) < 160


@pytest.mark.parametrize("pool", ["auto", "flatten"])
def test_a_later_set_that_does_not_fit_is_named_with_its_shape(pool):
    images, labels = arrays()
    wide = np.concatenate([images, images], axis=3)
    network = Net() if pool == "flatten" else nn.Sequential(Net().first, nn.Flatten(), nn.Linear(288, 3))
    with pytest.raises(
        RequestError, match=r"^wide \(train\): inputs of shape \(3, 8, 16\) do not fit .*\(3, 8, 8\)"
    ):
        ts.scan(network, id=(images, labels), ood={"wide": (wide, labels)}, probe="ridge", pool=pool)


def test_a_later_set_that_is_not_finite_is_named_with_its_image():
    images, labels = arrays()
    spoilt = images.copy()
    spoilt[7, 0, 0, 0] = np.inf
    with pytest.raises(RequestError, match=r"^spoilt \(t\w+\), image 7 of arrays: .* not finite"):
        ts.scan(Net(), id=(images, labels), ood={"spoilt": (spoilt, labels)}, probe="ridge")


def test_probes_that_miss_their_tolerance_are_one_warning(monkeypatch):
    outcome = importlib.import_module("tunnelscope.outcome")
    fit = outcome.fit_probe

    def missed(*arguments, **settings):
        return replace(fit(*arguments, **settings), converged=False, gap=0.5, tolerance=0.01)

    monkeypatch.setattr(outcome, "fit_probe", missed)
    scan = ts.scan(Net(), id=arrays(), probe="ridge", cache=False)
    said = [line for line in scan.run["warnings"] if "tolerance" in line]
    assert said == [
        "the probe missed its tolerance: certified gap up to 0.5, asked 0.01 "
        "(layers input and act1 and act2, arrays)"
    ]


def test_judges_that_miss_their_tolerance_are_a_warning_fresh_and_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("TUNNELSCOPE_CACHE", str(tmp_path))
    choice = importlib.import_module("tunnelscope.probes.choice")
    fit = choice.fit_probe
    missed = lambda *arguments, **settings: replace(fit(*arguments, **settings), converged=False)  # noqa: E731
    monkeypatch.setattr(choice, "fit_probe", missed)
    network = Net()
    for _ in range(2):
        scan = ts.scan(network, id=arrays(), probe="exact")
        assert (
            "a fit that the layer is chosen by missed its tolerance (layers act1 and act2, arrays)"
            in scan.run["warnings"]
        )
        monkeypatch.setattr(choice, "fit_probe", None)  # the second comes from the cache


def test_a_class_without_training_rows_has_no_loss_in_json_and_table(tmp_path):
    images, labels = arrays(rows=180)
    seen = labels < 2
    data = {"train": (images[seen], labels[seen]), "test": (images, labels)}
    scan = ts.scan(Net(), ood=data, out=tmp_path / "run", probe="exact")
    assert [probe["loss"] for probe in scan.run["probes"]] == [None, None]
    for table in (scan.table(), pd.read_parquet(tmp_path / "run" / "results.parquet")):
        losses = table[table["quantity"] == "probe_loss"]
        assert len(losses) == 3
        assert losses["value"].isna().all()


def test_vectors_are_not_said_to_be_pooled():
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    vectors = torch.randn(120, 6, generator=draws) + labels[:, None]
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    table = ts.scan(net, ood={"train": TensorDataset(vectors, labels)}, probe="ridge").table()
    assert set(table.loc[table["layer"].notna(), "pool"]) == {"none"}
    pixels = ts.scan(Net(), ood=arrays(), probe="ridge").table()
    assert set(pixels.loc[pixels["layer"] == "input", "pool"]) == {"2x2"}


def test_ten_seeds_that_are_always_right_have_an_accuracy_of_one():
    """Ten tenths added in float32 pass 1, which has no Wilson interval."""
    labels = torch.arange(120) % 3
    noise = torch.rand(120, 3, generator=torch.Generator().manual_seed(0))
    vectors = 10 * nn.functional.one_hot(labels) + noise
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    net[0].weight.data, net[0].bias.data = torch.eye(3), torch.zeros(3)
    dataset = TensorDataset(vectors, labels)
    scan = ts.scan(net, ood={"train": dataset, "test": dataset}, probe="ridge", seeds=10)
    assert [probe["accuracy"] for probe in scan.run["probes"]] == [1.0] * 10
    best = scan.best_layer()
    assert best["accuracy"] == pytest.approx(1, abs=1e-12)
    assert best["low"] < best["accuracy"] <= best["high"] <= 1


def test_rows_name_the_protocol_of_metric_probe_and_choice(tmp_path):
    scan = ts.scan(Net(), ood=arrays(), out=tmp_path / "run")
    table = ts.load(tmp_path / "run").table()
    protocols = table.groupby("quantity")["protocol"].unique().map(list).to_dict()
    assert protocols["nc1"] == ["nc1/v1"]
    assert protocols["nc3"] == ["nc3/v1 with exact/v2"]
    assert protocols["numerical_rank_1e-2"] == ["numerical_rank/v1, tolerance 1e-2"]
    assert protocols["probe_accuracy"] == ["exact/v2"]
    assert protocols["choice_accuracy"] == ["choice/v1, 10 parts, with exact/v2, tolerance 0.03"]
    penalties = table[table["quantity"] == "probe_penalty"].set_index("layer")["value"]
    assert {probe["layer"]: probe["penalty"] for probe in scan.run["probes"]} == (
        penalties.drop("input").to_dict()
    )
    for quantity, metric in METRICS.items():
        rows = table[table["quantity"] == quantity]
        assert set(rows["split"]) == {metric.split}, quantity
        assert set(rows["protocol"]) == {metric.protocol_with("exact/v2")}, quantity


def test_a_new_metric_needs_no_line_in_the_table(monkeypatch):
    largest = Metric(
        "Largest", "feature units", "higher means larger", "max x", "here", "always", "train", "largest/v3"
    )
    family = Family("extremes", {"largest": largest}, lambda rows: {"largest": rows.train.max().item()})
    monkeypatch.setattr(layer_metrics, "__kwdefaults__", {"families": [family]})
    monkeypatch.setitem(METRICS, "largest", largest)
    table = ts.scan(Net(), ood=arrays(), probe="ridge").table()
    rows = table[table["quantity"] == "largest"]
    assert list(rows["layer"]) == ["act1", "act2"]
    assert set(rows["split"]) == {"train"}
    assert set(rows["protocol"]) == {"largest/v3"}


def test_nothing_is_asked_of_an_empty_request():
    with pytest.raises(RequestError, match="no data to scan on"):
        ts.scan(Net())


def test_groups_reach_the_choice_of_the_layer():
    draws = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 20)
    images = draws.normal(size=(20, 3, 8, 8))[groups] + 0.05 * draws.normal(size=(400, 3, 8, 8))
    labels = draws.permutation(np.arange(20) % 2)[groups]  # of no image, but a group's images are alike
    split = Split(list(torch.tensor(images).float()), labels, groups)
    test = replace(split, groups=None)
    given = DataSet("faces", "faces", split, test, ("a", "b"))
    chosen = []
    for dataset in (given, replace(given, train=test)):
        frame = ts.scan(Net(), id=dataset, probe="knn").frame.query("quantity == 'choice_accuracy'")
        chosen.append((frame["protocol"].iloc[0], frame["value"].mean()))
    (whole, new), (_, known) = chosen
    assert whole == "choice/v1, 10 parts of whole groups, with knn/v1"
    assert new < 0.7 < 0.9 < known


def test_a_recipe_side_by_side_gives_what_it_gives_one_by_one(tmp_path):
    draws = np.random.default_rng(0)
    labels = {"train": draws.integers(3, size=60), "test": draws.integers(3, size=30)}
    layers = {
        part: {
            f"layer{index}": (numbers[:, None] + draws.normal(size=(len(numbers), 8))).astype("float32")
            for index in range(3)
        }
        for part, numbers in labels.items()
    }
    given = {part: (layers[part], labels[part]) for part in labels}
    together = ts.scan_features(id=given, probe="harun2024", cache=False)
    alone = {
        name: ts.scan_features(
            id={part: ({name: layers[part][name]}, labels[part]) for part in labels},
            probe="harun2024",
            cache=False,
        )
        for name in layers["train"]
    }
    chosen = together.frame[together.frame["quantity"] == "choice_accuracy"].set_index("layer")["value"]
    for row in together.run["probes"]:
        one = alone[row["layer"]].run["probes"][0]
        frame = alone[row["layer"]].frame
        assert chosen[row["layer"]] == frame[frame["quantity"] == "choice_accuracy"]["value"].item()
        assert (row["accuracy"], row["best_test_accuracy"]) == (one["accuracy"], one["best_test_accuracy"])
