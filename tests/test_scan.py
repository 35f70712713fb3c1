"""Scans from end to end: network kinds, data given in Python, and probes against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import TensorDataset

import tunnelscope as ts
from tunnelscope.errors import RequestError

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
    train = (images, labels)
    honest = ts.scan(Net(), ood={"train": train, "test": train}).best_layer()
    scrambled = ts.scan(Net(), ood={"train": train, "test": (images, shuffled)}).best_layer()
    assert honest["layer"] == scrambled["layer"]
    assert honest["accuracy"] > scrambled["accuracy"]


def test_nothing_is_asked_of_an_empty_request():
    with pytest.raises(RequestError, match="no data to scan on"):
        ts.scan(Net())
