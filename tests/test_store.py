"""The store gives back what was put in, whole or not at all, whoever else writes to it."""

import multiprocessing
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnelscope import examining
from tunnelscope.errors import MachineError
from tunnelscope.store import Store, default_folder, key_of


def put(store, key, features, about=None):
    with store.feature_writer(features.shape[1]) as writer:
        writer.write(slice(0, len(features)), features)
        writer.commit(key, len(features), about or {"layer": "a"})


def test_features_come_back_bit_for_bit_and_open_in_numpy(tmp_path):
    store, features = Store(tmp_path), torch.randn(7, 5)
    assert not store.has_features("ab" * 32)
    put(store, "ab" * 32, features)
    assert store.has_features("ab" * 32)
    assert torch.equal(store.read_features("ab" * 32), features)
    assert np.array_equal(np.load(store.entries()[0].path), features.numpy())


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 40), width=st.integers(1, 9), seed=st.integers(0, 99), kept=st.floats(0.1, 1))
def test_rows_may_come_in_any_order_and_fewer_than_planned(tmp_path_factory, rows, width, seed, kept):
    store, draws = Store(tmp_path_factory.mktemp("store")), torch.Generator().manual_seed(seed)
    features, kept = torch.randn(rows, width, generator=draws), max(1, int(kept * rows))
    with store.feature_writer(width) as writer:
        for numbers in torch.randperm(rows, generator=draws).split(3):
            writer.write(numbers, features[numbers])
        writer.commit("cd" * 32, kept, {})
    assert torch.equal(store.read_features("cd" * 32), features[:kept])


def test_what_is_not_committed_is_never_seen(tmp_path):
    store = Store(tmp_path)
    with store.feature_writer(3) as writer:
        writer.write(slice(0, 2), torch.ones(2, 3))
        assert store.entries() == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("harm", ["truncated", "garbage", "empty", "gone"])
def test_a_damaged_file_is_not_there(tmp_path, harm):
    store = Store(tmp_path)
    put(store, "ef" * 32, torch.ones(4, 4))
    path = store.entries()[0].path
    content = path.read_bytes()
    path.write_bytes({"truncated": content[:-1], "garbage": b"\x93NUMPY" + b"x" * 300}.get(harm, b""))
    if harm == "gone":
        path.unlink()
    assert not store.has_features("ef" * 32)
    with pytest.raises(MachineError, match="run the same command again"):
        store.read_features("ef" * 32)


def test_an_outcome_appears_whole_and_the_last_of_two_stays(tmp_path):
    store, key = Store(tmp_path), "12" * 32

    def write(text):
        return lambda folder: (folder / "value.txt").write_text(text)

    assert store.outcome(key) is None
    store.write_outcome(key, write("first"), {"layer": "a"})
    store.write_outcome(key, write("second"), {"layer": "a"})
    assert (store.outcome(key) / "value.txt").read_text() == "second"

    def fail(folder):
        (folder / "value.txt").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        store.write_outcome("34" * 32, fail, {})
    assert store.outcome("34" * 32) is None
    assert not list(tmp_path.rglob("*.partial"))


def test_freeing_deletes_entries_and_stale_partials_but_not_those_of_a_running_scan(tmp_path):
    store = Store(tmp_path)
    put(store, "56" * 32, torch.ones(10, 10))
    store.write_outcome("78" * 32, lambda folder: (folder / "x").write_bytes(b"1234"), {})
    old, new = (tmp_path / "features" / f".{name}.partial" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"12")
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    entries = store.entries()
    assert {entry.kind for entry in entries} == {"features", "outcome"}
    assert store.free(entries) == sum(entry.bytes for entry in entries) + 2
    assert store.entries() == []
    assert new.exists()
    assert not old.exists()


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    store = Store(tmp_path)
    with store.feature_writer(3) as writer:
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(MachineError, match=r"No space left on device; free some with `tunnelscope cache"):
            writer.write(slice(0, 1), torch.ones(1, 3))
    assert not list(tmp_path.rglob("*.partial"))


def test_keys_differ_with_every_part_and_not_with_time():
    assert key_of("a", 1, ["x"]) == key_of("a", 1, ["x"])
    assert len({key_of("a", "b"), key_of("ab"), key_of("a", "b", None), key_of("b", "a")}) == 4


def test_the_folder_is_the_environments(monkeypatch, tmp_path):
    monkeypatch.setenv("TUNNELSCOPE_CACHE", str(tmp_path / "here"))
    assert default_folder() == tmp_path / "here"
    monkeypatch.delenv("TUNNELSCOPE_CACHE")
    assert default_folder().name == "tunnelscope"


def _put_many(folder, value):
    store = Store(folder)
    for number in range(20):
        put(store, f"{number:064d}", torch.full((50, 20), float(number)), {"by": value})


def test_two_processes_in_one_store_do_no_harm(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_put_many, args=(tmp_path, value)) for value in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    store = Store(tmp_path)
    assert len(store.entries()) == 20
    for number in range(20):
        assert torch.equal(store.read_features(f"{number:064d}"), torch.full((50, 20), float(number)))


def test_an_outcome_is_named_by_all_code_that_decides_it():
    root = Path(examining.__file__).parent
    files = [file for place in examining.CODE for file in (root / place).rglob("*.py")]
    files += [root / f"{place}.py" for place in examining.CODE if (root / f"{place}.py").exists()]
    used = {name for file in files for name in re.findall(r"from tunnelscope\.(\w+)", file.read_text())}
    assert used - set(examining.CODE) == {"errors", "files", "memory", "protocol_names", "tasks"}
