"""Several probe seeds and several draws of classes: what an interval holds."""

import numpy as np
import pytest

import tunnelscope as ts
from tunnelscope import tunnel

SETS = {"id": "sklearn:digits?classes=0-4", "ood": {"fives": "sklearn:digits?classes=5-9"}}


def mean_interval(correct, generator, resamples=400):
    """Bootstrap interval of the first layer's accuracy, (seeds, layers, rows)."""
    shares = tunnel.resampled_seeds(len(correct), generator, resamples)
    return tunnel.interval(tunnel.resampled_accuracies(correct, generator, resamples, shares)[:, 0])


def test_seeds_that_agree_add_nothing():
    generator = np.random.default_rng(0)
    one = (generator.random((1, 3, 200)) < 0.7).astype(float)
    shares = tunnel.resampled_seeds(4, generator, 50)
    of_four = tunnel.resampled_accuracies(np.repeat(one, 4, axis=0), np.random.default_rng(1), 50, shares)
    np.testing.assert_allclose(of_four, tunnel.resampled_accuracies(one, np.random.default_rng(1), 50))


def test_each_seed_weighs_as_often_as_it_is_drawn():
    generator = np.random.default_rng(0)
    correct = (generator.random((3, 2, 100)) < 0.6).astype(float)
    shares = tunnel.resampled_seeds(3, generator, 20)
    assert shares.sum(axis=1) == pytest.approx(np.ones(20))
    alone = [tunnel.resampled_accuracies(part[None], np.random.default_rng(1), 20) for part in correct]
    together = tunnel.resampled_accuracies(correct, np.random.default_rng(1), 20, shares)
    np.testing.assert_allclose(together, np.einsum("rs,srl->rl", shares, np.array(alone)), rtol=1e-6)


def test_the_interval_covers_the_truth_where_seeds_differ():
    """Accuracy 0.6, five seeds that differ by 5 points (sd), 400 rows: 95 % of intervals should hold 0.6."""
    generator, inside, rows_alone = np.random.default_rng(0), [], []
    for _ in range(150):
        rates = 0.6 + 0.05 * generator.normal(size=(5, 1, 1))
        correct = (generator.random((1, 1, 400)) < rates).astype(float)
        for low, high, kept in [
            (*mean_interval(correct, generator), inside),
            (*tunnel.interval(tunnel.resampled_accuracies(correct, generator, 400)[:, 0]), rows_alone),
        ]:
            kept.append(low <= 0.6 <= high)
    assert np.mean(inside) >= 0.9
    assert np.mean(inside) > np.mean(rows_alone)


def test_a_scan_of_several_seeds_gives_their_mean_an_interval_that_holds_them():
    scan = ts.scan("zoo:mlp?depth=3&width=16", **SETS, probe="ridge", max_samples=150, seeds=3)
    table = scan.table()
    means = table[table["quantity"] == "probe_accuracy_mean"].set_index(["dataset", "layer"])
    assert means["seed"].isna().all()
    seeds = table[(table["quantity"] == "probe_accuracy") & (table["layer_index"] > 0)]
    assert sorted(seeds["seed"].unique()) == [0, 1, 2]
    by_layer = seeds.groupby(["dataset", "layer"])["value"].mean()
    np.testing.assert_allclose(means["value"].sort_index(), by_layer.sort_index())
    assert (means["low"] <= means["value"]).all()
    assert (means["value"] <= means["high"]).all()
    best = scan.best_layer("fives")
    row = means.loc[("fives", best["layer"])]
    assert (best["accuracy"], best["low"], best["high"]) == pytest.approx(
        (row["value"], row["low"], row["high"])
    )
    kept = table[table["quantity"] == "retained"].iloc[0]
    assert kept["protocol"] == "bootstrap of test rows and probe seeds/v1"


def test_one_seed_has_no_mean_of_its_own_and_matched_r_is_in_the_table():
    scan = ts.scan("zoo:mlp?depth=12&width=8", **SETS, probe="ridge", max_samples=100)
    table = scan.table()
    assert "probe_accuracy_mean" not in set(table["quantity"])
    row = table[table["quantity"] == "retained_matched"].iloc[0]
    matched = scan.tunnel["ood"]["fives"]["retained_matched"]
    assert (row["value"], row["low"], row["high"]) == (matched["value"], matched["low"], matched["high"])
    seen = table[(table["quantity"] == "probe_accuracy") & (table["dataset"] == "fives")]
    values = seen.sort_values("layer_index")["value"].to_numpy()[1:]
    ten = values[tunnel.matched_layers(12)]
    assert np.isclose(matched["value"], ten[-1] / ten).any()
