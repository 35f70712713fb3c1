"""Items of the 2024 paper that its released table carries: every printed number, and the known exceptions."""

from pathlib import Path

import numpy as np
import pytest

from tunnelscope.reproduce.harun2024.released import (
    AS_PRINTED,
    BY_NAME,
    NAMES,
    NORMALISED,
    Released,
)
from tunnelscope.reproduce.items import ITEMS, RELEASED, TYPESET
from tunnelscope.reproduce.ledger import Row
from tunnelscope.reproduce.running import reproduce
from tunnelscope.reproduce.verdicts import AGREES, DISAGREES, NOT_COMPARABLE


def rows_of(item: str, data: Path, out: Path | None = None) -> list[Row]:
    return reproduce([ITEMS[f"harun2024/{item}"]], "smoke", data=data, out=out)


UNDRAWN = ("table5", "table6", "table7", *TYPESET)
EXCEPTIONS = ("table1", "table6", "table9", "table13")  # which stand below


@pytest.mark.parametrize("item", [*RELEASED, *TYPESET])
def test_an_item_runs(item: str, real_data: Path, tmp_path: Path) -> None:
    rows = rows_of(item, real_data, tmp_path)
    assert len({(row.claim, row.reading) for row in rows}) == len(rows), "two rows say the same"
    for row in rows:
        assert row.command == f"tunnelscope reproduce harun2024/{item} --scale smoke"
        assert row.verdict in (AGREES, DISAGREES, NOT_COMPARABLE)
        assert row.test or row.verdict == NOT_COMPARABLE
    drawn = list(tmp_path.glob("*.svg"))
    assert len(drawn) == (0 if item in UNDRAWN else 1)
    if item not in EXCEPTIONS:
        by_rule = [row for row in rows if row.claim.startswith("H1 ") and NORMALISED not in row.reading]
        assert {row.verdict for row in by_rule} <= {AGREES}


def test_all_pairs_come_out_and_p_values_as_far_as_the_order_of_rows_gives_them(real_data: Path) -> None:
    rows = rows_of("table13", real_data)
    deltas = [row for row in rows if "|δ|" in row.claim]
    assert len(deltas) == 3 * 45
    assert {row.verdict for row in deltas} == {AGREES}
    agree = {
        (name, reading): sum(
            row.verdict == AGREES
            for row in rows
            if row.claim == f"H1 p of {name} between two levels" and row.reading.endswith(reading)
        )
        for name in NAMES.values()
        for reading in (AS_PRINTED, BY_NAME)
    }
    assert agree["r", AS_PRINTED] == 44
    assert agree["A", AS_PRINTED] >= 40
    assert agree["r", BY_NAME] < 44  # resolutions are paired wrongly in print


def test_two_networks_have_another_rho_than_printed(real_data: Path) -> None:
    apart = [row.reading for row in rows_of("table6", real_data) if row.verdict == DISAGREES]
    assert apart == ["ResNet-18 ImageNet-100 224² no aug", "ViT-T+ ImageNet-100 32² no aug"]


def test_the_heads_of_table_4_are_swapped(real_data: Path) -> None:
    misses = {row.reading: row.ours for row in rows_of("table4", real_data) if row.claim.startswith("H14")}
    assert misses == {"as printed": 20, "with the heads Pets and CIFAR swapped": 0}


def test_the_intervals_of_table_9_have_n_degrees_of_freedom(real_data: Path) -> None:
    ends = [row for row in rows_of("table9", real_data) if "interval" in row.claim]
    assert len(ends) == 2 * 2 * 8
    assert {row.verdict for row in ends if row.reading.endswith("; n degrees of freedom")} == {AGREES}
    assert {row.verdict for row in ends if row.reading.endswith("n − 1 degrees of freedom")} == {DISAGREES}


def test_table_12_comes_out_whole(real_data: Path) -> None:
    means = [row for row in rows_of("table12", real_data) if row.claim.startswith("H1 ")]
    assert len(means) == 3 * 31
    assert {row.verdict for row in means} == {AGREES}


def test_table_4_without_its_file_and_with_another(real_data: Path, tmp_path: Path, tunnelscope) -> None:
    folder = tmp_path / "harun2024"
    folder.mkdir()
    for name in ("experiments_results.csv", "network_map.csv"):
        (folder / name).write_bytes((real_data / "harun2024" / name).read_bytes())
    done = tunnelscope("reproduce", "harun2024/table4", "--scale", "smoke", "--data", tmp_path)
    assert done.code == 2
    assert "Table 4 of the paper belongs there" in done.err
    (folder / "table4_ood_accuracy_transcribed.csv").write_text("block,model\n0,VGGm-11\n")
    done = tunnelscope("reproduce", "harun2024/table4", "--scale", "smoke", "--data", tmp_path)
    assert done.code == 2
    assert "lacks the column resolution" in done.err


def test_differences_are_those_of_networks(real_data: Path) -> None:
    table = Released(real_data / "harun2024" / "experiments_results.csv", 2)
    augmented = table.differences("Augmentations", ("0", "2"), "r")
    assert len(augmented) == 32
    assert augmented.mean() == pytest.approx(14.15, abs=0.01)
    assert (augmented > 0).sum() == 29
    for is_augmented, change in ((False, -31.7), (True, -2.6)):
        sizes = [table.r_of("ViT-T", size, is_augmented).mean() for size in (32, 224)]
        assert np.diff(sizes) == pytest.approx(change, abs=0.05)


def test_a_table_that_is_not_there(tunnelscope, tmp_path: Path) -> None:
    done = tunnelscope("reproduce", "harun2024/table13", "--data", tmp_path)
    assert done.code == 2
    assert "experiments_results.csv is not there" in done.err
    assert done.out == ""
    (tmp_path / "harun2024").mkdir()
    (tmp_path / "harun2024" / "experiments_results.csv").touch()
    done = tunnelscope("reproduce", "harun2024/table13", "--data", tmp_path)
    assert done.code == 2
    assert "network_map.csv is not there" in done.err
