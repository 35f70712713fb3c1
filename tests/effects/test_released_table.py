"""The released table of Harun et al. 2024, number by number, and what comes out of it otherwise."""

import csv
from pathlib import Path

import numpy as np
import pytest

from tunnelscope.errors import RequestError
from tunnelscope.reproduce.harun2024.printed import MEANS, R2, SLOPE_NAMES, SLOPES
from tunnelscope.variables import grouped, published, slopes
from tunnelscope.variables.observations import Observations, read_table
from tunnelscope.variables.pairs import bands_of


@pytest.fixture(scope="module")
def table(real_data: Path) -> Observations:
    return read_table(real_data / "harun2024" / "experiments_results.csv")


@pytest.fixture(scope="module")
def answers(real_data: Path) -> list[dict[str, str]]:
    with (real_data / "harun2024" / "table13_pairs_recomputed.csv").open() as file:
        return list(csv.DictReader(file))


def test_networks_and_sets_are_named(table: Observations) -> None:
    assert len(table.networks) == 64
    assert table.networks[0] == "VGGm-11 ImageNet-100 32² no aug"
    assert set(table.frame["ood"]) >= {"NINCO", "STL-10"}
    assert table.frame["r"].max() == 1
    assert bands_of(table) == {"negligible": 4, "weak": 8, "medium": 13, "strong": 39}


def test_all_45_pairs(table: Observations, answers: list[dict[str, str]]) -> None:
    found = published.published_pairs(table)
    assert len(found) == len(answers) == 3 * 45
    allowed = {"r": 0.001, "A": 0.005, "rho": 0.021}
    for pair, answer in zip(found, answers, strict=True):
        told = (pair.variable, pair.levels, pair.target)
        assert answer["metric"] == pair.target, told
        assert int(answer["n_pairs"]) == pair.n, told
        size = abs(pair.cliffs_delta)
        assert size == pytest.approx(float(answer["delta_printed"]), abs=allowed[pair.target]), told
        assert size == pytest.approx(float(answer["delta_recomputed"]), abs=6e-5), told
        assert pair.band[0].upper() == answer["band_recomputed"], told
        means = [mean.value * (100 if pair.target == "r" else 1) for mean in pair.means]
        printed = [float(answer["mean_a"]), float(answer["mean_b"])]
        assert sorted(means) == pytest.approx(sorted(printed), abs=6e-5), told
        assert pair.p == pytest.approx(float(answer["p_recomputed_matched_pairs"]), rel=1e-3), told
        in_order = float(answer["p_recomputed_csv_row_order"])
        assert pair.as_dict()["p_as_published"] == pytest.approx(in_order, rel=1e-3), told


def in_order_of_rows(table: Observations, comparison: published.Comparison, target: str) -> float | None:
    sides = [published.rows_of(table, group) for group in (comparison.one, comparison.other)]
    return published.p_row_order(sides[0], sides[1], target)


def test_printed_p_values_come_from_the_order_of_rows(
    table: Observations, answers: list[dict[str, str]]
) -> None:
    compared = [(one, target) for one in published.comparisons() for target in table.targets]
    agree = {"r": 0, "rho": 0, "A": 0}
    for (comparison, target), answer in zip(compared, answers, strict=True):
        p = in_order_of_rows(table, comparison, target)
        assert p == pytest.approx(float(answer["p_recomputed_csv_row_order"]), rel=1e-3)
        printed = answer["p_printed"]
        agree[target] += p < 0.001 if printed.startswith("<") else abs(p - float(printed)) <= 0.0006
    assert agree["r"] == 44  # VGGm-17 against ViT-T+ is printed < .001, here 0.0012
    assert agree["A"] >= 40


def test_resolutions_are_paired_wrongly_in_print(table: Observations) -> None:
    by_levels = {
        (one.one.level, one.other.level): one
        for one in published.comparisons()
        if one.variable == "Resolution"
    }
    found = {(pair.levels, pair.target): pair for pair in published.published_pairs(table)}
    first = ("32²", "64²")
    assert in_order_of_rows(table, by_levels[first], "r") == pytest.approx(0.3154, abs=1e-4)
    assert found[first, "r"].p == pytest.approx(0.0439, abs=1e-4)
    assert found[("64²", "128²"), "r"].p_network == pytest.approx(0.03125)  # the least there is of six pairs
    assert found[first, "r"].p_network == pytest.approx(0.5625)


def test_augmentation_at_the_level_of_networks(table: Observations) -> None:
    found = {
        pair.target: pair for pair in published.published_pairs(table) if pair.variable == "Augmentations"
    }
    assert found["r"].networks == 32
    assert abs(found["r"].delta_network) == pytest.approx(0.480, abs=5e-4)
    assert np.diff([mean.value for mean in found["r"].means_network])[0] == pytest.approx(0.1415, abs=1e-4)
    assert found["r"].p_network == pytest.approx(5e-7, rel=0.2)
    assert found["rho"].p_network == pytest.approx(6e-6, rel=0.2)
    assert found["A"].p_network == pytest.approx(3e-9, rel=0.3)


def test_table_12(table: Observations) -> None:
    told = {
        (variable, level): mean
        for variable, level, target, mean, _ in published.published_means(table)
        if target == "r"
    }
    for key, text in MEANS.items():
        assert 100 * told[key].value == pytest.approx(float(text), abs=0.0061), key
    with_n = {
        (variable, level): mean
        for variable, level, target, _, mean in published.published_means(table)
        if target == "r"
    }
    assert 100 * with_n["ID data set", "CIFAR-10"].low == pytest.approx(22.60, abs=0.006)
    assert 100 * told["ID data set", "CIFAR-10"].low == pytest.approx(22.53, abs=0.006)


def test_slopes_as_published(table: Observations) -> None:
    design = slopes.design_of(table)
    for target, texts in SLOPES.items():
        found = slopes.slopes_of(design, table.frame[target].to_numpy(float))
        assert found.r2 == pytest.approx(float(R2[target]), abs=0.005)
        for name, text in zip(SLOPE_NAMES, texts, strict=True):
            assert found.slope[name] == pytest.approx(float(text), abs=0.01), (target, name)
        assert sum(map(abs, found.normalised().values())) == pytest.approx(1)
    r = slopes.slopes_of(design, table.frame["r"].to_numpy(float))
    assert r.slope["ID Class Count"] == pytest.approx(0.4093, abs=5e-4)
    assert r.line_r2["Resolution"] == pytest.approx(0.35, abs=0.01)


def test_ceilings(table: Observations) -> None:
    for target, printed in {"r": 0.647, "rho": 0.772, "A": 0.453}.items():
        assert grouped.ceiling(table, target) == pytest.approx(printed, abs=5e-4)


@pytest.mark.slow
def test_networks_and_architectures_left_out(table: Observations) -> None:
    design = slopes.design_of(table)
    answers = {
        "r": (0.511, 0.789, 0.336, 0.916, 0.798),
        "rho": (0.613, 0.795, -0.337, 0.889, 0.749),
        "A": (0.411, 0.907, 0.374, 0.931, 0.882),
    }
    networks = table.frame["network"].to_numpy()
    for target, (rows, means, architecture, inside, outside) in answers.items():
        values = table.frame[target].to_numpy(float)
        found = grouped.grouped_r2(table, target, grouped.foretold(table, design, target))
        assert found["network"] == pytest.approx(rows, abs=1e-3)
        assert found["network_means"] == pytest.approx(means, abs=1e-3)
        assert found["architecture"] == pytest.approx(architecture, abs=1e-3)
        columns = grouped.with_sets(table, design)
        fitted = slopes.fit(columns, values).predict(columns)
        assert grouped.r2_score(values, fitted) == pytest.approx(inside, abs=1e-3)
        left = grouped.left_out(columns, values, networks)
        assert grouped.r2_score(values, left) == pytest.approx(outside, abs=1e-3)


@pytest.mark.slow
def test_bootstrap_over_networks(table: Observations) -> None:
    found = slopes.bootstrap(table, slopes.design_of(table), 100, 0)
    printed = {  # of another hundred resamples
        ("r", "ID Class Count"): (0.274, 0.455),
        ("r", "Depth"): (-0.215, -0.080),
        ("A", "Resolution"): (0.104, 0.190),
        ("r", "Resolution"): (-0.027, 0.127),
    }
    for (target, name), bounds in printed.items():
        assert np.abs(np.array(found[target][name]) - bounds).max() < 0.04


def test_a_map_of_another_order_is_refused(real_data: Path, tmp_path: Path) -> None:
    for name in ("experiments_results.csv", "network_map.csv"):
        text = (real_data / "harun2024" / name).read_text()
        if name == "network_map.csv":
            head, first, second, *rest = text.splitlines()
            text = "\n".join([head, second, first, *rest])
        (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match="not of the same order"):
        read_table(tmp_path / "experiments_results.csv")
