"""`tunnelscope effects` as a user runs it: what it prints and writes, and what it says to bad input."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from tests.effects.test_pairs_and_slopes import planted

import tunnelscope as ts
from tunnelscope.results import make_table

CONTRACT = {"slopes", "r2", "r2_grouped", "r2_ceiling", "intervals", "pairs", "bands", "warnings"}
PAIR = {"variable", "levels", "target", "n", "means", "cliffs_delta", "p", "p_network"}
PLAN = '[[network]]\nname = "new"\naug = 1\ndepth = 11\nwidth = 0\n'


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    planted().frame.drop(columns="architecture").to_csv(path, index=False)
    return path


def test_the_whole_analysis(tunnelscope, table: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    out = tmp_path / "out"
    done = tunnelscope(
        *("effects", table, "--resamples", 3, "--predict", tmp_path / "plan.toml", "--out", out),
        *("--figures", "--json"),
    )
    assert done.code == 0, done.err
    told = done.json
    assert set(told) >= CONTRACT
    assert all(set(pair) >= PAIR for pair in told["pairs"])
    assert told["slopes"]["r"]["aug"] == pytest.approx(0.2, abs=0.02)
    low, high = told["intervals"]["r"]["aug"]
    assert low <= high
    assert told["predictions"][0]["name"] == "new"
    kept = json.loads((out / "effects.json").read_text())
    assert kept.pop("command").startswith("tunnelscope")
    assert kept == told
    with (out / "slopes.csv").open() as file:
        assert {row["variable"] for row in csv.DictReader(file)} == {"aug", "depth", "width"}
    page = (out / "report.html").read_text()
    assert f"{told['prediction_error']['r']['network']:.3f}" in page
    drawn = {path.stem for path in (out / "figures").glob("*.svg")}
    assert drawn == {path.stem for path in (out / "figures").glob("*.pdf")}
    assert {"slopes", "beeswarm", "boxes-aug", "pairs-depth", "dependence-width"} <= drawn


def test_as_text(tunnelscope, table: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    done = tunnelscope("effects", table, "--resamples", 0, "--predict", tmp_path / "plan.toml")
    assert done.code == 0
    assert "R² of networks left out" in done.out
    assert "networks that were left out are off by r 0.0" in done.out
    assert "new: r 0.7" in done.out


def test_the_same_in_python(table: Path) -> None:
    found = ts.effects(planted().frame.drop(columns="architecture"), resamples=0)
    assert found.slopes["r"].slope == ts.effects(table, resamples=0).slopes["r"].slope


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.csv"], "there is no table nowhere.csv"),
        (["TABLE", "--target", "rr"], "nearest: r"),
        (["TABLE", "--figures"], "--figures needs --out"),
        (["TABLE", "--predict", "PLAN"], "nearest: depth"),
    ],
)
def test_bad_input(tunnelscope, table: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "plan.toml").write_text(PLAN.replace("depth", "deptj"))
    places = {"TABLE": str(table), "PLAN": str(tmp_path / "plan.toml")}
    done = tunnelscope("effects", *(places.get(one, one) for one in arguments))
    assert done.code == 2
    assert said in done.err
    assert done.out == ""


@pytest.mark.parametrize("plan", ["network = [1]\n", "network = 3\n", "a = \n"])
def test_bad_plans(tunnelscope, table: Path, tmp_path: Path, plan: str) -> None:
    (tmp_path / "plan.toml").write_text(plan)
    done = tunnelscope("effects", table, "--predict", tmp_path / "plan.toml")
    assert done.code == 2
    assert "plan.toml" in done.err


def test_few_networks_have_pairs_alone(tunnelscope, tmp_path: Path) -> None:
    planted(6).frame.drop(columns="architecture").to_csv(tmp_path / "few.csv", index=False)
    done = tunnelscope("effects", tmp_path / "few.csv", "--json")
    assert done.code == 0
    assert done.json["slopes"] == {}
    assert done.json["pairs"]
    assert "6 networks are too few for slopes" in done.err
    assert tunnelscope("effects", tmp_path / "few.csv", "--slopes").code == 2


def scans(place: Path) -> list[Path]:
    """Two networks on two sets."""
    folders = []
    for depth in (2, 3):
        folders.append(place / f"mlp{depth}")
        model = f"zoo:mlp?depth={depth}&width=16&size=8"
        given = {"max_samples": 60, "seed": 0, "weights": "random", "cache": False}
        ts.scan(model, id="sklearn:digits", ood=["sklearn:digits?classes=0-4"], out=folders[-1], **given)
    return folders


def test_scans_as_a_table(tunnelscope, tmp_path: Path) -> None:
    folders = scans(tmp_path)
    done = tunnelscope("effects", *folders, "--json")
    assert done.code == 0, done.err
    assert done.json["variables"] == ["Depth", "Parameters"]
    assert {(pair["variable"], *pair["levels"]) for pair in done.json["pairs"]} == {("Depth", "2", "3")}
    kept = ts.load(folders[0]).run["tunnel"]["ood"]
    assert done.json["pairs"][0]["means"][0]["value"] == pytest.approx(
        next(iter(kept.values()))["retained_paper"]
    )
    (tmp_path / "own.csv").write_text("network,kind\nmlp2,a\nmlp3,b\n")
    done = tunnelscope("effects", *folders, "--variables", tmp_path / "own.csv", "--json")
    assert done.json["variables"] == ["kind"]
    alike = tunnelscope("effects", folders[0], "--variables", tmp_path / "own.csv")
    assert alike.code == 0
    (tmp_path / "own.csv").write_text("network,kind\nmlp2,a\n")
    done = tunnelscope("effects", *folders, "--variables", tmp_path / "own.csv")
    assert done.code == 2
    assert "no row for the network 'mlp3'" in done.err


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder of results: four networks under two probes, the second's r 20 points lower."""
    protocols = {"exact, bootstrap of test rows/v1": 0.0, "harun2024, bootstrap of test rows/v1": 0.2}
    rows = [
        {
            "run": f"net{number}",
            "dataset": dataset,
            "role": "ood",
            "quantity": "retained_paper",
            "value": 0.5 + 0.1 * number - less,
            "protocol": protocol if dataset == "one" else protocol.replace("test rows", "draws"),
        }
        for number in range(4)
        for dataset in ("one", "two")
        for protocol, less in protocols.items()
    ]
    make_table(rows).to_parquet(tmp_path / "results.parquet")
    variables = pd.DataFrame({"run": [f"net{number}" for number in range(4)], "depth": [1, 2, 1, 2]})
    variables.to_parquet(tmp_path / "variables.parquet")
    return tmp_path


def test_a_probe_is_chosen_of_several(tunnelscope, study: Path) -> None:
    def means(*more: str) -> list[float]:
        told = tunnelscope("effects", study, "--no-slopes", "--json", *more)
        assert told.code == 0, told.err
        return [mean["value"] for mean in told.json["pairs"][0]["means"]]

    assert means() == means("--probe", "exact") == pytest.approx([0.6, 0.7])
    assert means("--probe", "harun2024") == pytest.approx([0.4, 0.5])
    told = tunnelscope("effects", study, "--no-slopes").err
    assert "of several probes (exact, harun2024) r, ρ and A are those of exact" in told
    assert "several probes" not in tunnelscope("effects", study, "--no-slopes", "--probe", "exact").err


def test_a_probe_that_is_not_there(tunnelscope, study: Path, table: Path) -> None:
    told = tunnelscope("effects", study, "--probe", "harun2023")
    assert told.code == 2
    assert "nearest: harun2024" in told.err
    told = tunnelscope("effects", study, "--probe", "exact", "--variables", study / "variables.parquet")
    assert (told.code, "tells its variables itself" in told.err) == (2, True)
    told = tunnelscope("effects", table, "--probe", "exact")
    assert told.code == 2
    assert "only of a folder with results.parquet" in told.err
