"""bfloat16 is taken where it is near enough, said in the run, and single precision where it is not."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

import tunnelscope as ts
from tunnelscope.data import as_split
from tunnelscope.errors import RequestError
from tunnelscope.keeping import Names
from tunnelscope.metrics.rank import numerical_rank
from tunnelscope.models.vision import import_timm
from tunnelscope.precision import MOST_ERROR, relative_errors
from tunnelscope.recording import LOGITS, make_recorder


@pytest.fixture(scope="module")
def images():
    """Noise of 40 contrasts: features spread, as those of real images do."""
    draws = torch.Generator().manual_seed(0)
    return torch.randn(40, 3, 32, 32, generator=draws) * torch.linspace(0.2, 3, 40)[:, None, None, None]


def run(*arguments: str) -> subprocess.CompletedProcess:
    started = "from tunnelscope.cli import main; main()"
    return subprocess.run([sys.executable, "-c", started, *arguments], capture_output=True, text=True)


def small(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes))
    layers = (nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU())
    return nn.Sequential(*layers, *head).eval()


class Cancelling(nn.Module):
    """Small differences on a large offset: bfloat16 has eight bits, and loses them."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.again, self.last = (
            nn.Conv2d(3, 8, 3),
            nn.ReLU(),
            nn.Conv2d(8, 8, 1),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.last(self.again(self.act(self.conv(x) + 1000.0)) * 1e-3)


def settled(module: nn.Module, images: torch.Tensor, precision: str, **settings):
    network = ts.load_network(module)
    recorder = make_recorder(network, shape=tuple(images.shape[1:]), precision=precision, **settings)
    return recorder.settled(as_split(images))


def test_relative_errors_are_shares_of_the_spread_and_ignore_an_offset():
    draws = torch.Generator().manual_seed(0)
    plain = 1000 + torch.randn(500, 20, generator=draws)
    rounded = plain + 0.02 * torch.randn(500, 20, generator=draws)
    told = relative_errors(
        {"a": plain, "b": plain, "c": torch.ones(3, 2)}, {"a": rounded, "b": plain, "c": torch.ones(3, 2)}
    )
    assert told["a"] == pytest.approx(0.02, rel=0.1)
    assert told["b"] == told["c"] == 0
    assert relative_errors({"a": torch.ones(3, 2)}, {"a": torch.full((3, 2), 1.01)})["a"] == float("inf")


def test_one_wide_feature_does_not_hide_that_the_others_are_lost():
    """A probe standardises each feature: the spread of a massive activation is no measure of the rest."""
    draws = torch.Generator().manual_seed(0)
    plain = 1000 + torch.randn(500, 64, generator=draws)
    plain[:, 0] *= 30
    assert relative_errors({"a": plain}, {"a": plain.bfloat16().float()})["a"] > 0.5


def test_a_few_features_that_hardly_ever_fire_do_not_decide():
    draws = torch.Generator().manual_seed(0)
    plain = torch.randn(500, 64, generator=draws)
    rounded = plain + 0.01 * torch.randn(500, 64, generator=draws)
    plain[:, :2], rounded[:, :2] = 0, 0
    rounded[0, 0], plain[0, 1] = 1e-3, 1e-3
    assert relative_errors({"a": plain}, {"a": rounded})["a"] == pytest.approx(0.01, rel=0.1)


def test_every_set_has_a_say(images):
    """Small differences on an offset are lost in bf16; the other set has large ones."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU()).eval()
    draws = torch.Generator().manual_seed(0)
    wide, narrow = 10 * torch.randn(64, 32, generator=draws), 20 + 0.05 * torch.randn(64, 32, generator=draws)
    recorder = make_recorder(ts.load_network(module), shape=(32,), precision="bf16", layers="all")
    sets = as_split(wide), as_split(narrow)
    assert recorder.settled(sets[0]).precision.used == "bf16"
    assert recorder.settled(*sets).precision.used == "f32"


@pytest.mark.parametrize("batch_size", [1, 40])
def test_bf16_is_used_where_it_is_near(images, batch_size):
    recorder = settled(small(), images, "bf16", batch_size=batch_size)
    told = recorder.precision.as_dict()
    assert (told["asked"], told["used"], told["reason"]) == ("bf16", "bf16", None)
    assert 1e-4 < told["error_median"] <= told["error_worst"] < MOST_ERROR
    assert told["worst_layer"] in {"2", "4", LOGITS}
    plain, rounded = (one.record(as_split(images)) for one in (recorder._as_loaded(), recorder))
    for layer, values in rounded.features.items():
        assert values.dtype == torch.float32
        exact = plain.features[layer]
        error = (values - exact).norm() / (exact - exact.mean(dim=0)).norm()
        assert 0 < error < MOST_ERROR or (layer == "input" and error == 0)


def test_a_transformer_runs_in_bf16(images):
    vit = import_timm().create_model("test_vit", img_size=32, num_classes=5).eval()
    assert settled(vit, images, "bf16").precision.used == "bf16"


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_single_precision_is_used_where_bf16_is_far_off(images, precision, monkeypatch):
    monkeypatch.setattr("tunnelscope.recording.has_bf16", lambda device: True)
    recorder = settled(Cancelling().eval(), images, precision)
    told = recorder.precision.as_dict()
    assert (told["asked"], told["used"]) == (precision, "f32")
    assert told["error_worst"] > MOST_ERROR
    assert told["worst_layer"] in told["reason"]
    plain = recorder._as_loaded().record(as_split(images)).features
    for layer, values in recorder.record(as_split(images)).features.items():
        torch.testing.assert_close(values, plain[layer])


def test_a_network_that_fails_in_bf16_runs_in_single_precision(images):
    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 4, 3), nn.ReLU()

        def forward(self, x):
            x = self.act(self.conv(x))
            if x.dtype != torch.float32:
                raise TypeError("only float32 is known here")
            return x

    told = settled(Picky().eval(), images, "bf16").precision
    assert told.used == "f32"
    assert "only float32 is known here" in told.reason
    [line] = told.warnings
    assert line.startswith("--precision bf16: f32 was used; bf16 failed")


@pytest.mark.parametrize(("has", "used"), [(True, "bf16"), (False, "f32")])
def test_auto_goes_by_the_machine(images, monkeypatch, has, used):
    monkeypatch.setattr("tunnelscope.recording.has_bf16", lambda device: has)
    recorder = settled(small(), images, "auto")
    assert recorder.precision.used == used
    assert (recorder.precision.error is not None) == has


def test_an_unknown_precision_is_refused_with_the_nearest():
    with pytest.raises(RequestError, match="'f23'; nearest: f32"):
        ts.record(small(), torch.randn(2, 3, 32, 32), precision="f23")


def test_features_of_both_precisions_have_names_of_their_own(images):
    split = as_split(images)
    names = {
        Names(settled(small(), images, precision), split).features("2", "data")
        for precision in ("f32", "bf16")
    }
    assert len(names) == 2


def pictures(rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(0)
    labels = np.arange(rows) % 3
    contrast = np.linspace(0.2, 1, rows)[:, None, None, None]
    noise = contrast * draws.integers(0, 160, (rows, 16, 16, 3))
    return (noise + 45 * labels[:, None, None, None]).astype(np.uint8), labels


def test_a_run_tells_its_precision_and_is_the_same_twice():
    scan = ts.scan(small(), id=pictures(), precision="bf16", cache=False)
    told = scan.run["precision"]
    assert told["used"] == "bf16"
    assert told["error_worst"] > 0
    again = ts.scan(small(), id=pictures(), precision="bf16", cache=False)
    assert scan.table().equals(again.table())  # bit for bit
    plain = ts.scan(small(), id=pictures(), cache=False)
    assert plain.run["precision"] == {
        "asked": "f32",
        "used": "f32",
        "error_median": None,
        "error_worst": None,
        "worst_layer": None,
        "reason": None,
    }
    assert not any("bf16" in line for line in plain.run["warnings"])


def test_rounding_adds_no_rank_where_a_layer_has_few_directions():
    torch.manual_seed(0)
    layers = (nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 6), nn.Identity(), nn.Linear(6, 64), nn.Identity())
    bottleneck = nn.Sequential(*layers).eval()
    rows = torch.randn(500, 64, generator=torch.Generator().manual_seed(1))
    for precision in ("f32", "bf16"):
        features = ts.record(bottleneck, rows, layers=["5"], precision=precision)["5"]
        ranks = [numerical_rank(features, tolerance) for tolerance in (1e-2, 1e-3, 1e-4)]
        assert ranks == [6, 6, 6], precision


def test_the_command_line_takes_it_and_the_file_tells_it(tmp_path):
    out = tmp_path / "f.safetensors"
    asked = f"record zoo:mlp?depth=2&width=16 sklearn:digits --precision bf16 --out {out} --json".split()
    result = run(*asked)
    assert result.returncode == 0, result.stderr
    with safe_open(out, "pt") as file:
        assert file.metadata()["precision"] == "bf16"
        assert file.get_tensor("train/hidden.0.relu").dtype == torch.float32
    assert "precision bf16: bf16 is used; features are off by" in result.stderr
    assert json.loads(result.stdout)["file"] == str(out)


def test_what_a_network_gives_in_single_precision_is_pooled_in_it(images):
    class Widened(nn.Module):
        def forward(self, x):
            return x.float() + 1 / 3  # bfloat16 has no such numbers

    module = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), Widened(), nn.Conv2d(16, 4, 1), nn.ReLU()).eval()
    seen = []
    recorder = settled(module, images, "bf16", layers=["1"])
    assert recorder.running is not None
    recorder.running[1].register_forward_hook(lambda _module, _inputs, output: seen.append(output.clone()))
    features = recorder.record(as_split(images)).features["1"]
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.cat(seen).double(), 2).flatten(1)
    torch.testing.assert_close(features.double(), expected, atol=1e-6, rtol=1e-5)
