"""Damaged and empty images end a scan, or are left out, counted and named."""

import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import tunnelscope as ts

sys.path.insert(0, str(Path(__file__).parent / "data"))
from planted_images import pixels_of, write_folders

SMALL = "zoo:mlp?depth=2&width=8"


@pytest.fixture
def folders(tmp_path):
    write_folders(tmp_path / "set" / "train", {"ant": 20, "bee": 20, "cow": 20})
    write_folders(tmp_path / "set" / "test", {"ant": 6, "bee": 6, "cow": 6})
    return tmp_path / "set"


def damage(folder: Path, *names: str) -> None:
    """Empty the first file, cut the second, and put text in place of the others."""
    for place, name in enumerate(names):
        path = folder / name
        path.write_bytes([b"", path.read_bytes()[:60], b"no image"][min(place, 2)])


BAD = ("train/ant/003.png", "train/bee/000.png", "train/cow/019.png", "train/cow/007.png", "test/ant/005.png")


def test_a_damaged_image_ends_a_scan_in_one_line(tunnelscope, folders):
    damage(folders, *BAD)
    for command in ("scan", "record"):
        given = (folders,) if command == "record" else ("--id", folders)
        out = folders.parent / ("f.safetensors" if command == "record" else "run")
        ended = tunnelscope(command, SMALL, *given, "--out", out)
        assert (ended.code, ended.out) == (2, "")
        last = ended.err.strip().splitlines()[-1]
        assert last.startswith(f"tunnelscope: {folders}/train/ant/003.png of set (train): ")
        assert "cannot be decoded" in last
        assert "no data at all; mend or remove it, or leave such images out with --skip-corrupt" in last


def test_damaged_images_are_left_out_counted_and_named(tunnelscope, folders):
    damage(folders, *BAD)
    ended = tunnelscope(
        "scan", SMALL, "--id", folders, "--out", folders.parent / "run", "--skip-corrupt", "--json"
    )
    assert ended.code == 0, ended.err
    [training, test] = [line for line in ended.json["warnings"] if "left out" in line]
    assert training.startswith("set: 4 of 60 training images left out, they cannot be decoded: ")
    assert [name in training for name in BAD] == [True, True, False, True, False]  # the first three, in order
    assert training.endswith("; …")
    assert "--skip-corrupt" not in training
    assert test.startswith("set: 1 of 18 test images left out")
    [entry] = ended.json["data"]
    assert (entry["n_train"], entry["n_test"]) == (56, 17)
    assert {(probe["n_train"], probe["n_test"]) for probe in ended.json["probes"]} == {(56, 17)}
    frame = ts.load(folders.parent / "run").table()
    assert set(frame["n_train"]) == {56}


def test_skipping_is_the_same_as_removing(folders):
    damage(folders, *BAD)
    skipped = ts.scan(SMALL, id=str(folders), skip_corrupt=True)
    for name in BAD:
        (folders / name).unlink()
    removed = ts.scan(SMALL, id=str(folders))
    assert skipped.run["fingerprints"] == removed.run["fingerprints"]
    assert skipped.run["probes"] == removed.run["probes"]
    layers = [[{**layer} for layer in scan.run["layers"]] for scan in (skipped, removed)]
    assert layers[0] == layers[1]


def test_recorded_rows_keep_their_labels(tunnelscope, folders):
    damage(folders, *BAD)
    out = folders.parent / "features.safetensors"
    ended = tunnelscope("record", SMALL, folders, "--out", out, "--skip-corrupt", "--batch-size", 7)
    assert ended.code == 0, ended.err
    assert "warning: 4 of 60 training images left out" in ended.err
    for name in BAD:
        (folders / name).unlink()
    clean = folders.parent / "clean.safetensors"
    assert tunnelscope("record", SMALL, folders, "--out", clean).code == 0
    first, second = load_file(out), load_file(clean)
    assert first.keys() == second.keys()
    for name, tensor in second.items():
        assert first[name].shape == tensor.shape
        assert np.allclose(first[name], tensor, atol=1e-6)
    assert first["train/labels"].bincount().tolist() == [19, 19, 18]


def test_more_than_half_is_an_error_all_the_same(folders):
    names = [f"test/{name}/00{row}.png" for name in ("ant", "bee", "cow") for row in range(3)]
    damage(folders, *names)
    assert ts.scan(SMALL, id=str(folders), skip_corrupt=True).run["data"][0]["n_test"] == 9
    damage(folders, "test/cow/005.png")
    with pytest.raises(ts.RequestError, match=r"more than half of the 18 images .*: .*ant/000\.png"):
        ts.scan(SMALL, id=str(folders), skip_corrupt=True)


def test_a_class_that_skipping_empties_is_named(folders):
    damage(folders, *[f"test/cow/00{row}.png" for row in range(6)])
    warnings = ts.scan(SMALL, id=str(folders), skip_corrupt=True).run["warnings"]
    assert any("1 of 3 classes (cow) are without test rows" in line for line in warnings)


def test_warnings_of_the_data_are_in_the_run(tmp_path):
    write_folders(tmp_path / "s", {"ant": 10, "bee": 10, "cow": 1})
    warnings = ts.scan(SMALL, id=str(tmp_path / "s")).run["warnings"]
    assert any(line.startswith("s: no test split: 20 % of each class, seed 0") for line in warnings)
    assert any("1 of 3 classes (cow) are without test rows" in line for line in warnings)


def test_images_in_memory_are_never_skipped():
    class Broken(list):
        broken = 3

        def __getitem__(self, index):
            if index == self.broken:
                raise OSError("no image")
            return super().__getitem__(index)

    images = Broken(pixels_of(index, index % 2) for index in range(20))
    for broken in (0, 3, 19):
        images.broken = broken
        with pytest.raises(ts.RequestError, match=f"image {broken} of arrays: OSError: no image"):
            ts.scan(SMALL, id=(images, [0, 1] * 10), skip_corrupt=True)
