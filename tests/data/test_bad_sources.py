"""Bad input ends in one line that names the nearest right thing."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_images import (
    Planted,
    encode,
    pixels_of,
    write_folders,
    write_parquet,
)

from tunnelscope.data import load_data
from tunnelscope.errors import RequestError


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?label=lable", "no column named 'lable'; nearest: label"),
        ("?image=imgs", "no column named 'imgs'; nearest: img"),
        ("?image=label", "holds int64, not encoded images"),
        ("?label=img", "no column named 'img'"),
        ("?classes=dgo,cat", "no class named 'dgo'; nearest: dog"),
        ("?classes=0-5", "no class 0-5 in animals; its classes are numbered 0 to 2"),
        ("?classes=2-0", "runs backwards; write 0-2"),
        ("?classes=dog", "dog is the only class in the training rows"),
        ("?class=0-1", "no data option named 'class'; nearest: classes"),
        ("?group=patient", "no column named 'patient'; there are: img, label"),
        ("?split=tran", "no split named 'tran'; nearest: train"),
        ("?split=train,train", "two different ones"),
        ("?split=train,test,val", "one name, or two"),
        ("?per_class=0", "per_class must be a positive integer, got '0'"),
        ("?max_samples=many", "max_samples must be a positive integer, got 'many'"),
        ("?size=-3", "size must be a positive integer"),
        ("?size=", "size= has no value"),
        ("?label=label&label=label", "label= is given twice"),
        ("?config=x", "config= is for hub ids"),
    ],
)
def test_bad_options_are_one_clear_line(animals, query, words):
    with pytest.raises(RequestError, match=words) as caught:
        load_data(f"{animals}{query}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "x"])
def test_max_samples_must_be_a_positive_integer(animals, value):
    with pytest.raises(RequestError, match="max_samples must be a positive integer"):
        load_data(str(animals), max_samples=value)


def test_unknown_paths_name_the_nearest(animals, monkeypatch):
    near = f"no data at {animals.parent}/anmals; nearest: {animals}"
    with pytest.raises(RequestError, match=near):
        load_data(f"{animals.parent}/anmals?classes=0-1")
    with pytest.raises(RequestError, match=f"there is no {animals.parent}/animal\\); nearest: {animals}"):
        load_data(f"{animals.parent}/animal/train.parquet")
    monkeypatch.chdir(animals.parent)
    with pytest.raises(RequestError, match="no data at animls; nearest: animals\\. Hub ids"):
        load_data("animls")
    monkeypatch.chdir(animals.parent.parent)
    with pytest.raises(RequestError, match=f"nearest: {animals.parent.name}/animals"):
        load_data(f"{animals.parent.name}/animalz")  # has the form of a hub id


def test_empty_source_and_unknown_sklearn_set():
    with pytest.raises(RequestError, match="the data source is empty"):
        load_data("")
    with pytest.raises(RequestError, match="no scikit-learn data set named 'digit'; nearest: digits"):
        load_data("sklearn:digit")
    with pytest.raises(RequestError, match="digits has no columns"):
        load_data("sklearn:digits?label=x")
    with pytest.raises(RequestError, match="digits has no named splits"):
        load_data("sklearn:digits?split=test")


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=300), frame=st.booleans())
def test_random_bytes_are_no_parquet(tmp_path_factory, content, frame):
    path = tmp_path_factory.mktemp("bytes") / "x.parquet"
    path.write_bytes(b"PAR1" + content + b"PAR1" if frame else content)
    with pytest.raises(RequestError, match=r"x.parquet is no readable parquet file: it looks like") as caught:
        load_data(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (b"", "an empty file"),
        (b"a,b\n1,2\n", "CSV text"),
        (b"hello there", "text"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b'{"a": 1}', "JSON"),
        (b"PK\x03\x04....", "a zip archive"),
        (encode(pixels_of(0, 0)), "a PNG image"),
        (encode(pixels_of(0, 0), "JPEG"), "a JPEG image"),
        (encode(pixels_of(0, 0), "WEBP"), "a WebP image"),
        (b"PAR1" + bytes(50), "parquet with a damaged or missing end"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a git-lfs pointer"),
        (bytes(range(128, 256)), "binary data of no known kind"),
    ],
)
def test_no_parquet_says_what_it_looks_like(tmp_path, content, looks):
    path = tmp_path / "data.parquet"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=f"it looks like {looks}"):
        load_data(str(path))


def test_a_damaged_row_group_is_named(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [0, 1] * 50, group=100)
    content = bytearray(path.read_bytes())
    content[4:1500] = bytes(1496)
    path.write_bytes(content)
    with pytest.raises(RequestError, match=r"a.parquet is damaged in row group 0"):
        load_data(str(path)).train.images[0]


def test_corrupt_images_name_set_row_and_reason(tmp_path):
    images = [encode(pixels_of(index, index % 2)) for index in range(10)]
    images[4], images[5], images[6], images[7] = b"no image at all", images[5][:60], None, b""
    write_parquet(tmp_path / "set" / "train.parquet", [0, 1] * 5, images=images)
    write_parquet(tmp_path / "set" / "test.parquet", [0, 1], images=images[:2])
    data = load_data(str(tmp_path / "set")).train.images
    for row, words in {
        4: "row 4 of set \\(train\\): the image cannot be decoded: .*: it looks like text",
        5: "row 5 of set \\(train\\): the image cannot be decoded: .*(truncated|broken)",
        6: "row 6 of set \\(train\\) holds no image \\(null\\)",
        7: "row 7 of set \\(train\\): .*no data at all",
    }.items():
        with pytest.raises(RequestError, match=words) as caught:
            data[row]
        assert "0x" not in str(caught.value)


def test_corrupt_image_files_name_their_path(tmp_path):
    write_folders(tmp_path / "set", {"a": 5, "b": 5})
    for path in (tmp_path / "set" / "a").iterdir():
        path.write_bytes(b"GIF8 but not really")
    data = load_data(str(tmp_path / "set"))
    with pytest.raises(
        RequestError, match=r"set/a/00\d.png of set: the image cannot be decoded: .*a GIF image"
    ):
        data.train.images[0]


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        ([0.5, float("nan"), 0.5], {}, r"a.parquet: labels are not finite in 1 rows \(first: 1\)"),
        ([0.5, 0.5, 0.5], {}, "a.parquet: all rows have the same labels, so there is nothing to predict"),
        ([0, None, 1], {"images": [b""] * 3}, "1 labels in column 'label' are null, the first in row 1"),
        (
            [0, 1, -1],
            {"names": "ab", "images": [b""] * 3},
            "label -1 in row 2 is none of the 2 classes.*split=",
        ),
        ([0, 5, 1], {"names": "ab"}, "label 5 in row 1 is none of the 2 classes of 'label'"),
        ([1, 1, 1, 1], {}, "1 is the only class in the training rows"),
        ([0, 1], {}, "the test split is empty"),
        ([0, 1], {"column": "target"}, "no label column, but: target; choose one with \\?label="),
        ([], {"images": []}, "split is empty|holds null"),
    ],
)
def test_impossible_labels_are_refused(tmp_path, labels, options, words):
    if not options.get("images") and any(isinstance(label, float) for label in labels):
        options = {**options, "images": [b""] * len(labels)}
    path = write_parquet(tmp_path / "a.parquet", labels, **options)
    with pytest.raises(RequestError, match=words):
        load_data(str(path))


def test_columns_that_cannot_be_found_are_listed(tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"age": [1.0], "label": [0]}), tmp_path / "ages.parquet")
    with pytest.raises(RequestError, match=r"no column of images .* or texts .* it has: age, label"):
        load_data(str(tmp_path / "ages.parquet"))
    image = pa.array([encode(pixels_of(0, 0))] * 3)
    write_parquet(tmp_path / "two.parquet", [0, 1, 0], extra={"mask": image})
    with pytest.raises(RequestError, match="several image columns: img, mask; choose one with"):
        load_data(str(tmp_path / "two.parquet"))
    pq.write_table(pa.table({"img": image}), tmp_path / "none.parquet")
    with pytest.raises(RequestError, match="no label column, only 'img'"):
        load_data(str(tmp_path / "none.parquet"))


def test_shards_and_splits_that_differ_are_named(tmp_path):
    write_parquet(tmp_path / "a" / "train-00000-of-00002.parquet", [0, 1])
    write_parquet(tmp_path / "a" / "train-00001-of-00002.parquet", [0, 1], column="other")
    with pytest.raises(
        RequestError, match=r"00001-of-00002\.parquet has other columns or class names than .*train-00000"
    ):
        load_data(str(tmp_path / "a"))
    write_parquet(tmp_path / "b" / "train.parquet", [0, 1])
    write_parquet(tmp_path / "b" / "test.parquet", [0, 1], column="other")
    with pytest.raises(RequestError, match="the test split lacks column 'label'"):
        load_data(str(tmp_path / "b"))
    write_parquet(tmp_path / "c" / "train.parquet", [0, 1], names="ab")
    write_parquet(tmp_path / "c" / "test.parquet", [0, 1], names="ba")
    with pytest.raises(RequestError, match="class names in column 'label' differ"):
        load_data(str(tmp_path / "c"))


def test_folders_without_data_say_what_they_hold(tmp_path):
    with pytest.raises(
        RequestError, match="neither parquet files, class folders of images nor tar shards, but: noth"
    ):
        load_data(str(tmp_path))
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(RequestError, match=r"but: readme\.txt; wanted: train-"):
        load_data(str(tmp_path))
    (tmp_path / "1.jpg").write_bytes(b"")
    with pytest.raises(RequestError, match=r"holds images \(1\.jpg, …\) but no class folders"):
        load_data(str(tmp_path))


def test_a_set_without_a_train_split_asks_for_one(tmp_path):
    write_parquet(tmp_path / "a" / "test.parquet", [0, 1] * 3)
    write_parquet(tmp_path / "a" / "validation.parquet", [0, 1] * 3)
    with pytest.raises(RequestError, match="a has no train split, it has: test, validation; choose with"):
        load_data(str(tmp_path / "a"))
    assert len(load_data(f"{tmp_path / 'a'}?split=validation,test").train) == 6


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (5, "a int is no data source"),
        ((np.zeros((3, 4, 4), np.int64), [0, 1, 0]), "int64 images; give uint8"),
        ((np.zeros((3, 4), np.uint8), [0, 1, 0]), "images of shape \\(3, 4\\); wanted"),
        ((np.zeros((3, 4, 4), np.uint8), [0, 1]), "3 images, but 2 labels"),
        ((np.zeros((3, 4, 4), np.uint8), [0.5, 1, np.inf]), r"labels are not finite in 1 rows \(first: 2\)"),
        ((np.zeros((3, 4, 4), np.uint8), [1j, 1, 0]), "labels are complex128; classes are integers"),
        ((np.zeros((3, 4, 4), np.uint8), np.zeros((3, 2, 2))), "labels have shape \\(3, 2, 2\\)"),
        ((np.zeros((3, 4, 4), np.uint8), [[0, 2], [1, 0], [0, 1]]), "label 1 of row 0 is 2; several labels"),
        ({"train": 1, "tests": 2}, "got 'train', 'tests'"),
        ({"test": (np.zeros((3, 4, 4), np.uint8), [0, 1, 0])}, 'has the keys "train"'),
        (Planted([]), "planted is empty"),
    ],
)
def test_impossible_objects_are_refused(source, words):
    with pytest.raises(RequestError, match=words):
        load_data(source)


def test_datasets_with_items_that_are_no_pairs_are_refused():
    class Bare(Planted):
        def __getitem__(self, index):
            return torch.zeros(2, 3, 3)

    with pytest.raises(RequestError, match=r"bare: item 0 is no \(image, label\): TypeError: it is a Tensor"):
        load_data(Bare([0, 1]))


def test_seed_must_be_an_integer(animals):
    with pytest.raises(RequestError, match="seed must be an integer of 0 or more, got -1"):
        load_data(str(animals), seed=-1)


def test_a_folder_of_several_sets_is_not_taken_for_one(tmp_path):
    write_parquet(tmp_path / "a" / "train.parquet", [0, 1], names="ab")
    write_parquet(tmp_path / "b" / "train.parquet", [0, 1], names="cd")
    with pytest.raises(
        RequestError, match=r"b/train\.parquet has other columns or class names than .*a/train"
    ):
        load_data(str(tmp_path))


@pytest.mark.parametrize(
    "source", ["x" * 5000, "~nobody-of-this-name/data", "a/" * 3000, "a\0b", "?classes=0"]
)
def test_paths_that_no_system_takes_are_refused(source):
    with pytest.raises(RequestError, match=r"no data at|the data source is empty"):
        load_data(source)


def test_folders_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()

    def iterdir(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.iterdir", iterdir)
    with pytest.raises(RequestError, match="locked cannot be read: Permission denied"):
        load_data(str(tmp_path / "locked"))
