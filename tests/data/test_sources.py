"""Every source gives the same kind of DataSet: splits, labels, names and lazily decoded images."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from planted_images import (
    NAMES,
    TEST,
    TRAIN,
    Planted,
    encode,
    fingerprint,
    pixels_of,
    planted_labels,
    planted_rows,
    write_folders,
    write_parquet,
)
from torch.utils.data import Subset

from tunnelscope.data import as_split, image_shape, load_data, unique_keys
from tunnelscope.data.dataset import DataSet
from tunnelscope.errors import RequestError


def test_parquet_folder_keeps_its_splits_rows_and_names(animals):
    data = load_data(str(animals))
    assert (data.key, data.source, data.class_names) == ("animals", str(animals), NAMES)
    assert data.train.labels.tolist() == planted_labels(data.train) == TRAIN
    assert data.test.labels.tolist() == planted_labels(data.test) == TEST
    assert planted_rows(data.train) == list(range(12))
    assert data.train.labels.dtype == np.int64
    assert data.notes == ("label column: label",)
    assert isinstance(data.train.images[0], Image.Image)


def test_rows_are_read_across_shards_and_row_groups(animals):
    data = load_data(f"{animals}?classes=t-shirt,cat")
    assert data.class_names == ("cat", "t-shirt")
    assert data.class_indices == (0, 2)
    assert planted_rows(data.train) == [row for row, label in enumerate(TRAIN) if label != 1]
    assert data.train.labels.tolist() == [0, 1, 0, 1, 1, 0, 0, 1]
    assert "classes: 2 of 3 (cat, t-shirt)" in data.notes


def test_only_row_groups_with_chosen_rows_are_read(animals, monkeypatch):
    import pyarrow.parquet as pq

    read = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, group, columns: (
            read.append((columns[0], group)) or original(self, group, columns=columns)
        ),
    )
    load_data(f"{animals}?per_class=1")
    assert [group for column, group in read if column == "img"] == [0, 0]  # rows 0..2 of train, 0..2 of test


def test_nothing_is_decoded_while_loading(animals, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image was decoded"))
    assert len(load_data(f"{animals}?max_samples=6&classes=0-1").train) == 6


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_validation_split_stands_in_for_a_missing_test_split(tmp_path, name):
    write_parquet(tmp_path / "set" / "train.parquet", TRAIN, names=NAMES)
    write_parquet(tmp_path / "set" / f"{name}-00000-of-00001.parquet", TEST, names=NAMES)
    data = load_data(str(tmp_path / "set"))
    assert data.test.labels.tolist() == TEST
    assert "test: the validation split (there is no test split)" in data.notes


def test_validation_split_is_left_alone_beside_a_test_split(animals):
    write_parquet(animals / "validation-00000-of-00001.parquet", [0, 1, 1], names=NAMES)
    write_parquet(animals / "extra-00000-of-00001.parquet", [0, 1, 1, 1], names=NAMES)
    data = load_data(str(animals))
    assert (len(data.train), len(data.test)) == (12, 4)
    assert "splits not used: extra, validation" in data.notes
    chosen = load_data(f"{animals}?split=extra,val")
    assert (len(chosen.train), len(chosen.test)) == (4, 3)


def test_split_folders_of_parquet_are_splits(tmp_path):
    write_parquet(tmp_path / "set" / "plain_text" / "train" / "0000.parquet", TRAIN, names=NAMES)
    write_parquet(tmp_path / "set" / "plain_text" / "test" / "0000.parquet", TEST, names=NAMES)
    data = load_data(str(tmp_path / "set"))
    assert (len(data.train), len(data.test)) == (12, 4)


def test_one_named_split_is_cut_by_the_rule(animals):
    data = load_data(f"{animals}?split=train", seed=3)
    assert (len(data.train), len(data.test)) == (9, 3)  # 20 % of 4 a class
    assert sorted(planted_rows(data.train) + planted_rows(data.test)) == list(range(12))
    assert data.notes[-1] == "only the train split: 20 % of each class, seed 3"


@pytest.mark.parametrize("file", ["lone.parquet", "train-00000-of-00001.parquet"])
def test_a_lone_file_is_cut_by_the_rule(tmp_path, file):
    path = write_parquet(tmp_path / file, [0, 1] * 20, names=("a", "b"))
    data, again = load_data(str(path)), load_data(path, seed=0)
    assert data.notes[-1] == "no test split: 20 % of each class, seed 0"
    assert np.bincount(data.test.labels).tolist() == [4, 4]
    assert fingerprint(data) == fingerprint(again)
    assert fingerprint(data) != fingerprint(load_data(str(path), seed=1))
    assert data.key == file


def test_test_rows_of_a_class_do_not_depend_on_the_other_classes(tmp_path):
    path = write_parquet(tmp_path / "all.parquet", [0, 1, 2] * 15, names=NAMES)
    whole, two = load_data(str(path)), load_data(f"{path}?classes=1,2")
    kept = [row for row, label in zip(planted_rows(whole.test), whole.test.labels, strict=True) if label > 0]
    assert planted_rows(two.test) == kept


@pytest.mark.parametrize(("column", "others"), [("fine_label", ["coarse_label"]), ("digit", ["note"])])
def test_the_label_column_is_found_and_said(tmp_path, column, others):
    kind = pa.array([0] * 6) if others == ["coarse_label"] else pa.array(["x"] * 6)
    path = write_parquet(
        tmp_path / "a.parquet", [0, 1, 0, 1, 0, 1], names="ab", column=column, extra={others[0]: kind}
    )
    assert load_data(str(path)).notes[0] == f"label column: {column}"


def test_the_label_column_can_be_named(tmp_path):
    path = write_parquet(
        tmp_path / "a.parquet", [0, 1, 0, 1, 0, 1], extra={"colour": pa.array(list("rgbrgb"))}
    )
    for data in (load_data(f"{path}?label=colour"), load_data(str(path), label="colour")):
        assert data.class_names == ("b", "g", "r")
    assert load_data(f"{path}?label=label", label="colour").class_names == ("0", "1")


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.string_view()]
)
def test_string_labels_become_sorted_class_names(tmp_path, kind):
    labels = pa.array(["zebra", "ant", "zebra", "bee", "ant", "bee"]).cast(kind)
    path = write_parquet(tmp_path / "a.parquet", labels, images=[encode(pixels_of(0, 0))] * 6)
    data = load_data(str(path))
    assert data.class_names == ("ant", "bee", "zebra")


def test_truth_values_are_labels(tmp_path):
    data = load_data(str(write_parquet(tmp_path / "a.parquet", [True, False] * 4)))
    assert data.class_names == ("False", "True")
    assert planted_labels(data.train) == data.train.labels.tolist()


def test_string_labels_are_numbered_over_both_splits(tmp_path):
    image = [encode(pixels_of(0, 0))] * 2
    write_parquet(tmp_path / "s" / "train.parquet", ["b", "d"], images=image)
    write_parquet(tmp_path / "s" / "test.parquet", ["a", "d"], images=image)
    data = load_data(str(tmp_path / "s"))
    assert data.class_names == ("a", "b", "d")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([1, 2], [0, 2])


def test_integers_without_names_are_numbered_and_said(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [3, 7, 9] * 4)
    data = load_data(f"{path}?classes=7-9")
    assert data.class_names == ("7", "9")
    assert "label values 3 to 9 are numbered 0 to 2" in data.notes


def test_classes_without_rows_keep_their_numbers(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [0, 2] * 5, names=NAMES)
    data = load_data(str(path))
    assert data.class_names == NAMES
    assert set(data.train.labels.tolist()) == {0, 2}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("binary", [False, True])
def test_image_columns_in_any_encoding(tmp_path, kind, binary):
    path = write_parquet(tmp_path / "a.parquet", [0, 1] * 4, kind=kind, binary=binary, image="picture")
    data = load_data(str(path))
    assert planted_labels(data.train) == data.train.labels.tolist()


def test_images_that_are_only_paths_are_read_beside_the_file(tmp_path):
    for index in range(6):
        (tmp_path / f"{index}.png").write_bytes(encode(pixels_of(index, index % 2)))
    structs = pa.array(
        [{"bytes": None, "path": f"{index}.png"} for index in range(6)],
        type=pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    path = write_parquet(
        tmp_path / "a.parquet", [0, 1] * 3, images=[None] * 6, image="unused", extra={"img": structs}
    )
    data = load_data(f"{path}?image=img")
    assert planted_labels(data.train) == data.train.labels.tolist()


def test_photos_are_not_turned_by_their_exif_orientation(tmp_path):
    pixels = pixels_of(0, 0, side=8)[:, :4]
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    encoded = (tmp_path / "a.png").read_bytes()
    path = write_parquet(tmp_path / "a.parquet", [0, 1] * 3, images=[encoded] * 6)
    assert np.array_equal(np.asarray(load_data(str(path)).train.images[0]), pixels)


def test_size_resizes_on_reading(animals):
    data = load_data(f"{animals}?size=11")
    assert data.train.images[3].size == (11, 11)
    assert image_shape(data.train) == (3, 11, 11)
    expected = Image.fromarray(pixels_of(3, 0)).resize((11, 11), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(data.train.images[3]), np.asarray(expected))
    assert data.notes[-1] == "images resized to 11 × 11 on reading"


def test_per_class_takes_the_first_rows_of_each_split(animals):
    data = load_data(f"{animals}?per_class=2")
    assert planted_rows(data.train) == [0, 1, 2, 3, 4, 5]
    assert data.test.labels.tolist() == [2, 1, 0, 2]
    assert "train: the first 2 rows of each class, 6 in all" in data.notes


def test_max_samples_is_balanced_seeded_and_said(animals):
    data = load_data(f"{animals}?max_samples=6")
    assert np.bincount(data.train.labels).tolist() == [2, 2, 2]
    assert "train: 6 of 12 rows, balanced by class, seed 0" in data.notes
    assert fingerprint(data) == fingerprint(load_data(str(animals), max_samples=6))
    assert len(load_data(f"{animals}?max_samples=6", max_samples=3).train) == 6
    draws = {fingerprint(load_data(str(animals), max_samples=6, seed=seed)) for seed in range(4)}
    assert len(draws) > 1


def test_class_folders_with_splits(tmp_path):
    write_folders(tmp_path / "set" / "train", {"ant": 3, "bee": 2})
    write_folders(tmp_path / "set" / "val", {"ant": 1, "bee": 2})
    (tmp_path / "set" / "train" / "empty").mkdir()
    (tmp_path / "set" / "train" / ".hidden").mkdir()
    (tmp_path / "set" / "train" / "ant" / "notes.txt").write_text("no image")
    data = load_data(str(tmp_path / "set"))
    assert data.class_names == ("ant", "bee")
    assert data.train.labels.tolist() == planted_labels(data.train) == [0, 0, 0, 1, 1]
    assert data.test.labels.tolist() == [0, 1, 1]
    assert "test: the val split (there is no test split)" in data.notes
    assert "folders without images left out: empty" in data.notes


def test_class_folders_of_one_level_are_cut_by_the_rule(tmp_path):
    write_folders(tmp_path / "set", {"ant": 10, "bee": 5, "train": 5})  # a class that is called train
    data = load_data(f"{tmp_path / 'set'}/")
    assert (data.key, data.class_names) == ("set", ("ant", "bee", "train"))
    assert np.bincount(data.test.labels).tolist() == [2, 1, 1]
    assert data.notes[-1] == "no test split: 20 % of each class, seed 0"


def test_folders_and_parquet_of_the_same_images_have_one_fingerprint(tmp_path):
    write_folders(tmp_path / "folders" / "train", {"ant": 3, "bee": 2})
    write_folders(tmp_path / "folders" / "test", {"ant": 1, "bee": 1}, kind="WEBP")
    rows = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)]
    write_parquet(
        tmp_path / "p" / "train.parquet",
        [label for _, label in rows],
        names=("ant", "bee"),
        images=[encode(pixels_of(*row), "WEBP") for row in rows],
    )
    write_parquet(
        tmp_path / "p" / "test.parquet",
        [0, 1],
        names=("ant", "bee"),
        images=[encode(pixels_of(0, 0)), encode(pixels_of(0, 1))],
    )
    assert fingerprint(load_data(str(tmp_path / "folders"))) == fingerprint(load_data(str(tmp_path / "p")))


def test_digits_are_the_bundled_ones():
    from sklearn.datasets import load_digits

    data = load_data("sklearn:digits?classes=0-4")
    assert (data.key, data.class_names) == ("digits", tuple("01234"))
    assert len(data.train) + len(data.test) == (load_digits().target < 5).sum()
    assert data.train.images[0].dtype == np.uint8
    assert image_shape(data.train) == (1, 8, 8)
    first = next(row for row, image in enumerate(load_digits().images) if _same(image, data.train.images[0]))
    assert load_digits().target[first] == data.train.labels[0]
    assert data.notes[-1] == "no test split: 20 % of each class, seed 0"


def _same(image, eight_bit):
    return np.array_equal(np.round(image * 255 / 16), eight_bit)


def test_arrays_with_and_without_a_test_part():
    pixels = np.stack([pixels_of(index, index % 2) for index in range(20)])
    labels = np.arange(20) % 2
    data = load_data({"train": (pixels, labels), "test": (pixels[:4], labels[:4])})
    assert (data.key, len(data.train), len(data.test)) == ("arrays", 20, 4)
    assert planted_rows(data.train) == list(range(20))
    cut = load_data((pixels, labels))
    assert (len(cut.train), len(cut.test)) == (16, 4)
    channels_first = load_data((torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(labels)))
    assert fingerprint(channels_first) == fingerprint(cut)
    pil = load_data(([Image.fromarray(image) for image in pixels], ["odd" if x else "even" for x in labels]))
    assert pil.class_names == ("even", "odd")
    assert fingerprint(pil) == fingerprint(cut)


def test_floats_are_ready_inputs():
    values = torch.randn(10, 5, dtype=torch.float64)
    data = load_data((values, [7, 8] * 5), max_samples=4)
    assert data.class_names == ("7", "8")
    assert torch.is_tensor(data.train.images[0])
    assert data.train.images[0].dtype == torch.float32
    assert data.notes[0] == "images are floats: taken as ready inputs, without preprocessing"
    numpy_data = load_data((values.numpy(), [7, 8] * 5), max_samples=4)
    assert torch.equal(numpy_data.train.images[1], data.train.images[1])


def test_torch_datasets_with_a_list_of_labels_are_not_read_through():
    labels = [0, 1, 2] * 100
    dataset = Planted(labels, targets=labels, classes=["x", "y", "z"])
    data = load_data({"train": dataset, "test": Subset(dataset, range(30))})
    assert dataset.reads < 40
    assert (data.key, data.class_names) == ("planted", ("x", "y", "z"))
    assert data.test.labels.tolist() == labels[:30] == planted_labels(data.test)


def test_a_list_of_labels_that_items_contradict_is_not_believed():
    labels = [0, 1] * 10
    data = load_data(Planted(labels, targets=[1 - label for label in labels]))
    assert planted_labels(data.train) == data.train.labels.tolist()


def test_torch_datasets_with_string_labels():
    class Named(Planted):
        def __getitem__(self, index):
            return pixels_of(index, 0), "ab"[index % 2]

    assert load_data(Named([0] * 10)).class_names == ("a", "b")


def test_as_split_takes_images_without_labels():
    pixels = np.stack([pixels_of(index, 1) for index in range(5)])
    for images in (pixels, torch.from_numpy(pixels), [Image.fromarray(x) for x in pixels], Planted([1] * 5)):
        split = as_split(images)
        assert planted_rows(split) == list(range(5))
        assert split.labels.tolist() == [0] * 5
    assert as_split((pixels, [4, 5, 4, 5, 4])).labels.tolist() == [0, 1, 0, 1, 0]
    assert as_split(split) is split
    with pytest.raises(RequestError, match="there are no images"):
        as_split(pixels[:0])


def test_a_data_set_passes_through(animals):
    data = load_data(str(animals))
    assert load_data(data) is data
    fewer = load_data(data, max_samples=3)
    assert np.bincount(fewer.train.labels).tolist() == [1, 1, 1]
    assert planted_labels(fewer.train) == fewer.train.labels.tolist()
    assert fewer.notes[-1] == "test: 3 of 4 rows, balanced by class, seed 0"


def test_clashing_keys_are_numbered():
    split = as_split(np.zeros((2, 4, 4), np.uint8))
    sets = [DataSet(key, key, split, split, ("a", "b")) for key in ("x", "x", "x-2", "y", "x")]
    assert [data.key for data in unique_keys(sets)] == ["x", "x-3", "x-2", "y", "x-4"]
    assert unique_keys(sets)[0] is sets[0]


# Real data.


@pytest.mark.parametrize(
    ("name", "sizes", "classes", "shape", "column"),
    [
        ("cifar10", (20_000, 10_000), 10, (3, 32, 32), "label"),
        ("cifar100", (10_000, 10_000), 100, (3, 32, 32), "fine_label"),
        ("gtsrb", (1_290, 1_075), 43, (3, 32, 32), "label"),
        ("caltech101", (1_000, 1_000), 50, None, "label"),
        ("clothing", (1_000, 713), 10, None, "label"),
        ("mnist", (1_000, 1_000), 10, (1, 28, 28), "label"),
    ],
)
def test_real_sets_are_as_their_page_says(real_data, name, sizes, classes, shape, column):
    data = load_data(str(real_data / name))
    assert (data.key, len(data.train), len(data.test), len(data.class_names)) == (name, *sizes, classes)
    assert image_shape(data.test) == shape
    assert data.notes == (f"label column: {column}",)
    assert set(data.train.labels.tolist()) == set(range(classes))


def test_cifar10_starts_with_the_published_labels(real_data):
    data = load_data(str(real_data / "cifar10"))
    assert data.test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]


def test_cifar100_coarse_labels(real_data):
    data = load_data(f"{real_data / 'cifar100'}?label=coarse_label&max_samples=200")
    assert len(data.class_names) == 20
    assert np.bincount(data.train.labels).tolist() == [10] * 20


def test_paths_may_start_at_home(animals, monkeypatch):
    monkeypatch.setenv("HOME", str(animals.parent))
    assert len(load_data("~/animals").train) == 12
    assert load_data(Path("~/animals")).key == "animals"
