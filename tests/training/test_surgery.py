"""`ts.reset` and `ts.linearise`: what is changed, what is left, what is refused."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import nn

import tunnelscope as ts
from tunnelscope.checkpoints import saved_steps
from tunnelscope.cli import cli
from tunnelscope.errors import RequestError
from tunnelscope.surgery.linearise import fit_map, replaced
from tunnelscope.surgery.patient import admit
from tunnelscope.surgery.stretch import output_of, stretch_of

MLP, CONV = "zoo:mlp?depth=4&width=24", "zoo:vgg11?width=0.0625"
SETTINGS = {"recipe": "one-cycle", "epochs": 6, "batch": 16, "precision": "f32", "rate": 0.1}


@pytest.fixture
def other(small_images):
    return {split: (pixels[:, ::-1].copy(), labels) for split, (pixels, labels) in small_images.items()}


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    """A trained MLP of four hidden layers on easy images, and these."""
    draws = np.random.default_rng(0)
    means = draws.integers(40, 200, size=(3, 8, 8, 3))
    data = {}
    for split, count in (("train", 90), ("test", 45)):
        labels = np.arange(count) % 3
        pixels = (means[labels] + draws.normal(0, 20, (count, 8, 8, 3))).clip(0, 255)
        data[split] = pixels.astype(np.uint8), labels
    folder = tmp_path_factory.mktemp("mlp")
    ts.train(MLP, data, out=folder, save_steps=[0], **SETTINGS)
    return folder, data


def patient_of(mlp, **settings):
    folder, data = mlp
    return admit(folder, id=data, layer="hidden.1.relu", probe="ridge", cache=False, **settings)


def test_a_stretch_is_what_runs_between_two_layers():
    network = ts.load_network(MLP, image_shape=(3, 8, 8))
    example = torch.randn(1, 3, 8, 8)
    stretch = stretch_of(network.module, example, "hidden.1.relu", "hidden.3.relu")
    assert stretch.modules == ("hidden.2", "hidden.3")
    assert stretch.head == "classifier"
    assert stretch_of(network.module, example, "hidden.0", "hidden.1.linear").modules == ("hidden.1.linear",)


def test_a_stretch_of_blocks_with_shortcuts_is_the_blocks():
    network = ts.load_network("zoo:cifar_resnet20", image_shape=(3, 16, 16))
    stretch = stretch_of(network.module, torch.randn(1, 3, 16, 16), "layer2.2", "layer3.2")
    assert stretch.modules == ("layer3",) or stretch.modules == ("layer3.0", "layer3.1", "layer3.2")


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.again, self.last = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, inputs):
        return self.last(self.again(self.first(self.again(inputs))))


@pytest.mark.parametrize(
    ("after", "last", "said"),
    [
        ("first", "last", "again runs after first and also elsewhere"),
        ("last", "first", "no layer runs after last up to first"),
        ("frist", "last", "nearest: first"),
    ],
)
def test_what_is_no_stretch_is_refused(after, last, said):
    with pytest.raises(RequestError, match=said):
        stretch_of(Twice(), torch.randn(1, 3), after, last)


def test_reset_sets_the_tunnel_back_and_nothing_else(mlp):
    folder, data = mlp
    done = ts.reset(folder, id=data, layer="hidden.1.relu", draws=2, probe="ridge", cache=False)
    assert list(done.conditions) == ["trained", "reset", "drawn anew 1", "drawn anew 2"]
    assert done.modules == ("hidden.2", "hidden.3")
    told = json.loads((folder / "train.json").read_text())["settings"]
    hand = load_file(folder / "model.safetensors")
    hand |= {
        key: tensor
        for key, tensor in load_file(saved_steps(folder)[0]).items()
        if key.startswith(("hidden.2.", "hidden.3."))
    }
    network = ts.load_network(told["model"])
    network.module.load_state_dict(hand)
    wanted = ts.scan(network, id=data, probe="ridge", cache=False)
    assert done.scans["reset"].run["fingerprints"]["model"] == wanted.run["fingerprints"]["model"]
    assert done.conditions["reset"]["network_accuracy"] == wanted.run["network_accuracy"]
    curves = [[probe["accuracy"] for probe in scan.run["probes"]] for scan in (done.scans["reset"], wanted)]
    assert curves[0] == curves[1]
    trained, drawn = (done.scans[name].run["probes"] for name in ("trained", "drawn anew 1"))
    assert [one["accuracy"] for one in trained[:2]] == [one["accuracy"] for one in drawn[:2]]  # the extractor
    prints = {scan.run["fingerprints"]["model"] for scan in done.scans.values()}
    assert len(prints) == 4


def test_reset_takes_the_norms_statistics_anew(small_images, tmp_path):
    data = {
        split: (pixels.repeat(4, axis=1).repeat(4, axis=2), labels)
        for split, (pixels, labels) in small_images.items()
    }
    ts.train(CONV, data, out=tmp_path, save_steps=[0], **SETTINGS | {"epochs": 2})
    patient = admit(tmp_path, id=data, layer="features.6", layers="all", probe="ridge", cache=False)
    from tunnelscope.surgery.reset import renew_norms

    module = copy.deepcopy(patient.network.module)
    norms = {name: child for name, child in module.named_modules() if isinstance(child, nn.BatchNorm2d)}
    inside = [name for name in norms if any(name == one for one in patient.stretch.modules)]
    before = {name: norm.running_mean.clone() for name, norm in norms.items()}
    renew_norms(module, patient.stretch.modules, patient)
    assert inside
    assert 0 < len(inside) < len(norms)
    for name, norm in norms.items():
        assert torch.equal(norm.running_mean, before[name]) != (name in inside), name
        assert not norm.training
        assert norm.momentum == 0.1
    first = inside[0]
    convolution = list(dict(module.named_modules()))[list(dict(module.named_modules())).index(first) - 1]
    pixels = torch.from_numpy(data["train"][0]).permute(0, 3, 1, 2).float() / 255
    preprocessing = patient.network.preprocessing
    assert isinstance(preprocessing, ts.Preprocessing)
    mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (preprocessing.mean, preprocessing.std))
    values = output_of(module, convolution, (pixels - mean) / std)
    assert torch.allclose(norms[first].running_mean, values.mean(dim=(0, 2, 3)), atol=1e-4)


def test_the_linear_map_is_least_squares(mlp):
    patient = patient_of(mlp)
    fitted, r2 = fit_map(patient, patient.stretch)
    inputs = torch.from_numpy(mlp[1]["train"][0])
    ready = (inputs.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    x = output_of(patient.network.module, "hidden.1.relu", ready).double()
    y = output_of(patient.network.module, "hidden.3.relu", ready).double()
    error = (fitted.double()(x) - y).square().sum()
    plain = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    least = (plain @ (torch.linalg.pinv(plain) @ y) - y).square().sum()
    assert float(error) >= float(least) * (1 - 1e-6)
    assert float(error) < 0.3 * float((y - y.mean(dim=0)).square().sum())
    assert 0.5 < r2 <= 1


def test_a_network_with_the_map_computes_the_map(mlp):
    patient = patient_of(mlp)
    fitted, _ = fit_map(patient, patient.stretch)
    module = replaced(patient, patient.stretch, fitted)
    inputs = torch.randn(5, 3, 8, 8)
    hidden = output_of(patient.network.module, "hidden.1.relu", inputs)
    wanted = patient.network.module.classifier(fitted(hidden))
    assert torch.allclose(module(inputs), wanted, atol=1e-5)


def test_a_run_that_ends_early_is_read_at_the_networks_last_layer(mlp):
    folder, data = mlp
    settings = {"id": data, "layer": "hidden.0.relu", "probe": "ridge", "cache": False}
    done = ts.linearise(folder, last="hidden.1.relu", **settings)
    last = [scan.run["layers"][-1]["name"] for scan in done.scans.values()]
    assert last == ["hidden.3.relu", "hidden.3.relu"]


def test_linearise_says_what_it_costs_and_saves(mlp):
    folder, data = mlp
    done = ts.linearise(folder, id=data, layer="hidden.1.relu", probe="ridge", cache=False)
    trained, linear = done.conditions["trained"], done.conditions["linear"]
    assert trained["parameters"] - linear["parameters"] == 2 * (24 * 24 + 24) - (24 * 24 + 24)
    assert linear["milliseconds"] > 0
    assert linear["network_accuracy"]["value"] > 0.8
    assert set(linear["last_layer"]) == set(trained["last_layer"])


@pytest.mark.parametrize(("after", "last"), [("features.6", "features.13"), ("features.6", None)])
def test_a_run_of_convolutions_becomes_one_map_of_cells(small_images, tmp_path, after, last):
    data = {
        split: (pixels.repeat(4, axis=1).repeat(4, axis=2), labels)
        for split, (pixels, labels) in small_images.items()
    }
    ts.train(CONV, data, out=tmp_path, save_steps=[0], **SETTINGS | {"epochs": 1})
    done = ts.linearise(tmp_path, id=data, layer=after, last=last, layers="all", probe="ridge", cache=False)
    assert "linear" in done.conditions
    assert done.conditions["linear"]["parameters"] < done.conditions["trained"]["parameters"]


def test_without_initial_weights_nothing_can_be_set_back(mlp, tmp_path):
    folder, data = mlp
    shutil.copytree(folder, tmp_path / "copy")
    saved_steps(tmp_path / "copy")[0].unlink()
    with pytest.raises(RequestError, match="no checkpoint of step 0; train with --save-steps 0"):
        ts.reset(tmp_path / "copy", id=data, layer="hidden.1.relu", probe="ridge", cache=False)


@pytest.mark.parametrize(
    ("layer", "said"),
    [("hidden.3.relu", "no tunnel after hidden.3.relu"), ("hidden.9", "nearest: hidden.")],
)
def test_a_layer_without_a_tunnel_is_refused(mlp, layer, said):
    folder, data = mlp
    with pytest.raises(RequestError, match=said):
        ts.reset(folder, id=data, layer=layer, probe="ridge", cache=False)


def test_the_commands_print_tables_and_json(tmp_path):
    folder, run = str(tmp_path / "run"), CliRunner()
    training = ["train", "zoo:mlp?depth=3&width=16", "sklearn:digits?classes=0-4", "--recipe", "one-cycle"]
    assert run.invoke(cli, [*training, "--epochs", "3", "--out", folder]).exit_code == 0
    common = [folder, "--layer", "hidden.0.relu", "--ood", "sklearn:digits?classes=5-9", "--probe", "ridge"]
    done = run.invoke(cli, ["reset", *common, "--draws", "1"])
    assert done.exit_code == 0
    assert [line.split("  ")[0] for line in done.stdout.splitlines()[1:]] == [
        "trained",
        "reset",
        "drawn anew 1",
    ]
    told = json.loads(run.invoke(cli, ["linearise", *common, "--json"]).stdout)
    assert set(told["conditions"]) == {"trained", "linear"}
    assert set(told["conditions"]["linear"]["last_layer"]) == {"digits", "digits-2"}
    with pytest.raises(RequestError, match="nowhere holds no finished training"):
        run.invoke(cli, ["reset", "nowhere"], catch_exceptions=False)
