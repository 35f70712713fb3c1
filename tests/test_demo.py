"""The embedded example shows the tunnel as clearly as the prototypes did, and its files are whole."""

import json

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import tunnelscope as ts
from tunnelscope.results import COLUMNS


@pytest.fixture(scope="module")
def demo(demo_folder):
    return ts.load(demo_folder)


def test_the_demo_shows_the_tunnel(demo):
    accuracy = {(probe["layer"], probe["dataset"]): probe["accuracy"] for probe in demo.run["probes"]}
    own = [accuracy[layer["name"], "digits"] for layer in demo.run["layers"]]
    other = [accuracy[layer["name"], "digits-2"] for layer in demo.run["layers"]]
    assert len(own) == 12
    assert min(own) >= 0.98
    assert max(other) >= 0.96
    assert other[-1] < max(other) - 0.08
    ranks = [layer["numerical_rank"] for layer in demo.run["layers"]]
    assert ranks[-1] < ranks[0] / 3


def test_the_verdict_claims_what_the_intervals_carry(demo):
    reading = demo.tunnel["ood"]["digits-2"]
    assert reading["retained"]["high"] < 1
    assert reading["retained"]["low"] < reading["retained"]["value"] < reading["retained"]["high"]
    assert demo.verdict.count(". ") == 1
    assert demo.best_layer()["layer"] in demo.verdict


def test_the_json_object_keeps_its_contract(demo):
    printed = demo.json()
    assert {"tunnel", "best_layer", "layers", "probes", "timings", "warnings"} <= set(printed)
    tunnel_keys = {
        "start_95", "start_98", "start_95_stable", "start_95_interval", "length", "share",
        "extractor_share", "band", "ood",
    }  # fmt: skip
    assert tunnel_keys <= set(printed["tunnel"])
    assert {"retained", "pearson", "alignment", "band", "best_layer"} <= set(
        printed["tunnel"]["ood"]["digits-2"]
    )
    probe_keys = {
        "layer",
        "dataset",
        "role",
        "accuracy",
        "low",
        "high",
        "n_train",
        "n_test",
        "seed",
        "protocol",
    }
    assert all(probe_keys <= set(probe) for probe in printed["probes"])
    assert len(printed["probes"]) == 12 * 2
    layer_keys = {
        "name",
        "index",
        "read_point",
        "shape",
        "parameters",
        "flops",
        "numerical_rank",
        "effective_rank",
    }
    assert all(layer_keys <= set(layer) for layer in printed["layers"])
    best = printed["best_layer"]["digits-2"]
    assert set(best) == {
        "layer", "accuracy", "score", "score_name", "low", "high", "choice_share",
        "parameters_saved", "flops_saved", "milliseconds_saved", "milliseconds_saved_quartiles",
    }  # fmt: skip
    assert {"command", "settings", "versions", "hardware", "seeds", "fingerprints"} <= set(demo.run)
    json.dumps(printed, allow_nan=False)


def test_tunnel_shares_add_up(demo):
    tunnel = demo.tunnel
    index = next(layer["index"] for layer in demo.run["layers"] if layer["name"] == tunnel["start_95"])
    assert tunnel["length"] == 12 - index
    assert tunnel["share"] + tunnel["extractor_share"] == pytest.approx(1)


def test_the_table_has_the_contracts_columns_and_a_row_a_value(demo, demo_folder):
    frame = pd.read_parquet(demo_folder / "results.parquet")
    assert list(frame.columns) == list(COLUMNS)
    keys = ["layer", "layer_b", "dataset", "split", "quantity", "seed", "protocol"]
    assert not frame.duplicated(keys).any()
    accuracies = frame[frame.quantity == "probe_accuracy"]
    assert len(accuracies) == 13 * 2  # twelve layers and the pixels, two sets
    assert ((accuracies.low <= accuracies.value) & (accuracies.value <= accuracies.high)).all()
    cka = frame[frame.quantity == "cka"]
    assert len(cka) == 2 * 12 * 13 // 2
    assert set(frame[frame.layer.isna()].quantity) >= {"retained", "pearson", "alignment", "start_95"}
    row = frame[(frame.quantity == "retained") & (frame.dataset == "digits-2")].iloc[0]
    assert row.value == demo.tunnel["ood"]["digits-2"]["retained"]["value"]


def test_saved_probes_load_in_three_lines_and_predict(demo, demo_folder):
    features = ts.record(
        "zoo:mlp?depth=12&width=256&classes=5&channels=1",
        ts.load_data("sklearn:digits?classes=5-9"),
        weights=str(demo_folder.parent / "weights.safetensors"),
        split="test",
    )
    labels = torch.as_tensor(ts.load_data("sklearn:digits?classes=5-9").test.labels)
    for layer, values in features.items():
        probe = ts.load_probe(demo_folder / "probes" / f"digits-2--{layer}--0.safetensors")
        expected = next(
            entry["accuracy"]
            for entry in demo.run["probes"]
            if entry["layer"] == layer and entry["dataset"] == "digits-2"
        )
        assert probe.score(values, labels) == pytest.approx(expected)
        tensors = load_file(demo_folder / "probes" / f"digits-2--{layer}--0.safetensors")
        assert set(tensors) >= {"weights", "bias", "mean", "scale"}


def test_the_same_command_gives_the_same_table(demo, demo_folder):
    from tunnelscope.demo import ID, MODEL, OOD

    again = ts.scan(MODEL, weights=str(demo_folder.parent / "weights.safetensors"), id=ID, ood=OOD)
    first, second = demo.table().drop(columns="run"), again.table().drop(columns="run")
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_the_next_step_is_code_that_runs(demo):
    images = ts.load_data("sklearn:digits?classes=5-9").test.images
    place: dict = {"images": [images[i] for i in range(4)]}
    exec("\n".join(demo.run["next_step"]["digits-2"]), place)
    assert place["features"].shape == (4, 256)


def test_the_best_layers_accuracy_is_its_probes(demo):
    for key, best in demo.run["best_layer"].items():
        probe = next(p for p in demo.run["probes"] if (p["layer"], p["dataset"]) == (best["layer"], key))
        assert best["accuracy"] == pytest.approx(probe["accuracy"], abs=1e-12)
        assert (best["low"], best["high"]) == pytest.approx((probe["low"], probe["high"]), abs=1e-9)
