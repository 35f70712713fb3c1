"""`tunnelscope effects --without-leaks`: what it leaves out, and what it says of tables that do not tell."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.effects.test_pairs_and_slopes import planted

import tunnelscope as ts
from tunnelscope.data import load_data
from tunnelscope.errors import RequestError
from tunnelscope.health import FEW_LIKE
from tunnelscope.results import make_table


def table(leaking: str, reason: object = "shares 3 classes") -> pd.DataFrame:
    """The planted table with one OOD set that leaks."""
    frame = planted().frame.drop(columns="architecture")
    return frame.assign(leakage=np.where(frame["ood"] == leaking, reason, ""))


def test_the_filter_changes_the_rows_that_are_used(tunnelscope, tmp_path: Path) -> None:
    frame = planted().frame.drop(columns="architecture")
    name = frame["ood"].iloc[0]
    frame.loc[frame["ood"] == name, "r"] = (
        1 - frame.loc[frame["ood"] == name, "r"]
    )  # a planted effect upside down
    leaking = np.where(frame["ood"] == name, "shares 3 classes", None)
    frame.assign(leakage=leaking).to_csv(tmp_path / "t.csv", index=False)
    rest = ts.effects(frame[frame["ood"] != name], resamples=0)
    whole = ts.effects(frame, resamples=0)
    out = tmp_path / "out"
    done = tunnelscope(
        "effects", tmp_path / "t.csv", "--without-leaks", "--resamples", 0, "--json", "--out", out
    )
    assert done.code == 0, done.err
    assert done.json["rows"] == len(rest.observations.frame) < len(whole.observations.frame)
    assert done.json["slopes"]["r"] == pytest.approx(rest.as_dict()["slopes"]["r"])
    assert done.json["slopes"]["r"] != pytest.approx(whole.as_dict()["slopes"]["r"])
    for pair, expected in zip(done.json["pairs"], rest.pairs, strict=True):
        assert (pair["variable"], pair["n"]) == (expected.variable, expected.n)
        assert pair["means"][0]["value"] == pytest.approx(expected.means[0].value)
    count = frame["network"].nunique()
    assert done.json["warnings"][0] == f"left out: {name} of {count} networks: shares 3 classes"
    assert {"network": frame["network"].iloc[0], "ood": name, "reason": "shares 3 classes"} in done.json[
        "left_out"
    ]
    assert len(done.json["left_out"]) == count
    assert f"warning: left out: {name} of" in done.err
    assert json.loads((out / "effects.json").read_text())["left_out"] == done.json["left_out"]
    page = (out / "report.html").read_text()
    assert "shares 3 classes" in page.partition('<section id="left-out">')[2].partition("</section>")[0]


def test_without_the_option_nothing_is_left_out() -> None:
    frame = planted().frame
    found = ts.effects(table(frame["ood"].iloc[0]), slopes=False)
    assert len(found.observations.frame) == len(frame)
    assert found.left_out == []
    assert "leakage" not in found.observations.variables


@pytest.mark.parametrize("column", [[True, False], [1, 0], [1.0, np.nan], ["yes it does", "no"], ["x", None]])
def test_a_column_may_hold_marks_or_reasons(column: list) -> None:
    frame = planted().frame
    name = frame["ood"].iloc[0]
    marks = [column[0] if one == name else column[1] for one in frame["ood"]]
    found = ts.effects(frame.assign(leakage=marks), slopes=False, without_leaks=True)
    assert {one["ood"] for one in found.left_out} == {name}
    assert name not in set(found.observations.frame["ood"])


@pytest.mark.parametrize("name", ["table.csv", "released.csv"])
def test_a_table_that_does_not_tell_is_refused(tunnelscope, tmp_path: Path, name: str) -> None:
    frame = planted().frame.drop(columns="architecture")
    if name == "released.csv":
        columns = ["Stem", "Spatial Reduction", "CNN vs ViT", "Augmentations", "Resolution", "ID Class Count"]
        columns += ["OverParam. Level", "Depth", "Percentage OOD retained", "Pearson Correlation"]
        frame = pd.DataFrame(dict.fromkeys([*columns, "ID OOD Alignment"], [1.0] * 16))
    frame.to_csv(tmp_path / name, index=False)
    done = tunnelscope("effects", tmp_path / name, "--without-leaks")
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert name in line
    assert "give it a column 'leakage'" in line


def test_nothing_left_is_refused() -> None:
    frame = planted().frame.assign(leakage="the same classes")
    with pytest.raises(RequestError, match="nothing is left"):
        ts.effects(frame, without_leaks=True)


def results(place: Path, told: dict[tuple[str, str], tuple[float, float]], looked_at: bool = True) -> Path:
    """A folder of results whose OOD sets share so many classes, and such a share of images."""
    place.mkdir(exist_ok=True)
    rows = []
    for (run, ood), (classes, share) in told.items():
        about = {"run": run, "dataset": ood, "role": "ood", "split": "test", "protocol": "p", "seed": 0}
        values = {"retained_paper": 0.9, "pearson": 0.8, "alignment": 0.2}
        values |= {"shared_classes": classes, "known_images": share} if looked_at else {}
        rows += [about | {"quantity": name, "value": value} for name, value in values.items()]
    make_table(rows).to_parquet(place / "results.parquet")
    runs = sorted({run for run, _ in told})
    variables = pd.DataFrame({"run": runs, "depth": range(len(runs))})
    variables.to_parquet(place / "variables.parquet")
    return place


def test_results_are_judged_by_classes_and_by_the_share_of_images(tmp_path: Path) -> None:
    told = {
        ("a", "names"): (2, 0.0),
        ("a", "images"): (0, 2 * FEW_LIKE),
        ("a", "few"): (0, FEW_LIKE),  # no more than a few
        ("a", "numbered"): (np.nan, 0.0),  # classes without names
        ("b", "names"): (0, 0.0),
        ("b", "images"): (1, 0.5),
    }
    found = ts.effects(results(tmp_path / "study", told), slopes=False, without_leaks=True)
    left = {(one["network"], one["ood"]): one["reason"] for one in found.left_out}
    assert set(left) == {("a", "names"), ("a", "images"), ("b", "images")}
    assert left["a", "names"] == "shares 2 classes with the ID set"
    assert left["b", "images"].startswith("shares 1 class with the ID set and 50.0% of its test examples")
    kept = set(found.observations.frame[["network", "ood"]].itertuples(index=False, name=None))
    assert kept == {("a", "few"), ("a", "numbered"), ("b", "names")}


def test_a_network_of_which_nothing_is_left_is_named(tmp_path: Path) -> None:
    told = {("a", "x"): (1, 0.0), ("b", "x"): (0, 0.0), ("c", "x"): (0, 0.0)}
    found = ts.effects(results(tmp_path / "study", told), slopes=False, without_leaks=True)
    assert "left out: nothing is left of a" in found.warnings
    assert found.observations.networks == ["b", "c"]


def test_results_of_scans_that_did_not_look_are_refused(tunnelscope, tmp_path: Path) -> None:
    told = {("a", "x"): (0, 0.0), ("b", "x"): (0, 0.0)}
    done = tunnelscope("effects", results(tmp_path / "old", told, looked_at=False), "--without-leaks")
    assert done.code == 2
    assert "2 of 2 observations (first: a on x)" in done.err
    assert "scan these networks again" in done.err


def test_scans_are_judged_by_their_own_tables(tunnelscope, tmp_path: Path) -> None:
    low = load_data("sklearn:digits?classes=0-4")
    own = replace(low, key="own", train=low.test, test=low.train)  # test images of `same` were trained on
    for depth in (2, 3):
        model = f"zoo:mlp?depth={depth}&width=8&size=8"
        others = {"same": low, "other": "sklearn:digits?classes=5-9"}
        given = {"probe": "ridge", "weights": "random", "cache": False}
        ts.scan(model, id=own, ood=others, out=tmp_path / f"mlp{depth}", **given)
    folders = [tmp_path / "mlp2", tmp_path / "mlp3"]
    done = tunnelscope("effects", *folders, "--without-leaks", "--json")
    assert done.code == 0, done.err
    assert {(one["network"], one["ood"]) for one in done.json["left_out"]} == {
        ("mlp2", "same"),
        ("mlp3", "same"),
    }
    assert done.json["rows"] == 2
    assert tunnelscope("effects", *folders, "--json").json["rows"] == 4
