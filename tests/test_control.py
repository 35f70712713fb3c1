"""The control: the same network untrained, scanned beside the trained one and told apart everywhere."""

import pandas as pd
import pytest
import torch
from torch import nn

import tunnelscope as ts
from tunnelscope.errors import RequestError
from tunnelscope.models import untrained

MODEL = "zoo:mlp?depth=3&width=16"
SETS = {"id": "sklearn:digits?classes=0-4", "ood": "sklearn:digits?classes=5-9"}
FAST = {"probe": "ridge", "max_samples": 120}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights that are not those of seed 0: they stand for trained ones."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("weights") / "other.safetensors"
    save_file(ts.load_network(MODEL, image_shape=(1, 8, 8), classes=5, seed=7).module.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def controlled(weights, tmp_path_factory):
    return ts.scan(
        MODEL, weights=str(weights), **SETS, **FAST, control=True, out=tmp_path_factory.mktemp("run") / "run"
    )


def own_rows(scan):
    """Its table without the control, and without the names of runs."""
    table = scan.table()
    return table[table["weights"] == scan.run["model"]["weights"]].drop(columns="run").reset_index(drop=True)


def test_the_control_is_the_scan_of_the_random_network(controlled):
    alone = ts.scan(MODEL, weights="random", **SETS, **FAST).table()
    alone = alone[alone["layer"].notna() & (alone["quantity"] != "cka")].drop(columns="run")
    table = controlled.table()
    beside = table[table["weights"] == controlled.run["control"]["weights"]].drop(columns="run")
    assert len(beside)
    pd.testing.assert_frame_equal(beside.reset_index(drop=True), alone.reset_index(drop=True))


def test_the_control_changes_nothing_of_the_scan(controlled, weights):
    plain = ts.scan(MODEL, weights=str(weights), **SETS, **FAST)
    assert plain.run["control"] is None
    pd.testing.assert_frame_equal(own_rows(controlled), own_rows(plain))
    for key in ("layers", "probes", "verdict"):
        assert controlled.run[key] == plain.run[key]


def test_run_json_has_the_controls_layers_and_probes(controlled):
    control = controlled.run["control"]
    assert control["weights"] == "random (seed 0)"
    names = [layer["name"] for layer in controlled.run["layers"]]
    assert [layer["name"] for layer in control["layers"]] == names
    assert [layer["index"] for layer in control["layers"]] == [1, 2, 3]
    table = controlled.table()
    own = table[(table["quantity"] == "numerical_rank") & (table["role"] == "id")]
    drawn = own[own["weights"] == "random (seed 0)"].sort_values("layer_index")["value"]
    assert [layer["numerical_rank"] for layer in control["layers"]] == drawn.tolist()
    assert {(probe["dataset"], probe["layer"]) for probe in control["probes"]} == {
        (entry["key"], name) for entry in controlled.run["data"] for name in names
    }
    assert controlled.run["fingerprints"]["control"] != controlled.run["fingerprints"]["model"]
    again = ts.load(controlled.folder)
    assert again.run == controlled.run


def test_a_random_network_is_refused_with_one_line(tunnelscope, tmp_path):
    ended = tunnelscope("scan", MODEL, "--id", SETS["id"], "--control", "--out", tmp_path / "run")
    assert (ended.code, ended.out) == (2, "")
    said = ended.err.strip().splitlines()[-1]
    assert "has random weights" in said
    assert "leave --control out" in said


class Bare(nn.Module):
    """A layer with weights that cannot say how it is initialised."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return x * self.scale


def test_a_module_is_drawn_anew_and_left_as_it_is():
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    network = ts.load_network(module)
    before = network.module[0].weight.clone()
    first, again, other = (untrained(network, seed).module[0].weight for seed in (0, 0, 1))
    assert torch.equal(network.module[0].weight, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, before)
    assert not torch.equal(first, other)


def test_what_cannot_be_drawn_anew_is_said():
    network = ts.load_network(nn.Sequential(nn.Linear(4, 4), Bare()))
    with pytest.raises(RequestError, match=r"--control has no untrained network: .*layer 1 \(Bare\).*leave"):
        untrained(network, 0)


FUNCTION = """
import torch
from torch import nn

def build():
    net = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))
    {trained}
    return net
"""


def test_a_file_whose_function_loads_its_weights_is_drawn_anew_and_a_plain_one_refused(tmp_path):
    fixed = "nn.init.constant_(net[0].weight, 0.5); nn.init.constant_(net[0].bias, 0.0)"
    fixed += "; nn.init.constant_(net[2].weight, 0.5); nn.init.constant_(net[2].bias, 0.0)"
    (tmp_path / "own.py").write_text(FUNCTION.format(trained=fixed))
    (tmp_path / "plain.py").write_text(FUNCTION.format(trained="pass"))
    own = ts.load_network(f"{tmp_path}/own.py:build", image_shape=(1, 8, 8))
    assert untrained(own, 0).module[0].weight.std() > 0
    plain = ts.load_network(f"{tmp_path}/plain.py:build", image_shape=(1, 8, 8))
    with pytest.raises(RequestError, match="has random weights"):
        untrained(plain, 0)


class Growing(nn.Module):
    """A network that stays finite with its trained weights alone."""

    def __init__(self):
        super().__init__()
        self.first, self.act = nn.Linear(64, 8), nn.ReLU()
        self.last = nn.Linear(8, 5)

    def forward(self, x):
        rows = x.flatten(1)
        return self.last(self.act(self.first(rows) / (self.first.bias == 3).float().min()))


def test_an_untrained_network_that_does_not_stay_finite_is_named():
    module = Growing()
    nn.init.constant_(module.first.bias, 3.0)
    with pytest.raises(RequestError, match=r"--control, the untrained network: layer .* not finite"):
        ts.scan(module, **SETS, **FAST, layers="act", control=True)


def test_the_controls_probes_are_kept_apart(controlled):
    loaded = ts.load(controlled.folder).probes
    own = {name for name in loaded if not name.startswith("control/")}
    assert set(loaded) == own | {f"control/{name}" for name in own} == set(controlled.probes)
    alone = ts.scan(MODEL, weights="random", **SETS, **FAST).probes
    for name in own:
        assert torch.equal(loaded[f"control/{name}"].weights, alone[name].weights)
    with pytest.raises(KeyError):
        loaded["control/none"]


def test_a_scan_without_control_leaves_no_probes_of_one(weights, tmp_path):
    for control in (True, False):
        ts.scan(MODEL, weights=str(weights), **SETS, **FAST, control=control, out=tmp_path / "run")
        assert any((tmp_path / "run" / "probes" / "control").glob("*")) == control
