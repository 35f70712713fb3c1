"""The table of networks: what it keeps of a scan, which networks it knows, and when it is not believed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tunnelscope as ts
from tunnelscope.errors import RequestError
from tunnelscope.reproduce.harun2024 import kept, networks
from tunnelscope.reproduce.harun2024.kept import Record, put_records, read_records, record_of, settings_of
from tunnelscope.reproduce.harun2024.networks import EXACT, HELD_OUT, Networks
from tunnelscope.reproduce.lab import Lab, curve_of
from tunnelscope.reproduce.verdicts import Spread
from tunnelscope.store import default_folder
from tunnelscope.studies.networks import Cell


@pytest.fixture(scope="module")
def study(real_data: Path) -> Networks:
    return Networks(Lab(real_data, default_folder() / "reproduce"), "small")


@pytest.fixture(scope="module")
def cell(study: Networks) -> Cell:
    return study.chosen(model="vit_t", augmentation="none")[0]


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> ts.Scan:
    own, other = ts.load_data("sklearn:digits?classes=0-4"), ts.load_data("sklearn:digits?classes=5-9")
    model, place = "zoo:mlp?depth=3&width=16", tmp_path_factory.mktemp("scan")
    return ts.scan(
        model, id=own, ood={"high": other}, weights="random", probe="exact", out=place, cache=False
    )


@pytest.fixture
def records(cell: Cell, scan: ts.Scan) -> list[Record]:
    return [record_of(cell, probe, scan, 900) for probe in cell.scan.probes]


def same(one: Record, other: Record) -> bool:
    facts = all(getattr(one, name) == getattr(other, name) for name in (*kept.FACTS, "classes"))
    return (
        facts
        and one.values.keys() == other.values.keys()
        and all(np.array_equal(values, other.values[name]) for name, values in one.values.items())
    )


def test_a_record_is_what_the_scan_says(records: list[Record], scan: ts.Scan) -> None:
    record = records[0]
    own, other = scan.run["data"]
    assert (record.id, record.ood) == (own["key"], [other["key"]])
    assert record.classes == {own["key"]: 5, other["key"]: 5}
    assert record.values[other["key"], "probe_accuracy"] == pytest.approx(
        curve_of(scan, other["key"], "probe_accuracy")
    )
    frame = scan.frame
    told = frame[(frame["quantity"] == "retained") & (frame["dataset"] == other["key"])]["value"].iloc[0]
    assert record.values[other["key"], "retained"].tolist() == [told]
    assert (other["key"], "best_test_accuracy") not in record.values  # exact probes have no epochs


def test_a_table_gives_back_what_was_put_into_it(records: list[Record], tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    assert read_records(path) == {}
    put_records(records[:1], path)
    put_records(records[1:], path)
    changed = replace(records[0], own=0.25)
    put_records([changed], path)
    found = read_records(path)
    assert list(found) == [record.key for record in records]
    assert same(found[changed.key], changed)
    assert same(found[records[1].key], records[1])
    put_records([replace(changed, settings="of another study")], path)  # the same network, asked otherwise
    assert {key[2] for key in read_records(path)} == {"of another study", records[1].settings}


def known(monkeypatch, records: list[Record]) -> None:
    found = {record.key: record for record in records}
    monkeypatch.setattr(networks, "known_records", lambda: dict(found))


def test_a_users_records_of_another_study_hide_none_that_ship(records, monkeypatch, tmp_path) -> None:
    older = [replace(record, settings="of an older study", own=0.1) for record in records]
    put_records(records, tmp_path / kept.NAME)
    put_records(older, tmp_path / "own" / kept.NAME)
    monkeypatch.setattr(kept, "PACKAGED", tmp_path / "results.csv")
    monkeypatch.setattr(kept, "results_path", lambda: tmp_path / "own" / "results.csv")
    found = kept.known_records()
    assert all(same(found[record.key], record) for record in records)


class Asked(Exception):
    """That networks were to be trained."""


@pytest.fixture
def trains(monkeypatch) -> None:
    def run(*arguments, only, **settings):
        raise Asked(only)

    monkeypatch.setattr(networks, "run_study", run)
    monkeypatch.setattr(networks, "put_records", lambda records, path: pytest.fail("the table is written"))


def test_networks_of_the_table_are_not_trained(study, cell, records, monkeypatch, trains, tmp_path) -> None:
    known(monkeypatch, records)
    found = Networks(Lab(study.lab.data, tmp_path), "small")
    found.made([cell])
    kept_rate, exact = found.of([cell], HELD_OUT)[0], found.of([cell], EXACT)[0]
    ood = records[0].ood[0]
    assert kept_rate.retained[ood] == records[0].values[ood, "retained"][0]
    accuracy = records[0].values[ood, "probe_accuracy"]
    assert exact.retained[ood] == accuracy[-1] / accuracy.max()
    assert found.read == {records[0].hardware}
    assert "threads" in records[0].hardware


@pytest.mark.parametrize("why", ["other settings", "a probe is missing", "retrain", "smoke"])
def test_networks_are_trained_that_the_table_does_not_know(
    study, cell, records, monkeypatch, trains, tmp_path, why: str
) -> None:
    if why == "other settings":
        records = [records[0], replace(records[1], settings="of other epochs")]
    known(monkeypatch, records[:1] if why == "a probe is missing" else records)
    scale = "smoke" if why == "smoke" else "small"
    asked = Networks(Lab(study.lab.data, tmp_path), scale, retrain=why == "retrain")
    own = next(one for one in asked.cells if one.name == cell.name) if scale == "small" else asked.cells[0]
    with pytest.raises(Asked) as error:
        asked.made([own])
    assert error.value.args == ([own.name],)


def test_the_spread_between_seeds_is_pooled(study, records, monkeypatch, tmp_path) -> None:
    """Two kinds of ViT, 0.2 and 0.4 apart between their seeds; a third network has not learnt its task."""
    ood = records[0].ood[0]
    told = {("none", 0): 0.5, ("none", 1): 0.7, ("resized-crop-flip", 0): 0.9, ("resized-crop-flip", 1): 0.5}
    given = []
    for cell in study.chosen(model="vit_t"):
        r = told[cell.levels["training.augmentation"], cell.seed]
        values = records[0].values | {(ood, "retained"): np.array([r])}
        for probe in cell.scan.probes:
            own = 0.9 if (r, cell.seed) != (0.9, 0) else 0.01
            asked = settings_of(cell, probe)
            given.append(
                replace(records[0], network=cell.name, probe=probe, settings=asked, values=values, own=own)
            )
    known(monkeypatch, given)
    found = Networks(Lab(study.lab.data, tmp_path), "small")
    spread = found.spread(HELD_OUT, lambda curves: curves.r, {"vit_t"})
    assert spread == Spread(pytest.approx(20 / np.sqrt(2)), 1)  # of the first kind alone
    known(monkeypatch, [replace(one, own=0.9) for one in given])
    found = Networks(Lab(study.lab.data, tmp_path), "small")
    spread = found.spread(HELD_OUT, lambda curves: curves.r, {"vit_t"})
    assert spread == Spread(pytest.approx(np.sqrt((20**2 / 2 + 40**2 / 2) / 2)), 2)
    assert found.spread(HELD_OUT, lambda curves: curves.r, {"vggm11"}) is None
    assert found.read == set()


def test_settings_differ_where_networks_or_their_reading_do(study: Networks, cell: Cell) -> None:
    names = [settings_of(one, probe) for one in study.cells for probe in one.scan.probes]
    assert len(set(names)) == len(names)
    moved = cell.model_copy(update={"source": "/elsewhere/cifar100"})
    assert settings_of(moved, "exact") == settings_of(cell, "exact")
    coarse = cell.model_copy(update={"source": f"{cell.source}?label=coarse_label"})
    assert settings_of(coarse, "exact") != settings_of(cell, "exact")
    longer = cell.model_copy(update={"training": {**cell.training, "epochs": 21}})
    assert settings_of(longer, "exact") != settings_of(cell, "exact")


def test_a_damaged_table_is_said(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(RequestError, match="remove it, and the items"):
        read_records(path)
