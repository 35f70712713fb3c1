"""Pairs, slopes and predictions on tables whose answers are known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelscope.errors import RequestError
from tunnelscope.variables import boosting, pairs, planner, slopes
from tunnelscope.variables.analysis import effects
from tunnelscope.variables.cautions import warnings_of
from tunnelscope.variables.observations import Observations, of_frame

whole = st.lists(st.integers(-5, 5), min_size=1, max_size=12)


def planted(networks: int = 16, seed: int = 0) -> Observations:
    """r rises by 0.2 with augmentation and falls by 0.1 over the depths; width does nothing."""
    draws = np.random.default_rng(seed)
    rows = []
    for place in range(networks):
        aug, depth, width = place % 2, (place // 2) % 4, (place // 8) % 2
        for ood in ("birds", "cars", "pets"):
            r = 0.6 + 0.2 * aug - 0.1 * depth / 3 + draws.normal(0, 0.005)
            rows.append(
                {"network": f"n{place}", "ood": ood, "r": r, "aug": aug, "depth": 10 + depth, "width": width}
            )
    return of_frame(pd.DataFrame(rows))


@given(whole, whole)
def test_cliffs_delta_counts_pairs(one: list[int], other: list[int]) -> None:
    counted = np.mean([np.sign(b - a) for a in one for b in other])
    assert pairs.cliffs_delta(np.array(one, float), np.array(other, float)) == pytest.approx(counted)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(values: list[float]) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    assert pairs.holm(values) == pytest.approx(multitest.multipletests(values, method="holm")[1])


def test_pairs_differ_in_one_variable_alone() -> None:
    table = planted()
    found = pairs.all_pairs(table, [])
    by_name = {(pair.variable, pair.levels): pair for pair in found}
    aug = by_name["aug", ("0", "1")]
    assert (aug.n, aug.networks) == (24, 8)
    assert aug.means[1].value - aug.means[0].value == pytest.approx(0.2, abs=0.01)
    assert aug.cliffs_delta == 1
    assert aug.p < 1e-4
    assert aug.p_network == pytest.approx(2 / 2**8)
    assert by_name["width", ("0", "1")].band == "negligible"
    assert by_name["depth", ("10", "13")].cliffs_delta < 0
    assert all(pair.p <= pair.p_corrected for pair in found if pair.p is not None)


def test_pairs_are_matched_by_name_whatever_the_order_of_rows() -> None:
    table = planted()
    shuffled = of_frame(table.frame.drop(columns="architecture").sample(frac=1, random_state=1))
    key = lambda pair: (pair.variable, pair.levels)  # noqa: E731
    one, other = (
        {key(pair): (pair.p, pair.cliffs_delta) for pair in pairs.all_pairs(given_table, [])}
        for given_table in (table, shuffled)
    )
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert values == pytest.approx(other[name])


def test_slopes_find_what_was_planted() -> None:
    table = planted(32)
    found = slopes.slopes_of(slopes.design_of(table), table.frame["r"].to_numpy(float))
    assert found.slope["aug"] == pytest.approx(0.2, abs=0.01)
    assert found.slope["depth"] == pytest.approx(-0.1, abs=0.01)
    assert found.slope["width"] == pytest.approx(0, abs=0.01)
    assert found.r2 > 0.98


@pytest.mark.parametrize("rows", [9, 40, 200])
@pytest.mark.parametrize("decimals", [1, 15])
def test_the_fast_boosting_is_that_of_scikit_learn(rows: int, decimals: int) -> None:
    draws = np.random.default_rng(rows)
    columns = draws.integers(0, 4, (rows, 5)).astype(float)
    target = (columns[:, 0] - columns[:, 1] * columns[:, 2] + draws.normal(0, 1, rows)).round(decimals)
    slow, fast = slopes.fit(columns, target), boosting.fit_boosted(columns, target)
    other = draws.integers(0, 4, (50, 5)).astype(float)
    assert np.array_equal(slow.predict(columns), fast.predict(columns))
    assert np.array_equal(slow.predict(other), fast.predict(other))


def test_named_levels_are_one_hot_at_the_end() -> None:
    table = planted()
    frame = table.frame.drop(columns="architecture")
    frame.insert(2, "family", np.where(frame["aug"] == 1, "vit", "cnn"))
    design = slopes.design_of(of_frame(frame))
    assert design.columns.shape[1] == 5
    assert design.owner.tolist() == [1, 2, 3, 0, 0]
    assert design.codes[:, 0].tolist() == frame["aug"].astype(float).tolist()


def test_networks_left_out_are_foretold() -> None:
    network = {"name": "new", "aug": 1, "depth": 11, "width": 0}
    found = effects(planted(32), resamples=0, predict=[network])
    assert found.r2_grouped["r"]["network"] > 0.9
    value = found.predictions[0].values["r"]
    assert value["low"] < 0.6 + 0.2 - 0.1 / 3 < value["high"]
    assert value["value"] == pytest.approx(0.767, abs=0.01)
    error = found.prediction_error["r"]
    assert error["network"] < error["reach"] < 0.1
    told = found.as_dict()
    assert told["predictions"] == [{"name": "new", "values": found.predictions[0].values}]
    assert told["prediction_error"]["r"] == error


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"aug": 1, "depth": 99, "width": 0}, "outside the table's 10 to 13"),
        ({"aug": "yes", "depth": 11, "width": 0}, "outside"),
    ],
)
def test_what_the_table_does_not_know_is_not_foretold(network: dict, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        effects(planted(), resamples=0, predict=[network])


def test_the_interval_holds_the_share_it_claims() -> None:
    assert planner.reach_of(np.arange(1.0, 101.0)) == 96
    assert planner.reach_of(np.array([1.0, 5.0])) == 5


def test_networks_alike_are_averaged_whatever_their_order() -> None:
    frame = planted().frame.drop(columns="architecture")
    again = frame.assign(
        network=frame["network"] + " again", r=frame["r"] + np.where(frame["aug"] == 1, 0.1, 0)
    )
    for both in (pd.concat([frame, again]), pd.concat([again, frame])):
        [aug] = [pair for pair in pairs.all_pairs(of_frame(both), []) if pair.variable == "aug"]
        assert (aug.n, aug.networks) == (24, 8)
        assert aug.means[1].value - aug.means[0].value == pytest.approx(0.25, abs=0.01)


def test_no_variable_at_all() -> None:
    with pytest.raises(RequestError, match="is there to be a variable"):
        of_frame(planted().frame[["network", "ood", "r"]])


def test_networks_of_their_own_architecture_are_left_out_once() -> None:
    frame = planted().frame.drop(columns="architecture")
    assert "architecture" not in effects(frame, resamples=0).prediction_error["r"]
    kinds = frame.assign(architecture=frame["depth"].astype(str))
    assert "architecture" in effects(kinds, resamples=0).r2_grouped["r"]


def test_warnings() -> None:
    frame = planted().frame.drop(columns="architecture")
    frame["same"] = 1
    frame["twice"] = 2 * frame["depth"]
    frame["id"] = frame["network"].str.removeprefix("n").astype(int)
    told = warnings_of(of_frame(frame), slopes.design_of(of_frame(frame)))
    assert any(line.startswith("same: the same") for line in told)
    assert any(line.startswith("depth and twice hardly vary apart") for line in told)
    assert any(line.startswith("id has 16 levels in 16 networks") for line in told)
    plain = planted()
    assert warnings_of(plain, slopes.design_of(plain)) == []


def test_networks_alike_are_warned_of_unless_all_have_as_many_replicates() -> None:
    replicates = planted(32)
    assert warnings_of(replicates, slopes.design_of(replicates)) == []
    uneven = replicates.of([f"n{place}" for place in range(19)])
    told = warnings_of(uneven, slopes.design_of(uneven))
    assert told == ["no variable tells these networks apart: n0 = n16; n1 = n17; n2 = n18"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.drop(columns="network"), "no column"),
        (lambda frame: frame.rename(columns={"r": "retained"}), "no column"),
        (
            lambda frame: frame.assign(depth=frame["depth"].where(frame.index != 4)),
            "1 rows lack values in depth",
        ),
        (lambda frame: frame.assign(r=100 * frame["r"]), "divide percent by 100"),
        (lambda frame: pd.concat([frame, frame.head(1)]), "comes twice"),
        (lambda frame: frame.assign(depth=range(len(frame))), "several values of depth"),
        (lambda frame: frame.assign(r="high"), "not numbers"),
    ],
)
def test_bad_tables_are_refused(change, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        of_frame(change(planted().frame.drop(columns="architecture")))


def test_too_few_networks_for_slopes() -> None:
    with pytest.raises(RequestError, match="slopes need 8"):
        slopes.check_networks(planted(6))
