"""A scan's folder gives back what was put in; the table has numbers or nothing."""

import math
import shutil

import pandas as pd
import pytest
import torch

import tunnelscope as ts
from tunnelscope.errors import MachineError, RequestError
from tunnelscope.files import write_whole
from tunnelscope.results import make_table


@pytest.fixture
def folder(demo_folder, tmp_path):
    """A copy of the demo's folder, to be spoilt."""
    return shutil.copytree(demo_folder, tmp_path / "demo")


def test_a_loaded_scan_has_its_probes_and_saves_them(folder, tmp_path):
    loaded = ts.load(folder)
    files = sorted(path.name for path in (folder / "probes").iterdir())
    assert len(loaded.probes) == len(files) == 13 * 2
    probe = loaded.probes["digits-2--hidden.3.relu--0"]
    expected = ts.load_probe(folder / "probes" / "digits-2--hidden.3.relu--0.safetensors")
    assert torch.equal(probe.weights, expected.weights)
    assert probe.accuracy == expected.accuracy
    loaded.save(tmp_path / "again")
    assert sorted(path.name for path in (tmp_path / "again" / "probes").iterdir()) == files
    again = ts.load(tmp_path / "again")
    assert again.run == loaded.run
    assert_same_probes(again.probes, loaded.probes)


def test_a_loaded_scan_saved_where_it_lies_keeps_its_probes(folder):
    before = dict(ts.load(folder).probes)
    ts.load(folder).save(folder)
    assert_same_probes(ts.load(folder).probes, before)


def assert_same_probes(probes, others):
    assert set(probes) == set(others)
    for name, probe in probes.items():
        for field, value in vars(probe).items():
            expected = getattr(others[name], field)
            same = torch.equal(value, expected) if isinstance(value, torch.Tensor) else value == expected
            assert same, (name, field)


def test_a_probe_is_read_when_it_is_asked_for(folder):
    (folder / "probes" / "digits--input--0.safetensors").write_bytes(b"no probe")
    loaded = ts.load(folder)  # reads none of them
    assert loaded.probes["digits--hidden.0.relu--0"] is loaded.probes["digits--hidden.0.relu--0"]
    with pytest.raises(RequestError, match=r"digits--input--0\.safetensors is no safetensors file"):
        loaded.probes["digits--input--0"]
    with pytest.raises(KeyError):
        loaded.probes["../run"]
    assert "digits--hidden.99.relu--0" not in loaded.probes


def test_a_scan_of_which_only_results_were_kept_has_no_probes(folder):
    shutil.rmtree(folder / "probes")
    assert dict(ts.load(folder).probes) == {}


def test_what_is_not_finite_is_null_in_the_table(tmp_path):
    values = [0.5, math.inf, -math.inf, math.nan, None]
    make_table({"value": value, "low": value, "high": value} for value in values).to_parquet(tmp_path / "t")
    for name in ("value", "low", "high"):
        column = pd.read_parquet(tmp_path / "t")[name]
        assert column.dtype == "float64"
        assert column[0] == 0.5
        assert column[1:].isna().all()


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(tmp_path):
    (tmp_path / "kept").write_text("old")

    def write(path):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(MachineError, match="disk full; make room"):
        write_whole(tmp_path / "kept", write)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
