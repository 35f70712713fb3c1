"""Tar shards: the same images as in any other form, and damage that is named."""

import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from planted_images import (
    NAMES,
    TEST,
    TRAIN,
    encode,
    fingerprint,
    pixels_of,
    planted_labels,
    planted_rows,
    write_folders,
    write_parquet,
)

from tunnelscope.data import load_data
from tunnelscope.errors import RequestError


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, **options) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def members_of(labels, start=0, label=None) -> dict[str, bytes]:
    """Members KEY.png and KEY.cls (or what `label(number)` gives: an extension and its content)."""
    members = {}
    for index, number in enumerate(labels, start):
        extension, content = label(number) if label else ("cls", str(number).encode())
        members |= {f"{index:05}.png": encode(pixels_of(index, number)), f"{index:05}.{extension}": content}
    return members


@pytest.fixture
def shards(tmp_path):
    """The animals of `animals`, as shards: training rows in two, names in the label files."""
    folder = tmp_path / "tars"
    write_tar(folder / "train-000000.tar", members_of(TRAIN[:7]))
    write_tar(folder / "train-000001.tar", members_of(TRAIN[7:], start=7))
    write_tar(folder / "val-000000.tar", members_of(TEST))
    return folder


def test_tar_and_parquet_of_the_same_images_have_one_fingerprint(shards, animals):
    tar, parquet = load_data(str(shards)), load_data(str(animals))
    assert fingerprint(tar) == fingerprint(parquet)
    assert tar.train.labels.tolist() == TRAIN == planted_labels(tar.train)
    assert planted_rows(tar.train) == list(range(12))
    assert tar.class_names == ("0", "1", "2")
    assert "labels: .cls members" in tar.notes
    assert "test: the validation split (there is no test split)" in tar.notes


@pytest.mark.parametrize(
    ("label", "query"),
    [
        (lambda number: ("txt", NAMES[number].encode() + b"\n"), ""),
        (lambda number: ("json", json.dumps({"label": NAMES[number], "size": 1}).encode()), ""),
        (lambda number: ("json", json.dumps({"label": 0, "kind": NAMES[number]}).encode()), "?label=kind"),
    ],
)
def test_labels_may_be_names_in_txt_or_json(tmp_path, animals, label, query):
    write_tar(tmp_path / "s" / "train" / "0.tar", members_of(TRAIN, label=label))
    write_tar(tmp_path / "s" / "test" / "0.tar", members_of(TEST, label=label))
    data = load_data(f"{tmp_path / 's'}{query}")
    assert data.class_names == NAMES
    assert fingerprint(data) == fingerprint(load_data(str(animals)))


def test_one_tar_and_patterns_are_sources_too(shards, animals):
    whole = fingerprint(load_data(str(shards)))
    assert fingerprint(load_data(f"{shards}/*.tar")) == whole
    assert fingerprint(load_data(f"{shards}/{{train-{{000000..000001}},val-000000}}.tar")) == whole
    assert fingerprint(load_data(f"{animals}/*.parquet")) == whole
    training = load_data(f"{shards}/train-00000{{0..1}}.tar?classes=0,1", seed=2)
    assert len(training.train) + len(training.test) == 8
    alone = load_data(str(shards / "train-000000.tar"))
    assert len(alone.train) + len(alone.test) == 7
    assert "no test split: 20 % of each class, seed 0" in alone.notes


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("train-{000000..000002}.tar", "no file .*train-000002.tar, which is part of .*check the pattern"),
        ("nothing-*.tar", "no file .*nothing-\\*.tar; check the pattern"),
        ("train-{9..0}.tar", "runs backwards; write \\{0..9\\}"),
        ("train-{0..999999999999}.tar", "more than 100,000 files"),
        ("{0..999}{0..999}.tar", "more than 100,000 files"),
        ("{train-000000.tar,a.parquet}", "no file .*a.parquet"),
        ("*", "files that end in .tar, .txt; a pattern is for"),
    ],
)
def test_patterns_that_mean_no_shards_are_refused(shards, pattern, words):
    (shards / "notes.txt").write_text("hello")
    with pytest.raises(RequestError, match=words) as caught:
        load_data(f"{shards}/{pattern}")
    assert "\n" not in str(caught.value)


def test_class_folders_win_over_the_archive_they_came_in(tmp_path):
    write_folders(tmp_path / "set", {"ant": 5, "bee": 5})
    write_tar(tmp_path / "set" / "images.tar", members_of([0, 1] * 5))
    assert load_data(str(tmp_path / "set")).class_names == ("ant", "bee")


def test_images_are_read_by_threads_in_any_order(tmp_path):
    labels = [index % 3 for index in range(200)]
    data = load_data(str(write_tar(tmp_path / "a.tar", members_of(labels))))
    order = np.random.default_rng(0).permutation(len(data.train)).repeat(3)
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(lambda index: np.asarray(data.train.images[int(index)]), order))
    assert [int(image[0, 0, 1]) for image in read] == data.train.labels[order].tolist()


def test_long_names_folders_and_other_members_are_no_trouble(tmp_path):
    members = {"README.md": b"hello", **members_of([0, 1] * 5), "00000.meta.json": b"{}"}
    long = {f"{'deep/' * 40}{name}": content for name, content in members.items()}
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = write_tar(tmp_path / "a.tar", members | long, format=kind)
        data = load_data(str(path))
        assert len(data.train) + len(data.test) == 20
        assert planted_labels(data.train) == data.train.labels.tolist()


def test_groups_of_json_members_stay_on_one_side(tmp_path):
    members = {}
    for index in range(60):
        members[f"{index}.png"] = encode(pixels_of(index, index % 2))
        members[f"{index}.json"] = json.dumps({"label": index % 2, "patient": index // 6}).encode()
    data = load_data(f"{write_tar(tmp_path / 'a.tar', members)}?group=patient")
    patients = [{row // 6 for row in planted_rows(split)} for split in (data.train, data.test)]
    assert not patients[0] & patients[1]
    assert (len(data.train), len(data.test)) == (48, 12)


@pytest.mark.parametrize(
    ("change", "query", "words"),
    [
        ({"00003.cls": None}, "", "00003.png in .*a.tar has no label beside it \\(wanted 00003.cls"),
        ({"00003.png": None}, "", "00003.cls in .*a.tar has no image beside it"),
        (
            {"00003.cls": b"cat"},
            "",
            "00003.cls in .*a.tar holds 'cat', which is no integer; names belong into",
        ),
        ({"00003.cls": b""}, "", "00003.cls in .*a.tar holds '', which is no integer"),
        ({"00003.cls": b"\xff\xfe"}, "", "00003.cls in .* is no UTF-8 text"),
        ({"00003.cls": None, "00003.txt": b"3"}, "", "00003 in .* has no .cls member as others do"),
        ({"00003.jpg": b""}, "", "00003 in .* has several images: png, jpg; choose with \\?image="),
        ({}, "?label=kind", "00000 in .* has no .json member to read 'kind' from; it has: .cls"),
        ({}, "?image=jpg", "00000 in .* has no image .jpg; it has: png"),
        ({}, "?split=test", "no named splits"),
        ({}, "?config=x", "config= is for hub ids"),
        ({}, "?group=patient", "no .json member to read 'patient'"),
    ],
)
def test_incomplete_shards_name_the_member(tmp_path, change, query, words):
    members = {name: data for name, data in (members_of([0, 1] * 5) | change).items() if data is not None}
    path = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(RequestError, match=words) as caught:
        load_data(f"{path}{query}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "00001.json in .* is no JSON"),
        (b"[1]", "00001.json in .* has no field 'label', it has: list"),
        (b'{"lable": 1}', "00001.json in .* has no field 'label', it has: lable; choose one with"),
        (b'{"label": [1]}', "'label' is a list in some .json members and none in others"),
        (b'{"label": {}}', "'label' is {}; labels are integers or strings, numbers, or lists"),
        (b'{"label": 123456789012345678901234567890}', "labels are integers or strings"),
        (b'{"label": null}', "'label' is None; labels are integers or strings"),
        (b'{"label": "one"}', "00000.json in .*: 'label' is 0, in other members a string"),
    ],
)
def test_impossible_json_labels_are_named(tmp_path, content, words):
    members = members_of([0, 1] * 5, label=lambda number: ("json", json.dumps({"label": number}).encode()))
    path = write_tar(tmp_path / "a.tar", members | {"00001.json": content})
    with pytest.raises(RequestError, match=words):
        load_data(str(path))


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar.xz"])
def test_compressed_shards_are_refused_with_advice(tmp_path, suffix):
    path = write_tar(tmp_path / f"a{suffix}", members_of([0, 1] * 5), "w:xz" if "xz" in suffix else "w:gz")
    for source in (path, tmp_path, f"{tmp_path}/a.t*"):
        with pytest.raises(RequestError, match=r"is compressed, so single images .* decompress"):
            load_data(str(source))
    renamed = path.rename(tmp_path / "b.tar")
    with pytest.raises(RequestError, match=r"b\.tar is no whole tar archive .*: it looks like"):
        load_data(str(renamed))


def test_every_cut_of_a_shard_is_noticed(tmp_path):
    content = write_tar(tmp_path / "a.tar", members_of([0, 1] * 3)).read_bytes()
    end = max(place for place, byte in enumerate(content) if byte) + 1
    for length in [*range(0, end, 171), *range(512, end, 512)]:
        (tmp_path / "b.tar").write_bytes(content[:length])
        with pytest.raises(RequestError, match=r"b\.tar") as caught:
            load_data(str(tmp_path / "b.tar"))
        assert "\n" not in str(caught.value)


def test_a_damaged_header_is_no_end(tmp_path):
    content = bytearray(write_tar(tmp_path / "a.tar", members_of([0, 1] * 5)).read_bytes())
    with tarfile.open(tmp_path / "a.tar") as archive:
        place = archive.getmembers()[8].offset
    content[place + 20] ^= 1
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(RequestError, match=f"no member and no end of the archive at byte {place}"):
        load_data(str(tmp_path / "a.tar"))


def test_a_parquet_group_column_and_official_splits_that_share_groups(tmp_path):
    import pyarrow as pa

    for split, first in (("train", 0), ("test", 3)):
        groups = pa.array([f"p{first + row // 4}" for row in range(20)])
        write_parquet(tmp_path / "s" / f"{split}.parquet", [0, 1] * 10, extra={"patient": groups})
    data = load_data(f"{tmp_path / 's'}?group=patient")
    assert data.warnings == (
        "2 groups of patient are in both splits; test accuracies are too high for new groups",
    )
    alone = load_data(f"{tmp_path / 's'}/train.parquet?group=patient", seed=1)
    assert (len(alone.train), len(alone.test)) == (16, 4)
    assert not set(alone.train.groups) & set(alone.test.groups)
    assert "no test split: 20 % of each class, whole groups of patient, seed 1" in alone.notes


def test_a_long_listing_says_so(shards, tmp_path, monkeypatch):
    from tunnelscope.data import listing

    said = []
    load_data(str(shards), announce=said.append)
    assert said == []  # it took no two seconds
    monkeypatch.setattr(listing, "QUIET_SECONDS", 0.0)
    load_data(str(shards), announce=said.append)
    write_folders(tmp_path / "folders", {"ant": 5, "bee": 5})
    load_data(str(tmp_path / "folders"), announce=said.append)
    assert said == ["tars: 1 listed so far", "folders: 5 listed so far"]  # the next lines come ten seconds on
