"""Several probe seeds and several draws of classes: what an interval holds."""

import numpy as np
import pytest

import tunnelscope as ts
from tunnelscope import tunnel
from tunnelscope.errors import RequestError
from tunnelscope.report.facts import key_figures, ood_rows
from tunnelscope.report.tidy import shared_frame

SETS = {"id": "sklearn:digits?classes=0-4", "ood": {"fives": "sklearn:digits?classes=5-9"}}


def mean_interval(correct, generator, resamples=400):
    """Bootstrap interval of the first layer's accuracy, (seeds, layers, rows)."""
    shares = tunnel.resampled_shares(len(correct), generator, resamples)
    return tunnel.interval(tunnel.resampled_accuracies(correct, generator, resamples, shares)[:, 0])


def test_seeds_that_agree_add_nothing():
    generator = np.random.default_rng(0)
    one = (generator.random((1, 3, 200)) < 0.7).astype(float)
    shares = tunnel.resampled_shares(4, generator, 50)
    of_four = tunnel.resampled_accuracies(np.repeat(one, 4, axis=0), np.random.default_rng(1), 50, shares)
    np.testing.assert_allclose(of_four, tunnel.resampled_accuracies(one, np.random.default_rng(1), 50))


def test_each_seed_weighs_as_often_as_it_is_drawn():
    generator = np.random.default_rng(0)
    correct = (generator.random((3, 2, 100)) < 0.6).astype(float)
    shares = tunnel.resampled_shares(3, generator, 20)
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


DRAWS = "sklearn:digits?classes=random:4&draws=3"


@pytest.fixture(scope="module")
def drawn():
    own = "sklearn:digits?classes=0-4"
    ood = {"some": DRAWS, "fives": "sklearn:digits?classes=5-9"}
    return ts.scan("zoo:mlp?depth=3&width=16", id=own, ood=ood, probe="ridge", max_samples=150)


def test_draws_are_sets_of_their_own_with_other_classes(drawn):
    data = {entry["key"]: entry for entry in drawn.run["data"]}
    assert list(data) == ["digits", "some#1", "some#2", "some#3", "fives"]
    classes = {tuple(data[f"some#{draw}"]["class_names"]) for draw in (1, 2, 3)}
    assert len(classes) == 3
    assert all(len(names) == 4 for names in classes)
    assert any("draw 2, seed 0" in note for note in data["some#2"]["notes"])


def test_draws_are_pooled_under_the_key_they_share(drawn):
    ood = drawn.tunnel["ood"]
    assert list(ood) == ["some", "some#1", "some#2", "some#3", "fives"]
    draws = [ood[key] for key in ood["some"]["draws"]]
    assert [entry["draw_of"] for entry in draws] == ["some"] * 3
    assert ood["fives"]["draws"] is ood["fives"]["draw_of"] is ood["some"]["draw_of"] is None
    for quantity in ("retained", "retained_matched", "pearson", "alignment"):
        pooled = ood["some"][quantity]
        assert pooled["value"] == pytest.approx(np.mean([entry[quantity]["value"] for entry in draws]))
        assert pooled["low"] <= pooled["value"] <= pooled["high"]
    table = drawn.table()
    rows = table[(table["dataset"] == "some") & (table["quantity"] == "retained")]
    assert rows[["value", "low", "high"]].to_numpy().tolist() == [list(ood["some"]["retained"].values())]
    assert rows["protocol"].tolist() == ["bootstrap of draws and test rows/v1"]


def test_band_verdict_and_report_speak_of_the_pooled_one(drawn, tmp_path):
    ood = drawn.tunnel["ood"]
    means = [ood[key]["retained"]["value"] for key in ("some", "fives")]
    assert drawn.tunnel["band"] == tunnel.band(np.mean(means))
    assert "on some (mean of 3 draws of classes)" in drawn.verdict
    assert "some#1" not in drawn.verdict
    rows = ood_rows(drawn.run)
    assert [(row["key"], row["draws"]) for row in rows] == [("some", "mean of 3 draws"), ("fives", "")]
    frame = shared_frame(drawn.table(), drawn.run)
    assert frame.sets == ("digits", "some#1", "some#2", "some#3", "fives")
    assert "on 2 OOD sets" in key_figures(drawn.run, frame)[2].detail
    assert drawn.report(tmp_path / "report.html").stat().st_size > 0


def test_a_draw_of_the_draws_is_the_set_that_its_own_query_gives(drawn):
    alone = ts.load_data("sklearn:digits?classes=random:4&draw=2", max_samples=150)
    data = {entry["key"]: entry for entry in drawn.run["data"]}
    assert list(alone.class_names) == data["some#2"]["class_names"]
    assert alone.key == "digits"
    other = ts.load_data("sklearn:digits?classes=random:4&draw=2", seed=1)
    assert other.class_names != alone.class_names


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("classes=random:4&draws=3", "only --ood of a scan"),
        ("classes=0-4&draws=3", "write classes=random:10 too"),
        ("classes=random:4&draws=3&draw=1", "give one of the two"),
        ("classes=random:4&draws=1", "a single draw"),
        ("classes=random:10", "has 10 classes; draw 2 to 9"),
        ("classes=random:1", "draw 2 to 9"),
        ("classes=random:4&draws=0", "draws must be a positive integer"),
    ],
)
def test_what_cannot_be_drawn_is_said(query, told):
    with pytest.raises(RequestError, match=told):
        ts.load_data(f"sklearn:digits?{query}")


def test_pooled_intervals_hold_the_draws():
    """Draws whose r differs by much more than their test rows say: the interval is as wide as the draws."""
    generator = np.random.default_rng(0)
    values = np.array([0.7, 0.8, 0.9, 0.75, 0.85])
    resampled = values[:, None] + 0.001 * generator.normal(size=(5, 1000))
    kept = tunnel.pooled(values, resampled, generator)
    assert kept.value == pytest.approx(0.8)
    standard_error = values.std() / 5**0.5
    assert kept.high - kept.low == pytest.approx(2 * 1.96 * standard_error, rel=0.15)
    alike = tunnel.pooled(np.full(5, 0.8), 0.8 + 0.001 * generator.normal(size=(5, 1000)), generator)
    assert alike.high - alike.low < 0.004
