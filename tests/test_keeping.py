"""Nothing is done twice, and an interrupted scan ends in the table that it would have ended in."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import tunnelscope as ts
from tunnelscope.data import Preprocessing
from tunnelscope.recording import Recorder
from tunnelscope.store import Store

MODEL = "zoo:mlp?depth=4&width=24"
ID, OOD = "sklearn:digits?classes=0-4", "sklearn:digits?classes=5-9"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNNELSCOPE_CACHE", str(tmp_path / "cache"))
    return Store()


@pytest.fixture
def passes(monkeypatch):
    """Counts the inputs that go through a network to be recorded."""
    seen = []
    features = Recorder._features

    def counted(recorder, batch, whole, warnings):
        seen.append(len(batch))
        return features(recorder, batch, whole, warnings)

    monkeypatch.setattr(Recorder, "_features", counted)
    return seen


def folders(path, rows=30):
    """Class folders on the disk, as most people's data."""
    from PIL import Image

    draws = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("ant", "bee"):
            place = path / split / label
            place.mkdir(parents=True)
            for number in range(rows):
                pixels = draws.integers(0, 200, (8, 8, 3), dtype=np.uint8) + 50 * (label == "bee")
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number:03d}.png")
    return path


def scan(**settings):
    return ts.scan(MODEL, id=ID, ood=OOD, **{"probe": "ridge", **settings})


def same(one, two):
    pd.testing.assert_frame_equal(one.table(), two.table())


def test_a_second_scan_makes_no_pass_and_gives_the_same_table(cache, passes):
    first = scan()
    assert sum(passes) == 1797  # every digit once
    passes.clear()
    second = scan()
    assert passes == []
    same(first, second)
    same(first, scan(cache=False))
    assert first.run["network_accuracy"] == second.run["network_accuracy"]


def test_other_probes_use_the_same_features(cache, passes, monkeypatch):
    scan()
    passes.clear()
    other = scan(probe="knn")
    assert passes == []
    assert {probe["protocol"] for probe in other.run["probes"]} == {"knn/v1"}


def test_only_missing_layers_are_recorded(cache, passes):
    part = ts.scan(MODEL, ood=OOD, layers="hidden.0.relu", probe="ridge")
    entries = len(cache.entries())
    whole = ts.scan(MODEL, ood=OOD, probe="ridge")
    assert whole.run["layers"][0]["name"] == part.run["layers"][0]["name"]
    features = [entry for entry in cache.entries() if entry.kind == "features"]
    assert len(features) == 2 * (4 + 1)  # four layers and the input, two splits
    assert len(cache.entries()) > entries


@pytest.mark.parametrize("moment", range(10))
def test_a_scan_interrupted_anywhere_ends_in_the_same_table(cache, passes, moment, monkeypatch):
    reference = scan(cache=False)
    calls = 0
    stop = random.Random(moment).randrange(1, 24)

    def progress(stage, done, total):
        nonlocal calls
        calls += 1
        if calls == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(progress=progress)
    passes.clear()
    again = scan()
    assert sum(passes) < 1797 or stop <= 6  # the first split has six batches
    same(reference, again)


def test_files_that_change_are_read_again(cache, passes, tmp_path):
    data = folders(tmp_path / "photos")
    model = "zoo:mlp?depth=2&width=16"
    first = ts.scan(model, id=str(data), probe="ridge")
    passes.clear()
    same(first, ts.scan(model, id=str(data), probe="ridge"))
    assert passes == []
    image = data / "train" / "ant" / "000.png"
    image.write_bytes((data / "train" / "bee" / "001.png").read_bytes())
    changed = ts.scan(model, id=str(data), probe="ridge")
    assert sum(passes) == 120
    assert changed.run["fingerprints"]["data"] != first.run["fingerprints"]["data"]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.act = nn.Conv2d(3, 8, 3), nn.ReLU()
        self.second, self.last = nn.Conv2d(8, 8, 3), nn.ReLU()
        self.scale = 1.0

    def forward(self, x):
        return self.last(self.second(self.act(self.first(x)) * self.scale))


def images(rows=60):
    draws = np.random.default_rng(0)
    labels = np.arange(rows) % 3
    return (draws.integers(0, 80, (rows, 8, 8, 3)) + 50 * labels[:, None, None, None]).astype(
        np.uint8
    ), labels


def test_what_changes_the_features_is_in_their_name(cache, passes):
    def accuracy(net=None, **settings):
        passes.clear()
        ts.scan(net or Net(), ood=images(), probe="ridge", **settings)
        return bool(passes)

    scaled, weighted, prepared = Net(), Net(), Net()
    scaled.scale = 2.0
    weighted.second.weight.data += 1
    prepared.preprocessing = Preprocessing(size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3)
    assert accuracy()
    assert not accuracy()
    for net in (scaled, weighted, prepared):
        assert accuracy(net)
        assert not accuracy(net)
    for settings in ({"pool": "avg"}, {"pool": "flatten"}):
        assert accuracy(**settings)
        assert not accuracy(**settings)
    assert not accuracy(batch_size=7)  # equal up to rounding


def test_damaged_images_left_out_stay_left_out(cache, passes, tmp_path):
    data = folders(tmp_path / "photos")
    (data / "train" / "ant" / "003.png").write_bytes(b"")
    model = "zoo:mlp?depth=2&width=16"
    first = ts.scan(model, id=str(data), probe="ridge", skip_corrupt=True)
    passes.clear()
    second = ts.scan(model, id=str(data), probe="ridge", skip_corrupt=True)
    assert passes == []
    same(first, second)
    assert any("1 of 60 training images left out" in line for line in second.run["warnings"])
    with pytest.raises(ts.RequestError, match=r"003\.png"):
        ts.scan(model, id=str(data), probe="ridge")


def test_a_damaged_cache_is_made_good(cache, passes):
    reference = scan()
    for entry in cache.entries():
        if entry.kind == "features":
            entry.path.write_bytes(entry.path.read_bytes()[:-4])
    for path in cache.folder.rglob("outcome.json"):
        path.write_text("{")
    passes.clear()
    same(reference, scan())
    assert sum(passes) > 0


def test_two_scans_at_once_do_no_harm(cache):
    reference, found = scan(cache=False), {}
    workers = [
        threading.Thread(target=lambda number=number: found.update({number: scan()})) for number in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for number in range(3):
        same(reference, found[number])


@pytest.mark.slow
def test_a_killed_scan_leaves_nothing_that_is_read(cache, tmp_path):
    command = [sys.executable, "-c", "from tunnelscope.cli import main; main()"]
    command += ["scan", "zoo:mlp?depth=6&width=128", "--id", ID, "--ood", OOD, "--seeds", "3"]
    environment = dict(os.environ)
    for number, seconds in enumerate(np.linspace(2.5, 9, 6)):
        process = subprocess.Popen([*command, "--out", str(tmp_path / "run")], env=environment)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "run" / "run.json").exists() or number > 2
    ended = subprocess.run([*command, "--out", str(tmp_path / "run")], env=environment, check=True)
    assert ended.returncode == 0
    fresh = subprocess.run([*command, "--out", str(tmp_path / "fresh"), "--no-cache"], env=environment)
    assert fresh.returncode == 0
    one, two = (ts.load(tmp_path / name).table().drop(columns="run") for name in ("run", "fresh"))
    pd.testing.assert_frame_equal(one, two)
