"""`tunnelscope cache` lists what is kept and frees it; a scan can go without."""

import os
import time

import pytest

from tunnelscope.store import Store

SCAN = ("scan", "zoo:mlp?depth=2&width=16", "--id", "sklearn:digits?classes=0-4", "--probe", "ridge")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNNELSCOPE_CACHE", str(tmp_path / "cache"))
    return Store()


def test_entries_are_listed_by_network_and_set(cache, tunnelscope, tmp_path):
    assert tunnelscope(*SCAN, "--out", tmp_path / "run").code == 0
    listed = tunnelscope("cache")
    assert listed.code == 0
    assert "zoo:mlp" in listed.out
    assert "digits (train)" in listed.out
    assert str(cache.folder) in listed.err
    told = tunnelscope("cache", "--json").json
    assert told["folder"] == str(cache.folder)
    assert {entry["kind"] for entry in told["entries"]} == {"features", "outcome"}
    assert sum(entry["bytes"] for entry in told["entries"]) > 0


def test_old_entries_are_freed_and_new_ones_stay(cache, tunnelscope, tmp_path):
    tunnelscope(*SCAN, "--out", tmp_path / "run")
    entries = cache.entries()
    old = entries[:3]
    for entry in old:
        os.utime(entry.path, (time.time() - 40 * 24 * 3600,) * 2)
    ended = tunnelscope("cache", "--free", "--older", "30", "--json")
    assert {entry["key"] for entry in ended.json["entries"]} == {entry.key for entry in old}
    assert ended.json["freed"] >= sum(entry.bytes for entry in old)
    assert len(cache.entries()) == len(entries) - 3
    assert tunnelscope("cache", "--free", "--model", "resnet").code == 0
    assert len(cache.entries()) == len(entries) - 3
    assert tunnelscope("cache", "--free", "--down-to", "0").code == 0
    assert cache.entries() == []


def test_without_the_cache_nothing_is_kept(cache, tunnelscope, tmp_path):
    assert tunnelscope(*SCAN, "--no-cache", "--out", tmp_path / "run").code == 0
    assert not cache.folder.exists()
    assert tunnelscope("cache").code == 0


def test_a_wrong_size_is_one_line(tunnelscope):
    ended = tunnelscope("cache", "--free", "--down-to", "lots")
    assert (ended.code, ended.out) == (2, "")
    assert "--down-to 'lots' is no size; write it as 4GB or 500MB" in ended.err
